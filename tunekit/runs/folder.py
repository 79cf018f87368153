"""The folder of a run, enough to go on after the machine died.

runs/<name>/  run.json  command.sh  attempts/1/{train.log, command.sh, outcome.json}  output/{checkpoint-*, …}
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import tunekit
from tunekit.errors import TunekitError
from tunekit.files import open_own, write_atomically
from tunekit.plan.plan import Plan
from tunekit.runs.migrations import SCHEMA, migrate
from tunekit.runs.trust import unsafe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.plan.measured import Measured
    from tunekit.plan.models.source import ModelSource
    from tunekit.plan.schedule import Schedule
    from tunekit.speed.duration import Duration

RUNS = Path("runs")
"""Where runs are kept, below the current folder."""

RESULT, MERGED = "result", "merged"
"""In the folder of a recipe's stage: the link to the checkpoint that counts, and the model that its adapter was merged
into."""


FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of a disk, a quota or a limit (``ulimit -f``) that is used up."""

RESERVE, LOCK_KEPT = 128 * 1024, 64
"""Bytes that the lock keeps free for ``run.json``, which must still be true when the disk is full; and the rest of it,
which names the process."""

LARGEST = 64 * 1024 * 1024
"""Bytes; a ``run.json`` has some ten thousand."""

DAMAGED = (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError)


PLAIN = {"name": str, "status": str, "oom_retry": str, "max_attempts": int, "created": str, "cwd": str, "fresh": bool}
"""What the plain fields of a `RunState` are."""


LATER = ("inputs", "launch", "said")
"""Fields of a `RunState` that runs of earlier versions do not have."""


@dataclass(frozen=True)
class Run:
    """A run that is planned and has not begun.

    Attributes:
        oom_retry: the policy after an out-of-memory.
        max_attempts: starts at the most.
        rows: what is known of the rows of its dataset; None where they were not looked at.
        chosen: the name that tunekit would take; empty where the user named the run or its folder.
        schedule: its steps; None where its rows cannot be counted before it starts.
        source: where the weights of its model come from.
        duration: how long it will take; None where that cannot be told, and `untold` says why. Both are empty where its
            rows cannot be counted.
    """

    plan: Plan
    name: str
    path: Path
    oom_retry: str
    max_attempts: int
    rows: Measured | None = None
    chosen: str = ""
    schedule: Schedule | None = None
    source: ModelSource | None = None
    duration: Duration | None = None
    untold: str = ""

    def begun(self) -> RunState:
        """Its state as it begins, here and now: it is not running until its first attempt is."""
        plan, retry, most = self.plan, self.oom_retry, self.max_attempts
        said = self.duration.said if self.duration else {}
        return RunState(self.name, "interrupted", plan, retry, most, created=now(), cwd=str(Path.cwd()), said=said)


@dataclass(frozen=True)
class Attempt:
    """One start of ms-swift.

    Attributes:
        number: from 1.
        outcome: ``done``, ``interrupted``, ``lost`` where tunekit itself was killed, or a failure's kind.
        resumed_from: the name of a checkpoint, None for a fresh start.
        last_step: the last optimizer step that was logged.
        evidence: the line of the log that shows the failure.
        next_step: what the retry that follows changes, empty where none follows.
        memory_gib: the most GPU memory that PyTorch reserved; None on a CPU.
    """

    number: int
    outcome: str
    micro_batch: int
    accumulation: int
    resumed_from: str | None
    last_step: int
    status: int
    evidence: str = ""
    next_step: str = ""
    seconds: float = 0.0
    memory_gib: float | None = None


