"""Any flag of ms-swift may stand among tunekit's own options, with as many words as it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from tunekit.errors import TunekitError

if TYPE_CHECKING:
    import typer

META = "tunekit.swift_flags"
"""Where a command finds the flags that were not its own, in its context."""


class SwiftCommand(TyperCommand):
    """A command that keeps the flags of ms-swift apart before its own options are parsed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Split `args` and leave the flags of ms-swift in the context. Words that belong to no flag stand first."""
        own: dict[str, int] = {}
        for parameter in self.params:
            words = -1 if getattr(parameter, "multiple", False) else 0 if getattr(parameter, "is_flag", False) else 1
            own.update(dict.fromkeys([*parameter.opts, *parameter.secondary_opts], words))
        own |= {"--help": 0, "-h": 0}
        arguments = [str(parameter.name) for parameter in self.params if parameter.param_type_name == "argument"]
        first = list(takewhile(lambda word: not word.startswith("-"), args[: len(arguments)]))
        if args and len(first) < len(arguments) and not {"--help", "-h"} & set(args):
            missing = arguments[len(first)].upper()
            raise TunekitError(f"{missing} is missing", f"it stands first: {ctx.command_path} {missing} --flag value")
        mine, flags = split(args[len(first) :], own)
        ctx.meta[META] = flags
        return super().parse_args(ctx, [*first, *mine])


def own_options(command: TyperCommand) -> dict[str, int]:
    """A command's own options, each with the number of words that it takes: 0, 1, or -1 for a list."""
    own: dict[str, int] = {}
    for parameter in command.params:
        words = -1 if getattr(parameter, "multiple", False) else 0 if getattr(parameter, "is_flag", False) else 1
        own.update(dict.fromkeys([*parameter.opts, *parameter.secondary_opts], words))
    return own | {"--help": 0, "-h": 0}


def split(args: Sequence[str], own: Mapping[str, int]) -> tuple[list[str], dict[str, list[str]]]:
    """Tell a command's own options from flags of ms-swift.

    ``--lora-rank`` and ``--lora_rank`` are the same. A flag takes all words up to the next ``--``, so values may
    begin with a single dash.

    Args:
        args: the words of the command line.
        own: the command's options, each with the number of words that it takes: 0, 1, or -1 for a list.

    Returns:
        Words for the command's own parser (a list's option is repeated before each word), and flags with their words.

    Raises:
        TunekitError: a flag given twice, or a word that belongs to no flag.
    """
    mine: list[str] = []
    flags: dict[str, list[str]] = {}
    seen: set[str] = set()
    words = list(args)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        option = name.replace("_", "-") if name.startswith("--") else name
        if not word.startswith("-") or word == "-":
            raise TunekitError(f"{word} belongs to no flag", "every value stands behind its flag: --model NAME")
        if option not in own and not word.startswith("--"):
            raise TunekitError(f"{word} is not an option", "flags of ms-swift begin with two dashes")
        takes = own.get(option, -1)
        given = [value] if equals else []
        while words and not equals and not words[0].startswith("--") and (takes < 0 or len(given) < takes):
            given.append(words.pop(0))
        if option not in own:
            flag = name.removeprefix("--").replace("-", "_")
            _once(flag, seen)
            flags[flag] = given
            continue
        if takes >= 0:
            _once(option.lstrip("-"), seen)
        if takes == 0 and not equals:
            mine.append(option)
        elif not given:
            raise TunekitError(f"{option} has no value")
        else:
            mine += [part for item in given for part in (option, item)]
    return mine, flags


def _once(name: str, seen: set[str]) -> None:
    if name in seen:
        raise TunekitError(f"--{name} is given twice", "a list takes several words: --target_modules q_proj v_proj")
    seen.add(name)


def swift_flags(ctx: typer.Context) -> dict[str, list[str]]:
    """The flags of ms-swift that were given to a command, with their words."""
    flags: dict[str, list[str]] = ctx.meta[META]
    return flags
