"""The effective batch: the one promise that no GPU count, no preset and no retry may break."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tunekit.errors import TunekitError

MINIMUM_EFFECTIVE = 32
"""Rows an optimizer step sees at the least. From the users' guide: keep the total batch at 32 or more."""

MOST = 2**20
"""Rows a step, copies or rows of a group at the most: a thousand times what large trainings take."""


@dataclass(frozen=True)
class Batch:
    """How the rows of one optimizer step are spread.

    Attributes:
        micro: rows that one GPU computes at once (``per_device_train_batch_size``).
        accumulation: micro-batches added up before a step (``gradient_accumulation_steps``).
        data_parallel: model copies that work side by side: world size / (tensor x sequence parallel size).
    """

    micro: int
    accumulation: int
    data_parallel: int = 1

    @property
    def effective(self) -> int:
        """Rows an optimizer step."""
        return self.micro * self.accumulation * self.data_parallel

    def shrink(self) -> Batch | None:
        """The same effective batch, to the row, with at most half the micro-batch; None at micro-batch 1."""
        return None if self.micro == 1 else self.with_micro(self.micro // 2)

    def with_micro(self, limit: int) -> Batch:
        """The same effective batch with the largest micro-batch that is not above `limit` and divides it."""
        rows = self.micro * self.accumulation
        micro = _largest_divisor(rows, limit)
        return replace(self, micro=micro, accumulation=rows // micro)

    def equation(self, device: str = "GPU") -> str:
        """For people: ``6 × 6 accumulation × 1 GPU = 36``."""
        plural = "s" if self.data_parallel > 1 and device == "GPU" else ""
        copies = f"{self.data_parallel} {device}{plural}"
        return f"{self.micro} × {self.accumulation} accumulation × {copies} = {self.effective}"


def solve_batch(micro: int, effective: int, data_parallel: int = 1, multiple_of: int = 1) -> Batch:
    """The batch that keeps `effective` rows a step on `data_parallel` copies with at most `micro` rows a GPU.

    The effective batch is met exactly whenever it can be divided among the copies, by lowering the micro-batch to a
    divisor. Else it is rounded up to the nearest one that leaves the micro-batch at half of `micro` or more, so that a
    prime number of rows does not end in micro-batch 1. It is a multiple of `multiple_of` (GRPO: ``num_generations``).
    Raises TunekitError where a number is below its minimum, for `effective` `MINIMUM_EFFECTIVE`.
    """
    for name, number, least in (
        ("micro-batch", micro, 1),
        ("effective batch", effective, MINIMUM_EFFECTIVE),
        ("data parallel size", data_parallel, 1),
        ("num_generations", multiple_of, 1),
    ):
        if number < least:
            hint = "tunekit never trains below 32 rows a step" if least == MINIMUM_EFFECTIVE else None
            raise TunekitError(f"the {name} must be {least} or more, not {number}", hint)
        if number > MOST:
            raise TunekitError(f"the {name} must be {MOST:,} or less")
    step = math.lcm(data_parallel, multiple_of) // data_parallel  # rows of one copy come in steps of this
    rows = math.ceil(effective / (data_parallel * step)) * step
    if rows * data_parallel != effective:
        wanted = math.ceil(min(micro, rows) / 2)
        while _largest_divisor(rows, micro) < wanted:
            rows += step
    fitted = _largest_divisor(rows, micro)
    return Batch(fitted, rows // fitted, data_parallel)


def _largest_divisor(number: int, limit: int) -> int:
    return next(divisor for divisor in range(min(number, limit), 0, -1) if number % divisor == 0)
