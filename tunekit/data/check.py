"""Is there a dataset, and do its first rows have a shape that the training understands?

Raw ms-swift takes a missing file for a hub id and says so after 52 s; an empty one ends in a bare StopIteration,
and preference pairs given to ``sft`` train on the chosen answers without a word.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import Exit, TunekitError, closest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = 20
"""How many rows are looked at: enough to see the shape, instant on any file."""

MESSAGES = ("messages", "conversations", "conversation")
ROLES = ("role", "from")
CONTENTS = ("content", "value")
QUESTION = ("query", "prompt", "input", "instruction", "question", "problem")
ANSWER = (
    "response",
    "answer",
    "output",
    "targets",
    "target",
    "answer_key",
    "answers",
    "solution",
    "text",
    "completion",
    "content",
)
REJECTED = ("rejected_response", "rejected_messages", "rejected")
ASSISTANTS = ("assistant", "gpt", "bot", "tool_call", "tool-call", "function_call", "function-call")
"""Column and role names that ms-swift 4.6 maps by itself (dataset/preprocessor/core.py)."""

FILE_TYPES = (".jsonl", ".json", ".csv", ".txt", ".parquet", ".arrow", ".tsv")
"""Endings that mark a dataset as a file, not as an id on a hub."""


USER = '{"role": "user", "content": "…"}'
ASSISTANT = '{"role": "assistant", "content": "…"}'
TURNS = f'"messages": [{USER}, {ASSISTANT}]'
"""Pieces of the example rows in error messages."""


@dataclass(frozen=True)
class Shape:
    """What rows a kind of training needs.

    Attributes:
        answered: the conversation must end with the model's turn.
        pairs: a rejected answer stands beside the chosen one.
        labelled: each row says whether its answer is good.
        example: a row, for error messages.
    """

    answered: bool = True
    pairs: bool = False
    labelled: bool = False
    example: str = f"{{{TURNS}}}"


PAIRS = Shape(pairs=True, example=f'{{{TURNS}, "rejected_response": "…"}}')
PROMPTS = Shape(answered=False, example=f'{{"messages": [{USER}]}}')
SHAPES = {
    "sft": Shape(),
    "pt": Shape(example=f'{{"messages": [{ASSISTANT}]}} or {{"text": "…"}}'),
    "gkd": Shape(),
    **dict.fromkeys(("dpo", "orpo", "simpo", "cpo", "rm"), PAIRS),
    "kto": Shape(labelled=True, example=f'{{{TURNS}, "label": true}}'),
    "ppo": PROMPTS,
    "grpo": PROMPTS,
}
"""The shape of the rows, by what is trained (facts seen on ms-swift 4.6)."""

SUGGESTED = ("dpo", "kto", "sft", "grpo", "pt")
"""Stages to name where rows suit another one, the most demanding first."""


def check_datasets(names: list[str], loss: str, *, mapped: bool = False) -> None:
    """Check local datasets; ids on a hub are left to ms-swift.

    Args:
        names: as ``--dataset`` takes them; ``#500`` behind a name (a sample of so many rows) is understood.
        loss: what is trained, a key of `SHAPES`.
        mapped: ``--columns`` renames columns, so that the shape of the rows cannot be judged.

    Raises:
        TunekitError: exit code 4; a file is missing, empty, unreadable, or its rows are of another shape.
    """
    for name in names:
        path = local_file(name)
        if path is None:
            continue
        rows = 0
        for line, row in read_rows(path):
            if not mapped:
                _check_row(path, line, row, loss)
            rows += 1
        if path.suffix in (".jsonl", ".json") and not rows:
            raise TunekitError(f"{path} is empty", f"write one row a line: {_shape(loss).example}", Exit.DATA)


def local_file(name: str) -> Path | None:
    """The file that a dataset's name means; None for an id on a hub or a folder.

    Raises:
        TunekitError: it names a file that does not exist.
    """
    bare = re.sub(r"#\d+$", "", name)
    path = Path(bare).expanduser()
    if path.is_file():
        if path.suffix not in FILE_TYPES:
            raise TunekitError(
                f"dataset {bare}: unknown kind of file", f"ms-swift reads {', '.join(FILE_TYPES)}", Exit.DATA
            )
        return path
    if path.is_dir():
        if not any(path.iterdir()):
            raise TunekitError(f"dataset {bare} is an empty folder", code=Exit.DATA)
        return None
    looks_like_file = path.suffix in FILE_TYPES or bare.startswith((".", "/", "~")) or bare.count("/") > 1
    if looks_like_file or "/" not in bare.removeprefix("HF::").removeprefix("MS::"):
        folder = path.parent
        near = closest(path.name, [item.name for item in folder.iterdir()]) if folder.is_dir() else []
        hint = f"did you mean {' or '.join(str(folder / item) for item in near)}?" if near else None
        raise TunekitError(
            f"dataset {bare} does not exist",
            hint or "give a file, or a hub id as organisation/name",
            Exit.DATA,
        )
    return None


def read_rows(path: Path, limit: int = ROWS) -> Iterator[tuple[int, dict[str, Any]]]:
    """The first rows of a JSON Lines or JSON file, each with its line (its number, in a JSON array).

    Other types yield nothing: they are left to ms-swift.

    Raises:
        TunekitError: exit code 4; not UTF-8, not JSON, or a row that is no object.
    """
    try:
        if path.suffix in (".jsonl", ".json"):
            # Either content under either ending: `datasets`, with which ms-swift reads, looks inside too.
            array = _first_character(path) == "["
            yield from (_json_array if array else _json_lines)(path, limit)
    except UnicodeDecodeError as error:
        raise TunekitError(f"{path} is not UTF-8 text", "save it as UTF-8", Exit.DATA) from error
    except OSError as error:
        raise TunekitError(f"{path} cannot be read: {error.strerror}", code=Exit.DATA) from error


def _first_character(path: Path) -> str:
    """The first character that is no space; empty for an empty file."""
    with path.open(encoding="utf-8-sig") as file:
        return next((line.lstrip()[0] for line in file if line.strip()), "")


def _json_lines(path: Path, limit: int) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        seen = 0
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise TunekitError(
                    f"{path} line {number}: not JSON: {error}", "one JSON object a line", Exit.DATA
                ) from error
            yield number, _object(path, f"line {number}", row)
            seen += 1
            if seen == limit:
                return


def _json_array(path: Path, limit: int) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        raise TunekitError(f"{path}: not JSON: {error}", "a list of objects: [{…}, {…}]", Exit.DATA) from error
    for number, row in enumerate(rows[:limit], start=1):
        yield number, _object(path, f"row {number}", row)


def _object(path: Path, where: str, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise TunekitError(f"{path} {where}: must be an object, not {json.dumps(row)[:40]}", code=Exit.DATA)
    return row


def _shape(loss: str) -> Shape:
    return SHAPES.get(loss, Shape())


def _check_row(path: Path, line: int, row: dict[str, Any], loss: str) -> None:
    """Refuse a row that cannot be trained on, or of which a part would be ignored silently."""
    problem = row_problem(row, loss)
    if problem:
        suits = [stage for stage in SUGGESTED if stage != loss and row_problem(row, stage) is None]
        other = f"; such rows suit tunekit {suits[0]}" if suits else ""
        raise TunekitError(
            f"{path} line {line}: {problem}", f"a row for {loss}: {_shape(loss).example}{other}", Exit.DATA
        )


def row_problem(row: dict[str, Any], loss: str) -> str | None:
    """Why a row does not suit a kind of training; None where it does."""
    if loss == "sft":
        key = next((key for key in REJECTED if row.get(key)), None)
        if key:
            return f'there is a rejected answer in "{key}": sft would learn the chosen one and ignore it, silently'
        if isinstance(row.get("label"), bool):
            return 'there is a "label" that says whether the answer is good: sft would learn the bad ones too'
    shape = _shape(loss)
    return _conversation_problem(row, shape, loss) or _columns_problem(row, shape, loss)


def _conversation_problem(row: dict[str, Any], shape: Shape, loss: str) -> str | None:
    key = next((key for key in MESSAGES if key in row), None)
    if key is None:
        return _plain_columns_problem(row, shape)
    messages = row[key]
    if isinstance(messages, str):  # a table's cell holds the list as text
        with contextlib.suppress(ValueError):
            messages = json.loads(messages)
    if not isinstance(messages, list) or not messages:
        return f'"{key}" must be a list of messages'
    for number, message in enumerate(messages, start=1):
        problem = _message_problem(message)
        if problem:
            return f'"{key}" message {number} {problem}'
    last = next((messages[-1][name] for name in ROLES if name in messages[-1]), "assistant")
    if shape.answered and last not in ASSISTANTS:
        return f'"{key}" ends with a turn of {last}: {loss} has nothing to learn from it'
    return None


def _plain_columns_problem(row: dict[str, Any], shape: Shape) -> str | None:
    """The problem of a row without a conversation: its question and answer stand in columns of their own."""
    known = {name.lower() for name in row}
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
    if not any(message.get(name) for name in ROLES):
        return "has no role"
    if not message.get("tool_calls") and not any(message.get(name) not in (None, "") for name in CONTENTS):
        return "has no content"
    return None


def _columns_problem(row: dict[str, Any], shape: Shape, loss: str) -> str | None:
    if shape.pairs and not any(row.get(key) for key in REJECTED[:2]):
        if {"chosen", "rejected"} <= row.keys():
            return (
                "chosen and rejected are not ms-swift's columns: map them with "
                '--columns \'{"chosen": "response", "rejected": "rejected_response"}\''
            )
        return f"{loss} needs a rejected answer in every row"
    if shape.labelled and not isinstance(row.get("label"), (bool, int)):
        return f'{loss} needs "label": true or false in every row'
    return None
