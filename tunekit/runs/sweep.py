"""A sweep: one stage over several values of an option or two, each combination a run of its own in ``runs/``.

runs/<sweep>/sweep.json  names the runs runs/<sweep>-1, runs/<sweep>-2, … and what each has of its own.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import tunekit
from tunekit.errors import TunekitError
from tunekit.files import read_object, write_atomically
from tunekit.plan.options import spelled
from tunekit.plan.settings import TUNEKIT, Setting
from tunekit.runs.axes import axes_of, combinations, trial_words
from tunekit.runs.folder import RUNS, now
from tunekit.runs.history import DONE, past_run
from tunekit.runs.places import SWEEP_FILE, check_name
from tunekit.runs.prepare import gather_facts, prepare, request_of, too_large
from tunekit.runs.queue import HERE_ONLY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tunekit.plan.planner import Facts
    from tunekit.plan.request import Request
    from tunekit.plan.said import Words
    from tunekit.runs.axes import Axis
    from tunekit.runs.folder import Run
    from tunekit.runs.history import PastRun
    from tunekit.runs.prepare import Surroundings

NEW, ONWARD, FINISHED = "new", "goes on", "done"
"""What is to be done with a run of a sweep."""

SCHEMA = 1


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes:
        values: what it has of its own, as typed, by the name of each option or flag.
        run, request, facts: as it is planned; None where it has begun.
    """

    name: str
    values: Mapping[str, str]
    run: Run | None = None
    request: Request | None = None
    facts: Facts | None = None

    @property
    def path(self) -> Path:
        """Its folder."""
        return RUNS / self.name

    @cached_property
    def past(self) -> PastRun | None:
        """The run as its folder told it when it was first asked for; None where it has yet to begin."""
        return past_run(str(self.path)) if (self.path / "run.json").is_file() else None

    @property
    def state(self) -> str:
        """What is to be done with it: one of the words above."""
        return NEW if self.run else FINISHED if self.past and self.past.status == DONE else ONWARD

    @property
    def own(self) -> str:
        """Its values in words: ``learning_rate 1e-4, lora_rank 8``."""
        return ", ".join(f"{key} {value}" for key, value in self.values.items())

    @property
    def seconds_left(self) -> tuple[float, float, float] | None:
        """Seconds that it will take from here on, about, at least and at most; None where that is not known."""
        if self.run:
            made = self.run.duration
            return (made.seconds, *made.bounds) if made else None
        past = self.past
        if past is None or past.status == DONE:
            return 0.0, 0.0, 0.0
        share = 1 - past.logged.step / past.logged.total if past.logged.total else 1.0
        said = past.state.said
        known = [said[name] * share for name in ("seconds", "low", "high") if name in said]
        return (known[0], known[1], known[2]) if len(known) == 3 else None


