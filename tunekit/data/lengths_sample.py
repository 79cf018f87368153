"""A sample of a dataset's rows that stands for all: evenly spread, and beside it the largest ones."""

from __future__ import annotations

import heapq
import json
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGEST = 8
"""Rows of a file that are looked at since they are the largest on disk: a sample seldom meets the longest row."""


def spread(total: int, count: int) -> list[int]:
    """`count` of the numbers below `total`, evenly spread; all where there are no more."""
    if count >= total:
        return list(range(total))
    return [(2 * number + 1) * total // (2 * count) for number in range(count)]


def shares(totals: list[int], count: int) -> list[int]:
    """How many of `count` rows to take from each file: as many as it has of all rows, and one at least."""
    whole = max(1, sum(totals))
    return [min(total, max(1, round(count * total / whole))) if total else 0 for total in totals]


class Lines:
    """The rows of a JSON Lines or JSON file, read again each time: the file may be larger than the memory."""

    def __init__(self, path: Path) -> None:
        """Rows of `path`."""
        self.path = path
        with path.open(encoding="utf-8-sig") as file:
            first = next((line.lstrip()[0] for line in file if line.strip()), "")
        self.array = first == "["
        self.total = sum(1 for _ in self._lines())

    def _lines(self) -> Iterator[str]:
        if self.array:
            yield from (json.dumps(row) for row in json.loads(self.path.read_text(encoding="utf-8-sig")))
            return
        with self.path.open(encoding="utf-8-sig") as file:
            yield from (line for line in file if line.strip())

    def take(self, numbers: list[int]) -> list[str]:
        """The rows of these numbers, in ascending order."""
        wanted = iter(numbers)
        next_one = next(wanted, None)
        found = []
        for number, line in enumerate(self._lines()):
            if number == next_one:
                found.append(line.strip())
                next_one = next(wanted, None)
            if next_one is None:
                break
        return found

    def largest(self) -> list[str]:
        """The rows that are largest on disk."""
        return [line.strip() for line in heapq.nlargest(LARGEST, self._lines(), key=len)]


class Table:
    """The rows of another kind of file, as the library ``datasets`` has read them."""

    def __init__(self, rows: Any) -> None:
        """Rows of a ``datasets.Dataset``."""
        self.rows = rows
        self.total = len(rows)

    def take(self, numbers: list[int]) -> list[str]:
        """The rows of these numbers."""
        return [json.dumps(row) for row in self.rows.select(numbers)]

    def largest(self) -> list[str]:
        """The largest among the first rows that can be looked at in a moment."""
        return heapq.nlargest(LARGEST, (json.dumps(row) for row in islice(self.rows, 20_000)), key=len)
