"""What a run will take of a GPU, before one is touched: the prediction that ``tunekit fit`` shows."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from tunekit.console import say
from tunekit.data import lengths
from tunekit.data.lengths import Unmeasured
from tunekit.errors import Exit, TunekitError, did_you_mean
from tunekit.files import parse_json, read_text
from tunekit.hardware import GIB_PER_GB
from tunekit.memory.estimate import estimate
from tunekit.memory.search import FITS, levers, verdict
from tunekit.memory.spec import Spec, Unknown
from tunekit.memory.trace.client import LIMIT, estimate_or_trace, trace, trace_worker
from tunekit.plan.beside import names_beside
from tunekit.plan.configuration import BATCH_FLAGS
from tunekit.plan.counted import uncounted_notes
from tunekit.plan.measured import question_of, rows_in_words, rows_measured
from tunekit.plan.models.find import resolve
from tunekit.plan.pace import work_of
from tunekit.plan.pasted import in_todays_names
from tunekit.plan.predict import corrected, largest_that_fits, spec_of
from tunekit.plan.request import read_request
from tunekit.plan.said import Said, Words, whole_taken
from tunekit.plan.schedule import schedule_of
from tunekit.runs.data import schedule_for
from tunekit.runs.fetch import find_config
from tunekit.runs.preflight import check_data
from tunekit.runs.prepare import gather_facts, look_around, prepare, time_of
from tunekit.runs.where import Counted, places_for
from tunekit.speed.cards import Untold, rates_of
from tunekit.speed.duration import ROUGHLY
from tunekit.speed.estimate import step_time
from tunekit.stages import STAGES, USUAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tunekit.memory.search import Lever
    from tunekit.memory.spec import Prediction
    from tunekit.plan.measured import Measured
    from tunekit.plan.plan import Plan
    from tunekit.plan.planner import Facts
    from tunekit.plan.request import Request
    from tunekit.plan.schedule import Schedule
    from tunekit.runs.where import Places
    from tunekit.speed.duration import Duration

CLASSES = (16, 24, 32, 40, 48, 80, 96, 141, 192)
"""GPU memory in GB as sold, for `Forecast.what_if`."""


@dataclass(frozen=True)
class Forecast:
    """A configuration and what it takes.

    Attributes:
        spec: what one GPU computes.
        by_trace: whether the model's own code is followed, where that can be done, within `limit` seconds.
        rows: of the dataset, where they were measured.
        typed_share: of the tokens, those that carry loss, as given by hand; 0 to 1.
        notes: for people, what was measured of the rows, or why they were not.
        duration: of the run, None where there is no dataset or it cannot be told: then `untold` says why.
    """

    plan: Plan
    spec: Spec
    by_trace: bool = False
    limit: float = LIMIT
    rows: Measured | None = None
    typed_share: float | None = None
    notes: tuple[str, ...] = ()
    duration: Duration | None = None
    untold: str = ""

    @property
    def card_gib(self) -> float:
        """What the GPU has, without vLLM's share. Raises TunekitError without one."""
        if not self.plan.hardware.gpu_gib:
            raise TunekitError("there is no GPU here to fit on", "name one: --gpus 24GB, --gpus H100")
        return self.plan.hardware.gpu_gib * (1 - self.plan.vllm_share)

    @cached_property
    def prediction(self) -> Prediction:
        """The peak: by the trace if asked for and possible, else by the plan's own estimate. Raises Unknown."""
        if not self.by_trace:
            found = estimate_or_trace(self.spec, partial(trace, time_limit=self.limit))
            return corrected(found, self.plan.memory_correction)
        try:
            return trace(self.spec, self.limit)
        except Unknown as error:
            found, note = estimate(self.spec), f"the trace cannot tell ({error.message}): this is the estimate"
            return replace(found, notes=(note, *found.notes))

    @property
    def verdict(self) -> str:
        """``fits``, ``tight`` or ``does not fit``."""
        return verdict(self.prediction, self.card_gib)

    @cached_property
    def largest_micro_batch(self) -> int:
        """The largest that fits the card with room to spare, 0 where not even one row does: as the plan finds it.

        Where only the trace can tell, it is not looked for: the one that is asked, if it fits.
        """
        try:
            return largest_that_fits(self.spec, self.card_gib, self.plan.memory_correction)
        except Unknown:
            return self.spec.micro_batch if self.verdict == FITS else 0

    @property
    def planned(self) -> str:
        """Why a plan that was solved takes another micro-batch than the largest that fits; empty where it does not."""
        micro = self.plan.settings[BATCH_FLAGS[0]]
        return micro.why if micro.source.kind == "memory" and micro.value != self.largest_micro_batch else ""

    @cached_property
    def levers(self) -> list[Lever]:
        """What would help, the largest saving first; nothing where it fits, or where only the trace can tell."""
        try:
            return levers(self.spec) if self.verdict != FITS else []
        except Unknown:
            return []

    @property
    def smallest_gpu(self) -> int | None:
        """The smallest common GPU that holds it as it is, in GB as sold; None where none does."""
        return next((size for size in CLASSES if verdict(self.prediction, size * GIB_PER_GB) == FITS), None)

    @property
    def loss_share(self) -> float:
        """Of the tokens, those that are counted as carrying loss."""
        return self.spec.loss_share

    @property
    def assumed(self) -> bool:
        """Whether that share is neither measured nor typed."""
        return self.typed_share is None and not (self.rows and self.rows.heaviest_share)

    def alternatives(self) -> Iterator[tuple[str, Prediction, str]]:
        """The configuration and what would take less, by the same method: name, prediction and verdict of each."""
        yield "as asked", self.prediction, self.verdict
        seen = [self.spec]
        traced = self.prediction.method == "trace"
        with trace_worker() as worker:
            for lever in sorted(levers(self.spec), key=lambda lever: -lever.needs_gib):
                if lever.spec in seen:
                    continue  # half of micro-batch 2 is micro-batch 1
                seen.append(lever.spec)
                name = lever.name
                try:
                    found = trace(lever.spec, self.limit, worker=worker) if traced else estimate(lever.spec)
                except Unknown:
                    name, found = f"{name}, estimated", estimate(lever.spec)
                yield name, found, verdict(found, self.card_gib)

    def what_if(self) -> dict[int, dict[str, int]]:
        """The largest micro-batch for each size of GPU in GB, by tuner with and without Liger."""
        kinds = {}
        for tuner, bits in (("lora", None), ("qlora", 4), ("full", None)):
            for liger, name in ((False, tuner), (True, f"{tuner} + Liger")):
                kinds[name] = replace(self.spec, tuner=tuner, quant_bits=bits, liger=liger)
        return {
            size: {name: largest_that_fits(spec, size * GIB_PER_GB) for name, spec in kinds.items()} for size in CLASSES
        }

    def document(self) -> dict[str, Any]:
        """All of it as plain data."""
        helps = [{"name": item.name, "saves_gib": item.saves_gib, "needs_gib": item.needs_gib} for item in self.levers]
        return {
            **asdict(self.prediction),
            "notes": [*self.notes, *self.prediction.notes],
            "card_gib": self.card_gib,
            "verdict": self.verdict,
            "micro_batch": self.spec.micro_batch,
            "largest_micro_batch": self.largest_micro_batch,
            "planned": self.planned,
            "loss_share": self.loss_share,
            "seq_len": self.spec.seq_len,
            "data": _data(self.rows) if self.rows else None,
            "time": self.duration.document() if self.duration else None,
            "no_time": self.untold or None,
            "pace": pace_of(self.spec, self.plan.hardware.gpus[0].name),
            "levers": helps,
            "smallest_gpu_gb": self.smallest_gpu,
        }


