"""Every row of a file of any kind, one after the other, in constant memory: the row, or why there is none.

What ms-swift cannot read as it stands (another encoding, rows under a key, `.gz`) is read all the same, and said.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import zlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from tunekit.data.encoding import GBK, UTF8, WESTERN, Recoded, encoding_name, encoding_of
from tunekit.data.entry import Entry, numbered_lines, row_of
from tunekit.data.files import DELIMITERS, LONGEST, shown
from tunekit.data.json_text import JsonText, Value
from tunekit.data.rows import ROLES, ROW_LISTS
from tunekit.data.tables import arrow_entries, table_entries
from tunekit.errors import Exit, TunekitError
from tunekit.files import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

HEAD = 2**20
"""Bytes of a file by which its kind is told."""

PACKED = ".gz"
TEXT_KINDS = (".jsonl", ".json", ".csv", ".tsv", ".txt")
BINARY_KINDS = (".parquet", ".arrow")
NO_TSV = "ms-swift reads no .tsv"
LINES, ARRAY, OBJECT, VALUES, TABLE, TEXT, PARQUET, ARROW = (
    *("JSON lines", "a JSON list", "a JSON object", "JSON objects", "a table", "plain text"),
    *("Parquet", "Arrow"),
)
"""The kinds of file, in words."""


@dataclass(frozen=True)
class RowFile:
    """A file of rows, of which the kind is known.

    Attributes:
        path: of the file.
        kind: `LINES`, `ARRAY` and so on.
        encoding: of its text, as Python calls it; ``utf-8`` for what is none.
        packed: it is a ``.gz``.
        key: under which the rows of a JSON object stand.
        delimiter: of a table.
        problems: why ms-swift cannot read the file as it stands, a line each.
        empty: there is nothing in it.
    """

    path: Path
    kind: str
    encoding: str = UTF8
    packed: bool = False
    key: str = ""
    delimiter: str = ","
    problems: tuple[str, ...] = ()
    empty: bool = False

    @property
    def unit(self) -> str:
        """What the numbers of its entries count: ``line`` or ``row``."""
        return "line" if self.kind in (LINES, TEXT) else "row"

    def entries(self) -> Iterator[Entry]:
        """All that stands in the file, in order; blank lines are left out.

        Raises TunekitError, exit code 4, where the file cannot be opened, or PyArrow is missing.
        """
        if self.kind in (PARQUET, ARROW):
            yield from arrow_entries(self.path, parquet=self.kind == PARQUET)
            return
        count = 0
        try:
            with self.open() as file:
                for entry in READERS[self.kind](self, file):
                    count = entry.number
                    yield entry
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            yield Entry(count + 1, fault=f"the .gz is cut off or damaged behind it: {shown(error, 120)}")
        except OSError as error:
            raise TunekitError(f"{self.path} cannot be read: {error.strerror}", code=Exit.DATA) from error

    def open(self) -> BinaryIO:
        """The bytes of the file: unpacked, and those of a text in UTF-8, whatever it stands in."""
        file = cast("BinaryIO", gzip.GzipFile(self.path) if self.packed else self.path.open("rb"))
        return io.BufferedReader(Recoded(file, self.encoding), HEAD) if self._recodes() else file

    def _recodes(self) -> bool:
        by_line = self.kind in (LINES, TEXT) and self.encoding in (GBK, WESTERN)
        return self.encoding not in (UTF8, "utf-8-sig") and not by_line


def kind_ending(path: Path) -> str:
    """The ending that tells the kind of a file, without that of ``.gz``; empty where it is of no known kind."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes[-1:] == [PACKED]:
        return suffixes[0] if len(suffixes) == 2 and suffixes[0] in TEXT_KINDS else ""
    return suffixes[-1] if suffixes and suffixes[-1] in (*TEXT_KINDS, *BINARY_KINDS) else ""


def files_in(folder: Path) -> list[Path]:
    """The files of rows in a folder and below, in order; hidden ones are left out."""
    found = (path for path in folder.rglob("*") if not any(part[0] == "." for part in path.relative_to(folder).parts))
    return sorted(path for path in found if kind_ending(path) and path.is_file())


