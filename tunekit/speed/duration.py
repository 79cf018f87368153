"""The time of a whole run: its steps, evaluations, checkpoints and start, and the range that is said with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUGHLY = (0.75, 1.6)
"""Real ÷ predicted time of a run whose like was not seen on this machine: 75 % of 79 published rows from which nothing
was fitted lie within; it was read off them, and not checked on others."""

KNOWN = (0.75, 1.25)
"""The same once one run of this machine is known, whose pace then counts: 90 % of the rows of the same source and card,
as a median over 8 such pairs."""

GUESSED = 1.4
"""How much wider the range gets where the lengths of rows are guessed from the size of their file."""

START = 60.0
"""Seconds of imports, of building the dataset and of the first step; assumed."""
READS, WRITES = 1.0, 0.5
"""GB/s at which weights come from a disk and checkpoints go to it; assumed."""
QUANTILES = 8
"""Lengths that stand for all lengths of a dataset."""


def padded_lengths(tokens: Sequence[int], micro: int) -> list[int]:
    """Lengths of micro-batches, each as long as the longest of its `micro` rows; each stands for as many batches.

    `tokens` are those of the rows, in ascending order. The longest of m rows that are drawn at random is below the
    share q of all rows in one of q^m cases.
    """
    if not tokens:
        return []
    places = (((number + 0.5) / QUANTILES) ** (1 / micro) for number in range(QUANTILES))
    return [tokens[min(len(tokens) - 1, int(place * len(tokens)))] for place in places]


@dataclass(frozen=True)
class Duration:
    """How long a run will take.

    Attributes:
        training, evaluation, saving, start: seconds of each.
        tokens: of all micro-batches, real ones: without padding.
        gpus: that are busy with it.
        steps: of the optimizer.
        ratio: by which earlier runs of this machine took longer than the closed form says; it is counted in.
        range: real ÷ predicted time, the least and the most.
        known: how many runs of this machine its pace comes from; 0: from tables.
        notes: for people: what was assumed.
        price: of a GPU and hour; 0 where none was said.
    """

    training: float
    evaluation: float
    saving: float
    start: float
    tokens: float
    gpus: int
    steps: float = 1.0
    ratio: float = 1.0
    range: tuple[float, float] = ROUGHLY
    known: int = 0
    notes: tuple[str, ...] = ()
    price: float = 0.0

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return self.training + self.evaluation + self.saving + self.start

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the most seconds that are said."""
        return self.seconds * self.range[0], self.seconds * self.range[1]

    @property
    def tokens_per_second(self) -> float:
        """Of all GPUs together while it trains, without padding."""
        return self.tokens / self.training

    @property
    def gpu_hours(self) -> float:
        """Hours times GPUs."""
        return self.seconds * self.gpus / 3600

    @property
    def said(self) -> dict[str, float]:
        """What a run keeps of it until its end, to be compared with what it took: seconds, and tokens of a step."""
        step = self.training / self.steps
        low, high = self.bounds
        kept = {"seconds": self.seconds, "low": low, "high": high, "step": step, "unlearned_step": step / self.ratio}
        return {**kept, "tokens_a_step": self.tokens / self.steps}

    @property
    def cost(self) -> tuple[float, float, float] | None:
        """About, at least, at most; None without a price."""
        about = self.gpu_hours * self.price
        return (about, about * self.range[0], about * self.range[1]) if self.price else None

    def document(self) -> dict[str, Any]:
        """All of it as plain data."""
        low, high = self.bounds
        names = ("seconds", "tokens_per_second", "gpu_hours", "training", "evaluation", "saving", "start", "known")
        return {
            **{name: getattr(self, name) for name in names},
            "low": low,
            "high": high,
            "cost": dict(zip(("about", "low", "high"), self.cost, strict=True)) if self.cost else None,
            "notes": list(self.notes),
        }
