"""The board's list of runs: a row each, with its curve, how it is doing and what it came to."""

from __future__ import annotations

import time
from calendar import timegm
from pathlib import PurePath
from typing import TYPE_CHECKING

from tunekit.cli.show.board import OFTEN, SELDOM, run_link
from tunekit.cli.show.board_words import BOARD_WORDS
from tunekit.cli.show.page_curves import outcome_of
from tunekit.cli.show.page_html import copied_block, safe
from tunekit.runs.curves import digits_of, drawn
from tunekit.runs.history import FAILED, RUNNING
from tunekit.runs.scan import seconds_to_go, silent_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tunekit.cli.show.board import Frame
    from tunekit.errors import TunekitError
    from tunekit.runs.history import History, PastRun

STAMP = "%Y-%m-%dT%H:%M:%SZ"

STALE = 10
"""A run is silent when it has logged nothing for as many of its steps, and a minute at least."""

TRY = "tunekit sft --model Qwen2.5-7B --dataset data/train.jsonl --dry-run"


def list_page(frame: Frame, found: History, rows: Sequence[str], *, all_read: bool = True) -> str:
    """All runs; `rows` are those of the table. While not all have been read the page asks again soon."""
    if not found.runs and not found.damaged:
        body = (
            f"<h1>{frame.word('no run yet')}</h1><p>{frame.word('will appear')}</p>"
            f'{copied_block(TRY, frame.word("command"))}<p><a href="/plan">{frame.word("planner")}</a></p>'
        )
        return frame.page(frame.word("no run yet"), f"<div class=empty>{body}</div>", every=SELDOM)
    heads = ("name", "shape", "status", "best", "time (said)", "GiB (said)", "when")
    named = "".join(
        f"<th scope=col role=columnheader{' class=num' if at > 2 else ''}>{frame.word(head)}</th>"
        for at, head in enumerate(heads)
    )
    table = (
        f'<table class=runs role=table aria-label="{frame.word("runs")}"><thead role=rowgroup><tr role=row>'
        f"<td role=cell></td>{named}</tr></thead><tbody role=rowgroup data-live=runs>{''.join(rows)}</tbody></table>"
    )
    soon = any(run.alive for run in found.runs) or not all_read
    search = (
        f'<input type=search id=filter hidden placeholder="{frame.word("filter")}" aria-label="{frame.word("filter")}">'
    )
    tick, another = frame.word("tick"), frame.word("tick one more", "{}")
    tray = (
        f'<div class=tray><span id=picked data-none="{tick}" data-one="{another}">{tick}</span>'
        f"<button class=btn>{frame.word('compare')}</button></div>"
    )
    body = (
        f'<div class=top><h1>{frame.word("runs")}</h1>{search}</div><form action="/compare">{table}'
        f"<p class=none id=nomatch hidden>{frame.word('no match')}</p>{_left_out(frame, found.damaged)}{tray}</form>"
    )
    return frame.page(frame.word("runs"), body, every=OFTEN if soon else SELDOM)


def _left_out(frame: Frame, damaged: Sequence[TunekitError]) -> str:
    items = "".join(f"<li class=bad>{frame.word('left out', error.message)}</li>" for error in damaged)
    return f"<ul class=look>{items}</ul>" if items else ""


def list_row(frame: Frame, run: PastRun, key: str) -> str:
    """A run in the list."""
    result, told = run.result, ""
    if result:
        word = f"short {result.word}"
        shown = frame.word(word) if word in BOARD_WORDS else safe(result.word)
        told = f"<span class=soft>{shown}</span> {digits_of(round(result.value, 3))}"
    said = run.state.said.get("seconds")
    times = frame.long(run.seconds) if run.seconds else ""
    times += f"<small>({frame.long(said)})</small>" if said else ""
    gib = run.memory_gib
    memory = f"{gib:.1f}" if gib else ""
    expected = run.memory_said if gib else None
    memory += f"<small>({expected:.1f})</small>" if expected else ""
    return _row_of(frame, run, key, (_spark(run), status_of(frame, run), told, times, memory))


def unread_row(frame: Frame, run: PastRun, key: str) -> str:
    """The same of a run whose log has not been read yet."""
    return _row_of(frame, run, key, ("", "…", "", "", ""))


