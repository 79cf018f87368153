"""The board's page of one run, and that of several side by side."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tunekit.cli.show.board import OFTEN, SELDOM
from tunekit.cli.show.board_list import status_of
from tunekit.cli.show.board_words import BOARD_WORDS, board_word
from tunekit.cli.show.page_curves import curves_together
from tunekit.cli.show.page_html import cells_in_table, safe, scrolled
from tunekit.cli.show.page_run import RunPage
from tunekit.console import shown_plainly
from tunekit.runs.comparison import facts_of, not_comparable, settings_apart
from tunekit.runs.curves import digits_of
from tunekit.runs.scan import log_end

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tunekit.cli.show.board import Frame
    from tunekit.runs.history import PastRun

COLOURS = re.compile(r"\x1b\[[\d;]*m")
"""What programs write to a terminal for it to change its colour."""

LINES = 40
"""Of the end of a log."""

COUNTED = ("step", "seconds", "seconds a step", "tokens/s", "peak GiB", "loss", "eval", "acc", "margin", "reward")
"""Facts that are a number of how it went, not of what was asked for."""


def run_page(frame: Frame, run: PastRun) -> str:
    """One run: what its report says, how it is doing, and the end of its log."""
    page = RunPage(run, frame.language)
    doing = f"<div class=doing>{status_of(frame, run, wide=True)}</div>" if run.alive else ""
    parts = [
        ("header", f'<p class="small back"><a href="/">{frame.word("runs")}</a></p>{page.header()}'),
        ("answer", doing + page.answer()),
        *((key, f"<h2>{page.word(key)}</h2>{html}") for key, html in page.parts()),
        ("log", _log(frame, run)),
    ]
    body = "".join(f'<section data-k="{key}">{html}</section>' for key, html in parts)
    shown = f'<div data-live=run data-name="{safe(run.name)}" data-status="{safe(run.status)}">{body}</div>'
    return frame.page(safe(run.name), shown, every=OFTEN if run.alive else SELDOM)


def _log(frame: Frame, run: PastRun) -> str:
    lines = [shown_plainly(COLOURS.sub("", line)) for line in log_end(run, LINES)]
    if not lines:
        return ""
    title = frame.word("log end")
    return f'<h2>{title}</h2><pre tabindex=0 role=region aria-label="{title}">{safe(chr(10).join(lines))}</pre>'


def compare_page(frame: Frame, runs: Sequence[PastRun]) -> str:
    """Only what differs between runs, their curves on one axis, and what they came to."""
    apart, why = settings_apart(runs), not_comparable(runs)
    first, *others = (run.state.plan.settings for run in runs)
    same = sum(all(flag in other and other[flag].value == row.value for other in others) for flag, row in first.items())
    names = [safe(run.name) for run in runs]
    title = frame.word("and", runs[0].name, runs[1].name) if len(runs) == 2 else ", ".join(names)
    lede = frame.word("apart", len(apart), same)
    if why:
        lede += " " + frame.word("do not compare", ", ".join(_fact(frame, what) for what in why))
    settings = [[safe(flag), *("–" if value is None else safe(value) for value in row)] for flag, row in apart.items()]
    facts = [facts_of(run) for run in runs]
    titles = dict.fromkeys(title for each in facts for title in each)
    asked = [_row(frame, fact, facts) for fact in titles if fact not in COUNTED]
    settings += [row for row in asked if len(set(row[1:])) > 1]
    head = [frame.word("setting"), *names]
    differs = f"<p>{frame.word('nothing differs')}</p>"
    if settings:
        differs = scrolled(frame.word("differs"), cells_in_table(head, settings, kind="cmp", named=True))
    counted = [fact for fact in titles if fact in COUNTED and any(each.get(fact) is not None for each in facts)]
    came = [_row(frame, fact, facts, difference=len(runs) == 2) for fact in counted]
    heads = ["", *names, *([frame.word("difference")] if len(runs) == 2 else [])]
    went = cells_in_table(heads, came, kind="went", numbers=True, named=True)
    body = (
        f'<p class="small back"><a href="/">{frame.word("runs")}</a> · {frame.word("compare")}</p><h1>{title}</h1>'
        f"<p class=lede>{lede}</p><h2>{frame.word('differs')}</h2>"
        f"{differs}<p class=note>{frame.word('same', same)}</p>"
        f"<h2>{frame.word('curves')}</h2>{curves_together(runs, frame.language)}"
        f"<h2>{frame.word('went')}</h2>{scrolled(frame.word('went'), went)}"
    )
    return frame.page(title, body)


def _fact(frame: Frame, title: str) -> str:
    """The name of a fact, not escaped."""
    key = f"fact {title}"
    return board_word(frame.language, key) if key in BOARD_WORDS else title


def _row(
    frame: Frame, title: str, facts: Sequence[Mapping[str, str | float | None]], *, difference: bool = False
) -> list[str]:
    values = [each.get(title) for each in facts]
    cells = [_cell(frame, title, value) for value in values]
    if difference:
        first, second = values[0], values[1]
        known = isinstance(first, (int, float)) and isinstance(second, (int, float))
        cells.append(_difference(frame, title, float(first) - float(second)) if known else "–")  # type: ignore[arg-type]
    return [safe(_fact(frame, title)), *cells]


def _cell(frame: Frame, title: str, value: str | float | None) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, str):
        return safe(value)
    if title == "seconds":
        return frame.long(value)
    return f"{value:,}" if isinstance(value, int) else digits_of(value)


def _difference(frame: Frame, title: str, value: float) -> str:
    """How much more the first has than the second."""
    if not value:
        return "0"
    size = abs(value)
    shown = (
        frame.long(size) if title == "seconds" else f"{size:,.0f}" if title in ("step", "tokens/s") else digits_of(size)
    )
    return f"{'+' if value > 0 else '−'}{shown}"
