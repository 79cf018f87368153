"""``--preset auto``: first a preset that suits the model, then the largest micro-batch that fits the GPU.

What saves memory and costs nothing is switched on first; what costs something is tried only where one row alone does
not fit. The length and the effective batch stay.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from tunekit.memory.estimate import estimate
from tunekit.plan import savings
from tunekit.plan.configuration import BATCH_FLAGS
from tunekit.plan.settings import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunekit.hardware import Hardware
    from tunekit.plan.models.model import Model
    from tunekit.plan.plan import Plan
    from tunekit.plan.predict import Peak
    from tunekit.plan.presets.shelf import Library
    from tunekit.plan.savings import Packages
    from tunekit.plan.settings import Value

LARGEST = float("inf")

LAST_RESORT = "low-memory"
"""The preset with the shortest rows and the smallest micro-batch."""


def choose_preset(model: Model, hardware: Hardware, library: Library, *, predictable: bool = True) -> tuple[str, str]:
    """The name of a preset and one line of reason, by the ``[[auto]]`` rows of the presets.

    Of the rows whose models are large enough the tightest counts. Where the memory of the model is predictable the GPU
    only chooses between rows for the same models, since the micro-batch is solved afterwards (`solve_memory`). Where
    it is not, the row's GPU must be reached too, and `LAST_RESORT` is taken where none is.
    """
    if not hardware.gpus:
        return "cpu", "there is no GPU to train on (--gpus 1x24GB would plan for one)"
    if model.params_b is None:
        return LAST_RESORT, "the size of the model is not known, so the smallest micro-batch is taken"
    rows = [(row, preset.name) for preset in library.sound()[0] for row in preset.auto if row.moe == model.moe]
    card = hardware.gpu_gib
    kind = "mixture-of-experts models" if model.moe else "models"
    if not predictable:
        fitting = [
            (row.params_b, -row.gpu_gib, name)
            for row, name in rows
            if model.params_b <= row.params_b and card >= row.gpu_gib
        ]
        if not fitting:
            return LAST_RESORT, f"{model.size} on {card:.0f} GiB: no larger preset is meant for that"
        params_b, gpu_gib, name = min(fitting)
        return name, f"it is meant for {kind} up to {params_b:g}B on {-gpu_gib:g} GiB or more"
    params_b = min((row.params_b for row, _ in rows if model.params_b <= row.params_b), default=LARGEST)
    largest = min(params_b, max(row.params_b for row, _ in rows))
    sized = [(row.gpu_gib, name) for row, name in rows if row.params_b == largest]
    name = max([row for row in sized if row[0] <= card] or [min(sized)])[1]
    meant = f"up to {params_b:g}B" if params_b < LARGEST else "as large as presets are made for"
    return name, f"it is meant for {kind} {meant}"


MEMORY, LIGER = Source("memory"), Source("rule", "liger")

THE_MICRO_BATCH = "the micro-batch"
"""With these words begins what limits it."""

WORTH = 0.01
"""A saving below this share is not worth another package in the run."""

FORMS: tuple[tuple[str, str, Callable[[Plan, Packages], dict[str, Value] | None]], ...] = (
    ("zero-to-fit", "the GPUs share what each would hold alone", savings.zero_flags),
    ("qlora-to-fit", "the frozen weights are held in 4 bits", savings.four_bit_flags),
)
"""What is tried, in order and on top of one another, while one row does not fit: rule, reason, change."""

FOR_MEMORY = (LIGER, *(Source("rule", rule) for rule, *_ in FORMS))
"""The sources of what `solve_memory` changes beside the batch."""


def solve_memory(plan: Plan, packages: Packages, liger_models: frozenset[str]) -> Plan:
    """The plan with the largest micro-batch that fits its GPUs.

    A plan whose peak cannot be predicted is returned as it is; one that cannot be made to fit comes with micro-batch 1
    and without what was tried in vain.
    `liger_models` are the model types that liger-kernel patches.
    """
    if plan.peak is None:
        return plan
    plan = _with_liger(plan, packages, liger_models)
    solved = plan
    for rule, why, change in FORMS:
        while solved.peak and not solved.peak.largest_micro_batch:
            flags = change(solved, packages)
            if flags is None:
                break
            one_row = estimate(replace(solved.peak.spec, micro_batch=1)).process_gib
            took = f"1 row would take {one_row:.1f} of {solved.peak.card_gib:.1f} GiB"
            took += ", with too little to spare" if one_row <= solved.peak.card_gib else ""
            tried = solved.changed(flags, Source("rule", rule), f"{why}; without, {took}")
            if tried.peak is None:
                break
            solved = tried
    if solved.peak and solved.peak.largest_micro_batch:
        return _with_largest(solved, solved.peak)
    # Nothing fits with room to spare: what fits just so is better than what does not.
    least = solved.with_batch(solved.batch.with_micro(1), MEMORY, "")
    return least if not plan.peak or (least.peak and least.peak.fits) else _with_largest(plan, plan.peak)


def _with_liger(plan: Plan, packages: Packages, models: frozenset[str]) -> Plan:
    """With Liger where it saves something, be it only for data of which every token carries loss."""
    flags = savings.liger_flags(plan, packages, models)
    if flags is None:
        return plan
    with_liger, worst = plan.changed(flags, LIGER, "").peak, replace(plan, loss_share=1.0).peak
    if with_liger is None or worst is None:
        return plan
    worst_gib = worst.prediction.process_gib
    if worst_gib - with_liger.prediction.process_gib < WORTH * worst_gib:
        return plan
    return plan.changed(flags, LIGER, "never holds all logits")


def say_what_liger_saves(plan: Plan) -> Plan:
    """The plan whose reason for Liger speaks of its own micro-batch, where `solve_memory` has switched it on."""
    setting = plan.settings.get("use_liger_kernel")
    if setting is None or setting.source != LIGER:
        return plan
    without = plan.with_settings({"use_liger_kernel": replace(setting, value=False)})
    peaks = plan.peak, without.peak, replace(without, loss_share=1.0).peak
    known = [peak.prediction.process_gib for peak in peaks if peak]
    if len(known) < len(peaks):
        return plan
    with_gib, without_gib, worst_gib = known
    worst = f" (of {worst_gib:.1f} where every token carries loss)" if worst_gib > without_gib else ""
    why = f"{setting.why}: micro-batch {plan.batch.micro} takes {with_gib:.1f} instead of {without_gib:.1f} GiB{worst}"
    changes = tuple(replace(change, why=why) if change.by == LIGER else change for change in plan.changes)
    return replace(plan.with_settings({"use_liger_kernel": replace(setting, why=why)}), changes=changes)


def what_limits(plan: Plan, peak: Peak, own: int) -> str:
    """Why the micro-batch of a solved plan is no larger, for people; `own` is the one of its preset."""
    largest, batch = peak.largest_micro_batch, plan.batch
    rows, device = batch.micro * batch.accumulation, plan.hardware.device
    if not peak.fits and not largest:
        return "not even one row fits"
    if not largest:
        return f"{THE_MICRO_BATCH} is the least there is, and fits just so"
    step = largest * batch.data_parallel
    would = f"{largest} would fit, with --effective-batch {math.ceil(batch.effective / step) * step}"
    if batch.micro == rows < largest:
        copies = batch.data_parallel
        share = f"{batch.effective} rows ÷ {copies} {device}{'s' * (copies > 1)} leave {rows} for each"
        return f"{THE_MICRO_BATCH} is all that a step has: {share}; {would}"
    if plan.model.multimodal and batch.micro == own < largest:
        return f"{THE_MICRO_BATCH} is the preset's: how many images a row has is not known"
    smaller = f"; the preset's own {own} want a larger {device}" if largest < own else ""
    if batch.micro < largest:
        return f"{THE_MICRO_BATCH} is the largest that divides the {rows} rows of one {device}: {would}{smaller}"
    return f"{THE_MICRO_BATCH} is the largest that fits{smaller}"


def say_what_limits(plan: Plan, limit: str) -> Plan:
    """The plan whose solved micro-batch has that for its reason: one reason, wherever it is read."""
    micro = plan.settings[BATCH_FLAGS[0]]
    if micro.source != MEMORY:
        return plan
    return plan.with_settings({BATCH_FLAGS[0]: replace(micro, why=limit)})


def _with_largest(plan: Plan, peak: Peak) -> Plan:
    largest = peak.largest_micro_batch
    if plan.model.multimodal:  # how many images a row has is not known, so no more is taken than the preset says
        largest = min(largest, plan.batch.micro)
    return plan.with_batch(plan.batch.with_micro(max(1, largest)), MEMORY, "")
