"""``tunekit sft``, ``pt``, ``rlhf`` and ``resume``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunekit.cli.command import swift_flags
from tunekit.cli.options import File, Number, Text, Words, option
from tunekit.console import say
from tunekit.errors import Exit, TunekitError
from tunekit.plan.strategies import STRATEGIES, Tuning
from tunekit.stages import STAGES

if TYPE_CHECKING:
    from tunekit.runs.folder import RunFolder, RunState
    from tunekit.runs.prepare import Prepared

WHAT = "What to train"
HOW = "How"
PARTS = "Which parts, and images"
WHERE = "Where"
LOOK = "Look first, train nothing"
RETRY = "Out of memory"

HELP = {
    **{stage.name: stage.learns for stage in STAGES.values()},
    "rlhf": "Any of the stages from rm to gkd, named as ms-swift does: --rlhf-type dpo.",
}
"""The first line of each command's help. The rest is the same for all of them."""

REST = "\n\nAny flag of ms-swift may be added as it is, such as --save_strategy epoch; tunekit checks it first."


def train(
    ctx: typer.Context,
    model: Annotated[str, option(WHAT, "A short name (Qwen2.5-7B), a hub id or a folder.")],
    dataset: Annotated[Words, option(WHAT, "JSON lines files or hub ids; several may follow.")] = None,
    row_format: Annotated[
        str, option(WHAT, "FILE.py:FUNCTION that makes ms-swift's row out of one of yours.", "--format")
    ] = "",
    reward: Annotated[
        Words, option(WHAT, "Of GRPO: FILE.py:FUNCTION, or ms-swift's by name (accuracy); several may follow.")
    ] = None,
    preset: Annotated[str, option(HOW, "A name (see tunekit presets list) or a file. Default: auto.")] = "",
    overlays: Annotated[str, option(HOW, "Overlays, in order: stable,long-context.", "--with")] = "",
    effective_batch: Annotated[
        Number, option(HOW, "Rows an optimizer step, 32 or more. Default: the preset's.")
    ] = None,
    micro_batch: Annotated[Number, option(HOW, "Rows one GPU computes at once. Default: the preset's.")] = None,
    max_length: Annotated[Text, option(HOW, "Tokens a row.")] = None,
    lora_rank: Annotated[Text, option(HOW, "Size of the adapter.")] = None,
    learning_rate: Annotated[Text, option(HOW, "As in 2e-4.")] = None,
    tuning_strategy: Annotated[str, option(PARTS, f"{', '.join(STRATEGIES)}.")] = "",
    llm_frozen_layers: Annotated[Number, option(PARTS, "Of partial_llm_full_vit: freeze the first N layers.")] = None,
    trainable_layers: Annotated[Number, option(PARTS, "Of freeze: train the last N layers.")] = None,
    learning_rate_llm: Annotated[Text, option(PARTS, "Of the language model alone.")] = None,
    learning_rate_vit: Annotated[Text, option(PARTS, "Of the part that sees (ms-swift: vit_lr).")] = None,
    learning_rate_aligner: Annotated[Text, option(PARTS, "Of what joins both (ms-swift: aligner_lr).")] = None,
    max_pixels: Annotated[Text, option(PARTS, "Larger images are scaled down. Default: 1,280 tokens of them.")] = None,
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
    force: Annotated[
        bool, option(RETRY, "Start although the prediction says that it does not fit.", "--force")
    ] = False,
) -> None:
    """Plan, explain, and run ms-swift. The help texts are in `HELP`."""
    from tunekit.cli.show import plan as show
    from tunekit.runs.prepare import Asked, prepare, refuse_too_large

    short = {
        "max_length": max_length,
        "lora_rank": lora_rank,
        "learning_rate": learning_rate if learning_rate_llm is None else learning_rate_llm,
        "vit_lr": learning_rate_vit,
        "aligner_lr": learning_rate_aligner,
        "max_pixels": max_pixels,
        "num_train_epochs": epochs,
    }
    words = {flag: [word] for flag, word in short.items() if word is not None}
    if report_to:
        words["report_to"] = report_to
    flags = swift_flags(ctx)
    for flag in words.keys() & flags.keys():
        raise TunekitError(f"--{flag} is given twice", "--epochs is the same as --num_train_epochs")
    if learning_rate is not None and learning_rate_llm is not None:
        raise TunekitError("--learning-rate and --learning-rate-llm exclude each other", "the first is for all parts")
    command, named = stage_words(str(ctx.info_name), flags)
    asked = Asked(
        command=command,
        model=model,
        datasets=dataset or [],
        preset=preset,
        overlays=overlays,
        effective_batch=effective_batch,
        micro_batch=micro_batch,
        rewards=tuple(reward or ()),
        row_format=row_format,
        tuning=Tuning(tuning_strategy, llm_frozen_layers, trainable_layers, learning_rate_llm is not None),
        gpus=gpus,
        name=name,
        output_dir=output_dir,
        oom_retry=oom_retry,
        max_attempts=max_attempts,
        words=flags | words | named,
    )
    if isinstance(ctx.obj, list):  # a recipe asks what its words mean
        ctx.obj.append(asked)
        return
    prepared = prepare(asked, look=not (as_json or explain or write or dry_run))
    if as_json:
        show.as_json(prepared)
    elif explain:
        show.explain(prepared)
    elif write:
        show.write(prepared, write)
    elif dry_run:
        show.dry_run(prepared)
    else:
        if not force:
            refuse_too_large(asked, prepared)
        raise typer.Exit(_start(prepared))


