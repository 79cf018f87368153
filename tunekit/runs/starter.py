"""How an attempt is started, stopped and read: by ms-swift's own launcher on this machine, or by a scheduler's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tunekit.engine.command import child_environment
from tunekit.engine.failures import failure_in

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from tunekit.engine.command import Command
    from tunekit.engine.failures import Failure
    from tunekit.plan.plan import Plan
    from tunekit.runs.folder import RunState
    from tunekit.runs.supervisor import Ended, Rung


@dataclass(frozen=True)
class Started:
    """What `supervise` is given to start an attempt.

    Attributes:
        log: where the output of the program itself goes.
        ladder: the ways to stop it after a signal; None where signals reach all of it.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    log: Path
    ladder: Callable[[signal.Signals], Iterable[Rung]] | None = None


class Starter(Protocol):
    """Starts the attempts of a run."""

    @property
    def together(self) -> bool:
        """Whether it starts and stops all machines of the run, so that a retry is the same on all of them."""

    @property
    def moves(self) -> bool:
        """Whether the next attempt meets at another port."""

    def check(self, state: RunState) -> None:
        """Raise TunekitError where the run cannot go on with what there is."""

    def starts_before(self, state: RunState) -> int:
        """How many of the starts that a run may have were used up before this process."""

    def start(self, command: Command, place: Path, number: int) -> Started:
        """What starts a command as attempt `number`; its log is ``train.log`` in the folder `place`."""

    def failure(self, place: Path, ended: Ended) -> Failure:
        """Why an attempt broke."""

    def stopped_by_others(self, plan: Plan) -> bool:
        """Whether a trainer may have been asked to stop and save without this process being told."""


class Here:
    """This machine: ms-swift's launcher is a child of tunekit."""

    together, moves = False, False

    def check(self, state: RunState) -> None:
        """Whatever is here is what the run goes on with."""

    def starts_before(self, state: RunState) -> int:  # noqa: ARG002 - each call of tunekit has all of them
        """None."""
        return 0

    def start(self, command: Command, place: Path, number: int) -> Started:  # noqa: ARG002 - ms-swift picks a port
        """The command as it is."""
        return Started(command.argv, child_environment(command, os.environ), place / "train.log")

    def failure(self, place: Path, ended: Ended) -> Failure:
        """As its log says."""
        return failure_in(place / "train.log", ended.status, ended.oom_kills, ended.unwritten)

    def stopped_by_others(self, plan: Plan) -> bool:  # noqa: ARG002 - whoever asks tunekit's trainers asks tunekit
        """No."""
        return False


HERE = Here()
