"""``tunekit import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunekit.cli.command import Number, check_copy, option
from tunekit.console import say
from tunekit.errors import TunekitError

WHAT, WRITE = "What it is", "What to make of it"

FORMS = ("command", "swift", "recipe")


def import_command(
    file: Annotated[str, typer.Argument(help="A configuration or a script; - reads standard input.", metavar="FILE")],
    dialect: Annotated[str, option(WHAT, "The tool it is of, where that is not seen by itself.", "--from")] = "",
    world: Annotated[Number, option(WHAT, "Processes that it ran on, where the file does not say.")] = None,
    to: Annotated[str, option(WRITE, "command (of tunekit), swift (the exact run), or recipe.")] = FORMS[0],
    out: Annotated[str, option(WRITE, "Write it to this file.")] = "",
    run: Annotated[bool, option(WRITE, "Start it.", "--run")] = False,
    lenient: Annotated[bool, option(WRITE, "Go on although keys are unknown or cannot be had.", "--lenient")] = False,
    as_json: Annotated[bool, option(WRITE, "One JSON object on stdout.", "--json")] = False,
) -> None:
    """Take over a run of another tool: LLaMA-Factory, axolotl, TRL, unsloth, an older ms-swift.

    Every key of it is told: translated, the same by default, done elsewhere, lost, unknown. Nothing is executed.
    """
    from tunekit.cli.show import imports as show
    from tunekit.cli.show.lines import print_document
    from tunekit.recipes.importers.recognition import import_file
    from tunekit.recipes.importers.start import run_imported, write_imported
    from tunekit.recipes.importers.written import recipe_of, script_of

    if run and to == "recipe" and not out:
        raise TunekitError("a recipe is run from its file", "say where it is to stand: --out FILE")
    if to not in FORMS:
        raise TunekitError(f"--to {to} is not known", f"there are: {', '.join(FORMS)}")
    found, drafts = import_file(file, dialect, world)
    refusal = show.refusal_of(file, found, drafts)
    if as_json:
        print_document(show.import_document(file, found, drafts, swift=to == "swift"))
    else:
        show.show_import(file, found, drafts)
    if refusal and not lenient:
        raise refusal
    text = recipe_of(drafts, f"From {file}") if to == "recipe" else script_of(drafts, swift=to == "swift")
    if out:
        check_copy(Path(out))
        write_imported(Path(out), text, drafts, executable=to != "recipe")
        say(f"  written to {out}")
    elif not as_json and not run:
        print(text, end="")
    if run:
        raise typer.Exit(run_imported(drafts, recipe=Path(out) if to == "recipe" else None, swift=to == "swift"))
