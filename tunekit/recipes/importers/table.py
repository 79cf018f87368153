"""The table of a dialect: what becomes of each key of another tool. One TOML file each, in ``tables/``.

A row is named as the key is there (dotted where nested; ``*`` stands for one name or number). It holds exactly one of

    to = "max_length"           a flag of ms-swift that gets the value
    by = "samples"              a function of the dialect, which knows more than a row can say
    default = "…"               nothing to write: ms-swift does the same by itself, and why
    elsewhere = "…"             done in another way, and where
    lost = "…"                  cannot be had, and why

and may hold ``why`` (for people), ``values = {all = "all-linear"}`` ("" where the flag is to be left out), ``absent =
VALUE``: the value that the other tool takes where the key is not written, translated as if it stood there wherever
ms-swift's own default is another one; and
``only = ["dpo"]``: the commands (``sft``), kinds of RLHF (``dpo``) and of tuning (``lora``) in which `absent` counts,
which are all that train where it is left out. A row that is ``lost`` may name with ``harmless = VALUE`` (or a list of
them) what loses nothing: the key is then the same by default. ``sets`` names the flags that a function
may set, for readers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.files import read_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

TABLES = Path(__file__).parent / "tables"
KINDS = ("to", "by", "default", "elsewhere", "lost")
MORE = ("why", "values", "absent")


@dataclass(frozen=True)
class KeyRule:
    """What becomes of one key; `kind` is one of `KINDS` and `text` its value in the table."""

    key: str
    kind: str
    text: str
    why: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    absent: Any = None
    only: tuple[str, ...] = ()
    harmless: tuple[Any, ...] = ()
    sets: tuple[str, ...] = ()


def read_table(name: str) -> dict[str, KeyRule]:
    """The rules of ``tables/NAME.toml`` by their keys."""
    rows, _ = read_toml(TABLES / f"{name}.toml")
    return {key: _rule(key, row) for key, row in rows.items()}


@cache
def swift_defaults() -> Mapping[str, Mapping[str, Any]]:
    """What ms-swift 4.6 takes by itself: flag → value, under ``all``, and by command or kind of RLHF."""
    return read_toml(TABLES / "swift.toml")[0]


def _rule(key: str, row: Mapping[str, Any]) -> KeyRule:
    (kind,) = (kind for kind in KINDS if kind in row)
    harmless = row.get("harmless", ())
    return KeyRule(
        key,
        kind,
        row[kind],
        only=tuple(row.get("only", ())),
        sets=tuple(row.get("sets", ())),
        harmless=tuple(harmless) if isinstance(harmless, list) else (harmless,),
        **{name: row[name] for name in MORE if name in row},
    )