def _row_of(frame: Frame, run: PastRun, key: str, told: tuple[str, str, str, str, str]) -> str:
    """A row: curve, status, result, time and memory are HTML already."""
    plan = run.state.plan
    data = ", ".join(PurePath(name).name for name in plan.words("dataset"))
    about = " · ".join(filter(None, (plan.stage.name, PurePath(plan.model.id).name, data)))
    curve, status, result, times, memory = told
    cells = "".join(
        f'<td role=cell class="num{kind}">{cell or "–"}</td>'
        for cell, kind in ((result, ""), (times, " t"), (memory, " w"), (_when(run.state.created), " w"))
    )
    return (
        f'<tr role=row data-k="{safe(key)}" data-name="{safe(run.name)}" data-status="{safe(run.status)}" '
        f'data-words="{safe(f"{run.name} {about}".lower())}">'
        f'<td role=cell class=ck><input type=checkbox name=run value="{safe(key)}" '
        f'aria-label="{frame.word("pick", run.name)}"></td><th scope=row role=rowheader>'
        f'<a href="{safe(run_link(key))}">{safe(run.name)}</a><small>{safe(about)}</small></th>'
        f"<td role=cell class=sp>{curve}</td><td role=cell class=s>{status}</td>{cells}</tr>"
    )


def status_of(frame: Frame, run: PastRun, *, wide: bool = False) -> str:
    """What a run is doing or how it ended; one that goes on has a bar, and how long it will take yet."""
    logged = run.logged
    if run.status == RUNNING:
        if not logged.total:
            return f"<span class=live>{frame.word('starting')}</span>"
        silent, left = silent_for(run), seconds_to_go(run)
        stale = silent > max(60.0, STALE * (run.seconds_per_step or 0))
        more = frame.word("to go", frame.told(left)) if left else ""
        more = frame.word("silent", frame.told(silent)) if stale else more
        at = frame.word("at", f"{logged.step:,}", f"{logged.total:,}")
        doing = f'<span class="live{" stale" if stale else ""}">{at}'
        bar = progress_bar(frame, logged.step, logged.total, wide=wide)
        return f"{doing}</span> <small>{more}</small>{bar}" if wide else f"{doing}</span>{bar}<small>{more}</small>"
    attempts = run.state.attempts
    tries = f" · {frame.word('tries', len(attempts))}" if len(attempts) > 1 else ""
    if run.status == FAILED:
        outcome = outcome_of(frame.language, attempts[-1].outcome if attempts else "unknown")
        return f"<span class='bad warn'>{safe(outcome)}</span>{tries}"
    odd = f"is {run.told}"
    if odd in BOARD_WORDS and run.told != run.status:
        return f"<span class='bad warn'>{frame.word(odd)}</span>{tries}"
    return frame.word(f"is {run.status}", f"{logged.step:,}") + tries if f"is {run.status}" in BOARD_WORDS else run.told


def progress_bar(frame: Frame, step: int, total: int, *, wide: bool) -> str:
    """How far a run is."""
    share = 100 * min(1.0, step / max(1, total))
    kind, values = "pg wide" if wide else "pg", f"aria-valuemin=0 aria-valuemax={total} aria-valuenow={step}"
    return (
        f'<svg class="{kind}" role=progressbar aria-label="{frame.word("step")}" {values}>'
        f'<rect width="100%" height="4" rx="2"/><rect class=on width="{share:.1f}%" height="4" rx="2"/></svg>'
    )


def _spark(run: PastRun) -> str:
    """The stage's own curve, small; its numbers stand beside it."""
    key = next((shown for shown in run.state.plan.stage.shows if len(run.logged.of(shown)) > 1), None)
    if key is None:
        return ""
    points = list(drawn(key, run.logged.of(key)).items())
    points = points[:: max(1, len(points) // 60)]
    low, high = min(value for _, value in points), max(value for _, value in points)
    last = max(run.logged.total, run.logged.step, 1)
    places = (
        f"{1000 * step / last:.0f} {100 - 100 * (value - low) / ((high - low) or 1):.0f}" for step, value in points
    )
    box = 'viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true"'
    return f'<svg class="spark" {box}><path class="l a" d="M{"L".join(places)}"/></svg>'


def _when(stamp: str) -> str:
    """Day and time in the zone of this machine; empty where a run does not say."""
    try:
        then = time.localtime(timegm(time.strptime(stamp, STAMP)))
    except ValueError:
        return ""
    today = time.localtime()[:3] == then[:3]
    return f'<time datetime="{safe(stamp)}">{time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", then)}</time>'
