"""What the planner of the board is asked, as words of the command line; and what the same code as a dry run's makes."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunekit.cli.show.plan import plan_document
from tunekit.cli.words import read_words
from tunekit.errors import TunekitError
from tunekit.plan.options import TRAIN, TUNERS
from tunekit.runs.preflight import problems_of
from tunekit.runs.prepare import gather_facts, look_around, prepare, request_of, too_large
from tunekit.stages import STAGES, USUAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.runs.folder import Run

FIELDS = ("stage", "model", "dataset", "preset", "tuner", "length", "micro", "card", "count")
"""Of the form, in the order of the command."""

FIRST_MODEL = "Qwen2.5-7B"

LONGEST_WORD = 500
"""Characters of a field."""

PLAINLY_ASKED = tuple(
    sorted(
        (name for name, row in STAGES.items() if not row.stand_ins and not row.teacher), key=lambda name: name != USUAL
    )
)
"""Stages that can be planned without a second model or a function of the user's."""


@dataclass(frozen=True)
class PlannerForm:
    """The fields of the form, empty where the preset is to decide; `words` are those of the command line."""

    fields: Mapping[str, str]

    @property
    def stage(self) -> str:
        """Which command is asked for."""
        stage = self.fields.get("stage", "")
        return stage if stage in PLAINLY_ASKED else USUAL

    @property
    def words(self) -> list[str]:
        """As they stand behind ``tunekit STAGE``: ``--flag=value`` where the value begins with a dash."""
        named = {"model": "--model", "dataset": "--dataset", "preset": "--preset"}
        bounds = {"length": "--max-length", "micro": "--micro-batch"}
        found: list[tuple[str, str]] = [(flag, self.fields[name]) for name, flag in named.items() if self.fields[name]]
        tuner = TUNERS.get(self.fields["tuner"], {})
        found += [(f"--{flag}", " ".join(given)) for flag, given in tuner.items()]
        found += [(flag, self.fields[name]) for name, flag in bounds.items() if self.fields[name]]
        card, count = self.fields["card"], self.fields["count"]
        gpus = "x".join(part for part in (count if card and count != "1" else "", card) if part) or count
        found += [("--gpus", gpus)] if gpus else []
        words: list[str] = []
        for flag, value in found:
            words += [f"{flag}={value}"] if value.startswith("-") else [flag, value]
        return words

    @property
    def command(self) -> str:
        """The command to be copied, a flag a line."""
        lines, words = [f"tunekit {self.stage}"], self.words
        while words:
            flag = words.pop(0)
            value = f" {shlex.quote(words.pop(0))}" if words and not words[0].startswith("--") else ""
            lines.append(f"  {flag if value else shlex.quote(flag)}{value}")
        return " \\\n".join(lines)


@dataclass(frozen=True)
class Planned:
    """What came of it: a run and the document of ``--dry-run --json``; `error` where it is refused."""

    run: Run | None = None
    document: Mapping[str, Any] | None = None
    error: TunekitError | None = None

    @property
    def missing(self) -> list[str]:
        """What is not on this machine, so that a start would end at once."""
        return list(self.document["missing"]) if self.document else []


def asked_of(query: Mapping[str, str]) -> PlannerForm:
    """The fields of a form that was sent; those that it does not have are empty, and control signs are left out."""
    plain = {name: "".join(sign for sign in query.get(name, "") if sign.isprintable()).strip() for name in FIELDS}
    return PlannerForm({name: word[:LONGEST_WORD] for name, word in plain.items()})


def first_asked() -> dict[str, str]:
    """What the form holds before anything was chosen: this machine, or a card of 40 GB where it shows no GPU."""
    try:
        here = look_around().machine("", None).gpus
    except TunekitError:  # a variable that cannot be read, which the plan then says
        here = ()
    return {"model": FIRST_MODEL} if here else {"model": FIRST_MODEL, "card": "a100-40gb", "count": "1"}


def planned(asked: PlannerForm) -> Planned:
    """The plan of ``tunekit STAGE … --dry-run`` for the same words; nothing is written or started."""
    run = document = error = None
    try:
        words, _ = read_words(TRAIN, asked.words)
        around = look_around()
        request = request_of(asked.stage, words, around)
        facts = gather_facts(request, around)
        run = prepare(request, facts)
        document = plan_document(run, problems_of(run))
        error = too_large(run, request, facts)
    except TunekitError as refused:
        error = refused
    return Planned(run, document, error)
