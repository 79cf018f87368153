"""Is there a dataset, and do its rows have a shape that the training understands?

Raw ms-swift takes a missing file for a hub id and says so after 52 s; an empty one ends in a bare StopIteration,
and preference pairs given to ``sft`` train on the chosen answers without a word.
"""

from __future__ import annotations

import re
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from tunekit.data.files import shown
from tunekit.data.pictures import marks_problem
from tunekit.data.rows import (
    ANSWER,
    ASSISTANTS,
    CONTENTS,
    MEDIA,
    MESSAGES,
    QUESTION,
    REJECTED,
    ROLES,
    SPEAKERS,
    SYSTEM,
    messages_in,
)
from tunekit.stages import STAGES, TASKS

if TYPE_CHECKING:
    from tunekit.stages import Shape, Stage

ASKING = (*QUESTION, *SYSTEM, *MEDIA, "history")
"""Columns that stand before an answer."""

SPOKEN = ("assistant", "gpt", "bot")
"""Roles of the model's own words."""


def hint_for(row: dict[str, Any], shape: Shape, stage: Stage, task: str = "") -> str:
    """What a row should look like, and what else the row at hand is good for."""
    known = sorted((other for other in STAGES.values() if other.suggested), key=attrgetter("suggested"))
    suits = [f"tunekit {other.name}" for other in known if other != stage and not row_problem(row, other.rows, "")]
    if not stage.rlhf_type and not task and not isinstance(row.get("label"), bool):
        suits = [f"--task_type {name}" for name, of in TASKS.items() if of and not row_problem(row, of, "")][:1] + suits
    better = f"; such rows suit {' or '.join(suits[:1] if suits[0][0] == 't' else suits[:2])}" if suits else ""
    return f"a row for {task or stage.name}: {shape.example}{better}"


def row_problem(row: dict[str, Any], shape: Shape, name: str) -> str | None:
    """Why a row is not of a shape, in the name of what needs it so; None where it is."""
    if shape.learns_all:
        key = next((key for key in REJECTED if row.get(key)), None)
        if key:
            return f'there is a rejected answer in "{key}": {name} would learn the chosen one and ignore it, silently'
        if isinstance(row.get("label"), bool):
            return f'there is a "label" that says whether the answer is good: {name} would learn the bad ones too'
    return _conversation_problem(row, shape, name) or _columns_problem(row, shape, name) or marks_problem(row)


def _conversation_problem(row: dict[str, Any], shape: Shape, name: str) -> str | None:
    key = next((key for key in MESSAGES if key in row), None)
    if key is None:
        return _plain_columns_problem(row, shape, name)
    messages = messages_in(row[key])
    problem = turns_problem(messages, key)
    if problem:
        return problem
    roles = [next((turn[role] for role in ROLES if role in turn), "") for turn in messages]
    if shape.answered and roles[-1] and roles[-1] not in ASSISTANTS:
        return f'"{key}" ends with a turn of {shown(roles[-1])}: {name} has nothing to learn from it'
    if shape.asked and not shape.answered and all(role in SPOKEN for role in roles):
        return f'"{key}" asks nothing: {name} needs a question in every row'
    return None


def turns_problem(messages: Any, key: str) -> str | None:
    """Why something is no conversation; None where it is one."""
    if not isinstance(messages, list) or not messages:
        return f'"{key}" must be a list of messages'
    for number, message in enumerate(messages, start=1):
        problem = _message_problem(message)
        if problem:
            return f'"{key}" message {number} {problem}'
    return None


def _plain_columns_problem(row: dict[str, Any], shape: Shape, name: str) -> str | None:
    """The problem of a row without a conversation: its question and answer stand in columns of their own."""
    known = {column.lower() for column in row}
    columns = shown(", ".join(row), 200) or "no columns"
    if known.isdisjoint(QUESTION) and known.isdisjoint(ANSWER):
        return f"there is neither a conversation nor a question and an answer among {columns}"
    if shape.answered and known.isdisjoint(ANSWER) and not (shape.pairs and {"chosen", "rejected"} <= known):
        return f"there is no answer among {columns}"
    if shape.asked and known.isdisjoint(ASKING):
        empty = f"{name} would learn to answer an empty one" if shape.answered else f"{name} has nothing to ask"
        return f"there is no question among {columns}: {empty}"
    if {"instruction", "input"} <= row.keys():
        return None
    asked = _vying(row, QUESTION) if shape.asked else ""
    both = asked or (_vying(row, ANSWER) if shape.answered else "")
    kind = "question" if asked else "answer"
    return (
        f"{both} may each be the {kind}, and of several ms-swift takes none: rename one with --columns"
        if both
        else None
    )


