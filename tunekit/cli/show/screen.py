"""How a run shows itself: a few living lines in a terminal, plain lines in a log file. All of it on stderr."""

from __future__ import annotations

import math
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING

from tunekit.console import redraws, say, tolerant_stderr
from tunekit.engine.phases import EVALUATING
from tunekit.runs.outcome import in_digits
from tunekit.stages import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.live import Live

    from tunekit.engine.logs import Progress
    from tunekit.engine.phases import Phases
    from tunekit.plan.plan import Plan
    from tunekit.stages import Stage

SPARKS = "▁▂▃▄▅▆▇█"
PLAIN_EVERY = 15.0
"""Seconds between two lines of progress where no terminal is there to redraw one."""


def make_screen(name: str) -> TerminalScreen | PlainScreen:
    """The screen that suits what stderr is connected to."""
    return TerminalScreen(name) if redraws(sys.stderr) else PlainScreen(name)


class PlainScreen:
    """One line now and then, no colour, no redrawing: for log files and pipes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stage: Stage | None = None
        self._shown_step, self._shown_at, self._started = -1, 0.0, False

    def attempt(self, number: int, most: int, plan: Plan, resumed: str | None) -> None:
        """Say that an attempt starts."""
        self._shown_step, self._stage, self._started = -1, plan.stage, False
        self._shown_at = time.monotonic()
        say(f"{' · '.join(headline(self._name, number, most, plan, resumed))}: starting")

    def progress(self, progress: Progress, phases: Phases) -> None:
        """Say where the attempt stands, when there is something new and the last line is old enough."""
        if not self._started and not phases.name:
            self._started = True
            say(", ".join(started(phases)))
        step, total = place_of(progress, phases)
        if not step or not total:  # a resumed attempt knows its step before its total
            if phases.name and self._due():
                say(" · ".join(phases.waiting()))
        elif step != self._shown_step and (self._due() or step == total or self._shown_step < 0):
            self._shown_step, self._shown_at = step, time.monotonic()
            place = f"step {step}/{total} ({_percent(step, total)} %)"
            say(
                " · ".join(
                    [
                        place,
                        *numbers(progress, self._stage),
                        *epoch_of(progress, step, total),
                        *_eta(progress, step, total),
                    ]
                )
            )

    def _due(self) -> bool:
        due = time.monotonic() - self._shown_at >= PLAIN_EVERY
        self._shown_at = time.monotonic() if due else self._shown_at
        return due

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
        self._head: list[str] = []

    def attempt(self, number: int, most: int, plan: Plan, resumed: str | None) -> None:
        """Start to draw an attempt."""
        from rich.live import Live

        self._head, self._stage = headline(self._name, number, most, plan, resumed), plan.stage
        # No thread of its own: it would end in a traceback when the terminal is closed.
        self._live = Live(console=self._console, auto_refresh=False)
        with tolerant_stderr():
            self._live.start()

    def progress(self, progress: Progress, phases: Phases) -> None:
        """Redraw."""
        if self._live:
            with tolerant_stderr():
                self._live.update(self._drawing(progress, phases), refresh=True)

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

    def _drawing(self, progress: Progress, phases: Phases) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        wide = self._console.width

        def lines(parts: Sequence[str], joint: str, style: str = "") -> list[Text]:
            return [Text(f"  {line}", style, no_wrap=True) for line in folded(parts, joint, wide - 2)]

        head = lines(self._head, " · ")
        step, total = place_of(progress, phases)
        if not step or not total:  # a resumed attempt knows its step before its total
            return Group(*head, *lines(phases.waiting(), " · ", "dim"))
        grid = Table.grid(padding=(0, 1))
        parts = [
            f"{step}/{total}",
            f"{_percent(step, total)} %",
            *epoch_of(progress, step, total),
            *_eta(progress, step, total),
        ]
        place = "  ".join(parts)
        grid.add_row(" ", ProgressBar(total, step, width=max(8, min(40, wide - len(place) - 4))), Text(place))
        now = numbers(progress, self._stage) + doing(phases)
        return Group(*head, grid, *lines(now, "   "), *lines(started(phases), ", ", "dim"))


def folded(parts: Sequence[str], joint: str, width: int) -> list[str]:
    """Parts joined in as few lines as they fit in; none is broken, but one that is longer than a line is cut."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(joint) + len(part) <= width:
            lines[-1] += joint + part
        else:
            lines.append(part if len(part) <= width else f"{part[: width - 1]}…")
    return lines


def place_of(progress: Progress, phases: Phases) -> tuple[int, int]:
    """The step, and of how many: by ms-swift's bar where that is further than its log, which has some steps only."""
    return max(progress.step, phases.step), progress.total or phases.total


def started(phases: Phases) -> list[str]:
    """How long it took to the end of the first step, and what of it: ``started in 17 s: importing 9 s``, …."""
    first, *rest = phases.lines() or ["at once"]
    return [f"started in {sum(seconds for _, seconds in phases.spent):.0f} s: {first}", *rest]


def doing(phases: Phases) -> list[str]:
    """What goes on beside the steps, and the last checkpoint that was saved."""
    bar = [f"evaluating {phases.bar.line}"] if phases.bar and phases.bar.name == EVALUATING else []
    return [*bar, *([] if phases.saved is None else [f"saved step {phases.saved}"])]


def epoch_of(progress: Progress, step: int, total: int) -> list[str]:
    """``epoch 1.3 of 2``; nothing before the first log line."""
    if not progress.epochs:
        return []
    last = max(progress.epochs)
    each = progress.epochs[last] / last if last else 0.0
    return [f"epoch {each * step:.3g} of {each * total:.3g}"]


def headline(name: str, number: int, most: int, plan: Plan, resumed: str | None) -> list[str]:
    """``sft``, ``kit``, ``attempt 2 of 5``, ``micro-batch 3, effective batch 36``, ``from checkpoint-20``."""
    batch = f"micro-batch {plan.batch.micro}, effective batch {plan.batch.effective}"
    return [plan.stage.name, name, f"attempt {number} of {most}", batch, *([f"from {resumed}"] if resumed else [])]


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


def _eta(progress: Progress, step: int, total: int) -> list[str]:
    speed = progress.seconds_per_step
    return [] if speed is None else [f"eta {duration((total - step) * speed)}"]


def _percent(step: int, total: int) -> int:
    return 100 * step // max(1, total)
