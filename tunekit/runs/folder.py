"""The folder of a run, enough to go on after the machine died.

runs/<name>/  run.json  command.sh  attempts/1/{train.log, command.sh, outcome.json}  output/{checkpoint-*, …}
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import tunekit
from tunekit.errors import TunekitError
from tunekit.files import path_of, write_atomically
from tunekit.plan.plan import Plan
from tunekit.runs.migrations import SCHEMA, migrate

if TYPE_CHECKING:
    from tunekit.plan.measured import Measured

RUNS = Path("runs")
"""Where runs are kept, below the current folder."""

RESULT, MERGED = "result", "merged"
"""In the folder of a recipe's stage: the link to the checkpoint that counts, and the model that its adapter was merged
into."""

LONGEST_NAME = 200
"""Characters; file systems take 255 bytes."""


@dataclass(frozen=True)
class Run:
    """A run that is planned and has not begun.

    Attributes:
        oom_retry: the policy after an out-of-memory.
        max_attempts: starts at the most.
        rows: what is known of the rows of its dataset; None where they were not looked at.
    """

    plan: Plan
    name: str
    path: Path
    oom_retry: str
    max_attempts: int
    rows: Measured | None = None

    def begun(self) -> RunState:
        """Its state as it begins, here and now."""
        plan, retry, most = self.plan, self.oom_retry, self.max_attempts
        return RunState(self.name, "running", plan, retry, most, created=now(), cwd=str(Path.cwd()))


@dataclass(frozen=True)
class Attempt:
    """One start of ms-swift.

    Attributes:
        number: from 1.
        outcome: ``done``, ``interrupted`` or a failure's kind.
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
        taken = [int(path.name) for path in self.path.glob("attempts/*") if path.name.isdigit()]
        return max(taken, default=0) + 1

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
            lock = (self.path / ".lock").open("a+", encoding="utf-8")
        except OSError as error:
            message = f"{self.path} cannot be written: {error.strerror}"
            raise TunekitError(message, "take another --output-dir") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise TunekitError(
                f"{self.path} is in use by a running process (started by tunekit with pid {holder})",
                "wait for it, stop it, or take another --name",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
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

    def save(self, state: RunState) -> None:
        """Write ``run.json`` atomically."""
        plain = ("name", "status", "created", "cwd", "oom_retry", "max_attempts", "fresh")
        document = {
            "schema": SCHEMA,
            "tunekit": tunekit.__version__,
            **{name: getattr(state, name) for name in plain},
            "attempts": [asdict(attempt) for attempt in state.attempts],
            "plan": state.plan.to_json(),
        }
        write_atomically(self.path / "run.json", json.dumps(document, indent=1, ensure_ascii=False) + "\n")

    def load(self) -> RunState:
        """Read ``run.json``. Raises TunekitError where there is none, or another version of tunekit wrote it."""
        path = self.path / "run.json"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            message = f"{self.path} is not a run: there is no run.json"
            raise TunekitError(message, "tunekit keeps runs in ./runs") from None
        except (OSError, ValueError) as error:
            raise TunekitError(f"{path}: cannot be read: {error}") from error
        with contextlib.suppress(KeyError, TypeError, AttributeError, IndexError, ValueError):
            return _state(migrate(document))
        message = f"{path}: not written by this version of tunekit"
        raise TunekitError(message, "start the run anew, or install the version that wrote it")


def _state(document: dict[str, Any]) -> RunState:
    kept = {item.name: document[item.name] for item in fields(RunState)}
    plan, attempts = Plan.from_json(kept["plan"]), [Attempt(**attempt) for attempt in kept["attempts"]]
    return RunState(**{**kept, "plan": plan, "attempts": attempts})


def new_place(name: str, output_dir: str, default: str) -> tuple[str, Path]:
    """Name and folder of a new run. Raises TunekitError where those that the user chose are taken."""
    if output_dir:
        path = path_of(output_dir)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise TunekitError(f"--output-dir {output_dir} exists and is not empty", _taken(path))
        return name or path.name, path
    if name:
        if "/" in name or name.startswith((".", "-")) or len(name) > LONGEST_NAME:
            raise TunekitError(f"--name {name} cannot be a folder's name", "use --output-dir for a path")
        path = RUNS / name
        if path.exists():
            raise TunekitError(f"the run {name} exists already in {path}", _taken(path))
        return name, path
    names = (f"{default}-{number}" if number > 1 else default for number in itertools.count(1))
    chosen = next(name for name in names if not (RUNS / name).exists())
    return chosen, RUNS / chosen


def _taken(path: Path) -> str:
    resumed = f"go on with it: tunekit resume {path}; or take another name"
    return resumed if (path / "run.json").is_file() else "take another one, or empty it"


def find_run(name: str) -> RunFolder:
    """The run of that name below ``runs/``, or in the folder of that path. Raises TunekitError where there is none."""
    for path in (RUNS / name, path_of(name)):
        if (path / "run.json").is_file():
            return RunFolder(path)
    recipe = next((path for path in (RUNS / name, Path(name)) if (path / "recipe.json").is_file()), None)
    if recipe:
        stages = sorted(path.parent.name for path in recipe.glob("*/run.json"))
        hint = f"name one of its stages, such as {recipe / stages[0]}, or go on with tunekit run" if stages else None
        raise TunekitError(f"{name} is a recipe's run, not a single one", hint)
    known = sorted(path.parent.name for path in RUNS.glob("*/run.json"))
    raise TunekitError(f"there is no run {name}", f"runs here: {', '.join(known)}" if known else "no run is in ./runs")


def now() -> str:
    """The time, for people and for sorting: ``2026-11-21T09:30:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
