"""What stands at a place of a file of rows: a row, or why there is none; and the row in a text of JSON."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunekit.data.files import LONGEST, shown
from tunekit.data.json_text import not_json
from tunekit.files import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO


@dataclass
class Entry:
    """What stands at a place of a file.

    Attributes:
        number: of its line in JSON lines and plain text; else of the row, from 1 and without a header.
        row: it; None where it cannot be read.
        fault: why it cannot be read, in a line. Beside a row: why ms-swift cannot read it as it stands.
        raw: what stood there, in bytes where it is a line; empty for a row of Parquet, Arrow and JSON lists.
        past: bytes of the text up to its end; of JSON lines, plain text, Parquet and Arrow it is not counted.
    """

    number: int
    row: dict[str, Any] | None = None
    fault: str = ""
    raw: str | bytes = ""
    past: int = 0


def row_of(text: str) -> tuple[dict[str, Any] | None, str]:
    """The object in a text of JSON, and what is wrong: with None why it is none, else why ms-swift cannot read it."""
    fault = ""
    try:
        row = parse_json(text)
    except ValueError as error:
        row, fault = _mended(text)
        if row is None:
            return None, not_json(error)
    if not isinstance(row, dict):
        return None, f"must be an object, not {'a list' if isinstance(row, list) else shown(json.dumps(row)[:40])}"
    if "\\ud" in text.lower():
        whole = json.dumps(row, ensure_ascii=False)
        mended = whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if whole != mended:
            return parse_json(mended), r"it has half a character (\ud800 to \udfff without the other half)"
    return row, fault


def _mended(text: str) -> tuple[Any, str]:
    """What a text says that is JSON but for what can be left out; None where it is not."""
    bare = text.replace("\0", "")
    for strict, fault in ((True, "it has zero bytes"), (False, "control characters stand in a text as they are")):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(bare, strict=strict), fault
    return None, ""


def numbered_lines(file: BinaryIO) -> Iterator[tuple[int, bytes, str]]:
    """The lines of a file with their numbers; of one that is too long the beginning, and why it is cut."""
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if number == 1 and line.startswith(b"\xef\xbb\xbf"):
            line = line[3:]
        if len(line) <= LONGEST:
            yield number, line, ""
            continue
        while line:  # in pieces, so that nothing of it is lost
            yield number, line, f"longer than {LONGEST // 2**20} MiB"
            ended = line.endswith(b"\n")
            line = b"" if ended else file.readline(LONGEST)
