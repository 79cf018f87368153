"""The loop: start, watch, and after an out-of-memory go on with less, at the same effective batch."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tunekit.engine.command import build_command
from tunekit.engine.failures import Failure, log_tail, memory_sizes
from tunekit.engine.kinds import Kind
from tunekit.engine.locate import Installation, find_engine, installed_packages
from tunekit.engine.logs import LogTail, Progress, read_lost_rows, read_progress
from tunekit.engine.phases import Phases
from tunekit.engine.plugin import Files, with_files
from tunekit.errors import Exit, TunekitError, counted
from tunekit.files import write_atomically
from tunekit.plan.secrets import secret_values
from tunekit.runs import checkpoints, ladder, learned
from tunekit.runs.folder import FULL, Attempt, RunFolder, RunState, unwritable
from tunekit.runs.ladder import seen
from tunekit.runs.outcome import Watch, judge
from tunekit.runs.report import Report
from tunekit.runs.starter import HERE
from tunekit.runs.stopping import STOP_FILE, saving_plan, seconds_to_save
from tunekit.runs.supervisor import Ended, StopRequest, supervise
from tunekit.runs.unusual import PaceWatch

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable
    from pathlib import Path

    from tunekit.runs.report import Screen
    from tunekit.runs.starter import Started, Starter
    from tunekit.runs.supervisor import Rung

DISK = FULL | {errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE}
"""Errors of a disk that is full, was taken away, or may not be written any more."""

STEPS_OF_A_PACE = 5
"""Steps after which a mean says something of the pace: the first one also waits for kernels to be made."""

LOST = "lost"
"""The outcome of an attempt in which tunekit itself was killed, or the machine died."""

MEMORY_OUTCOMES = frozenset(kind.value for kind in Kind if kind.is_memory)


def engine_or_fail() -> Installation:
    """ms-swift in this interpreter. Raises TunekitError where it is not installed."""
    engine = find_engine()
    if engine is None:
        raise TunekitError(
            "ms-swift is not installed in this Python, so nothing can be started",
            'pip install "tunekit[train]"; --dry-run works without it',
        )
    return engine


def run_attempts(
    folder: RunFolder, state: RunState, screen: Screen, stop: StopRequest | None = None, starter: Starter = HERE
) -> Report:
    """Run a plan to its end, through as many attempts as its policy allows. The folder's lock must be held.

    `stop` holds the signals that were received already, `starter` starts an attempt. Raises TunekitError where the
    folder was deleted meanwhile, or its disk is full.
    """
    if stop is None:
        with StopRequest() as entered:
            return run_attempts(folder, state, screen, entered, starter)
    try:
        return _Runner(folder, state, screen, engine_or_fail(), stop, starter).run()
    except OSError as error:
        if folder.gone:
            message = f"{folder.path} was deleted while its run went on, and what it had learned with it"
            raise TunekitError(message, "start it anew", Exit.TRAINING_FAILED) from error
        if error.errno not in DISK:
            raise
        state.status = "failed"
        with contextlib.suppress(OSError):
            folder.save(state)
        known = unwritable(folder.path, error)
        raise TunekitError(known.message, known.hint, Exit.TRAINING_FAILED) from error


@dataclass(frozen=True)
class _Result:
    number: int
    ended: Ended
    resumed: Path | None
    progress: Progress
    failure: Failure | None
    halted: bool = False  # whether ms-swift's file is there that stops every training

    @property
    def outcome(self) -> str:
        """A trainer that saves when it is stopped ends with status 0, as one does that has finished."""
        if self.failure:
            return self.failure.kind.value
        asked = self.halted or self.ended.stopped_by is not None
        short = asked and not 0 < self.progress.total <= self.progress.step
        return "done" if self.ended.status == 0 and not short else "interrupted"


class _Runner:
    def __init__(
        self,
        folder: RunFolder,
        state: RunState,
        screen: Screen,
        engine: Installation,
        stop: StopRequest,
        starter: Starter,
    ) -> None:
        self._folder, self._state, self._screen = folder, state, screen
        self._engine, self._stop, self._starter = engine, stop, starter
        self._packages = installed_packages()
        self._tried = {ladder.fingerprint_of(state.plan)}
        self._starts = starter.starts_before(state)
        self._began = False
        self._unreadable: set[str] = set()
        self._pace = PaceWatch({}, ())

    def run(self) -> Report:
        self._count_the_lost()
        self._learn_from_the_last_attempt()
        while not self._stop.received:
            result = self._attempt()
            failure = result.failure
            step = self._next_step(failure.kind) if failure else None
            self._record(result, step)
            if failure and step:
                self._screen.say(self._retry_lines(result, failure, step))
                self._take(step)
                continue
            if failure and (self._passes_over(result) or self._moves_on(failure)):
                continue
            if STOP_FILE.exists() and result.halted and result.outcome == "interrupted":
                self._screen.say([f"ms-swift stopped it because the file {STOP_FILE} is there: delete it to go on."])
            return self._end(result.outcome, failure)
        return self._end("interrupted", None)

    def _end(self, outcome: str, failure: Failure | None) -> Report:
        state, folder = self._state, self._folder
        state.status = "failed" if failure else outcome
        if folder.gone:
            raise FileNotFoundError(errno.ENOENT, "deleted", folder.path)
        folder.save(state)
        neutral = self._rung(failure.kind, lossy=False) if failure and failure.kind.is_memory else None
        progress = read_progress(folder.output / "logging.jsonl")
        rows = read_lost_rows(folder.attempt(number) / "train.log" for number in range(1, folder.next_attempt()))
        verdict = judge(state.plan, progress, rows) if state.status == "done" else None
        if state.status == "done":
            self._learn_pace(progress)
        with contextlib.suppress(OSError):  # ms-swift makes it too, where it draws
            (folder.output / "images").mkdir(parents=True, exist_ok=True)
        stopped_by = self._stop.received[0] if self._stop.received else None
        left = neutral.line if neutral else ""
        return Report(state.status, state, failure, progress, rows, verdict, left, stopped_by, self._pace.reasons)

    def _count_the_lost(self) -> None:
        """Add the attempts that left a folder and no outcome: tunekit was killed in them, or the machine died."""
        state, batch = self._state, self._state.plan.batch
        known = {attempt.number for attempt in state.attempts}
        for number in sorted(set(self._folder.attempts()) - known):
            reached = read_progress(self._folder.output / "logging.jsonl").step
            why = "tunekit was killed, or the machine died, before it ended"
            state.attempts.append(Attempt(number, LOST, batch.micro, batch.accumulation, None, reached, -9, why))
        state.attempts.sort(key=lambda attempt: attempt.number)

    def _passes_over(self, result: _Result) -> bool:
        """Whether to try again from the checkpoint before: this one could not be read."""
        if not result.resumed or result.progress.step > checkpoints.step(result.resumed):
            return False
        if not checkpoints.loading_failed(log_tail(self._folder.attempt(result.number) / "train.log")):
            return False
        self._unreadable.add(result.resumed.name)
        before = checkpoints.newest(self._folder.output, self._unreadable)
        onward = f"goes on from {before.name}, the one before" if before else "starts over: there is none before it"
        self._screen.say([f"{result.resumed.name} could not be read, and is kept as it is. The run {onward}."])
        return True

    def _moves_on(self, failure: Failure) -> bool:
        """Whether to try the same again at another port: the one of this attempt was taken."""
        return failure.kind is Kind.PORT and self._starter.moves and self._starts < self._state.max_attempts

    def _learn_from_the_last_attempt(self) -> None:
        """Resume a run that failed for want of memory with less, where there is less.

        Only one that failed: where the machine died in an attempt, what that attempt was to try stands already.
        """
        state = self._state
        last = state.attempts[-1] if state.attempts else None
        if state.status == "failed" and last and last.outcome in MEMORY_OUTCOMES:
            step = self._next_step(Kind(last.outcome))
            if step:
                self._screen.say([f"It ran out of memory before. Now: {step.line}."])
                self._take(step)

    def _next_step(self, kind: Kind) -> ladder.Retry | None:
        """What to change after a failure; None where no other attempt is to be made."""
        state = self._state
        apart = state.plan.hardware.nodes > 1 and not self._starter.together  # they would not agree on it
        if not kind.is_memory or apart or state.oom_retry == "off" or self._starts >= state.max_attempts:
            return None
        return self._rung(kind, lossy=state.oom_retry == "lossy")

    def _rung(self, kind: Kind, *, lossy: bool) -> ladder.Retry | None:
        coming = self._folder.next_attempt()
        return ladder.next_step(self._state.plan, kind, self._packages, self._tried, coming, lossy=lossy)

    def _take(self, step: ladder.Retry) -> None:
        self._state.plan = step.plan
        self._state.fresh = step.fresh or self._state.fresh
        self._tried.add(ladder.fingerprint_of(step.plan))
        self._folder.save(self._state)

    def _checkpoint(self) -> Path | None:
        """The checkpoint to go on from. Says where a newer one is passed over, and where there is none."""
        folder = self._folder
        found = checkpoints.newest(folder.output, self._unreadable)
        damaged = [path.name for path in checkpoints.damaged(folder.output, found) if path.name not in self._unreadable]
        if damaged:
            self._screen.say([f"Passed over, because it is not whole: {', '.join(damaged)}."])
        if found is None and self._state.attempts and not self._began:
            self._screen.say(["No checkpoint was saved before: it starts from the first step."])
        return found

    def _make_folders(self, place: Path) -> None:
        """Make those of an attempt. Where it must start over, what was learned before is kept in its own."""
        output = self._folder.output
        place.mkdir(parents=True, exist_ok=True)
        if self._state.fresh and output.exists():
            output.rename(place / "before")
        self._state.fresh = False
        output.mkdir(parents=True, exist_ok=True)

    def _attempt(self) -> _Result:
        folder, state = self._folder, self._state
        number = folder.next_attempt()
        place = folder.attempt(number)
        log = place / "train.log"
        self._make_folders(place)
        checkpoint = self._checkpoint()
        resume = checkpoints.ready_to_resume(checkpoint, place) if checkpoint else None
        together = state.plan.hardware.nodes == 1 or self._starter.together
        saving = saving_plan(state.plan, self._engine, together=together)
        plan = with_files(saving or state.plan, Files.of_run(folder.path.resolve()))
        onward = resume.resolve() if resume else None
        command = build_command(plan, folder.output.resolve(), onward, self._engine.program)
        script = command.script([f"attempt {number} of the run {state.name}"])
        write_atomically(place / "command.sh", script, mode=0o755)
        state.status = "running"
        folder.save(state)  # under the handler of signals: whatever comes now, its end is written too
        log_file = folder.output / "logging.jsonl"
        tail = LogTail(log_file, skip=log_file.stat().st_size if log_file.exists() else 0)
        progress = Progress(step=max(0, checkpoints.step(checkpoint))) if checkpoint else Progress()
        peak = state.plan.peak
        progress.predicted_gib = peak.prediction.reserved_gib if peak else None
        self._starts, self._began = self._starts + 1, True
        self._screen.attempt(self._starts, state.max_attempts, state.plan, resume.name if resume else None)

        started = self._starter.start(command, place, number)
        ended = self._watched(started, log, progress, tail, saving=saving is not None)
        self._screen.pause()
        broke = ended.status != 0 and not ended.stopped_by
        failure = self._starter.failure(place, ended) if broke else None
        halted = bool(saving) and (STOP_FILE.exists() or self._starter.stopped_by_others(state.plan))
        return _Result(number, ended, resume, progress, failure, halted)

    def _watched(self, started: Started, log: Path, progress: Progress, tail: LogTail, *, saving: bool) -> Ended:
        """Run a command to its end; show on the way what it says and logs."""
        watch, phases = Watch(self._state.plan), Phases()
        hardware = self._state.plan.hardware
        self._pace = PaceWatch(self._state.said, [gpu.device for gpu in hardware.gpus if not hardware.described])

        def look() -> None:
            for entry in tail.new():
                progress.take(entry)
                phases.end()
                if warnings := [*watch.look(progress, log), *self._pace.look(progress)]:
                    self._screen.say(warnings)
            self._screen.progress(progress, phases)

        ended = supervise(
            started.argv,
            started.env,
            started.log,
            secrets=secret_values(os.environ),
            on_tick=look,
            inherit=(self._folder.lock_fd,),
            saves=(lambda: seconds_to_save(self._state.plan, progress.seconds_per_step)) if saving else None,
            ladder=(lambda received: self._told(started, received)) if started.ladder else None,
            hear=phases.take,
            stop=self._stop,
        )
        look()
        return ended

    def _told(self, started: Started, received: signal.Signals) -> Iterable[Rung]:
        """The ways to stop an attempt. The state is written first: a scheduler may end this process while it waits."""
        self._state.status = "interrupted"
        self._folder.save(self._state)
        return started.ladder(received) if started.ladder else ()

    def _record(self, result: _Result, step: ladder.Retry | None) -> None:
        """Write ``outcome.json`` and add the attempt to the run."""
        failure, batch = result.failure, self._state.plan.batch
        attempt = Attempt(
            number=result.number,
            outcome=result.outcome,
            micro_batch=batch.micro,
            accumulation=batch.accumulation,
            resumed_from=result.resumed.name if result.resumed else None,
            last_step=result.progress.step,
            status=result.ended.status,
            evidence=failure.evidence if failure else "",
            next_step=step.line if step else "",
            seconds=round(result.ended.seconds, 1),
            memory_gib=result.progress.memory_gib,
        )
        self._state.attempts.append(attempt)
        self._learn(result)
        document = json.dumps({**asdict(attempt), "effective_batch": batch.effective}, indent=1, ensure_ascii=False)
        if not self._folder.gone:
            self._folder.save(self._state)
            with contextlib.suppress(OSError):  # run.json holds the same
                write_atomically(self._folder.attempt(result.number) / "outcome.json", document + "\n")

    def _learn(self, result: _Result) -> None:
        """Keep what the attempt shows of this machine's memory, for the next prediction."""
        peak, failure = self._state.plan.peak, result.failure
        if peak is None or (failure and failure.kind is not Kind.GPU_MEMORY):
            return
        reserved = peak.prediction.reserved_gib
        measured = reserved * seen(peak) / peak.correction if failure else result.progress.memory_gib
        if measured:
            try:
                learned.remember(self._state.plan, peak, measured)
            except TunekitError as error:
                self._screen.say([error.message])

    def _learn_pace(self, progress: Progress) -> None:
        """Keep the pace of a run that went through in one attempt; what was retried or resumed has another."""
        said, step = self._state.said, progress.seconds_per_step
        if not said or not step or len(self._state.attempts) > 1 or progress.step < STEPS_OF_A_PACE:
            return
        try:
            learned.remember_pace(self._state.plan, step, said.get("unlearned_step", 0), said.get("tokens_a_step", 0))
        except TunekitError as error:
            self._screen.say([error.message])

    def _retry_lines(self, result: _Result, failure: Failure, step: ladder.Retry) -> list[str]:
        """An out-of-memory in three lines: what happened, what comes next, where the log is."""
        reached = result.progress.step
        where = f" at step {reached}" if reached else " before the first step"
        where += f" on {failure.machine}" if failure.machine else ""
        detail = memory_sizes(failure.evidence) or failure.evidence
        checkpoint = None if step.fresh else checkpoints.newest(self._folder.output)
        if step.fresh:
            onward = "a checkpoint of before cannot be continued with that, so it starts over"
        elif checkpoint:
            repeated = max(0, reached - checkpoints.step(checkpoint))
            lost = f", {counted(repeated, 'step')} {'is' if repeated == 1 else 'are'} repeated" if repeated else ""
            onward = f"resumes from {checkpoint.name}{lost}"
        else:
            onward = "starts over: no checkpoint was saved yet"
        lossy = "" if step.rung.neutral else " (lossy)"
        return [
            f"{failure.kind.title}{where} ({detail}).",
            f"Next{lossy}: {step.line}; {onward}.",
            f"Full log: {self._folder.attempt(result.number) / ('' if failure.machine else 'train.log')}",
        ]
