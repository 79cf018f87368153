"""Print for people, on stderr, and go on where nobody reads it any more.

A run must not end because the terminal was closed or `2>&1 | head` has seen enough, nor because it writes no `×`.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import re
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAIN = str.maketrans(
    {"×": "x", "÷": "/", "→": "->", "←": "<-", "…": "...", "·": "-", "–": "-", "—": "-", "≥": ">=", "≤": "<=", "≈": "~"}
    | {"✓": "ok", "✗": "x", "█": "#", "░": ".", "─": "-", "│": "|", "•": "*", "⟦": "[[", "⟧": "]]"}
)
"""What is written instead where a terminal has no such sign; of all others their number, as JSON writes it."""

CONTROL = re.compile(r"\x1b(?!\[[\d;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Signs that a terminal obeys instead of showing them, but for colours, tabs and new lines."""


def say(line: str = "") -> None:
    """Print a line on stderr, at once."""
    with tolerant_stderr():
        print(shown_plainly(line), file=sys.stderr, flush=True)


def shown_plainly(text: str) -> str:
    """`text` with signs that a terminal would obey written out: a file of data may hold any."""
    return CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


@contextlib.contextmanager
def tolerant_stderr() -> Iterator[None]:
    """Let writing to stderr fail: from then on it goes nowhere, for this process's exit too."""
    try:
        yield
    except OSError:
        silence(sys.stderr.fileno())


def columns(stream: TextIO) -> int | None:
    """How wide the terminal behind a stream is; None where it is no terminal, or one that does not say."""
    return os.get_terminal_size(stream.fileno()).columns or None if stream.isatty() else None


def redraws(stream: TextIO) -> bool:
    """Whether a line that was written to a stream can be written over: it is a terminal, and not a dumb one."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def coloured(stream: TextIO) -> bool:
    """Whether what is written to a stream may be coloured; ``NO_COLOR`` with any value says no (no-color.org)."""
    return redraws(stream) and not os.environ.get("NO_COLOR")


def silence(descriptor: int) -> None:
    """Connect a file descriptor to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def prepare_streams() -> None:
    """Make all three streams usable: one that was closed goes nowhere, and no text stops one that is open.

    A closed one must not stay so: the next file that is opened would get its number, and what is printed.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, mode)  # it gets the lowest number that is free: this one
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    codecs.register_error("tunekit", _written_otherwise)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="tunekit")


def _written_otherwise(error: UnicodeError) -> tuple[str | bytes, int]:
    """What a stream writes for signs that its encoding lacks; a byte of a file's name that is no text stays itself."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    sign = error.object[error.start]
    if "\udc80" <= sign <= "\udcff":
        return bytes([ord(sign) - 0xDC00]), error.start + 1
    plain = sign.translate(PLAIN)
    return plain if plain != sign else json.dumps(sign)[1:-1], error.start + 1
