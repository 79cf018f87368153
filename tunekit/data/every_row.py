"""The tokens of every row of a dataset, by ms-swift's own template, with the place of each: a chunk at a time."""

from __future__ import annotations

import os
import tempfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tunekit.data.lengths import QUIET, Question, Unmeasured, check_measurable
from tunekit.data.out_files import json_line
from tunekit.data.turns import ShapelessRow
from tunekit.stages import STAGES
from tunekit.worker import Worker, WorkerFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHUNK = 1000
"""Rows that are tokenized at once."""

SECONDS = 600
"""Patience with a chunk; the first has ms-swift to be imported."""


class PlacedRow(NamedTuple):
    """A row, and where it stands: the number of its file among all, and its own in that."""

    file: int
    number: int
    row: dict[str, Any]


class RowTokens(NamedTuple):
    """What a row is in tokens, of a pair the longer text; 0 with the reason where ms-swift leaves it out."""

    file: int
    number: int
    tokens: int
    why: str = ""


def tokens_of_rows(question: Question, rows: Iterable[PlacedRow]) -> Iterator[RowTokens]:
    """The tokens of rows, one after the other, in constant memory.

    Raises Unmeasured, with the reason, where they cannot be counted here.
    """
    check_measurable(question)
    stage = STAGES[question.stage]
    with tempfile.TemporaryDirectory(prefix="tunekit-") as scratch:
        caches = {"HF_DATASETS_CACHE": scratch, "MODELSCOPE_CACHE": scratch}
        environ = {**os.environ, **QUIET, **caches, **question.environ}
        asked = {
            "model": str(question.folder.resolve()),
            "flags": {**stage.encoding, **question.flags},
            "template_mode": stage.template_mode,
            "scratch": scratch,
        }
        left = iter(rows)
        with Worker("tunekit.data.lengths_worker:tokens_of_each", environ) as worker:
            while chunk := list(islice(left, CHUNK)):
                yield from _counted(worker, asked, chunk)


def _counted(worker: Worker, asked: dict[str, Any], chunk: list[PlacedRow]) -> Iterator[RowTokens]:
    place = Path(asked["scratch"], "chunk.jsonl")
    try:
        lines = [json_line({**one.row, "channel": str(at)}) for at, one in enumerate(chunk)]
    except ShapelessRow as error:
        raise Unmeasured(str(error)) from None
    place.write_bytes(b"\n".join(lines) + b"\n")
    try:
        answer = worker.ask({**asked, "rows": str(place), "count": len(chunk)}, SECONDS)
    except WorkerFailed as failed:
        raise Unmeasured(f"the tokenizer failed: {failed}") from None
    if "unknown" in answer:
        raise Unmeasured(str(answer["unknown"]))
    for one, (tokens, why) in zip(chunk, answer["rows"], strict=True):
        yield RowTokens(one.file, one.number, tokens, why)
