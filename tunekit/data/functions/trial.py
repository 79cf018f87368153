"""Try a function of the user's before a launch, in a process of its own: their code may import torch, hang or crash."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.data.check import SHAPES, Shape, local_file, row_problem
from tunekit.data.functions.find import EXAMPLES, FORMAT, REWARD, Function, signature
from tunekit.errors import Exit, TunekitError

if TYPE_CHECKING:
    from tunekit.data.rows import Sample

PATIENCE = 30.0
"""Seconds that a check may take. ``TUNEKIT_FUNCTION_SECONDS`` says otherwise."""

PROGRAM = (
    "import sys; sys.path[:] = [*filter(None, sys.path), sys.argv[1]]; "
    "from tunekit.data.functions.worker import main; main()"
)
"""The current folder is taken from the path: a torch.py there is not torch. tunekit's stands last."""


def try_reward(function: Function, samples: list[Sample]) -> list[float | None]:
    """What a reward gives to `samples`, with their own answers as responses.

    Raises:
        TunekitError: it cannot be loaded or called, or does not return one number for each response.
    """
    job = {"job": "reward", **_named(function, REWARD), "samples": [asdict(sample) for sample in samples]}
    found: list[float | None] = ask(job, patience())["scores"]
    return found


def try_format(function: Function, path: Path, loss: str, limit: int) -> list[dict[str, Any]]:
    """The rows that a format makes of the first `limit` of a file, checked as those of a dataset are.

    Raises:
        TunekitError: it cannot be loaded or called, or what it makes cannot be trained on.
    """
    job = {"job": "preview", **_named(function, FORMAT), "data": str(path), "loss": loss, "limit": limit}
    made = ask(job, patience())["rows"]
    if not made:
        raise TunekitError(f"{function.spec} left out each of the first {limit} rows of {path}", code=Exit.DATA)
    for item in made:
        problem = row_problem(item["row"], loss)
        if problem:
            message = f"{function.spec} makes no row for {loss} of row {item['line']} of {path}: {problem}"
            raise TunekitError(message, f"a row for {loss}: {SHAPES.get(loss, Shape()).example}", Exit.DATA)
    return [item["row"] for item in made]


def write_formatted(function: Function, path: Path, target: Path, loss: str) -> tuple[int, int]:
    """Format a whole file. The target is there when it is complete.

    Returns:
        How many rows were written, and how many left out.

    Raises:
        TunekitError: the function fails at a row, or the file cannot be read.
    """
    job = {"job": "write", **_named(function, FORMAT), "data": str(path), "target": str(target), "loss": loss}
    told = ask(job, None)
    return told["rows"], told["dropped"]


def rows_of(name: str) -> Path:
    """The file of a dataset that is to be formatted.

    Raises:
        TunekitError: it is not on this machine.
    """
    path = local_file(name)
    if path is None:
        raise TunekitError(
            f"--format works on files, and {name} is not one", "download it, and give the file of rows", Exit.DATA
        )
    return path


def patience() -> float:
    """Seconds that a check may take. Raises TunekitError where the variable holds no number."""
    word = os.environ.get("TUNEKIT_FUNCTION_SECONDS", "")
    try:
        return float(word or PATIENCE)
    except ValueError:
        raise TunekitError(f"TUNEKIT_FUNCTION_SECONDS must be a number, not {word}") from None


def ask(job: dict[str, Any], seconds: float | None) -> dict[str, Any]:
    """What the worker answers.

    Raises:
        TunekitError: exit code 2; it took too long, died, or says what is wrong.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(Path(__file__).parents[3])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        answer, printed = process.communicate(json.dumps(job), timeout=seconds)
    except subprocess.TimeoutExpired:
        hint = "TUNEKIT_FUNCTION_SECONDS=120 gives it more time"
        raise TunekitError(f"{job['label']} did not answer within {seconds:g} s", hint) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what the user's code started ends with it
        process.wait()
    try:
        told = json.loads(answer)
    except ValueError:
        last = printed.strip().splitlines()[-1:] or ["no word"]
        raise TunekitError(f"{job['label']} ended its process (status {process.returncode}): {last[0]:.200}") from None
    if "error" in told:
        raise TunekitError(told["error"], told.get("hint"), Exit(told.get("code", Exit.USAGE)))
    return dict(told)


def _named(function: Function, kind: str) -> dict[str, str]:
    """How the worker finds a function, and what it calls it in what it says."""
    line = signature(function, kind).line
    return {
        "file": function.file,
        "name": function.name,
        "label": f"{function.file} line {line}: {function.name}",
        "example": EXAMPLES[kind].format(name=function.name),
    }
