"""Which living processes work on a run: whoever has its lock file open, as far as /proc says it."""

from __future__ import annotations

import fcntl
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.runs.folder import holders_of

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Living:
    """Who works on a run.

    Attributes:
        supervisor: the process id of the tunekit that runs it, 0 where it is gone or on another machine.
        others: processes of its training that hold the run.
        host: the machine that the lock names.
    """

    supervisor: int
    others: tuple[int, ...] = ()
    host: str = ""


def living(folder: Path) -> Living | None:
    """Who works on the run in a folder; None where nobody does.

    A run whose holders cannot be seen, on another machine that shares the disk, is found by its lock.
    """
    path = folder / ".lock"
    try:
        with path.open(encoding="utf-8", errors="replace") as lock:
            pid, _, host = lock.readline(256).strip().partition(" ")
            holders = [int(process.name) for process in holders_of(os.fstat(lock.fileno()))]
            if not holders:
                return Living(0, (), host) if _taken(lock.fileno()) else None
    except OSError:
        return None
    number = int(pid) if pid.isdecimal() and int(pid) in holders else 0
    return Living(number, tuple(holder for holder in holders if holder != number), host)


def _taken(descriptor: int) -> bool:
    """Whether somebody has the lock. To ask for a share of it takes it for a moment, from nobody."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def ask_to_stop(folder: Path) -> Living:
    """Send the signal of a polite stop to the tunekit that runs a folder, and to nothing else; who it was.

    Raises TunekitError where none does. The process is held while it is looked at, so another one that got its number
    meanwhile is never meant.
    """
    found = living(folder)
    if found is None:
        raise TunekitError(f"{folder} is not running", f"tunekit resume {folder} goes on with it")
    if not found.supervisor:
        if not found.others:
            raise TunekitError(f"{folder} is run on {found.host or 'another machine'}", "stop it there")
        left = ", ".join(map(str, found.others))
        raise TunekitError(f"the tunekit that ran {folder} is gone; of its training is left: {left}", f"kill {left}")
    try:
        held = os.pidfd_open(found.supervisor)
    except OSError as error:
        raise TunekitError(f"{folder} has just ended") from error
    try:
        still = living(folder)
        if still is None or still.supervisor != found.supervisor:
            raise TunekitError(f"{folder} has just ended")
        signal.pidfd_send_signal(held, signal.SIGTERM)
    except OSError as error:
        raise TunekitError(f"{folder} cannot be stopped: {error.strerror}", "it belongs to another user") from error
    finally:
        os.close(held)
    return found
