"""The tokens of a dataset's rows: how long they are, and how many carry loss, counted on a measured sample."""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass
from functools import cached_property

DRAWS = 200
"""Micro-batches that are drawn from the sample to find a heavy one."""


@dataclass(frozen=True)
class Sequence:
    """One text in tokens: all of them, those that are left where long rows are cut, and those of these with a label."""

    length: int
    trained: int
    loss: int


@dataclass(frozen=True)
class Lengths:
    """The tokens of a dataset.

    Attributes:
        names: of the files.
        total: rows of the dataset.
        rows: of the sample, each one text, or two where a pair is trained on.
        largest: tokens of the longest rows of the files, looked for among all by their size on disk.
        unusable: rows of the sample that ms-swift leaves out.
        problem: why, in its words; empty where it does not say.
    """

    names: tuple[str, ...]
    total: int
    rows: tuple[tuple[Sequence, ...], ...]
    largest: tuple[int, ...] = ()
    unusable: int = 0
    problem: str = ""

    @cached_property
    def tokens(self) -> list[int]:
        """Tokens of each row of the sample, of the longer text of a pair, in ascending order."""
        return sorted(max(text.length for text in row) for row in self.rows)

    @property
    def longest(self) -> int:
        """Tokens of the longest row that was found."""
        return max((*self.tokens[-1:], *self.largest))

    @property
    def mean(self) -> float:
        """Tokens of a row, on average."""
        return sum(self.tokens) / len(self.tokens)

    @property
    def median(self) -> float:
        """Tokens that half of the rows stay below."""
        middle = len(self.tokens) // 2
        return (self.tokens[middle] + self.tokens[-1 - middle]) / 2

    @property
    def p95(self) -> int:
        """Tokens that 95 of 100 rows do not exceed."""
        return self.tokens[max(0, -(-95 * len(self.tokens) // 100) - 1)]

    def over(self, max_length: int) -> int:
        """Rows of the sample that are longer than `max_length` tokens."""
        return len(self.tokens) - bisect_right(self.tokens, max_length)

    def seen(self, max_length: int | None) -> Seen:
        """What training sees of the sample when rows longer than `max_length` are dropped, or have been cut."""
        limit = max_length or self.longest
        return Seen(tuple(row for row in self.rows if all(text.trained <= limit for text in row)))

    def row_length(self, max_length: int | None) -> int:
        """Tokens of the longest row of a batch that is not packed: never more than `max_length`."""
        return min(self.longest, max_length or self.longest)


@dataclass(frozen=True)
class Seen:
    """Rows of a sample that are trained on."""

    rows: tuple[tuple[Sequence, ...], ...]

    @property
    def loss_share(self) -> float:
        """Of the tokens, those that carry loss: 0 to 1; 0 where there is no row."""
        texts = [text for row in self.rows for text in row]
        return sum(text.loss for text in texts) / max(1, sum(text.trained for text in texts))

    def packs(self, length: int) -> list[tuple[int, int]]:
        """The rows laid into packs of at most `length` tokens: of each, how many rows, and tokens with loss.

        Long rows first, each into the fullest pack that has room: ms-swift's ``--packing_strategy binpack``.
        """
        sizes = [(sum(text.trained for text in row), sum(text.loss for text in row)) for row in self.rows]
        packs: list[list[int]] = []
        filled: list[tuple[int, int]] = []  # tokens and number of each pack, in ascending order
        for size, loss in sorted(sizes, reverse=True):
            place = bisect_right(filled, (length - size, len(packs)))
            tokens, number = filled.pop(place - 1) if place else (0, len(packs))
            if not place:
                packs.append([0, 0])
            packs[number][0] += 1
            packs[number][1] += loss
            insort(filled, (tokens + size, number))
        return [(rows, loss) for rows, loss in packs]

    def heaviest_share(self, micro_batch: int, length: int, *, packed: bool) -> float:
        """Of the tokens of a micro-batch, those that carry loss in a heavy one: that decides the peak of the memory.

        A micro-batch is so many rows or packs; a pack, or the longest row, has `length` tokens. Packs: the most that
        `DRAWS` micro-batches drawn at random hold; one row: the most that a row holds. Several rows that are not packed
        get logits from the first token with loss in any of them, which the estimate derives from the mean.
        """
        if not self.rows or (micro_batch > 1 and not packed):
            return self.loss_share
        if packed:
            import random

            draw = random.Random(0)  # noqa: S311 - the same draw every time, no secret
            losses = [loss for _, loss in self.packs(length)]
            most = max(sum(draw.choices(losses, k=micro_batch)) for _ in range(DRAWS))
        else:
            most = max(sum(text.loss for text in row) for row in self.rows)
        return min(1.0, most / (micro_batch * length))
