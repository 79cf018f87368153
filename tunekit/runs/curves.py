"""The curves of a run: every number that ms-swift logged, by step, and the few words that sum one up.

What the terminal, the picture and the page say of a run's numbers comes from here, so that they cannot disagree.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunekit.engine.logs import LogTail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tunekit.stages import Stage

PLACE = "global_step/max_steps"
RATE, SPEED, MEMORY, NORM, EVALUATED = "learning_rate", "train_speed(s/it)", "memory(GiB)", "grad_norm", "eval_loss"
"""ms-swift's names."""

EXACT = (RATE, SPEED, MEMORY, "epoch")
"""Numbers that are no sample of anything: never smoothed."""

FEW = 60
"""Points up to which a curve is shown as it is."""

SHORTER = {
    "loss": "loss",
    "eval_loss": "eval",
    "eval_rewards/accuracies": "acc",
    "rewards/accuracies": "acc",
    "rewards/margins": "margin",
    "reward": "reward",
    "objective/scores": "reward",
}
"""The word of a result in a table."""


@dataclass(frozen=True)
class Logged:
    """What ``logging.jsonl`` holds: numbers by ms-swift's name and step, and its last line.

    A step that was repeated after a retry counts once, as it came out last; `odd` are the steps at which a number was
    none (NaN, infinity), by name. `total` is the step at which the run ends.
    """

    series: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    odd: Mapping[str, frozenset[int]] = field(default_factory=dict)
    step: int = 0
    total: int = 0
    summary: Mapping[str, Any] = field(default_factory=dict)

    def of(self, key: str) -> Mapping[int, float]:
        """One of the series; empty where it was not logged."""
        return self.series.get(key, {})


def read_logged(path: Path) -> Logged:
    """All that a run has logged so far."""
    series: dict[str, dict[int, float]] = {}
    odd: dict[str, set[int]] = {}
    step = total = 0
    summary: dict[str, Any] = {}
    for entry in LogTail(path).new():
        if "last_model_checkpoint" in entry:
            summary = {name: value for name, value in entry.items() if name != "log_history"}
        place = re.fullmatch(r"(\d{1,15})/(\d{1,15})", str(entry.get(PLACE, "")))
        if not place:
            continue
        step, total = int(place[1]), int(place[2])
        ended = "train_runtime" in entry
        for key, value in entry.items():
            number = _number(value)
            if number is None or (ended and key in (SPEED, "epoch")):
                continue
            if math.isfinite(number):
                series.setdefault(key, {})[step] = number
                odd.get(key, set()).discard(step)
            else:
                series.get(key, {}).pop(step, None)
                odd.setdefault(key, set()).add(step)
    ordered = {key: dict(sorted(points.items())) for key, points in series.items() if points}
    return Logged(ordered, {key: frozenset(steps) for key, steps in odd.items() if steps}, step, total, summary)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def digits_of(value: float) -> str:
    """A number for people, four digits of it however small it is: a learning rate of 2.5e-06 is not 2e-06."""
    return f"{0.0 if abs(value) < NOTHING else value:.4g}"


NOTHING = 1e-12
"""What is 0 but for the rounding of floats."""


def smoothed(values: Sequence[float]) -> list[float]:
    """The mean of each value's neighbours, a thirtieth of all on each side, without the highest and the lowest.

    It does not lag, and a single spike does not lift it.
    """
    half = max(2, len(values) // 30)
    found = []
    for at in range(len(values)):
        near = sorted(values[max(0, at - half) : at + half + 1])
        near = near[1:-1] if len(near) > 4 else near
        found.append(sum(near) / len(near))
    return found


def drawn(key: str, points: Mapping[int, float]) -> dict[int, float]:
    """A curve as it is read off: smoothed where it has many points and is a sample, else as it is."""
    if len(points) <= FEW or key in EXACT or key.startswith("eval_"):
        return dict(points)
    return dict(zip(points, smoothed(list(points.values())), strict=True))


@dataclass(frozen=True)
class Reached:
    """The number that tells most of a run: `value` by ms-swift's name `key`, reached at `step`; `first` for training.

    An evaluation's is its lowest.
    """

    key: str
    value: float
    step: int
    first: float | None = None

    @property
    def word(self) -> str:
        """For a table: ``eval``, ``acc``, ``loss``."""
        return SHORTER.get(self.key, self.key)


def reached_by(stage: Stage, logged: Logged) -> Reached | None:
    """What a run has come to: its best evaluation, else the stage's own number at the end; None where none is logged.

    A stage of pairs is told by the accuracy of the evaluation where that is logged.
    """
    for key in ("eval_rewards/accuracies", EVALUATED):
        points = logged.of(key)
        if points and (key == EVALUATED or "rewards/accuracies" in stage.shows):
            best = (min if key == EVALUATED else max)(points, key=lambda step: points[step])
            return Reached(key, points[best], best)
    for key in stage.shows:
        curve = drawn(key, logged.of(key))
        if curve:
            steps = list(curve)
            return Reached(key, curve[steps[-1]], steps[-1], curve[steps[0]] if len(steps) > 1 else None)
    return None
