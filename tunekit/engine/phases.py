"""What ms-swift is doing before its first step and between two log lines, told from its output while it comes.

Its progress bars (tqdm) are redrawn with carriage returns: each state of one is a text of its own here.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

STEPS, EVALUATING = "Train", "Val"
"""Bars of ms-swift: optimizer steps, and batches of an evaluation (trainers/patcher.py)."""

TRAINING = (
    ("importing", ""),
    ("loading", r"\[INFO:swift\] "),
    ("tokenizing", r"\[INFO:swift\] Start time of running main"),
    ("setting up", r"\[INFO:swift\] The \w+Arguments will be saved in"),
    ("first step", rf"{STEPS}: +\d+%\|"),
)
"""Phases of a training, in order, and what ms-swift 4.6 says when each begins (pipelines/base.py, train/sft.py)."""

ANSWERING = (*TRAINING[:2], ("answering", TRAINING[2][1]))
"""The same of ``swift infer``."""

SAVED = re.compile(r"Saving model checkpoint to \S+checkpoint-(\d+)")

LONGEST = 4096
"""Characters of a line that are looked at; rows of the user's may be printed, too."""


@dataclass(frozen=True)
class Bar:
    """A progress bar: its name, and how far it is in its own words (``1.2G`` of ``15G``)."""

    name: str
    done: str
    total: str

    @property
    def line(self) -> str:
        """``1,200 of 4,000``."""
        return f"{_grouped(self.done)} of {_grouped(self.total)}"


def read_bar(text: str) -> Bar | None:
    """The bar that a text draws: ``Map: 30%|███  | 1200/4000 [00:01<00:02, 900 examples/s]``. None where it is none."""
    shape = r"(?P<name>[^|\r\n]*?):? +\d+%\|[^|]*\| *(?P<done>[\d.]+\w?)/(?P<total>[\d.]+\w?) \["
    found = re.match(shape, text)
    return Bar(*found.groups()) if found else None


class Phases:
    """Follows the output of one process: in which phase it is, and how long those before it took.

    Attributes:
        name: of the phase that it is in; empty once the last one is over.
        spent: the phases that are over, with their seconds.
        bar: the last one that was drawn in this phase, and not yet full.
        step: optimizer steps that the bar shows, of `total`; 0 where there is none.
        saved: the step of the last checkpoint that was written; None before the first.
    """

    def __init__(self, table: tuple[tuple[str, str], ...] = TRAINING) -> None:
        self._table = tuple((name, re.compile(begins)) for name, begins in table)
        self._at, self._began = 0, time.monotonic()
        self.spent: list[tuple[str, float]] = []
        self.name = table[0][0]
        self.bar: Bar | None = None
        self.step = self.total = 0
        self.saved: int | None = None

    @property
    def seconds(self) -> float:
        """Since the phase began."""
        return time.monotonic() - self._began

    def take(self, text: str) -> None:
        """Look at a line of output, or at one state of a line that is redrawn."""
        text = text[:LONGEST]
        later = range(len(self._table) - 1, self._at, -1)
        if begun := next((number for number in later if self._table[number][1].match(text)), 0):
            self._enter(begun)
        bar = read_bar(text)
        if bar:
            self.bar = None if bar.done == bar.total or bar.name == STEPS else bar
            if bar.name == STEPS and bar.done.isdigit() and bar.total.isdigit():
                self.step, self.total = int(bar.done), int(bar.total)
                if self.step:
                    self.end()
        if saved := SAVED.search(text):
            self.saved = int(saved[1])

    def end(self) -> None:
        """The last phase is over: the first step was made."""
        if self.name:
            self._enter(len(self._table))

    def waiting(self) -> list[str]:
        """The phases so far, for people: ``importing 9 s``, ``tokenizing 1,200 of 4,000, 3 s``."""
        bar = f" {self.bar.line}," if self.bar else ""
        return [*self.lines(), *([f"{self.name}{bar} {self.seconds:.0f} s"] if self.name else [])]

    def lines(self) -> list[str]:
        """The phases that are over, without those that took no time."""
        return [f"{name} {seconds:.0f} s" for name, seconds in self.spent if seconds >= 0.5]

    def _enter(self, number: int) -> None:
        """Begin a phase; those that were passed over took no time that could be told apart."""
        self.spent.append((self.name, self.seconds))
        self._at, self._began, self.bar = number, time.monotonic(), None
        self.name = self._table[number][0] if number < len(self._table) else ""


def _grouped(number: str) -> str:
    return f"{int(number):,}" if number.isdigit() else number
