"""``tunekit data check``: every row of a dataset is looked at, and what is wrong is said or mended."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from tunekit.cli.command import option

AS, OUT = "What the rows are for", "What is written"


def check_command(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Files or folders of rows.", show_default=False)
    ],
    stage: Annotated[str, option(AS, "A stage, such as dpo, or a task. Default: what suits.", "--stage")] = "",
    model: Annotated[str, option(AS, "Count tokens with its tokenizer.", "--model")] = "",
    max_length: Annotated[Optional[int], option(AS, "Tokens of a row.", "--max-length", "--max_length")] = None,  # noqa: UP045
    validation: Annotated[
        Optional[list[str]],  # noqa: UP045
        option(AS, "Rows to validate with: none may be trained on.", "--val-dataset", "--val_dataset"),
    ] = None,
    fix: Annotated[
        Optional[Path],  # noqa: UP045
        option(OUT, "Good and mended rows go there, the others to its .left.jsonl.", "--fix"),
    ] = None,
    as_json: Annotated[bool, option(OUT, "What was found, as one JSON object on stdout.", "--json")] = False,
) -> None:
    """Look at every row of a dataset, and say what will not do, with lines: exit code 4 where something will not.

    With --fix OUT nothing is lost: each row is in OUT, or with the reason in OUT's .left.jsonl; several files go into a
    folder.
    """
    from tunekit.cli.show.check import show_check
    from tunekit.cli.show.conversion import ConversionBar
    from tunekit.data.mend import mend_files
    from tunekit.data.stage_rows import target_named
    from tunekit.data.survey import check_dataset
    from tunekit.runs.long import long_rows

    with ConversionBar() as bar:
        done = check_dataset(files, validation or (), target_named(stage) if stage else "", bar.move)
        lengths = long_rows(done, model, max_length, bar.move) if model else None
    written = mend_files(done, fix) if fix else None
    raise typer.Exit(show_check(done, lengths, written, as_json=as_json))