def look_into(path: Path) -> RowFile:
    """Which kind of file that is, from its ending and its first `HEAD` bytes.

    Raises TunekitError, exit code 4, where it cannot be opened or is of no kind that has rows.
    """
    ending, packed = kind_ending(path), path.suffix.lower() == PACKED
    if not ending:
        known = ", ".join((*TEXT_KINDS, *BINARY_KINDS))
        raise TunekitError(f"{path}: unknown kind of file", f"rows stand in {known}, or {PACKED} of a text", Exit.DATA)
    if ending in BINARY_KINDS:
        return RowFile(path, PARQUET if ending == ".parquet" else ARROW, empty=path.stat().st_size == 0)
    bare = RowFile(path, TEXT, packed=packed)
    try:
        with bare.open() as file:
            head = file.read(HEAD)
    except (EOFError, zlib.error):
        head = b""
    except OSError as error:
        if not isinstance(error, gzip.BadGzipFile):
            raise TunekitError(f"{path} cannot be read: {error.strerror}", code=Exit.DATA) from error
        raise TunekitError(f"{path} is no gzip file", "take the .gz from its name", Exit.DATA) from None
    return _told(bare, ending, head)


def _told(bare: RowFile, ending: str, head: bytes) -> RowFile:
    encoding = encoding_of(head, whole=len(head) < HEAD) or UTF8
    problems = [f"ms-swift reads no {PACKED}"] if bare.packed else []
    if encoding not in (UTF8, "utf-8-sig"):
        problems.append(f"it is {encoding_name(encoding)}, and ms-swift reads UTF-8")
    text = head.decode(encoding, "replace").removeprefix("\ufeff")
    kind, key, delimiter = TEXT, "", ","
    if ending in DELIMITERS:
        kind, delimiter = TABLE, _delimiter(ending, text)
    elif ending != ".txt":
        kind, key = _json_kind(text)
    if ending == ".tsv":
        problems.append(NO_TSV)
    elif delimiter != "," and kind == TABLE:
        problems.append(f'its columns are separated by "{delimiter}", and ms-swift reads commas')
    if kind == OBJECT:
        problems.append(f'its rows stand under "{key}", and ms-swift takes the object for one row')
    if kind == ARRAY and not head.startswith(b"["):
        problems.append("there is something before its first [, and ms-swift reads no such list")
    if kind == TEXT and encoding == "utf-8-sig":
        problems.append("it begins with a byte order mark, which ms-swift takes for a part of the text")
    old_ends = "\r" in text and "\n" not in text
    encoding = "utf-8-sig" if encoding == UTF8 and head.startswith(b"\xef\xbb\xbf") else encoding
    if old_ends and encoding in (UTF8, "utf-8-sig"):
        encoding = "utf_8_sig"  # the same, by a name that makes `Recoded` set the ends of lines right
    return RowFile(
        bare.path, kind, encoding, bare.packed, key, delimiter, tuple(problems), empty=not text.strip("\0 \t\r\n")
    )


def _delimiter(ending: str, text: str) -> str:
    """What separates the columns of a table."""
    header = text.split("\n", 1)[0]
    usual = DELIMITERS[ending]
    others = [mark for mark in ("\t", ";", "|", ",") if mark in header]
    return usual if usual in header or not others else others[0]


def _json_kind(text: str) -> tuple[str, str]:
    """Whether a text of JSON is lines, a list, or an object, and the key of the rows in it."""
    bare = text.lstrip(" \t\r\n\0")
    if bare.startswith("["):
        return ARRAY, ""
    line, _, more = bare.partition("\n")
    try:
        row = parse_json(line)
    except ValueError as error:
        # lines are broken anywhere; an object that is written over several ends where there is no end of it
        cut = isinstance(error, json.JSONDecodeError) and error.pos >= len(line.rstrip()) - 1
        if not bare.startswith("{") or not (cut or not more):
            return LINES, ""
        key = _rows_key(bare)
        return (OBJECT, key) if key else (VALUES if cut and more else LINES, "")
    if more.strip() or not isinstance(row, dict):
        return LINES, ""
    key = next((key for key, value in row.items() if _holds_rows(key, value)), "")
    return (OBJECT, key) if key else (LINES, "")


def _rows_key(text: str) -> str:
    """The key of the rows in an object of which the beginning is known."""
    reader = JsonText(io.StringIO(text))
    for key, mark in reader.items():
        if mark == "[":
            first = next(reader.values(), Value())
            if _holds_rows(key, [first.found]):
                return key
            break
        if reader.value().fault:
            break
    return ""


