"""Measure the peak memory of real fine-tuning runs on this machine's GPU, and how far tunekit's predictions are.

    ./scripts/measure-memory [--minutes 8] [--list] [--only WORD] [--trace] [--device cpu]

Every row is a real ``swift sft`` in a process of its own, on weights without content: no hub is asked. Rows come in
order of value; those that stand in the file already are left out, so that a call goes on where the last one ended. What
fails is written to FILE.failed.jsonl with its reason. One run of ``tunekit sft`` is held to what a card of 24 GB gives
and has to recover from a real out-of-memory, whose text is kept beside the file.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import re
import sys
import tempfile
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from measure import oom, table  # noqa: E402
from measure.rows import ROWS, TINY_ROWS  # noqa: E402
from measure.running import environment, measure  # noqa: E402
from measure.warm import WarmEngines  # noqa: E402

from tunekit.engine.locate import find_engine  # noqa: E402
from tunekit.hardware import Gpu, detect  # noqa: E402

if TYPE_CHECKING:
    from measure.rows import Row
    from measure.running import Outcome, Runner

LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "trl",
    "bitsandbytes",
    "liger-kernel",
    "flash-attn",
    "flash-attn-4",
    "ms-swift",
)
NOTHING_TO_MEASURE = 3
FIRST = 4
"""Rows before the out-of-memory."""
START_UP, A_BILLION = 8.0, 1.0
"""Seconds that a row is expected to take: its data and its model, and more for each billion of weights."""
AHEAD = max(1, min(4, (os.cpu_count() or 1) // 3))
"""Processes that have ms-swift imported before their turn comes."""
ONE_OOM = 100.0
"""... and an out-of-memory with all its attempts, each of which imports ms-swift."""


class Clock:
    """What is left of the time, and what rows take of it."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes if minutes else None
        self._slowness = 1.0

    @property
    def left(self) -> float | None:
        """Seconds; None without a limit."""
        return None if self._end is None else self._end - time.monotonic()

    def enough_for(self, guess: float) -> bool:
        """Whether something that is thought to take `guess` seconds can be done."""
        return self.left is None or self.left > guess * self._slowness

    def learn(self, guess: float, took: float) -> None:
        """Expect as much of the others as the slowest so far."""
        self._slowness = max(self._slowness, took / guess)


def guess(row: Row) -> float:
    """Seconds that a row may take."""
    weights = row.estimate.breakdown["weights"] / 2 if row.estimate else 8.0
    return START_UP + A_BILLION * weights


def versions() -> str:
    """What is installed, as ``torch 2.13.0, ms-swift 4.6.0``."""
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def slug(name: str) -> str:
    """A card's name for a file: ``h100-80gb-hbm3``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower().removeprefix("nvidia")).strip("-")


def skipped(row: Row, card: Gpu | None) -> str:
    """Why a row is not run here; empty where it is."""
    if row.needs:
        return f"{' and '.join(row.needs)} not installed"
    told = row.estimate
    if card and told and told.allocated_gib > 1.1 * card.total_gib:
        return f"about {told.allocated_gib:.0f} GiB, the card has {card.total_gib:.0f}"
    return ""


def show(rows: list[Row], done: set[str], card: Gpu | None) -> None:
    """Print the rows, what tunekit expects of them, and whether they will be run."""
    wide = max((len(row.id) for row in rows), default=0)
    print(f"{'row':{wide}}  estimate, GiB")
    for row in rows:
        told = row.estimate
        state = "measured" if row.id in done else skipped(row, card)
        print(f"{row.id:{wide}}  {told.allocated_gib if told else float('nan'):13.2f}  {state}".rstrip())
    for case in oom.CASES:
        print(f"{case.name}: tunekit sft with PyTorch held to {case.cap_gib:g} GiB")


def line(outcome: Outcome, row: Row) -> str:
    """What came out of a row, for the person who waits."""
    if outcome.record is None:
        return f"no numbers: {outcome.reason} ({outcome.seconds:.0f} s)"
    if outcome.gib("allocated") is None:
        return f"trained; a CPU gives no numbers ({outcome.seconds:.0f} s)"
    known = {name: outcome.gib(name) for name in ("allocated", "reserved")} | {"process": outcome.process_gib}
    told = ", ".join(f"{name} {'-' if gib is None else f'{gib:.2f}'}" for name, gib in known.items())
    expected = f"; estimate {row.estimate.allocated_gib:.2f}" if row.estimate else ""
    return f"{told} GiB{expected} ({outcome.seconds:.0f} s)"


class Session:
    """One call of this program: the rows, the file, the time.

    Args:
        start: what runs ms-swift.
        alone: whether nothing else uses the card meanwhile.
    """

    def __init__(
        self,
        output: Path,
        work: Path,
        start: Runner,
        card: Gpu | None,
        clock: Clock,
        *,
        expandable: bool = True,
        alone: bool = True,
    ) -> None:
        self.output, self.work, self.start, self.card = output, work, start, card
        self.clock, self.expandable, self.alone = clock, expandable, alone
        self.failed = output.with_suffix(".failed.jsonl")
        self.date = dt.datetime.now(tz=dt.timezone.utc).date().isoformat()
        self.versions = versions()
        self.failures = 0

    def run(self, rows: list[Row], cases: list[oom.Case]) -> None:
        """Measure what is not in the file yet, as far as the time goes."""
        done = {item["id"] for item in table.read(self.output)} | failed_before(self.failed)
        for row in rows[:FIRST]:
            self.consider(row, done)
        for case in cases:
            self.out_of_memory(case, done)
        for row in rows[FIRST:]:
            self.consider(row, done)

    def consider(self, row: Row, done: set[str]) -> None:
        """Measure a row, or say why not."""
        why = "done before" if row.id in done else skipped(row, self.card)
        if not why and not self.clock.enough_for(guess(row)):
            why = "no time left"
        if why:
            print(f"{row.id}: {why}", flush=True)
        else:
            self.row(row)

    def row(self, row: Row) -> None:
        """Measure one row and write it down."""
        print(row.id, end=" … ", flush=True)
        outcome = measure(row, self.work, self.start, self.card, self.clock.left)
        print(line(outcome, row), flush=True)
        if outcome.out_of_time:  # says nothing about the row: the next call measures it
            return
        if outcome.record is not None:
            self.clock.learn(guess(row), outcome.seconds)
            name = self.card.name if self.card else "CPU"
            seen = replace(outcome, alone=self.alone)
            table.add(self.output, table.record(row, seen, name, self.versions, self.date))
        else:
            self.failure(row.id, outcome.reason, outcome.log)

    def out_of_memory(self, case: oom.Case, done: set[str]) -> None:
        """Take a real out-of-memory, unless its text is there."""
        kept = self.output.with_name(f"{self.output.stem}-{case.name}.txt")
        if kept.is_file() or case.name in done:
            print(f"{case.name}: done before", flush=True)
            return
        if not self.clock.enough_for(ONE_OOM):
            print(f"{case.name}: no time left", flush=True)
            return
        print(f"{case.name}: tunekit sft, PyTorch held to {case.cap_gib:g} GiB …", end=" ", flush=True)
        told = oom.take(case, self.work, self.card, self.clock.left, expandable=self.expandable)
        outcomes = " → ".join(attempt["outcome"] for attempt in told.attempts)
        why = f": {told.reason}" if told.reason else ""
        print(f"{outcomes or 'no attempt'}{why} ({told.seconds:.0f} s)", flush=True)
        if told.reason == oom.CUT:  # the next call begins it anew
            return
        if told.text.strip():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(told.text, encoding="utf-8")
        if told.reason and self.card:
            self.failure(case.name, told.reason, told.text)

    def failure(self, name: str, reason: str, log: str) -> None:
        """Write down why there are no numbers."""
        self.failures += 1
        self.failed.parent.mkdir(parents=True, exist_ok=True)
        told = {"id": name, "reason": reason, "date": self.date, "log": oom.without_folders(log[-4000:])}
        with self.failed.open("a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")


def failed_before(path: Path) -> set[str]:
    """The rows that failed in an earlier call: to try one again, delete its line."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {json.loads(text)["id"] for text in lines}