def _data(rows: Measured) -> dict[str, Any]:
    found = rows.lengths
    return {
        "rows": found.total,
        "measured": len(found.rows),
        "loss_share": rows.loss_share,
        "heaviest_share": rows.heaviest_share,
        "longest": found.longest,
        "mean": found.mean,
        "median": found.median,
        "p95": found.p95,
        "over_max_length": rows.over,
        "samples_per_row": rows.samples_per_row,
        "unusable": found.unusable,
    }


def trace_limit(words: Words) -> float:
    """The seconds that a trace may take. Raises TunekitError for a number below 1."""
    found = whole_taken(words.said["trace_limit"]) if "trace_limit" in words.said else LIMIT
    if found < 1:
        raise TunekitError(f"--trace-limit takes seconds, 1 or more, not {found}")
    return found


def forecast(words: Words, *, by_trace: bool = False) -> Forecast:
    """What the configuration of some words takes. Raises TunekitError where it, its model or its data will not do."""
    share, limit = _typed_share(words), trace_limit(words)
    request, facts = _asked(words)
    plan = prepare(request, facts).plan
    config = find_config(plan.model)
    for name in names_beside(plan):
        with contextlib.suppress(TunekitError):  # what stays unknown is named in a note
            find_config(resolve(name, use_hf=plan.flag("use_hf")))
    rows, notes = _rows(plan)
    counted = share if share is not None or rows is None else rows.heaviest_share or None
    spec = spec_of(plan, config, counted, rows.seq_len if rows else None, rows.samples_per_row if rows else 1.0)
    spec.check()
    schedule = _schedule(plan, rows)
    duration, untold = time_of(plan, schedule, rows, request.prices) if schedule else (None, "")
    notes += uncounted_notes(plan, facts.flags)
    return Forecast(plan, spec, by_trace, limit, rows, share, tuple(notes), duration, untold)


