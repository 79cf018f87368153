"""Files of rows: which one a dataset's name means, and its rows, one after the other, in constant memory."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import stat
from itertools import islice
from typing import TYPE_CHECKING, Any

from tunekit.errors import Exit, TunekitError, closest
from tunekit.files import parse_json, path_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO, TextIO

ROWS = 20
"""How many rows are looked at: enough to see the shape, instant on any file."""

LONGEST = 64 * 2**20
"""Bytes of one row: a picture in base64 has room, a file that is one endless line has not."""

PIECE = 2**16
"""Characters that are read at once of a JSON array."""

FILE_TYPES = (".jsonl", ".json", ".csv", ".txt", ".parquet", ".arrow", ".tsv")
"""Endings that mark a dataset as a file, not as an id on a hub."""

JSON = (".jsonl", ".json")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
READ = (*JSON, *DELIMITERS)
"""Endings of files that can be read without PyArrow."""

NAMED_BY_SWIFT = (
    "self-cognition",
    *(f"open_jev_{name}{new}" for name in ("jev", "clef", "omnijev") for new in ("", "_v11")),
)
"""Names without an organisation that ms-swift 4.6 knows (dataset/dataset/llm.py)."""

UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters that steer a terminal, or the direction in which it writes."""


class NotHere(TunekitError):  # noqa: N818 - named as what happened
    """A file is not on this machine; it may be on the one that a plan is made for."""


def shown(text: object, limit: int = 80) -> str:
    """What stood in a file, for a message: no longer than that, and with nothing that would steer the terminal."""
    words = str(text)
    cut = words if len(words) <= limit else f"{words[:limit]}…"
    return UNSEEN.sub(lambda found: f"\\x{ord(found[0]):02x}", cut)


def local_file(name: str) -> Path | None:
    """The file that a dataset's name means, without ``#500`` behind it; None for an id on a hub or a folder.

    Raises TunekitError, exit code 4, where there is no such file, or it is of a kind that ms-swift does not read.
    """
    bare = re.sub(r"#\d+$", "", name)
    path, kind = _place_of(bare)
    if kind is not None and stat.S_ISREG(kind):
        if path.suffix not in FILE_TYPES:
            hint = f"ms-swift reads {', '.join(ending for ending in FILE_TYPES if ending != '.tsv')}"
            raise TunekitError(f"dataset {shown(bare, 300)}: unknown kind of file", hint, Exit.DATA)
        return path
    if kind is not None and stat.S_ISDIR(kind):
        if not any(path.iterdir()):
            raise TunekitError(f"dataset {bare} is an empty folder", code=Exit.DATA)
        return None
    if kind is not None:
        message = f"dataset {bare} is a pipe or a device, not a file"
        raise TunekitError(message, "write the rows to a file: they are read more than once", Exit.DATA)
    if bare in NAMED_BY_SWIFT:
        return None
    looks_like_file = path.suffix in FILE_TYPES or bare.startswith((".", "/", "~")) or bare.count("/") > 1
    if looks_like_file or "/" not in re.sub(r"^(hf|ms)::", "", bare, flags=re.IGNORECASE):
        raise NotHere(f"dataset {shown(bare, 300)} does not exist", _meant(path), Exit.DATA)
    return None


def _place_of(bare: str) -> tuple[Path, int | None]:
    """Where a dataset would be, and of what kind that is; None where nothing is there."""
    path = path_of(bare, Exit.DATA)
    with contextlib.suppress(OSError, ValueError):  # ValueError: a zero byte
        return path, path.stat().st_mode
    return path, None


def _meant(path: Path) -> str:
    folder = path.parent
    near: list[str] = []
    with contextlib.suppress(OSError, ValueError):
        near = closest(path.name, [item.name for item in folder.iterdir()])
    meant = f"did you mean {' or '.join(str(folder / item) for item in near)}?"
    return meant if near else "give a file, or a hub id as organisation/name"


def read_rows(path: Path, limit: int = ROWS) -> Iterator[tuple[int, dict[str, Any]]]:
    """The first rows of a JSON Lines or JSON file, each with its line (its number, in a JSON array).

    Other types yield nothing: they are left to ms-swift. Raises TunekitError, exit code 4, for what is not UTF-8, not
    JSON, or a row that is no object.
    """
    if path.suffix in JSON:
        with readable(path):
            yield from islice(_json_array(path) if is_array(path) else _json_lines(path), limit)