def main(argv: list[str] | None = None) -> int:
    """Run from the command line and return the exit status."""
    asked = arguments().parse_args(argv)
    card = next(iter(detect()), None) if asked.device == "cuda" else None
    rows = [row for row in (ROWS if asked.device == "cuda" else TINY_ROWS) if asked.only in row.id]
    if asked.fixed_segments:
        rows = list(dict.fromkeys(replace(row, expandable=False) for row in rows))
    work = Path(asked.work or Path(tempfile.gettempdir()) / f"tunekit-measure-{os.getuid()}").resolve()
    day = dt.datetime.now(tz=dt.timezone.utc).date().isoformat()
    named = ROOT / "benchmarks" / f"gpu-{slug(card.name)}-{day}.csv" if card else work / f"cpu-{day}.csv"
    output = Path(asked.output).resolve() if asked.output else named
    if asked.list:
        show(rows, {item["id"] for item in table.read(output)}, card)
        return 0
    if asked.device == "cuda" and card is None:
        print("error: no GPU: nothing can be measured", file=sys.stderr)
        print("hint:  --device cpu runs the same path with a tiny model, without numbers", file=sys.stderr)
        return NOTHING_TO_MEASURE
    if find_engine() is None:
        print("error: ms-swift is not installed in this Python", file=sys.stderr)
        print('hint:  pip install "tunekit[train,qlora,liger]"', file=sys.stderr)
        return 2
    print(f"{card.name if card else 'CPU'}: {len(rows)} rows to {output}", flush=True)
    cases = [case for case in oom.CASES if asked.only in case.name]
    work.mkdir(parents=True, exist_ok=True)
    engines = WarmEngines(environment(work, card), AHEAD, len(rows))
    clock, expandable = Clock(asked.minutes), not asked.fixed_segments
    try:
        session = Session(output, work, engines.run, card, clock, expandable=expandable, alone=not asked.beside)
        session.run(rows, cases)
    finally:
        engines.close()
    lines = [item for item in table.read(output) if item["allocated_gib"]]
    for method in ("estimate", "trace") if asked.trace else ("estimate",):
        if lines and card:
            print("", *table.errors(lines, method, card.capability), sep="\n", flush=True)
    return 1 if session.failures else 0


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(prog="measure-memory", description="Measure the GPU memory of real runs.")
    parser.add_argument("--minutes", type=float, default=8, help="time for the rows; 0 for no limit (default: 8)")
    parser.add_argument("--list", action="store_true", help="print the rows and run nothing")
    parser.add_argument("--only", default="", metavar="WORD", help="only rows with this in their name")
    parser.add_argument("--trace", action="store_true", help="compare with the trace too, which takes longer")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: the same path, no numbers")
    parser.add_argument(
        "--fixed-segments", action="store_true", help="without expandable segments, where the driver has none"
    )
    parser.add_argument("--beside", action="store_true", help="something else uses the card: no speed is written down")
    parser.add_argument("--output", metavar="FILE", help="default: benchmarks/gpu-CARD-DATE.csv")
    parser.add_argument("--work", metavar="DIR", help="where models, data and logs go; may be deleted afterwards")
    return parser


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        print("\nstopped; what was measured is kept", file=sys.stderr)
        raise SystemExit(130) from None
