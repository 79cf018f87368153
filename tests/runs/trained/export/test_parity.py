"""What the numbers of a comparison mean."""

from __future__ import annotations

import pytest

from tunekit.runs.trained.export.formats import EIGHT, FOUR, WHOLE
from tunekit.runs.trained.export.parity import Parity


def parity(top1, kl, base=0.75):
    return Parity(24, 500, top1, kl, base)


@pytest.mark.parametrize(
    ("measured", "gate", "problem", "fails"),
    [
        (parity(0.99, 6e-4), WHOLE, "", False),
        (parity(0.96, 6e-4), WHOLE, "answers otherwise", True),
        (parity(0.99, 6e-3), WHOLE, "answers otherwise", True),
        (parity(0.946, 0.037), EIGHT, "", False),
        (parity(0.90, 0.06), EIGHT, "answers otherwise", False),
        (parity(0.866, 0.21), FOUR, "", False),
        (parity(0.728, 0.75), FOUR, "the training was lost", True),
        (parity(0.99, 0.004, 0.008), WHOLE, "", False),
        (parity(0.99, 0.001, None), WHOLE, "", False),
    ],
)
def test_gates(measured, gate, problem, fails):
    assert problem in measured.problem(gate)
    assert bool(measured.problem(gate)) == bool(problem)
    assert measured.fails(gate) == fails


def test_training_that_changed_nothing_is_said():
    assert "changed almost nothing" in parity(1.0, 0.0, 0.001).in_words()