def places(words: Words) -> tuple[Plan, Places]:
    """Every card on which the run of some words fits, and how long it takes there. Raises TunekitError."""
    request, facts = _asked(words)
    plan = prepare(request, facts).plan
    find_config(plan.model)
    rows, notes = _rows(plan)
    for note in notes:
        say(note)
    schedule = _schedule(plan, rows)
    if schedule is None:
        raise TunekitError("fit --where needs a --dataset whose rows can be counted", "a file of JSON lines here")
    return plan, places_for(request, facts, Counted(plan.batch.effective, schedule, rows))


def _schedule(plan: Plan, rows: Measured | None) -> Schedule | None:
    if rows is None:
        return schedule_for(plan) if plan.get("dataset") else None
    return schedule_of(plan, rows.lengths.total, held=rows.samples_per_row if plan.packed else None)


def _asked(words: Words) -> tuple[Request, Facts]:
    around = look_around()
    words = in_todays_names(words, around.flags)
    name = " ".join(words.said["stage"].words) if "stage" in words.said else USUAL
    if name not in STAGES:
        raise TunekitError(f"--stage takes {', '.join(STAGES)}, not {name}", did_you_mean(name, STAGES))
    stage = STAGES[name]
    stand_ins = {flag: Said(flag, word) for flag, word in stage.stand_ins.items()}
    words = replace(words, said={**stand_ins, **words.said})
    request = read_request(stage, words, around.others, around.flags)
    return request, gather_facts(request, around)


def _typed_share(words: Words) -> float | None:
    if "loss_percent" not in words.said:
        return None
    percent = whole_taken(words.said["loss_percent"])
    if not 0 <= percent <= 100:
        raise TunekitError(f"--loss-percent takes 0 to 100, not {percent}")
    return percent / 100


def _rows(plan: Plan) -> tuple[Measured | None, list[str]]:
    """The rows of a plan's dataset, measured where that can be done here; else why not."""
    if not plan.get("dataset"):
        return None, []
    check_data(plan)
    try:
        question = question_of(plan)
        if sys.stderr.isatty() and lengths.measured_before(question) is None:
            say("tokenizing a sample of the dataset …")
        rows = rows_measured(plan, lengths.measure_rows(question))
        return rows, rows_in_words(rows)
    except Unmeasured as error:
        return None, [f"the dataset was not measured: {error.message}"]


def pace_of(spec: Spec, card: str) -> dict[str, Any]:
    """Tokens a second of one GPU, padding included, with the least and the most; else why they are not told."""
    try:
        found = step_time(work_of(spec), rates_of(card)).tokens_per_second
    except (Unknown, Untold) as error:
        return {"tokens_per_second": None, "low": None, "high": None, "no_time": error.message}
    fast, slow = ROUGHLY
    return {"tokens_per_second": found, "low": found / slow, "high": found / fast}


def answers_of(path: Path, limit: float = LIMIT) -> Iterator[dict[str, Any]]:
    """The prediction, or ``error``, for each configuration in a file of JSON lines. Raises TunekitError without it.

    A trace may take `limit` seconds; one worker answers all.
    """
    try:
        lines = read_text(path).split("\n")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", "") or error
        raise TunekitError(f"{path} cannot be read: {why}", code=Exit.DATA) from error
    with trace_worker() as worker:  # no process before the first question
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _answer(line, number, partial(trace, time_limit=limit, worker=worker))


def _answer(line: str, number: int, traced: Callable[[Spec], Prediction]) -> dict[str, Any]:
    try:
        spec = Spec.from_json(parse_json(line))
        found = traced(spec) if spec.method == "trace" else estimate_or_trace(spec, traced)
        return {**asdict(found), **(pace_of(spec, spec.card) if spec.card else {})}
    except ValueError as error:
        return {"error": f"line {number}: not JSON: {error}"}
    except TunekitError as error:
        return {"error": f"line {number}: {error.message}"}
