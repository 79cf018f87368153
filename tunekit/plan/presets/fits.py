"""What a preset takes of a GPU: numbers that stand in its file, so that nobody has to predict to see them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunekit.plan.models.model import parameters

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MARKS = ("# fits: written by scripts/trace-presets", "# end of fits")
"""Beginnings of the lines around the table in a preset's file; a script writes what stands between them."""

BLOCK = re.compile(rf"^{re.escape(MARKS[0])}.*?^{re.escape(MARKS[1])}[^\n]*\n?", re.DOTALL | re.MULTILINE)

BY = ("trace", "estimate")
"""How a number was found: `tunekit.memory.trace.client`, or `tunekit.memory.estimate` where the trace does not know."""

KEYS: Mapping[str, tuple[type, ...]] = {
    "peak_gib": (int, float),
    "gpu_gb": (int,),
    "loss_percent": (int,),
    "liger": (bool,),
    "by": (str,),
}
"""What a row of ``[fits]`` holds, all of it."""


@dataclass(frozen=True)
class Fits:
    """What one model needs of one GPU with a preset as it stands.

    Attributes:
        model: for people, with its size: ``Qwen2.5-7B``.
        peak_gib: of the whole process: what nvidia-smi shows.
        gpu_gb: the smallest common GPU that holds it, in GB as sold.
        loss_percent: of the tokens, those that carry loss.
        liger: with Liger's fused cross-entropy.
        by: one of `BY`.
    """

    model: str
    peak_gib: float
    gpu_gb: int
    loss_percent: int
    liger: bool
    by: str


def problem(row: Any) -> tuple[str, str] | None:
    """The key of a row of ``[fits]`` that is wrong, and what is wrong with it; None where all is well."""
    if not isinstance(row, dict):
        return "", "must be a list of tables: [{ peak_gib = …, … }]"
    for key, value in row.items():
        if key not in KEYS:
            return key, f"is not a key of a row of [fits]: it takes {', '.join(KEYS)}"
        if type(value) not in KEYS[key]:
            return key, f"has the wrong type: {value!r}"
    for key in KEYS:
        if key not in row:
            return key, "is missing"
    bounds = {
        "peak_gib": (row["peak_gib"] > 0, "more than 0"),
        "gpu_gb": (row["gpu_gb"] > 0, "more than 0"),
        "loss_percent": (0 <= row["loss_percent"] <= 100, "0 to 100"),
        "by": (row["by"] in BY, " or ".join(BY)),
    }
    wrong = [(key, f"must be {words}, not {row[key]}") for key, (holds, words) in bounds.items() if not holds]
    return wrong[0] if wrong else None


def without_fits(text: str) -> str:
    """A preset's file without its table: whoever changes a copy changes what it takes."""
    return re.sub(rf"\n*{BLOCK.pattern}", "\n", text, flags=BLOCK.flags)


def with_fits(text: str, block: str) -> str:
    """A preset's file with another table in the place of its own, or at its end; all else stays as it is."""
    if BLOCK.search(text):
        return BLOCK.sub(lambda _: block, text, count=1)
    return f"{text.rstrip()}\n\n{block}"


def by_model(rows: Iterable[Fits]) -> dict[str, list[Fits]]:
    """The rows of each model, in their order."""
    found: dict[str, list[Fits]] = {}
    for row in rows:
        found.setdefault(row.model, []).append(row)
    return found


def in_short(rows: Iterable[Fits]) -> str:
    """The smallest GPU for each size of model: ``7B: 40–80 (32)``, or a dash where nothing is known.

    In GB as sold: where few of the tokens carry loss, to where all do; in brackets with Liger, where that is less.
    """
    sizes: dict[str, list[Fits]] = {}
    for row in rows:
        billions = parameters(row.model)
        sizes.setdefault(f"{billions:.3g}B" if billions else row.model, []).append(row)
    return " · ".join(f"{size}: {_range(group)}" for size, group in sizes.items()) or "–"


def _range(rows: list[Fits]) -> str:
    """What the most demanding of several models needs."""
    needs: dict[tuple[bool, int], int] = {}
    for row in rows:
        kind = (row.liger, row.loss_percent)
        needs[kind] = max(needs.get(kind, 0), row.gpu_gb)
    plain = [size for (liger, _), size in needs.items() if not liger]
    liger = max((size for (with_liger, _), size in needs.items() if with_liger), default=None)
    if not plain:
        return f"({liger})"
    words = f"{min(plain)}–{max(plain)}" if min(plain) < max(plain) else str(max(plain))
    return f"{words} ({liger})" if liger is not None and liger < max(plain) else words
