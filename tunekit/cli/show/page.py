"""The page of a run: one HTML file that needs nothing else, with its curves as inline SVG and no script.

All that comes from a run is escaped by `_e` or by the figure; everything else stands here or in the table of words.
"""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from html import escape
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import tunekit
from tunekit.cli.show.page_figure import Figure
from tunekit.cli.show.page_words import LANGUAGES, WORDS, word_of
from tunekit.cli.show.screen import duration
from tunekit.engine.after import suggested
from tunekit.errors import TunekitError
from tunekit.files import write_atomically
from tunekit.plan.settings import text
from tunekit.runs.attempts import MEMORY_OUTCOMES
from tunekit.runs.comparison import data_of, tokens_per_second
from tunekit.runs.curves import MEMORY, NORM, RATE, SPEED, digits_of, drawn
from tunekit.runs.history import DONE, past_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tunekit.runs.folder import Attempt
    from tunekit.runs.history import PastRun

REPORT = "report.html"
"""In the folder of a run."""

POLICY = "default-src 'none';style-src 'unsafe-inline';img-src data:"
"""The page may ask for nothing, and run nothing."""

BESIDE = {
    "rewards/accuracies": ("rewards/chosen", "rewards/rejected"),
    "reward": ("completions/clipped_ratio", "frac_reward_zero_std"),
}
"""Curves that are drawn too where a stage shows another."""

ROWS = 20
"""Rows of the table of values."""


def _e(value: object) -> str:
    return escape(str(value), quote=True)


