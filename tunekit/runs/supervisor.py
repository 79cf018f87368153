"""Start ms-swift, write down what it says, and stop it so that nothing of it is left.

ms-swift starts the trainer as a child (torchrun starts workers in sessions of their own) and passes no signals on. So
it gets a session of its own, signals go to the whole group, and what is left is found by a mark in its environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.files import open_own
from tunekit.plan.secrets import redact

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import FrameType

    import psutil

    Rung = tuple[Callable[[], object], float]
    """A way to ask a program to end, and the seconds that it gets."""

STOP_LADDER = ((signal.SIGINT, 15.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
"""How a run is stopped: each signal, and the seconds that it gets. ms-swift ends within 4 s of a SIGINT; the rest is
for a checkpoint that is being written to a slow disk."""

STOPPING = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    *(signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU),
)
"""Signals that end a run: of a terminal, of ``kill``, and those by which schedulers say that the time is up (Slurm's
``--signal=B:USR1@60``)."""

TICK = 0.25
"""Seconds between two looks at the process."""

PIECE, LONGEST_LINE = 65536, 1 << 20
"""Bytes that are read at once, and of one line that are held at the most: a progress bar may never end its line."""

UNWRITTEN, LONGEST_KEPT = 400, 2000
"""Lines, and characters of each, that are kept of what a full disk does not take."""

MARK, RANK = "TUNEKIT_RUN_MARK", "LOCAL_RANK"
"""The variable by which the processes of one attempt are known, and that which torchrun gives its workers."""


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        status: exit status; negative for a signal.
        stopped_by: the signal that asked tunekit to stop, None where it ended by itself.
        oom_kills: processes that the kernel's out-of-memory killer ended meanwhile; None where it does not say.
        unwritten: the last that it said, where the log could not be written; empty where all is in the log.
    """

    status: int
    stopped_by: signal.Signals | None
    seconds: float
    oom_kills: int | None = None
    unwritten: str = ""


class StopRequest:
    """Signals that were received since it was entered; a second one makes the ladder go on at once.

    `raises` makes each raise KeyboardInterrupt, for as long as it is true: while there is nothing yet to be stopped.
    """

    def __init__(self, *, raises: bool = False) -> None:
        self.received: list[signal.Signals] = []
        self.raises = raises
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopRequest:
        for number in STOPPING:
            before = self._before[number] = signal.getsignal(number)
            # nohup and & leave SIGHUP and SIGINT ignored, and that is kept. The handler is a function all the same:
            # an ignored signal would be inherited by ms-swift, which could then not be stopped with SIGINT.
            signal.signal(number, _nothing if before is signal.SIG_IGN else self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before if callable(before) or isinstance(before, int) else signal.SIG_DFL)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received.append(signal.Signals(number))
        if self.raises:
            raise KeyboardInterrupt


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Ignore a signal without passing that on to children."""


def supervise(
    argv: Sequence[str],
    env: Mapping[str, str],
    log: Path,
    *,
    secrets: Sequence[str] = (),
    on_tick: Callable[[], None] = lambda: None,
    inherit: Sequence[int] = (),
    saves: Callable[[], float] | None = None,
    hear: Callable[[str], None] = lambda _: None,
    ladder: Callable[[signal.Signals], Iterable[Rung]] | None = None,
    stop: StopRequest,
) -> Ended:
    """Run a program, with `env` as its whole environment, to its end; its output goes to `log`, `secrets` struck out.

    `on_tick` is called a few times a second, `inherit` are file descriptors that the program keeps open, `stop` the
    signals that this process received. `saves` gives the seconds in which the trainers below it save after a SIGTERM,
    and end by themselves; without it nothing is saved at a stop. `hear` gets, in a thread of its own, each line and
    each state of a line that is redrawn, as soon as it comes. `ladder` gives the ways to stop it after a signal, where
    signals do not reach what it started.
    """
    mark, kills, began = uuid.uuid4().hex, _oom_kills(), time.monotonic()
    process = subprocess.Popen(
        list(argv),
        env={**env, MARK: mark},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        pass_fds=tuple(inherit),
    )
    unwritten: deque[str] = deque(maxlen=UNWRITTEN)
    tee = threading.Thread(target=_tee, args=(process.stdout, log, secrets, unwritten, hear), daemon=True)
    try:
        tee.start()
        while process.poll() is None and not stop.received:
            on_tick()
            wait_for(process, TICK)
        if process.poll() is None:
            if ladder:
                _climb(process, on_tick, ladder(stop.received[0]))
            else:
                _stop(process, stop, on_tick, saves)
    finally:
        _end_all(process, mark)
        tee.join(timeout=5)
    stopped_by = stop.received[0] if stop.received else None
    status, seconds, after = process.wait(), time.monotonic() - began, _oom_kills()
    killed = None if after is None or kills is None else max(0, after - kills)
    return Ended(status, stopped_by, seconds, killed, "".join(unwritten))


def _stop(
    process: subprocess.Popen[bytes],
    stop: StopRequest,
    on_tick: Callable[[], None],
    saves: Callable[[], float] | None,
) -> None:
    """Climb the ladder until the process is gone.

    The launcher would kill its child 0.25 s after a SIGINT: trainers that save are asked themselves first.
    """
    if saves and _ask_trainers(process.pid) and _gone(process, stop, on_tick, saves()):
        return
    for number, patience in STOP_LADDER:
        _signal_group(process.pid, number)
        if _gone(process, stop, on_tick, patience):
            return


def _climb(process: subprocess.Popen[bytes], on_tick: Callable[[], None], rungs: Iterable[Rung]) -> None:
    """Ask in one way after the other until the process is gone. Other signals hurry nothing: Slurm sends several."""
    for ask, patience in rungs:
        ask()
        deadline = time.monotonic() + patience
        while process.poll() is None and time.monotonic() < deadline:
            on_tick()
            wait_for(process, TICK)
        if process.poll() is not None:
            return


def _gone(process: subprocess.Popen[bytes], stop: StopRequest, on_tick: Callable[[], None], patience: float) -> bool:
    """Whether the process ends within so many seconds, or before another signal says to hurry."""
    asked, deadline = len(stop.received), time.monotonic() + patience
    while time.monotonic() < deadline and len(stop.received) == asked:
        if process.poll() is not None:
            return True
        on_tick()
        wait_for(process, TICK)
    return process.poll() is not None


def _ask_trainers(launcher: int) -> bool:
    """Send SIGTERM to the trainers below ms-swift's launcher; whether there is one.

    Under torchrun they are asked and not torchrun, which would give them 30 s and then take the stop for a failure.
    """
    import psutil

    asked = False
    with contextlib.suppress(psutil.Error):
        children = psutil.Process(launcher).children()
        workers = [worker for child in children for worker in _children(child) if _has(worker, RANK)]
        for trainer in workers or children:
            with contextlib.suppress(psutil.Error):
                trainer.terminate()
                asked = True
    return asked


def _children(process: psutil.Process) -> list[psutil.Process]:
    import psutil

    with contextlib.suppress(psutil.Error):
        return process.children()
    return []


def _has(process: psutil.Process, variable: str) -> bool:
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        return variable in process.environ()
    return False


def wait_for(process: subprocess.Popen[Any], seconds: float) -> None:
    """Let the seconds pass, or less where the process ends in them."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _end_all(process: subprocess.Popen[bytes], mark: str) -> None:
    """Leave no process behind: neither in the group nor in the sessions that torchrun made."""
    import psutil

    if process.poll() is None:
        _signal_group(process.pid, signal.SIGKILL)
    for patience in (3.0, 0.0):
        left = [other for other in psutil.process_iter() if _carries(other, mark)]
        for other in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                other.terminate() if patience else other.kill()
        psutil.wait_procs(left, timeout=3.0)


