"""What a plan makes of its rows: how long they are, what packs and steps they come to, how one of them looks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tunekit.console import say
from tunekit.data import lengths
from tunekit.data.preview import preview_row
from tunekit.data.stats import bins_of, longer_than
from tunekit.errors import TunekitError, did_you_mean
from tunekit.plan.measured import question_of, rows_measured
from tunekit.plan.request import read_request
from tunekit.plan.said import Said, whole_taken
from tunekit.plan.schedule import schedule_of, steps_in_words
from tunekit.runs.preflight import check_data
from tunekit.runs.prepare import gather_facts, look_around, prepare
from tunekit.stages import STAGES, USUAL

if TYPE_CHECKING:
    from tunekit.data.preview import Preview
    from tunekit.data.stats import Bin
    from tunekit.plan.measured import Measured
    from tunekit.plan.plan import Plan
    from tunekit.plan.said import Words
    from tunekit.plan.schedule import Schedule

SAMPLE, SECONDS = 2000, 1800
"""Rows that are measured where nothing else is said, and seconds that this may take."""

ALL = 10**9


@dataclass(frozen=True)
class DatasetStats:
    """The rows of a plan, measured; `steps` of them in words, empty where they are not known before the run."""

    plan: Plan
    rows: Measured
    schedule: Schedule | None
    steps: str

    @property
    def packs(self) -> int | None:
        """Packed rows an epoch; None where rows are not packed."""
        if not self.plan.packed or self.schedule is None:
            return None
        return -(-self.schedule.rows // max(1, round(self.rows.samples_per_row)))

    def bins(self) -> list[Bin]:
        """The sample by length."""
        return bins_of(self.rows.lengths)

    def over(self) -> dict[int, int]:
        """Rows of the sample above each bound."""
        return longer_than(self.rows.lengths, self.rows.max_length)


def measure_dataset(words: Words) -> DatasetStats:
    """The lengths of a dataset's rows. Raises TunekitError where it, its model or its rows will not do."""
    sample = whole_taken(words.said["sample"]) if "sample" in words.said else SAMPLE
    if sample < 0:
        raise TunekitError(f"--sample is a number of rows, or 0 for all, not {sample}")
    plan = _planned(words, "stats")
    check_data(plan)
    question = replace(question_of(plan), sample=sample or ALL, seeing=True)
    if lengths.measured_before(question) is None:
        say("tokenizing the dataset …" if not sample else "tokenizing a sample of the dataset …")
    rows = rows_measured(plan, lengths.measure_rows(question, SECONDS))
    held = rows.samples_per_row if plan.packed else None
    dropped = rows.over if rows.dropped else 0
    kept = round(rows.lengths.total * (1 - (dropped + rows.lengths.unusable) / _measured(rows)))
    schedule = schedule_of(plan, kept, held=held, exact=sample == 0 or _measured(rows) >= rows.lengths.total)
    return DatasetStats(plan, rows, schedule, steps_in_words(plan, schedule) if schedule else "")


def _measured(rows: Measured) -> int:
    return len(rows.lengths.rows) + rows.lengths.unusable


def preview_dataset(words: Words) -> tuple[Plan, Preview]:
    """A row of the first dataset, as its template renders it. Raises TunekitError where that cannot be done."""
    number = whole_taken(words.said["row"]) if "row" in words.said else 1
    plan = _planned(words, "preview")
    return plan, preview_row(question_of(plan), plan.words("dataset")[0], number)


def _planned(words: Words, command: str) -> Plan:
    for name in ("model", "dataset"):
        if name not in words.said:
            what = "--model" if name == "model" else "a file"
            raise TunekitError(f"tunekit data {command} needs {what}", f"tunekit data {command} FILE --model MODEL")
    name = " ".join(words.said["stage"].words) if "stage" in words.said else USUAL
    if name not in STAGES:
        raise TunekitError(f"--stage takes {', '.join(STAGES)}, not {name}", did_you_mean(name, STAGES))
    around = look_around()
    stand_ins = {flag: Said(flag, word) for flag, word in STAGES[name].stand_ins.items()}
    words = replace(words, said={**stand_ins, **words.said})
    request = read_request(STAGES[name], words, around.others, around.flags)
    return prepare(request, gather_facts(request, around)).plan
