"""The steps of an export: merge into a folder of our own, convert, quantize, and keep what may be given away."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.engine.command import Command
from tunekit.errors import Exit, TunekitError
from tunekit.files import read_object
from tunekit.plan.models.config import config_of
from tunekit.runs.trained.merge import merge_adapter, merged_gib
from tunekit.runs.trained.use import ProgressLine, program_error, run_program

if TYPE_CHECKING:
    from tunekit.runs.trained.export.formats import Quantization
    from tunekit.runs.trained.export.tools import LlamaCpp
    from tunekit.runs.trained.job import Job
    from tunekit.runs.trained.targets import Target

ALLOWED = (
    *("config.json", "generation_config.json", "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json"),
    *("added_tokens.json", "chat_template*", "*preprocessor*", "*processor*.json", "*.safetensors", "*.tiktoken"),
    *("model.safetensors.index.json", "LICENSE*", "README.md", "export.json", "configuration.json", "*.py"),
)
"""Files of a model that may leave this machine. ``args.json`` names its paths and data, ``*.pt`` and ``*.bin`` are
pickles, which run code where they are loaded."""

DTYPES = ("bfloat16", "float16", "float32")

SHRINK = """
import sys
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import QuantizationModifier
from transformers import AutoModelForCausalLM, AutoTokenizer
source, target = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
oneshot(model=model, recipe=QuantizationModifier(targets="Linear", scheme="FP8_DYNAMIC", ignore=["lm_head"]))
model.save_pretrained(target, save_compressed=True)
AutoTokenizer.from_pretrained(source).save_pretrained(target)
"""
"""FP8 with scales that are found while it runs: it needs no data and no GPU (docs of llm-compressor, FP8_DYNAMIC)."""


def base_dtype(target: Target) -> str:
    """The precision of the model that was trained on, by its config.json; empty where that is not here.

    A merge takes that of the training else, which on a CPU is float32: twice the size, and nothing gained.
    """
    try:
        config = config_of(target.plan.model) if target.plan else {}
    except TunekitError:
        config = {}
    if not config:
        trained = read_object(target.weights.folder / "args.json")
        config = read_object(Path(str(trained.get("model_dir") or "")) / "config.json")
    said = str(config.get("dtype") or config.get("torch_dtype") or "")
    return said if said in DTYPES else ""


def needed_gib(target: Target, gguf_width: float) -> float:
    """About what an export takes on the disk while it is made, in GiB; 0 where the size of the model is not known."""
    plan = target.plan
    whole = merged_gib(plan) if plan else 0
    return whole + (plan.model.params_b or 0) * 1e9 * gguf_width / 2**30 if plan else 0


def merge_whole(job: Job, scratch: Path, name: str) -> tuple[Path, list[str]]:
    """The whole model in a fresh folder below `scratch`, in the precision of its base, and the commands that made it.

    What is a whole model already is copied. Raises TunekitError as `merge_adapter` does.
    """
    folder = scratch / name
    target = job.target
    if not target.weights.adapter:
        return copy_allowed(target.weights.folder, folder), []
    half, log = scratch / "half" / name, target.log("export")
    dtype = base_dtype(target)
    flags = {"torch_dtype": dtype} if dtype else {}
    progress = ProgressLine(f"merging {target.name}")
    failure = merge_adapter(job.to_merge(half, real=True, more=flags), half, folder, log, progress=progress)
    if failure:
        raise program_error(progress.what, failure, log)
    return folder, [job.to_merge(Path(name), more=flags).shell()]


def copy_allowed(source: Path, folder: Path) -> Path:
    """Copy what may be given away of a model's folder: `ALLOWED`. Gives the new folder."""
    folder.mkdir(parents=True)
    for pattern in ALLOWED:
        for file in source.glob(pattern):
            if file.is_file() and not (folder / file.name).exists():
                shutil.copy2(file, folder / file.name)
    return folder


def ggufs(llama: LlamaCpp, merged: Path, file: Path, quantization: Quantization, job: Job) -> list[str]:
    """Convert a merged model into a GGUF file, quantized where llama-quantize is to do it. Gives the commands."""
    first = file.with_name("whole.gguf") if quantization.quantized else file
    convert = Command((*llama.converter, str(merged), "--outtype", quantization.outtype, "--outfile", str(first)), {})
    _run(convert, job, "converting to GGUF", first)
    commands = [_named(convert)]
    if quantization.quantized:
        shrink = Command((llama.quantizer, str(first), str(file), quantization.quantized), {})
        _run(shrink, job, f"quantizing to {quantization.quantized}", file)
        first.unlink()
        commands.append(_named(shrink))
    return commands


def to_fp8(python: str, merged: Path, result: Path, job: Job) -> str:
    """Write a merged model with weights in FP8 to `result`. Gives the command."""
    command = Command((python, "-c", SHRINK, str(merged), str(result)), {})
    _run(command, job, "quantizing to FP8", result / "config.json")
    return _named(Command((python, "fp8_dynamic.py", str(merged), str(result)), {}))


def _run(command: Command, job: Job, what: str, product: Path) -> None:
    log = job.target.log("export")
    run_program(command, log, ProgressLine(what))
    if not product.is_file() or not product.stat().st_size:
        raise TunekitError(f"{what}: it ended well and wrote nothing", f"full log: {log}", Exit.TRAINING_FAILED)


def _named(command: Command) -> str:
    """A command for people and for papers: of paths the names alone."""
    return " ".join(Path(word).name if word.startswith("/") else word for word in command.argv)
