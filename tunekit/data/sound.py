"""The rows of a file that must all be sound: the first that ms-swift cannot read is an error, in a line."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from tunekit.data.files import JSON, READ, ROWS
from tunekit.data.read import NO_TSV, RowFile, look_into
from tunekit.errors import Exit, TunekitError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tunekit.data.entry import Entry


def read_rows(path: Path, limit: int = ROWS) -> Iterator[tuple[int, dict[str, Any]]]:
    """The first rows of a JSON Lines or JSON file, each with its line (its number, in a JSON list).

    Other kinds yield nothing: they are left to ms-swift. Raises TunekitError, exit code 4, for what cannot be read.
    """
    if path.suffix in JSON:
        yield from islice(sound_rows(look_into(path)), limit)


def read_all(path: Path, limit: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The first `limit` rows for a format: as `read_rows`, and those of tables, each with its number.

    Raises TunekitError, exit code 4, for a file of another kind, and for a row that cannot be read.
    """
    if path.suffix not in READ:
        hint = "write it as JSON Lines first, one row a line"
        raise TunekitError(f"{path}: a format reads {', '.join(READ)}", hint, Exit.DATA)
    yield from islice(sound_rows(look_into(path)), limit)


def sound_rows(file: RowFile) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a file with their numbers.

    Raises TunekitError, exit code 4, for the first that cannot be read, or where ms-swift cannot read the file.
    """
    refuse_problems(file)
    for entry in file.entries():
        yield entry.number, sound_row(file, entry)


def refuse_problems(file: RowFile) -> None:
    """Raise TunekitError, exit code 4, where ms-swift cannot read a file as it stands; a .tsv is for formats."""
    problem = next((problem for problem in file.problems if problem != NO_TSV), None)
    if problem:
        hint = f"tunekit data check {file.path} --fix OUT.jsonl writes its rows as ms-swift reads them"
        raise TunekitError(f"{file.path}: {problem}", hint, Exit.DATA)


def sound_row(file: RowFile, entry: Entry) -> dict[str, Any]:
    """The row of an entry. Raises TunekitError, exit code 4, where there is none that ms-swift can read."""
    if entry.row is None or entry.fault:
        where = f"{file.path} {file.unit} {entry.number}"
        hint = f"tunekit data check {file.path} lists all such rows; --fix OUT.jsonl writes the others"
        raise TunekitError(f"{where}: {entry.fault}", hint, Exit.DATA)
    return entry.row
