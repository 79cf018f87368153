"""All rows of a dataset's file, for a format: JSON Lines, JSON, CSV and TSV, one row after the other."""

from __future__ import annotations

import csv
from itertools import islice
from typing import TYPE_CHECKING, Any

from tunekit.data.check import read_rows
from tunekit.errors import Exit, TunekitError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DELIMITERS = {".csv": ",", ".tsv": "\t"}
READ = (".jsonl", ".json", *DELIMITERS)
"""Endings of files that can be read without PyArrow."""


def read_all(path: Path, limit: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The first `limit` rows, each with its line (its number, in a JSON array or a table).

    Raises:
        TunekitError: exit code 4; the file is of another kind, or a row cannot be read.
    """
    if path.suffix not in READ:
        raise TunekitError(
            f"{path}: a format reads {', '.join(READ)}", "write it as JSON Lines first, one row a line", Exit.DATA
        )
    delimiter = DELIMITERS.get(path.suffix)
    if delimiter is None:
        yield from read_rows(path, limit)
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from enumerate(islice(csv.DictReader(file, delimiter=delimiter), limit), start=1)
    except UnicodeDecodeError as error:
        raise TunekitError(f"{path} is not UTF-8 text", "save it as UTF-8", Exit.DATA) from error
    except csv.Error as error:
        raise TunekitError(f"{path}: {error}", code=Exit.DATA) from error
