"""Lines and tables for people: wrapped to the terminal, aligned, in colour where there is one."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from typing import TYPE_CHECKING, TextIO

from tunekit.console import coloured, columns, say
from tunekit.memory.search import FITS, NOT, TIGHT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDEST = 100
INDENT = 11
"""Columns that the title of a line takes."""

GAP = "  "
NARROWEST = 32
"""Columns that the last column of a table needs to stand beside the others; with fewer it goes to lines of its own."""

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
INKS = {"": "", "red": "\x1b[31m", "green": "\x1b[32m", "yellow": "\x1b[33m"}
"""Colours by name, as a terminal takes them."""

VERDICT_COLOURS = {FITS: "green", TIGHT: "yellow", NOT: "red"}


def show_lines(lines: Iterable[tuple[str, str]]) -> None:
    """Lines on stderr, with a title each."""
    for title, message in lines:
        show_line(title, message)


def show_line(title: str, message: str, colour: str | None = None, *, wrap: bool = True) -> None:
    """A line on stderr with its title, wrapped below itself."""
    head = style(f"  {title:<{INDENT - 2}}", colour)
    lines = [message]
    if wrap:
        width = readable_width() - INDENT
        lines = textwrap.wrap(message, width, break_long_words=False, break_on_hyphens=False) or [""]
    say(f"{head}{lines[0]}")
    for line in lines[1:]:
        say(" " * INDENT + line)


def show_result(head: str, rest: str, colour: str | None = None) -> None:
    """A sentence on stderr that begins with a word or two that stand out, wrapped to the width that people read in."""
    wrapped = textwrap.wrap(head + rest, readable_width() - 2, break_long_words=False, break_on_hyphens=False)
    first, *below = wrapped
    say(f"  {style(head, colour)}{first[len(head) :]}")
    for line in below:
        say(f"  {line}")


def style(words: str, colour: str | None = "", stream: TextIO | None = None) -> str:
    """Bold, in a colour where one is named. None leaves `words` as they are, and so does a stream that is no terminal.

    The stream is stderr where none is given.
    """
    if colour is None or not coloured(stream or sys.stderr):
        return words
    return f"{INKS[colour]}\x1b[1m{words}\x1b[0m"


def readable_width() -> int:
    """Columns for people to read in: those of the terminal, 100 at the most."""
    return min(WIDEST, max(40, columns(sys.stderr) or WIDEST))


def print_document(document: object) -> None:
    """One JSON object on stdout."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of the same number of cells as aligned lines, as long as they get."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [GAP.join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows of the same number of cells on stdout; in a terminal the last column is wrapped."""
    if not rows:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    indent = sum(widths) + len(GAP) * len(widths)
    wide = columns(sys.stdout)
    room = wide - indent if wide else None
    for *cells, last in rows:
        left = "".join(f"{cell:<{width}}{GAP}" for cell, width in zip(cells, widths, strict=True))
        if not last or room is None or len(COLOURS.sub("", last)) <= room:
            print(f"{left}{last}".rstrip())
        elif room >= NARROWEST:
            print(textwrap.fill(last, indent + room, initial_indent=left, subsequent_indent=" " * indent))
        else:
            print(left.rstrip())
            below = max(NARROWEST, indent + room - 1)
            print(textwrap.fill(last, below, initial_indent=" " * 6, subsequent_indent=" " * 6))
