"""What runs on this machine really took of the GPU, so that the next prediction on the same card is better.

A JSON object a line in ``memory.jsonl`` of the cache folder: the card, the GiB predicted for PyTorch's allocator, and
those measured by ms-swift (its ``memory(GiB)``, which is ``torch.cuda.max_memory_reserved``).
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.files import cache_folder, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from tunekit.hardware import Hardware
    from tunekit.plan.plan import Plan
    from tunekit.plan.predict import Peak

KEPT = 50
"""Rows a machine remembers; drivers and libraries change, so old rows are let go."""

BOUNDS = (0.8, 1.5)
"""A correction beyond these would hide a mistake, such as another program on the GPU, rather than mend the estimate."""


def learned_correction(hardware: Hardware) -> float:
    """Measured ÷ predicted on this machine's kind of GPU: the median of the runs so far, 1 where there were none."""
    if not hardware.gpus:
        return 1.0
    import statistics  # brings fractions and decimal numbers with it, which a dry run without a GPU can do without

    ratios = [row["measured"] / row["predicted"] for row in _rows() if row.get("card") == hardware.gpus[0].name]
    return min(max(statistics.median(ratios), BOUNDS[0]), BOUNDS[1]) if ratios else 1.0


def remember(plan: Plan, peak: Peak, measured_gib: float) -> bool:
    """Keep the GiB that PyTorch reserved in a run; returns whether they say anything.

    A run that is not packed takes less than predicted whenever its rows are shorter than ``max_length``: it counts only
    where it took more.
    """
    predicted = peak.prediction.reserved_gib / peak.correction
    if not plan.packed and measured_gib < predicted:
        return False
    row = {"card": plan.hardware.gpus[0].name, "predicted": round(predicted, 3), "measured": round(measured_gib, 3)}
    rows = [*_rows(), {**row, "model": plan.model.id, "micro_batch": plan.batch.micro}][-KEPT:]
    try:
        write_atomically(_file(), "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    except OSError as error:
        raise TunekitError(f"{_file()} cannot be written: {error.strerror}") from error
    return True


def _file() -> Path:
    return cache_folder() / "memory.jsonl"


def _rows() -> list[dict[str, Any]]:
    try:
        lines = _file().read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        row = None
        with contextlib.suppress(
            ValueError, RecursionError
        ):  # of another version, or damaged: what is learned can be learned again
            row = json.loads(line)
        if isinstance(row, dict) and all(_positive(row.get(key)) for key in ("predicted", "measured")):
            rows.append(row)
    return rows


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and value > 0
