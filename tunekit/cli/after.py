"""``tunekit chat``, ``merge``, ``predict`` and ``eval``: what is done with a trained model."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunekit.cli.command import swift_flags
from tunekit.cli.options import File, Words, option
from tunekit.console import say
from tunekit.errors import TunekitError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tunekit.engine.after import Followup
    from tunekit.engine.command import Command
    from tunekit.plan.settings import Value
    from tunekit.runs.trained.answers import Predictions
    from tunekit.runs.trained.targets import Target

WHICH = "Which model"
WHAT = "What to do"
LOOK = "Look first, start nothing"

HELP = {
    "chat": ("Talk with a trained model.", "", "--max_new_tokens 200, --temperature 0, --system 'Be brief.'"),
    "merge": ("Merge an adapter into its model, for programs that take whole models only.", "", "--max_shard_size 2GB"),
    "predict": (
        "Let a trained model answer the rows of a dataset.",
        "What comes out is one JSON object a line: the row as it was, with messages, response and labels.",
        "--max_new_tokens 200, --max_batch_size 8, --infer_backend vllm",
    ),
    "eval": (
        "Evaluate a trained model: with scripts of your own, or on benchmarks.",
        "A script is called as: python SCRIPT PREDICTIONS.jsonl. It prints its scores as a JSON object. Each line of "
        "its file is a row of the data as it was, with response and labels.",
        "--eval_dataset gsm8k --eval_limit 50 for benchmarks, --max_new_tokens 200",
    ),
}
"""Of each command: what it does, more about that, and flags of ms-swift that are often added."""

RUN = "A run's name or folder, a checkpoint, or any folder with a model. It stands first."
CHECKPOINT = "best, last or a number. Default: the best one that is known, else the last."
MERGED = "The model that tunekit merge made of it."
DRY = "Print the swift command."

Run = Annotated[str, typer.Argument(metavar="RUN", help=RUN, show_default=False)]
Which = Annotated[str, option(WHICH, CHECKPOINT)]
Merged = Annotated[bool, option(WHICH, MERGED, "--merged")]
Dry = Annotated[bool, option(LOOK, DRY, "--dry-run")]

OWN: Mapping[str, str] = {
    "adapters": "RUN and --checkpoint name the weights",
    "model": "RUN names the model",
    "load_args": "what the run was trained with is taken from it",
    "ckpt_dir": "RUN and --checkpoint name the weights",
    "merge_lora": "tunekit merge RUN merges, and --merged takes what it made",
    "val_dataset": "tunekit predict RUN --dataset DATA answers the rows of a dataset",
    "cached_val_dataset": "tunekit predict RUN --dataset DATA answers the rows of a dataset",
    "split_dataset_ratio": "tunekit predict RUN --dataset DATA answers every row",
    "result_path": "--output names the file",
    "write_batch_size": "tunekit sets it, so that it can say how far it is",
    "remove_unused_columns": "rows keep all their columns anyway",
    "val_dataset_shuffle": "answers come in the order of the rows",
    "push_to_hub": "merge first, then: swift export --model FOLDER --push_to_hub true --hub_model_id ID",
    "eval_output_dir": "results are kept with the run",
    "eval_url": "RUN names the model",
    "api_key": "the model is served to this machine alone, while it is evaluated: it needs no key",
}
"""Flags of ms-swift that tunekit sets by itself, and what to say instead."""


def help_of(name: str) -> tuple[str, str]:
    """The help of a command, and its first line."""
    summary, more, flags = HELP[name]
    rest = f"Flags of ms-swift may be added as they are: {flags}. tunekit checks them first."
    return "\n\n".join(part for part in (summary, more, rest) if part), summary


@dataclass(frozen=True)
class Job:
    """One call: the model, where it is loaded, what was typed."""

    followup: Followup
    target: Target
    devices: tuple[str, ...]
    typed: Mapping[str, Value]

    @property
    def cpu(self) -> bool:
        """Whether no GPU is used."""
        return not self.devices

    def command(self, flags: Mapping[str, Value], *, real: bool = False, followup: Followup | None = None) -> Command:
        """The command of ms-swift: for people, or for this interpreter."""
        from tunekit.engine.after import command
        from tunekit.engine.command import PROGRAM
        from tunekit.runs.attempts import engine_or_fail
        from tunekit.runs.trained.use import environment

        program = engine_or_fail().program if real else PROGRAM
        return command(followup or self.followup, {**flags, **self.typed}, environment(self.devices), program)


def prepare(name: str, run: str, checkpoint: str, flags: Mapping[str, Sequence[str]], *, merged: bool = False) -> Job:
    """Find the model, and check that the command can be done with it and that the flags are ms-swift's.

    Raises:
        TunekitError: it cannot, or they are not.
    """
    from tunekit.engine.after import FOLLOWUPS
    from tunekit.runs.trained.targets import find_target
    from tunekit.runs.trained.use import devices

    followup = FOLLOWUPS[name]
    typed = check_flags(followup, flags)
    target = find_target(run, checkpoint, merged=merged)
    target.check(followup)
    return Job(followup, target, devices(target), typed)


def check_flags(followup: Followup, flags: Mapping[str, Sequence[str]]) -> dict[str, Value]:
    """The values of flags of ms-swift that were typed.

    Raises:
        TunekitError: there is no such flag, tunekit sets it by itself, or the value does not fit it.
    """
    if not flags:
        return {}
    from tunekit.engine.flags import AFTER_CLASSES, flag_table

    table = flag_table(AFTER_CLASSES)
    for flag in flags:
        if flag in OWN:
            raise TunekitError(f"tunekit {followup.command} takes no --{flag}", OWN[flag])
        if flag not in table.by_command[followup.table] and flag in flag_table().by_command["rlhf"]:
            raise TunekitError(f"--{flag} is for training; swift {followup.table} takes no such flag")
    return {flag: table.parse(flag, words, followup.table) for flag, words in flags.items()}


def merge(
    ctx: typer.Context,
    run: Run,
    checkpoint: Which = "",
    output_dir: Annotated[File, option(WHAT, "The folder of the merged model. Default: merged-N in the run's.")] = None,
    dry_run: Dry = False,
) -> None:
    """Merge. The help texts are in `HELP`."""
    from tunekit.engine.after import merges
    from tunekit.runs.trained import use as after

    job = prepare("merge", run, checkpoint, swift_flags(ctx))
    target = job.target
    output = output_dir.expanduser() if output_dir else target.merged
    after.free_to_write(output)
    if target.weights.quantized:
        say(
            "note: this adapter was trained on quantized weights and is merged into the unquantized ones. Answers can "
            f"differ, sometimes much: compare tunekit chat {target.word} with tunekit chat {target.word} --merged"
        )
    if dry_run:
        print(job.command(merges(target.weights, output)).shell())
        return
    after.merge(target, output, lambda made: job.command(merges(target.weights, made), real=True))
    say(f"merged {target.name}: {_size(output)}")
    print(output)


def _size(folder: Path) -> str:
    gib = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**30
    return f"{gib:.1f} GiB" if gib >= 1 else f"{gib * 1024:.0f} MiB"


def chat(
    ctx: typer.Context,
    run: Run,
    checkpoint: Which = "",
    merged: Merged = False,
    prompt: Annotated[str, option(WHAT, "Ask this, print the answer and nothing else on stdout.")] = "",
    image: Annotated[Words, option(WHAT, "Pictures for --prompt.")] = None,
    dry_run: Dry = False,
) -> None:
    """Chat, or ask one thing. The help texts are in `HELP`."""
    from tunekit.engine.after import answers, loads

    job = prepare("chat", run, checkpoint, swift_flags(ctx), merged=merged)
    if image and not prompt:
        raise TunekitError("--image needs --prompt", "in a chat, write <image> and it asks for the file")
    for name in image or []:
        if not Path(name).expanduser().is_file() and "://" not in name:
            raise TunekitError(f"--image {name} does not exist")
    weights = job.target.weights
    if dry_run:
        rows = ["prompt.jsonl"]
        flags = answers(weights, rows, Path("answer.jsonl"), cpu=job.cpu) if prompt else loads(weights, cpu=job.cpu)
        print(job.command(flags).shell())
    elif prompt:
        print(_answer(job, prompt, image or []))
    else:
        raise typer.Exit(_talk(job))


def _answer(job: Job, prompt: str, images: list[str]) -> str:
    """The model's answer to one question."""
    missing = max(0, len(images) - prompt.count("<image>"))
    row: dict[str, Any] = {"messages": [{"role": "user", "content": "<image>" * missing + prompt}]}
    if images:
        row["images"] = [name if "://" in name else str(Path(name).expanduser().resolve()) for name in images]
    with tempfile.TemporaryDirectory(prefix="tunekit-") as folder:
        asked = Path(folder) / "prompt.jsonl"
        asked.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
        (line,) = answer_rows(job, [str(asked)], "chat", f"asking {job.target.name}").lines
    return str(json.loads(line)["response"])


