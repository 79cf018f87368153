"""What a recipe is: its stages, what each starts from, and what each says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tunekit.plan.said import Said
    from tunekit.stages import Stage

BASE = "base"
"""What ``from`` says where a stage starts from the model that is named, not from an earlier stage."""


@dataclass(frozen=True)
class Part:
    """One stage of a recipe.

    Attributes:
        start: the name of an earlier stage, a folder, or `BASE`.
        reward: the earlier stage whose reward model scores; empty where none does.
        merge: whether an adapter is merged before this stage; None leaves it to tunekit.
        said: all that holds for it, defaults included, by the one name of each option or flag.
        where: file and line.
    """

    name: str
    stage: Stage
    start: str
    reward: str
    merge: bool | None
    said: Mapping[str, Said]
    where: str


@dataclass(frozen=True)
class Recipe:
    """A file with its stages, in the order in which they run; `env` are variables for all of them."""

    name: str
    path: Path
    title: str
    text: str
    parts: tuple[Part, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    def part(self, name: str) -> Part:
        """The stage of that name. Raises TunekitError."""
        names = [part.name for part in self.parts]
        if name not in names:
            hint = did_you_mean(name, names) or f"its stages: {', '.join(names)}"
            raise TunekitError(f"{self.path} has no stage {name}", hint)
        return self.parts[names.index(name)]
