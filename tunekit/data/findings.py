"""What a check has found in files of rows: of each kind of problem how many rows have it, and the first of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

ERROR, WARNING, NOTE = "error", "warning", "note"
UNREADABLE, FORM, ROW, ORDER, PICTURE = "unreadable", "form", "row", "order", "picture"
REPEATED, SHARED, LONG, DAMAGED, KEY, COLUMN = "repeated", "shared", "long", "damaged", "key", "column"

LEVELS = {
    **dict.fromkeys((UNREADABLE, FORM, ROW, PICTURE), ERROR),
    **dict.fromkeys((ORDER, REPEATED, SHARED, LONG, DAMAGED, KEY), WARNING),
    COLUMN: NOTE,
}
"""Kinds of findings, in the order in which they are told. An error is what is not trained on, or stops the training."""

PLACES = 5
"""Rows of a finding that are named."""

GROUPS = 60
"""Findings of a kind that are told apart; a file of noise has as many as rows."""


@dataclass
class Finding:
    """One problem.

    Attributes:
        problem: of the first row that has it.
        count: rows that have it; 0 for what is one of a whole file.
        places: the first of them: file and number of line or row.
    """

    kind: str
    problem: str
    count: int = 0
    places: list[tuple[str, int]] = field(default_factory=list)

    @property
    def level(self) -> str:
        """`ERROR`, `WARNING` or `NOTE`."""
        return LEVELS[self.kind]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        places = [{"file": file, "number": number} for file, number in self.places]
        return {"level": self.level, "kind": self.kind, "problem": self.problem, "rows": self.count, "first": places}


class Findings:
    """Problems, alike ones as one."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], Finding] = {}

    def add(
        self, kind: str, problem: str, file: str, number: int = 0, group: str | None = None, rows: int | None = None
    ) -> None:
        """Add one of a row, or of a file. Numbers tell no problems apart; `group` is another word for what is alike."""
        key = (kind, re.sub(r"\d+", "#", problem) if group is None else group)
        if key not in self._found and sum(found == kind for found, _ in self._found) >= GROUPS:
            key = (kind, "")
        self._put(key, Finding(kind, problem, rows if rows is not None else bool(number), [(file, number)]))

    def _put(self, key: tuple[str, str], new: Finding) -> None:
        found = self._found.setdefault(key, Finding(new.kind, new.problem))
        found.count += new.count
        found.places += new.places[: PLACES - len(found.places)]

    def take(self, others: Findings, shift: int) -> None:
        """Add those of a part of a file that begins behind so many lines."""
        for key, new in others._found.items():
            places = [(file, number + shift) for file, number in new.places]
            self._put(key, Finding(new.kind, new.problem, new.count, places))

    def all(self) -> list[Finding]:
        """All, the most serious first, and of these the most frequent."""
        order = list(LEVELS)
        return sorted(self._found.values(), key=lambda one: (order.index(one.kind), -one.count))

    def __len__(self) -> int:
        return len(self._found)
