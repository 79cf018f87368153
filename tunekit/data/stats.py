"""The lengths of a dataset's rows as bins and bounds, for a picture of them in a terminal or a file."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunekit.data.tokens import Lengths

BINS = 12
"""Bins at the most, the open one aside."""

BOUNDS = (512, 1024, 2048, 3072, 4096, 8192, 16384, 32768)
"""Lengths that people cut rows at."""


@dataclass(frozen=True)
class Bin:
    """Rows of the sample with more than `above` tokens, `most` at the most; None where there is no bound."""

    above: int
    most: int | None
    rows: int


def bins_of(lengths: Lengths) -> list[Bin]:
    """The sample by length, in bins as wide as round numbers; the longest of hundred share one without a bound."""
    tokens = lengths.tokens
    usual = tokens[max(0, -(-99 * len(tokens) // 100) - 1)]
    width = _round_up(usual / BINS)
    edges = list(range(0, usual + width, width))
    places = [bisect_left(tokens, edge + 1) for edge in edges]
    found = [
        Bin(low, high, end - start) for low, high, start, end in zip(edges, edges[1:], places, places[1:], strict=False)
    ]
    beyond = len(tokens) - places[-1]
    return [*found, Bin(edges[-1], None, beyond)] if beyond else found


def _round_up(number: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50 and so on."""
    scale = 1
    while True:
        for step in (1, 2, 5):
            if step * scale >= number:
                return step * scale
        scale *= 10


def longer_than(lengths: Lengths, max_length: int | None) -> dict[int, int]:
    """How many rows of the sample are longer than each usual bound, up to the first that none is, and `max_length`."""
    found: dict[int, int] = {}
    for bound in sorted({*BOUNDS, *([max_length] if max_length else [])}):
        over = lengths.over(bound)
        if over or bound == max_length or (found and min(found.values())):
            found[bound] = over
    return found
