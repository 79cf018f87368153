"""A Python process that answers questions: JSON in, JSON out, and whatever else happens in it stays there.

What imports torch or ms-swift, and what runs code of the user's, runs in one: it may print, hang or crash.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping

START = """
import sys
here, target, asker = sys.argv[1:]
del sys.argv[1:]
sys.path[:] = [here, *filter(None, sys.path)]
import tunekit
sys.path.append(sys.path.pop(0))
from tunekit.worker import serve
serve(target, int(asker))
"""
"""What the process runs. Python puts the current folder first on the path, and a torch.py there is not torch: it is
taken away. This tunekit is imported, even where another one is installed; what stands beside it comes last."""


MARK = "WORKER_OF_TUNEKIT"
"""The variable by which the processes of one worker are known, also those that make a session of their own."""

KEPT, FLOOD = 1 << 16, 1 << 24
"""Bytes that are kept of what a worker prints beside its answers, and those after which a question with a time limit is
given up: whoever prints so much in seconds never ends."""

LONGEST_ANSWER = 1 << 28
"""Characters of an answer."""

LOOK_EVERY = 0.5
"""Seconds between two looks whether the one who asks is still there."""


class WorkerFailed(Exception):  # noqa: N818 - named as what happened
    """A worker gave no answer; the message says why in a few words.

    Attributes:
        late: the time ran out.
        status: of its process, negative for a signal; None where none could be started.
        printed: the last line that it wrote beside its answers; empty where it wrote none.
    """

    def __init__(self, reason: str, *, late: bool = False, status: int | None = None, printed: str = "") -> None:
        super().__init__(reason)
        self.late = late
        self.status = status
        self.printed = printed


class Worker:
    """A process that calls one function of tunekit: it starts at the first question and answers any number of them.

    The function, named as ``tunekit.some.module:function``, gets a question and returns a JSON object. ``env`` is the
    whole environment of the process; None hands on this one's. Leave it by ``with``: it ends, and all that it started.
    """

    def __init__(self, target: str, env: Mapping[str, str] | None = None) -> None:
        self._target, self._env = target, env
        self._process: subprocess.Popen[str] | None = None
        self._mark = ""
        self._said = Tail()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def ask(self, question: object, seconds: float | None = None) -> dict[str, Any]:
        """What the function returns for a question; the two travel as JSON.

        After so many seconds the process is ended; None waits for as long as it takes. Raises WorkerFailed where there
        is no answer; the next question gets a new process.
        """
        import threading

        process = self._process = self._process or self._start()
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101
        late, flooded = threading.Event(), threading.Event()

        def give_up() -> None:
            late.set()
            _kill_group(process)

        def flood() -> None:
            flooded.set()
            _kill_group(process)

        self._said.watch(None if seconds is None else flood)

        clock = threading.Timer(threading.TIMEOUT_MAX if seconds is None else seconds, give_up)
        clock.daemon = True
        clock.start()
        try:
            with contextlib.suppress(BrokenPipeError):  # then there is no answer either
                process.stdin.write(json.dumps(question) + "\n")
                process.stdin.flush()
            line = process.stdout.readline(LONGEST_ANSWER)
            if not line:
                process.wait()  # for the status that it ends with by itself
        finally:
            clock.cancel()
        answer = _json(line)
        if isinstance(answer, dict) and not late.is_set() and not flooded.is_set():
            return answer
        status, printed = self._end(), self._printed()
        if late.is_set():
            reason = f"it did not answer within {seconds:g} s"
        elif flooded.is_set():
            printed = reason = f"it printed more than {FLOOD >> 20} MiB"
        elif answer is not None or (line and not printed):
            reason = "its worker answered no object"
        else:
            reason = printed or f"status {status}"
        raise WorkerFailed(reason, late=late.is_set(), status=status, printed=printed)

    def _start(self) -> subprocess.Popen[str]:
        import subprocess

        self._mark, self._said = os.urandom(16).hex(), Tail()
        try:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-W",
                    "ignore",
                    "-c",
                    START,
                    str(Path(__file__).parents[1]),
                    self._target,
                    str(os.getpid()),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said.pipe,
                encoding="utf-8",
                errors="replace",
                env={**(os.environ if self._env is None else self._env), MARK: self._mark},
                start_new_session=True,
            )
        except OSError as error:
            raise WorkerFailed(str(error)) from error
        finally:
            self._said.begin()

    def _end(self) -> int | None:
        """End the process and what it started; its status."""
        process, self._process = self._process, None
        if process is None:
            return None
        _kill_group(process)  # it holds nothing that would have to be put away
        _kill_marked(self._mark)
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]
        return process.wait()

    def _printed(self) -> str:
        lines = self._said.text().strip().splitlines()
        return lines[-1].strip() if lines else ""


class Tail:
    """The last that a process prints; the rest is read and forgotten, so that it may print for ever."""

    def __init__(self) -> None:
        import threading

        self._read, self.pipe = os.pipe()
        self._kept, self._count = bytearray(), 0
        self._flood: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __del__(self) -> None:
        if not self._thread.ident:  # it was never begun
            os.close(self._read)
            os.close(self.pipe)

    def begin(self) -> None:
        """Read what comes, now that the process has its end of the pipe."""
        os.close(self.pipe)
        self._thread.start()

    def watch(self, flood: Callable[[], None] | None) -> None:
        """Call `flood`, once, where from now on more than `FLOOD` bytes come."""
        self._count, self._flood = 0, flood

    def text(self) -> str:
        """What was printed last, of a process that has ended."""
        self._thread.join(1)  # a child that got away may hold the pipe
        return self._kept.decode(errors="replace")

    def _follow(self) -> None:
        with os.fdopen(self._read, "rb", buffering=0) as pipe:
            while piece := pipe.read(1 << 16):
                self._kept += piece
                del self._kept[:-KEPT]
                self._count += len(piece)
                if self._flood and self._count > FLOOD:
                    flood, self._flood = self._flood, None
                    flood()


def ask_once(
    target: str, question: object, seconds: float | None = None, env: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What a function returns for one question, in a process of its own, or WorkerFailed; see `Worker`."""
    with Worker(target, env) as worker:
        return worker.ask(question, seconds)