@dataclass
class RunState:
    """What ``run.json`` holds.

    Attributes:
        status: ``running``, ``done``, ``failed`` or ``interrupted``.
        plan: as it is now, with the changes that retries made.
        attempts: ended ones, oldest first.
        cwd: the folder in which the run was started: relative paths in the plan begin there.
        fresh: whether the next attempt must start from the beginning, because what is learned changed.
        inputs: what was learned from, as `tunekit.runs.inputs` saw it when the run began; empty where it did not.
        launch: of a run that a scheduler starts, which one, its job, and the address of the first machine.
        said: how long it was to take, as `Duration.said` has it; empty where that was not told.
    """

    name: str
    status: str
    plan: Plan
    oom_retry: str
    max_attempts: int
    attempts: list[Attempt] = field(default_factory=list)
    fresh: bool = False
    created: str = ""
    cwd: str = ""
    inputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    launch: Mapping[str, str] = field(default_factory=dict)
    said: Mapping[str, float] = field(default_factory=dict)


class RunFolder:
    """Reads and writes the folder of one run. Writing needs the lock, as in ``with folder:``; reading does not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.output = path / "output"
        self._lock: IO[str] | None = None

    def attempt(self, number: int) -> Path:
        """Where an attempt, counted from 1, keeps its log and its outcome."""
        return self.path / "attempts" / str(number)

    def next_attempt(self) -> int:
        """The number of the coming attempt. Folders are counted, also that of one during which the machine died."""
        return max(self.attempts(), default=0) + 1

    def attempts(self) -> list[int]:
        """The numbers of the attempts that were begun."""
        return sorted(int(path.name) for path in self.path.glob("attempts/*") if path.name.isdecimal())

    @property
    def lock_fd(self) -> int:
        """The file descriptor of the lock. ms-swift inherits it: while any of its processes lives, the run is taken."""
        if self._lock is None:
            raise RuntimeError("the run is not locked")
        return self._lock.fileno()

    def acquire(self) -> None:
        """Become the only writer. Raises TunekitError where a process, perhaps an orphan of an attempt, works on it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.fdopen(open_own(self.path / ".lock", os.O_RDWR), "r+", encoding="utf-8", errors="replace")
        except OSError as error:
            raise unwritable(self.path, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(lock)
            lock.close()
            raise TunekitError(
                f"{self.path} is in use by a running process ({holder})",
                "wait for it, stop it, or take another --name",
            ) from None
        except OSError as error:  # a file system without locks
            lock.close()
            raise unwritable(self.path, error) from error
        try:
            lock.truncate(0)
            lock.write(f"{os.getpid()} {os.uname().nodename}\n".ljust(RESERVE))
            lock.flush()
        except OSError as error:
            with contextlib.suppress(OSError):
                lock.close()
            raise unwritable(self.path, error) from error
        self._lock = lock

    def release(self) -> None:
        """Let others write."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> RunFolder:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def gone(self) -> bool:
        """Whether the folder was deleted, or another one put in its place, since its lock was taken."""
        try:
            return not os.path.samestat(os.fstat(self.lock_fd), (self.path / ".lock").stat())
        except OSError:
            return True

    def save(self, state: RunState) -> None:
        """Write ``run.json`` atomically. On a full disk it takes the place that the lock reserved."""
        plain = ("name", "status", "created", "cwd", "oom_retry", "max_attempts", "fresh", "inputs", "launch", "said")
        document = {
            "schema": SCHEMA,
            "tunekit": tunekit.__version__,
            **{name: getattr(state, name) for name in plain},
            "attempts": [asdict(attempt) for attempt in state.attempts],
            "plan": state.plan.to_json(),
        }
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        try:
            write_atomically(self.path / "run.json", text)
        except OSError as error:
            if error.errno not in FULL or self._lock is None:
                raise
            os.ftruncate(self.lock_fd, LOCK_KEPT)
            write_atomically(self.path / "run.json", text)

    def load(self) -> RunState:
        """Read ``run.json``. Raises TunekitError where there is none, or another version of tunekit wrote it."""
        path = self.path / "run.json"
        try:
            if path.exists() and (not path.is_file() or path.stat().st_size > LARGEST):
                raise TunekitError(f"{path} is not a file that tunekit wrote", self._other_way())
            document = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            message = f"{self.path} is not a run: there is no run.json"
            raise TunekitError(message, "tunekit keeps runs in ./runs") from None
        except (OSError, ValueError, RecursionError) as error:
            raise TunekitError(f"{path}: cannot be read: {error}", self._other_way()) from error
        with contextlib.suppress(*DAMAGED):
            state = _state(migrate(document))
            problem = unsafe(state.name, state.plan)
            if not problem:
                return state
            raise TunekitError(f"{path}: {problem}", "it was changed, or made by something else; start the run anew")
        message = f"{path}: not written by this version of tunekit"
        raise TunekitError(message, self._other_way() or "start the run anew, or install the version that wrote it")

    def _other_way(self) -> str | None:
        """What is left of a run whose ``run.json`` is damaged."""
        script, checkpoint = self.path / "command.sh", self.output / "last-checkpoint"
        if not script.is_file():
            return None
        onward = f" --resume_from_checkpoint {checkpoint}" if checkpoint.exists() else ""
        return f"{script} beside it holds the command of the run: bash {script}{onward and f', with{onward} added'}"


def _state(document: dict[str, Any]) -> RunState:
    kept = {item.name: document[item.name] for item in fields(RunState) if item.name not in LATER}
    plan, attempts = Plan.from_json(kept["plan"]), [Attempt(**attempt) for attempt in kept["attempts"]]
    inputs = {str(name): {**known} for name, known in document.get("inputs", {}).items()}
    launch = {str(name): str(value) for name, value in document.get("launch", {}).items()}
    later: dict[str, Any] = {"inputs": inputs, "launch": launch, "said": _numbers(document.get("said"))}
    state = RunState(**{**kept, "plan": plan, "attempts": attempts, **later})
    if not all(isinstance(getattr(state, name), kind) for name, kind in PLAIN.items()):
        raise TypeError(state.name)
    return state


def _numbers(value: Any) -> dict[str, float]:
    found = value if isinstance(value, dict) else {}
    return {str(name): float(number) for name, number in found.items() if isinstance(number, (int, float))}


def unwritable(path: Path, error: OSError) -> TunekitError:
    """What an error of the disk means for the folder of a run, in a line and a hint."""
    if error.errno in FULL:
        hint = f"free some space, then go on: tunekit resume {path}" if (path / "run.json").is_file() else "free some"
        return TunekitError(f"the disk is full: {path} cannot be written ({error.strerror})", hint)
    return TunekitError(f"{path} cannot be written: {error.strerror}", "take another --output-dir")


def _holder(lock: IO[str]) -> str:
    """Which living process holds a lock: tunekit, or what is left of its training. As far as /proc says it."""
    lock.seek(0)
    pid, _, host = lock.readline().strip().partition(" ")
    holders = holders_of(os.fstat(lock.fileno()))
    found = next((process for process in holders if process.name == pid), holders[0] if holders else None)
    if found is None:
        there = f" on {host}" if host and host != os.uname().nodename else ""
        return f"started by tunekit with pid {pid or 'unknown'}{there}"
    with contextlib.suppress(OSError):
        words = (found / "cmdline").read_bytes().decode(errors="replace").split("\0")
        shown = "".join(letter if letter.isprintable() else "?" for letter in " ".join(words[:4]).strip())
        left = "" if found.name == pid else ", left by tunekit"
        return f"pid {found.name}: {shown[:80]}{left}"
    return f"pid {found.name}"


def holders_of(file: os.stat_result) -> list[Path]:
    """The folders in /proc of the processes that have a file open; of this one, where it has it open twice."""
    return [process for process in Path("/proc").glob("[0-9]*") if _has_open(process, file)]


def _has_open(process: Path, file: os.stat_result) -> bool:
    if process.name == str(os.getpid()):
        mine = [descriptor for descriptor in (process / "fd").glob("*") if _same(descriptor, file)]
        return len(mine) > 1  # one was opened to ask
    try:
        return any(_same(descriptor, file) for descriptor in (process / "fd").iterdir())
    except OSError:  # another user's, or ended meanwhile
        return False


def _same(descriptor: Path, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(descriptor.stat(), file)
    except OSError:
        return False


def now() -> str:
    """The time, for people and for sorting: ``2026-11-21T09:30:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
