"""A setting knows its value, where the value comes from, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Value: TypeAlias = str | int | float | bool | list[str]

COMMAND_LINE = "command line"
"""The source of what the user typed for this run. Rules may refuse such a setting, never change it."""


@dataclass(frozen=True)
class Setting:
    """One decided value.

    Attributes:
        value: as ms-swift takes it; `render` turns it into words of a command line.
        source: a preset, an overlay, the user's config, ``TUNEKIT_*``, the command line, ``rule:<id>``,
            ``batch`` or ``retry:<n>``.
        why: one line for people, empty where nothing was decided.
    """

    value: Value
    source: str
    why: str = ""

    @property
    def explicit(self) -> bool:
        """Whether the user typed it for this run."""
        return self.source == COMMAND_LINE

    def render(self) -> list[str]:
        """The words that follow the flag on a command line: several for a list."""
        if isinstance(self.value, list):
            return [str(item) for item in self.value]
        return [text(self.value)]


@dataclass(frozen=True)
class Layer:
    """Settings that come from one place, together with its name."""

    source: str
    settings: Mapping[str, Setting] = field(default_factory=dict)


def text(value: Value) -> str:
    """A value as ms-swift reads it: ``true``, ``0.0002``, ``q_proj v_proj``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return " ".join(value)
    return str(value)


def merge(layers: Iterable[Layer]) -> dict[str, Setting]:
    """Lay `layers` over one another, weakest first: the last one that names a setting decides it."""
    merged: dict[str, Setting] = {}
    for layer in layers:
        merged.update(layer.settings)
    return merged


def layer_of(source: str, values: Mapping[str, Value], why: Mapping[str, str] | None = None) -> Layer:
    """Make a layer of plain values; `why` gives the reasons that are known."""
    reasons = why or {}
    return Layer(source, {name: Setting(value, source, reasons.get(name, "")) for name, value in values.items()})
