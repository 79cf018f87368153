"""What another tool's run is in ms-swift, and what became of each of its keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tunekit.recipes.importers.source import Entry, Source
    from tunekit.recipes.importers.table import Rule

TRANSLATED, DEFAULT, ELSEWHERE, LOST, UNKNOWN = "translated", "default", "elsewhere", "lost", "unknown"
"""What becomes of a key; each ends in exactly one of them."""


@dataclass(frozen=True)
class Outcome:
    """What became of one key.

    Attributes:
        value: as it stood there; None for what the other tool takes by default, which `why` then says.
        flags: of ms-swift that it set, without dashes; ``env:NAME`` for a variable.
        where: what does it instead, for `ELSEWHERE`.
    """

    key: str
    status: str
    value: Any = None
    line: int | None = None
    flags: tuple[str, ...] = ()
    where: str | None = None
    why: str = ""


@dataclass
class Draft:
    """A run of ms-swift while it is put together.

    Attributes:
        command: ``sft``, ``pt``, ``rlhf``, ``export``, ``infer``, ``deploy``, …
        flags: of ms-swift, each with its words; a flag without words is a list of none.
        env: variables that are set for it; secrets are in `secrets` by name alone.
        micro, accumulation, world: the batch as it was; None where it is not known.
        warnings: what the user must know of the whole.
    """

    source: Source
    command: str = "sft"
    flags: dict[str, list[str]] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    micro: int | None = None
    accumulation: int | None = None
    world: int | None = None

    def put(self, entry: Entry, why: str = "", /, **flags: Any) -> None:
        """Set `flags` of ms-swift for a key, and report it as translated. Values are written as ms-swift takes them."""
        for name, value in flags.items():
            self.flags[name] = words_of(value)
        self._say(entry, TRANSLATED, tuple(flags), None, why)

    def put_env(self, entry: Entry, why: str = "", /, **variables: str) -> None:
        """Set variables for a key, and report it as translated."""
        self.env |= variables
        self._say(entry, TRANSLATED, tuple(f"env:{name}" for name in variables), None, why)

    def leave(self, entry: Entry, status: str, why: str, where: str | None = None) -> None:
        """Report a key that sets no flag: `DEFAULT`, `ELSEWHERE`, `LOST` or `UNKNOWN`."""
        self._say(entry, status, (), where, why)

    def _say(self, entry: Entry, status: str, flags: tuple[str, ...], where: str | None, why: str) -> None:
        self.outcomes.append(Outcome(entry.key, status, entry.value, entry.line, flags, where, why))


@dataclass(frozen=True)
class Dialect:
    """One tool's way to say what to train.

    Attributes:
        name: as ``--from`` takes it.
        title: for people: ``LLaMA-Factory``.
        rules: of its table.
        likeness: how surely a source is of this dialect: 0 not at all, 100 without doubt.
        split: the sources that a source is made of (stages in one file); most are one.
        functions: those that rules name with ``by``: they get the draft, the entry, and all values of the source.
        begin: sets the command and whatever hangs on several keys, before the rules.
        finish: what is left when every key was seen: batch, hub, defaults that no single key says.
    """

    name: str
    title: str
    rules: Mapping[str, Rule]
    likeness: Callable[[Source], int]
    functions: Mapping[str, Callable[[Draft, Entry, Mapping[str, Any]], None]]
    begin: Callable[[Draft], None]
    finish: Callable[[Draft], None]
    split: Callable[[Source], list[Source]] = lambda source: [source]


def words_of(value: Any) -> list[str]:
    """A value as the words of a flag: ``true`` and ``false`` in small letters, a list a word each, a dict as JSON."""
    raise NotImplementedError


def translate_source(source: Source, dialect: Dialect) -> list[Draft]:
    """The runs that a source asks for; every key of it ends in exactly one outcome, its tool's own defaults too."""
    raise NotImplementedError