@dataclass(frozen=True)
class _Page:
    run: PastRun
    language: str

    def word(self, key: str, *values: object) -> str:
        """A word, escaped with what is put in."""
        return _e(word_of(self.language, key, *values))

    def keys(self) -> list[str]:
        """The curves of the stage that have points, the one that counts first."""
        shows = self.run.state.plan.stage.shows
        more = [key for shown in shows for key in BESIDE.get(shown, ())]
        wanted = dict.fromkeys((*shows, "loss", *more, RATE, NORM, MEMORY, SPEED))
        return [key for key in wanted if self.run.logged.of(key)]

    # --- the answer

    def lede(self) -> str:
        """One sentence or two: how it ended, after how long, and what it came to."""
        run, result = self.run, self.run.result
        told = [self.word(run.status, duration(run.seconds))]
        if run.verdict and run.verdict.why:
            told.append(_e(f"{run.verdict.ending.value}: {run.verdict.why}."))
        elif result:
            title = self.word(result.key) if result.key in WORDS else _e(result.key)
            first = f"{digits_of(result.first)} → " if result.first is not None else ""
            told.append(self.word("result", "{}", "{}").format(title, first + digits_of(result.value)))
        return f"<p class=lede>{' '.join(told)}</p>"

    def figures(self) -> str:
        """The four numbers below it."""
        run, items = self.run, []
        for key in self.keys()[:2]:
            curve = list(drawn(key, run.logged.of(key)).values())
            first = self.word("was", digits_of(curve[0])) if len(curve) > 1 else ""
            items.append((self.word(key), digits_of(curve[-1]), first))
        items.append((self.word("time"), duration(run.seconds), self.word("in attempts", len(run.state.attempts))))
        if run.memory_gib:
            said = self.word("said", f"{run.memory_said:.1f}") if run.memory_said else ""
            items.append((self.word("memory"), f"{run.memory_gib:.1f} GiB", said))
        elif run.rows.dropped:
            last = run.rows.dropped[0]
            items.append((self.word("rows"), f"{last.kept:,}", self.word("of", f"{last.origin:,}")))
        cells = (f"<div><dt>{a}</dt><dd class=v>{_e(b)}</dd><dd class=n>{c}</dd></div>" for a, b, c in items)
        return f"<dl class=key>{''.join(cells)}</dl>"

    def worth_a_look(self) -> str:
        """What went otherwise than one would like."""
        run = self.run
        found = [
            self.word("oom", attempt.number, attempt.last_step, attempt.next_step or "–")
            for attempt in self.out_of_memory()
        ]
        found += [_e(line) for line in run.rows.lines()]
        found += [_e(run.error)] if run.error else []
        found += [_e(run.verdict.hint)] if run.verdict and run.verdict.hint else []
        for key, steps in run.logged.odd.items():
            if key in WORDS:
                found.append(self.word("not a number", word_of(self.language, key), len(steps), min(steps)))
        if run.status == DONE and not any(key.startswith("eval_") for key in run.logged.series):
            found.append(self.word("no evaluation"))
        return "".join(("<ul class=look>", *(f"<li>{line}</li>" for line in found), "</ul>")) if found else ""

    def out_of_memory(self) -> list[Attempt]:
        """The attempts that ended for want of memory."""
        return [attempt for attempt in self.run.state.attempts if attempt.outcome in MEMORY_OUTCOMES]

    # --- curves

    def curves(self) -> str:
        """Every curve, and their values as a table."""
        keys, logged = self.keys(), self.run.logged
        if not keys:
            return f"<p class=none>{self.word('no curve')}</p>"
        last = max(logged.step, logged.total if self.run.alive else 0, 1)
        marks = tuple(
            (attempt.last_step, word_of(self.language, "attempt", attempt.number) + " · " + attempt.outcome)
            for attempt in self.out_of_memory()
        )
        drawn_all = []
        for at, key in enumerate(keys):
            points, title = logged.of(key), word_of(self.language, key)
            values = list(drawn(key, points).values())
            about = word_of(self.language, "curve", title, digits_of(values[0]), digits_of(values[-1]))
            figure = Figure(
                key, title, points, last, logged.of(f"eval_{key}"), marks if at == 0 else (), self.repeated(),
                word_of(self.language, "step"),
            )  # fmt: skip
            drawn_all.append(figure.svg(about, big=at == 0))
        note = f"<p class=note>{self.word('smooth')}</p>"
        return f"<div class=figs>{''.join(drawn_all)}</div>{note}{self.values(keys)}"

    def repeated(self) -> tuple[tuple[int, int], ...]:
        """The steps that were trained twice, because an attempt went on from a checkpoint before them."""
        found = []
        for before, after in zip(self.run.state.attempts, self.run.state.attempts[1:], strict=False):
            digits = (after.resumed_from or "-0").rpartition("-")[2]
            begin = int(digits) if digits.isdecimal() else before.last_step
            if begin < before.last_step:
                found.append((begin, before.last_step))
        return tuple(found)

    def values(self, keys: Sequence[str]) -> str:
        """What was logged, as a table for those who cannot see curves; twenty steps where there are more."""
        series = {key: self.run.logged.of(key) for key in keys}
        evaluated = {key: self.run.logged.of(key) for key in self.run.logged.series if key == "eval_loss"}
        steps = sorted({step for points in (*series.values(), *evaluated.values()) for step in points})
        some = sorted({steps[round(at * (len(steps) - 1) / (ROWS - 1))] for at in range(ROWS)})
        head = [self.word("step"), *map(self.word, keys), *(self.word("eval") for _ in evaluated)]
        rows = [
            [f"{step:,}", *(digits_of(points[step]) if step in points else "–" for points in all_of(series, evaluated))]
            for step in some
        ]
        more = f"<p class=note>{self.word('thinned', len(steps))}</p>" if len(steps) > len(some) else ""
        return self.details(self.word("values"), _table(head, rows, numbers=True) + more)

    # --- why

    def why(self) -> str:
        """The attempts, what was changed on the way, and the settings that were decided."""
        plan = self.run.state.plan
        rows = []
        for attempt in self.run.state.attempts:
            onward = f" · {self.word('from', attempt.resumed_from)}" if attempt.resumed_from else ""
            size = f"{attempt.micro_batch} × {attempt.accumulation}"
            ended = self.word("at step", attempt.outcome, attempt.last_step)
            kind = " class=warn" if attempt in self.out_of_memory() else ""
            told = "".join(f"<br>{_e(line)}" for line in (attempt.next_step, attempt.evidence) if line)
            head = f"{self.word('attempt', attempt.number)} · {size}{onward}"
            rows.append(f"<li>{head} · <span{kind}>{ended}</span> · {_e(duration(attempt.seconds))}{told}</li>")
        attempts = f"<h3>{self.word('attempts')}</h3><ul>{''.join(rows)}</ul>" if rows else ""
        changed = "".join(f"<li>{_e(line)}</li>" for line in (*plan.changed_lines(), *plan.warnings))
        changes = f"<h3>{self.word('changed')}</h3><ul>{changed}</ul>" if changed else ""
        return attempts + changes + self.details(self.word("settings"), self.settings(), opened=True)

    def settings(self) -> str:
        """Every setting with its source and reason."""
        rows = "".join(
            f"<tr><th scope=row>{_e(flag)}</th><td class=val>{_e(text(row.value))}</td>"
            f"<td><span class=soft>{_e(row.source)}</span>{' · ' if row.why else ''}{_e(row.why)}</td></tr>"
            for flag, row in self.run.state.plan.settings.items()
        )
        head = "".join(f"<th scope=col>{self.word(key)}</th>" for key in ("setting", "value", "source"))
        return f"<table class=why><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    # --- everything

    def everything(self) -> str:
        """Data, environment, and the command."""
        run, plan = self.run, self.run.state.plan
        data = [[_e(name), _e(digest)] for name, digest in data_of(run).items()] + [
            ["", _e(line)] for line in run.rows.lines()
        ]
        gpus, rate = plan.hardware.gpus, tokens_per_second(run)
        where = [
            ["tunekit", _e(tunekit.__version__)],
            ["ms-swift", _e(plan.engine)],
            [self.word("device"), _e(f"{len(gpus)} × {gpus[0].name}" if gpus else "CPU")],
            [self.word("preset"), _e(", ".join((plan.preset, *plan.overlays)))],
            [self.word("batch"), f"{plan.batch.micro} × {plan.batch.accumulation} × {plan.batch.data_parallel}"],
            *([["tokens/s", f"{rate:,.0f}"]] if rate else []),
        ]
        script = ""
        with contextlib.suppress(OSError, ValueError):
            script = (run.folder.path / "command.sh").read_text(encoding="utf-8").strip()
        command = (
            self.details(self.word("reproduce"), f"<pre tabindex=0>{_e(script)}</pre>", opened=True) if script else ""
        )
        return (
            self.details(self.word("data"), _table([], data))
            + self.details(self.word("environment"), _table([], where))
            + command
        )

    def commands(self) -> str:
        """What can be done with it next."""
        word = shlex.quote(self.run.name)
        if self.run.status != DONE:
            return f"<p><b>{self.word('resume')}</b> <code>tunekit resume {_e(word)}</code></p>"
        names = dict.fromkeys([*(line.command for line in suggested(self.run.state.plan)), "export", "serve"])
        lines = ((self.word(name), f"tunekit {name} {word}") for name in names if name in WORDS)
        return _table([], [[title, f"<code>{_e(line)}</code>"] for title, line in lines])

    def details(self, title: str, body: str, *, opened: bool = False) -> str:
        """A part that is folded away."""
        return f"<details{' open' if opened else ''}><summary>{title}</summary><div class=scroll>{body}</div></details>"

    def parts(self) -> Iterator[tuple[str, str]]:
        """The sections, by the key of their title."""
        yield "curves", self.curves()
        yield "why", self.why()
        yield "commands", self.commands()
        yield "everything", self.everything()


