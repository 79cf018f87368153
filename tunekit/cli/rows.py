"""What ``tunekit fit`` and a plan say about the rows of the dataset."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunekit.console import say
from tunekit.data.lengths import Unmeasured
from tunekit.plan import measured
from tunekit.plan.predict import loss_share_of

if TYPE_CHECKING:
    from tunekit.plan.measured import Measured
    from tunekit.plan.plan import Plan


@dataclass(frozen=True)
class Rows:
    """What is known of the rows.

    Attributes:
        found: measured; None where they were not.
        typed: the share of tokens with loss that was given by hand, 0 to 1.
        notes: for people, why they were not measured among them.
    """

    found: Measured | None = None
    typed: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def loss_share(self) -> float | None:
        """What the prediction counts with; None leaves it the assumption."""
        if self.typed is not None or self.found is None:
            return self.typed
        return self.found.heaviest_share or None

    @property
    def seq_len(self) -> int | None:
        """Tokens of a row that the prediction counts with; None leaves it what the plan allows."""
        return self.found.seq_len if self.found else None

    def share(self, plan: Plan) -> str:
        """How many of the tokens carry loss, and where that is known from."""
        if self.typed is not None:
            return f"{self.typed:.0%} of the tokens carry loss"
        if not self.loss_share or self.found is None:
            return f"{loss_share_of(plan):.0%} of the tokens carry loss (assumed; --loss-percent says otherwise)"
        mean, heavy = f"{self.found.loss_share:.0%}", f"{self.found.heaviest_share:.0%}"
        more = "" if mean == heavy else f", {heavy} of the heaviest micro-batch: that is counted"
        return f"{mean} of the tokens carry loss{more}"

    def document(self) -> dict[str, Any] | None:
        """For ``--json``; None where the rows were not measured. Lengths are in tokens."""
        if self.found is None:
            return None
        found, lengths = self.found, self.found.lengths
        return {
            "rows": lengths.total,
            "measured": len(lengths.rows),
            "loss_share": found.loss_share,
            "heaviest_share": found.heaviest_share,
            "longest": lengths.longest,
            "mean": lengths.mean,
            "median": lengths.median,
            "p95": lengths.p95,
            "over_max_length": found.over,
            "samples_per_row": found.samples_per_row,
            "unusable": lengths.unusable,
        }


def look(plan: Plan, loss_percent: int | None) -> Rows:
    """Check the dataset of a plan and measure it where that can be done here.

    Raises:
        TunekitError: exit code 4; the dataset cannot be trained on.
    """
    from tunekit.runs.preflight import check_data

    typed = None if loss_percent is None else loss_percent / 100
    if not plan.get("dataset"):
        return Rows(typed=typed)
    check_data(plan)
    try:
        if sys.stderr.isatty() and measured.known(plan) is None:
            say("tokenizing a sample of the dataset …")
        found = measured.measure(plan)
    except Unmeasured as error:
        return Rows(None, typed, [f"the dataset was not measured: {error.message}"])
    return Rows(found, typed, [*summary(found), *warnings(found)])


def summary(found: Measured) -> list[str]:
    """What was measured, in a line or two."""
    lengths = found.lengths
    names = lengths.names[0] if len(lengths.names) == 1 else f"{len(lengths.names)} files"
    some = len(lengths.rows) + lengths.unusable
    of = f"all {some:,}" if some >= lengths.total else f"{some:,} of {lengths.total:,}"
    long = f"longest {lengths.longest:,} tokens, half below {lengths.median:,.0f}, 95% below {lengths.p95:,}"
    packed = f"a packed row of {found.seq_len:,} tokens holds {found.samples_per_row:.1f} of them"
    return [f"from {of} rows of {names}: {long}", *([packed] if found.samples_per_row > 1 else [])]


def warnings(found: Measured) -> list[str]:
    """What training will not see."""
    lengths, lines = found.lengths, []
    some = len(lengths.rows) + lengths.unusable
    if found.max_length and lengths.longest > found.max_length:
        number = f"{found.over} of {some:,} rows are" if found.over else "a few rows are"
        what = "leaves them out" if found.dropped else "cuts them"
        lines.append(f"{number} longer than max_length {found.max_length:,}: ms-swift {what}")
    if lengths.unusable:
        why = f" ({lengths.problem})" if lengths.problem else ""
        lines.append(f"{lengths.unusable} of {some:,} rows are of no use to ms-swift, which leaves them out{why}")
    return lines
