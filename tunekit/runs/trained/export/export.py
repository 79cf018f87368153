"""Export a trained model: merge it, compare the prompts, convert it, and look at what came out.

`swift export` ends with 0 while it loses the training in several ways: an adapter that is quantized or sent to Ollama
without a merge gives the base model. So there are always two steps, from a merged folder of our own, and the result is
compared with the trained model before it gets its name.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.console import say
from tunekit.data.rows import arrive
from tunekit.engine.command import Command
from tunekit.errors import Exit, TunekitError
from tunekit.files import read_object
from tunekit.runs.trained.export.formats import QUANTIZATIONS, WHOLE
from tunekit.runs.trained.export.papers import (
    CARD,
    MODELFILE,
    RECORD,
    Made,
    card_of,
    end_tokens,
    modelfile,
    record_of,
)
from tunekit.runs.trained.export.parity import Parity
from tunekit.runs.trained.export.steps import copy_allowed, ggufs, merge_whole, needed_gib, to_fp8
from tunekit.runs.trained.export.tools import find_compressor, find_llama_cpp, find_uploader
from tunekit.worker import Worker, WorkerFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tunekit.runs.trained.export.formats import Format, Gate, Quantization
    from tunekit.runs.trained.job import Job

WORKER = "tunekit.runs.trained.export.worker:answer_export"

PROMPTS, TOKENS = 16, 32
"""Answers that are compared, and tokens of each at the most."""

SECONDS = 3600
"""Seconds after which a comparison is given up: it answers a few questions, on a CPU if need be."""

USER, ASSISTANT, SYSTEM = (
    {"role": role, "content": text}
    for role, text in (
        ("user", "How high is a mountain?"),
        ("assistant", "Some are higher than others."),
        ("system", "Answer in one word."),
    )
)
CONVERSATIONS: Sequence[list[dict[str, str]]] = (
    [USER],
    [SYSTEM, USER],
    [USER, ASSISTANT, {"role": "user", "content": "Which is the highest?"}],
    [SYSTEM, USER, ASSISTANT, {"role": "user", "content": "And in the sea?"}],
)
"""Conversations whose prompts are compared: without and with a system prompt, of one turn and of two."""


@dataclass(frozen=True)
class Wish:
    """What is exported, and where to.

    Attributes:
        out: the folder that is made.
        llama_cpp: where llama.cpp is; empty looks on the PATH.
        compare: whether what comes out is compared with the trained model.
        hub, repository, public: for `hub`: ``huggingface`` or ``modelscope``, the id, and whether all may see it.
    """

    form: Format
    out: Path
    quantization: Quantization = field(default_factory=lambda: QUANTIZATIONS["q8_0"])
    llama_cpp: str = ""
    compare: bool = True
    hub: str = "huggingface"
    repository: str = ""
    public: bool = False

    @property
    def gate(self) -> Gate:
        """How near it must be to the trained model."""
        if self.form.gguf:
            return self.quantization.gate
        return QUANTIZATIONS["q8_0"].gate if self.form.fp8 else WHOLE


def check_export(job: Job, wish: Wish) -> dict[str, Any]:
    """The tools that an export needs, by name. Raises TunekitError where one is missing, or it cannot be done."""
    form, out = wish.form, wish.out
    if form.instead:
        raise TunekitError(f"tunekit does not make {form.name}", form.instead)
    if out.exists():
        raise TunekitError(f"{out} exists already", "delete it, or take another --out")
    tools: dict[str, Any] = {}
    if form.gguf:
        tools["llama"] = find_llama_cpp(wish.llama_cpp, quantizer=bool(wish.quantization.quantized))
    if form.fp8:
        tools["compressor"] = find_compressor()
    if form.hub:
        if "/" not in wish.repository:
            raise TunekitError("--hub-id is missing", "name where it goes: --hub-id ME/NAME")
        tools["uploader"] = find_uploader(wish.hub)
    needed = needed_gib(job.target, wish.quantization.width if form.gguf else 0)
    free = shutil.disk_usage(_existing(out)).free / 2**30
    if needed > free:
        raise TunekitError(
            f"{out} needs about {needed:.0f} GiB, and {free:.0f} GiB are free", "take another disk: --out FOLDER"
        )
    return tools


def export_target(job: Job, wish: Wish, tools: Mapping[str, Any]) -> Made:
    """Export what `job` names; the folder ``wish.out`` is there when all of it is.

    Raises:
        KeyboardInterrupt: the user stopped it.
        TunekitError: a step failed, or what came out is not what was trained (exit code 1).
    """
    try:
        wish.out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=wish.out.parent, prefix=f".{wish.out.name}."))
    except OSError as error:
        raise TunekitError(f"{wish.out} cannot be written: {error.strerror}", "take another --out") from error
    with ExitStack() as after:
        after.callback(shutil.rmtree, scratch, ignore_errors=True)
        worker = after.enter_context(Worker(WORKER))
        return _export(job, wish, tools, scratch, worker)


def _export(job: Job, wish: Wish, tools: Mapping[str, Any], scratch: Path, worker: Worker) -> Made:
    made = Made(job.target, wish.form, wish.out.name, wish.quantization.name if wish.form.gguf else "")
    merged, commands = merge_whole(job, scratch, wish.out.name)
    made = _with_prompts(replace(made, commands=commands), job, merged, worker)
    result, file = merged, ""
    if wish.form.gguf:
        result = scratch / "result"
        result.mkdir()
        file = f"{wish.out.name}-{wish.quantization.name}.gguf"
        made = replace(
            made, commands=[*commands, *ggufs(tools["llama"], merged, result / file, wish.quantization, job)]
        )
    elif wish.form.fp8:
        result = scratch / wish.out.name
        made = replace(made, commands=[*commands, to_fp8(tools["compressor"], merged, result, job)])
    if wish.compare:
        made = replace(made, parity=_compared(job, wish, result, file, worker))
    _write_papers(made, merged, result, file)
    if result is merged:
        result = copy_allowed(merged, scratch / "staged")
    result.rename(wish.out)
    return made


def _with_prompts(made: Made, job: Job, merged: Path, worker: Worker) -> Made:
    """Compare the prompts of the training and of whoever serves the folder; where they differ, mend the latter."""
    question = {
        "do": "prompts",
        "load": _loading(job),
        "folder": str(merged),
        "chat_template": "",
        "conversations": CONVERSATIONS,
    }
    try:
        found = worker.ask(question, SECONDS)
        if all(pair["same"] for pair in found["pairs"]):
            return replace(made, prompts=found, same_prompt=True)
        _show_difference(found)
        again = worker.ask({**question, "chat_template": found["jinja"]}, SECONDS) if found["jinja"] else None
    except WorkerFailed as error:
        say(f"note: the prompts of training and serving were not compared: {error}")
        return made
    if again is None or not all(pair["same"] for pair in again["pairs"]):
        say("note: no chat template could be written that matches; serve it with tunekit serve, which uses ms-swift's")
        return replace(made, prompts=found, same_prompt=False)
    (merged / "chat_template.jinja").write_text(found["jinja"], encoding="utf-8")
    _drop_old_template(merged / "tokenizer_config.json")
    say("wrote a chat template that matches the training")
    return replace(made, prompts=found, same_prompt=True)


def _show_difference(found: Mapping[str, Any]) -> None:
    pair = next(pair for pair in found["pairs"] if not pair["same"])
    served = f"  served:  {pair['served']!r}" if pair["served"] else f"  served:  refused: {pair['why']}"
    say("the model's own chat template writes another prompt than it was trained with:")
    say(f"  trained: {pair['trained']!r}")
    say(served)


def _drop_old_template(path: Path) -> None:
    """Take the template out of a tokenizer's configuration: some programs read that one first."""
    config = read_object(path)
    if config.pop("chat_template", None) is not None:
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")


