"""What tells runs apart: the settings that differ, and what they learned from, ran on and came to."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from tunekit.plan.configuration import BATCH_FLAGS
from tunekit.plan.settings import text
from tunekit.runs.curves import EVALUATED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tunekit.runs.history import PastRun

PLACES = ("model", "dataset", "val_dataset", "logging_dir", "run_name", "swanlab_exp_name", *BATCH_FLAGS)
"""Flags that rows of their own tell of, or that are another in every run."""


def settings_apart(runs: Sequence[PastRun]) -> dict[str, list[str | None]]:
    """The settings in which runs differ, as text, a value a run; None where a run does not set it."""
    plans = [run.state.plan for run in runs]
    flags = dict.fromkeys(flag for plan in plans for flag in plan.settings if flag not in PLACES)
    found = {
        flag: [text(plan.settings[flag].value) if flag in plan.settings else None for plan in plans] for flag in flags
    }
    return {flag: values for flag, values in found.items() if len(set(values)) > 1}


def facts_of(run: PastRun) -> dict[str, str | float | None]:
    """A run in facts, by the words of a table; numbers as they are, None where one is not known."""
    plan, result = run.state.plan, run.result
    gpus = plan.hardware.gpus
    rate = tokens_per_second(run)
    return {
        "stage": plan.stage.name,
        "model": PurePath(plan.model.id).name,
        **{f"data {name}": digest for name, digest in data_of(run).items()},
        "rows not used": sum(each.origin - each.kept for each in run.rows.dropped) or None,
        "batch": f"{plan.batch.micro} × {plan.batch.accumulation} × {plan.batch.data_parallel}",
        "effective batch": plan.batch.effective,
        "ms-swift": plan.engine,
        "device": f"{len(gpus)} × {gpus[0].name}" if gpus else "CPU",
        "status": run.told,
        "attempts": len(run.state.attempts),
        "step": run.logged.step or None,
        **({result.word: result.value} if result else {}),
        **({"loss": run.logged.of("loss")[max(run.logged.of("loss"))]} if run.logged.of("loss") else {}),
        **({"eval": min(run.logged.of(EVALUATED).values())} if run.logged.of(EVALUATED) else {}),
        "seconds": round(run.seconds, 1),
        "seconds a step": run.seconds_per_step,
        "tokens/s": round(rate) if rate else None,
        "peak GiB": run.memory_gib,
    }


def data_of(run: PastRun) -> dict[str, str]:
    """The files of rows, by name, with their lines and the start of their SHA-256 as the run began."""
    known = {name: each for name, each in run.state.inputs.items() if each.get("what") == "rows"}
    names = [name for flag in ("dataset", "val_dataset") for name in run.state.plan.words(flag)]
    found = {PurePath(name).name: "" for name in names if not known}
    for name, each in known.items():
        lines = f"{each['lines']:,} lines, " if isinstance(each.get("lines"), int) else ""
        found[PurePath(name).name] = f"{lines}sha256 {str(each.get('sha256', ''))[:8]}"
    return found


def tokens_per_second(run: PastRun) -> float | None:
    """Tokens in a second, by the mean length of ms-swift's rows; None where it did not say one.

    ms-swift writes the lengths as ``137.3±185.7, min=…`` (its ``train_dataset``); a packed row counts as one.
    """
    said = str(run.logged.summary.get("train_dataset", "")).partition("±")[0]
    speed = run.seconds_per_step
    try:
        mean = float(said)
    except ValueError:
        return None
    return mean * run.state.plan.batch.effective / speed if speed and mean > 0 else None


def not_comparable(runs: Sequence[PastRun]) -> list[str]:
    """Why the losses of runs do not compare; empty where they do."""
    asked: dict[str, Callable[[PastRun], object]] = {
        "stage": lambda run: run.state.plan.stage.name,
        "model": lambda run: run.state.plan.model.id,
        "data": data_of,
    }
    return [what for what, of in asked.items() if any(of(run) != of(runs[0]) for run in runs[1:])]