def _carries(process: psutil.Process, mark: str) -> bool:
    """Whether a living process inherited the mark of this attempt."""
    import psutil

    try:
        return process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):  # ended meanwhile, or another user's
        return False


def _signal_group(leader: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # all of it has ended meanwhile
        os.killpg(leader, number)


def _tee(
    stream: io.BufferedReader, log: Path, secrets: Sequence[str], unwritten: deque[str], hear: Callable[[str], None]
) -> None:
    """Copy output to the log line by line. Of a progress bar, which redraws its line, the last state is kept.

    When the disk is full the log ends, and reading goes on: ms-swift would wait for ever to write to a full pipe. The
    last lines go to `unwritten` then: they say why training failed.
    """
    file: IO[str] | None = None
    with contextlib.suppress(OSError, TunekitError):
        file = os.fdopen(open_own(log, os.O_WRONLY | os.O_TRUNC), "w", encoding="utf-8")
    for state, ended in line_states(stream):
        text = state.decode("utf-8", errors="replace")
        hear(text)
        if not ended:
            continue
        text = redact(text, secrets) + "\n"
        if not _written(file, text):
            _closed(file)
            file = None
            unwritten.append(text[-LONGEST_KEPT:])
    _closed(file)


def line_states(stream: io.BufferedReader) -> Iterator[tuple[bytes, bool]]:
    """What comes, each state of a line that is redrawn by itself, and whether its line ends with it.

    What there is of a line comes at once, and once more when more of it is there.
    """
    line = b""
    while piece := stream.read1(PIECE):
        *whole, line = (line + piece).split(b"\n")
        for each in whole:
            *before, last = each.rstrip(b"\r").split(b"\r")
            yield from ((state, False) for state in before if state)
            yield last, True
        *before, line = line.split(b"\r")
        yield from ((state, False) for state in (*before, line) if state)
        if len(line) > LONGEST_LINE:
            yield line, True
            line = b""
        elif before and not line:  # if nothing is drawn over it, it is what stays
            line = before[-1] + b"\r"
    if line:
        yield line.rstrip(b"\r"), True


def _written(file: IO[str] | None, text: str) -> bool:
    if file is None:
        return False
    try:
        file.write(text)
        file.flush()
    except OSError:
        return False
    return True


def _closed(file: IO[str] | None) -> None:
    """Close a file, which writes what is left and may fail once more."""
    with contextlib.suppress(OSError):
        if file:
            file.close()


def _oom_kills() -> int | None:
    """How many processes the kernel's out-of-memory killer has ended; None where it does not say.

    In this control group where it counts (https://docs.kernel.org/admin-guide/cgroup-v2.html, memory.events), else on
    the whole machine since boot.
    """
    for path in (*_group_counters(), Path("/proc/vmstat")):
        with contextlib.suppress(OSError, ValueError):
            for line in path.read_text(encoding="utf-8").splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return None


def _group_counters(own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Iterator[Path]:
    """Where the kernel counts for this process's control group, or for that which a container shows as the root."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if "memory" in controllers.split(","):
            folder, name = root / "memory", "memory.oom_control"
        elif not controllers:
            folder, name = root, "memory.events"
        else:
            continue
        yield folder / group.strip("/") / name
        yield folder / name
