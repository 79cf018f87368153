"""The commands of tunekit, put together. Importing this loads nothing heavy."""

from __future__ import annotations

import os
from typing import Annotated

import typer

import tunekit
from tunekit.cli import doctor, fit, presets, train
from tunekit.cli.swiftflags import SwiftCommand

app = typer.Typer(
    name="tunekit",
    help="Fine-tune with ms-swift without out-of-memory surprises.",
    epilog="Start with: tunekit sft --model Qwen2.5-7B --dataset data.jsonl --dry-run",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

TRAIN = "Train"
KNOW = "Look before you train"


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


for name, summary in train.HELP.items():
    app.command(name, help=summary + train.REST, short_help=summary, cls=SwiftCommand, rich_help_panel=TRAIN)(
        train.train
    )
app.command("resume", rich_help_panel=TRAIN)(train.resume)
app.command("fit", cls=SwiftCommand, rich_help_panel=KNOW)(fit.fit)
app.add_typer(presets.app, name="presets", rich_help_panel=KNOW)
app.command("doctor", rich_help_panel=KNOW)(doctor.doctor)
