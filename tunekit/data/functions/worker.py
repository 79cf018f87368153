"""Run a function of the user's, as `tunekit.data.functions.trial` asks from another process."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.data.functions.call import as_reward, load_file
from tunekit.data.rows import BROUGHT, MESSAGES
from tunekit.data.sound import read_all
from tunekit.errors import TunekitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Refused(Exception):  # noqa: N818 - it is an answer, not an accident
    """An answer instead of a result: what is wrong, and a hint."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def _score(job: dict[str, Any]) -> dict[str, Any]:
    """Score the samples of a job with their own answers as responses, called as ms-swift would."""
    function = _function(job)
    samples = job["samples"]
    if not samples:
        return {"scores": []}
    columns: dict[str, Any] = {name: [None] * len(samples) for name in BROUGHT}
    columns |= {"finish_reason": ["stop"] * len(samples), "is_truncated": [False] * len(samples)}
    columns["response_token_ids"] = [[] for _ in samples]
    for name in {name for sample in samples for name in sample["columns"]}:
        columns[name] = [sample["columns"].get(name) for sample in samples]
    answers = [sample["answer"] for sample in samples]
    turns = [[*each["messages"], {"role": "assistant", "content": each["answer"]}] for each in samples]
    columns |= {"messages": turns, "trainer_state": None}
    called = as_reward(function, job["label"])
    return {"scores": _guarded(job, lambda: called(answers, **columns), names=[*columns])}


def _preview(job: dict[str, Any]) -> dict[str, Any]:
    """The first rows that a format makes, each with the line of its source."""
    return {"rows": [{"line": at, "row": row} for at, row in _formatted(job, job["limit"]) if row is not None]}


def _write(job: dict[str, Any]) -> dict[str, Any]:
    """Write all rows that a format makes; the file is there when it is complete."""
    target = Path(job["target"])
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    rows = dropped = 0
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for _, row in _formatted(job, sys.maxsize):
                if row is None:
                    dropped += 1
                else:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    rows += 1
        if not rows:
            raise Refused(f"{job['label']} left out every row of {job['data']}")
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return {"rows": rows, "dropped": dropped}


def _formatted(job: dict[str, Any], limit: int) -> Iterator[tuple[int, dict[str, Any] | None]]:
    function = _function(job)
    for line, row in read_all(Path(job["data"]), limit):
        where = f", row {line} of {job['data']}"
        made = _guarded(job, partial(function, dict(row)), where, names=[*row])
        try:
            standard = _row(made, row, job["bare_text"])
            json.dumps(standard)
        except (TypeError, ValueError) as error:
            raise Refused(f"{job['label']} returned {error}{where}", job["example"]) from error
        yield line, standard


def _row(made: Any, row: dict[str, Any], bare_text: str) -> dict[str, Any] | None:
    """The row of ms-swift that a format `made` of a row; None where it leaves it out. Raises ValueError for a third.

    `bare_text` is what a text means, see `tunekit.stages.Shape`.
    """
    if made is None or isinstance(made, dict):
        return made
    if isinstance(made, str) and bare_text == "answer":
        return {"messages": [{"role": "assistant", "content": made}]}
    if isinstance(made, str) and bare_text == "question":  # the other columns are for rewards
        kept = {name: value for name, value in row.items() if name not in MESSAGES}
        return {**kept, "messages": [{"role": "user", "content": made}]}
    text = " or a text" if bare_text else ""
    raise ValueError(f"{made!r:.60}, not a dict{text}")


def _function(job: dict[str, Any]) -> Callable[..., Any]:
    module = _guarded(job, lambda: load_file(job["file"]))
    function: Callable[..., Any] | None = getattr(module, job["name"], None)
    if not callable(function):
        raise Refused(f"{job['label']} is {function!r:.60}, not a function")
    return function


def _guarded(job: dict[str, Any], call: Callable[[], Any], where: str = "", names: list[str] | None = None) -> Any:
    """Run code of the user's, on a row with these columns; what goes wrong is said with the line of their file."""
    try:
        return call()
    except ModuleNotFoundError as error:
        problem = f"{error.name} is not installed, and there is no {error.name}.py beside it"
        raise Refused(f"{_line(error, job)}: {problem}") from error
    except (Exception, SystemExit) as error:
        words = " ".join(str(error).split())
        if words.startswith(job["label"]):  # of what it returned, and it says so itself
            raise Refused(f"{words}{where}", job["example"]) from error
        hint = f"there is {', '.join(names)}" if names and isinstance(error, KeyError) else None
        raise Refused(f"{_line(error, job)}: {type(error).__name__}: {words:.200}{where}", hint) from error


def _line(error: BaseException, job: dict[str, Any]) -> str:
    """The place in the user's file from which `error` came; the function, where it came from none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename} line {error.lineno}"
    frames, mine = traceback.extract_tb(error.__traceback__), Path(job["file"]).resolve()
    frame = next((frame for frame in reversed(frames) if Path(frame.filename).resolve() == mine), None)
    if frame is None:
        return str(job["label"])
    inside = "" if frame.name == "<module>" else f", in {frame.name}"
    return f"{job['file']} line {frame.lineno}{inside}"


JOBS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"reward": _score, "preview": _preview, "write": _write}


def do_job(job: dict[str, Any]) -> dict[str, Any]:
    """What came out of one of `JOBS`, or ``{"error": …}`` with the line of the user's file."""
    try:
        return JOBS[job["job"]](job)
    except Refused as refused:
        return {"error": str(refused), "hint": refused.hint}
    except TunekitError as error:
        return {"error": error.message, "hint": error.hint, "code": int(error.code)}
