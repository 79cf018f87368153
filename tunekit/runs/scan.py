"""All runs below a folder, looked at again and again: what has not changed on the disk is not read twice."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from tunekit.errors import TunekitError
from tunekit.runs.folder import RUNS
from tunekit.runs.history import RUNNING, History, as_history, read_past, run_folders
from tunekit.runs.living import living

if TYPE_CHECKING:
    from pathlib import Path

    from tunekit.runs.history import PastRun

    Seen: TypeAlias = tuple[tuple[int, int, int] | None, ...]
    """The files of a run as they were: each one's time of change, size and number; None for one that is not there."""

FRESH = 0.5
"""Seconds in which the disk is not asked twice."""

LOG_END = 8 * 1024
"""Bytes of a log that are read for its last lines."""


class Scan:
    """The runs below a folder, by the path from there; several threads may ask."""

    def __init__(self, root: Path = RUNS) -> None:
        self.root = root
        self._known: dict[Path, tuple[Seen, PastRun | TunekitError]] = {}
        self._lock = threading.Lock()
        self._history: History = History((), ())
        self._names: dict[str, PastRun] = {}
        self._asked = float("-inf")

    def history(self) -> History:
        """The runs as they are now, but for half a second."""
        with self._lock:
            if time.monotonic() - self._asked > FRESH:
                self._look()
                self._asked = time.monotonic()
            return self._history

    def named(self, key: str) -> PastRun | None:
        """The run of that path below the folder; None where there is none: no other path is ever opened."""
        self.history()
        return self._names.get(key)

    def key(self, run: PastRun) -> str:
        """By which `named` finds a run."""
        return run.folder.path.relative_to(self.root).as_posix()

    def _look(self) -> None:
        found = {path: self._read(path) for path in run_folders(self.root)}
        self._known = found
        runs = [run for _, run in found.values() if not isinstance(run, TunekitError)]
        damaged = [error for _, error in found.values() if isinstance(error, TunekitError)]
        self._history = as_history(runs, damaged)
        self._names = {self.key(run): run for run in runs}

    def _read(self, path: Path) -> tuple[Seen, PastRun | TunekitError]:
        """A run, anew where one of its files has changed, or another works on it."""
        seen, before = _seen(path), self._known.get(path)
        if before and before[0] == seen:
            run = before[1]
            if isinstance(run, TunekitError) or run.state.status != RUNNING or living(path) == run.alive:
                return before
        try:
            run = read_past(path)
        except TunekitError as error:
            return seen, error
        name = self.key(run) if self.root == RUNS else path.as_posix()
        return seen, replace(run, name=name)


def _seen(path: Path) -> Seen:
    attempts = path / "attempts"
    try:
        last = max((int(entry.name) for entry in attempts.iterdir() if entry.name.isdecimal()), default=0)
    except OSError:
        last = 0
    files = (path / "run.json", path / "output" / "logging.jsonl", attempts / str(last) / "train.log")
    return tuple(_state_of(file) for file in files)


def _state_of(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def log_end(run: PastRun, lines: int) -> list[str]:
    """The last lines of the newest log of a run, bars that were drawn over as their last state."""
    numbers = run.folder.attempts()
    if not numbers:
        return []
    try:
        with (run.folder.attempt(numbers[-1]) / "train.log").open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - LOG_END))
            text = log.read(LOG_END).decode(errors="replace")
    except OSError:
        return []
    whole = text.split("\n")[1 if size > LOG_END else 0 :]
    shown = [line.rstrip("\r").rpartition("\r")[2] for line in whole]
    return [line for line in shown if line.strip()][-lines:]


def let_go(run: PastRun) -> None:
    """Forget the curves of a run; whoever asks for them reads them again. They are most of what a run takes."""
    vars(run).pop("logged", None)


def silent_for(run: PastRun) -> float:
    """Seconds since a run logged something; 0 where it has logged nothing yet."""
    try:
        return max(0.0, time.time() - (run.folder.output / "logging.jsonl").stat().st_mtime)
    except OSError:
        return 0.0


def seconds_to_go(run: PastRun) -> float | None:
    """How long a run that goes on will take yet, as its steps went so far; None where that cannot be said."""
    pace, logged = run.seconds_per_step, run.logged
    if not run.alive or not pace or logged.total <= logged.step:
        return None
    return pace * (logged.total - logged.step)