def _compared(job: Job, wish: Wish, result: Path, file: str, worker: Worker) -> Parity | None:
    """How near it is to the trained model. Raises TunekitError where it is not what was trained."""
    say("comparing its answers with those of the trained model")
    ask = {
        "do": "reference",
        "load": _loading(job),
        "conversations": questions(job),
        "prompts": PROMPTS,
        "tokens": TOKENS,
    }
    compare: dict[str, Any] = {
        "do": "compare",
        "folder": str(result),
        "gguf": file,
        "dtype": "float32" if not job.devices else "auto",
    }
    compare["load"] = {"model": str(result), "load_args": False, **job.target.weights.flags}
    try:
        reference = worker.ask(ask, SECONDS)
        found = worker.ask(compare, SECONDS)
    except WorkerFailed as error:
        say(f"note: it was not compared with the trained model: {error}")
        return None
    base = reference["base"]["kl"] if reference["base"] else None
    parity = Parity(reference["prompts"], reference["tokens"], found["top1"], found["kl"], base)
    problem = parity.problem(wish.gate)
    if problem and parity.fails(wish.gate):
        raise TunekitError(f"{wish.form.name}: {problem}", "nothing was kept", Exit.TRAINING_FAILED)
    say(f"warning: {problem}" if problem else parity.in_words())
    return parity


def questions(job: Job) -> list[list[dict[str, str]]]:
    """Questions of the data that it was trained on, as far as they are text; without any, questions of our own."""
    from tunekit.data.files import local_file
    from tunekit.data.look import first_rows

    plan = job.target.plan
    names = plan.get("dataset") if plan else None
    found: list[list[dict[str, str]]] = []
    for name in names if isinstance(names, list) else []:
        try:
            path = local_file(str(job.target.cwd / str(name))) or local_file(str(name))
            rows = first_rows(path) if path else []
        except TunekitError:
            continue  # the data may be gone since
        conversations = (arrive(row).messages for row in rows)
        found += [messages for messages in conversations if messages and messages[-1]["role"] == "user"]
    return ([one for one in found if all(isinstance(turn["content"], str) for turn in one)] or list(CONVERSATIONS))[
        :PROMPTS
    ]


def _loading(job: Job) -> dict[str, Any]:
    """How ms-swift loads the trained model."""
    return {**job.load_flags(), "load_args": True}


def _write_papers(made: Made, merged: Path, result: Path, file: str) -> None:
    if made.form.modelfile:
        generation, ends = end_tokens(merged)
        (result / MODELFILE).write_text(modelfile(made, file, generation, ends), encoding="utf-8")
    (result / CARD).write_text(card_of(made), encoding="utf-8")
    (result / RECORD).write_text(record_of(made), encoding="utf-8")


def upload_command(wish: Wish, uploader: str) -> Command:
    """The command that uploads the folder: private unless said otherwise, with the token from the environment."""
    if wish.hub == "modelscope":
        return Command((uploader, "upload", wish.repository, str(wish.out)), {}, ("MODELSCOPE_API_TOKEN",))
    private = () if wish.public else ("--private",)
    return Command((uploader, "upload", wish.repository, str(wish.out), ".", *private), {}, ("HF_TOKEN",))


def _existing(path: Path) -> Path:
    return next((parent for parent in path.resolve().parents if parent.is_dir()), Path("/"))
