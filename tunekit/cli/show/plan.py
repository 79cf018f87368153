"""What a user sees of a plan and of a finished run. Data goes to stdout, everything for people to stderr."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import tunekit
from tunekit.cli.show.lines import print_table
from tunekit.console import columns, say
from tunekit.engine.command import Command, build
from tunekit.engine.plugin import Files, placed
from tunekit.engine.rewards import words_of
from tunekit.errors import TunekitError
from tunekit.plan import images
from tunekit.plan import parts as trained
from tunekit.plan.measured import known
from tunekit.plan.planner import GRPO_GENERATIONS
from tunekit.plan.settings import text

if TYPE_CHECKING:
    from tunekit.plan.measured import Measured
    from tunekit.plan.plan import Plan
    from tunekit.runs.attempts import Report
    from tunekit.runs.folder import RunFolder
    from tunekit.runs.prepare import Prepared

WIDEST = 100
INDENT = 11


def dry_run(prepared: Prepared) -> None:
    """The plan on stderr, the command on stdout."""
    plan(prepared)
    _say_what_is_missing(prepared)
    _warn_of_data(prepared.plan)
    print(_command(prepared).shell())


def as_json(prepared: Prepared) -> None:
    """One object on stdout."""
    print(json.dumps(document(prepared), indent=2, ensure_ascii=False))


def document(prepared: Prepared) -> dict[str, Any]:
    """The plan and its command as plain data."""
    decided = prepared.plan
    command = _command(prepared)
    batch = decided.batch
    return {
        "argv": list(command.argv),
        "env": dict(command.env),
        "secrets": list(command.secrets),
        "name": prepared.name,
        "run_folder": str(prepared.path),
        "model": {
            "id": decided.model.id,
            "params_b": decided.model.params_b,
            "family": decided.model.family,
            "multimodal": decided.model.multimodal,
        },
        "preset": decided.preset,
        "preset_reason": decided.preset_reason,
        "overlays": list(decided.overlays),
        "batch": {
            "micro": batch.micro,
            "accumulation": batch.accumulation,
            "data_parallel": batch.data_parallel,
            "effective": batch.effective,
            "tokens_per_step": decided.tokens_per_step,
        },
        "settings": {
            flag: {"value": setting.value, "source": setting.source, "why": setting.why}
            for flag, setting in decided.settings.items()
        },
        "changes": [
            {
                "flag": change.flag,
                "before": change.before,
                "after": change.after,
                "by": change.by,
                "why": change.why,
            }
            for change in decided.changes
        ],
        "functions": {
            "rewards": {reward.alias: reward.spec for reward in decided.rewards},
            "format": decided.row_format.spec if decided.row_format else None,
        },
        "warnings": list(decided.warnings),
        "flags_checked_against": {"ms_swift": decided.engine, "installed": decided.engine_installed},
    }


def explain(prepared: Prepared) -> None:
    """Every setting on stdout: its value, where it comes from, why."""
    plan(prepared)
    settings = placed(prepared.plan, Files.of_run(prepared.path)).settings
    rows = [(flag, text(setting.value), setting.source, setting.why) for flag, setting in settings.items()]
    rows += [(name, value, "environment", ENV_WHY.get(name, "")) for name, value in prepared.plan.env.items()]
    rows += [
        ("output_dir", str(prepared.path / "output"), "run", "each run has a folder of its own"),
        ("add_version", "false", "run", "checkpoints stand in that folder directly, so that a retry finds them"),
    ]
    dropped = [change for change in prepared.plan.changes if change.after is None]
    rows += [(change.flag, "(dropped)", change.by, change.why) for change in dropped]
    print_table(rows)


ENV_WHY = {
    "CUDA_VISIBLE_DEVICES": "the GPUs of this plan, and no others",
    "NPROC_PER_NODE": "one process a GPU; without it ms-swift spreads one model over all GPUs",
    "PYTORCH_CUDA_ALLOC_CONF": "freed blocks stay usable for rows of other lengths",
}


def write(prepared: Prepared, path: Path, *, told: bool = True) -> None:
    """The command as an executable script that says where it comes from.

    Raises:
        TunekitError: the file cannot be written.
    """
    from tunekit.files import write_atomically

    decided = prepared.plan
    files = Files.beside(path) if told else Files.of_run(prepared.path)
    if told:
        _check_target(path)
        _check_beside(decided, files, path)
    comments = [
        f"Written by tunekit {tunekit.__version__} for ms-swift {decided.engine}.",
        f"Preset {_presets(decided)}; batch {decided.batch.equation(decided.hardware.device)}.",
        *(f"Changed: {line}" for line in _changes(decided)),
        *(f"Needs {words}" for words in _needs(decided, files)),
    ]
    try:
        write_atomically(path, _command(prepared, files).script(comments), mode=0o755)
    except OSError as error:
        raise TunekitError(f"{path} cannot be written: {error.strerror}") from error
    if told:
        plan(prepared)
        _warn_of_data(prepared.plan)
        _beside(decided, files)
        say(f"wrote {path}")


def _check_beside(decided: Plan, files: Files, script: Path) -> None:
    """What a script needs is written beside it, under the same conditions."""
    if decided.rewards:
        _check_target(files.plugin)
    if decided.row_format and files.data.exists() and not script.exists():
        raise TunekitError(f"{files.data} exists already, and tunekit did not write it", "take another name")


def _beside(decided: Plan, files: Files) -> None:
    """Write what a script needs beside it."""
    from tunekit.runs.functions import write_files

    told(write_files(decided, files, anew=True))
    if decided.rewards:
        say(f"wrote {files.plugin}")


def _needs(decided: Plan, files: Files) -> list[str]:
    """What a script needs beside ms-swift, for its head."""
    own = [reward.file for reward in decided.rewards]
    return [
        *([f"{files.plugin} and {', '.join(dict.fromkeys(own))}: the rewards."] if own else []),
        *([f"{files.data}: the rows that {decided.row_format.spec} made."] if decided.row_format else []),
    ]


def _check_target(path: Path) -> None:
    """A script may replace an older one of tunekit, and nothing else; a folder is not made for it."""
    if not path.parent.is_dir():
        raise TunekitError(f"the folder {path.parent} does not exist")
    if path.exists() and "# Written by tunekit" not in path.read_text(encoding="utf-8", errors="replace")[:200]:
        raise TunekitError(f"{path} exists already, and tunekit did not write it", "take another name, or delete it")


def plan(prepared: Prepared) -> None:
    """The plan in a few lines, on stderr."""
    decided = prepared.plan
    model = decided.model
    size = f" {model.size}" if not model.params_b or f"{model.params_b:g}b" not in model.id.lower() else ""
    say("")
    say(f"  {style(model.id)}{size} · {_tuner(decided)} · preset {_presets(decided)}")
    if decided.preset_reason:
        _line("Preset", f"{decided.preset}, because {decided.preset_reason}")
    told(_parts(decided))
    _line("Hardware", decided.hardware.summary())
    found = known(decided)
    _line("Batch", _batch(decided, found))
    memory, fits = _memory(decided)
    if memory:
        _line("Memory", memory, None if fits else "yellow")
    told(_functions(decided))
    for line in _changes(decided):
        _line("Changed", line, "yellow")
    for warning in [*decided.warnings, *_few_steps(decided, found)]:
        _line("Note", warning, "yellow")
    if not decided.engine_installed:
        _line(
            "Note",
            f"ms-swift is not installed here: flags were checked against the snapshot of {decided.engine}",
        )
    _line("Run", str(prepared.path))
    say("")


FEW_STEPS = 20
"""Optimizer steps below which little is learned; warm-up alone takes a tenth of them."""


def _few_steps(decided: Plan, found: Measured | None) -> list[str]:
    """A warning where a pass over data that was measured is a handful of steps: packing puts many samples in a row."""
    if found is None or decided.get("max_steps") is not None:
        return []
    epochs = float(str(decided.get("num_train_epochs") or 1))
    steps = round(found.lengths.total / found.samples_per_row / decided.batch.effective * epochs)
    if steps >= FEW_STEPS:
        return []
    packed = f" (a packed row holds {found.samples_per_row:.0f} of them)" if decided.packed else ""
    what = f"{found.lengths.total:,} rows{packed} are about {max(1, steps)} optimizer steps"
    return [f"{what}: more --epochs, or --packing false, let it learn more"]


def _warn_of_data(decided: Plan) -> None:
    """A dry run may be made before the data is there, or for another machine: what is wrong is only said."""
    from tunekit.runs.preflight import check_adapters, check_data

    for check in (check_data, check_adapters):
        try:
            check(decided)
        except TunekitError as error:
            _line("Refused", f"{error.message} (so a start would end at once)", "red")


def told(lines: list[tuple[str, str]]) -> None:
    """Lines with a title each."""
    for title, message in lines:
        _line(title, message)


def refuse_other_machine(decided: Plan) -> None:
    """A plan for GPUs that this machine does not have cannot run here. Raises TunekitError."""
    if not decided.hardware.described:
        return
    from tunekit.hardware import detect

    here = detect()
    wanted = decided.hardware.gpus
    if len(here) < len(wanted) or min((gpu.total_gib for gpu in here), default=0) < decided.hardware.gpu_gib - 1:
        raise TunekitError(
            f"--gpus describes {len(wanted)} × {wanted[0].name}, which this machine does not have",
            "look with --dry-run, or take the script there with --write FILE",
        )


def ending(folder: RunFolder, report: Report) -> None:
    """What came out of a run, and what can be done next."""
    if report.status == "done":
        say(f"  {ended_well(folder, report)}")
        _next_commands(folder, report)
    elif report.status == "interrupted":
        say(f"  Stopped after {_took(report)}.{_losses(report)} No process is left.")
        _line("Go on", f"tunekit resume {_run_word(folder)}")
    else:
        failed(folder, report)


def ended_well(folder: RunFolder, report: Report) -> str:
    """How long a run took and what it reached, in a line."""
    return f"{style('Done', 'green')} in {_took(report)}.{_losses(report)}{_best(folder)}"


def _took(report: Report) -> str:
    from tunekit.cli.show.screen import duration

    attempts = report.state.attempts
    tries = f", {len(attempts)} attempts" if len(attempts) > 1 else ""
    return f"{duration(report.seconds)}{tries}"


def _losses(report: Report) -> str:
    losses = list(report.progress.losses.values())
    return f" Loss {losses[0]:.4g} → {losses[-1]:.4g}." if losses else ""


def failed(folder: RunFolder, report: Report) -> None:
    """Why a run failed, what was tried, where its log is."""
    failure = report.failure
    if failure is None:  # pragma: no cover - a run that did not fail has another status
        return
    attempts = report.state.attempts
    say(f"  {style(failure.kind.title, 'red')} (exit status {failure.status}), after {_took(report)}.")
    say(textwrap.indent(textwrap.fill(failure.evidence, _width()), "  "))
    if failure.kind.is_memory:
        _line("Tried", "")
        for attempt in attempts:
            line = f"micro-batch {attempt.micro_batch} × {attempt.accumulation}"
            after = f"; then {attempt.next_step}" if attempt.next_step else ""
            say(f"    {attempt.number}  {line}: {attempt.outcome} at step {attempt.last_step}{after}")
        if report.state.oom_retry == "neutral":
            _line(
                "Hint",
                f"tunekit resume {_run_word(folder)} --oom-retry lossy may load in 4 bits or shorten rows",
            )
    _line("Full log", str(folder.attempt(len(attempts)) / "train.log"))


def _next_commands(folder: RunFolder, report: Report) -> None:
    from tunekit.engine.after import suggested
    from tunekit.runs.checkpoints import best_checkpoint

    best = best_checkpoint(folder.output)
    if best is None:
        _line("Note", "no checkpoint was saved (--save_strategy no)")
        return
    _line("Saved", str(_short(best)))
    for followup in suggested(report.state.plan):
        _line(followup.title, f"tunekit {followup.command} {_run_word(folder)}", wrap=False)


def _best(folder: RunFolder) -> str:
    from tunekit.engine.logs import summary

    found = summary(folder.output / "logging.jsonl")
    best, metric = found.get("best_model_checkpoint"), found.get("best_metric")
    if not best or metric is None:
        return ""
    return f" Best {Path(best).name} ({metric:.4g})."


def _short(path: Path) -> Path:
    """A path as the user would type it from here."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path