@dataclass(frozen=True)
class Sweep:
    """A sweep that is planned: its folder, what it goes over, its runs in the order in which they are trained.

    Attributes:
        words: all that was said beside the values, by name: the same for every run.
        numbered: the values of every run that the folder names, the first being number 1; more than `trials` where an
            earlier call went over others.
    """

    command: str
    path: Path
    axes: tuple[Axis, ...]
    words: Mapping[str, Sequence[str]]
    numbered: tuple[Mapping[str, str], ...]
    trials: tuple[Trial, ...] = ()

    @property
    def name(self) -> str:
        """By which its runs are called, each with its number."""
        return self.path.name

    @property
    def seconds_left(self) -> tuple[float, float, float] | None:
        """Of all that is still to be trained, one run after another: about, at least, at most."""
        each = [trial.seconds_left for trial in self.trials]
        known = [seconds for seconds in each if seconds is not None]
        about, low, high = (sum(column) for column in zip(*known, strict=True)) if known else (0, 0, 0)
        return (about, low, high) if len(known) == len(each) else None

    def trial_name(self, number: int) -> str:
        """What its run of that number, from 1, is called."""
        return f"{self.name}-{number}"

    def save(self) -> None:
        """Write ``sweep.json``; the folder's lock must be held."""
        document = {
            "schema": SCHEMA,
            "tunekit": tunekit.__version__,
            "changed": now(),
            "stage": self.command,
            "over": [axis.key for axis in self.axes],
            "words": {key: list(words) for key, words in self.words.items()},
            "runs": [
                {"name": self.trial_name(number), "values": dict(values)}
                for number, values in enumerate(self.numbered, start=1)
            ],
        }
        write_atomically(self.path / SWEEP_FILE, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def plan_sweep(command: str, words: Words, around: Surroundings, *, look: bool) -> Sweep:
    """Every run of a sweep, planned, and those that an earlier call began as they are.

    `look` tokenizes a sample of the dataset where memory depends on it. Raises TunekitError where nothing is swept, the
    name is another sweep's, or a run cannot be planned: it says which.
    """
    named = " ".join(words.said["name"].words) if "name" in words.said else ""
    check_name(named)
    words = replace(words, said={key: said for key, said in words.said.items() if key != "name"})
    words, axes = axes_of(command, words, around.flags)
    wanted = combinations(axes)
    requests = [request_of(command, trial_words(words, axes, values), around) for values in wanted]
    default = f"{gather_facts(requests[0], around).model.short}-{requests[0].stage.name}-sweep"
    swept = {axis.key for axis in axes}
    plain = {key: said.words for key, said in words.said.items() if key not in swept and said.name not in HERE_ONLY}
    sweep = _placed(Sweep(command, RUNS / (named or default), axes, plain, ()), named=bool(named))
    numbers: list[int] = []
    known = {_key(axes, values): number for number, values in enumerate(sweep.numbered, start=1)}
    numbered = list(sweep.numbered)
    for values in wanted:
        if _key(axes, values) not in known:
            numbered.append(values)
        numbers.append(known.setdefault(_key(axes, values), len(numbered)))
    sweep = replace(sweep, numbered=tuple(numbered))
    made = zip(numbers, wanted, requests, strict=True)
    trials = [_trial(sweep, number, values, request, around, look=look) for number, values, request in made]
    return replace(sweep, trials=tuple(trials))


def _key(axes: Sequence[Axis], values: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(axis.meant(values.get(axis.key, "")) for axis in axes)


def _trial(
    sweep: Sweep, number: int, values: Mapping[str, str], request: Request, around: Surroundings, *, look: bool
) -> Trial:
    begun = Trial(sweep.trial_name(number), values)
    if (begun.path / "run.json").is_file():
        return begun
    group = {"group": Setting(sweep.name, TUNEKIT, "the runs of a sweep belong together")}
    request = replace(request, name=begun.name, tracked={**group, **request.tracked})
    try:
        facts = gather_facts(request, around)
        return replace(begun, run=prepare(request, facts, look=look), request=request, facts=facts)
    except TunekitError as error:
        if number == 1:  # what is wrong with the first one is mostly wrong with all
            raise
        raise of_trial(begun, error) from error


def of_trial(trial: Trial, error: TunekitError) -> TunekitError:
    """An error of the planning or the checks, which says in which run of the sweep it is."""
    return TunekitError(f"{trial.name} ({trial.own}): {error.message}", error.hint, error.code)


def _placed(sweep: Sweep, *, named: bool) -> Sweep:
    """The sweep in its folder, with the runs that it has there. Raises TunekitError where the name is another's.

    Where tunekit chose the name, one that is another's is passed over.
    """
    folder = sweep.path
    for number in itertools.count(1):
        there = replace(sweep, path=folder if number == 1 else folder.with_name(f"{folder.name}{number}"))
        problem, numbered = _found(there)
        if not problem:
            return replace(there, numbered=numbered)
        if named:
            raise TunekitError(problem, "take another --name")
    raise AssertionError("numbers do not end")


def _found(sweep: Sweep) -> tuple[str, tuple[Mapping[str, str], ...]]:
    """Why a folder cannot be that of a sweep, empty where it can; and the values of the runs that it names."""
    file = sweep.path / SWEEP_FILE
    if not file.is_file():
        path = sweep.path
        taken = path.exists() and (not path.is_dir() or any(entry.name != ".lock" for entry in path.iterdir()))
        first = RUNS / sweep.trial_name(1)
        begun = (first / "run.json").is_file()
        return (f"{first if begun else path} is there already, and is no sweep's" if taken or begun else ""), ()
    document = read_object(file)
    try:
        stage, over, words = document["stage"], document["over"], document["words"]
        numbered = tuple({str(key): str(value) for key, value in run["values"].items()} for run in document["runs"])
        known = document["schema"] == SCHEMA and isinstance(words, dict)
    except (KeyError, TypeError, AttributeError):
        known = False
    if not known:
        raise TunekitError(f"{file} is not one that this version of tunekit wrote", "take another --name")
    return next(_differences(sweep, stage, over, words), ""), numbered


def _differences(sweep: Sweep, stage: Any, over: Any, words: Mapping[str, Any]) -> Iterator[str]:
    """How a sweep differs from the one that its folder was begun with, a line each."""
    begun = f"{sweep.path} was begun"
    if stage != sweep.command:
        yield f"{begun} as tunekit sweep {stage}, and this is {sweep.command}"
    keys = [axis.key for axis in sweep.axes]
    if over != keys:
        yield f"{begun} over {', '.join(map(str, over))}, and this is over {', '.join(keys)}"
    for key in dict.fromkeys((*words, *sweep.words)):
        before, here = words.get(key), sweep.words.get(key)
        if before is None or here is None or list(before) != list(here):
            yield f"{begun} {_said(key, before)}, and this is {_said(key, here)}"


def _said(key: str, words: Sequence[Any] | None) -> str:
    flag = spelled(key)
    return f"without {flag}" if words is None else " ".join(("with", flag, *map(str, words)))


def large_trial(sweep: Sweep) -> TunekitError | None:
    """What refuses a sweep of which a run does not fit, exit code 3; None where all fit."""
    for trial in sweep.trials:
        if trial.run and trial.request and trial.facts:
            error = too_large(trial.run, trial.request, trial.facts)
            if error:
                return of_trial(trial, error)
    return None
