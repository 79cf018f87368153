"""Rows of text on stdout, aligned; in a terminal the last column is wrapped instead of running over the edge."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence

from tunekit.console import columns

GAP = "  "
NARROWEST = 24
"""Columns that the last column needs to stand beside the others; with fewer it goes to lines of its own."""


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of the same number of cells."""
    if not rows:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    indent = sum(widths) + len(GAP) * len(widths)
    wide = columns(sys.stdout)
    room = wide - indent if wide else None
    for *cells, last in rows:
        left = "".join(f"{cell:<{width}}{GAP}" for cell, width in zip(cells, widths, strict=True))
        if not last or room is None or len(last) <= room:
            print(f"{left}{last}".rstrip())
        elif room >= NARROWEST:
            print(textwrap.fill(last, indent + room, initial_indent=left, subsequent_indent=" " * indent))
        else:
            print(left.rstrip())
            print(
                textwrap.fill(
                    last, max(NARROWEST, indent + room - 1), initial_indent=" " * 6, subsequent_indent=" " * 6
                )
            )
