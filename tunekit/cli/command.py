"""Commands of which any flag of ms-swift may stand among the options of tunekit, with as many words as it takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import typer
from typer.core import TyperCommand, TyperOption

from tunekit.errors import TunekitError
from tunekit.files import path_of
from tunekit.plan.options import FILE, SWITCH, TEXT, TRAIN, WHOLE, WORDS, options_of
from tunekit.plan.request import Said, gather_words
from tunekit.plan.settings import COMMAND_LINE
from tunekit.plan.settings_file import ENDINGS, read_settings, with_file

if TYPE_CHECKING:
    from tunekit.plan.options import Option
    from tunekit.plan.request import Words

META = "tunekit.swift_flags"
"""Where a command finds the flags that were not its own, in its context."""

FILE_META = "tunekit.settings_file"
"""Where a command finds the name of a file of settings, likewise."""

METAVAR = {TEXT: "<str>", FILE: "<path>", WHOLE: "<int>", WORDS: "<str>", SWITCH: None}

# Typer evaluates annotations, on Python 3.10 too: Optional, not X | None.
Number = Optional[int]  # noqa: UP045
WordList = Optional[list[str]]  # noqa: UP045
File = Optional[Path]  # noqa: UP045


def option(panel: str, text: str, *names: str) -> typer.models.OptionInfo:
    """An option of a command, in a panel of its help; names are made from the parameter where none is given."""
    made: typer.models.OptionInfo = typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)
    return made


class SwiftCommand(TyperCommand):
    """A command that keeps the flags of ms-swift apart before its own options are parsed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Split `args` and leave the flags of ms-swift in the context. Words that belong to no flag stand first."""
        arguments = [str(parameter.name) for parameter in self.params if parameter.param_type_name == "argument"]
        first = list(takewhile(lambda word: not word.startswith("-"), args[: len(arguments)]))
        if args and len(first) < len(arguments) and not {"--help", "-h"} & set(args):
            missing = arguments[len(first)].upper()
            raise TunekitError(f"{missing} is missing", f"it stands first: {ctx.command_path} {missing} --flag value")
        return self.parse_split(ctx, first, args[len(first) :])

    def parse_split(self, ctx: Any, first: list[str], args: Sequence[str]) -> list[str]:
        """Parse the words that are the command's own, and keep the others."""
        mine, flags = split_words(args, own_options(self))
        ctx.meta[META] = flags
        return super().parse_args(ctx, [*first, *mine])


class TableCommand(SwiftCommand):
    """A command whose options are the rows of `tunekit.plan.options` for `takes`: `TRAIN` or `FIT`.

    `run` gets its name, the words that were typed, and the values of options that are about the call alone.
    """

    def __init__(
        self, name: str, takes: str, run: Callable[[str, Words, Mapping[str, Any]], None], help_text: str, **more: Any
    ) -> None:
        params: list[Any] = [_parameter(option, takes) for option in options_of(takes)]
        super().__init__(name, params=params, help=help_text, **more)
        self._run = run

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take a file of settings that stands first, as ms-swift does, then the options."""
        if args and not args[0].startswith("-") and args[0].lower().endswith(ENDINGS):
            ctx.meta[FILE_META], *args = args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run it."""
        given = {name: value for name, value in ctx.params.items() if value not in (None, False, (), [])}
        own = [Said(name, _words(value)) for name, value in given.items()]
        flags = [Said(name, tuple(words)) for name, words in swift_flags(ctx).items()]
        words = gather_words(COMMAND_LINE, [*flags, *own])
        if FILE_META in ctx.meta:
            file = read_settings(path_of(ctx.meta[FILE_META]))
            words = with_file(words, file, os.environ)
            os.environ.update({**file.env, **os.environ})
        self._run(str(self.name), words, given)


class _Asked(TyperOption):
    """An option that the help calls required, and that is asked for after all that is wrong was told."""

    def value_is_missing(self, value: Any) -> bool:  # noqa: ARG002 - the signature is Click's
        return False


def _parameter(row: Option, takes: str) -> TyperOption:
    return _Asked(
        param_decls=[row.name, row.spelled],
        type=bool if row.kind == SWITCH else str,
        is_flag=row.kind == SWITCH,
        default=False if row.kind == SWITCH else None,
        multiple=row.kind == WORDS,
        required=row.required and takes == TRAIN,
        metavar=METAVAR[row.kind],
        help=row.help,
        rich_help_panel=row.panel,
    )


def _words(value: Any) -> tuple[str, ...]:
    return () if value is True else (value,) if isinstance(value, str) else tuple(value)


def own_options(command: TyperCommand) -> dict[str, int]:
    """A command's own options, each with the number of words that it takes: 0, 1, or -1 for a list."""
    own: dict[str, int] = {}
    for parameter in command.params:
        words = -1 if getattr(parameter, "multiple", False) else 0 if getattr(parameter, "is_flag", False) else 1
        own.update(dict.fromkeys([*parameter.opts, *parameter.secondary_opts], words))
    return own | {"--help": 0, "-h": 0}


def split_words(args: Sequence[str], own: Mapping[str, int]) -> tuple[list[str], dict[str, list[str]]]:
    """Words for a command's own parser (a list's option is repeated before each word), and flags with their words.

    ``--lora-rank`` and ``--lora_rank`` are the same. A flag takes all words up to the next ``--``, so values may begin
    with a single dash; `own` is of `own_options`. Raises TunekitError where a flag is given twice with two values, or
    has none though it needs one, and for a word that belongs to no flag.
    """
    mine: list[str] = []
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
        if takes == 0 and not equals:
            mine.append(typed)
        elif not given:
            raise TunekitError(f"{typed} has no value")
        else:
            mine += [part for item in given for part in (typed, item)]
    return mine, flags


def _once(name: str, given: list[str], seen: dict[str, list[str]]) -> bool:
    """Whether an option was there before with the same words. Raises TunekitError where it was with others."""
    before = seen.setdefault(name, given)
    if before is not given and before != given:
        raise TunekitError(f"--{name} is given twice", "a list takes several words: --target_modules q_proj v_proj")
    return before is not given


def swift_flags(ctx: typer.Context) -> dict[str, list[str]]:
    """The flags of ms-swift that were given to a command, with their words."""
    flags: dict[str, list[str]] = ctx.meta[META]
    return flags


def check_copy(file: Path) -> None:
    """Raise TunekitError where a copy cannot be written to `file`, or would replace it."""
    if file.exists():
        raise TunekitError(f"{file} exists already", "take another name, or delete it")
    if not file.parent.is_dir():
        raise TunekitError(f"the folder {file.parent} does not exist")
