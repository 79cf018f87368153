"""Is what came out still what was trained? The numbers of the comparison, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.runs.trained.export.formats import LOST, TOLD

if TYPE_CHECKING:
    from tunekit.runs.trained.export.formats import Gate


@dataclass(frozen=True)
class Parity:
    """How near an export is to the trained model, on the answers that the latter gave.

    Attributes:
        prompts, tokens: of these answers.
        top1: share of their tokens that both models would give first.
        kl: mean Kullback-Leibler divergence from the trained model, in nats a token.
        base: the same of the model that was trained on; None where there is nothing to compare.
    """

    prompts: int
    tokens: int
    top1: float
    kl: float
    base: float | None

    def problem(self, gate: Gate) -> str:
        """What is wrong with it; empty where nothing is."""
        if self.base is not None and self.base >= TOLD and self.kl >= LOST * self.base:
            return (
                f"the training was lost: it is about as far from the trained model (KL {self.kl:.2g}) as the model "
                f"before it ({self.base:.2g})"
            )
        if self.top1 < gate.top1 or self.kl > gate.kl:
            wanted = f"{gate.top1:.0%} and {gate.kl:g} are expected"
            return f"it answers otherwise than the trained model: {self.top1:.1%} the same, KL {self.kl:.2g}; {wanted}"
        return ""

    def fails(self, gate: Gate) -> bool:
        """Whether what is wrong is reason to keep nothing: lost training always, distance where the gate says so."""
        lost = self.base is not None and self.base >= TOLD and self.kl >= LOST * self.base
        return lost or (gate.fails and bool(self.problem(gate)))

    def in_words(self) -> str:
        """For people: one line."""
        of = f"{self.tokens} tokens of {self.prompts} answers"
        untrained = ""
        if self.base is not None:
            untrained = f"; the model before training: {self.base:.2g}"
            if self.base < TOLD:
                untrained += " (training changed almost nothing, so that losing it could not be seen)"
        return f"{self.top1:.1%} of {of} the same, KL {self.kl:.2g}{untrained}"
