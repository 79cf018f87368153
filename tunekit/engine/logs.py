"""Read ``logging.jsonl``, in which ms-swift writes one JSON object each time it logs."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Progress:
    """Where a run stands: its optimizer steps (0 before the first log line), and what the last lines said.

    Attributes:
        memory_gib: the most GPU memory that PyTorch reserved; None on a CPU.
        predicted_gib: what was predicted of that before the start; None where it could not be.
        losses: of every logged step; a step that was repeated after a retry counts once, as it came out last.
    """

    step: int = 0
    total: int = 0
    loss: float | None = None
    learning_rate: float | None = None
    eval_loss: float | None = None
    seconds_per_step: float | None = None
    memory_gib: float | None = None
    predicted_gib: float | None = None
    losses: dict[int, float] = field(default_factory=dict)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds to the last step; None while the speed is not known."""
        return None if self.seconds_per_step is None else (self.total - self.step) * self.seconds_per_step

    def take(self, entry: dict[str, Any]) -> None:
        """Add one line of ``logging.jsonl``."""
        place = re.fullmatch(r"(\d+)/(\d+)", str(entry.get("global_step/max_steps", "")))
        if place:
            self.step, self.total = int(place[1]), int(place[2])
        for attribute, key in FIELDS.items():
            number = _number(entry.get(key))
            if number is not None:
                setattr(self, attribute, number)
        loss = _number(entry.get("loss"))
        if loss is not None and place:
            self.losses[self.step] = loss


FIELDS = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "eval_loss": "eval_loss",
    "seconds_per_step": "train_speed(s/it)",
    "memory_gib": "memory(GiB)",
}
"""Attributes of `Progress` and ms-swift's names for them."""


class LogTail:
    """Follows a ``logging.jsonl`` that another process writes; it need not exist yet.

    The first `skip` bytes belong to earlier attempts.
    """

    def __init__(self, path: Path, skip: int = 0) -> None:
        self._path, self._offset = path, skip

    def new(self) -> Iterator[dict[str, Any]]:
        """The objects written since the last call; a line that is not complete yet waits for the next one."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        complete, newline, _ = data.rpartition(b"\n")
        self._offset += len(complete) + len(newline)
        for line in complete.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # half a line, left by an attempt that was killed while it wrote
                continue
            if isinstance(entry, dict):
                yield entry


def read_progress(path: Path) -> Progress:
    """The state of a finished or interrupted run."""
    progress = Progress()
    for entry in LogTail(path).new():
        progress.take(entry)
    return progress


def read_summary(path: Path) -> dict[str, Any]:
    """The last line that ms-swift writes: ``last_model_checkpoint``, ``best_model_checkpoint``, …; empty without one.

    It is written after a failure too, so it says nothing about success.
    """
    found: dict[str, Any] = {}
    for entry in LogTail(path).new():
        if "last_model_checkpoint" in entry:
            found = entry
    return found


def _number(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None
