"""What is checked in the seconds before a launch, so that it is not found out in the hours after."""

from __future__ import annotations

import os
import shutil
from functools import partial
from typing import TYPE_CHECKING

from tunekit.data.files import NotHere
from tunekit.engine.plugin import Files
from tunekit.errors import Exit, TunekitError, counted
from tunekit.hardware import detect
from tunekit.runs.data import check_rows
from tunekit.runs.functions import check_packages, check_rewards, settled
from tunekit.runs.logins import check_logins
from tunekit.runs.models import check_adapters, check_files, check_models

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tunekit.plan.plan import Plan
    from tunekit.runs.folder import Run

LARGE_GIB = 1.0
"""Runs that need less disk than this are started without a word."""


def check_launch(plan: Plan, path: Path) -> None:
    """Check the datasets, models, trackers and the disk of a plan. Raises TunekitError where they will not do."""
    check_logins(plan)
    check_data(settled(plan, Files.of_run(path)))
    check_adapters(plan)
    check_models(plan)
    check_files(plan)
    check_disk(plan, path)


def check_data(plan: Plan) -> None:
    """Check the datasets of a plan. Raises TunekitError with exit code 4."""
    check_rows(plan)
    if not _names_data(plan):
        raise NotHere("there is no --dataset", "give a file of JSON lines, or a hub id", Exit.USAGE)
    check_rewards(plan)


def _names_data(plan: Plan) -> bool:
    return plan.get("dataset") is not None or plan.get("cached_dataset") is not None


def check_disk(plan: Plan, path: Path) -> None:
    """Compare the free disk space with what the kept checkpoints take. Raises TunekitError where they do not fit."""
    size, kept = checkpoint_gib(plan), _kept(plan)
    if size is None:
        return
    folder, free = free_disk(path)
    if _needed_gib(plan, path) > max(free, LARGE_GIB):
        what = f"{counted(kept, 'checkpoint')} of about {size:.1f} GiB {'does' if kept == 1 else 'do'} not fit"
        hint = "free some space, lower --save_total_limit, or take another --output-dir"
        raise TunekitError(f"{what} the {free:.1f} GiB that are free in {folder}", hint)


def check_disk_of_all(runs: Sequence[tuple[Plan, Path]]) -> None:
    """The same for runs that are all kept, each with its folder. Raises TunekitError where they do not fit together."""
    if not runs:
        return
    needed = sum(_needed_gib(plan, path) for plan, path in runs)
    folder, free = free_disk(runs[0][1])
    if needed > max(free, LARGE_GIB):
        what = f"the checkpoints of {counted(len(runs), 'run')} take about {needed:.1f} GiB"
        hint = "free some space, lower --save_total_limit, or sweep less"
        raise TunekitError(f"{what}, and {free:.1f} are free in {folder}", hint)


def _kept(plan: Plan) -> int:
    return plan.whole("save_total_limit") or 10  # without a limit: every checkpoint of a usual run


def _needed_gib(plan: Plan, path: Path) -> float:
    """What checkpoints are still to take; 0 where their size is not known."""
    there = sum(1 for _ in path.glob("output/checkpoint-*"))
    # A new one is written before the oldest is deleted.
    return (checkpoint_gib(plan) or 0.0) * max(1, _kept(plan) + 1 - there)


def free_disk(path: Path) -> tuple[Path, float]:
    """The innermost folder on the way to a path that is there already, and the GiB that are free in it."""
    folder = next(parent for parent in (path, *path.resolve().parents) if parent.is_dir())

    return folder, shutil.disk_usage(folder).free / 2**30


def checkpoint_gib(plan: Plan) -> float | None:
    """About how large one checkpoint is, in GiB; None where the size of the model is not known.

    Full fine-tuning: 2 bytes a weight and 4 of Adam's two states in bfloat16. LoRA: 4 bytes a weight of the
    adapter and 8 of Adam's states; the adapter is estimated from the hidden size h that a model of N parameters
    usually has (N = 12/128 · h³, from 12·h² a layer and h/128 layers) as N · 2.2 · rank / h.
    """
    params = plan.model.params_b
    if params is None:
        return None
    count = params * 1e9
    if plan.full:
        return float(count * 6 / 2**30)
    hidden = (count * 128 / 12) ** (1 / 3)
    return float(count * 2.2 * plan.rank / hidden * 12 / 2**30)


def check_machine(plan: Plan) -> None:
    """A plan for GPUs that this machine does not have cannot run here. Raises TunekitError."""
    nodes = plan.hardware.nodes
    if nodes > 1 and plan.env.get("NNODES", os.environ.get("NNODES")) != str(nodes):
        hint = "--launch slurm starts all of them; --launch nodes --node-rank N --master ADDR each of them"
        raise TunekitError(f"{nodes} machines train together, and this is one of them", hint)
    if not plan.hardware.described:
        return
    here, wanted = detect(), plan.hardware.gpus
    if len(here) < len(wanted) or min((gpu.total_gib for gpu in here), default=0) < plan.hardware.gpu_gib - 1:
        raise TunekitError(
            f"--gpus describes {len(wanted)} × {wanted[0].name}, which this machine does not have",
            "look with --dry-run, or take the script there with --write FILE",
        )


def problems_of(run: Run, whose: str = "") -> list[str]:
    """What a dry run cannot find here: files of a plan for another machine, or a dataset that was not named yet.

    Raises TunekitError for all else that a start would refuse, as it would; `whose` begins its message.
    """
    plan = run.plan
    checks: list[Callable[[Plan], None]] = [check_data, check_adapters, check_models, check_files]
    if not plan.hardware.described:
        checks += [check_packages, partial(check_disk, path=run.path)]
    problems = []
    if not plan.hardware.described:
        try:
            check_logins(plan)
        except TunekitError as error:  # the command may be for another machine, or log in before
            problems.append(f"{error.message}: {error.hint}")
    for check in checks:
        try:
            check(plan)
        except TunekitError as error:
            if not (isinstance(error, NotHere) and (plan.hardware.described or not _names_data(plan))):
                raise TunekitError(f"{whose}{error.message}", error.hint, error.code) from error
            problems.append(error.message)
    return problems
