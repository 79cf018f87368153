"""What a recipe is: its stages, what each starts from, and the options of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tunekit.plan.flags import FlagTable
    from tunekit.stages import Stage

BASE = "base"
"""What ``from`` says where a stage starts from the model that is named, not from an earlier stage."""


@dataclass(frozen=True)
class Takes:
    """What a stage may say.

    Attributes:
        options: of tunekit's command line, as recipes write them, each with the words that it takes: 0, 1, or -1 for
            a list.
        refused: options that have no place in a recipe, and why.
        flags: of ms-swift.
    """

    options: Mapping[str, int]
    refused: Mapping[str, str]
    flags: FlagTable


@dataclass(frozen=True)
class Option:
    """What one option is set to: its words, as on a command line, and where they stand, for errors."""

    words: tuple[str, ...]
    where: str


@dataclass(frozen=True)
class Part:
    """One stage of a recipe.

    Attributes:
        start: the name of an earlier stage, a folder, or `BASE`.
        reward: the earlier stage whose reward model scores; empty where none does.
        merge: whether an adapter is merged before this stage; None leaves it to tunekit.
        options: all that hold for it, defaults included.
        where: file and line.
    """

    name: str
    stage: Stage
    start: str
    reward: str
    merge: bool | None
    options: Mapping[str, Option]
    where: str

    def words(self, takes: Takes) -> list[str]:
        """The words of ``tunekit TYPE …`` that say the same."""
        found: list[str] = []
        for name, option in self.options.items():
            flag = f"--{name.replace('_', '-') if name in takes.options else name}"
            kind = takes.options[name] if name in takes.options else -1 if self._is_list(name, takes) else 1
            if kind == 0:
                found += [flag] if option.words == ("true",) else []
            elif kind < 0:
                found += [flag, *option.words]
            else:
                found.append(f"{flag}={' '.join(option.words)}")
        return found

    def _is_list(self, name: str, takes: Takes) -> bool:
        return takes.flags.by_command[self.stage.command][name].kind == "list"


@dataclass(frozen=True)
class Recipe:
    """A file with its stages, in the order in which they run."""

    name: str
    path: Path
    title: str
    text: str
    parts: tuple[Part, ...]

    def part(self, name: str) -> Part:
        """The stage of that name. Raises TunekitError."""
        names = [part.name for part in self.parts]
        if name not in names:
            hint = did_you_mean(name, names) or f"its stages: {', '.join(names)}"
            raise TunekitError(f"{self.path} has no stage {name}", hint)
        return self.parts[names.index(name)]