def _talk(job: Job) -> int:
    """Hand over the terminal. Returns the exit code."""
    from tunekit.engine.after import loads
    from tunekit.runs.attempts import engine_or_fail
    from tunekit.runs.trained.chat import talk

    engine = engine_or_fail()
    command = job.command(loads(job.target.weights, cpu=job.cpu))
    words = command.argv[2:]  # without `swift infer`: its launcher would print the whole command
    say(f"loading {job.target.name} …")
    say("exit or Ctrl-D ends · clear forgets what was said · multi-line takes lines up to one with #")
    return talk(engine.python, engine.root / "cli" / "infer.py", words, command.env, job.target.log("chat"))


def predict(
    ctx: typer.Context,
    run: Run,
    checkpoint: Which = "",
    merged: Merged = False,
    dataset: Annotated[Words, option(WHAT, "JSON lines files or hub ids; several may follow.")] = None,
    output: Annotated[File, option(WHAT, "The file of JSON lines that gets the answers. Default: stdout.")] = None,
    overwrite: Annotated[bool, option(WHAT, "Replace that file.", "--overwrite")] = False,
    dry_run: Dry = False,
) -> None:
    """Answer rows. The help texts are in `HELP`."""
    from tunekit.data.files import local_file
    from tunekit.engine.after import answers
    from tunekit.files import write_atomically

    job = prepare("predict", run, checkpoint, swift_flags(ctx), merged=merged)
    if not dataset:
        raise TunekitError("there is no --dataset", "give a file of JSON lines, or a hub id")
    for name in dataset:
        local_file(name)
    if output and output.exists() and not overwrite:
        raise TunekitError(f"{output} exists already", "--overwrite replaces it")
    if dry_run:
        result = output or Path("answers.jsonl")
        print(job.command(answers(job.target.weights, dataset, result, cpu=job.cpu, at_once=at_once(job))).shell())
        return
    made = answer_rows(job, dataset, "predict")
    tell_left_out(made)
    if output is None:
        print("\n".join(made.lines))
        return
    try:
        write_atomically(output, "\n".join(made.lines) + "\n")
    except OSError as error:
        raise TunekitError(f"{output} cannot be written: {error.strerror}") from error
    say(f"wrote {output}: {len(made.lines)} rows")


def answer_rows(job: Job, names: list[str], log: str, what: str = "") -> Predictions:
    """The model's answers to datasets; `log` names the file that gets ms-swift's messages, and `what` is said."""
    from tunekit.engine.after import FOLLOWUPS, answers
    from tunekit.runs.trained.answers import predict as run_predict

    known = job.target.plan.get("columns") if job.target.plan else None
    columns = str(job.typed.get("columns") or known or "")

    def build(rows: list[str], result: Path) -> Command:
        flags = answers(job.target.weights, rows, result, cpu=job.cpu, at_once=at_once(job))
        if columns:
            flags["columns"] = columns
        return job.command(flags, real=True, followup=FOLLOWUPS["predict"])

    title = what or f"answering {', '.join(names)} with {job.target.name}"
    return run_predict(job.target, names, job.target.log(log), build, title, columns)


def at_once(job: Job) -> int:
    """Rows that the model computes at once."""
    return int(str(job.typed.get("max_batch_size", 1)))


def tell_left_out(made: Predictions) -> None:
    """Say how many rows got no answer."""
    if made.left_out:
        say(f"note: {made.left_out} of {made.rows} rows got no answer: ms-swift could not read them")
