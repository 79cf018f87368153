"""The loop: start, watch, and after an out-of-memory go on with less, at the same effective batch."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from tunekit.engine import failures
from tunekit.engine.command import build
from tunekit.engine.failures import Failure, Kind, classify
from tunekit.engine.locate import Installation, find_engine, installed_packages
from tunekit.engine.logs import LogTail, Progress, read_progress
from tunekit.errors import TunekitError
from tunekit.paths import write_atomically
from tunekit.plan.secrets import values
from tunekit.runs import checkpoints, ladder
from tunekit.runs.folder import Attempt, RunFolder, RunState
from tunekit.runs.supervisor import Ended, StopRequest, supervise

if TYPE_CHECKING:
    from pathlib import Path

    from tunekit.plan.plan import Plan

LOG_TAIL = 256 * 1024
"""Bytes at the end of a log in which a failure is looked for: tracebacks of eight ranks fit."""


MEMORY_OUTCOMES = frozenset(kind.value for kind in Kind if kind.is_memory)


class Screen(Protocol):
    """Where a run shows itself; `tunekit.runs.screen` has those for a terminal and for a log file."""

    def attempt(self, number: int, most: int, plan: Plan, resumed: str | None) -> None:
        """An attempt starts."""

    def progress(self, progress: Progress, log: Path) -> None:
        """It goes on; called a few times a second."""

    def pause(self) -> None:
        """It ended; whatever is drawn stays as it is."""

    def say(self, lines: list[str]) -> None:
        """Tell the user something that stays."""


@dataclass(frozen=True)
class Report:
    """How a run ended.

    Attributes:
        status: ``done``, ``failed`` or ``interrupted``.
        failure: why, where it failed.
        progress: over all attempts.
        seconds: spent in all attempts.
    """

    status: str
    state: RunState
    failure: Failure | None
    progress: Progress

    @property
    def seconds(self) -> float:
        """Spent in all attempts together."""
        return sum(attempt.seconds for attempt in self.state.attempts)


def engine_or_fail() -> Installation:
    """ms-swift in this interpreter. Raises TunekitError where it is not installed."""
    engine = find_engine()
    if engine is None:
        raise TunekitError(
            "ms-swift is not installed in this Python, so nothing can be trained",
            'pip install "tunekit[train]"; --dry-run works without it',
        )
    return engine


def run(folder: RunFolder, state: RunState, screen: Screen) -> Report:
    """Run a plan to its end, through as many attempts as its policy allows. The folder's lock must be held."""
    engine = engine_or_fail()
    packages = installed_packages()
    tried = {ladder.fingerprint(state.plan)}
    with StopRequest() as stop:
        while True:
            number = folder.next_attempt()
            failed = sum(old.outcome in MEMORY_OUTCOMES for old in state.attempts)
            ended, resumed, progress = _attempt(folder, state, engine, number, failed + 1, screen, stop)
            failure = None if ended.status == 0 or ended.stopped_by else _failure(folder, number, ended)
            step = None
            if failure and failure.kind.is_memory and state.oom_retry != "off" and failed + 1 < state.max_attempts:
                lossy = state.oom_retry == "lossy"
                step = ladder.next_step(state.plan, failure.kind, packages, tried, number + 1, lossy=lossy)
            _record(folder, state, number, ended, resumed, progress, failure, step)
            if failure is None:
                state.status = "done" if ended.status == 0 else "interrupted"
            elif step is None:
                state.status = "failed"
            else:
                screen.say(_told(folder, number, failure, step, progress))
                state.plan, state.fresh = step.plan, step.fresh
                tried.add(ladder.fingerprint(step.plan))
                folder.save(state)
                continue
            folder.save(state)
            return Report(state.status, state, failure, read_progress(folder.output / "logging.jsonl"))


