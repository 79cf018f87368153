"""What tunekit raises and how it ends: one line, a hint, an exit code; and words for them. No import costs time."""

from __future__ import annotations

import contextlib
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Exit(IntEnum):
    """Exit codes of the command line."""

    DONE = 0
    TRAINING_FAILED = 1
    USAGE = 2
    DOES_NOT_FIT = 3
    DATA = 4
    INTERRUPTED = 130


class TunekitError(Exception):
    """An error that a user can act on: printed as ``error: …`` and ``hint: …``, never as a traceback.

    `others` are found beside it and printed below it.
    """

    def __init__(self, message: str, hint: str | None = None, code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
        self.others: tuple[TunekitError, ...] = ()


class Wrong:
    """Errors of the same call, so that all of them are told at once."""

    def __init__(self) -> None:
        self._found: list[TunekitError] = []

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Keep a TunekitError of the block for later, with what was found beside it."""
        try:
            yield
        except TunekitError as error:
            self._found += [error, *error.others]

    def tell(self) -> None:
        """Raise the first one, with the others at its side, where there is any."""
        if self._found:
            first, *rest = self._found
            first.others = tuple(rest)
            raise first


def closest(word: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """The names in `known` that look most like `word` (case does not matter), best first."""
    import difflib  # only where something is misspelled

    by_lower = {name.lower(): name for name in known}
    return [by_lower[match] for match in difflib.get_close_matches(word.lower(), by_lower, n=limit, cutoff=0.6)]


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str | None:
    """A hint that names the closest known words, or None where nothing is close."""
    matches = [f"{prefix}{name}" for name in closest(word, known)]
    return f"did you mean {' or '.join(matches)}?" if matches else None


def counted(number: int, noun: str) -> str:
    """A number of things in words: ``1 step``, ``2,000 steps``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
