"""What was read of another tool's file: which program is called, with which keys, in which environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One key of a configuration, or one flag of a command.

    Attributes:
        key: as it stands there, without dashes; of a nested table dotted, as in ``model.lora_config.r``.
        value: a str, int, float, bool or None; a list or a dict of them; of a flag with several words the list of them.
        line: where it stands, from 1; None where that is not known.
    """

    key: str
    value: Any
    line: int | None = None


@dataclass(frozen=True)
class Source:
    """One call of a program, or one file of settings; a script may hold several.

    Attributes:
        program: the words that say what is called, launchers taken off: ``("llamafactory-cli", "train")``,
            ``("swift", "sft")``, ``("src/resonance/dpo.py",)``; empty for a file of settings alone.
        entries: its keys in the order of the file, those of a configuration that a call names first and its own flags
            behind them; the last of a repeated key counts.
        env: variables that are set for it.
        world: processes that the launcher starts in all (torchrun, accelerate, deepspeed, ``NPROC_PER_NODE``); None
            where nothing says so.
        folder: where relative paths begin.
        path: the file; None for standard input.
        unread: what could not be read without running it, ``$(…)`` above all, each in words with its line.
        text: the file as it stands, for a dialect that parses it by itself.
    """

    program: tuple[str, ...]
    entries: tuple[Entry, ...]
    folder: Path
    path: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    world: int | None = None
    unread: tuple[str, ...] = ()
    text: str = ""

    def values(self) -> dict[str, Any]:
        """The value of each key; the last of a repeated one."""
        return {entry.key: entry.value for entry in self.entries}
