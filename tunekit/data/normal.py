"""One normal form of a row, from every shape that files of rows come in."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from tunekit.data.cells import Cells
from tunekit.data.rows import messages_in
from tunekit.data.turns import MARKS, Media, ShapelessRow, Turn, before_answer, conversation_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class NormalRow:
    """A row, whatever it was.

    Attributes:
        shape: what it was, for people.
        messages: the conversation, each turn with ``role`` and ``content``.
        rejected: the conversation with the worse answer; None where there is none.
        label: whether the answer is good, or the class.
        positive: conversations that are near; `negative` those that are not.
        media: what is seen and heard, by the columns of `MARKS`.
        tools: that may be called, as JSON text; empty where there are none.
        extra: the other columns.
    """

    shape: str
    messages: list[Turn]
    rejected: list[Turn] | None = None
    label: Any = None
    positive: list[list[Turn]] = field(default_factory=list)
    negative: list[list[Turn]] = field(default_factory=list)
    media: Media = field(default_factory=dict)
    tools: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


def normal_row(row: Mapping[str, Any], columns: Mapping[str, str] | None = None) -> NormalRow:
    """The normal form of a row; `columns` says which column is which of `ROLES_OF_COLUMNS`, where names do not.

    Raises ShapelessRow, with the reason, where it has no shape that is known.
    """
    cells = Cells(row, columns or {})
    name, read = next(((name, read) for name, suits, read in READERS if suits(cells)), ("", None))
    if read is None:
        named = ", ".join(map(str, row)) or "no columns"
        raise ShapelessRow(f"there is neither a conversation, a question nor a text among {named[:200]}")
    messages, more = read(cells)
    system = cells.take("system")
    for turns in (messages, more.get("rejected")):
        if isinstance(system, str) and system and turns and turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": system})
    media = {kind: found for kind, found in cells.media.items() if found}
    for turns in (messages, more.get("rejected")) if media else ():
        _place(turns, media)
    more.setdefault("label", cells.take("label"))
    tools = cells.take("tools")
    text = tools if isinstance(tools, str) else json.dumps(tools, ensure_ascii=False) if tools else ""
    return NormalRow(name, messages, media=media, tools=text, extra=cells.left, **more)


def _place(turns: list[Turn] | None, media: Media) -> None:
    """Put what no text places before the first message, as ms-swift does (template/base.py, _add_default_tags)."""
    first = next((turn for turn in turns or () if turn["role"] != "system"), None)
    for kind, found in media.items():
        mark = MARKS[kind]
        missing = len(found) - sum(turn["content"].count(mark) for turn in turns or ())
        if first is not None and missing > 0:
            first["content"] = mark * missing + first["content"]


# --- shapes

Made: TypeAlias = "tuple[list[Turn], dict[str, Any]]"
"""The conversation that was read, and what else of a `NormalRow`."""


def _text_of(value: Any) -> str:
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], str):
        value = value[0]  # several answers: ms-swift takes the first, too
    if isinstance(value, (dict, list, tuple)):
        raise ShapelessRow("the answer is neither a text nor messages")
    return value if isinstance(value, str) else str(value)


def _is_messages(value: Any) -> bool:
    found = messages_in(value) if isinstance(value, str) and value.lstrip()[:1] in ("[", "{") else value
    return isinstance(found, dict) or (isinstance(found, list) and bool(found) and isinstance(found[0], dict))


def _turns_of(cells: Cells, value: Any, role: str) -> list[Turn]:
    """A cell as turns: messages, or a text that `role` says."""
    return conversation_in(value, cells.media) if _is_messages(value) else [{"role": role, "content": _text_of(value)}]


def _asked(cells: Cells) -> list[Turn]:
    """The turns before the answer: history, and the question with its input."""
    turns: list[Turn] = []
    for pair in messages_in(cells.take("history")) or []:
        question, answer = (*pair, None)[:2] if isinstance(pair, (list, tuple)) and pair else (pair, None)
        turns += [{"role": "user", "content": str(question)}] if question else []
        turns += [{"role": "assistant", "content": str(answer)}] if answer else []
    joins = cells.called("prompt").lower() in ("instruction", "prompt") or cells.named("prompt")
    prompt = cells.take("prompt")
    if prompt is None:
        return turns
    if _is_messages(prompt):
        return turns + conversation_in(prompt, cells.media)
    more = cells.take("input") if joins and cells.called("input") == "input" else None
    words = [_text_of(part) for part in (prompt, more) if part]
    return [*turns, {"role": "user", "content": "\n".join(words)}]


def _conversation(cells: Cells) -> Made:
    messages = conversation_in(cells.take("messages"), cells.media)
    if cells.has("chosen", "rejected"):  # LLaMA-Factory: the answers stand beside what leads to them
        chosen, rejected = (_turns_of(cells, cells.take(role), "assistant") for role in ("chosen", "rejected"))
        return _pair(messages, chosen, rejected)
    if cells.has("rejected"):
        column = cells.called("rejected")
        worse = _turns_of(cells, cells.take("rejected"), "assistant")
        whole = column == "rejected_messages" or worse[0]["role"] != "assistant"
        return messages, {"rejected": worse if whole else [*before_answer(messages), *worse]}
    return messages, {}


def _preferences(cells: Cells) -> Made:
    asked = _asked(cells)
    better = "chosen" if cells.has("chosen") else "response"  # as ms-swift's own rows call it
    chosen, rejected = (_answer(cells, cells.take(role)) for role in (better, "rejected"))
    return _pair(asked, chosen, rejected)


def _answer(cells: Cells, value: Any) -> list[Turn]:
    """An answer as turns; of a written dialogue (Anthropic's hh-rlhf) all of them."""
    parts = re.split(r"(?:^|\n\n)(Human|Assistant):", value) if isinstance(value, str) else []
    if len(parts) < 5 or parts[0].strip():
        return _turns_of(cells, value, "assistant")
    roles = ("user" if name == "Human" else "assistant" for name in parts[1::2])
    return [{"role": role, "content": text.strip()} for role, text in zip(roles, parts[2::2], strict=True)]


def _pair(asked: list[Turn], chosen: list[Turn], rejected: list[Turn]) -> Made:
    """Two conversations; each answer may come with what leads to it, as TRL's do."""
    first, second = (
        [dict(turn) for turn in ([] if answer[0]["role"] in ("user", "system") else asked)] + answer
        for answer in (chosen, rejected)
    )
    if not any(turn["role"] == "user" for turn in first):
        raise ShapelessRow("there is no question before the two answers")
    return first, {"rejected": second}


def _better_and_worse(cells: Cells) -> Made:
    """VLFeedback: several answers with ratings; the best and the worst are a pair."""
    completions = messages_in(cells.take("completions"))
    if isinstance(completions, dict):
        completions = [
            dict(zip(completions, values, strict=False)) for values in zip(*completions.values(), strict=False)
        ]
    rated = sorted(((_rating(one), _answer_of(one)) for one in completions), key=lambda pair: pair[0])
    if len(rated) < 2 or rated[0][0] == rated[-1][0]:
        raise ShapelessRow("no answer is rated better than another")
    asked = _asked(cells)
    cells.left.pop("models", None)
    return _pair(asked, *([{"role": "assistant", "content": text}] for _, text in (rated[-1], rated[0])))


def _answer_of(completion: Any) -> str:
    text = completion.get("response") if isinstance(completion, dict) else None
    if not isinstance(text, str) or not text:
        raise ShapelessRow("an answer among completions is empty")
    return text


def _rating(completion: Any) -> float:
    """The mean of the ratings of an answer, each of another aspect."""
    marks = completion.get("annotations") if isinstance(completion, dict) else None
    found = [mark.get("Rating") for mark in marks.values() if isinstance(mark, dict)] if isinstance(marks, dict) else []
    numbers = [float(word) for word in map(str, found) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", word)]
    if not numbers:
        raise ShapelessRow("an answer among completions has no rating")
    return sum(numbers) / len(numbers)


def _near(cells: Cells) -> Made:
    if cells.has("messages"):
        anchor = conversation_in(cells.take("messages"), cells.media)
    else:
        value = cells.take("anchor") if cells.has("anchor") else cells.take("prompt")
        anchor = _turns_of(cells, value, "user")
    found = {role: _texts_near(cells, cells.take(role)) for role in ("positive", "negative")}
    return anchor, found


def _texts_near(cells: Cells, value: Any) -> list[list[Turn]]:
    several = messages_in(value) if isinstance(value, str) and value.lstrip()[:1] == "[" else value
    if several is None:
        return []
    if isinstance(several, list) and several and isinstance(several[0], list):
        return [conversation_in(one, cells.media) for one in several]
    if isinstance(several, (list, tuple)) and not _is_messages(several):
        return [[{"role": "user", "content": _text_of(one)}] for one in several]
    return [_turns_of(cells, several, "user")]


def _question_and_answer(cells: Cells) -> Made:
    asked = _asked(cells)
    by_text = cells.has("text") and not cells.has("response")
    answer = cells.take("text") if by_text else _solved(cells)
    return (asked if answer is None else asked + _turns_of(cells, answer, "assistant")), {}


def _solved(cells: Cells) -> Any:
    """The answer; a solution is one, and stays beside it for a reward to compare with."""
    column = cells.called("response")
    kept = cells.left.get(column)
    answer = cells.take("response")
    if column.lower() == "solution":
        cells.left[column] = kept
    return answer


def _plain(cells: Cells) -> Made:
    label = cells.take("label")
    role = "assistant" if label is None else "user"
    return [{"role": role, "content": _text_of(cells.take("text"))}], {"label": label}


def _inner_json(cells: Cells) -> bool:
    """RLHF-V keeps question, chosen and rejected as JSON in the column ``text``."""
    text = cells.left.get("text")
    inner = messages_in(text) if isinstance(text, str) and text.lstrip()[:1] == "{" else None
    if not (isinstance(inner, dict) and {"question", "chosen", "rejected"} <= inner.keys()):
        return False
    del cells.left["text"]
    cells.add({name: inner[name] for name in ("question", "chosen", "rejected")})
    return True


READERS: tuple[tuple[str, Callable[[Cells], bool], Callable[[Cells], Made]], ...] = (
    ("rlhfv", _inner_json, _preferences),
    ("vlfeedback", lambda cells: cells.has("completions", "prompt"), _better_and_worse),
    ("conversation with near ones", lambda cells: cells.has("messages", "positive"), _near),
    ("conversation", lambda cells: cells.has("messages"), _conversation),
    ("preferences", lambda cells: cells.has("chosen", "rejected"), _preferences),
    ("preferences", lambda cells: cells.has("response", "rejected"), _preferences),
    ("texts near a text", lambda cells: cells.has("positive") and (cells.has("anchor") or cells.has("prompt")), _near),
    ("question and answer", lambda cells: cells.has("prompt"), _question_and_answer),
    ("text", lambda cells: cells.has("text"), _plain),
    ("answer", lambda cells: cells.has("response"), _question_and_answer),
)
"""Shapes, told by what a row has: the first that suits is read."""
