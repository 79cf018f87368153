"""What was written for ms-swift as it was, or for another tool, in today's names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.files import shortened
from tunekit.plan.flags import BOOLEANS, MODULES
from tunekit.plan.options import OPTIONS, canonical
from tunekit.plan.renamed import RENAMED, RENAMED_VALUES, SAME

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tunekit.plan.flags import FlagTable
    from tunekit.plan.renamed import Renamed
    from tunekit.plan.said import Said, Words


def in_todays_names(words: Words, flags: FlagTable) -> Words:
    """`words` with old names and values in today's, where they mean one thing only, and a note that says so.

    All others are left as they are: reading them refuses them with a hint. Of two that become the same, the command
    line is stronger than a file. Raises TunekitError where they stand in the same place.
    """
    known = OPTIONS.keys() | flags.by_command["rlhf"].keys()
    said: dict[str, Said] = {}
    written: dict[str, str] = {}
    made = []
    for one in words.said.values():
        now = [new for renamed in _translated(one, RENAMED, known) for new in _translated(renamed, RENAMED_VALUES, ())]
        for new in now:
            key = canonical(new.name)
            if key in said and said[key].words != new.words and said[key].source == new.source:
                hint = f"both set --{key}: give one of them"
                raise TunekitError(f"{written[key]} and {_typed(one)} exclude each other", hint)
            said[key] = new
            written[key] = _typed(one)
        if now != [one]:
            made.append(f"{_typed(one)} → {', '.join(map(_typed, now)) or 'left out: off is the default'}")
    note = (f"in today's names: {'; '.join(made)}",) if made else ()
    return replace(words, said=said, notes=(*words.notes, *note))


def _typed(said: Said) -> str:
    """As on a command line: ``--train_type lora``."""
    name = OPTIONS[said.name].spelled if said.name in OPTIONS else f"--{said.name}"
    return " ".join((name, *(shortened(word) for word in said.words)))


def _translated(said: Said, rows: Sequence[Renamed], known: Collection[str]) -> list[Said]:
    """What a table makes of an option: itself where its name is `known`, or no row says one thing."""
    named = [] if said.name in known else [row for row in rows if row.name == said.name]
    word = " ".join(said.words) or "true"
    meant = BOOLEANS.get(word.lower())
    exact = [row for row in named if row.value and (row.value.lower() == word.lower() or _is(row, meant))]
    row = next(iter(exact or [row for row in named if not row.value]), None)
    if row is None and named and meant is False and all(_is(row, True) for row in named):
        return []
    if row is None or row.asks or not row.now:
        return [said]
    return [replace(said, name=name.replace("-", "_"), words=_now(name, now, said)) for name, now in row.now.items()]


def _is(row: Renamed, meant: bool | None) -> bool:
    """Whether a row holds of that boolean, however it was written."""
    return meant is not None and BOOLEANS.get(row.value) is meant and row.value in ("true", "false")


def _now(name: str, now: str, said: Said) -> tuple[str, ...]:
    """The words of an option of today; lists of modules stood in one word, with commas."""
    if now != SAME:
        return (now.replace(SAME, " ".join(said.words)),)
    return tuple(" ".join(said.words).replace(",", " ").split()) if name in MODULES else said.words
