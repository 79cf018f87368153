"""How runs of before are shown: a table of all, one in full, several side by side."""

from __future__ import annotations

import itertools
import math
import sys
import time
from calendar import timegm
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from tunekit.cli.show.lines import print_document, print_table
from tunekit.cli.show.screen import duration
from tunekit.console import columns, shown_plainly
from tunekit.plan.settings import text
from tunekit.runs.comparison import facts_of, not_comparable, settings_apart
from tunekit.runs.curves import EVALUATED, NORM, RATE, digits_of, drawn
from tunekit.stages import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tunekit.runs.history import History, PastRun

BARS = "▁▂▃▄▅▆▇█"
STAMP = "%Y-%m-%dT%H:%M:%SZ"


def print_runs(found: History, *, as_json: bool) -> None:
    """The table of all runs."""
    if as_json:
        damaged = [error.message for error in found.damaged]
        print_document({"runs": [run_summary(run) for run in found.runs], "damaged": damaged})
        return
    if not found.runs:
        print("no run yet: tunekit sft --model MODEL --dataset DATA begins one")
        return
    rows = [["NAME", "STAGE", "MODEL", "WHEN", "STATUS", "RESULT", "TIME", "GIB"]]
    for recipe, runs in found.recipes():
        if recipe:
            rows.append([recipe, *[""] * 7])
        rows += [_row(run, f"  {run.folder.path.name}" if recipe else run.name) for run in runs]
    print_table(_narrowed([[shown_plainly(cell) for cell in row] for row in rows]))


def _row(run: PastRun, name: str) -> list[str]:
    plan, result = run.state.plan, run.result
    memory = f"{run.memory_gib:.1f}" if run.memory_gib else ""
    said = f" ({run.memory_said:.1f})" if run.memory_gib and run.memory_said else ""
    return [
        name,
        plan.stage.name,
        PurePath(plan.model.id).name,
        _when(run.state.created),
        run.told,
        f"{result.word} {digits_of(round(result.value, 3))}" if result else "",
        duration(run.seconds) if run.seconds else "",
        memory + said,
    ]