def read_all(path: Path, limit: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The first `limit` rows for a format: as `read_rows`, and those of tables, each with its number.

    Raises TunekitError, exit code 4, for a file of another kind, and for a row that cannot be read.
    """
    if path.suffix not in READ:
        hint = "write it as JSON Lines first, one row a line"
        raise TunekitError(f"{path}: a format reads {', '.join(READ)}", hint, Exit.DATA)
    if path.suffix not in DELIMITERS:
        yield from read_rows(path, limit)
        return
    with readable(path), path.open("rb") as file:
        yield from islice(table_rows(path, file), limit)


def is_array(path: Path) -> bool:
    """Whether a file is one JSON array, which may stand under either ending, as JSON lines may.

    `datasets`, with which ms-swift reads, looks inside too.
    """
    with path.open(encoding="utf-8-sig") as file:
        while piece := file.read(PIECE):
            if piece.strip():
                return piece.lstrip()[0] == "["
    return False


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say in a line what is wrong with a file that is read within."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise TunekitError(f"{path} is not UTF-8 text", "save it as UTF-8", Exit.DATA) from error
    except OSError as error:
        raise TunekitError(f"{path} cannot be read: {error.strerror}", code=Exit.DATA) from error
    except csv.Error as error:
        raise TunekitError(f"{path}: {error}", code=Exit.DATA) from error


def text_lines(path: Path, file: BinaryIO) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers, each decoded by itself. Raises TunekitError for one without an end."""
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        yield number, line_text(path, number, line)


def line_text(path: Path, number: int, line: bytes) -> str:
    """A line as text. Raises TunekitError where it is longer than `LONGEST`; UnicodeDecodeError."""
    if len(line) > LONGEST:
        message = f"{path} line {number}: longer than {LONGEST // 2**20} MiB"
        raise TunekitError(message, "write one row a line", Exit.DATA)
    return line.decode("utf-8-sig" if number == 1 else "utf-8")


def json_row(path: Path, where: str, text: str) -> dict[str, Any]:
    """The object in a text of JSON. Raises TunekitError where it is none."""
    try:
        row = parse_json(text)
    except ValueError as error:
        hint = "one JSON object a line"
        raise TunekitError(f"{path} {where}: {_not_json(error)}", hint, Exit.DATA) from error
    return _object(path, where, row)


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as file:
        for number, line in text_lines(path, file):
            if line.strip():
                yield number, json_row(path, f"line {number}", line)


def _json_array(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, row, _ in array_rows(path):
        yield number, row


def array_rows(path: Path) -> Iterator[tuple[int, dict[str, Any], int]]:
    """The rows of a JSON array, each with its number and the characters up to its end; what was read is forgotten.

    Raises TunekitError, exit code 4; UnicodeDecodeError.
    """
    with path.open(encoding="utf-8-sig") as file:
        text, number = _Text(path, file), 0
        text.skip("[")
        while text.mark() != "]":
            if number and text.mark() != ",":
                raise _broken(path, number + 1, "there is no comma before it" if text.mark() else "the list has no end")
            if number:
                text.skip(",")
            number += 1
            yield number, _object(path, f"row {number}", text.value(number)), text.past


class _Text:
    """A file of JSON, of which no more is held than one value."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self.past = 0  # characters that were taken
        self._path, self._file, self._held = path, file, ""

    def mark(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            bare = self._held.lstrip()
            self.past += len(self._held) - len(bare)
            self._held = bare
            if bare or not self._more():
                return bare[:1]

    def skip(self, mark: str) -> None:
        """Go past a mark that is there."""
        if self.mark() == mark:
            self.past, self._held = self.past + 1, self._held[1:]

    def value(self, number: int) -> Any:
        """The value that begins here, which is that of a row."""
        decoder = json.JSONDecoder()
        self.mark()
        while True:
            try:
                found, end = decoder.raw_decode(self._held)
            except (ValueError, RecursionError) as error:
                if not _unfinished(error, self._held) or not self._more():
                    raise _broken(self._path, number, _not_json(error)) from error
                if len(self._held) > LONGEST:
                    raise _broken(self._path, number, f"longer than {LONGEST // 2**20} MiB") from error
            else:
                self.past, self._held = self.past + end, self._held[end:]
                return found

    def _more(self) -> bool:
        """Read on, by as much again as is held."""
        added = self._file.read(max(PIECE, len(self._held)))
        self._held += added
        return bool(added)


def _unfinished(error: Exception, buffer: str) -> bool:
    """Whether JSON may be wrong only because its end was not read yet."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or error.pos > len(buffer) - 32


def _broken(path: Path, number: int, why: str) -> TunekitError:
    why = why if why.startswith(("not JSON", "longer")) else f"not JSON: {why}"
    return TunekitError(f"{path} row {number}: {why}", "a list of objects: [{…}, {…}]", Exit.DATA)


def _not_json(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "not JSON: it is nested too deeply"
    return f"not JSON: {shown(error, 160)}"


def table_rows(path: Path, file: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a CSV or TSV file, each with its number, without the header. Raises TunekitError; csv.Error."""
    csv.field_size_limit(LONGEST)
    lines = (line for _, line in text_lines(path, file))
    rows = csv.DictReader(lines, delimiter=DELIMITERS[path.suffix], restkey="", restval="")
    for number, row in enumerate(rows, start=1):
        if isinstance(row.get(""), list):
            message = f"{path} row {number}: it has more fields than the header"
            raise TunekitError(message, 'a text with commas stands in quotes: "…"', Exit.DATA)
        yield number, row


def _object(path: Path, where: str, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        kind = shown(json.dumps(row)[:40]) if not isinstance(row, list) else "a list"
        raise TunekitError(f"{path} {where}: must be an object, not {kind}", code=Exit.DATA)
    return row
