"""Start the programs that use what was trained: supervised, with a log, and never with a half-made result."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit import hardware
from tunekit.console import say, tolerant_stderr
from tunekit.engine.failures import classify
from tunekit.errors import Exit, TunekitError
from tunekit.files import read_object
from tunekit.plan.predict import weights_gib
from tunekit.plan.secrets import secret_values
from tunekit.runs.attempts import LOG_TAIL
from tunekit.runs.checkpoints import has_weights
from tunekit.runs.supervisor import StopRequest, supervise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tunekit.engine.command import Command
    from tunekit.runs.trained.targets import Target

SPARE = 0.9
"""Share of a GPU that weights may take where one is to hold the model: the rest is for the cache of an answer."""

LAUNCHER = ("NPROC_PER_NODE", "NNODES", "NODE_RANK")
"""What makes ms-swift start torchrun. One process answers, whatever the shell says."""

TELL_EVERY = 15.0
"""Seconds between two lines of progress where no terminal is there to redraw one."""


def devices(target: Target) -> tuple[str, ...]:
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
        plan = plan.changed({"quant_method": None}, "merged", "")
    size = weights_gib(plan) if plan else None
    if size and size > SPARE * here[names.index(first)].total_gib:
        return tuple(names)
    return (first,)


def environment(on: Sequence[str]) -> dict[str, str]:
    """The variables of a command that uses these GPUs."""
    return {"CUDA_VISIBLE_DEVICES": ",".join(on)} if on else {}


def inherited() -> dict[str, str]:
    """The environment of this process, as ms-swift gets it."""
    return {name: value for name, value in os.environ.items() if name not in LAUNCHER}


def supervised(command: Command, log: Path, progress: Progress) -> None:
    """Run a program to its end; its output goes to `log`, with secrets struck out.

    Raises:
        KeyboardInterrupt: a signal asked to stop; nothing of the program is left.
        TunekitError: it failed; exit code 1.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with StopRequest() as stop:
        ended = supervise(
            command.argv,
            {**inherited(), **command.env},
            log,
            secrets=secret_values(os.environ),
            on_tick=progress.tick,
            stop=stop,
        )
    progress.end()
    if ended.stopped_by is not None:
        raise KeyboardInterrupt
    if ended.status != 0:
        raise failed(progress.what, ended.status, log, ended.oom_kills)


def failed(what: str, status: int, log: Path, oom_kills: int = 0) -> TunekitError:
    """Why a program of ms-swift failed, as its log tells it.

    Args:
        what: was done, for people.
        status: its exit status.
        log: its output.
        oom_kills: processes that the kernel's out-of-memory killer ended meanwhile.
    """
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL))
        text = file.read().decode("utf-8", errors="replace")
    failure = classify(status, text, oom_kills=oom_kills)
    how = "out of memory" if failure.kind.is_memory else f"exit status {status}"
    return TunekitError(f"{what} failed ({how}): {failure.evidence}", f"full log: {log}", Exit.TRAINING_FAILED)


class Progress:
    """One line on stderr that says how far something is: redrawn in a terminal, now and then in a log file.

    Args:
        what: is done, for people: ``merging kit · checkpoint-15``.
        done: how many rows are done.
        total: how many there are; 0 where they are not counted.
    """

    def __init__(self, what: str, done: Callable[[], int] = lambda: 0, total: int = 0) -> None:
        self.what = what
        self._done = done
        self._total = total
        self._began = self._told = time.monotonic()
        self._live = sys.stderr.isatty()
        if not self._live:
            say(what)

    def tick(self) -> None:
        """Say it again, where it is time."""
        now = time.monotonic()
        if self._live:
            with tolerant_stderr():
                width = shutil.get_terminal_size().columns
                print(f"\r\x1b[K{self._line(now)[: width - 1]}", end="", file=sys.stderr, flush=True)
        elif now - self._told >= TELL_EVERY:
            self._told = now
            say(self._line(now))

    def end(self) -> None:
        """Leave no half line behind."""
        if self._live:
            with tolerant_stderr():
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _line(self, now: float) -> str:
        done = self._done()
        counted = f" · {done}/{self._total} rows" if self._total and done else ""
        return f"{self.what}{counted} · {now - self._began:.0f} s"


def merge(target: Target, output: Path, build: Callable[[Path], Command]) -> None:
    """Merge an adapter into its model. The folder is there when all of it is.

    Args:
        target: an adapter.
        output: the folder; it must not exist, or be empty.
        build: the command that merges into the folder it is given.

    Raises:
        TunekitError: the folder is taken or cannot be made, or ms-swift failed.
    """
    free_to_write(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
    except OSError as error:
        raise TunekitError(f"{output} cannot be written: {error.strerror}", "take another --output-dir") from error
    try:
        made = scratch / output.name
        log = target.log("merge")
        supervised(build(made), log, Progress(f"merging {target.name}"))
        if not has_weights(made):
            raise TunekitError(f"ms-swift merged nothing into {output}", f"full log: {log}", Exit.TRAINING_FAILED)
        as_whole_model(made)
        if output.is_dir():
            output.rmdir()  # it was empty a moment ago; if it is not any more, that is an error
        made.rename(output)
    except OSError as error:
        raise TunekitError(f"{output} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def free_to_write(output: Path) -> None:
    """Refuse a folder that holds something. Raises TunekitError."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        there = "it holds a model already" if has_weights(output) else "it exists and is not empty"
        raise TunekitError(f"{output}: {there}", "delete it, or take another --output-dir")


def as_whole_model(folder: Path) -> None:
    """Take the quantization out of the ``args.json`` that ms-swift copies from the adapter.

    It would load the merged model in a few bits because of it, though nothing in its weights is quantized.
    """
    path = folder / "args.json"
    trained = read_object(path)
    if trained.get("quant_method") is not None:
        path.write_text(json.dumps(trained | {"quant_method": None, "quant_bits": None}, indent=2), encoding="utf-8")
