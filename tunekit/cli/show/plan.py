"""What a user sees of a plan. Data goes to stdout, everything for people to stderr."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tunekit.cli.show.duration import time_lines
from tunekit.cli.show.lines import VERDICT_COLOURS, print_table, show_line, show_lines, style
from tunekit.console import say
from tunekit.engine.plugin import Files, with_files
from tunekit.errors import counted
from tunekit.memory.search import FITS, NOT
from tunekit.plan import images
from tunekit.plan.parts import describe_parts, in_part
from tunekit.plan.schedule import steps_in_words
from tunekit.plan.settings import text
from tunekit.runs.script import command_for

if TYPE_CHECKING:
    from pathlib import Path

    from tunekit.plan.plan import Plan
    from tunekit.runs.folder import Run

ENV_WHY = {
    "CUDA_VISIBLE_DEVICES": "the GPUs of this plan, and no others",
    "NPROC_PER_NODE": "one process a GPU; without it ms-swift spreads one model over all GPUs",
    "PYTORCH_CUDA_ALLOC_CONF": "freed blocks stay usable for rows of other lengths",
}


def print_command(run: Run, problems: list[str], text: str = "") -> None:
    """The plan on stderr, the command on stdout, or the text that its launcher is given instead.

    In a terminal the plan is last: it would be pushed away.
    """
    command = text.rstrip("\n") or command_for(run).shell()
    if sys.stdout.isatty():
        print(command, flush=True)
    show_plan(run)
    _show_missing(run)
    _show_problems(problems)
    if not sys.stdout.isatty():
        print(command)


def plan_document(run: Run, problems: list[str]) -> dict[str, Any]:
    """The plan and its command as plain data; `problems` are what is not on this machine."""
    decided, model, batch, command = run.plan, run.plan.model, run.plan.batch, command_for(run)
    return {
        "argv": list(command.argv),
        "env": dict(command.env),
        "secrets": list(command.secrets),
        "name": run.name,
        "run_folder": str(run.path),
        "model": {"id": model.id, "params_b": model.params_b, "family": model.family, "multimodal": model.multimodal},
        "model_source": asdict(run.source) if run.source else None,
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
        "memory": _memory_document(decided),
        "settings": {
            flag: {"value": setting.value, "source": str(setting.source), "why": setting.why}
            for flag, setting in decided.settings.items()
        },
        "changes": [
            {"flag": row.flag, "before": row.before, "after": row.after, "by": str(row.by), "why": row.why}
            for row in decided.changes
        ],
        "functions": {
            "rewards": {reward.alias: reward.spec for reward in decided.rewards},
            "format": decided.row_format.spec if decided.row_format else None,
        },
        "schedule": asdict(run.schedule) if run.schedule else None,
        "time": run.duration.document() if run.duration else None,
        "no_time": run.untold or None,
        "warnings": list(decided.warnings),
        "missing": problems,
        "flags_checked_against": {"ms_swift": decided.engine, "installed": decided.engine_installed},
    }


def _memory_document(plan: Plan) -> dict[str, Any] | None:
    """What a plan takes of one GPU; None where that is not known."""
    peak = plan.peak
    if peak is None:
        return None
    return {
        "process_gib": peak.prediction.process_gib,
        "card_gib": peak.card_gib,
        "verdict": peak.verdict,
        "largest_micro_batch": peak.largest_micro_batch,
    }


def print_settings(run: Run, problems: list[str]) -> None:
    """Every setting on stdout: its value, where it comes from, why; in a terminal the plan comes last."""
    if not sys.stdout.isatty():
        show_plan(run)
        _show_problems(problems)
    settings = with_files(run.plan, Files.of_run(run.path)).settings
    rows = [(flag, text(setting.value), str(setting.source), setting.why) for flag, setting in settings.items()]
    rows += [(name, value, "environment", ENV_WHY.get(name, "")) for name, value in run.plan.env.items()]
    rows += [
        ("output_dir", str(run.path / "output"), "run", "each run has a folder of its own"),
        ("add_version", "false", "run", "checkpoints stand in that folder directly, so that a retry finds them"),
    ]
    dropped = [change for change in run.plan.changes if change.after is None]
    rows += [(change.flag, "(dropped)", str(change.by), change.why) for change in dropped]
    print_table(rows)
    if sys.stdout.isatty():
        sys.stdout.flush()
        show_plan(run)
        _show_problems(problems)


def show_written(run: Run, path: Path, problems: list[str], lines: list[tuple[str, str]]) -> None:
    """The plan of a script that was written, what is not here, and what stands beside the script."""
    show_plan(run)
    _show_problems(problems)
    show_lines(lines)
    if run.plan.rewards:
        say(f"wrote {Files.beside(path).plugin}")
    say(f"wrote {path}")


def show_plan(run: Run) -> None:
    """The plan in a few lines, on stderr."""
    plan, model = run.plan, run.plan.model
    size = model.named.removeprefix(model.shown)
    presets = " + ".join((plan.preset, *plan.overlays))
    say("")
    say(f"  {style(model.shown)}{size} · {_tuner(plan)} · preset {presets}")
    if plan.preset_reason:
        show_line("Preset", f"{plan.preset}, because {plan.preset_reason}")
    if run.source:
        show_line("Model", run.source.in_words())
    show_lines(_parts(plan))
    show_line("Hardware", plan.hardware.summary())
    show_line("Batch", _batch(run))
    if run.schedule:
        show_line("Steps", steps_in_words(plan, run.schedule))
    show_lines(time_lines(run.duration, run.untold))
    memory, judged = _memory(plan)
    if memory:
        show_line("Memory", memory, VERDICT_COLOURS[judged])
    show_lines(_functions(plan))
    for line in plan.changed_lines():
        show_line("Changed", line, "yellow")
    for warning in plan.warnings:
        show_line("Note", warning, "yellow")
    if not plan.engine_installed:
        show_line("Note", f"ms-swift is not installed here: flags were checked against the snapshot of {plan.engine}")
    show_line("Run", str(run.path))
    say("")


def _show_problems(problems: list[str]) -> None:
    """A dry run may be made for another machine: what is not on this one is only said."""
    for problem in problems:
        show_line("Refused", f"{problem} (so a start would end at once)", "red")


def _show_missing(run: Run) -> None:
    """The command of a dry run names files that only a run, or ``--write``, makes."""
    files = Files.of_run(run.path)
    missing = [*([files.plugin] if run.plan.rewards else []), *([files.data] if run.plan.row_format else [])]
    if missing:
        made = "are" if len(missing) > 1 else "is"
        names = " and ".join(map(str, missing))
        note = f"{names} {made} made when the run starts; --write FILE makes it beside the script"
        show_line("Note", note, "yellow")


def _memory(plan: Plan) -> tuple[str, str]:
    """What the run will take of a GPU, as far as it is known, and the verdict; empty where nothing is known."""
    card, peak = plan.hardware.gpu_gib, plan.peak
    if not card:
        return "", FITS
    if peak is None:
        weights = plan.weights_gib
        if weights is None or weights < card:
            return "", FITS
        return f"the weights alone take about {weights:.0f} GiB of {card:.1f}: add --quant_bits 4, or more GPUs", NOT
    source = "assumed" if plan.loss_share is None else "from your data"
    blind = plan.model.multimodal and "vision" not in peak.prediction.breakdown
    language = "; of the language model alone" if blind else ""
    written = peak.spec.completion_len if plan.stage.generates else 0
    guessed = "" if plan.row_tokens else ", assumed,"
    said = f"prompts of {peak.spec.seq_len}{guessed} and answers of {written} tokens"
    lossy = f"{peak.spec.loss_share:.0%} of the tokens carry loss, {source}"
    share = f"estimate{language}; {said if written else lossy}"
    share += f"; × {peak.correction:.2f} as measured here" if peak.correction != 1 else ""
    share += f"; vLLM takes {plan.vllm_share:.0%} of the GPU beside it" if plan.vllm_share else ""
    asleep = peak.spec.vllm_gib
    share += f"; vLLM takes {asleep:.1f} GiB while it writes the answers, and sleeps while it trains" if asleep else ""
    share += f"; peak at {peak.prediction.peak_at}" if peak.evaluation and peak.fits else ""
    more = "" if peak.fits else f"; {peak.evaluation or 'tunekit fit says what helps'}"
    return f"{peak.prediction.process_gib:.1f} GiB of {card:.1f}, {peak.verdict} ({share}){more}", peak.verdict


def _functions(plan: Plan) -> list[tuple[str, str]]:
    own = plan.row_format
    lines = [("Rows", f"made by {own.name} of {own.file}")] if own else []
    if plan.rewards:
        sources = {reward.alias: f"{reward.alias} of {reward.file}" for reward in plan.rewards}
        names = plan.words("reward_funcs")
        lines.append(("Reward", ", ".join(sources.get(name, f"{name} of ms-swift") for name in names)))
    return lines


def _parts(plan: Plan) -> list[tuple[str, str]]:
    sees = plan.model.multimodal
    lines = [("Trains", describe_parts(plan))] if sees or in_part(plan) else []
    if sees:
        lines.append(("Images", images.describe_images(plan.whole(images.FLAG, 0), plan.model)))
    return lines


def _tuner(plan: Plan) -> str:
    if plan.full:
        return "full fine-tuning"
    bits = plan.text("quant_bits")
    targets = " ".join(plan.words("target_modules") or ["all-linear"])
    return f"{f'{bits}-bit ' if bits else ''}LoRA r{plan.rank} on {targets}"


def _batch(run: Run) -> str:
    plan = run.plan
    row = "packed rows" if plan.packed else "rows"
    if plan.packed and run.rows:
        row += f" ≈ {plan.batch.effective * run.rows.samples_per_row:.0f} samples"
    if plan.stage.generations > 1:
        generations = plan.whole("num_generations", plan.stage.generations)
        row = f"completions: {counted(plan.batch.effective // generations, 'prompt')}, {generations} answers each"
    tokens = f", up to {plan.tokens_per_step:,} tokens a step" if plan.tokens_per_step else ""
    return f"{plan.batch.equation(plan.hardware.device)} {row}{tokens}"