def _holds_rows(key: str, value: Any) -> bool:
    """Whether what stands under a key of an object are rows, and not a part of one."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and key not in ROW_LISTS and not any(role in first for role in ROLES)


@cache
def fast_decode() -> Callable[[bytes], Any]:
    """What reads a line of JSON: msgspec's reader where the extra ``data`` is installed, else Python's, as strict."""
    try:
        from msgspec.json import decode
    except ImportError:
        return _decode
    return decode


def _decode(line: bytes) -> Any:
    if b"\\ud" in line or b"\\uD" in line:  # half a character, perhaps
        raise ValueError
    return json.loads(line)


def json_lines(source: RowFile, file: BinaryIO) -> Iterator[Entry]:
    """The entries of a file of JSON lines, or of a part of it; they are numbered from 1."""
    decode = fast_decode()
    for number, line, fault in numbered_lines(file):
        if fault:
            yield Entry(number, None, fault, line)
            continue
        try:
            row = decode(line)
        except Exception:  # noqa: BLE001 - msgspec has errors of its own; which it is, the slower reader says
            if line.strip():
                yield _slow_line(source, number, line)
            continue
        if type(row) is dict:
            yield Entry(number, row, "", line)
        else:
            yield _slow_line(source, number, line)


def line_entry(source: RowFile, number: int, line: bytes) -> Entry:
    """What a line of JSON lines or of plain text says."""
    if len(line) > LONGEST:
        return Entry(number, None, f"longer than {LONGEST // 2**20} MiB", line)
    if source.kind == LINES:
        return _slow_line(source, number, line)
    text, fault = line_of_text(source, line)
    return Entry(number, None if text is None else {"text": text.rstrip("\r\n")}, fault, line)


def _slow_line(source: RowFile, number: int, line: bytes) -> Entry:
    """A line of JSON that is out of the ordinary."""
    text, fault = line_of_text(source, line)
    if text is None:
        return Entry(number, None, fault, line)
    row, wrong = row_of(text)
    return Entry(number, row, fault or wrong if row is not None else wrong or fault, line)


def line_of_text(source: RowFile, line: bytes) -> tuple[str | None, str]:
    """A line as text, and what is wrong with its bytes; None where they are no text."""
    with contextlib.suppress(UnicodeDecodeError):
        return line.decode(UTF8), ""
    if not source.encoding.startswith("utf"):  # which is said of the file
        with contextlib.suppress(UnicodeDecodeError):
            return line.decode(source.encoding), ""
    encoding = encoding_of(line)
    if encoding.startswith("utf") or not encoding:
        return None, "its bytes are no UTF-8: something broke them"
    return line.decode(encoding), f"it is {encoding_name(encoding)}, and ms-swift reads UTF-8"


def _text_lines(source: RowFile, file: BinaryIO) -> Iterator[Entry]:
    for number, line, long in numbered_lines(file):
        if long or not line.strip():
            if long:
                yield Entry(number, None, long, line)
            continue
        yield line_entry(source, number, line)


def _table(source: RowFile, file: BinaryIO) -> Iterator[Entry]:
    yield from table_entries(file, source.delimiter)


def _values(source: RowFile, file: BinaryIO) -> Iterator[Entry]:
    """The rows of a JSON list, of one under a key, or of objects one behind the other."""
    text = JsonText(io.TextIOWrapper(file, "utf-8-sig", errors="replace"))
    number = 0
    for value in _under_key(text, source.key) if source.kind == OBJECT else _listed(text, source.kind):
        number += 1
        entry = _entry(number, value)
        entry.past = text.past
        yield entry
    behind = "".join(text.rest()) if not text.mark() else ""
    for piece in text.rest() if not behind else ():
        number += 1
        yield Entry(number, None, "not JSON: there is something behind the end", piece)


def _listed(text: JsonText, kind: str) -> Iterator[Value]:
    if kind == ARRAY:
        yield from text.values()
        return
    while text.mark():
        yield text.value()


def _under_key(text: JsonText, key: str) -> Iterator[Value]:
    for name, mark in text.items():
        if mark != "[":
            text.value()
            continue
        for value in text.values():
            if name == key:
                yield value
            elif isinstance(value.found, dict):
                yield Value(fault=f'it stands under "{shown(name)}", not under "{key}"', text=json.dumps(value.found))


def _entry(number: int, value: Value) -> Entry:
    if value.found is None:
        return Entry(number, None, value.fault or "must be an object, not null", value.text or "null")
    if isinstance(value.found, dict):
        return Entry(number, value.found, value.fault)
    raw = json.dumps(value.found)
    row, fault = row_of(raw)
    return Entry(number, row, fault, raw)


READERS: dict[str, Callable[[RowFile, BinaryIO], Iterator[Entry]]] = {
    LINES: json_lines,
    TEXT: _text_lines,
    TABLE: _table,
    **dict.fromkeys((ARRAY, OBJECT, VALUES), _values),
}
"""How the kinds of text are read."""
