"""The commands of tunekit, put together: each is built when it is called, so that a call pays for one of them.

Typer reads the annotations of every function that it is given, which for all commands takes longer than a dry run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import tunekit
from tunekit.cli.command import SwiftCommand, TableCommand
from tunekit.plan.options import FIT, TRAIN
from tunekit.stages import STAGES, USUAL

RUNNING, KNOW, AFTER = "Train", "Look before you train", "After training"


def _command(function: Callable[..., None], name: str, panel: str, **more: Any) -> Any:
    alone = typer.Typer(add_completion=False)
    alone.command(name, rich_help_panel=panel, **more)(function)
    return typer.main.get_command(alone)


def _group(commands: typer.Typer, name: str) -> Any:
    made: Any = typer.main.get_group(commands)
    made.name, made.rich_help_panel = name, KNOW
    return made


def _train(name: str) -> Any:
    from tunekit.cli import train

    summary = train.HELP[name]
    return TableCommand(name, TRAIN, train.train, summary + train.REST, short_help=summary, rich_help_panel=RUNNING)


def _resume(name: str) -> Any:
    from tunekit.cli import train

    return _command(train.resume, name, RUNNING)


def _run(name: str) -> Any:
    from tunekit.cli import recipe

    return _command(recipe.run_command, name, RUNNING, cls=recipe.RecipeCommand)


def _recipes(name: str) -> Any:
    from tunekit.cli import recipe

    return _group(recipe.app, name)


def _import(name: str) -> Any:
    from tunekit.cli import imports

    return _command(imports.import_command, name, RUNNING)


def _fit(name: str) -> Any:
    from tunekit.cli import fit

    return TableCommand(name, FIT, fit.fit, fit.HELP, rich_help_panel=KNOW)


def _presets(name: str) -> Any:
    from tunekit.cli import presets

    return _group(presets.app, name)


def _augment(name: str) -> Any:
    from tunekit.cli import data

    return _command(data.augment_command, name, KNOW)


def _doctor(name: str) -> Any:
    from tunekit.cli import doctor

    return _command(doctor.doctor, name, KNOW)


def _after(name: str) -> Any:
    from tunekit.cli import after

    calls: Mapping[str, Callable[..., None]] = {
        "chat": after.chat_command,
        "merge": after.merge_command,
        "predict": after.predict_command,
        "eval": after.eval_command,
    }
    text, summary = after.help_of(name)
    return _command(calls[name], name, AFTER, help=text, short_help=summary, cls=SwiftCommand)


COMMANDS: Mapping[str, Callable[[str], Any]] = {
    **dict.fromkeys((USUAL, *(name for name in STAGES if name != USUAL), "rlhf"), _train),
    "run": _run,
    "resume": _resume,
    "import": _import,
    "fit": _fit,
    "presets": _presets,
    "recipes": _recipes,
    "augment": _augment,
    "doctor": _doctor,
    **dict.fromkeys(("chat", "merge", "predict", "eval"), _after),
}
"""What builds each command, in the order of the help."""


class Commands(TyperGroup):
    """The commands of `COMMANDS`, built when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is Typer's
        """Their names."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """One of them; None where there is none of that name."""
        return command_of(cmd_name) if cmd_name in COMMANDS else None


def command_of(name: str) -> Any:
    """A command of tunekit by its name, a key of `COMMANDS`."""
    return COMMANDS[name](name)


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
    """Fine-tune with ms-swift without out-of-memory surprises."""
