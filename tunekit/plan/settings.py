"""A setting knows its value, where the value comes from, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Value: TypeAlias = str | int | float | bool | list[str]

UNSET = "None"
"""The word by which an optional flag of ms-swift is left to its default."""


@dataclass(frozen=True)
class Source:
    """Where a setting comes from.

    Attributes:
        kind: ``preset``, ``stage``, ``overlay``, ``strategy``, ``config``, ``environment``, ``command line``,
            ``file``, ``recipe``, ``registry``, ``model``, ``rule``, ``batch``, ``memory``, ``retry``,
            ``run`` or ``tunekit``.
        name: of the preset, the rule, the file; the number of the retry.
        origin: the preset that a preset inherits it from.
    """

    kind: str
    name: str = ""
    origin: str = ""

    @property
    def explicit(self) -> bool:
        """Whether the user said it for this run: rules may refuse such a setting, never change it."""
        return self.kind in ("command line", "file", "recipe")

    def __str__(self) -> str:
        colon = self.kind in ("rule", "retry")
        text = f"{self.kind}:{self.name}" if colon else f"{self.kind} {self.name}".rstrip()
        return f"{text} ← {self.origin}" if self.origin else text


COMMAND_LINE = Source("command line")
TUNEKIT = Source("tunekit")


@dataclass(frozen=True)
class Setting:
    """One decided value, as ms-swift takes it; `why` is one line for people, empty where nothing was decided."""

    value: Value
    source: Source
    why: str = ""

    @property
    def explicit(self) -> bool:
        """Whether the user said it for this run."""
        return self.source.explicit

    @property
    def whole(self) -> int:
        """The value, which is a whole number. Raises TypeError where it is none."""
        return whole_number(self.value)

    def render(self) -> list[str]:
        """The words that follow the flag on a command line: several for a list."""
        if isinstance(self.value, list):
            return [str(item) for item in self.value]
        return [text(self.value)]


def text(value: Value) -> str:
    """A value as ms-swift reads it: ``true``, ``0.0002``, ``q_proj v_proj``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return " ".join(value)
    return str(value)


def whole_number(value: Value) -> int:
    """A value that is a whole number. Raises TypeError where it is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return value


def overlaid(layers: Iterable[Mapping[str, Setting]]) -> dict[str, Setting]:
    """`layers` laid over one another, weakest first: the last one that names a setting decides it."""
    return {name: setting for layer in layers for name, setting in layer.items()}


def layer_of(source: Source, values: Mapping[str, Value], why: Mapping[str, str] | None = None) -> dict[str, Setting]:
    """Plain values as settings that come from one place; `why` gives the reasons that are known."""
    return {name: Setting(value, source, (why or {}).get(name, "")) for name, value in values.items()}
