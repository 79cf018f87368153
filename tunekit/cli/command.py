"""Commands of which any flag of ms-swift may stand among the options of tunekit, with as many words as it takes."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import typer
from typer.core import TyperCommand, TyperOption

from tunekit.cli.words import HELP, read_words, split_words
from tunekit.errors import TunekitError
from tunekit.plan.options import FILE, SWITCH, TEXT, TRAIN, WHOLE, WORDS, options_of

if TYPE_CHECKING:
    from tunekit.cli.words import Run
    from tunekit.plan.options import Option

META = "tunekit.swift_flags"
"""Where a command finds the flags that were not its own, in its context."""

METAVAR = {TEXT: "<str>", FILE: "<path>", WHOLE: "<int>", WORDS: "<str>", SWITCH: None}

# Typer evaluates annotations, on Python 3.10 too: Optional, not X | None.
Number = Optional[int]  # noqa: UP045
WordList = Optional[list[str]]  # noqa: UP045
File = Optional[Path]  # noqa: UP045


def option(panel: str, text: str, *names: str) -> typer.models.OptionInfo:
    """An option of a command, in a panel of its help; names are made from the parameter where none is given."""
    made: typer.models.OptionInfo = typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)
    return made


def built_command(function: Callable[..., None], name: str, **more: Any) -> Any:
    """A command made of a function, whose annotations Typer reads now."""
    alone = typer.Typer(add_completion=False)
    alone.command(name, **more)(function)
    return typer.main.get_command(alone)


class SwiftCommand(TyperCommand):
    """A command that keeps the flags of ms-swift apart before its own options are parsed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Split `args` and leave the flags of ms-swift in the context. Words that belong to no flag stand first."""
        arguments = [str(parameter.name) for parameter in self.params if parameter.param_type_name == "argument"]
        first = list(takewhile(lambda word: not word.startswith("-"), args[: len(arguments)]))
        if args and len(first) < len(arguments) and not HELP & set(args):
            missing = arguments[len(first)].upper()
            raise TunekitError(f"{missing} is missing", f"it stands first: {ctx.command_path} {missing} --flag value")
        return self.parse_split(ctx, first, args[len(first) :])

    def parse_split(self, ctx: Any, first: list[str], args: Sequence[str]) -> list[str]:
        """Parse the words that are the command's own, and keep the others."""
        mine, ctx.meta[META] = split_words(args, own_options(self))
        words = [word for name, given in mine for word in ([name, given] if given is not None else [name])]
        return super().parse_args(ctx, [*first, *words])


class TableCommand(TyperCommand):
    """A command whose options are the rows of `tunekit.plan.options` for `takes`: `TRAIN` or `FIT`.

    `read_words` reads them, so that a call can do without this class; it is for the help, and for completion.
    """

    def __init__(self, name: str, takes: str, run: Run, help_text: str) -> None:
        params: list[Any] = [_parameter(option, takes) for option in options_of(takes)]
        super().__init__(name, params=params, help=help_text)
        self._takes, self._run = takes, run

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Leave the words as they are, but for a question for help."""
        if HELP & set(args) or ctx.resilient_parsing:
            return super().parse_args(ctx, ["--help"] if HELP & set(args) else args)
        ctx.meta[META] = args
        return []

    def invoke(self, ctx: Any) -> Any:
        """Run it."""
        raise typer.Exit(self._run(str(self.name), *read_words(self._takes, ctx.meta[META])))


class SweepCommand(TableCommand):
    """``tunekit sweep``: a stage first, then the options of the stages but those `without`, which are for one run."""

    def __init__(self, name: str, run: Callable[[Sequence[str]], int], help_text: str, without: Container[str]) -> None:
        super().__init__(name, TRAIN, lambda *_: 0, help_text)
        self.params = [parameter for parameter in self.params if parameter.name not in without]
        self._sweep = run

    def invoke(self, ctx: Any) -> Any:
        """Run it."""
        raise typer.Exit(self._sweep(ctx.meta[META]))


def _parameter(row: Option, takes: str) -> TyperOption:
    return TyperOption(
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


def own_options(command: TyperCommand) -> dict[str, int]:
    """A command's own options, each with the number of words that it takes: 0, 1, or -1 for a list."""
    own: dict[str, int] = {}
    for parameter in command.params:
        words = -1 if getattr(parameter, "multiple", False) else 0 if getattr(parameter, "is_flag", False) else 1
        own.update(dict.fromkeys([*parameter.opts, *parameter.secondary_opts], words))
    return own | {"--help": 0, "-h": 0}


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
