"""Where a run could go: every card, alone and in a machine of 2, 4 or 8, on which it fits, with time and cost."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.hardware import CARDS, GIB_PER_GB, choose_hardware
from tunekit.plan.measured import rows_measured
from tunekit.plan.planner import make_plan
from tunekit.plan.savings import LIGER_MODELS
from tunekit.plan.schedule import schedule_of
from tunekit.runs.prepare import time_of
from tunekit.speed.cards import Untold, rates_of

if TYPE_CHECKING:
    from tunekit.hardware import Hardware
    from tunekit.plan.measured import Measured
    from tunekit.plan.plan import Plan
    from tunekit.plan.planner import Facts
    from tunekit.plan.request import Request
    from tunekit.plan.schedule import Schedule
    from tunekit.speed.duration import Duration

COUNTS = (1, 2, 4, 8)
"""GPUs of a machine that are tried."""


@dataclass(frozen=True)
class Place:
    """Some GPUs on which a run fits.

    Attributes:
        micro: the micro-batch that it would have there.
        gib: that it takes of a GPU, of `card_gib`.
        assumed: the rate of the card is no measured one.
    """

    card: str
    gpus: int
    micro: int
    gib: float
    card_gib: float
    duration: Duration
    assumed: bool

    def document(self) -> dict[str, Any]:
        """It as plain data."""
        names = ("card", "gpus", "micro", "gib", "card_gib", "assumed")
        return {**{name: getattr(self, name) for name in names}, "time": self.duration.document()}


@dataclass(frozen=True)
class Places:
    """All of them, the quickest first."""

    found: tuple[Place, ...]

    @property
    def quickest(self) -> Place:
        """The one that ends first."""
        return self.found[0]

    @property
    def cheapest(self) -> Place:
        """The one that costs least; where not all prices are known, among those; without any, in GPU-hours."""
        priced = [place for place in self.found if place.duration.price]
        return min(priced or self.found, key=lambda place: place.duration.gpu_hours * (place.duration.price or 1))


@dataclass(frozen=True)
class Counted:
    """The rows of a run: of a plan's batch, its steps; and the rows themselves, where they were measured."""

    effective: int
    schedule: Schedule
    rows: Measured | None = None

    def on(self, plan: Plan) -> tuple[Schedule, Measured | None]:
        """The steps and rows of another plan for the same dataset."""
        if self.rows is None:
            limited = plan.get("max_steps") is not None
            share = 1.0 if limited else self.effective / plan.batch.effective
            return replace(self.schedule, steps=max(1, math.ceil(self.schedule.steps * share))), None
        rows = rows_measured(plan, self.rows.lengths)
        held = rows.samples_per_row if plan.packed else None
        return schedule_of(plan, rows.lengths.total, held=held) or self.schedule, rows


def places_for(request: Request, facts: Facts, counted: Counted) -> Places:
    """Every place that fits. Raises TunekitError where there is none, with the reason."""
    rows = counted.rows
    if rows:
        facts = replace(facts, loss_share=rows.heaviest_share or None, row_tokens=rows.seq_len)
    facts = replace(facts, packages=None, liger_models=LIGER_MODELS, memory_correction=1.0)
    found, reasons = [], ["it fits no card whose speed is known"]
    for name in known_cards():
        for count in COUNTS:
            place, why = _place(request, replace(facts, hardware=_machine(name, count)), counted)
            if place:
                found.append(place)
            elif why:
                reasons.append(why)
    if not found:
        raise TunekitError(f"no place was found: {reasons[-1]}")
    return Places(tuple(sorted(found, key=lambda place: place.duration.seconds)))


def known_cards() -> list[str]:
    """Names for ``--gpus`` of the cards whose speed is known, each once, the smaller ones first."""
    names: dict[tuple[str, float], str] = {}
    for name, (called, size, _) in CARDS.items():
        with contextlib.suppress(Untold):
            names.setdefault((rates_of(called).name, size), name)
    return sorted(names.values(), key=lambda name: CARDS[name][1])


def _machine(name: str, count: int) -> Hardware:
    return choose_hardware(f"{count}x{name}")


def _place(request: Request, facts: Facts, counted: Counted) -> tuple[Place | None, str]:
    """The place that a machine is, or why it is none; no reason where it does not fit."""
    try:
        plan = make_plan(request, facts)
    except TunekitError as error:
        return None, error.message
    peak, gpu = plan.peak, plan.hardware.gpus[0]
    if peak is None or not peak.fits:
        return None, ""
    made, why = time_of(plan, *counted.on(plan), request.prices)
    if made is None:
        return None, why
    needs = peak.prediction.process_gib
    size = f"{gpu.name} ({round(gpu.total_gib / GIB_PER_GB)} GB)"
    assumed = rates_of(gpu.name).source == "assumed"
    return Place(size, len(plan.hardware.gpus), plan.batch.micro, needs, peak.card_gib, made, assumed), ""
