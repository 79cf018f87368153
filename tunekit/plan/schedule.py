"""Rows → steps: how often the weights change, and when something is saved or evaluated on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.errors import counted

if TYPE_CHECKING:
    from tunekit.plan.plan import Plan

FEW_STEPS = 20
"""Optimizer steps below which little is learned; warm-up alone takes a tenth of them."""

USUAL_STEPS = 500
"""Steps between two checkpoints where nothing else is said (``save_steps`` of ms-swift's sft_args.py)."""


@dataclass(frozen=True)
class Schedule:
    """What the rows of a dataset come to.

    Attributes:
        rows: that are trained on, in one epoch.
        sure: empty where they were counted; else what to say before a number: reckoned from a part of a large file or
            from packs, or no more than that, since nobody knows before what a pack holds.
        held: rows of the dataset in one row of a batch: more than 1 where rows are packed.
        per_epoch: optimizer steps in one epoch, `steps` in all of the run.
        warmup: steps in which the learning rate climbs.
        evaluations: with validation rows; 0 without.
        checkpoints: that are written; ``save_total_limit`` deletes older ones.
    """

    rows: int
    sure: str
    held: float
    per_epoch: int
    steps: int
    warmup: int
    evaluations: int
    checkpoints: int


def schedule_of(plan: Plan, rows: int, *, exact: bool = True, held: float | None = None) -> Schedule | None:
    """What so many rows come to; None where that is not known before the run.

    `held` is how many a packed row holds; None where that was not measured. As transformers' Trainer counts (5.x,
    trainer.py, set_initial_training_values): a last step that is not full counts; of generated answers it does not.
    """
    if plan.flag("streaming"):
        return None
    sure = ("at most " if held is None else "about ") if plan.packed else "" if exact else "about "
    share = plan.number("split_dataset_ratio", 0) if not plan.words("val_dataset") else 0.0
    trained = max(1, rows - math.ceil(rows * share)) if 0 < share < 1 else rows
    made = trained / (held or 1.0) * plan.whole("num_generations", plan.stage.generations) / plan.batch.effective
    whole = math.floor if plan.stage.generations > 1 else math.ceil
    per_epoch = max(1, whole(made))
    limit = plan.whole("max_steps")
    steps = limit if limit and limit > 0 else math.ceil(plan.number("num_train_epochs", 1) * per_epoch)
    ratio = plan.number("warmup_ratio", 0)
    warmup = plan.number("warmup_steps", 0) or math.ceil(steps * ratio)
    often = _strategy(plan, "save_strategy", "steps"), plan.number("save_steps", USUAL_STEPS)
    evaluates = bool(plan.words("val_dataset")) or share > 0
    seldom = _strategy(plan, "eval_strategy", often[0]), plan.number("eval_steps", often[1])
    return Schedule(
        rows=trained,
        sure=sure,
        held=held or 1.0,
        per_epoch=per_epoch,
        steps=steps,
        warmup=min(steps, math.ceil(warmup * steps) if 0 < warmup < 1 else int(warmup)),
        evaluations=_times(steps, per_epoch, *seldom) if evaluates else 0,
        checkpoints=_saved(steps, per_epoch, *often),
    )


def _strategy(plan: Plan, flag: str, otherwise: str) -> str:
    return plan.text(flag, otherwise)


def _times(steps: int, per_epoch: int, strategy: str, every: float) -> int:
    if strategy == "epoch":
        return math.ceil(steps / per_epoch)
    if strategy != "steps" or every <= 0:
        return 0
    return int(steps // (max(1, math.ceil(every * steps)) if every < 1 else every))


def _saved(steps: int, per_epoch: int, strategy: str, every: float) -> int:
    """The last step is always saved, but where nothing is (facts of ms-swift 4.6: trainers/mixin.py)."""
    if strategy == "no":
        return 0
    if strategy == "epoch":
        return math.ceil(steps / per_epoch)
    found = _times(steps, per_epoch, strategy, every)
    return found + (not found or steps % (max(1, math.ceil(every * steps)) if every < 1 else every) != 0)


def steps_in_words(plan: Plan, schedule: Schedule) -> str:
    """One line for people: rows, steps, and what happens on the way."""
    about = schedule.sure
    rows = f"{schedule.rows:,} row{'' if schedule.rows == 1 else 's'}"
    epochs = plan.number("num_train_epochs", 1)
    if plan.get("max_steps") is None:
        passes = "" if epochs == 1 else f" × {epochs:g} epochs"
        steps = f"{about}{schedule.per_epoch:,} step{'' if schedule.per_epoch == 1 else 's'} an epoch{passes}"
    else:
        steps = f"{counted(schedule.steps, 'step')} by max_steps, {schedule.steps / schedule.per_epoch:.2g} epochs"
    parts = [f"{rows}, {steps}"]
    parts += [f"{about}{schedule.warmup} of warm-up"] if schedule.warmup else []
    parts += [f"{about}{counted(schedule.evaluations, 'evaluation')}"] if schedule.evaluations else []
    return ", ".join([*parts, f"{about}{counted(schedule.checkpoints, 'checkpoint')}"])


def few_steps(plan: Plan, schedule: Schedule) -> str:
    """A warning where all passes over the data are a handful of steps, as of a small dataset in packs; else empty."""
    if plan.get("max_steps") is not None or schedule.steps >= FEW_STEPS:
        return ""
    packed = f" (a packed row holds {schedule.held:.0f} of them)" if schedule.held > 1 else ""
    rows = f"{counted(schedule.rows, 'row')}" if schedule.rows < 1000 else f"{schedule.rows:,} rows"
    made = f"{schedule.sure}{counted(schedule.steps, 'optimizer step')} of {plan.batch.effective}"
    helps = "more --epochs, or --packing false, let" if plan.packed else "more rows or more --epochs let"
    return f"{rows}{packed} are {made}: {helps} it learn more"


def late_flags(plan: Plan, schedule: Schedule) -> str:
    """A warning where a run ends before its first evaluation; else empty."""
    validated = bool(plan.words("val_dataset")) or plan.number("split_dataset_ratio", 0) > 0
    if (
        not validated
        or schedule.evaluations
        or plan.text("eval_strategy") == "no"
        or plan.text("save_strategy") == "no"
    ):
        return ""
    every = plan.number("eval_steps", plan.number("save_steps", USUAL_STEPS))
    return f"eval_steps {every:g} is never reached in {counted(schedule.steps, 'step')}: nothing is evaluated"