def _run_word(folder: RunFolder) -> str:
    """The name or path by which `tunekit resume` finds the run."""
    from tunekit.runs.folder import RUNS

    path = folder.path
    return path.name if path.parent.resolve() == RUNS.resolve() else shlex.quote(str(path))


def _memory(decided: Plan) -> tuple[str, bool]:
    """What the run will take of a GPU, as far as it is known, and whether that fits; empty where nothing is known."""
    from tunekit.memory.search import NOT
    from tunekit.plan.predict import peak_of, vllm_share, weights_gib

    card = decided.hardware.gpu_gib
    if not card:
        return "", True
    peak = peak_of(decided)
    if peak is None:
        weights = weights_gib(decided)
        if weights is None or weights < card:
            return "", True
        return f"the weights alone take about {weights:.0f} GiB of {card:.1f}: add --quant_bits 4, or more GPUs", False
    learned = f"; × {peak.correction:.2f} as measured here" if peak.correction != 1 else ""
    source = "assumed" if decided.loss_share is None else "from your data"
    language = "; of the language model alone" if decided.model.multimodal else ""
    share = f"estimate{language}; {peak.spec.loss_share:.0%} of the tokens carry loss, {source}{learned}"
    taken = vllm_share(decided)
    share += f"; vLLM takes {taken:.0%} of the GPU beside it" if taken else ""
    fits = peak.verdict != NOT
    more = "" if fits else "; tunekit fit says what helps"
    return f"{peak.prediction.process_gib:.1f} GiB of {card:.1f}, {peak.verdict} ({share}){more}", fits


