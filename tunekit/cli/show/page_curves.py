"""Which curves a run shows, in which figures; and those of several runs on one axis."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tunekit.cli.show.page_figure import LOOKS, MOST, Figure, Series
from tunekit.cli.show.page_html import cells_in_table, folded_part, safe, scrolled
from tunekit.cli.show.page_words import WORDS, word_of
from tunekit.runs.attempts import MEMORY_OUTCOMES
from tunekit.runs.curves import EVALUATED, MEMORY, NORM, RATE, SPEED, digits_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tunekit.runs.history import PastRun

BESIDE = {
    "rewards/accuracies": ("rewards/chosen",),
    "reward": ("completions/clipped_ratio", "frac_reward_zero_std"),
}
"""Curves that are drawn too where a stage shows another."""

TOGETHER = {"rewards/chosen": "rewards/rejected"}
"""Curves that stand in one figure, dashed beside the first."""

SPREADS = {"reward": "reward_std"}
"""A number whose spread is a band around it."""

SCORE = re.compile(r"rewards/(.+)/mean")
"""What one of several reward functions gave (ms-swift's rlhf_trainers/grpo_trainer.py)."""

ROWS = 20
"""Rows of the table of values."""


def curve_keys(run: PastRun) -> list[str]:
    """The numbers of a run's stage that have points, the one that counts first."""
    shows = run.state.plan.stage.shows
    more = [key for shown in shows for key in BESIDE.get(shown, ())]
    bands = [SPREADS[shown] for shown in shows if shown in SPREADS]
    wanted = dict.fromkeys((*shows, "loss", *more, RATE, NORM, MEMORY, SPEED))
    return [key for key in wanted if run.logged.of(key) and key not in bands]


def title_of(language: str, key: str) -> str:
    """The name of a number; ms-swift's own where there is no word for it."""
    return word_of(language, key) if key in WORDS else key


def _scores(run: PastRun) -> dict[str, str]:
    """The reward functions by key, where there are several."""
    found = {key: name[1] for key in run.logged.series if (name := SCORE.fullmatch(key))}
    return dict(list(found.items())[: len(LOOKS)]) if len(found) > 1 else {}


def _series_of(run: PastRun, key: str, language: str) -> tuple[Series, ...]:
    """What stands in the figure of a number: itself, its evaluation, and what belongs with it."""
    logged = run.logged
    pair = [key, TOGETHER.get(key, f"eval_{key}")]
    words = [name.rpartition("/")[2] for name in pair] if key in TOGETHER else ["train", "eval"]
    beside = list(zip(pair, words, strict=True)) if logged.of(pair[1]) else []
    if not beside:
        return (Series(key, logged.of(key), spread=logged.of(SPREADS.get(key, ""))),)
    return tuple(Series(name, logged.of(name), word_of(language, word)) for name, word in beside if logged.of(name))


def _about(language: str, title: str, series: Sequence[Series]) -> str:
    told = []
    for one in series:
        values = list(one.curve().values())
        name = f"{title}, {one.name}" if one.name else title
        told.append(word_of(language, "curve", name, digits_of(values[0]), digits_of(values[-1])))
    return "; ".join(told)


def curves_of(run: PastRun, language: str) -> str:
    """Every curve of a run, what the lines mean, and their values as a table."""
    keys, logged = curve_keys(run), run.logged
    if not keys:
        return f"<p class=none>{safe(word_of(language, 'no curve'))}</p>"
    last = max(logged.step, logged.total if run.alive else 0, 1)
    marks = tuple(
        (attempt.last_step, f"{word_of(language, 'attempt', attempt.number)} · {outcome_of(language, attempt.outcome)}")
        for attempt in run.state.attempts
        if attempt.outcome in MEMORY_OUTCOMES
    )
    wanted = [(title_of(language, key), _series_of(run, key, language)) for key in keys]
    scores = tuple(Series(key, logged.of(key), name) for key, name in _scores(run).items())
    wanted[1:1] = [(word_of(language, "scores"), scores)] if scores else []
    figures = []
    for at, (title, series) in enumerate(wanted):
        figure = Figure(title, series, last, marks if at == 0 else (), repeated_steps(run), word_of(language, "step"))
        figures.append(figure.svg(_about(language, title, series), big=at == 0))
    return f"<div class=figs>{''.join(figures)}</div>{_note(run, keys, language)}{_values(run, keys, language)}"


def _note(run: PastRun, keys: Sequence[str], language: str) -> str:
    """What the lines of the figures mean, as far as there are such lines."""
    points = [run.logged.of(key) for key in keys]
    longest = max(map(len, points))
    said = {
        "smooth": any(Series(key, some).curve() != some for key, some in zip(keys, points, strict=True)),
        "dashed": any(run.logged.of(f"eval_{key}") for key in keys),
        "banded": any(run.logged.of(SPREADS[key]) for key in keys if key in SPREADS),
        "greyed": bool(repeated_steps(run)),
        "few drawn": longest > MOST,
    }
    told = " ".join(word_of(language, key, longest) for key, so in said.items() if so)
    return f"<p class=note>{safe(told)}</p>" if told else ""


def repeated_steps(run: PastRun) -> tuple[tuple[int, int], ...]:
    """The steps that were trained twice, because an attempt went on from a checkpoint before them."""
    found = []
    for before, after in zip(run.state.attempts, run.state.attempts[1:], strict=False):
        digits = (after.resumed_from or "-0").rpartition("-")[2]
        begin = int(digits) if digits.isdecimal() else before.last_step
        if begin < before.last_step:
            found.append((begin, before.last_step))
    return tuple(found)


def outcome_of(language: str, outcome: str) -> str:
    """How an attempt ended, in words."""
    return word_of(language, f"ended {outcome}") if f"ended {outcome}" in WORDS else outcome


def _values(run: PastRun, keys: Sequence[str], language: str) -> str:
    """What was logged, as a table for those who cannot see curves; twenty steps where there are more."""
    series: dict[str, Mapping[int, float]] = {title_of(language, key): run.logged.of(key) for key in keys}
    if run.logged.of(EVALUATED):
        series[word_of(language, "eval")] = run.logged.of(EVALUATED)
    steps = sorted({step for points in series.values() for step in points})
    some = sorted({steps[round(at * (len(steps) - 1) / (ROWS - 1))] for at in range(ROWS)})
    head = [safe(title) for title in (word_of(language, "step"), *series)]
    rows = [
        [f"{step:,}", *(digits_of(points[step]) if step in points else "–" for points in series.values())]
        for step in some
    ]
    more = f"<p class=note>{safe(word_of(language, 'thinned', len(steps)))}</p>" if len(steps) > len(some) else ""
    table = cells_in_table(head, rows, numbers=True)
    title = safe(word_of(language, "values"))
    return folded_part(title, scrolled(title, table) + more, key="values", kind="values")


def curves_together(runs: Sequence[PastRun], language: str) -> str:
    """The numbers that all of several runs have logged, a figure each, all runs on one axis."""
    keys = dict.fromkeys((*runs[0].state.plan.stage.shows, "loss", EVALUATED, NORM, RATE, SPEED, MEMORY))
    shared = [key for key in keys if all(run.logged.of(key) for run in runs)]
    if not shared:
        return f"<p class=none>{safe(word_of(language, 'no curve together'))}</p>"
    last = max(1, *(run.logged.step for run in runs))
    figures = []
    for at, key in enumerate(shared):
        title = word_of(language, "eval loss" if key == EVALUATED else key)
        series = tuple(Series(key, run.logged.of(key), run.name) for run in runs)
        figure = Figure(title, series, last, step_word=word_of(language, "step"))
        figures.append(figure.svg(_about(language, title, series), big=at == 0))
    return f"<div class=figs>{''.join(figures)}</div>"
