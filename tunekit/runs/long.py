"""Rows that are longer than ``--max_length``, by the tokenizer of a model: what a check of a dataset asks."""

from __future__ import annotations

import json
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunekit.data.every_row import PlacedRow, tokens_of_rows
from tunekit.data.findings import LONG, ROW
from tunekit.data.lengths import Unmeasured
from tunekit.plan.measured import question_of
from tunekit.plan.planner import make_plan
from tunekit.plan.said import Said, Words
from tunekit.runs.prepare import gather_facts, look_around, request_of
from tunekit.stages import STAGES, USUAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tunekit.data.survey import DatasetCheck
    from tunekit.plan.plan import Plan

    Watch = Callable[[int, int, int], None]


@dataclass
class LongRows:
    """The rows of a dataset in tokens, in ascending order; none with the reason `why` where they were not counted.

    Attributes:
        unusable: rows that ms-swift leaves out, whatever their length.
        dropped: rows longer than `max_length` are left out; else they are cut.
    """

    tokens: array[int] = field(default_factory=lambda: array("i"))
    over: int = 0
    unusable: int = 0
    max_length: int | None = None
    dropped: bool = True
    why: str = ""

    def below(self, share: float) -> int:
        """The tokens that a share of the rows do not exceed."""
        return self.tokens[max(0, -int(-share * len(self.tokens) // 1) - 1)]

    def document(self) -> dict[str, Any]:
        """As plain data."""
        if not self.tokens:
            return {"unknown": self.why}
        return {
            "max_length": self.max_length,
            "over": self.over,
            "of": len(self.tokens) + self.unusable,
            "then": "dropped" if self.dropped else "cut",
            "unusable": self.unusable,
            "longest": self.tokens[-1],
            "median": self.below(0.5),
            "p95": self.below(0.95),
        }


def long_rows(done: DatasetCheck, model: str, max_length: int | None, watch: Watch = lambda *_: None) -> LongRows:
    """How long the rows of a dataset are for a model; those too long, and those of no use, become findings of it.

    Raises TunekitError where the model or a flag means nothing.
    """
    if STAGES.get(done.stage, STAGES[USUAL]).generates:
        return LongRows(why=f"{done.stage} trains on answers that it makes itself")
    numbers = [number for number, one in enumerate(done.files) if not one.file.problems and not one.file.empty]
    if not numbers:
        return LongRows(why="ms-swift reads none of the files as they stand")
    plan = _planned(done, numbers, model, max_length)
    try:
        question = question_of(plan)
        found = LongRows(max_length=plan.whole("max_length"), dropped=question.max_length is None)
        for row in tokens_of_rows(question, _sound_rows(done, numbers, watch)):
            file = str(done.files[row.file].file.path)
            if not row.tokens:
                found.unusable += 1
                done.files[row.file].bad += 1
                done.findings.add(ROW, f"ms-swift leaves it out{row.why and f': {row.why}'}", file, row.number)
                continue
            found.tokens.append(row.tokens)
            if found.max_length and row.tokens > found.max_length:
                found.over += 1
                what = "drops it" if found.dropped else "cuts it"
                problem = f"longer than --max_length {found.max_length:,}: ms-swift {what}"
                done.findings.add(LONG, problem, file, row.number)
    except Unmeasured as error:
        return LongRows(why=error.message)
    found.tokens = array("i", sorted(found.tokens))
    return found if found.tokens else LongRows(why="ms-swift can use none of the rows")


def _planned(done: DatasetCheck, numbers: list[int], model: str, max_length: int | None) -> Plan:
    words = {"model": (model,), "dataset": tuple(str(done.files[number].file.path) for number in numbers)}
    if max_length is not None:
        words["max_length"] = (str(max_length),)
    if done.stage not in STAGES:
        words["task_type"] = (done.stage,)
    if done.columns:
        words["columns"] = (json.dumps(dict(done.columns)),)
    around = look_around()
    command = done.stage if done.stage in STAGES else USUAL
    request = request_of(command, Words(said={name: Said(name, said) for name, said in words.items()}), around)
    return make_plan(request, gather_facts(request, around))


def _sound_rows(done: DatasetCheck, numbers: list[int], watch: Watch) -> Iterator[PlacedRow]:
    """The rows that a check has nothing against, with their places."""
    seen, total = 0, sum(done.files[number].rows for number in numbers)
    for number in numbers:
        judge, file = done.judge(number), done.files[number].file
        for entry in file.entries():
            seen += 1
            if seen % 200 == 1:
                watch(seen, total, seen)
            if entry.row is not None and not judge.refuses(entry):
                yield PlacedRow(number, entry.number, entry.row)