def _changes(decided: Plan) -> list[str]:
    """What was changed and why, one line a rule."""
    loud = [change for change in decided.changes if not change.quiet]
    by_rule = itertools.groupby(loud, key=lambda change: (change.by, change.why))
    return [f"{', '.join(change.line() for change in group)}: {why}" for (_, why), group in by_rule]


def _presets(decided: Plan) -> str:
    return " + ".join((decided.preset, *decided.overlays))


def _command(prepared: Prepared, files: Files | None = None) -> Command:
    plan = placed(prepared.plan, files or Files.of_run(prepared.path))
    return build(plan, prepared.path / "output")


def _functions(decided: Plan) -> list[tuple[str, str]]:
    """The functions of the user's, and where they come from."""
    lines = []
    if decided.row_format:
        lines.append(("Rows", f"made by {decided.row_format.name} of {decided.row_format.file}"))
    if decided.rewards:
        sources = {reward.alias: f"{reward.alias} of {reward.file}" for reward in decided.rewards}
        names = words_of(decided.get("reward_funcs"))
        lines.append(("Reward", ", ".join(sources.get(name, f"{name} of ms-swift") for name in names)))
    return lines


def _say_what_is_missing(prepared: Prepared) -> None:
    """The command of a dry run names files that only a run, or ``--write``, makes."""
    decided, files = prepared.plan, Files.of_run(prepared.path)
    missing = [*([files.plugin] if decided.rewards else []), *([files.data] if decided.row_format else [])]
    if missing:
        made = "are" if len(missing) > 1 else "is"
        names = " and ".join(map(str, missing))
        _line("Note", f"{names} {made} made when the run starts; --write FILE makes it beside the script", "yellow")


