"""The planner of the board: a form, and what would come of it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from tunekit.cli.show.duration import roughly
from tunekit.cli.show.page_html import copied_block, folded_part, safe
from tunekit.cli.show.page_memory import memory_bar, memory_table
from tunekit.cli.show.page_words import time_in_language
from tunekit.hardware import CARDS
from tunekit.memory.search import FITS, NOT, levers
from tunekit.plan.schedule import steps_in_words
from tunekit.runs.script import command_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tunekit.cli.board_plan import Planned, PlannerForm
    from tunekit.cli.show.board import Frame
    from tunekit.errors import TunekitError
    from tunekit.runs.folder import Run

LENGTHS = (512, 1024, 2048, 3072, 4096, 8192, 16384, 32768)

MOST_MICRO, MOST_COUNT = 512, 64


def planner_page(
    frame: Frame, fields: Mapping[str, str], lists: Mapping[str, Sequence[str]], answer: Sequence[tuple[str, str]]
) -> str:
    """The form as it was sent, and the answer's sections by key. `lists` has the stages, models, presets, datasets."""
    sections = "".join(f'<section data-k="{key}">{html}</section>' for key, html in answer)
    body = (
        f"<h1>{frame.word('planner')}</h1><p class=soft>{frame.word('would fit')}</p>"
        f'<div class=plan><form action="/plan" id=planner>{_form(frame, fields, lists)}</form>'
        f"<div class=out data-live=answer>{sections}</div></div>"
    )
    return frame.page(frame.word("planner"), body)


def _form(frame: Frame, fields: Mapping[str, str], lists: Mapping[str, Sequence[str]]) -> str:
    cards: dict[str, str] = {}
    for card, (name, gigabytes, _) in sorted(CARDS.items(), key=lambda row: (row[1][1], row[1][0])):
        cards.setdefault(f"{name} · {gigabytes:g} GB", card)
    choices = [("", frame.word("this machine")), *((card, label) for label, card in cards.items())]
    tuners = {"": frame.word("as preset"), "lora": "LoRA", "qlora": "QLoRA", "full": frame.word("full")}
    segments = "".join(
        f'<label><input type=radio name=tuner value="{tuner}"{" checked" if fields["tuner"] == tuner else ""}>'
        f"<span>{title}</span></label>"
        for tuner, title in tuners.items()
    )
    presets = [("", frame.word("solved")), *((name, safe(name)) for name in lists["presets"])]
    return "".join(
        (
            _choice(frame, "stage", "stage", fields, [(stage, stage) for stage in lists["stages"]]),
            _typed(frame, "model", "base model", fields, lists["models"]),
            _typed(frame, "dataset", "dataset", fields, lists["datasets"], frame.word("dataset hint")),
            _choice(frame, "card", "card", fields, choices),
            _number(frame, "count", "count", fields, MOST_COUNT, ""),
            f"<fieldset><legend>{frame.word('tuner')}</legend><div class=seg>{segments}</div></fieldset>",
            _choice(frame, "preset", "plan preset", fields, presets),
            _number(frame, "length", "length", fields, 10**7, frame.word("preset's own"), LENGTHS),
            _number(frame, "micro", "micro", fields, MOST_MICRO, frame.word("preset's own")),
            f"<button class=btn id=send>{frame.word('plan it')}</button>",
        )
    )


def _choice(frame: Frame, name: str, title: str, fields: Mapping[str, str], options: Iterable[tuple[str, str]]) -> str:
    """A choice of values, each with a label that is HTML already."""
    shown = "".join(
        f'<option value="{safe(value)}"{" selected" if value == fields[name] else ""}>{label}</option>'
        for value, label in options
    )
    return f"<label class=f><span>{frame.word(title)}</span><select name={name}>{shown}</select></label>"


def _typed(frame: Frame, name: str, title: str, fields: Mapping[str, str], known: Sequence[str], hint: str = "") -> str:
    listed = "".join(f'<option value="{safe(word)}"></option>' for word in known)
    return (
        f'<label class=f><span>{frame.word(title)}</span><input name={name} value="{safe(fields[name])}" '
        f'list="known-{name}" autocomplete=off spellcheck=false placeholder="{hint}"></label>'
        f'<datalist id="known-{name}">{listed}</datalist>'
    )


def _number(
    frame: Frame, name: str, title: str, fields: Mapping[str, str], most: int, hint: str, known: Sequence[int] = ()
) -> str:
    listed = "".join(f'<option value="{number}"></option>' for number in known)
    listed = f'<datalist id="known-{name}">{listed}</datalist>' if listed else ""
    return (
        f"<label class=f><span>{frame.word(title)}</span><input type=number name={name} min=1 max={most} step=1 "
        f'value="{safe(fields[name])}" placeholder="{hint}"{f" list=known-{name}" if listed else ""}></label>{listed}'
    )


