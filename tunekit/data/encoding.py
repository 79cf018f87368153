"""How the bytes of a file are text: UTF-8, UTF-16 and 32, GBK and Windows-1252 are told apart.

ms-swift reads UTF-8 alone; what stands in another encoding is read here so that it can be said, and mended.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

UTF8, GBK, WESTERN = "utf-8", "gb18030", "cp1252"
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, of which the mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, and what they say."""

NAMES = {"utf-8-sig": "UTF-8", UTF8: "UTF-8", GBK: "GBK", WESTERN: "Windows-1252", "utf-32": "UTF-32"}
"""Encodings for people; all others are UTF-16."""

HIGH = re.compile(rb"[\x80-\xff]+")
COMMON = frozenset((*range(0xA1, 0xA4), *range(0xB0, 0xD8)))
"""First bytes of GBK's punctuation and of its 3,755 common characters, which make nearly all of any Chinese text; those
of Chinese in UTF-8 lie beyond them."""

PIECE = 2**18


def encoding_of(head: bytes, *, whole: bool = True) -> str:
    """The encoding of most lines of a text, by Python's name; empty where they are none.

    `whole`: its last character is not cut off.
    """
    marked = next((name for mark, name in MARKS if head.startswith(mark)), None)
    if marked:
        return marked
    if zeros := head.count(0):
        odd = head[1::2].count(0)
        if zeros > len(head) // 5 and min(odd, zeros - odd) * 20 <= zeros:
            return "utf-16-le" if odd * 2 > zeros else "utf-16-be"
    lines = head.splitlines(keepends=True) if b"\n" in head else [head]
    broken = [line for number, line in enumerate(lines, 1) if not _is_utf8(line, whole=whole or number < len(lines))]
    sound = sum(not line.isascii() for line in lines) - len(broken)
    return _older(b"".join(broken), whole=whole) if len(broken) > sound else UTF8


def _is_utf8(text: bytes, *, whole: bool) -> bool:
    with contextlib.suppress(UnicodeDecodeError):
        codecs.getincrementaldecoder(UTF8)().decode(text, final=whole)
        return True
    return False


def _older(text: bytes, *, whole: bool) -> str:
    """The encoding of bytes that are not UTF-8."""
    runs = [found[0] for found in HIGH.finditer(text)]
    high = sum(map(len, runs))
    sound = sum(len(char.encode()) for char in text.decode(UTF8, "ignore") if char > "\x7f") / high
    pairs = [run[at : at + 2] for run in runs for at in range(0, len(run), 2)]
    chinese = sum(pair[0] in COMMON and pair[1:] > b"\xa0" for pair in pairs) / len(pairs)
    letters = sum(len(run) == 1 for run in runs) / len(runs)
    likely = (GBK,) if sound < 0.9 and chinese > 0.6 else (WESTERN,) if letters > 0.5 else ()
    for encoding in likely:  # else it is UTF-8 in which something broke
        with contextlib.suppress(UnicodeDecodeError):
            codecs.getincrementaldecoder(encoding)().decode(text, final=whole)
            return encoding
    return ""


def encoding_name(encoding: str) -> str:
    """What people call an encoding."""
    return NAMES.get(encoding, "UTF-16")


class Recoded(io.RawIOBase):
    """A binary file in another encoding, read as UTF-8 with line feeds; broken characters become U+FFFD."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._file, self._left = file, b""
        decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
        self._ended = False

    def readable(self) -> bool:
        """It is read, never written."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """As of any raw file."""
        while not self._left and not self._ended:
            piece = self._file.read(PIECE)
            self._ended = not piece
            self._left = self._decoder.decode(piece, final=self._ended).encode(UTF8, "replace")
        taken = self._left[: len(buffer)]
        self._left = self._left[len(taken) :]
        buffer[: len(taken)] = taken
        return len(taken)

    def close(self) -> None:
        """Close the file that it reads, too."""
        self._file.close()
        super().close()
