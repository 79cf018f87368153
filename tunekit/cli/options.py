"""The kinds of options that the commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

# Typer evaluates these annotations, on Python 3.10 too: Optional, not X | None.
Text = Optional[str]  # noqa: UP045
Number = Optional[int]  # noqa: UP045
Words = Optional[list[str]]  # noqa: UP045
File = Optional[Path]  # noqa: UP045


def option(panel: str, text: str, *names: str) -> typer.models.OptionInfo:
    """An option of a command, in a panel of its help; names are made from the parameter where none is given."""
    made: typer.models.OptionInfo = typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)
    return made
