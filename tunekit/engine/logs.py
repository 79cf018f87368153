"""Read ``logging.jsonl``, in which ms-swift writes one JSON object each time it logs, and what it says of the rows."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tunekit.errors import counted
from tunekit.stages import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


@dataclass
class Progress:
    """Where a run stands: its optimizer steps (0 before the first log line), and what the last lines said.

    Attributes:
        memory_gib: the most GPU memory that PyTorch reserved; None on a CPU.
        predicted_gib: what was predicted of that before the start; None where it could not be.
        losses: of every logged step; a step that was repeated after a retry counts once, as it came out last.
        grad_norms: likewise, before they are clipped. A loss that is not a number is logged as one all the same
            (transformers' ``logging_nan_inf_filter``): the gradient's norm is not.
        epochs: how far each step was, in epochs.
        metrics: of every step that logged them, by ms-swift's names: those of `METRICS`, and ``eval_loss``.
        train_loss: the mean over the run, which ms-swift logs at its end.
    """

    step: int = 0
    total: int = 0
    loss: float | None = None
    learning_rate: float | None = None
    eval_loss: float | None = None
    seconds_per_step: float | None = None
    memory_gib: float | None = None
    predicted_gib: float | None = None
    train_loss: float | None = None
    losses: dict[int, float] = field(default_factory=dict)
    grad_norms: dict[int, float] = field(default_factory=dict)
    epochs: dict[int, float] = field(default_factory=dict)
    metrics: dict[str, dict[int, float]] = field(default_factory=dict)

    def take(self, entry: dict[str, Any]) -> None:
        """Add one line of ``logging.jsonl``."""
        place = re.fullmatch(r"(\d{1,15})/(\d{1,15})", str(entry.get("global_step/max_steps", "")))
        if place:
            self.step, self.total = int(place[1]), int(place[2])
        for attribute, key in FIELDS.items():
            number = _number(entry.get(key))
            if number is not None:
                setattr(self, attribute, number)
        if not place:
            return
        for key in KEPT & entry.keys():
            number = _number(entry[key])
            if number is not None:
                self._kept(key)[self.step] = number

    def series(self, key: str) -> dict[int, float]:
        """A number of every step that logged it, by ms-swift's name for it."""
        return self._kept(key) if key in SERIES else self.metrics.get(key, {})

    def _kept(self, key: str) -> dict[int, float]:
        found: dict[int, float] = getattr(self, SERIES[key]) if key in SERIES else self.metrics.setdefault(key, {})
        return found

    def whole_steps(self, key: str) -> list[int]:
        """The steps that logged a number, without those that saw fewer rows, as the last one of an epoch does.

        Their loss is no smaller, only their sum: it is divided by the accumulation of a whole step
        (transformers' trainer.py, training_step).
        """
        steps = sorted(self.series(key))
        places = [(step, self.epochs[step]) for step in steps if step in self.epochs]
        if len(places) < len(steps):
            return steps
        pairs = zip([(0, 0.0), *places], places, strict=False)
        share = {step: (epoch - before) / (step - last) for (last, before), (step, epoch) in pairs if step > last}
        whole = WHOLE * max(share.values(), default=0.0)
        return [step for step in steps if share.get(step, whole) >= whole]


FIELDS = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "eval_loss": "eval_loss",
    "seconds_per_step": "train_speed(s/it)",
    "memory_gib": "memory(GiB)",
    "train_loss": "train_loss",
}
"""Attributes of `Progress` and ms-swift's names for them."""

SERIES = {"loss": "losses", "grad_norm": "grad_norms", "epoch": "epochs"}
"""ms-swift's names and the attributes of `Progress` that hold them of every step."""

KEPT = frozenset({*METRICS, *SERIES, "eval_loss"})

WHOLE = 0.9
"""Share of the rows of a usual step that a step must have seen to be compared with one."""