def serve(target: str, asker: int) -> None:
    """The other side of a `Worker`: answer each line of standard input, and end the process after the last one.

    It ends, whatever it is doing, once the process `asker` has: that may be before this one first looks.

    Answers alone reach standard output: what the function and its libraries print there goes to standard error, and
    nothing but this reads the questions.
    """
    import threading

    questions, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    threading.Thread(target=_end_with, args=(asker,), daemon=True).start()
    os.register_at_fork(after_in_child=answers.close)  # else a forked child would keep the one who asks waiting
    try:
        module, _, name = target.partition(":")
        function = getattr(import_module(module), name)
        for question in questions:
            print(json.dumps(function(json.loads(question))), file=answers, flush=True)
    except BaseException:  # noqa: BLE001 - the one who asks reads it in the last line
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)  # threads that are left would keep the process


def _end_with(parent: int) -> None:
    """End this process and all that it started once the one who asks is gone, by whatever signal."""
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY)
    os.killpg(0, signal.SIGKILL)  # it leads a session of its own


def _kill_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _kill_marked(mark: str) -> None:
    """End what left the group of a worker: it has inherited its mark. Where there is no /proc, nothing is found."""
    word = f"{MARK}={mark}".encode()
    for _ in range(3):  # one may start another meanwhile
        found = [entry for entry in Path("/proc").glob("[0-9]*") if _carries(entry / "environ", word)]
        for entry in found:
            with contextlib.suppress(OSError):
                os.kill(int(entry.name), signal.SIGKILL)
        if not found:
            return


def _carries(environ: Path, word: bytes) -> bool:
    try:
        return word in environ.read_bytes().split(b"\0")
    except OSError:  # ended meanwhile, or another user's
        return False


def _json(line: str) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(line)
    return None
