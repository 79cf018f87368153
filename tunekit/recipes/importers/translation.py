"""What another tool's run is in ms-swift, and what became of each of its keys."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError, did_you_mean
from tunekit.files import shortened
from tunekit.plan.secrets import is_secret_flag
from tunekit.recipes.importers.source import Entry, Origin
from tunekit.recipes.importers.table import swift_defaults
from tunekit.stages import STAGES, USUAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tunekit.recipes.importers.table import KeyRule

TRANSLATED, DEFAULT, ELSEWHERE, LOST, UNKNOWN = "translated", "default", "elsewhere", "lost", "unknown"
"""What becomes of a key; each ends in exactly one of them."""

HIDDEN = "***"
"""Stands for the value of a secret."""

WORST_FIRST = (UNKNOWN, LOST, TRANSLATED, ELSEWHERE, DEFAULT)

TRAINS = frozenset(stage.command for stage in STAGES.values())
"""Commands of ms-swift that train."""


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
        before: commands that must have run first, such as the merge of an adapter.
        files: what must stand beside, by path.
        refused: why the run cannot be had as it was, where that is so: it is written only for who insists.
    """

    source: Origin
    command: str = USUAL
    flags: dict[str, list[str]] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    before: list[list[str]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
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
        value = entry.value
        if isinstance(value, str) and is_secret_flag(entry.key.rpartition(".")[2]):
            value = HIDDEN
        self.outcomes.append(Outcome(entry.key, status, value, entry.line, flags, where, why))


@dataclass(frozen=True)
class Dialect:
    """One tool's way to say what to train.

    Attributes:
        name: as ``--from`` takes it.
        title: for people: ``LLaMA-Factory``.
        rules: of its table.
        likeness: how surely a source is of this dialect: 0 not at all, 100 without doubt.
        abbreviates: whether it takes the beginning of a flag for the flag, as argparse does.
        split: the sources that a source is made of (stages in one file); most are one.
        functions: those that rules name with ``by``: they get the draft, the entry, and all values of the source.
        begin: sets the command and whatever hangs on several keys, before the rules.
        finish: what is left when every key was seen: batch, hub, defaults that no single key says.
    """

    name: str
    title: str
    rules: Mapping[str, KeyRule]
    likeness: Callable[[Origin], int]
    functions: Mapping[str, Callable[[Draft, Entry, Mapping[str, Any]], None]]
    begin: Callable[[Draft], None]
    finish: Callable[[Draft], None]
    split: Callable[[Origin], list[Origin]] = lambda source: [source]
    abbreviates: bool = False


def words_of(value: Any) -> list[str]:
    """A value as the words of a flag: ``true`` and ``false`` in small letters, a list a word each, a dict as JSON."""
    if value is None:
        return []
    if isinstance(value, bool):
        return [str(value).lower()]
    if isinstance(value, dict):
        return [json.dumps(value, ensure_ascii=False, default=str)]
    if isinstance(value, (list, tuple)):
        return [word for item in value for word in words_of(item)]
    return [str(value)]


def strategy_word(value: Any) -> str:
    """When to save, log or evaluate: YAML reads a bare ``no`` as false."""
    return "no" if value is False else str(value)


def translate_source(source: Origin, dialect: Dialect) -> list[Draft]:
    """The runs that a source asks for; every key of it ends in exactly one outcome, its tool's own defaults too."""
    return [_translate(part, dialect) for part in dialect.split(source)]


def _translate(source: Origin, dialect: Dialect) -> Draft:
    short = _abbreviated(source, dialect)
    whole = tuple(replace(entry, key=short.get(entry.key, entry.key)) for entry in source.entries)
    entries = {entry.key: entry for entry in _spread(whole, dialect.rules, source.lines)}
    source = replace(source, entries=tuple(entries.values()))
    values = source.values()
    draft = Draft(source)
    odd = f"a value is of a kind that {dialect.title} does not take"
    with _readable(draft, odd):
        dialect.begin(draft)
    written: list[Outcome] = []
    for rule in dialect.rules.values():
        if rule.absent is not None and values.get(rule.key) is None and _counts(draft, rule):
            written += _default_of(draft, dialect, rule, values)
    for entry in entries.values():
        _apply(draft, dialect, entry, values)
    typed = {key: name for name, key in short.items()}
    draft.outcomes = [replace(it, key=typed.get(it.key, it.key)) for it in draft.outcomes] + written
    with _readable(draft, odd):
        dialect.finish(draft)
    return draft


def _abbreviated(source: Origin, dialect: Dialect) -> dict[str, str]:
    """The flags that are written by their beginnings, with their names."""
    names = {entry.key for entry in source.entries if dialect.abbreviates and not rule_for(entry.key, dialect.rules)}
    fitting = {name: [rule for rule in dialect.rules if rule.startswith(name)] for name in names}
    return {name: rules[0] for name, rules in fitting.items() if len(rules) == 1}


@contextmanager
def _readable(draft: Draft, problem: str, entry: Entry | None = None) -> Iterator[None]:
    """Say where a value stands that a function of a dialect could make nothing of: a list for a number, say."""
    try:
        yield
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
        line = f" line {entry.line}" if entry and entry.line else ""
        raise TunekitError(f"{draft.source.path or 'standard input'}{line}: {problem}") from error


def _spread(entries: tuple[Entry, ...], rules: Mapping[str, KeyRule], lines: Mapping[str, int]) -> Iterator[Entry]:
    """The entries, tables taken apart where the rules name what is inside them."""
    for entry in entries:
        inside = dict(enumerate(entry.value)) if isinstance(entry.value, list) else entry.value
        if not (isinstance(inside, dict) and inside and _holds(entry.key, rules)):
            yield entry
            continue
        parts = (Entry(f"{entry.key}.{name}", value) for name, value in inside.items())
        known = tuple(replace(part, line=lines.get(part.key, entry.line)) for part in parts)
        yield from _spread(known, rules, lines)


def rule_for(key: str, rules: Mapping[str, KeyRule]) -> KeyRule | None:
    """The rule of a key, by its name or by one with ``*``; None where the table has none."""
    if key in rules:
        return rules[key]
    parts = key.split(".")
    fitting = (rule for name, rule in rules.items() if "*" in name and _fits(parts, name.split(".")))
    return next(fitting, None)


def _fits(parts: list[str], names: list[str]) -> bool:
    return len(parts) == len(names) and all(name in ("*", part) for part, name in zip(parts, names, strict=True))


def _holds(key: str, rules: Mapping[str, KeyRule]) -> bool:
    """Whether rules name something inside of `key`."""
    parts = key.split(".")
    heads = (name.split(".")[: len(parts)] for name in rules if name.count(".") >= len(parts))
    return any(_fits(parts, head) for head in heads)


def _counts(draft: Draft, rule: KeyRule) -> bool:
    kinds = {draft.command, *draft.flags.get("rlhf_type", ()), *draft.flags.get("tuner_type", ())}
    return bool(kinds & set(rule.only)) if rule.only else draft.command in TRAINS


def _default_of(draft: Draft, dialect: Dialect, rule: KeyRule, values: Mapping[str, Any]) -> list[Outcome]:
    """Write what the other tool takes where a key is absent, unless ms-swift takes it as well."""
    before, reported = dict(draft.flags), len(draft.outcomes)
    _apply(draft, dialect, Entry(rule.key, rule.absent), values)
    outcomes = draft.outcomes[reported:]
    del draft.outcomes[reported:]
    for name in [name for name in draft.flags if name not in before]:
        if same_by_default(draft, name):
            del draft.flags[name]
    kept = [replace(it, value=None, flags=tuple(n for n in it.flags if _is_set(draft, n))) for it in outcomes]
    title = f"{dialect.title}'s default"
    return [replace(it, why=f"{title}: {it.why}" if it.why else title) for it in kept if it.flags or it.status == LOST]


def _is_set(draft: Draft, name: str) -> bool:
    return name.startswith("env:") or name in draft.flags


def same_by_default(draft: Draft, flag: str) -> bool:
    """Whether ms-swift does by itself what `draft` sets with this flag."""
    shared = swift_defaults()
    kinds = ("all", draft.command, *draft.flags.get("rlhf_type", ()))
    table = {name: value for kind in kinds for name, value in shared.get(kind, {}).items()}
    return flag in table and _comparable(words_of(table[flag])) == _comparable(draft.flags[flag])


def _comparable(words: list[str]) -> list[Any]:
    def one(word: str) -> Any:
        try:
            return float(word)
        except ValueError:
            return word

    return [one(word) for word in words]


def _apply(draft: Draft, dialect: Dialect, entry: Entry, values: Mapping[str, Any]) -> None:
    """Let the rule of a key do its work, and report the key once whatever that did."""
    rule = rule_for(entry.key, dialect.rules)
    before = len(draft.outcomes)
    if entry.value is None and (rule or _holds(entry.key, dialect.rules)):
        draft.leave(entry, DEFAULT, "not set")
    elif rule is None:
        hint = did_you_mean(entry.key, dialect.rules)
        draft.leave(entry, UNKNOWN, f"{dialect.title} knows no such key" + (f"; {hint}" if hint else ""))
    elif rule.kind == "by":
        odd = f"{entry.key}: {shortened(repr(entry.value))} is not what {dialect.title} takes there"
        with _readable(draft, odd, entry):
            dialect.functions[rule.text](draft, entry, values)
    elif rule.kind == "to":
        _set_flag(draft, rule, entry)
    elif rule.kind == LOST and entry.value in rule.harmless:
        draft.leave(entry, DEFAULT, "it asks for nothing")
    elif rule.kind == ELSEWHERE:
        draft.leave(entry, ELSEWHERE, rule.why or rule.text, rule.text)
    else:
        draft.leave(entry, rule.kind, rule.text)
    said = draft.outcomes[before:]
    if not said:
        draft.leave(entry, DEFAULT, (rule.why if rule else "") or "nothing to write")
    elif len(said) > 1:  # a function that set flags one by one
        draft.outcomes[before:] = [_joined(said)]


def _joined(outcomes: list[Outcome]) -> Outcome:
    """One outcome of several of one key: what is worst of it, with all flags and reasons."""
    worst = min(outcomes, key=lambda it: WORST_FIRST.index(it.status))
    flags = tuple(dict.fromkeys(flag for it in outcomes for flag in it.flags))
    whys = "; ".join(dict.fromkeys(it.why for it in outcomes if it.why))
    return replace(worst, flags=flags, why=whys)


def _set_flag(draft: Draft, rule: KeyRule, entry: Entry) -> None:
    value = entry.value
    if rule.text.endswith("_strategy") and value is False:
        value = strategy_word(value)
    word = words_of(value)
    mapped = rule.values.get(word[0]) if len(word) == 1 else None
    if mapped == "":
        draft.leave(entry, DEFAULT, rule.why or "ms-swift chooses by itself")
    else:
        draft.put(entry, rule.why, **{rule.text: value if mapped is None else mapped})
