"""``--preset auto``, second half: from a plan that suits the model to one that fits the GPU.

The micro-batch becomes the largest that fits, at the length and the effective batch that the plan has. What saves
memory and costs nothing is switched on first; what costs something is tried only where one row alone does not fit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tunekit.memory.estimate import estimate
from tunekit.memory.search import NOT
from tunekit.plan import savings
from tunekit.plan.plan import BATCH_FLAGS
from tunekit.plan.predict import peak_of
from tunekit.plan.settings import Setting

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunekit.plan.batch import Batch
    from tunekit.plan.plan import Plan
    from tunekit.plan.predict import Peak
    from tunekit.plan.savings import Packages
    from tunekit.plan.settings import Value

WORTH = 0.01
"""A saving below this share is not worth another package in the run."""

FORMS: tuple[tuple[str, str, Callable[[Plan, Packages], dict[str, Value] | None]], ...] = (
    ("zero-to-fit", "the GPUs share what each would hold alone", savings.zero),
    ("qlora-to-fit", "the frozen weights are held in 4 bits", savings.four_bit),
)
"""What is tried, in order and on top of one another, while one row does not fit: rule, reason, change."""


def solve_memory(plan: Plan, packages: Packages, liger_models: frozenset[str]) -> Plan:
    """The plan with the largest micro-batch that fits its GPUs.

    A plan whose peak cannot be predicted is returned as it is; one that cannot be made to fit comes with micro-batch 1
    and without what was tried in vain. A micro-batch that the user typed stays, and nothing is given up for it.

    Args:
        plan: decided, with the micro-batch of its preset.
        packages: import names of what is installed.
        liger_models: model types that liger-kernel patches.
    """
    peak = peak_of(plan)
    if peak is None:
        return plan
    plan, peak = _with_liger(plan, peak, packages, liger_models)
    if plan.settings[BATCH_FLAGS[0]].explicit:
        return plan
    solved, found = plan, peak
    for rule, why, change in FORMS:
        while not found.largest_micro_batch():
            flags = change(solved, packages)
            if flags is None:
                break
            one_row = estimate(replace(found.spec, micro_batch=1)).process_gib
            took = f"1 row would take {one_row:.1f} of {peak.card_gib:.1f} GiB"
            tried = solved.changed(flags, f"rule:{rule}", f"{why}; without, {took}")
            after = peak_of(tried)
            if after is None:
                break
            solved, found = tried, after
    if found.largest_micro_batch():
        return _with_largest(solved, found)
    # Nothing fits with room to spare: what fits just so is better than what does not.
    least = _with(solved, solved.batch.with_micro(1), "one row fits just so, with little to spare")
    tight = peak_of(least)
    return least if tight and tight.verdict != NOT else _with_largest(plan, peak)


def _with_liger(plan: Plan, peak: Peak, packages: Packages, models: frozenset[str]) -> tuple[Plan, Peak]:
    """With Liger where it saves something, be it only for data of which every token carries loss."""
    flags = savings.liger(plan, packages, models)
    after = peak_of(plan.changed(flags, "", "")) if flags else None
    every = peak_of(replace(plan, loss_share=1.0))
    if flags is None or after is None or every is None:
        return plan, peak
    with_gib, without_gib, worst_gib = (one.prediction.process_gib for one in (after, peak, every))
    if worst_gib - with_gib < WORTH * worst_gib:
        return plan, peak
    worst = f" (of {worst_gib:.1f} where every token carries loss)" if worst_gib > without_gib else ""
    why = (
        f"never holds all logits: micro-batch {plan.batch.micro} takes {with_gib:.1f} instead of {without_gib:.1f} GiB"
    )
    return plan.changed(flags, "rule:liger", why + worst), after


def _with_largest(plan: Plan, peak: Peak) -> Plan:
    largest = peak.largest_micro_batch()
    if plan.model.multimodal:  # the vision part is not counted, so no more is taken than the preset says
        largest = min(largest, plan.batch.micro)
    batch = plan.batch.with_micro(max(1, largest))
    rows = batch.micro * batch.accumulation
    if not largest:
        return _with(plan, batch, "the least that can be trained; by the estimate even that does not fit")
    fit = f"{largest} row{'s fit' if largest > 1 else ' fits'} {peak.card_gib:.1f} GiB"
    divides = "" if batch.micro == largest else f"; {batch.micro} divides the {rows} rows of one GPU"
    return _with(plan, batch, fit + divides)


def _with(plan: Plan, batch: Batch, why: str) -> Plan:
    """The plan with another batch, which is no change of what was asked for: nobody asked for a micro-batch."""
    micro, accumulation = BATCH_FLAGS
    share = f"{batch.effective} ÷ {batch.micro} ÷ {batch.data_parallel} {plan.hardware.device}"
    decided = {
        micro: Setting(batch.micro, "memory", why),
        accumulation: Setting(batch.accumulation, "batch", share),
    }
    return replace(plan, batch=batch, settings={**plan.settings, **decided})