def stage_words(name: str, flags: dict[str, list[str]]) -> tuple[str, dict[str, list[str]]]:
    """The command of ms-swift behind a command of tunekit, and the words that name its stage.

    Raises:
        TunekitError: another stage is named beside it.
    """
    stage = STAGES.get(name)
    if stage is None:
        return name, {}
    if "rlhf_type" in flags:
        asked = " ".join(flags["rlhf_type"])
        other = f"tunekit {asked} trains that" if asked in STAGES else "drop --rlhf_type"
        raise TunekitError(f"tunekit {name} is a stage of its own: it takes no --rlhf_type", other)
    return stage.command, {"rlhf_type": [stage.rlhf_type]} if stage.rlhf_type else {}


def resume(
    run: Annotated[str, typer.Argument(help="A run's name or folder.", show_default=False)],
    oom_retry: Annotated[str, option(RETRY, "Another policy than before: neutral, lossy, off.")] = "",
    max_attempts: Annotated[Number, option(RETRY, "Starts at the most. Default: as before.")] = None,
) -> None:
    """Go on with a run that was interrupted or failed, from its newest complete checkpoint."""
    from tunekit.cli.show import plan as show
    from tunekit.engine.plugin import Files
    from tunekit.runs import preflight
    from tunekit.runs.folder import RunFolder, find
    from tunekit.runs.functions import try_functions, write_files
    from tunekit.runs.prepare import check_attempts, check_policy

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
        preflight.check(state.plan, folder.path)
        show.told(try_functions(state.plan, Files.of_run(folder.path)))
        show.told(write_files(state.plan, Files.of_run(folder.path)))
        code = _run(folder, state)
    finally:
        folder.release()
    raise typer.Exit(code)


def _start(prepared: Prepared) -> int:
    """Check what can be checked in a second, then run. Returns the exit code."""
    from tunekit.cli.show import plan as show
    from tunekit.engine.plugin import Files
    from tunekit.runs import preflight
    from tunekit.runs.attempts import engine_or_fail
    from tunekit.runs.folder import RunFolder, RunState, now
    from tunekit.runs.functions import first_files, try_functions

    show.plan(prepared)
    engine_or_fail()
    show.refuse_other_machine(prepared.plan)
    preflight.check(prepared.plan, prepared.path)
    show.told(try_functions(prepared.plan, Files.of_run(prepared.path)))
    folder = RunFolder(prepared.path)
    folder.acquire()
    try:
        show.told(first_files(prepared.plan, folder.path))
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
    from tunekit.cli.show import plan as show
    from tunekit.cli.show.screen import make_screen
    from tunekit.runs.attempts import run

    report = run(folder, state, make_screen(state.name))
    show.ending(folder, report)
    return int({"done": Exit.DONE, "interrupted": Exit.INTERRUPTED}.get(report.status, Exit.TRAINING_FAILED))