def _narrowed(rows: list[list[str]]) -> list[list[str]]:
    """Rows cut so that the table fits: 80 columns, or the terminal where it is wider; empty columns are left out."""
    kept = [at for at in range(len(rows[0])) if at < 2 or any(row[at] for row in rows[1:])]
    rows = [[row[at] for at in kept] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = max(80, columns(sys.stdout) or 80) - 2 * (len(widths) - 1)
    heads = dict(zip(rows[0], itertools.count(), strict=False))
    for head in ("MODEL", "NAME", "STATUS"):
        at, over = heads.get(head), sum(widths) - room
        if at is not None and over > 0:
            widths[at] = max(10, widths[at] - over)
    return [[_cut(cell, width) for cell, width in zip(row, widths, strict=True)] for row in rows]


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else f"{cell[: width - 1]}…"


def _when(stamp: str) -> str:
    """``14:05`` of today, ``Mon`` of this week, ``25 Nov`` of this year, else a date; in the local time."""
    try:
        then = time.localtime(timegm(time.strptime(stamp, STAMP)))
    except ValueError:
        return ""
    now = time.localtime()
    days = (timegm(now) - timegm(then)) / 86400
    form = "%H:%M" if then[:3] == now[:3] else "%a" if 0 <= days < 6 else "%d %b" if then[0] == now[0] else "%Y-%m-%d"
    return time.strftime(form, then)


def run_summary(run: PastRun) -> dict[str, Any]:
    """A run in a JSON object; numbers that are not known are null."""
    result = run.result
    return {
        "name": run.name,
        "folder": str(run.folder.path),
        "recipe": run.recipe or None,
        "stage": run.state.plan.stage.name,
        "model": run.state.plan.model.id,
        "created": run.state.created,
        "status": run.status,
        "verdict": run.verdict.ending.value if run.verdict else None,
        "pid": run.alive.supervisor or None if run.alive else None,
        "step": run.logged.step,
        "steps": run.logged.total or None,
        "result": {"metric": result.key, "value": result.value, "step": result.step} if result else None,
        "seconds": round(run.seconds, 1),
        "memory_gib": run.memory_gib,
        "memory_said_gib": run.memory_said,
        "attempts": len(run.state.attempts),
    }


def print_run(run: PastRun, *, as_json: bool) -> None:
    """One run in full."""
    plan = run.state.plan
    if as_json:
        settings = {
            flag: {"value": setting.value, "source": str(setting.source), "why": setting.why}
            for flag, setting in plan.settings.items()
        }
        curves = {key: dict(points) for key, points in run.logged.series.items()}
        attempts = [dict(vars(attempt)) for attempt in run.state.attempts]
        facts = {"facts": facts_of(run), "attempts": attempts, "settings": settings, "curves": curves}
        print_document(run_summary(run) | facts | {"rows": run.rows.lines(), "error": run.error or None})
        return
    known = [[title, _cell(title, value)] for title, value in facts_of(run).items() if value not in (None, "")]
    head = [["run", run.name], ["folder", str(run.folder.path)], *known]
    head += [["rows", line] for line in run.rows.lines()] + ([["error", run.error]] if run.error else [])
    print_table([[shown_plainly(cell) for cell in row] for row in head])
    for key in _told(run):
        print()
        print("\n".join(_curve({run.name: drawn(key, run.logged.of(key))}, METRICS.get(key, key))))
    _print_attempts(run)
    print()
    rows = [[flag, text(row.value), str(row.source), row.why] for flag, row in plan.settings.items()]
    print_table([[shown_plainly(cell) for cell in row] for row in rows])


def _told(run: PastRun) -> list[str]:
    """The curves that are drawn in a terminal: those of the stage, the evaluation, and how it went."""
    keys = dict.fromkeys((*run.state.plan.stage.shows, EVALUATED, RATE, NORM))
    return [key for key in keys if len(run.logged.of(key)) > 1]


def _print_attempts(run: PastRun) -> None:
    if not run.state.attempts:
        return
    print()
    for attempt in run.state.attempts:
        onward = f" from {attempt.resumed_from}" if attempt.resumed_from else ""
        size = f"micro-batch {attempt.micro_batch} × {attempt.accumulation}"
        print(
            shown_plainly(
                f"attempt {attempt.number}{onward}: {size}: {attempt.outcome} at step {attempt.last_step}, "
                f"{duration(attempt.seconds)}"
            )
        )
        for line in (attempt.evidence, f"then: {attempt.next_step}" if attempt.next_step else ""):
            if line:
                print(f"  {shown_plainly(line)}")


def print_comparison(runs: Sequence[PastRun], *, as_json: bool) -> None:
    """Several runs side by side: only what differs, then what they came to, and their curves on one axis."""
    apart, facts, why = settings_apart(runs), [facts_of(run) for run in runs], not_comparable(runs)
    if as_json:
        document = {"runs": [run_summary(run) for run in runs], "settings": apart, "facts": facts}
        print_document(document | {"not_comparable": why})
        return
    print_table(_comparison(runs, apart, facts))
    if why:
        print(f"\ntheir losses do not compare: another {' and '.join(why)}")
    key = curve_together(runs)
    if key:
        print()
        print("\n".join(_curve({run.name: drawn(key, run.logged.of(key)) for run in runs}, METRICS.get(key, key))))


def _comparison(
    runs: Sequence[PastRun],
    apart: Mapping[str, Sequence[str | None]],
    facts: Sequence[Mapping[str, str | float | None]],
) -> list[list[str]]:
    rows = [["", *(run.name for run in runs)]]
    rows += [[flag, *("–" if value is None else value for value in values)] for flag, values in apart.items()]
    titles = dict.fromkeys(title for each in facts for title in each)
    for title in titles:
        cells = [_cell(title, each.get(title)) for each in facts]
        if len(set(cells)) > 1:
            rows.append([title, *(cell or "–" for cell in cells)])
    widest = max(12, (max(80, columns(sys.stdout) or 80) - 24) // len(runs) - 2)
    return [[shown_plainly(row[0]), *(_cut(shown_plainly(cell), widest) for cell in row[1:])] for row in rows]


def _cell(title: str, value: str | float | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if title == "seconds":
        return duration(value)
    return f"{value:,}" if isinstance(value, int) else digits_of(value)


def curve_together(runs: Sequence[PastRun]) -> str | None:
    """The number that all runs have logged and that tells most; None where there is none."""
    keys = (*runs[0].state.plan.stage.shows, EVALUATED, NORM)
    return next((key for key in keys if all(len(run.logged.of(key)) > 1 for run in runs)), None)


def _curve(curves: Mapping[str, Mapping[int, float]], title: str) -> Iterator[str]:
    """Curves on one axis, a line each, lowest bar at the smallest number of all: name, bars, first → last."""
    numbers = [value for points in curves.values() for value in points.values()]
    low, high = min(numbers), max(numbers)
    last = max(max(points) for points in curves.values())
    width = max(len(name) for name in curves) if len(curves) > 1 else 0
    room = max(20, min(60, (columns(sys.stdout) or 80) - width - 24))
    yield f"{title} {digits_of(low)} to {digits_of(high)}, up to step {last:,}"
    for name, points in curves.items():
        values = list(points.values())
        bars = "".join(_bars(points, low, high, last, room))
        shown = f"{shown_plainly(name):<{width}}  " if width else ""
        yield f"{shown}{bars}  {digits_of(values[0])} → {digits_of(values[-1])}"


def _bars(points: Mapping[int, float], low: float, high: float, last: int, room: int) -> Iterator[str]:
    """A sign for each share of the steps: the mean of what was logged there, or what was logged before."""
    room = min(room, last)
    shown: float | None = None
    for place in range(room):
        begin, end = math.floor(place * last / room), math.floor((place + 1) * last / room)
        here = [value for step, value in points.items() if begin < step <= end]
        shown = sum(here) / len(here) if here else shown if end <= max(points) else None
        share = 0.0 if shown is None or high == low else (shown - low) / (high - low)
        yield " " if shown is None else BARS[min(7, int(8 * share))]
