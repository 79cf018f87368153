"""``tunekit`` itself as Typer has it: its own options, the help of all commands, completion."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import tunekit
from tunekit.cli.app import COMMANDS, command_of
from tunekit.cli.tried import refuse_command


class Commands(TyperGroup):
    """The commands of the table by name and summary; the one that is called is built."""

    def __init__(self, **more: Any) -> None:
        rows = COMMANDS.items()
        more["commands"] = {
            name: TyperCommand(name, short_help=row.summary, rich_help_panel=row.panel) for name, row in rows
        }
        super().__init__(**more)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Which command is called, and the words behind it. Raises TunekitError where there is none of that name."""
        if args and args[0] not in COMMANDS:
            refuse_command(args[0], COMMANDS)
        name, known, rest = super().resolve_command(ctx, args)
        return name, command_of(str(name)) if known else None, rest

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is Typer's
        """Their names, in the order of the table."""
        return list(self.commands)


app = typer.Typer(
    name="tunekit",
    cls=Commands,
    help="Fine-tune with ms-swift without out-of-memory surprises.",
    epilog="Start with: tunekit sft --model Qwen2.5-7B --dataset data.jsonl --dry-run",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _debug(wanted: bool) -> None:
    if wanted:
        os.environ["TUNEKIT_DEBUG"] = "1"


def _version(shown: bool) -> None:
    if shown:
        print(f"tunekit {tunekit.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", callback=_debug, help="Show the traceback of an error.")] = False,
) -> None:
    """Options of tunekit itself; its help text is that of `app`."""
