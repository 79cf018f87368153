"""What ``tunekit data convert`` shows: a bar on its way, and what became of the rows."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from tunekit.cli.show.lines import print_document, show_line
from tunekit.console import columns, say, tolerant_stderr
from tunekit.errors import counted

if TYPE_CHECKING:
    from tunekit.data.conversion import Conversion, Converted

WIDTH = 30
SHOWN = 5
"""Reasons that are shown; the others are in the file of rows that are left."""


class ConversionBar:
    """How far the files were read, on a terminal; elsewhere nothing."""

    def __init__(self) -> None:
        self._wide = columns(sys.stderr) or 0

    def __enter__(self) -> ConversionBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._wide:
            with tolerant_stderr():
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def move(self, done: int, size: int, rows: int) -> None:
        """Draw it again: bytes that were read of how many, and rows."""
        if not self._wide:
            return
        share = min(1.0, done / size) if done and size else None
        bar = "" if share is None else f"{'━' * round(WIDTH * share):<{WIDTH}}  {share:4.0%}  "
        with tolerant_stderr():
            print(f"\r\x1b[K  {bar}{rows:,} rows"[: self._wide + 3], end="", file=sys.stderr, flush=True)


def show_conversion(asked: Conversion, done: Converted, *, as_json: bool) -> None:
    """What was written and what was left, on stderr; as JSON on stdout."""
    if as_json:
        files = {"out": asked.out, "val": asked.beside("val"), "left": asked.beside("left"), "images": asked.pictures}
        there = {name: str(path) for name, path in files.items() if path.exists()}
        counts = {"shapes": dict(done.shapes), "dropped": dict(done.dropped)}
        reasons = [asdict(one) for one in done.left.values()]
        numbers = {"rows": done.rows, "written": done.written, "validation": done.validation, "unused": done.unused}
        print_document({"target": asked.target, "files": there, **numbers, **counts, "left": reasons})
        return
    what = ", ".join(f"{shape} {number:,}" for shape, number in done.shapes.most_common())
    say(f"wrote {asked.out}: {_rows(done.written)} for {asked.target}, of {_rows(done.rows)} ({what})")
    if done.validation:
        say(f"wrote {asked.beside('val')}: {_rows(done.validation)}, for --val-dataset")
    elif asked.split:
        say(f"nothing is kept for validation: {_rows(done.rows)} are too few for {asked.split:g} of them")
    if done.unused or asked.most is not None:
        show_line("Chosen", _chosen(asked, done))
    if done.dropped:
        named = ", ".join(f"{name} ({number:,})" for name, number in done.dropped.most_common(8))
        show_line("Columns", f"not taken over, since ms-swift reads none of them: {named}")
    left = sum(one.number for one in done.left.values())
    if left:
        show_line("Left", f"{_rows(left)} could not be converted; they stand in {asked.beside('left')}, each with why")
        for one in sorted(done.left.values(), key=lambda one: -one.number)[:SHOWN]:
            show_line("", f"{one.number:,}: {one.why} ({one.first})")
        if len(done.left) > SHOWN:
            show_line("", f"and {counted(len(done.left) - SHOWN, 'other reason')}")


def _chosen(asked: Conversion, done: Converted) -> str:
    parts = [f"{asked.ratio:.0%} of each file, evenly spread, seed {asked.seed}"] if asked.ratio < 1 else []
    if asked.most is not None:
        kind = f"any {asked.most:,} rows of each file, seed {asked.seed}" if asked.at_random else ""
        parts.append(kind or f"the first {asked.most:,} rows of each file; --random takes any")
    return f"{'; '.join(parts)}" + (f" ({done.unused:,} rows were not)" if done.unused else "")


def _rows(number: int) -> str:
    return f"{number:,} row{'' if number == 1 else 's'}"
