"""The words of a command line, read without Typer: a dry run would spend a fifth of its time on loading that."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.files import path_of
from tunekit.plan.options import SWITCH, WORDS, options_of
from tunekit.plan.said import Said, gather_words
from tunekit.plan.settings import COMMAND_LINE

if TYPE_CHECKING:
    from typing import TypeAlias

    from tunekit.plan.said import Words

    Run: TypeAlias = Callable[[str, Words, Mapping[str, Any]], int]
    """What a command of the table does: with its name, all that was typed, and its own options by name; exit code."""

HELP = frozenset(("--help", "-h"))

ENDINGS = (".yaml", ".yml", ".json", ".toml")
"""Of files of settings; ms-swift itself knows no TOML."""

TAKES = {SWITCH: 0, WORDS: -1}
"""Words that an option takes by its kind, where that is not 1; -1 is as many as there are."""


def read_words(takes: str, args: Sequence[str]) -> tuple[Words, dict[str, Any]]:
    """What was typed behind a command whose options are those of `tunekit.plan.options` for `takes`.

    Gives all of it for the planner, and the command's own options by name: True, a word, or a list. A file of settings
    may stand first, as for ms-swift. Raises TunekitError as `split_words`, and where that file cannot be read.
    """
    rows = {row.spelled: row for row in options_of(takes)}
    first = list(args[:1]) if args and not args[0].startswith("-") and args[0].lower().endswith(ENDINGS) else []
    mine, flags = split_words(args[len(first) :], {name: TAKES.get(row.kind, 1) for name, row in rows.items()})
    given: dict[str, Any] = {}
    for name, word in mine:
        row = rows[name]
        if row.kind == WORDS:
            given.setdefault(row.name, []).append(word)
        else:
            given[row.name] = True if word is None else word
    said = [Said(name, tuple(words)) for name, words in flags.items()]
    said += [Said(name, _words(value)) for name, value in given.items()]
    words = gather_words(COMMAND_LINE, said)
    return (_with_file(words, first[0]) if first else words), given


def _with_file(words: Words, name: str) -> Words:
    """`words` over those of a file of settings, whose variables are set for this call."""
    from tunekit.plan.settings_file import read_settings, with_file

    file = read_settings(path_of(name))
    laid = with_file(words, file, os.environ)
    os.environ.update({**file.env, **os.environ})
    return laid


def _words(value: Any) -> tuple[str, ...]:
    return () if value is True else (value,) if isinstance(value, str) else tuple(value)


def split_words(
    args: Sequence[str], own: Mapping[str, int]
) -> tuple[list[tuple[str, str | None]], dict[str, list[str]]]:
    """A command's own options, each with one word (a list's is repeated, a switch has None), and flags of ms-swift.

    ``--lora-rank`` and ``--lora_rank`` are the same. A flag takes all words up to the next ``--``, so values may begin
    with a single dash; `own` says how many words an option takes, -1 for a list. Raises TunekitError where a flag is
    given twice with two values, has none though it needs one, or one though it takes none, and for a word that belongs
    to no flag.
    """
    mine: list[tuple[str, str | None]] = []
    flags: dict[str, list[str]] = {}
    seen: dict[str, list[str]] = {}
    words = list(args)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        typed = name.replace("_", "-") if name.startswith("--") else name
        if not word.startswith("-") or word == "-":
            raise TunekitError(f"{word} belongs to no flag", "every value stands behind its flag: --model NAME")
        if typed not in own and not word.startswith("--"):
            raise TunekitError(f"{word} is not an option", "flags of ms-swift begin with two dashes")
        takes = own.get(typed, -1)
        given = [value] if equals else []
        while words and not equals and not words[0].startswith("--") and (takes < 0 or len(given) < takes):
            given.append(words.pop(0))
        if typed not in own:
            flag = name.removeprefix("--").replace("-", "_")
            _once(flag, given, seen)
            flags[flag] = given
            continue
        if takes >= 0 and _once(typed.lstrip("-"), given, seen):
            continue
        if bool(given) is (takes == 0):
            raise TunekitError(f"{typed} {'has no value' if takes else 'takes no value'}")
        mine += [(typed, item) for item in given] or [(typed, None)]
    return mine, flags


def _once(name: str, given: list[str], seen: dict[str, list[str]]) -> bool:
    """Whether an option was there before with the same words. Raises TunekitError where it was with others."""
    before = seen.setdefault(name, given)
    if before is not given and before != given:
        raise TunekitError(f"--{name} is given twice", "a list takes several words: --target_modules q_proj v_proj")
    return before is not given
