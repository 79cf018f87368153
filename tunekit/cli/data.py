"""``tunekit augment``: mirrored and cropped copies of a dataset's pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from tunekit.cli.command import option
from tunekit.console import say
from tunekit.errors import counted

HOW = "How the copies differ"


def augment_command(
    data: Annotated[Path, typer.Argument(help="JSON lines with images.", show_default=False)],
    out: Annotated[Path, option("Where", "A new folder: data.jsonl and images/.", "--out")],
    flip: Annotated[bool, option(HOW, "Mirrored left to right.", "--flip")] = False,
    crop: Annotated[Optional[float], option(HOW, "Keep this share of each side: 0.9.", "--crop")] = None,  # noqa: UP045
    seed: Annotated[int, option(HOW, "The same seed makes the same copies. Default: 42.", "--seed")] = 42,
    text: Annotated[bool, option(HOW, "Copy rows about what is written in pictures too.", "--even-with-text")] = False,
) -> None:
    """Write a dataset with a changed copy of every picture beside it: more variety for a model that sees.

    Rows about text in pictures, about left and right (with --flip), or with coordinates are kept, and not copied.
    """
    from tunekit.data.augment import Copies, augment_dataset, reasons

    done = augment_dataset(data, out, Copies(flip, crop, seed, text))
    copies = f"{done.added} {'copy' if done.added == 1 else 'copies'}"
    say(f"wrote {out / 'data.jsonl'}: {counted(done.rows, 'row')} and {copies}")
    if done.left:
        say(f"not copied: {reasons(done)}")
