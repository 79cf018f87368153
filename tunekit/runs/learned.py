"""What runs on this machine really took of the GPU, so that the next prediction on the same card is better.

Their pace is kept beside it, in ``pace.jsonl``.

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
    from tunekit.plan.pace import PaceSeen
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
    _keep(_file(), [*_rows(), {**row, "model": plan.model.id, "micro_batch": plan.batch.micro}])
    return True


def _keep(file: Path, rows: list[dict[str, Any]]) -> None:
    try:
        write_atomically(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows[-KEPT:]))
    except OSError as error:
        raise TunekitError(f"{file} cannot be written: {error.strerror}") from error


def _file() -> Path:
    return cache_folder() / "memory.jsonl"


def _rows() -> list[dict[str, Any]]:
    return _lines(_file(), ("predicted", "measured"))


def _lines(file: Path, numbers: tuple[str, ...]) -> list[dict[str, Any]]:
    """The rows of a file that hold these numbers, above 0."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        row = None
        with contextlib.suppress(
            ValueError, RecursionError
        ):  # of another version, or damaged: what is learned can be learned again
            row = json.loads(line)
        if isinstance(row, dict) and all(_positive(row.get(key)) for key in numbers):
            rows.append(row)
    return rows


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and value > 0


NEAR = 4.0
"""How many times as long rows may be and still say something of each other's pace."""
PACE_BOUNDS = (0.2, 5.0)
"""Ratios beyond these come from another program on the GPU, or another mistake that goes away."""


def learned_pace(plan: Plan) -> PaceSeen:
    """What earlier runs of this machine say of a plan's pace: those on such a card, by its method, with such rows.

    Nothing of a plan for another machine.
    """
    from tunekit.plan.pace import PaceSeen

    if not plan.hardware.gpus or plan.hardware.described:
        return PaceSeen()
    like = _pace_key(plan)
    rows = [row for row in _lines(_pace_file(), ("ratio", "length")) if like.items() <= row.items()]
    length = plan.row_tokens or plan.whole("max_length") or 0
    ratios = [row["ratio"] for row in rows if length and 1 / NEAR <= row["length"] / length <= NEAR]
    if not ratios:
        return PaceSeen()
    import statistics

    return PaceSeen(min(max(statistics.median(ratios), PACE_BOUNDS[0]), PACE_BOUNDS[1]), len(ratios))


def remember_pace(plan: Plan, step_seconds: float, predicted: float, tokens: float) -> None:
    """Keep the seconds that a step took against those that tables gave, and its tokens. Raises TunekitError."""
    length = plan.row_tokens or plan.whole("max_length")
    if not (plan.hardware.gpus and length and step_seconds > 0 and predicted > 0 and tokens > 0):
        return
    row = {
        **_pace_key(plan),
        "length": length,
        "micro_batch": plan.batch.micro,
        "model": plan.model.id,
        "seconds_a_token": step_seconds / tokens,
        "ratio": round(step_seconds / predicted, 4),
    }
    _keep(_pace_file(), [*_lines(_pace_file(), ("ratio", "length")), row])


def _pace_key(plan: Plan) -> dict[str, Any]:
    method = "full" if plan.full else "qlora" if plan.quantized or plan.model.bits else "lora"
    return {"card": plan.hardware.gpus[0].name, "gpus": plan.hardware.world, "method": method}


def _pace_file() -> Path:
    return cache_folder() / "pace.jsonl"