def _vying(row: dict[str, Any], names: tuple[str, ...]) -> str:
    """Columns that ms-swift would give one name, so that it gives it to none; the name itself goes before all."""
    found = [column for column in row if column.lower() in names]
    return " and ".join(found) if len(found) > 1 and names[0] not in found else ""


def _message_problem(message: Any) -> str | None:
    if not isinstance(message, dict):
        return "must be an object with role and content"
    if {"user", "assistant"} <= message.keys():  # one turn of each in an object, as ShareGPT files have it
        return None
    role = next((message[key] for key in ROLES if message.get(key)), None)
    if role is None:
        return "has no role"
    if role not in SPEAKERS:
        return f"has the role {shown(role, 40)}, which ms-swift does not know: it leaves such rows out"
    empty = (None,) if role == "system" else (None, "")
    if not message.get("tool_calls") and not any(message.get(key, "") not in empty for key in CONTENTS):
        return "has no content"
    return None


def _columns_problem(row: dict[str, Any], shape: Shape, name: str) -> str | None:
    if shape.pairs:
        return _pair_problem(row, name)
    if shape.labelled and not isinstance(row.get("label"), (bool, int)):
        return f'{name} needs "label": true or false in every row'
    if shape.classed and not _is_class(row.get("label")):
        return f'{name} needs "label" in every row: the number of its class, from 0'
    if shape.near:
        return _near_problem(row, shape, name)
    return None


def _pair_problem(row: dict[str, Any], name: str) -> str | None:
    rejected = next((row[key] for key in REJECTED[:2] if row.get(key)), None)
    if rejected is None:
        if {"chosen", "rejected"} <= row.keys():
            return (
                "chosen and rejected are not ms-swift's columns: map them with "
                '--columns \'{"chosen": "response", "rejected": "rejected_response"}\''
            )
        return f"{name} needs a rejected answer in every row"
    chosen = next((row[key] for key in (*MESSAGES, *ANSWER) if row.get(key)), None)
    if _last_words(chosen) is not None and _last_words(chosen) == _last_words(rejected):
        return "the chosen and the rejected answer are the same: there is nothing to prefer"
    return None


def _last_words(answer: Any) -> str | None:
    """The text of an answer, or of the last turn of a conversation; None where it is more than text."""
    answer = messages_in(answer) if isinstance(answer, str) and answer.lstrip()[:1] == "[" else answer
    if isinstance(answer, list):
        last = answer[-1] if answer else None
        answer = next((last[key] for key in CONTENTS if key in last), None) if isinstance(last, dict) else None
    return answer if isinstance(answer, str) else None


def _is_class(label: Any) -> bool:
    if isinstance(label, list):
        return bool(label) and all(isinstance(one, (int, float)) for one in label)
    return isinstance(label, (int, float)) or (isinstance(label, str) and bool(re.fullmatch(r"\d{1,9}", label)))


def _near_problem(row: dict[str, Any], shape: Shape, name: str) -> str | None:
    """The problem of the conversations that stand beside a row's own, each a list of lists of messages."""
    if not any(row.get(key) for key in shape.near):
        return f"{name} needs {' or '.join(shape.near)} in every row"
    for key in ("positive_messages", "negative_messages"):
        several = messages_in(row.get(key)) or []
        if not isinstance(several, list):
            return f'"{key}" must be a list of conversations'
        for number, one in enumerate(several, start=1):
            if problem := turns_problem(one, key):
                return (
                    f"{problem} in conversation {number}"
                    if isinstance(one, list)
                    else (f'"{key}" must be a list of conversations, each a list of messages')
                )
    return None
