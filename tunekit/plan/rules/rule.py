"""What a rule is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tunekit.plan.configuration import Configuration
    from tunekit.plan.settings import Value


@dataclass(frozen=True)
class Rule:
    """One row of a table of rules.

    Attributes:
        id: settings carry ``rule:<id>`` as their source.
        when: whether it applies.
        why: the reason, for people.
        source: where the fact comes from.
        change: flags and their new values, or what makes them; None drops the flag.
        refuse: whether nothing can be changed, so that the user must decide.
        hint: what to do, for refusals.
        quiet: not worth a line in the plan.
        same: flags of which ms-swift makes the same either way: they are changed although the user typed them.
    """

    id: str
    when: Callable[[Configuration], bool]
    why: str
    source: str
    change: Mapping[str, Value | Callable[[Configuration], Value | None] | None] = field(default_factory=dict)
    refuse: bool = False
    hint: str | None = None
    quiet: bool = False
    same: tuple[str, ...] = ()


@dataclass(frozen=True)
class Warn:
    """What a plan says without changing anything.

    Attributes:
        when: whether it says it.
        message: a line, with a place in braces for each of `values`.
        values: what stands in those places.
    """

    when: Callable[[Configuration], bool]
    message: str
    values: Callable[[Configuration], Mapping[str, object]] = lambda _: {}

    def line(self, plan: Configuration) -> str:
        """What it says of a plan."""
        return self.message.format_map(self.values(plan))
