"""What the page of a run says, section by section: the report and the board show the same."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import tunekit
from tunekit.cli.show.page_curves import curve_keys, curves_of, outcome_of, title_of
from tunekit.cli.show.page_html import (
    cells_in_table,
    copied_block,
    copied_lines,
    folded_part,
    key_figures,
    safe,
    scrolled,
)
from tunekit.cli.show.page_memory import memory_bar, memory_table
from tunekit.cli.show.page_words import WORDS, time_in_language, word_of
from tunekit.cli.show.screen import duration
from tunekit.engine.after import suggested
from tunekit.plan.settings import text
from tunekit.runs.attempts import MEMORY_OUTCOMES
from tunekit.runs.comparison import data_of, tokens_per_second
from tunekit.runs.curves import digits_of, drawn
from tunekit.runs.history import DONE, RUNNING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tunekit.plan.settings import Setting
    from tunekit.runs.folder import Attempt
    from tunekit.runs.history import PastRun

PLAIN_SOURCES = ("command line", "file", "recipe", "run", "tunekit")
"""Where a setting comes from that nobody has to be told the reason of."""


@dataclass(frozen=True)
class RunPage:
    """A run in a language."""

    run: PastRun
    language: str

    def word(self, key: str, *values: object) -> str:
        """A word, escaped with what is put in."""
        return safe(word_of(self.language, key, *values))

    def long(self, seconds: float) -> str:
        """A time, escaped."""
        return safe(time_in_language(self.language, duration(seconds)))

    # --- the answer

    def header(self) -> str:
        """Stage, date and name, and what learned from what."""
        run, plan = self.run, self.run.state.plan
        tuner = " ".join(
            (str(plan.get("tuner_type") or ""), f"r{plan.get('lora_rank')}" if plan.get("lora_rank") else "")
        )
        data = ", ".join(PurePath(name).name for name in plan.words("dataset")) or "–"
        about = self.word("learned", PurePath(plan.model.id).name, data, tuner.strip(), self.device())
        when = run.state.created.replace("T", " ").replace("Z", " UTC")
        top = f"<p class=small>{safe(plan.stage.name)} · {safe(when)}</p><h1>{safe(run.name)}</h1>"
        return f"{top}<p class=soft>{about}</p>"

    def device(self) -> str:
        """The GPUs in words, not escaped."""
        gpus = self.run.state.plan.hardware.gpus
        return f"{len(gpus)} × {gpus[0].name}" if gpus else "CPU"

    def answer(self) -> str:
        """How it ended and what it came to, its four numbers, what is worth a look, and what to do next."""
        return self.lede() + key_figures(self.figures()) + self.worth_a_look() + self.commands()

    def lede(self) -> str:
        """One sentence or two: how it ended, after how long, and what it came to."""
        run, result = self.run, self.run.result
        told = [self.word(run.status, time_in_language(self.language, duration(run.seconds)))]
        if run.verdict and run.verdict.why:
            told.append(safe(f"{run.verdict.ending.value}: {run.verdict.why}."))
        elif result:
            first = f"{digits_of(result.first)} → " if result.first is not None else ""
            told.append(self.word("result", title_of(self.language, result.key), first + digits_of(result.value)))
        return f"<p class=lede>{' '.join(told)}</p>"

    def figures(self) -> Iterator[tuple[str, str, str]]:
        """The four numbers below it: the end is large, where it began stands before it."""
        run, begun = self.run, self.run.status == RUNNING
        for key in curve_keys(run)[:2]:
            curve = list(drawn(key, run.logged.of(key)).values())
            first = f"<span>{digits_of(curve[0])} → </span>" if len(curve) > 1 else ""
            note = self.word("so far" if begun else "at the end")
            yield safe(title_of(self.language, key)), first + digits_of(curve[-1]), note
        said = run.state.said.get("seconds")
        note = self.word("said", time_in_language(self.language, duration(said))) if said else ""
        attempts = self.word("in attempts", len(run.state.attempts)) if len(run.state.attempts) > 1 else ""
        yield self.word("time"), self.long(run.seconds), " · ".join(filter(None, (note, attempts)))
        if run.memory_gib:
            said_gib = self.word("said", f"{run.memory_said:.1f}") if run.memory_said else ""
            yield self.word("memory"), f"{run.memory_gib:.1f} <span>GiB</span>", said_gib
        elif run.rows.dropped:
            last = run.rows.dropped[0]
            yield self.word("rows"), f"{last.kept:,}", self.word("of", f"{last.origin:,}")

    def worth_a_look(self) -> str:
        """What went otherwise than one would like; what went wrong has another sign."""
        run = self.run
        bad = [
            self.word("oom", attempt.number, attempt.last_step, attempt.next_step or "–")
            for attempt in self.out_of_memory()
        ]
        bad += [safe(run.error)] if run.error else []
        bad += [safe(run.verdict.hint)] if run.verdict and run.verdict.hint else []
        for key, steps in run.logged.odd.items():
            if key in WORDS:
                bad.append(self.word("not a number", word_of(self.language, key), len(steps), min(steps)))
        found = [safe(line) for line in run.rows.lines()]
        if run.status == DONE and not any(key.startswith("eval_") for key in run.logged.series):
            found.append(self.word("no evaluation"))
        items = [f"<li class=bad>{line}</li>" for line in bad] + [f"<li>{line}</li>" for line in found]
        return f"<ul class=look>{''.join(items)}</ul>" if items else ""

    def out_of_memory(self) -> list[Attempt]:
        """The attempts that ended for want of memory."""
        return [attempt for attempt in self.run.state.attempts if attempt.outcome in MEMORY_OUTCOMES]

    def commands(self) -> str:
        """What can be done with it next."""
        name = shlex.quote(self.run.name)
        if self.run.status == RUNNING:
            follow = (self.word("follow"), f"tunekit runs logs -f {name}")
            return copied_lines([follow, (self.word("stop"), f"tunekit runs stop {name}")])
        if self.run.status != DONE:
            return copied_lines([(self.word("resume"), f"tunekit resume {name}")])
        known = dict.fromkeys([*(line.command for line in suggested(self.run.state.plan)), "export", "serve"])
        return copied_lines((self.word(word), f"tunekit {word} {name}") for word in known if word in WORDS)

    # --- why

    def why(self) -> str:
        """The attempts, what was changed on the way, and the settings that were decided."""
        plan = self.run.state.plan
        attempts = f"<h3>{self.word('attempts')}</h3>{self.attempts()}" if self.run.state.attempts else ""
        changed = "".join(f"<li>{safe(line)}</li>" for line in (*plan.changed_lines(), *plan.warnings))
        changes = f"<h3>{self.word('changed')}</h3><ul>{changed}</ul>" if changed else ""
        table, title = "", self.word("decided")
        decided = {flag: row for flag, row in plan.settings.items() if row.why and row.source.kind not in PLAIN_SOURCES}
        if decided:
            table = f"<h3>{title}</h3>{scrolled(title, self.settings(decided))}"
        every = scrolled(self.word("settings"), self.settings(plan.settings))
        every = folded_part(self.word("settings"), every, key="settings")
        return attempts + changes + table + every

    def attempts(self) -> str:
        """How each attempt went, with the steps that it trained as a bar."""
        every, lost = self.run.state.attempts, self.out_of_memory()
        last = max(1, *(attempt.last_step for attempt in every))
        rows = []
        for attempt in every:
            onward = f" · {self.word('from', attempt.resumed_from)}" if attempt.resumed_from else ""
            size = f"{attempt.micro_batch} × {attempt.accumulation}"
            ended = self.word("at step", outcome_of(self.language, attempt.outcome), attempt.last_step)
            warned = " class=warn" if attempt in lost else ""
            told = "".join(f"<small>{safe(line)}</small>" for line in (attempt.next_step, attempt.evidence) if line)
            head = f"<span>{self.word('attempt', attempt.number)} · {size}{onward}</span>"
            head += f"<span{warned}>{ended} · {self.long(attempt.seconds)}</span>"
            digits = (attempt.resumed_from or "-0").rpartition("-")[2]
            begin = 100 * int(digits) / last if digits.isdecimal() else 0.0
            went = f'class="{"lost" if attempt in lost else "went"}" x1="{begin:.1f}%"'
            track = (
                '<svg class="track" aria-hidden="true"><line x1="0" x2="100%" y1="5" y2="5"/>'
                f'<line {went} x2="{100 * attempt.last_step / last:.1f}%" y1="5" y2="5"/></svg>'
            )
            rows.append(f"<li><span class=t>{head}</span>{track if len(every) > 1 else ''}{told}</li>")
        return f"<ul class=att>{''.join(rows)}</ul>"

    def settings(self, shown: Mapping[str, Setting]) -> str:
        """Settings with their source and reason."""
        rows = "".join(
            f"<tr><th scope=row>{safe(flag)}</th><td class=val>{safe(text(row.value))}</td>"
            f"<td><span class=soft>{safe(row.source)}</span>{' · ' if row.why else ''}{safe(row.why)}</td></tr>"
            for flag, row in shown.items()
        )
        head = "".join(f"<th scope=col>{self.word(key)}</th>" for key in ("setting", "value", "source"))
        return f"<table class=why><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    # --- everything

    def memory(self) -> str:
        """What was predicted of the GPU, part by part; empty where nothing was."""
        plan = self.run.state.plan
        peak = plan.peak
        if peak is None:
            return ""
        verdict = word_of(self.language, peak.verdict, f"{peak.prediction.process_gib:.1f}", f"{peak.card_gib:.1f}")
        bar = memory_bar(peak.prediction, plan.hardware.gpus[0].name, peak.card_gib, self.language, verdict)
        return folded_part(self.word("predicted"), bar + memory_table(peak.prediction, self.language), key="memory")

    def everything(self) -> str:
        """Data, environment, and the command."""
        run, plan = self.run, self.run.state.plan
        data = [[safe(name), safe(digest)] for name, digest in data_of(run).items()] + [
            ["", safe(line)] for line in run.rows.lines()
        ]
        rate = tokens_per_second(run)
        where = [
            ["tunekit", safe(tunekit.__version__)],
            ["ms-swift", safe(plan.engine)],
            [self.word("device"), safe(self.device())],
            [self.word("preset"), safe(", ".join((plan.preset, *plan.overlays)))],
            [self.word("batch"), f"{plan.batch.micro} × {plan.batch.accumulation} × {plan.batch.data_parallel}"],
            *([["tokens/s", f"{rate:,.0f}"]] if rate else []),
        ]
        script = ""
        with contextlib.suppress(OSError, ValueError):
            script = (run.folder.path / "command.sh").read_text(encoding="utf-8").strip()
        command = folded_part(self.word("reproduce"), copied_block(script, self.word("reproduce")), key="command")
        title = self.word("environment")
        return (
            (command if script else "")
            + folded_part(self.word("data"), scrolled(self.word("data"), cells_in_table([], data)), key="data")
            + self.memory()
            + folded_part(title, scrolled(title, cells_in_table([], where)), key="environment")
        )

    def parts(self) -> Iterator[tuple[str, str]]:
        """The sections, by the key of their title."""
        yield "curves", curves_of(self.run, self.language)
        yield "why", self.why()
        yield "everything", self.everything()