def all_of(*groups: Mapping[str, Mapping[int, float]]) -> Iterator[Mapping[int, float]]:
    """The curves of several groups, one after the other."""
    for group in groups:
        yield from group.values()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """A table of cells that are HTML already."""
    kind = " class=num" if numbers else ""
    heads = "".join(f"<th scope=col{kind}>{cell}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td{kind}>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{f'<thead><tr>{heads}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"


def page_of(run: PastRun, language: str = LANGUAGES[0]) -> str:
    """The page of a run in a language, ``en`` or ``zh``."""
    page, plan = _Page(run, language), run.state.plan
    tuner = " ".join((str(plan.get("tuner_type") or ""), f"r{plan.get('lora_rank')}" if plan.get("lora_rank") else ""))
    data = ", ".join(PurePath(name).name for name in plan.words("dataset"))
    device = f"{len(plan.hardware.gpus)} × {plan.hardware.gpus[0].name}" if plan.hardware.gpus else "CPU"
    about = page.word("learned", PurePath(plan.model.id).name, data, tuner.strip(), device)
    parts = list(page.parts())
    links = "".join(f'<a href="#{key}">{page.word(key)}</a>' for key, _ in parts)
    body = "".join(f'<section><h2 id="{key}">{page.word(key)}</h2>{html}</section>' for key, html in parts)
    style = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    head = (
        f'<!doctype html><html lang="{"zh-CN" if language == "zh" else "en"}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<link rel="icon" href="data:,"><title>{_e(run.name)} · tunekit</title><style>{style}</style></head><body>'
    )
    when = run.state.created.replace("T", " ").replace("Z", " UTC")
    top = f"<header><p class=small>{_e(plan.stage.name)} · {_e(when)}</p><h1>{_e(run.name)}</h1>"
    answer = page.lede() + page.figures() + page.worth_a_look()
    foot = page.word("written", tunekit.__version__, plan.engine)
    return (
        f"{head}{top}<p class=soft>{about}</p></header><main>{answer}"
        f'<nav aria-label="{page.word("sections")}">{links}</nav>{body}</main><footer>{foot}</footer></body></html>\n'
    )


def write_page(run: PastRun, out: Path | None = None, language: str = LANGUAGES[0]) -> Path:
    """Write the page of a run, into its folder where no file is named; where it is. Raises TunekitError."""
    path = out or run.folder.path / REPORT
    try:
        write_atomically(path, page_of(run, language))
    except OSError as error:
        raise TunekitError(f"{path} cannot be written: {error.strerror}") from error
    return path


def page_at_the_end(folder: Path) -> Path | None:
    """Write the page of a run that has just ended; None where that cannot be: a run has not failed for want of it."""
    try:
        return write_page(past_run(str(folder)))
    except (TunekitError, OSError, ValueError):
        return None
