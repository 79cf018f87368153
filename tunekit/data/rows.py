"""The columns of a row, and what becomes of them on the way to a reward: what ms-swift takes for the conversation.

As in ms-swift 4.6 dataset/preprocessor/core.py (AutoPreprocessor); a test compares it with the real one.
"""

from __future__ import annotations

import ast
import contextlib
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

MESSAGES = ("messages", "conversations", "conversation")
ROLES = ("role", "from")
CONTENTS = ("content", "value")
QUESTION = ("query", "prompt", "input", "instruction", "question", "problem")
ANSWER = (
    *("response", "answer", "output", "targets", "target", "answer_key", "answers", "solution", "text", "completion"),
    "content",
)
REJECTED = ("rejected_response", "rejected_messages", "rejected")
ASSISTANTS = ("assistant", "gpt", "bot", "tool_call", "function_call", "function-call")
SYSTEM = ("system", "system_prompt")
USERS = ("user", "human")
CALLS = ("tool_call", "function_call", "function-call")
RESULTS = ("tool", "tool_response", *(f"function{dash}response" for dash in "_-"), "observation", "observations")
SPEAKERS = (*USERS, *ASSISTANTS, *RESULTS, "system")
MEDIA = ("images", "image", "videos", "video", "audios", "audio")
"""Column and role names that ms-swift 4.6 maps by itself (dataset/preprocessor/core.py)."""

ROW_LISTS = (
    *MESSAGES,
    *MEDIA,
    *REJECTED,
    *("chosen", "tools", "history", "objects", "positive_messages", "negative_messages"),
)
"""Columns of a row that hold lists: objects in them are no rows."""

BROUGHT = (
    *("messages", "trainer_state", "prompt_id", "request_id", "finish_reason", "is_truncated", "rollout_infos"),
    "response_token_ids",
)
"""What a reward gets beside the columns of the dataset (ms-swift 4.6 rl_core/data.py, to_reward_row)."""


@dataclass(frozen=True)
class Sample:
    """A row as a reward gets it."""

    messages: list[dict[str, str]]  # the conversation before the response
    answer: str = ""  # what the dataset gives for a response; empty where it gives none
    columns: dict[str, Any] = field(default_factory=dict)  # those that ms-swift leaves


def arrive(row: dict[str, Any], renamed: dict[str, str] | None = None) -> Sample:
    """A row of a dataset as a reward gets it; ``--columns`` has renamed some of its columns, old names to new ones."""
    row = {(renamed or {}).get(name, name): value for name, value in row.items()}
    solution = row.get("solution")
    if any(key in row for key in MESSAGES):
        sample = _conversation(_rename(row, dict.fromkeys(MESSAGES, "messages") | dict.fromkeys(SYSTEM, "system")))
    else:
        sample = _table(row)
    if solution is None:
        return sample
    # the one column that is kept beside the conversation that it may have become part of
    return Sample(sample.messages, str(solution), {**sample.columns, "solution": solution})


def messages_in(cell: Any) -> Any:
    """The list in a column of messages, which a table's cell holds as text; anything else as it is."""
    if isinstance(cell, str):
        for read in (json.loads, ast.literal_eval):  # as default_repair_messages does
            with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                return read(cell)
    return cell


def conversation_of(row: dict[str, Any]) -> list[Any] | None:
    """The messages of a row; None where it has no such column, or no list there."""
    for key in MESSAGES:
        if key in row:
            messages = messages_in(row[key])
            return messages if isinstance(messages, list) else None
    return None


def _rename(row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Give columns their standard names; where two would get the same one, both keep their own."""
    found = {name: names[name.lower()] for name in row if name.lower() in names}
    often = Counter(found.values())
    return {found[name] if name in found and often[found[name]] == 1 else name: value for name, value in row.items()}


def _conversation(row: dict[str, Any]) -> Sample:
    turns = messages_in(row.pop("messages", None)) or []
    messages = [turn for item in turns if isinstance(item, dict) for turn in _turns(item)]
    system = row.pop("system", None)
    if system is not None and (not messages or messages[0]["role"] != "system"):
        messages.insert(0, {"role": "system", "content": system})
    answer = messages.pop()["content"] if messages and messages[-1]["role"] == "assistant" else ""
    return Sample(messages, str(answer), row)


def _turns(item: dict[str, Any]) -> list[dict[str, Any]]:
    """A message in the standard form; of ShareGPT's, which holds a turn of each, two."""
    role = next((item[key] for key in ROLES if key in item), None)
    if role is None:
        user = next((item[key] for key in USERS if key in item), "")
        reply = next((item[key] for key in ASSISTANTS if key in item), "")
        return [{"role": "user", "content": user}, {"role": "assistant", "content": reply}]
    content = next((item[key] for key in CONTENTS if key in item), "")
    standard = "user" if role in USERS else "assistant" if role in ("assistant", "gpt", "bot") else role
    return [{"role": standard, "content": content}]


def _table(row: dict[str, Any]) -> Sample:
    """A row whose question and answer stand in columns of their own."""
    alpaca = "instruction" in row and "input" in row
    names = dict.fromkeys(SYSTEM, "system") | dict.fromkeys(QUESTION, "query") | dict.fromkeys(ANSWER, "response")
    row = _rename(row, names)
    if alpaca:
        asked = [row.pop(key, None) for key in ("instruction", "input")]
        row["query"] = "\n".join(part for part in asked if part)
        row["response"] = row.pop("output", row.get("response"))
    query, answer, system = (row.pop(key, None) for key in ("query", "response", "system"))
    row.pop("history", None)
    answer = answer[0] if isinstance(answer, list) and answer else answer
    messages = [{"role": "system", "content": system}] if system else []
    return Sample([*messages, {"role": "user", "content": query or ""}], "" if answer is None else str(answer), row)
