"""Train the runs of a sweep, one after another, and say which came out best."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from tunekit.errors import Exit, TunekitError
from tunekit.runs import preflight
from tunekit.runs.folder import RunFolder
from tunekit.runs.outcome import Ending
from tunekit.runs.start import Onward, check_run, resume_run, start_run
from tunekit.runs.sweep import FINISHED, Trial, of_trial

if TYPE_CHECKING:
    from tunekit.runs.report import Report, Screen
    from tunekit.runs.sweep import Sweep

HIGHER = frozenset(("token_acc", "rewards/accuracies", "rewards/margins", "reward", "objective/scores"))
"""Numbers of which more is better; of all others less is."""


class SweepScreen(Protocol):
    """Where a sweep shows itself."""

    def begins(self, trial: Trial, number: int, count: int) -> Screen:
        """A run starts; where it shows itself."""

    def show(self, lines: list[tuple[str, str]]) -> None:
        """Lines with a title each."""

    def ended(self, trial: Trial, report: Report) -> None:
        """A run has ended."""


def check_sweep(sweep: Sweep, screen: SweepScreen) -> None:
    """Check data, models, functions and disk of all runs that have yet to begin. Raises TunekitError, which says which.

    What is said of the first one is mostly said of all, and so shown once.
    """
    coming = [(trial, trial.run) for trial in sweep.trials if trial.run]
    told: list[tuple[str, str]] = []
    for trial, run in coming:
        try:
            check_run(run, lambda lines: told.extend(line for line in lines if line not in told))
        except TunekitError as error:
            raise error if len(coming) == 1 or trial is coming[0][0] else of_trial(trial, error) from error
    screen.show(told)
    preflight.check_disk_of_all([(run.plan, run.path) for _, run in coming])


def run_sweep(sweep: Sweep, screen: SweepScreen, *, force: bool = False) -> int:
    """Train what is not done, one run after another, with the lock of the sweep's folder; gives the exit code.

    A run that fails does not end the sweep: the code says so at the end. A stop does, and so do rows that will not do,
    which are the same for all. That a run diverges is what a sweep is to find out, and no failure of it.
    """
    code = Exit.DONE
    sweep.save()
    for number, trial in enumerate(sweep.trials, start=1):
        if trial.state == FINISHED:
            continue
        shown = screen.begins(trial, number, len(sweep.trials))
        report = _train(trial, screen, shown, force=force)
        if report is None:  # it was finished meanwhile
            continue
        screen.ended(trial, report)
        if report.exit_code in (Exit.INTERRUPTED, Exit.DATA):
            return int(report.exit_code)
        if report.status == "failed":
            code = Exit.TRAINING_FAILED
    return int(code)


def _train(trial: Trial, screen: SweepScreen, shown: Screen, *, force: bool) -> Report | None:
    if trial.run:
        return start_run(trial.run, screen.show, shown)
    return resume_run(RunFolder(trial.path.resolve()), screen.show, lambda _: shown, Onward(force=force))


def ranked(sweep: Sweep) -> tuple[list[Trial], Trial | None]:
    """The runs of a sweep as their folders are now, best first, and the best; None where none beats another.

    Those that have not learned, have no number yet, or another than most, come last.
    """
    trials = [Trial(trial.name, trial.values) for trial in sweep.trials]
    scores = {trial.name: _score(trial) for trial in trials}
    keys = [score[0] for score in scores.values() if score]
    usual = max(keys, key=keys.count) if keys else ""
    comparable = {name: score[1] for name, score in scores.items() if score and score[0] == usual}
    trials.sort(key=lambda trial: comparable.get(trial.name, math.inf))
    first, second = [*sorted(comparable.values()), math.inf, math.inf][:2]
    return trials, trials[0] if first < second < math.inf else None


def _score(trial: Trial) -> tuple[str, float] | None:
    """By which number a run is judged, and that number: the lower, the better. None where it has none that counts."""
    past = trial.past
    verdict = past.verdict if past else None
    if past is None or verdict is None or verdict.ending not in (Ending.LEARNED, Ending.UNKNOWN):
        return None
    result = past.result
    if result is None or not math.isfinite(result.value):
        return None
    return result.key, -result.value if result.key.removeprefix("eval_") in HIGHER else result.value
