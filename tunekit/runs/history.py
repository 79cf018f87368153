"""Runs of before and of now, read from their folders: there is no other place that knows of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from tunekit.engine.logs import read_lost_rows, read_progress
from tunekit.errors import TunekitError
from tunekit.runs.curves import MEMORY, SPEED, Logged, Reached, reached_by, read_logged
from tunekit.runs.folder import RUNS, RunFolder
from tunekit.runs.living import Living, living
from tunekit.runs.outcome import Ending, Verdict, judge
from tunekit.runs.places import find_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tunekit.engine.logs import Rows
    from tunekit.runs.folder import RunState

RUNNING, DONE, STOPPED, FAILED, DIED = "running", "done", "stopped", "failed", "died"
"""What a run can be; `DIED` is for one whose tunekit was killed, or whose machine went down."""

WORDS = {"interrupted": STOPPED, "running": DIED}
"""What ``run.json`` says of a run on which nobody works."""


@dataclass(frozen=True)
class PastRun:
    """A run as its folder tells it. What takes time to read is read when it is asked for.

    Attributes:
        name: by which the commands find it: ``recipe/stage`` for a stage of a recipe.
        recipe: the recipe that it is a stage of; empty where it is none.
        alive: who works on it; None where nobody does.
    """

    name: str
    recipe: str
    folder: RunFolder
    state: RunState
    alive: Living | None

    @cached_property
    def logged(self) -> Logged:
        """Every number that it logged."""
        return read_logged(self.folder.output / "logging.jsonl")

    @cached_property
    def rows(self) -> Rows:
        """What ms-swift said of rows that it did not use."""
        return read_lost_rows(self.folder.attempt(number) / "train.log" for number in self.folder.attempts())

    @cached_property
    def verdict(self) -> Verdict | None:
        """What came of it; None where it did not come to its end."""
        if self.status != DONE:
            return None
        return judge(self.state.plan, read_progress(self.folder.output / "logging.jsonl"), self.rows)

    @property
    def status(self) -> str:
        """One of the words above."""
        return RUNNING if self.alive else WORDS.get(self.state.status, self.state.status)

    @property
    def result(self) -> Reached | None:
        """The number that tells most of it."""
        return reached_by(self.state.plan.stage, self.logged)

    @property
    def seconds(self) -> float:
        """Spent in all attempts, the one that goes on included."""
        spent = sum(attempt.seconds for attempt in self.state.attempts)
        going = [number for number in self.folder.attempts() if self.alive and number > len(self.state.attempts)]
        return spent + sum(_age(self.folder.attempt(number) / "command.sh") for number in going[-1:])

    @property
    def seconds_per_step(self) -> float | None:
        """The mean of the last attempt, as ms-swift says it."""
        return next(reversed([*self.logged.of(SPEED).values()]), None)

    @property
    def memory_gib(self) -> float | None:
        """The most GPU memory that PyTorch reserved; None on a CPU."""
        known = [attempt.memory_gib for attempt in self.state.attempts if attempt.memory_gib]
        return max([*known, *self.logged.of(MEMORY).values()], default=None)

    @property
    def memory_said(self) -> float | None:
        """What was predicted of that; None without a GPU."""
        peak = self.state.plan.peak
        return peak.prediction.reserved_gib if peak else None

    @property
    def error(self) -> str:
        """The line of the log that shows why it failed; empty where it did not."""
        last = self.state.attempts[-1] if self.state.attempts else None
        return last.evidence if last and self.status == FAILED else ""

    @property
    def told(self) -> str:
        """Its status in a word or two: a run that is done may have learned nothing."""
        if self.status in (RUNNING, STOPPED, DIED) and self.logged.total:
            return f"{'step' if self.status == RUNNING else self.status} {self.logged.step}/{self.logged.total}"
        odd = {Ending.NOTHING: "learned nothing", Ending.DIVERGED: "diverged"}
        return odd.get(self.verdict.ending, self.status) if self.verdict else self.status


def _age(path: Path) -> float:
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return 0.0


@dataclass(frozen=True)
class History:
    """The runs below a folder, newest first, the stages of a recipe one after the other; and what cannot be read."""

    runs: tuple[PastRun, ...]
    damaged: tuple[TunekitError, ...]

    def recipes(self) -> Iterator[tuple[str, list[PastRun]]]:
        """The runs by recipe; one that belongs to none stands alone, with an empty name."""
        seen = set()
        for run in self.runs:
            if not run.recipe:
                yield "", [run]
            elif run.recipe not in seen:
                seen.add(run.recipe)
                yield run.recipe, [other for other in self.runs if other.recipe == run.recipe]


def read_history(root: Path = RUNS) -> History:
    """All runs below a folder."""
    found: list[PastRun] = []
    damaged: list[TunekitError] = []
    for path in run_folders(root):
        try:
            found.append(replace(read_past(path), name=path.relative_to(root).as_posix()))
        except TunekitError as error:
            damaged.append(error)
    return as_history(found, damaged)


def run_folders(root: Path) -> list[Path]:
    """The folders of all runs below a folder, those of a recipe's stages included."""
    found = [path.parent for path in sorted([*root.glob("*/run.json"), *root.glob("*/*/run.json")])]
    return [path for path in found if path.parent == root or (path.parent / "recipe.json").is_file()]


def as_history(found: list[PastRun], damaged: list[TunekitError]) -> History:
    """Runs in the order of a list."""
    newest: dict[str, str] = {}
    for run in found:
        newest[run.recipe] = max(newest.get(run.recipe, ""), run.state.created) if run.recipe else ""
    found = sorted(found, key=lambda run: run.state.created)
    found.sort(key=lambda run: newest[run.recipe] or run.state.created, reverse=True)
    return History(tuple(found), tuple(damaged))


def past_run(word: str) -> PastRun:
    """The run of that name or folder. Raises TunekitError where there is none, or it is damaged."""
    run = read_past(find_run(word).path)
    at_home = run.folder.path.resolve().is_relative_to(RUNS.resolve())
    return replace(run, name=run.folder.path.resolve().relative_to(RUNS.resolve()).as_posix()) if at_home else run


def read_past(path: Path) -> PastRun:
    """The run in a folder, named by its path. Raises TunekitError where it is damaged."""
    folder = RunFolder(path)
    state = folder.load()
    around = folder.path.absolute().parent
    recipe = around.name if (around / "recipe.json").is_file() else ""
    # To look for who works on it takes a while, and one that has ended says so.
    alive = living(folder.path) if state.status == "running" else None
    return PastRun(str(folder.path), recipe, folder, state, alive)