def _attempt(
    folder: RunFolder,
    state: RunState,
    engine: Installation,
    number: int,
    shown_number: int,
    screen: Screen,
    stop: StopRequest,
) -> tuple[Ended, Path | None, Progress]:
    """Start ms-swift once and follow it to its end."""
    place = folder.attempt(number)
    place.mkdir(parents=True, exist_ok=True)
    if state.fresh and folder.output.exists():
        # What was learned so far was learned from other data or by another adapter: it is kept, not continued.
        folder.output.rename(place / "before")
    state.fresh = False
    folder.output.mkdir(parents=True, exist_ok=True)
    checkpoint = checkpoints.newest(folder.output)
    resume = checkpoints.ready_to_resume(checkpoint, place) if checkpoint else None
    program = (engine.python, "-m", "swift.cli.main")
    command = build(state.plan, folder.output.resolve(), resume.resolve() if resume else None, program)
    comment = [f"attempt {number} of the run {state.name}"]
    write_atomically(place / "command.sh", command.script(comment), mode=0o755)
    state.status = "running"
    folder.save(state)
    log_file = folder.output / "logging.jsonl"
    tail = LogTail(log_file, skip=log_file.stat().st_size if log_file.exists() else 0)
    progress = Progress()
    screen.attempt(shown_number, state.max_attempts, state.plan, resume.name if resume else None)

    def look() -> None:
        for entry in tail.new():
            progress.take(entry)
        screen.progress(progress, place / "train.log")

    env = {name: value for name, value in os.environ.items() if name != "NPROC_PER_NODE"} | dict(command.env)
    ended = supervise(
        command.argv,
        env,
        place / "train.log",
        secrets=values(os.environ),
        on_tick=look,
        inherit=(folder.lock_fd,),
        stop=stop,
    )
    look()
    screen.pause()
    return ended, resume, progress


def _failure(folder: RunFolder, number: int, ended: Ended) -> Failure:
    log = folder.attempt(number) / "train.log"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL))
        text = file.read().decode("utf-8", errors="replace")
    return classify(ended.status, text, oom_kills=ended.oom_kills)


def _record(
    folder: RunFolder,
    state: RunState,
    number: int,
    ended: Ended,
    resumed: Path | None,
    progress: Progress,
    failure: Failure | None,
    step: ladder.Step | None,
) -> None:
    """Write ``outcome.json`` and add the attempt to the run."""
    outcome = failure.kind.value if failure else "done" if ended.status == 0 else "interrupted"
    attempt = Attempt(
        number=number,
        outcome=outcome,
        micro_batch=state.plan.batch.micro,
        accumulation=state.plan.batch.accumulation,
        resumed_from=resumed.name if resumed else None,
        last_step=progress.step,
        status=ended.status,
        evidence=failure.evidence if failure else "",
        next_step=step.line if step else "",
        seconds=round(ended.seconds, 1),
        memory_gib=progress.memory_gib,
    )
    state.attempts.append(attempt)
    document = {**asdict(attempt), "effective_batch": state.plan.batch.effective}
    write_atomically(folder.attempt(number) / "outcome.json", json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _told(folder: RunFolder, number: int, failure: Failure, step: ladder.Step, progress: Progress) -> list[str]:
    """An out-of-memory in three lines: what happened, what comes next, where the log is."""
    where = f" at step {progress.step}" if progress.step else " before the first step"
    sizes = failures.memory_sizes(failure.evidence)
    detail = sizes or failure.evidence
    checkpoint = None if step.fresh else checkpoints.newest(folder.output)
    if step.fresh:
        onward = "what is learned changes, so it starts over"
    elif checkpoint:
        repeated = max(0, progress.step - checkpoints.step(checkpoint))
        onward = f"resumes from {checkpoint.name}" + (f", {repeated} steps are repeated" if repeated else "")
    else:
        onward = "starts over: no checkpoint was saved yet"
    lossy = "" if step.rung.neutral else " (lossy)"
    return [
        f"{failure.kind.title}{where} ({detail}).",
        f"Next{lossy}: {step.line}; {onward}.",
        f"Full log: {folder.attempt(number) / 'train.log'}",
    ]
