"""``tunekit sft``, ``pt``, ``rlhf`` and ``resume``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunekit.cli.options import File, Number, Text, Words, option
from tunekit.cli.swiftflags import swift_flags
from tunekit.console import say
from tunekit.errors import Exit, TunekitError

if TYPE_CHECKING:
    from tunekit.cli.prepare import Prepared
    from tunekit.runs.folder import RunFolder, RunState

WHAT = "What to train"
HOW = "How"
WHERE = "Where"
LOOK = "Look first, train nothing"
RETRY = "Out of memory"

HELP = {
    "sft": "Supervised fine-tuning: learn from conversations or instructions.",
    "pt": "Continued pre-training: learn from plain text.",
    "rlhf": "Learn from preferences or rewards: --rlhf-type dpo, orpo, simpo, kto, cpo, rm, ppo, grpo or gkd.",
}
"""The first line of each command's help. The rest is the same for all three."""

REST = "\n\nAny flag of ms-swift may be added as it is, such as --save_strategy epoch; tunekit checks it first."


def train(
    ctx: typer.Context,
    model: Annotated[str, option(WHAT, "A short name (Qwen2.5-7B), a hub id or a folder.")],
    dataset: Annotated[Words, option(WHAT, "JSON lines files or hub ids; several may follow.")] = None,
    preset: Annotated[str, option(HOW, "A name (see tunekit presets list) or a file. Default: auto.")] = "",
    overlays: Annotated[str, option(HOW, "Overlays, in order: stable,long-context.", "--with")] = "",
    effective_batch: Annotated[
        Number, option(HOW, "Rows an optimizer step, 32 or more. Default: the preset's.")
    ] = None,
    micro_batch: Annotated[Number, option(HOW, "Rows one GPU computes at once. Default: the preset's.")] = None,
    max_length: Annotated[Text, option(HOW, "Tokens a row.")] = None,
    lora_rank: Annotated[Text, option(HOW, "Size of the adapter.")] = None,
    learning_rate: Annotated[Text, option(HOW, "As in 2e-4.")] = None,
    epochs: Annotated[Text, option(HOW, "Passes over the data.")] = None,
    report_to: Annotated[Words, option(HOW, "Trackers: swanlab, wandb, tensorboard, none.")] = None,
    gpus: Annotated[
        str, option(WHERE, "How many of the GPUs here; 2x24GB or H100 to plan for another machine; cpu.")
    ] = "",
    name: Annotated[str, option(WHERE, "The run's name: it is kept in runs/NAME.")] = "",
    output_dir: Annotated[str, option(WHERE, "The run's folder, instead of runs/NAME.")] = "",
    dry_run: Annotated[bool, option(LOOK, "Print the swift command.", "--dry-run")] = False,
    explain: Annotated[bool, option(LOOK, "Print every setting, its source and why.", "--explain")] = False,
    as_json: Annotated[bool, option(LOOK, "Print the plan as one JSON object.", "--json")] = False,
    write: Annotated[File, option(LOOK, "Write the command to an executable script.")] = None,
    oom_retry: Annotated[
        str,
        option(RETRY, "neutral: the same optimisation (default). lossy: may change what is learned. off."),
    ] = "",
    max_attempts: Annotated[Number, option(RETRY, "Starts at the most. Default: 5.")] = None,
) -> None:
    """Plan, explain, and run ms-swift. The help texts are in `HELP`."""
    from tunekit.cli import show
    from tunekit.cli.prepare import Asked, prepare

    short = {
        "max_length": max_length,
        "lora_rank": lora_rank,
        "learning_rate": learning_rate,
        "num_train_epochs": epochs,
    }
    words = {flag: [word] for flag, word in short.items() if word is not None}
    if report_to:
        words["report_to"] = report_to
    flags = swift_flags(ctx)
    for flag in words.keys() & flags.keys():
        raise TunekitError(f"--{flag} is given twice", "--epochs is the same as --num_train_epochs")
    prepared = prepare(
        Asked(
            command=str(ctx.info_name),
            model=model,
            datasets=dataset or [],
            preset=preset,
            overlays=overlays,
            effective_batch=effective_batch,
            micro_batch=micro_batch,
            gpus=gpus,
            name=name,
            output_dir=output_dir,
            oom_retry=oom_retry,
            max_attempts=max_attempts,
            words=flags | words,
        )
    )
    if as_json:
        show.as_json(prepared)
    elif explain:
        show.explain(prepared)
    elif write:
        show.write(prepared, write)
    elif dry_run:
        show.dry_run(prepared)
    else:
        raise typer.Exit(_start(prepared))


def resume(
    run: Annotated[str, typer.Argument(help="A run's name or folder.", show_default=False)],
    oom_retry: Annotated[str, option(RETRY, "Another policy than before: neutral, lossy, off.")] = "",
    max_attempts: Annotated[Number, option(RETRY, "Starts at the most. Default: as before.")] = None,
) -> None:
    """Go on with a run that was interrupted or failed, from its newest complete checkpoint."""
    from tunekit.cli import show
    from tunekit.cli.prepare import check_attempts, check_policy
    from tunekit.runs import preflight
    from tunekit.runs.folder import RunFolder, find

    folder = RunFolder(find(run).path.resolve())
    folder.acquire()
    try:
        state = folder.load()
        if Path(state.cwd).is_dir():
            os.chdir(state.cwd)  # where the run was started: its relative paths begin there
        if state.status == "done":
            say(f"{state.name} is done; nothing to resume")
            return
        if oom_retry:
            state.oom_retry = check_policy(oom_retry)
        if max_attempts is not None:
            state.max_attempts = check_attempts(max_attempts)
        show.warn(preflight.check(state.plan, folder.path))
        code = _run(folder, state)
    finally:
        folder.release()
    raise typer.Exit(code)


def _start(prepared: Prepared) -> int:
    """Check what can be checked in a second, then run. Returns the exit code."""
    from tunekit.cli import show
    from tunekit.runs import preflight
    from tunekit.runs.attempts import engine_or_fail
    from tunekit.runs.folder import RunFolder, RunState, now

    show.plan(prepared)
    engine_or_fail()
    show.refuse_other_machine(prepared.plan)
    show.warn(preflight.check(prepared.plan, prepared.path))
    folder = RunFolder(prepared.path)
    folder.acquire()
    try:
        state = RunState(
            name=prepared.name,
            status="running",
            plan=prepared.plan,
            oom_retry=prepared.oom_retry,
            max_attempts=prepared.max_attempts,
            created=now(),
            cwd=str(Path.cwd()),
        )
        show.write(prepared, folder.path / "command.sh", told=False)
        folder.save(state)
        return _run(folder, state)
    finally:
        folder.release()


def _run(folder: RunFolder, state: RunState) -> int:
    from tunekit.cli import show
    from tunekit.runs.attempts import run
    from tunekit.runs.screen import make_screen

    report = run(folder, state, make_screen(state.name))
    show.ending(folder, report)
    return int({"done": Exit.DONE, "interrupted": Exit.INTERRUPTED}.get(report.status, Exit.TRAINING_FAILED))
