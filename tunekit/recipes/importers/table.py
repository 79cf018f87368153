"""The table of a dialect: what becomes of each key of another tool. One TOML file each, in ``tables/``.

A row is named as the key is there (dotted where nested; ``*`` stands for one name). It holds exactly one of

    to = "max_length"           a flag of ms-swift that gets the value (`values` maps some of them)
    by = "samples"              a function of the dialect, which knows more than a row can say
    default = "…"               nothing to write: ms-swift does the same by itself, and why
    elsewhere = "…"             done in another way, and where
    lost = "…"                  cannot be had, and why

and may hold ``why`` (for people), ``values = {all = "all-linear"}``, ``absent = VALUE``: the value that the other tool
takes where the key is not written, translated as if it stood there wherever ms-swift's own default is another one; and
``only = ["dpo"]``: the stages in which `absent` counts.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

TABLES = Path(__file__).parent / "tables"
KINDS = ("to", "by", "default", "elsewhere", "lost")


@dataclass(frozen=True)
class Rule:
    """What becomes of one key; `kind` is one of `KINDS` and `text` its value in the table."""

    key: str
    kind: str
    text: str
    why: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    absent: Any = None
    only: tuple[str, ...] = ()


def read_table(name: str) -> dict[str, Rule]:
    """The rules of ``tables/NAME.toml`` by their keys."""
    rows = tomllib.loads((TABLES / f"{name}.toml").read_text(encoding="utf-8"))
    return {key: _rule(key, row) for key, row in rows.items()}


def _rule(key: str, row: Mapping[str, Any]) -> Rule:
    (kind,) = (kind for kind in KINDS if kind in row)
    more = {name: row[name] for name in ("why", "values", "absent") if name in row}
    return Rule(key, kind, row[kind], only=tuple(row.get("only", ())), **more)
