"""The frame of the board's pages, and the list of runs. The pages hold all that they show; scripts only renew it."""

from __future__ import annotations

import time
from calendar import timegm
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import tunekit
from tunekit.cli.show.board_words import BOARD_WORDS, board_word
from tunekit.cli.show.page import copy_words, language_tag
from tunekit.cli.show.page_curves import outcome_of
from tunekit.cli.show.page_html import copied_block, safe
from tunekit.cli.show.page_words import LANGUAGES, time_in_language
from tunekit.cli.show.screen import duration
from tunekit.runs.curves import digits_of, drawn
from tunekit.runs.history import FAILED, RUNNING
from tunekit.runs.scan import seconds_to_go, silent_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tunekit.errors import TunekitError
    from tunekit.runs.history import History, PastRun

STAMP = "%Y-%m-%dT%H:%M:%SZ"

OFTEN, SELDOM = 2000, 10_000
"""Milliseconds after which a page asks again: while a run goes on, and while none does."""

STALE = 10
"""A run is silent when it has logged nothing for as many of its steps, and a minute at least."""

TRY = "tunekit sft --model Qwen2.5-7B --dataset data/train.jsonl --dry-run"


@dataclass(frozen=True)
class Frame:
    """What stands around each page.

    Attributes:
        path: of the page, and `query` behind it, for the link to the same in the other language.
    """

    language: str
    path: str
    query: Sequence[tuple[str, str]] = ()

    def word(self, key: str, *values: object) -> str:
        """A word, escaped with what is put in."""
        return safe(board_word(self.language, key, *values))

    def told(self, seconds: float) -> str:
        """A time, to be put into a word."""
        return time_in_language(self.language, duration(seconds))

    def long(self, seconds: float) -> str:
        """A time, escaped."""
        return safe(self.told(seconds))

    def page(self, title: str, body: str, *, every: int = 0) -> str:
        """A whole page; `title` is escaped already. `every` says after how many milliseconds it asks again."""
        other = next(language for language in LANGUAGES if language != self.language)
        swap = safe(f"{self.path}?{urlencode([*(pair for pair in self.query if pair[0] != 'lang'), ('lang', other)])}")
        here = "planner" if self.path == "/plan" else "runs"
        links = "".join(
            f'<a href="{href}"{" aria-current=page" if key == here else ""}>{self.word(key)}</a>'
            for key, href in (("runs", "/"), ("planner", "/plan"))
        )
        return (
            f'<!doctype html><html lang="{language_tag(self.language)}"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">'
            f"<title>{title} · tunekit board</title>"
            '<link rel="stylesheet" href="/page.css"><link rel="stylesheet" href="/board.css">'
            '<script src="/page.js" defer></script><script src="/board.js" defer></script></head>'
            f'<body {copy_words(self.language)} data-every="{every}"><a class=skip href="#main">{self.word("skip")}</a>'
            f'<header><a class=brand href="/">tunekit</a><nav aria-label="{self.word("main")}">{links}</nav>'
            f'<a class=lang lang="{language_tag(other)}" href="{swap}">{self.word("other language")}</a></header>'
            f"<main id=main><p class=off id=gone role=alert hidden>{self.word('gone')} <code>tunekit board</code></p>"
            f"{body}<p class=vh role=status id=said></p></main>"
            f"<footer>{self.word('read only')} tunekit {safe(tunekit.__version__)}</footer></body></html>\n"
        )

    def sorry(self, said: str) -> str:
        """A page that says one sentence, escaped already, and leads back."""
        back = f'<p><a href="/">{self.word("runs")}</a></p>'
        return self.page(said, f"<h1>{said}</h1>{back}")


def run_link(key: str) -> str:
    """The address of a run's page."""
    return f"/run/{quote(key)}"


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
        more = (
            frame.word("silent", frame.told(silent)) if stale else frame.word("to go", frame.told(left)) if left else ""
        )
        doing = (
            f'<span class="live{" stale" if stale else ""}">{frame.word("at", f"{logged.step:,}", f"{logged.total:,}")}'
        )
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
    return (
        f'<svg class="pg{" wide" if wide else ""}" role=progressbar aria-label="{frame.word("step")}" aria-valuemin=0 aria-valuemax={total} '
        f'aria-valuenow={step}><rect width="100%" height="4" rx="2"/>'
        f'<rect class=on width="{share:.1f}%" height="4" rx="2"/></svg>'
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
