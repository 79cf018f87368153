"""What one place says for a run, word by word: the command line, the ``[[stage]]`` of a recipe, a file, a variable."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError, did_you_mean
from tunekit.files import shortened, whole_of
from tunekit.plan.options import OPTIONS, canonical
from tunekit.plan.renamed import renamed_hint
from tunekit.plan.settings import COMMAND_LINE, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True)
class Said:
    """What one place says of one option or flag.

    Attributes:
        name: as it was written, with ``_``.
        words: the words behind it; none for a switch.
        where: file and line, or the variable; empty on the command line.
        source: where it comes from, if that is not the source of the `Words` that it is of.
    """

    name: str
    words: tuple[str, ...]
    where: str = ""
    source: Source | None = None

    @property
    def label(self) -> str:
        """How an error calls it: ``--micro-batch``, or ``config.toml line 3: micro_batch``."""
        if self.where:
            return f"{self.where}: {self.name}"
        return OPTIONS[self.name].spelled if self.name in OPTIONS else f"--{self.name}"


@dataclass(frozen=True)
class Words:
    """All that one place says, by the one name of each option or flag (`tunekit.plan.options.canonical`).

    Attributes:
        notes: what was made of it since it was written, for people.
        env: variables that it sets.
    """

    source: Source = COMMAND_LINE
    said: Mapping[str, Said] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def gather_words(source: Source, said: Iterable[Said]) -> Words:
    """What one place says. Raises TunekitError where two names in it mean the same."""
    found: dict[str, Said] = {}
    for one in said:
        key = canonical(one.name)
        if key in found:
            _refuse_both(found[key], one)
        found[key] = one
    return Words(source, found)


def _refuse_both(first: Said, second: Said) -> None:
    if first.name == second.name:
        raise TunekitError(f"{second.label} is given twice", "drop one of them")
    if first.name in OPTIONS and second.name in OPTIONS:
        whole, part = sorted((first.name, second.name), key=len)
        for_all = f"{OPTIONS[whole].spelled} is for all parts"
        hint = for_all if part.startswith(whole) else f"both set --{canonical(whole)}"
        raise TunekitError(f"{first.label} and {second.label} exclude each other", hint)
    raise TunekitError(f"{first.label} and {second.label} are the same", "give one of them")


def words_of_value(value: Any, label: str) -> tuple[str, ...]:
    """A value of a TOML file as the words of a command line; a table is JSON. Raises TunekitError, as `label` says."""
    items = value if isinstance(value, list) else [value]
    items = [json.dumps(item) if isinstance(item, dict) else item for item in items]
    if not all(isinstance(item, (str, int, float, bool)) for item in items):
        raise TunekitError(f"{label} must be a text, number, true/false or a list")
    return tuple(str(item).lower() if isinstance(item, bool) else str(item) for item in items)


def words_taken(said: Said) -> tuple[str, ...]:
    """The words of an option. Raises TunekitError where it does not take them."""
    choices = OPTIONS[said.name].choices or tuple(OPTIONS[said.name].means or ())
    for word in said.words:
        if choices and word not in choices:
            hint = did_you_mean(word, choices) or renamed_hint(said.name)
            raise TunekitError(f"{said.label} takes {', '.join(choices)}, not {word}", hint)
    return said.words


def whole_taken(said: Said) -> int:
    """The whole number of an option. Raises TunekitError where it is none."""
    word = " ".join(said.words)
    try:
        return whole_of(word)
    except ValueError:
        raise TunekitError(f"{said.label} takes a whole number, not {shortened(word)}") from None
