"""How a run shows itself while it goes on, and what is to be said when it has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tunekit.engine.kinds import Kind
from tunekit.errors import Exit

if TYPE_CHECKING:
    import signal

    from tunekit.engine.failures import Failure
    from tunekit.engine.logs import Progress, Rows
    from tunekit.engine.phases import Phases
    from tunekit.plan.plan import Plan
    from tunekit.runs.folder import RunState
    from tunekit.runs.outcome import Verdict


class Screen(Protocol):
    """Where a run shows itself; `tunekit.cli.show.screen` has those for a terminal and for a log file."""

    def attempt(self, number: int, most: int, plan: Plan, resumed: str | None) -> None:
        """An attempt starts."""

    def progress(self, progress: Progress, phases: Phases) -> None:
        """It goes on; called a few times a second."""

    def pause(self) -> None:
        """It ended; whatever is drawn stays as it is."""

    def say(self, lines: list[str]) -> None:
        """Say something that stays."""


@dataclass(frozen=True)
class Report:
    """How a run ended: ``done``, ``failed`` (and why) or ``interrupted``; `progress` is over all attempts.

    Attributes:
        rows: what ms-swift said of the rows.
        verdict: what was learned; None where the run did not come to its end.
        left: a neutral change that was not tried, because it had started often enough or was not to retry.
        stopped_by: the signal that asked to stop it; None where none did.
        slow: what seemed to slow it down, where it was slower than said.
    """

    status: str
    state: RunState
    failure: Failure | None
    progress: Progress
    rows: Rows
    verdict: Verdict | None
    left: str = ""
    stopped_by: signal.Signals | None = None
    slow: tuple[str, ...] = ()

    @property
    def exit_code(self) -> Exit:
        """What the command ends with."""
        if self.failure and self.failure.kind is Kind.DATA:
            return Exit.DATA
        if self.verdict and self.verdict.failed:
            return Exit.TRAINING_FAILED
        return {"done": Exit.DONE, "interrupted": Exit.INTERRUPTED}.get(self.status, Exit.TRAINING_FAILED)

    @property
    def seconds(self) -> float:
        """Spent in all attempts together."""
        return sum(attempt.seconds for attempt in self.state.attempts)
