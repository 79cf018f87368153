"""How a run shows itself: three living lines in a terminal, plain lines in a log file. All of it on stderr."""

from __future__ import annotations

import math
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING

from tunekit.console import say, tolerant_stderr
from tunekit.runs.outcome import in_digits
from tunekit.stages import METRICS

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType
    from rich.live import Live

    from tunekit.engine.logs import Progress
    from tunekit.plan.plan import Plan
    from tunekit.stages import Stage

SPARKS = "▁▂▃▄▅▆▇█"
PLAIN_EVERY = 15.0
"""Seconds between two lines of progress where no terminal is there to redraw one."""


def make_screen(name: str) -> TerminalScreen | PlainScreen:
    """The screen that suits what stderr is connected to."""
    return TerminalScreen(name) if sys.stderr.isatty() else PlainScreen(name)


class PlainScreen:
    """One line now and then, no colour, no redrawing: for log files and pipes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stage: Stage | None = None
        self._shown_step, self._shown_at = -1, 0.0

    def attempt(self, number: int, most: int, plan: Plan, resumed: str | None) -> None:
        """Say that an attempt starts."""
        self._shown_step, self._stage = -1, plan.stage
        say(f"{headline(self._name, number, most, plan, resumed)}: starting")

    def progress(self, progress: Progress, _log: Path) -> None:
        """Say where the attempt stands, when there is something new and the last line is old enough."""
        due = time.monotonic() - self._shown_at >= PLAIN_EVERY or progress.step == progress.total
        if progress.step > 0 < progress.total and progress.step != self._shown_step and due:
            self._shown_step, self._shown_at = progress.step, time.monotonic()
            place = f"step {progress.step}/{progress.total} ({_percent(progress)} %)"
            say(" · ".join([place, *numbers(progress, self._stage), *_eta(progress)]))

    def pause(self) -> None:
        """Nothing is drawn that could stay."""

    def say(self, lines: list[str]) -> None:
        """Print lines."""
        say("\n".join(lines))


class TerminalScreen:
    """Headline, bar and numbers, redrawn in place."""

    def __init__(self, name: str) -> None:
        from rich.console import Console

        self._name = name
        self._stage: Stage | None = None
        self._console = Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._head, self._began = "", 0.0

    def attempt(self, number: int, most: int, plan: Plan, resumed: str | None) -> None:
        """Start to draw an attempt."""
        from rich.live import Live

        self._head, self._stage = headline(self._name, number, most, plan, resumed), plan.stage
        self._began = time.monotonic()
        # No thread of its own: it would end in a traceback when the terminal is closed.
        self._live = Live(console=self._console, auto_refresh=False)
        with tolerant_stderr():
            self._live.start()

    def progress(self, progress: Progress, log: Path) -> None:
        """Redraw."""
        if self._live:
            with tolerant_stderr():
                self._live.update(self._drawing(progress, log), refresh=True)

    def pause(self) -> None:
        """Leave the last drawing where it is."""
        if self._live:
            with tolerant_stderr():
                self._live.stop()
                self._console.print()
            self._live = None

    def say(self, lines: list[str]) -> None:
        """Print lines; the first one stands out."""
        from rich.padding import Padding
        from rich.text import Text

        with tolerant_stderr():
            for number, line in enumerate(lines):
                self._console.print(Padding(Text(line, "" if number else "bold"), (0, 0, 0, 2)))
            self._console.print()

    def _drawing(self, progress: Progress, log: Path) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        head = Text(f"  {self._head}", overflow="ellipsis", no_wrap=True)
        if not progress.step or not progress.total:  # a resumed attempt knows its step before its total
            waiting = f"  starting, {int(time.monotonic() - self._began)} s: {_last_line(log)}"
            return Group(head, Text(waiting, "dim", overflow="ellipsis", no_wrap=True))
        grid = Table.grid(padding=(0, 1))
        place = f"{progress.step}/{progress.total}  {_percent(progress)} %  {' '.join(_eta(progress))}"
        grid.add_row(" ", ProgressBar(progress.total, progress.step, width=40), Text(place))
        line = Text("  " + "   ".join(numbers(progress)), overflow="ellipsis", no_wrap=True)
        return Group(head, grid, line)


def headline(name: str, number: int, most: int, plan: Plan, resumed: str | None) -> str:
    """``sft · qwen2.5-7b-sft · attempt 2 of 5 · micro-batch 3, effective batch 36 · from checkpoint-20``."""
    batch = f"micro-batch {plan.batch.micro}, effective batch {plan.batch.effective}"
    parts = [plan.stage.name, name, f"attempt {number} of {most}", batch, *([f"from {resumed}"] if resumed else [])]
    return " · ".join(parts)


def numbers(progress: Progress, stage: Stage | None = None) -> list[str]:
    """What the stage shows, with the curve of what counts first, learning rate, speed and memory, as far as known."""
    found: list[str] = []
    for key in stage.shows if stage else ("loss",):
        series = progress.series(key)
        value = progress.loss if key == "loss" else series[max(series)] if series else None
        if value is not None:
            text = f"{value:.4f}" if key == "loss" else in_digits(value)
            found.append(f"{METRICS[key]} {text} {'' if found else sparkline(list(series.values()))}".rstrip())
    if progress.grad_norms and not math.isfinite(progress.grad_norms[max(progress.grad_norms)]):
        found.append("gradient not a number")
    if progress.learning_rate is not None:
        found.append(f"lr {progress.learning_rate:.3g}")
    if progress.seconds_per_step is not None:
        found.append(f"{progress.seconds_per_step:.3g} s/step")
    if progress.memory_gib is not None:
        predicted = "" if progress.predicted_gib is None else f" ({progress.predicted_gib:.1f} predicted)"
        found.append(f"GPU {progress.memory_gib:.1f} GiB{predicted}")
    if progress.eval_loss is not None:
        found.append(f"eval loss {progress.eval_loss:.4f}")
    return found


def sparkline(losses: list[float], width: int = 12) -> str:
    """A curve in `width` characters at the most; empty for fewer than three values. Beyond all numbers is the top."""
    if len(losses) < 3:
        return ""
    size = min(width, len(losses))
    ends = [index * len(losses) // size for index in range(size + 1)]
    means = [sum(losses[start:end]) / (end - start) for start, end in pairwise(ends)]
    finite = [mean for mean in means if math.isfinite(mean)] or [0.0]
    low, high = min(finite), max(finite)
    scale = (len(SPARKS) - 1) / (high - low) if high > low else 0
    return "".join(SPARKS[round((mean - low) * scale)] if math.isfinite(mean) else SPARKS[-1] for mean in means)


def duration(seconds: float) -> str:
    """``1 h 48 min``, ``2 min 05 s``, ``14 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _eta(progress: Progress) -> list[str]:
    return [] if progress.eta_seconds is None else [f"eta {duration(progress.eta_seconds)}"]


def _percent(progress: Progress) -> int:
    return 100 * progress.step // max(1, progress.total)


def _last_line(log: Path) -> str:
    """The last thing ms-swift said: while it loads, that is all there is to see."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 2048))
            lines = file.read().decode("utf-8", errors="replace").split("\n")
    except OSError:
        return "starting ms-swift"
    said = [line.strip() for line in lines if line.strip()]
    return said[-1].removeprefix("[INFO:swift] ")[:160] if said else "importing ms-swift"
