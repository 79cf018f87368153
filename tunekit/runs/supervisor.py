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
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tunekit.plan.secrets import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

    import psutil

STOP_LADDER = ((signal.SIGINT, 15.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
"""How a run is stopped: each signal, and the seconds that it gets. ms-swift ends within 4 s of a SIGINT; the rest is
for a checkpoint that is being written to a slow disk."""

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a run."""

TICK = 0.25
"""Seconds between two looks at the process."""

PIECE, LONGEST_LINE = 65536, 1 << 20
"""Bytes that are read at once, and of one line that are held at the most: a progress bar may never end its line."""

MARK = "TUNEKIT_RUN_MARK"
"""The variable by which the processes of one attempt are known."""


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        status: exit status; negative for a signal.
        stopped_by: the signal that asked tunekit to stop, None where it ended by itself.
        oom_kills: processes that the kernel's out-of-memory killer ended meanwhile; None where it does not say.
    """

    status: int
    stopped_by: signal.Signals | None
    seconds: float
    oom_kills: int | None = None


class StopRequest:
    """Signals that were received since it was entered; a second one makes the ladder go on at once."""

    def __init__(self) -> None:
        self.received: list[signal.Signals] = []
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
    stop: StopRequest,
) -> Ended:
    """Run a program, with `env` as its whole environment, to its end; its output goes to `log`, `secrets` struck out.

    `on_tick` is called a few times a second, `inherit` are file descriptors that the program keeps open, `stop` the
    signals that this process received.
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
    tee = threading.Thread(target=_tee, args=(process.stdout, log, secrets), daemon=True)
    try:
        tee.start()
        while process.poll() is None and not stop.received:
            on_tick()
            wait_for(process, TICK)
        if process.poll() is None:
            _stop(process, stop, on_tick)
    finally:
        _end_all(process, mark)
        tee.join(timeout=5)
    stopped_by = stop.received[0] if stop.received else None
    status, seconds, after = process.wait(), time.monotonic() - began, _oom_kills()
    return Ended(status, stopped_by, seconds, None if after is None or kills is None else max(0, after - kills))


def _stop(process: subprocess.Popen[bytes], stop: StopRequest, on_tick: Callable[[], None]) -> None:
    """Climb the ladder until the process is gone."""
    for number, patience in STOP_LADDER:
        _signal_group(process.pid, number)
        asked = len(stop.received)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and len(stop.received) == asked:
            if process.poll() is not None:
                return
            on_tick()
            wait_for(process, TICK)


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


def _tee(stream: IO[bytes], log: Path, secrets: Sequence[str]) -> None:
    """Copy output to the log line by line. Of a progress bar, which redraws its line, the last state is kept.

    When the disk is full the log ends, and reading goes on: ms-swift would wait for ever to write to a full pipe.
    """
    with contextlib.suppress(OSError), log.open("w", encoding="utf-8") as file:
        line = b""
        while piece := stream.readline(PIECE):
            line += piece
            ended = line.endswith(b"\n")
            line = line.rstrip(b"\r\n").rpartition(b"\r")[2]
            if ended or len(line) > LONGEST_LINE:
                _write(file, line, secrets)
                line = b""
        if line:
            _write(file, line, secrets)
    for _ in stream:
        continue


def _write(file: IO[str], line: bytes, secrets: Sequence[str]) -> None:
    file.write(redact(line.decode("utf-8", errors="replace"), secrets) + "\n")
    file.flush()


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