def _parts(decided: Plan) -> list[tuple[str, str]]:
    """What is trained of a model that has parts, and how large its images may be."""
    sees = decided.model.multimodal
    if not sees and not trained.in_part(decided.settings, multimodal=sees):
        return []
    lines = [("Trains", trained.describe(decided.settings, multimodal=sees))]
    if sees:
        lines.append(("Images", images.describe(int(str(decided.get(images.FLAG))), decided.model)))
    return lines


def _tuner(decided: Plan) -> str:
    kind = decided.get("tuner_type", "lora")
    if kind == "full":
        return "full fine-tuning"
    bits = f"{decided.get('quant_bits')}-bit " if decided.get("quant_bits") else ""
    targets = text(decided.get("target_modules") or ["all-linear"])
    return f"{bits}LoRA r{decided.get('lora_rank', 8)} on {targets}"


def _batch(decided: Plan, found: Measured | None) -> str:
    row = "packed rows" if decided.packed else "rows"
    if decided.packed and found:
        row += f" ≈ {decided.batch.effective * found.samples_per_row:.0f} samples"
    if decided.loss == "grpo":
        generations = int(str(decided.get("num_generations") or GRPO_GENERATIONS))
        row = f"completions: {decided.batch.effective // generations} prompts, {generations} answers each"
    tokens = f", up to {decided.tokens_per_step:,} tokens a step" if decided.tokens_per_step else ""
    return f"{decided.batch.equation(decided.hardware.device)} {row}{tokens}"


def _line(title: str, message: str, colour: str | None = None, *, wrap: bool = True) -> None:
    head = style(f"  {title:<{INDENT - 2}}", colour)
    lines = (
        textwrap.wrap(message, _width() - INDENT, break_long_words=False, break_on_hyphens=False) if wrap else [message]
    )
    say(f"{head}{lines[0] if lines else ''}")
    for line in lines[1:]:
        say(" " * INDENT + line)


def style(words: str, colour: str | None = "") -> str:
    """Bold, in a colour where one is named; None and a stderr that is no terminal leave `words` as they are."""
    plain = colour is None or not sys.stderr.isatty() or "NO_COLOR" in os.environ
    return words if plain else typer.style(words, fg=colour or None, bold=True)


def _width() -> int:
    """Columns for people to read in: those of the terminal, 100 at the most."""
    return min(WIDEST, max(40, columns(sys.stderr) or WIDEST))
