"""Print for people, on stderr, and go on where nobody reads it any more.

A run must not end because the terminal was closed or `2>&1 | head` has seen enough.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator


def say(line: str = "") -> None:
    """Print a line on stderr, at once."""
    with tolerant_stderr():
        print(line, file=sys.stderr, flush=True)


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


def silence(descriptor: int) -> None:
    """Connect a file descriptor to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
