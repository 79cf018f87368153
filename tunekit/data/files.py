"""Files of rows: which one a dataset's name means, and its rows, one after the other."""

from __future__ import annotations

import contextlib
import csv
import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from tunekit.errors import Exit, TunekitError, closest
from tunekit.files import parse_json, path_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = 20
"""How many rows are looked at: enough to see the shape, instant on any file."""

FILE_TYPES = (".jsonl", ".json", ".csv", ".txt", ".parquet", ".arrow", ".tsv")
"""Endings that mark a dataset as a file, not as an id on a hub."""

JSON = (".jsonl", ".json")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
READ = (*JSON, *DELIMITERS)
"""Endings of files that can be read without PyArrow."""


def local_file(name: str) -> Path | None:
    """The file that a dataset's name means, without ``#500`` behind it; None for an id on a hub or a folder.

    Raises TunekitError, exit code 4, where there is no such file, or it is of a kind that ms-swift does not read.
    """
    bare = re.sub(r"#\d+$", "", name)
    path = path_of(bare, Exit.DATA)
    if path.is_file():
        if path.suffix not in FILE_TYPES:
            hint = f"ms-swift reads {', '.join(FILE_TYPES)}"
            raise TunekitError(f"dataset {bare}: unknown kind of file", hint, Exit.DATA)
        return path
    if path.is_dir():
        if not any(path.iterdir()):
            raise TunekitError(f"dataset {bare} is an empty folder", code=Exit.DATA)
        return None
    looks_like_file = path.suffix in FILE_TYPES or bare.startswith((".", "/", "~")) or bare.count("/") > 1
    if looks_like_file or "/" not in bare.removeprefix("HF::").removeprefix("MS::"):
        folder = path.parent
        near = closest(path.name, [item.name for item in folder.iterdir()]) if folder.is_dir() else []
        meant = f"did you mean {' or '.join(str(folder / item) for item in near)}?"
        hint = meant if near else "give a file, or a hub id as organisation/name"
        raise TunekitError(f"dataset {bare} does not exist", hint, Exit.DATA)
    return None


def read_rows(path: Path, limit: int = ROWS) -> Iterator[tuple[int, dict[str, Any]]]:
    """The first rows of a JSON Lines or JSON file, each with its line (its number, in a JSON array).

    Other types yield nothing: they are left to ms-swift. Raises TunekitError, exit code 4, for what is not UTF-8, not
    JSON, or a row that is no object.
    """
    if path.suffix in JSON:
        with _readable(path):
            yield from (_json_array if is_array(path) else _json_lines)(path, limit)


def read_all(path: Path, limit: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The first `limit` rows for a format: as `read_rows`, and those of tables, each with its number.

    Raises TunekitError, exit code 4, for a file of another kind, and for a row that cannot be read.
    """
    if path.suffix not in READ:
        hint = "write it as JSON Lines first, one row a line"
        raise TunekitError(f"{path}: a format reads {', '.join(READ)}", hint, Exit.DATA)
    delimiter = DELIMITERS.get(path.suffix)
    if delimiter is None:
        yield from read_rows(path, limit)
        return
    with _readable(path), path.open(encoding="utf-8-sig", newline="") as file:
        yield from enumerate(islice(csv.DictReader(file, delimiter=delimiter), limit), start=1)


def is_array(path: Path) -> bool:
    """Whether a file is one JSON array, which may stand under either ending, as JSON lines may.

    `datasets`, with which ms-swift reads, looks inside too.
    """
    with path.open(encoding="utf-8-sig") as file:
        return next((line.lstrip()[0] for line in file if line.strip()), "") == "["


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise TunekitError(f"{path} is not UTF-8 text", "save it as UTF-8", Exit.DATA) from error
    except OSError as error:
        raise TunekitError(f"{path} cannot be read: {error.strerror}", code=Exit.DATA) from error
    except csv.Error as error:
        raise TunekitError(f"{path}: {error}", code=Exit.DATA) from error


def _json_lines(path: Path, limit: int) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        lines = ((number, line) for number, line in enumerate(file, start=1) if line.strip())
        for number, line in islice(lines, limit):
            try:
                row = parse_json(line)
            except ValueError as error:
                message = f"{path} line {number}: not JSON: {error}"
                raise TunekitError(message, "one JSON object a line", Exit.DATA) from error
            yield number, _object(path, f"line {number}", row)


def _json_array(path: Path, limit: int) -> Iterator[tuple[int, dict[str, Any]]]:
    text = path.read_text(encoding="utf-8-sig")
    try:
        rows = parse_json(text)
    except ValueError as error:
        raise TunekitError(f"{path}: not JSON: {error}", "a list of objects: [{…}, {…}]", Exit.DATA) from error
    for number, row in enumerate(rows[:limit], start=1):
        yield number, _object(path, f"row {number}", row)


def _object(path: Path, where: str, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise TunekitError(f"{path} {where}: must be an object, not {json.dumps(row)[:40]}", code=Exit.DATA)
    return row