def planner_answer(frame: Frame, asked: PlannerForm, made: Planned) -> list[tuple[str, str]]:
    """What a plan comes to, in sections: the verdict, parts, what helps, time, commands, notes."""
    run, error = made.run, made.error
    if run is None or made.document is None:
        said = [error.message, error.hint or ""] if error else []
        told = "".join(f"<p>{safe(line)}</p>" for line in said if line)
        return [("verdict", f"<p class=verdict><b class=warn>{frame.word('cannot plan')}</b></p>{told}")]
    command = copied_block(asked.command, frame.word("command"))
    return [
        ("verdict", _verdict(frame, run)),
        ("parts", _parts(frame, run, error)),
        ("helps", _helps(frame, asked.fields, run)),
        ("time", _time(frame, run)),
        ("command", f"<h2>{frame.word('command')}</h2>{command}"),
        ("swift", _swift(frame, run)),
        ("notes", _notes(frame, run, made.missing)),
    ]


def _verdict(frame: Frame, run: Run) -> str:
    """The one sentence, and the bar."""
    peak = run.plan.peak
    if peak is None:
        return f"<p class=verdict><b>{frame.word('no memory told')}</b></p>"
    needs, card = f"{peak.prediction.process_gib:.1f}", f"{peak.card_gib:.1f}"
    kind = " class=warn" if peak.verdict == NOT else ""
    told = frame.word(peak.verdict, needs, card)
    time = run.duration
    about = ""
    if time:
        about = f" {frame.word('about', *(_told(frame, value) for value in (time.seconds, *time.bounds)))}."
    bar = memory_bar(peak.prediction, run.plan.hardware.gpus[0].name, peak.card_gib, frame.language, told)
    return f"<p class=verdict><b{kind}>{told}</b>{about}</p>{bar}"


def _told(frame: Frame, seconds: float) -> str:
    """A time that is not broken at the end of a line."""
    return time_in_language(frame.language, roughly(seconds)).replace(" ", "\u00a0")


def _parts(frame: Frame, run: Run, error: TunekitError | None) -> str:
    batch, peak = run.plan.batch, run.plan.peak
    told = frame.word("equation", batch.micro, batch.accumulation, batch.data_parallel, batch.effective)
    if peak is None:
        return f"<p>{told}</p>"
    most = frame.word("most", peak.largest_micro_batch) if peak.largest_micro_batch else frame.word("most none")
    hint = f" {safe(error.hint)}." if error and error.hint else ""
    table = memory_table(peak.prediction, frame.language)
    return f"<p>{told} {most}{hint}</p><h2>{frame.word('by parts')}</h2>{table}"


CHANGED_FIELDS = {
    "QLoRA (4-bit weights)": {"tuner": "qlora"},
    "LoRA instead of full": {"tuner": "lora"},
    "micro-batch 1": {"micro": "1"},
}
"""What helps and is a field of the form, by its name in `tunekit.memory.search.CHANGES`."""


def _helps(frame: Frame, fields: Mapping[str, str], run: Run) -> str:
    """What would take less, where it does not fit; a link where the form can be set so."""
    peak = run.plan.peak
    if peak is None or peak.verdict == FITS:
        return ""
    rows = []
    for lever in levers(peak.spec):
        changed = CHANGED_FIELDS.get(lever.name)
        link = safe(f"/plan?{urlencode({**fields, **changed})}") if changed else ""
        name = f'<a href="{link}">{safe(lever.name)}</a>' if link else safe(lever.name)
        fits = " ✓" if lever.needs_gib <= peak.card_gib else ""
        needs = frame.word("then needs", f"{lever.needs_gib:.1f}")
        rows.append(f"<li>{name}<span class=soft>{needs}{fits}</span></li>")
    return f"<h2>{frame.word('helps')}</h2><ul class=lever>{''.join(rows)}</ul>"


def _time(frame: Frame, run: Run) -> str:
    time, told = run.duration, ""
    if time:
        told = f"<p>{frame.word('about', *(_told(frame, value) for value in (time.seconds, *time.bounds)))}</p>"
    else:
        told = f"<p class=soft>{safe(run.untold) or frame.word('time unknown')}</p>"
    steps = f"<p class=small>{safe(steps_in_words(run.plan, run.schedule))}</p>" if run.schedule else ""
    return f"<h2>{frame.word('plan time')}</h2>{told}{steps}"


def _swift(frame: Frame, run: Run) -> str:
    """The command of ms-swift, as the dry run prints it."""
    title = frame.word("swift command")
    return folded_part(title, copied_block(command_for(run).shell(), title), key="swift")


def _notes(frame: Frame, run: Run, missing: Sequence[str]) -> str:
    items = "".join(f"<li class=bad>{safe(line)}</li>" for line in missing)
    items += "".join(f"<li>{safe(line)}</li>" for line in (*run.plan.changed_lines(), *run.plan.warnings))
    return f"<h2>{frame.word('notes')}</h2><ul class=look>{items}</ul>" if items else ""
