"""Rows that are longer than ``--max_length``, by the tokenizer of a model: what a check of a dataset asks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunekit.data.lengths import Unmeasured, measure_rows
from tunekit.plan.measured import question_of, rows_measured
from tunekit.plan.planner import make_plan
from tunekit.plan.request import Said, Words
from tunekit.runs.prepare import gather_facts, look_around, request_of
from tunekit.stages import STAGES, USUAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tunekit.plan.measured import Measured

PATIENCE = 300.0
"""Seconds that the tokenizer may take."""


@dataclass(frozen=True)
class LongRows:
    """The rows of a dataset in tokens; None with the reason where they were not measured."""

    measured: Measured | None
    why: str = ""

    def document(self) -> dict[str, Any]:
        """As plain data."""
        if self.measured is None:
            return {"unknown": self.why}
        lengths = self.measured.lengths
        seen = len(lengths.rows) + lengths.unusable
        return {
            "max_length": self.measured.max_length,
            "over": self.measured.over,
            "of": seen,
            "rows": lengths.total,
            "then": "dropped" if self.measured.dropped else "cut",
            "longest": lengths.longest,
            "median": lengths.median,
            "p95": lengths.p95,
        }


def long_rows(
    stage: str, model: str, files: Sequence[str], max_length: int | None, columns: Mapping[str, str]
) -> LongRows:
    """How long the rows of files are for a model, and which are longer than the plan's ``--max_length``.

    Raises TunekitError where the model or a flag means nothing.
    """
    if STAGES.get(stage, STAGES[USUAL]).generates:
        return LongRows(None, f"{stage} trains on answers that it makes itself")
    words = {"model": (model,), "dataset": tuple(files)}
    if max_length is not None:
        words["max_length"] = (str(max_length),)
    if stage not in STAGES:
        words["task_type"] = (stage,)
    if columns:
        words["columns"] = (json.dumps(dict(columns)),)
    around = look_around()
    command = stage if stage in STAGES else USUAL
    request = request_of(command, Words(said={name: Said(name, said) for name, said in words.items()}), around)
    plan = make_plan(request, gather_facts(request, around))
    try:
        return LongRows(rows_measured(plan, measure_rows(question_of(plan), PATIENCE)))
    except Unmeasured as error:
        return LongRows(None, error.message)
