"""Try a function of the user's before a launch, in a process of its own: their code may import torch, hang or crash."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tunekit.data.check import row_problem
from tunekit.data.files import local_file
from tunekit.data.functions.find import EXAMPLES, FORMAT, REWARD, Function, signature
from tunekit.errors import Exit, TunekitError
from tunekit.files import number_of, shortened
from tunekit.worker import WorkerFailed, ask_once

if TYPE_CHECKING:
    from pathlib import Path

    from tunekit.data.rows import Sample
    from tunekit.stages import Shape, Stage

TIME_LIMIT = 30.0
"""Seconds that a check may take. ``TUNEKIT_FUNCTION_SECONDS`` says otherwise."""


def try_reward(function: Function, samples: list[Sample]) -> list[float | None]:
    """What a reward gives to `samples`, with their own answers as responses.

    Raises TunekitError where it cannot be loaded or called, or does not return one number for each response.
    """
    job = {"job": "reward", **_named(function, REWARD), "samples": [asdict(sample) for sample in samples]}
    found: list[float | None] = _ask(job, time_limit())["scores"]
    return found


def try_format(function: Function, path: Path, stage: Stage, limit: int) -> list[dict[str, Any]]:
    """The rows that a format makes of the first `limit` of a file, checked as those of a dataset are.

    Raises TunekitError where it cannot be loaded or called, or what it makes cannot be trained on.
    """
    job = {"job": "preview", **_formats(function, path, stage.rows), "limit": limit}
    made = _ask(job, time_limit())["rows"]
    if not made:
        raise TunekitError(f"{function.spec} left out each of the first {limit} rows of {path}", code=Exit.DATA)
    for item in made:
        problem = row_problem(item["row"], stage.rows, stage.name)
        if problem:
            message = f"{function.spec} makes no row for {stage.name} of row {item['line']} of {path}: {problem}"
            raise TunekitError(message, f"a row for {stage.name}: {stage.rows.example}", Exit.DATA)
    return [item["row"] for item in made]


def write_formatted(function: Function, path: Path, target: Path, shape: Shape) -> tuple[int, int]:
    """Format a whole file; the target is there when it is complete. Returns how many rows were written and left out.

    Raises TunekitError where the function fails at a row, or the file cannot be read.
    """
    answer = _ask({"job": "write", **_formats(function, path, shape), "target": str(target)}, None)
    return answer["rows"], answer["dropped"]


def rows_of(name: str) -> Path:
    """The file of a dataset that is to be formatted. Raises TunekitError where it is not on this machine."""
    path = local_file(name)
    if path is None:
        hint = "download it, and give the file of rows"
        raise TunekitError(f"--format works on files, and {name} is not one", hint, Exit.DATA)
    return path


def time_limit() -> float:
    """Seconds that a check may take. Raises TunekitError where the variable holds no number."""
    word = os.environ.get("TUNEKIT_FUNCTION_SECONDS", "")
    try:
        return number_of(word or str(TIME_LIMIT))
    except ValueError:
        raise TunekitError(f"TUNEKIT_FUNCTION_SECONDS must be a number, not {shortened(word)}") from None


def _ask(job: dict[str, Any], seconds: float | None) -> dict[str, Any]:
    try:
        answer = ask_once("tunekit.data.functions.worker:do_job", job, seconds)
    except WorkerFailed as failed:
        if failed.late:
            hint = "TUNEKIT_FUNCTION_SECONDS=120 gives it more time"
            raise TunekitError(f"{job['label']} did not answer within {seconds:g} s", hint) from None
        last = failed.printed or "no word"
        raise TunekitError(f"{job['label']} ended its process (status {failed.status}): {last:.200}") from None
    if "error" in answer:
        raise TunekitError(answer["error"], answer.get("hint"), Exit(answer.get("code", Exit.USAGE)))
    return answer


def _formats(function: Function, path: Path, shape: Shape) -> dict[str, str]:
    return {**_named(function, FORMAT), "data": str(path), "bare_text": shape.bare_text}


def _named(function: Function, kind: str) -> dict[str, str]:
    """How the worker finds a function, and what it calls it in what it says."""
    line = signature(function, kind).line
    return {
        "file": function.file,
        "name": function.name,
        "label": f"{function.file} line {line}: {function.name}",
        "example": EXAMPLES[kind].format(name=function.name),
    }
