"""``tunekit report``: the page of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from tunekit.cli.command import File
from tunekit.errors import TunekitError, did_you_mean


def report_command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name or folder.", show_default=False)],
    out: Annotated[File, typer.Option(help="The file. Default: report.html in the run's folder.")] = None,
    lang: Annotated[str, typer.Option(help="en or zh.")] = "en",
) -> None:
    """Write what a run was and came to as one HTML file: settings, curves, attempts, data, commands."""
    from tunekit.cli.show.page import write_page
    from tunekit.cli.show.page_words import LANGUAGES
    from tunekit.runs.history import past_run

    if lang not in LANGUAGES:
        raise TunekitError(f"--lang takes {' or '.join(LANGUAGES)}, not {lang}", did_you_mean(lang, LANGUAGES))
    print(write_page(past_run(run), out, lang))
