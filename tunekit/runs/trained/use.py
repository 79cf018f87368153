"""Start the programs that use what was trained: on which GPUs, supervised, with a log, and a line that says how far."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING

from tunekit import hardware
from tunekit.console import redraws, say, tolerant_stderr
from tunekit.engine.command import child_environment
from tunekit.engine.failures import failure_in
from tunekit.engine.phases import ANSWERING, Phases
from tunekit.errors import Exit, TunekitError
from tunekit.plan.secrets import secret_values
from tunekit.plan.settings import Source
from tunekit.runs.supervisor import StopRequest, supervise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tunekit.engine.command import Command
    from tunekit.engine.failures import Failure
    from tunekit.runs.trained.targets import Target

SPARE = 0.9
"""Share of a GPU that weights may take where one is to hold the model: the rest is for the cache of an answer."""

SAY_EVERY = 15.0
"""Seconds between two lines of progress where no terminal is there to redraw one."""


def devices_for(target: Target) -> tuple[str, ...]:
    """The GPUs that a model is loaded on: one, or all that there are where one cannot hold it. None means the CPU.

    A run that was trained on the CPU is used on the CPU. ``CUDA_VISIBLE_DEVICES`` chooses among the GPUs.
    """
    plan = target.plan
    here = hardware.detect()
    if not here or (plan is not None and not plan.hardware.gpus):
        return ()
    names = [gpu.device for gpu in here]
    trained_on = [gpu.device for gpu in plan.hardware.gpus] if plan else []
    first = next((device for device in trained_on if device in names), names[0])
    if plan and not target.weights.quantized:  # what was quantized while it trained is not any more once it is merged
        plan = plan.changed({"quant_method": None}, Source("run"), "")
    size = plan.weights_gib if plan else None
    if size and size > SPARE * here[names.index(first)].total_gib:
        return tuple(names)
    return (first,)


def try_program(
    command: Command, log: Path, progress: ProgressLine | None = None, inherit: Sequence[int] = ()
) -> Failure | None:
    """Run a program of ms-swift to its end. Gives why it failed; None where it did not.

    Its output goes to `log`, with secrets struck out; it keeps the file descriptors `inherit` open. Raises
    KeyboardInterrupt where a signal asked to stop; nothing of the program is left.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    env, secrets = child_environment(command, os.environ), secret_values(os.environ)
    tick, hear = (progress.tick, progress.begin().take) if progress else (lambda: None, lambda _: None)
    with StopRequest() as stop:
        ended = supervise(command.argv, env, log, secrets=secrets, on_tick=tick, inherit=inherit, hear=hear, stop=stop)
    if progress:
        progress.end()
    if ended.stopped_by is not None:
        raise KeyboardInterrupt
    return failure_in(log, ended.status, ended.oom_kills) if ended.status else None


def run_program(command: Command, log: Path, progress: ProgressLine) -> None:
    """Run a program of ms-swift as `try_program` does. Raises TunekitError, exit code 1, where it failed."""
    failure = try_program(command, log, progress)
    if failure:
        raise program_error(progress.what, failure, log)


def program_error(what: str, failure: Failure, log: Path, verb: str = " failed") -> TunekitError:
    """The error that says why a program failed; `what` was done, for people."""
    how = "out of memory" if failure.kind.is_memory else f"exit status {failure.status}"
    return TunekitError(f"{what}{verb} ({how}): {failure.evidence}", f"full log: {log}", Exit.TRAINING_FAILED)


class ProgressLine:
    """A line on stderr, redrawn in a terminal: `what` is done, with `done` of `total` rows, 0 where not counted.

    `phases` are those of the program that runs.
    """

    def __init__(self, what: str, done: Callable[[], int] = lambda: 0, total: int = 0) -> None:
        self.what, self.done, self._total = what, done, total
        self._began = self._said = time.monotonic()
        self.phases = Phases(ANSWERING)
        self._live = redraws(sys.stderr)
        if not self._live:
            say(what)

    def begin(self) -> Phases:
        """A program starts."""
        self.phases = Phases(ANSWERING)
        return self.phases

    def tick(self) -> None:
        """Draw or print it again, where it is time."""
        now = time.monotonic()
        if self._live:
            width = shutil.get_terminal_size().columns
            self._draw(self._line(now)[: width - 1])
        elif now - self._said >= SAY_EVERY:
            self._said = now
            say(self._line(now))

    def end(self) -> None:
        """Leave no half line behind."""
        if self._live:
            self._draw("")

    def _draw(self, line: str) -> None:
        with tolerant_stderr():
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)

    def _line(self, now: float) -> str:
        done, phase = self.done(), self.phases.name
        far = f"{done}/{self._total} rows" if self._total and done else "" if phase == "answering" else phase
        return " · ".join(filter(None, (self.what, far, f"{now - self._began:.0f} s")))
