"""What was read of another tool's file: which program is called, with which keys, in which environment."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
DECIMAL = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]{1,3})?")


class WrittenFloat(float):
    """A number that is shown as it was written: ``1e-4``, not 0.0001."""

    text: str

    def __new__(cls, text: str) -> WrittenFloat:
        """The number that `text` is. Raises ValueError where it is none."""
        number = super().__new__(cls, text.replace("_", ""))
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[type[WrittenFloat], tuple[str]]:
        return (WrittenFloat, (self.text,))


@dataclass(frozen=True)
class Entry:
    """One key of a configuration, or one flag of a command.

    Attributes:
        key: as it stands there, without dashes in front, ``-`` within as ``_`` where it is a flag; of a nested table
            dotted, as in ``model.lora_config.r`` (`translate_source` takes tables apart as the rules ask for it).
        value: a str, int, float, bool or None; a list or a dict of them; of a flag with several words the list of them.
        line: where it stands, from 1; None where that is not known.
    """

    key: str
    value: Any
    line: int | None = None


@dataclass(frozen=True)
class Origin:
    """One call of a program, or one file of settings; a script may hold several.

    Attributes:
        program: the words that say what is called, launchers taken off: ``("llamafactory-cli", "train")``,
            ``("swift", "sft")``, ``("src/resonance/dpo.py",)``, of ``python -m a.b`` ``("a.b",)``; empty for a file of
            settings alone.
        entries: its keys in the order of the file, those of a configuration that a call names first and its own flags
            behind them; the last of a repeated key counts.
        env: variables that are set for it.
        world: processes that the launcher starts in all (torchrun, accelerate, deepspeed, ``NPROC_PER_NODE``); None
            where nothing says so.
        folder: where relative paths begin.
        path: the file; None for standard input.
        unread: what could not be read without running it, ``$(…)`` above all, each in words with its line.
        text: the file as it stands, for a dialect that parses it by itself.
        line: of the call in its script.
        launch: options of the launcher (accelerate's ``config_file``, deepspeed's ``include``), dashes as underscores.
        lines: of keys inside tables, dotted.
    """

    program: tuple[str, ...]
    entries: tuple[Entry, ...]
    folder: Path
    path: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    world: int | None = None
    unread: tuple[str, ...] = ()
    text: str = ""
    line: int | None = None
    launch: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """The value of each key; the last of a repeated one."""
        return {entry.key: entry.value for entry in self.entries}


def typed_word(word: str) -> Any:
    """What a word of a command line says: a bool, a number that keeps its spelling, or the word itself."""
    if word.lower() in {"true", "false"}:
        return word.lower() == "true"
    if WHOLE.fullmatch(word):
        return int(word)
    return WrittenFloat(word) if DECIMAL.fullmatch(word) else word
