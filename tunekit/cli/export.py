"""``tunekit export``: what was trained, in the form that other programs use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from tunekit.cli.command import File, option, swift_flags
from tunekit.console import say
from tunekit.data.files import shown
from tunekit.errors import TunekitError, did_you_mean
from tunekit.files import path_of
from tunekit.runs.trained.export.formats import FORMATS, QUANTIZATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.engine.command import Command
    from tunekit.runs.trained.export.export import Wish
    from tunekit.runs.trained.export.papers import Made
    from tunekit.runs.trained.job import Job

Row = TypeVar("Row")

HUBS = ("huggingface", "modelscope")

WHAT, GGUF, HUB, LOOK = "What to export", "GGUF", "A hub", "Look before you export"

HELP = (
    "Export a trained model: a merged folder, GGUF, Ollama, FP8, or a hub.\n\n"
    "An adapter is merged first. The prompt that it was trained with is compared with that of the folder, and what "
    "comes out with the trained model; what lost the training is not kept. The result is a folder with a model card "
    "and export.json, and without anything that names your files."
)

DEFAULT = "q8_0"


def export_command(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run, a checkpoint, or a folder with a model.")],
    to: Annotated[str, option(WHAT, f"{', '.join(FORMATS)}. Default: merged.")] = "merged",
    checkpoint: Annotated[str, option(WHAT, "best, last or a number. Default: the best that is known, or last.")] = "",
    out: Annotated[File, option(WHAT, "The folder that is made. Default: exports/RUN-FORMAT.")] = None,
    quant: Annotated[str, option(GGUF, f"{', '.join(QUANTIZATIONS)}. Default: {DEFAULT}.")] = "",
    llama_cpp: Annotated[str, option(GGUF, "The folder of llama.cpp. Default: $LLAMA_CPP, then the PATH.")] = "",
    hub: Annotated[str, option(HUB, f"{' or '.join(HUBS)}. Default: {HUBS[0]}.")] = HUBS[0],
    hub_id: Annotated[str, option(HUB, "Where it goes: ME/NAME.")] = "",
    public: Annotated[bool, option(HUB, "Let all see it. Default: private.", "--public")] = False,
    no_compare: Annotated[bool, option(LOOK, "Do not compare it with the trained model.", "--no-compare")] = False,
    dry_run: Annotated[bool, option(LOOK, "Say what would be done, and with which tools.", "--dry-run")] = False,
) -> None:
    """Export. The help text is in `HELP`."""
    from tunekit.runs.trained.export.export import Wish, check_export, export_target, upload_command
    from tunekit.runs.trained.job import prepare_job

    form, quantization = _row(FORMATS, to, "--to"), _row(QUANTIZATIONS, quant or DEFAULT, "--quant")
    _check_apart(quant, llama_cpp, hub_id, gguf=form.gguf, on_hub=form.hub)
    if hub not in HUBS:
        raise TunekitError(f"--hub takes {' or '.join(HUBS)}, not {hub}", did_you_mean(hub, HUBS))
    job = prepare_job("export", run, checkpoint, swift_flags(ctx))
    folder = path_of(str(out)) if out else Path("exports") / f"{job.target.home.name}-{form.name}"
    wish = Wish(form, folder, quantization, llama_cpp, not no_compare, hub, hub_id, public)
    tools = check_export(job, wish)
    if dry_run:
        _say_steps(job, wish)
        return
    made = export_target(job, wish, tools)
    if form.hub:
        _upload(job, wish, upload_command(wish, tools["uploader"]))
    print(folder)
    _say_next(made, wish)


def _row(table: Mapping[str, Row], word: str, flag: str) -> Row:
    if word not in table:
        raise TunekitError(f"{flag} takes {', '.join(table)}, not {shown(word)}", did_you_mean(word, table))
    return table[word]


def _check_apart(quant: str, llama_cpp: str, hub_id: str, *, gguf: bool, on_hub: bool) -> None:
    """Raise TunekitError for an option that would do nothing."""
    for name, given, counts, of in (
        ("--quant", quant, gguf, "--to gguf and --to ollama"),
        ("--llama-cpp", llama_cpp, gguf, "--to gguf and --to ollama"),
        ("--hub-id", hub_id, on_hub, "--to hub"),
    ):
        if given and not counts:
            raise TunekitError(f"{name} is for {of}")


def _say_steps(job: Job, wish: Wish) -> None:
    """What would be done: the command of ms-swift on stdout, the rest for people."""
    from tunekit.runs.trained.export.steps import base_dtype

    dtype = base_dtype(job.target)
    if job.target.weights.adapter:
        print(job.to_merge(wish.out, more={"torch_dtype": dtype} if dtype else {}).shell())
    steps = ["merge it" if job.target.weights.adapter else "copy it", "compare the prompts of training and serving"]
    steps += [f"convert it to GGUF {wish.quantization.name}"] if wish.form.gguf else []
    steps += ["write its weights in FP8"] if wish.form.fp8 else []
    steps += ["compare it with the trained model"] if wish.compare else []
    if wish.form.hub:
        steps.append(f"upload it to {wish.hub}: {wish.repository}, {'public' if wish.public else 'private'}")
    for number, step in enumerate(steps, start=1):
        say(f"{number}. {step}")


def _upload(job: Job, wish: Wish, command: Command) -> None:
    from tunekit.runs.trained.use import ProgressLine, run_program

    files = sorted(wish.out.iterdir())
    say(f"{wish.repository} on {wish.hub}, {'public' if wish.public else 'private'}:")
    for file in files:
        say(f"  {file.name}  {file.stat().st_size / 2**20:,.1f} MiB")
    run_program(command, job.target.log("upload"), ProgressLine(f"uploading {len(files)} files"))


def _say_next(made: Made, wish: Wish) -> None:
    if wish.form.modelfile:
        say(f"next: cd {wish.out} && ollama create {made.name} -f Modelfile && ollama run {made.name}")
    elif wish.form.gguf:
        say(f"next: llama-server --jinja -m {wish.out}/{made.name}-{made.quantization}.gguf")
    elif not wish.form.hub:
        say(f"next: tunekit serve {wish.out}, or: vllm serve {wish.out} --generation-config vllm")
