"""Is there a dataset, and do its first rows have a shape that the training understands?

Raw ms-swift takes a missing file for a hub id and says so after 52 s; an empty one ends in a bare StopIteration,
and preference pairs given to ``sft`` train on the chosen answers without a word.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from tunekit.data.files import JSON, local_file, read_rows
from tunekit.data.rows import ANSWER, ASSISTANTS, CONTENTS, MESSAGES, QUESTION, REJECTED, ROLES, messages_in
from tunekit.errors import Exit, TunekitError
from tunekit.stages import STAGES

if TYPE_CHECKING:
    from pathlib import Path

    from tunekit.stages import Shape, Stage


def check_datasets(names: list[str], stage: Stage, *, mapped: bool = False) -> None:
    """Check local datasets, named as ``--dataset`` takes them; ids on a hub are left to ms-swift.

    Where ``--columns`` renames columns (`mapped`), the shape of the rows cannot be judged. Raises TunekitError, exit
    code 4, where a file is missing, empty or unreadable, or its rows are of another shape.
    """
    for name in names:
        path = local_file(name)
        if path is None:
            continue
        line = 0
        for line, row in read_rows(path):
            if not mapped:
                _check_row(path, line, row, stage)
        if path.suffix in JSON and not line:
            raise TunekitError(f"{path} is empty", f"write one row a line: {stage.rows.example}", Exit.DATA)


def _check_row(path: Path, line: int, row: dict[str, Any], stage: Stage) -> None:
    """Refuse a row that cannot be trained on, or of which a part would be ignored silently."""
    problem = row_problem(row, stage.rows, stage.name)
    if problem:
        others = sorted((other for other in STAGES.values() if other.suggested), key=attrgetter("suggested"))
        suits = (other.name for other in others if other != stage and row_problem(row, other.rows, "") is None)
        better = next((f"; such rows suit tunekit {name}" for name in suits), "")
        hint = f"a row for {stage.name}: {stage.rows.example}{better}"
        raise TunekitError(f"{path} line {line}: {problem}", hint, Exit.DATA)


def row_problem(row: dict[str, Any], shape: Shape, name: str) -> str | None:
    """Why a row is not of a shape, in the name of what needs it so; None where it is."""
    if shape.learns_all:
        key = next((key for key in REJECTED if row.get(key)), None)
        if key:
            return f'there is a rejected answer in "{key}": {name} would learn the chosen one and ignore it, silently'
        if isinstance(row.get("label"), bool):
            return f'there is a "label" that says whether the answer is good: {name} would learn the bad ones too'
    return _conversation_problem(row, shape, name) or _columns_problem(row, shape, name)


def _conversation_problem(row: dict[str, Any], shape: Shape, name: str) -> str | None:
    key = next((key for key in MESSAGES if key in row), None)
    if key is None:
        return _plain_columns_problem(row, shape)
    messages = messages_in(row[key])
    if not isinstance(messages, list) or not messages:
        return f'"{key}" must be a list of messages'
    for number, message in enumerate(messages, start=1):
        problem = _message_problem(message)
        if problem:
            return f'"{key}" message {number} {problem}'
    last = next((messages[-1][role] for role in ROLES if role in messages[-1]), "assistant")
    if shape.answered and last not in ASSISTANTS:
        return f'"{key}" ends with a turn of {last}: {name} has nothing to learn from it'
    return None


def _plain_columns_problem(row: dict[str, Any], shape: Shape) -> str | None:
    """The problem of a row without a conversation: its question and answer stand in columns of their own."""
    known = {column.lower() for column in row}
    if known.isdisjoint(QUESTION) and known.isdisjoint(ANSWER):
        return f"there is neither a conversation nor a question and an answer among {', '.join(row) or 'no columns'}"
    if shape.answered and known.isdisjoint(ANSWER) and not {"chosen", "rejected"} <= known:
        return f"there is no answer among {', '.join(row)}"
    return None


def _message_problem(message: Any) -> str | None:
    if not isinstance(message, dict):
        return "must be an object with role and content"
    if {"user", "assistant"} <= message.keys():  # one turn of each in an object, as ShareGPT files have it
        return None
    if not any(message.get(role) for role in ROLES):
        return "has no role"
    if not message.get("tool_calls") and not any(message.get(key) not in (None, "") for key in CONTENTS):
        return "has no content"
    return None


def _columns_problem(row: dict[str, Any], shape: Shape, name: str) -> str | None:
    if shape.pairs and not any(row.get(key) for key in REJECTED[:2]):
        if {"chosen", "rejected"} <= row.keys():
            return (
                "chosen and rejected are not ms-swift's columns: map them with "
                '--columns \'{"chosen": "response", "rejected": "rejected_response"}\''
            )
        return f"{name} needs a rejected answer in every row"
    if shape.labelled and not isinstance(row.get("label"), (bool, int)):
        return f'{name} needs "label": true or false in every row'
    return None
