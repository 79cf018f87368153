"""The values of a JSON text too large to be held: of a list, of an object, or one behind the other.

A value that is broken is given with its text, and reading goes on at the next one that begins like a row.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunekit.data.files import LONGEST, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

PIECE = 2**16
"""Characters that are read at once."""

BLANK = re.compile(r"[ \t\n\r\ufeff]*")
NEXT = re.compile(r"\}(?=\s*,\s*\{)")
"""The end of a broken row, where it is not known how rows begin."""

DECODER = json.JSONDecoder(strict=True)


@dataclass
class Value:
    """A value of a text of JSON, or why it is none; `text` is what stood there then."""

    found: Any = None
    fault: str = ""
    text: str = ""
    key: str = ""


def not_json(error: Exception) -> str:
    """Why a text is not JSON, in a line."""
    if isinstance(error, (RecursionError, MemoryError)) or "nested too deep" in str(error):
        return "not JSON: it is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at character {error.pos + 1:,}"
    return f"not JSON: {shown(error, 160)}"


class JsonText:
    """A file of JSON, of which no more is held than one value."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._held, self._at = file, "", 0
        self._before = self._bytes = 0
        self._begins = ""  # the first key of the rows before

    @property
    def past(self) -> int:
        """Bytes up to where it stands, by what the characters read so far take on average."""
        return round((self._before + self._at) * self._bytes / max(1, self._before + len(self._held)))

    def mark(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            found = BLANK.match(self._held, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._held) or not self._more():
                return self._held[self._at : self._at + 1]

    def skip(self, mark: str) -> bool:
        """Go past a mark; whether it was there."""
        there = self.mark() == mark
        self._at += there
        return there

    def values(self) -> Iterator[Value]:
        """The values of the list that begins here."""
        self.skip("[")
        first = True
        while self.mark() not in ("]", ""):
            apart = self.skip(",") or first
            if not first and self.mark() == "]":
                yield Value(fault="not JSON: a comma stands before the end of the list")
                break
            first = False
            value = self.value()
            if isinstance(value.found, dict) and value.found:
                self._begins = next(iter(value.found))
            value.fault = value.fault or ("" if apart else "not JSON: there is no comma before it")
            yield value
        if not self.skip("]"):
            yield Value(fault="not JSON: the list has no end")

    def items(self) -> Iterator[tuple[str, str]]:
        """The keys of the object that begins here, with the mark their value begins with; the caller reads the value.

        It ends at the end of the object, and where it is broken.
        """
        self.skip("{")
        while self.mark() == '"':
            key = self.value()
            if key.fault or not self.skip(":"):
                return
            yield str(key.found), self.mark()
            if not self.skip(","):
                break
        self.skip("}")

    def value(self) -> Value:
        """The value that begins here."""
        self.mark()
        while True:
            try:
                found, end = DECODER.raw_decode(self._held, self._at)
            except (ValueError, RecursionError) as error:
                if len(self._held) - self._at > LONGEST:
                    return self._lost(f"longer than {LONGEST // 2**20} MiB")
                if not _unfinished(error, len(self._held)) or not self._more():
                    return self._lost(not_json(error))
            else:
                # a number may go on behind what is held
                if end < len(self._held) or isinstance(found, (dict, list, str)) or not self._more():
                    self._at = end
                    return Value(found)

    def rest(self) -> Iterator[str]:
        """What is left of the file, in pieces."""
        while self._at < len(self._held) or self._more():
            yield self._held[self._at :]
            self._at = len(self._held)

    def _lost(self, why: str) -> Value:
        """A broken value, with its text up to the next that begins like a row, or as much as may be held."""
        next_row = re.compile(rf'\}}(?=\s*,\s*\{{\s*"{re.escape(self._begins)}"\s*:)') if self._begins else NEXT
        while True:
            found = next_row.search(self._held, self._at)
            if found or len(self._held) - self._at > LONGEST or not self._more():
                begin, self._at = self._at, found.end() if found else len(self._held)
                return Value(fault=why, text=self._held[begin : self._at])

    def _more(self) -> bool:
        """Read on, by as much again as is held; what is past is forgotten."""
        added = self._file.read(max(PIECE, len(self._held) - self._at))
        self._before += self._at
        self._held = self._held[self._at :] + added
        self._at = 0
        self._bytes += len(added.encode("utf-8", "replace"))
        return bool(added)


def _unfinished(error: Exception, length: int) -> bool:
    """Whether JSON may be wrong only because its end was not read yet."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or error.pos > length - 32
