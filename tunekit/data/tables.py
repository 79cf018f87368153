"""The rows of tables: CSV and TSV, Parquet and Arrow."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Any

from tunekit.data.encoding import UTF8
from tunekit.data.entry import Entry, numbered_lines
from tunekit.data.files import LONGEST, shown
from tunekit.errors import Exit, TunekitError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

BATCH = 200
"""Rows of a Parquet or Arrow file that are made at once."""


def table_entries(file: BinaryIO, delimiter: str) -> Iterator[Entry]:
    """The rows of a CSV or TSV file in UTF-8, numbered from 1 without the header."""
    csv.field_size_limit(LONGEST)
    lines = _Lines(file)
    header: list[str] = []
    number = 0
    rows = csv.reader(lines, delimiter=delimiter)
    while True:
        lines.taken.clear()
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            number += 1
            yield Entry(number, None, str(error), "".join(lines.taken))
            rows = csv.reader(lines, delimiter=delimiter)
            continue
        if cells and header:
            number += 1
            entry = _table_entry(number, header, cells, lines.taken, delimiter)
            entry.past = lines.past
            yield entry
        header = header or cells


class _Lines:
    """The lines of a table, of which those of the row at hand are kept."""

    def __init__(self, file: BinaryIO) -> None:
        self.taken: list[str] = []
        self.past = 0
        self._lines = numbered_lines(file)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        _, line, too_long = next(self._lines)
        text = line.decode(UTF8, "replace")
        self.past += len(line)
        self.taken.append(text)
        if too_long:
            raise csv.Error(too_long)
        return text.replace("\0", "")


def _table_entry(number: int, header: list[str], cells: list[str], taken: list[str], delimiter: str) -> Entry:
    raw = "".join(taken)
    if len(cells) > len(header):
        return Entry(number, None, "it has more fields than the header", raw)
    if len(taken) > 1 and _is_open(taken, delimiter):
        return Entry(number, None, 'a quote " is opened and never closed', raw)
    row: dict[str, Any] = dict(zip(header, cells + [""] * (len(header) - len(cells)), strict=True))
    return Entry(number, _labelled(row), "it has zero bytes" if "\0" in raw else "", raw)


def _labelled(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its label as `datasets` reads it."""
    label = row.get("label")
    if isinstance(label, str) and re.fullmatch(r"-?\d{1,9}", label):
        return row | {"label": int(label)}
    if isinstance(label, str) and label.lower() in ("true", "false"):
        return row | {"label": label.lower() == "true"}
    return row


def _is_open(taken: list[str], delimiter: str) -> bool:
    """Whether the lines of a row end within quotes."""
    try:
        list(csv.reader((line.replace("\0", "") for line in taken), delimiter=delimiter, strict=True))
    except csv.Error as error:
        return "unexpected end" in str(error)
    return False


def arrow_entries(path: Path, *, parquet: bool) -> Iterator[Entry]:
    """The rows of a Parquet or Arrow file. Raises TunekitError where PyArrow is missing."""
    try:
        import pyarrow as pa
    except ImportError:
        message = f"{path}: PyArrow is needed to read it, and is not installed"
        raise TunekitError(message, 'pip install "tunekit[data]"', Exit.DATA) from None
    number = 0
    try:
        for batch in _parquet_batches(path) if parquet else _arrow_batches(path):
            for row in batch.to_pylist():
                number += 1
                yield Entry(number, row)
    except (pa.ArrowException, OSError, ValueError) as error:
        yield Entry(number + 1, None, f"it cannot be read from here on: {shown(error, 160)}")


def _parquet_batches(path: Path) -> Iterator[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as table:
        yield from table.iter_batches(BATCH)


def _arrow_batches(path: Path) -> Iterator[Any]:
    """The rows of a file of Arrow's, which is a stream as `datasets` writes it, or has a table of contents."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        try:
            batches: Any = pa.ipc.open_stream(file)
        except pa.ArrowInvalid:
            found = pa.ipc.open_file(file)
            batches = (found.get_batch(number) for number in range(found.num_record_batches))
        for batch in batches:
            for start in range(0, batch.num_rows, BATCH):
                yield batch.slice(start, BATCH)