class LogTail:
    """Follows a ``logging.jsonl`` that another process writes; it need not exist yet.

    The first `skip` bytes belong to earlier attempts.
    """

    def __init__(self, path: Path, skip: int = 0) -> None:
        self._path, self._offset = path, skip

    def new(self) -> Iterator[dict[str, Any]]:
        """The objects written since the last call; a line that is not complete yet waits for the next one."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        complete, newline, _ = data.rpartition(b"\n")
        self._offset += len(complete) + len(newline)
        for line in complete.splitlines():
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):  # half a line, left by an attempt that was killed while it wrote
                continue
            if isinstance(entry, dict):
                yield entry


def read_progress(path: Path) -> Progress:
    """The state of a finished or interrupted run."""
    progress = Progress()
    for entry in LogTail(path).new():
        progress.take(entry)
    return progress


def read_summary(path: Path) -> dict[str, Any]:
    """The last line that ms-swift writes: ``last_model_checkpoint``, ``best_model_checkpoint``, …; empty without one.

    It is written after a failure too, so it says nothing about success.
    """
    found: dict[str, Any] = {}
    for entry in LogTail(path).new():
        if "last_model_checkpoint" in entry:
            found = entry
    return found


NO_REASON = "too long for max_length, or in no form that ms-swift knows (it does not say which)"


@dataclass(frozen=True)
class Dropped:
    """Rows that ms-swift left out: so many it read, so many it kept, and why, where it said so."""

    origin: int
    kept: int
    reason: str = ""

    def line(self) -> str:
        """Of how many rows how many were not used, and why: for people."""
        lost = self.origin - self.kept
        rows = f"{lost:,} of {counted(self.origin, 'row')} {'was' if lost == 1 else 'were'} not used"
        return f"{rows}: {self.reason or NO_REASON}"


@dataclass(frozen=True)
class Rows:
    """What ms-swift's output tells of the rows.

    Attributes:
        dropped: what was left out before the training, in order.
        replaced: why rows were replaced by others, chosen at random, while it trained; empty where none was.
        unlearned: no token of the row that it prints has loss.
    """

    dropped: tuple[Dropped, ...] = ()
    replaced: str = ""
    unlearned: bool = False

    def lines(self) -> list[str]:
        """For people."""
        more = [f"rows that could not be encoded were replaced by others, chosen at random: {self.replaced}"]
        return [*(dropped.line() for dropped in self.dropped), *(more if self.replaced else [])]


FILTERED = re.compile(
    r"\[INFO:swift\] Dataset filtered, origin length: (\d{1,15}), filtered dataset length: (\d{1,15})\s*$"
)
"""ms-swift's dataset/preprocessor/core.py, at the end of ``__call__``. The error of a row stands above, in a traceback
that ends with the next line; of rows that are too long nothing is said."""
DELETED = "There are errors in the dataset, the data will be deleted"
REPLACED = "There are errors in the template.encode, and another piece of data will be randomly selected"
"""The same file, and dataset/utils.py."""
UNLEARNED = re.compile(r"\[INFO:swift\] \[LABELS\] \[-100 \* \d+\]\s*")
"""The labels of the row that ms-swift prints, where each is masked (template/base.py, print_inputs)."""

LONGEST_PIECE, MOST_PIECES = 1 << 16, 1 << 22
"""Characters of a line that are read at once, and pieces of a log that are read at the most."""
LONGEST = 160
"""Characters of a reason."""


def read_lost_rows(logs: Iterable[Path]) -> Rows:
    """What the logs of a run's attempts, oldest first, tell of the rows.

    The last one that says something counts. It may take the rows from a cache and give no reason: an earlier one did.
    """
    rows, reasons = Rows(), dict[tuple[int, int], str]()
    for path in logs:
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                pieces = iter(lambda: file.readline(LONGEST_PIECE), "")
                found = rows_in(itertools.islice(pieces, MOST_PIECES))
        except OSError:
            continue
        rows = found if found != Rows() else rows
        reasons |= {(each.origin, each.kept): each.reason for each in found.dropped if each.reason}
    told = (replace(each, reason=each.reason or reasons.get((each.origin, each.kept), "")) for each in rows.dropped)
    return replace(rows, dropped=tuple(told))


def rows_in(lines: Iterable[str]) -> Rows:
    """What lines of ms-swift's output tell of the rows."""
    dropped, reason, replaced, error, unlearned = [], "", "", "", False
    for line in lines:
        if found := FILTERED.search(line):
            dropped.append(Dropped(int(found[1]), int(found[2]), reason))
            reason = ""
        elif DELETED in line:
            reason = reason or error
        elif REPLACED in line:
            replaced = replaced or error
        elif ERROR_LINE.match(line):
            error = printable(line.strip(), LONGEST)
        elif UNLEARNED.fullmatch(line):
            unlearned = True
    return Rows(tuple(dropped), replaced, unlearned)


ERROR_LINE = re.compile(r"^(?:\[rank\d+\]: )?(?:[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Iteration|Exit)\b.*)$")
"""The last line of a Python traceback."""


def printable(text: str, most: int) -> str:
    """A text of a log or a row as it can be shown in a terminal, and not too long."""
    clean = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return clean if len(clean) <= most else f"{clean[: most - 1]}…"


def _number(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
