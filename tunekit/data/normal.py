"""One normal form of a row, from every shape that files of rows come in; and from it the row of any stage."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from tunekit.data.check import row_problem
from tunekit.data.rows import ANSWER, MESSAGES, QUESTION, SYSTEM, messages_in
from tunekit.data.turns import MARKS, Media, ShapelessRow, Turn, conversation_in
from tunekit.errors import TunekitError, did_you_mean
from tunekit.stages import STAGES, TASKS, Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROLES_OF_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "messages": (*MESSAGES, "dialogue", "dialog"),
    "system": (*SYSTEM, "system_message"),
    "prompt": ("prompt", *(name for name in QUESTION if name not in ("prompt", "input")), "input"),
    "input": ("input", "context"),
    "response": tuple(name for name in ANSWER if name not in ("text", "content")),
    "chosen": ("chosen", "chosen_response", "preferred", "accepted"),
    "rejected": ("rejected_messages", "rejected_response", "rejected", "dispreferred"),
    "history": ("history",),
    "text": ("text", "content"),
    "label": ("label", "kto_tag", "labels"),
    "positive": ("positive_messages", "positive", "positives", "pos", "sentence2", "document", "passage"),
    "negative": ("negative_messages", "negative", "negatives", "neg", "hard_negatives"),
    "anchor": ("anchor", "sentence1", "sentence"),
    "images": ("images", "image", "image_path", "image_paths", "img_path"),
    "videos": ("videos", "video"),
    "audios": ("audios", "audio"),
    "tools": ("tools", "functions"),
    "completions": ("completions",),
}
"""What a column can be, and what it is called: the first name that a row has is taken. ``--map`` names another."""

RANKS: dict[str, list[tuple[str, int]]] = {}
"""What each name can mean, and how well it says so."""
for _role, _names in ROLES_OF_COLUMNS.items():
    for _rank, _word in enumerate(_names):
        RANKS.setdefault(_word, []).append((_role, _rank))

KNOWN_TO_SWIFT = ("channel", "margin", "objects", "chat_template_kwargs")
"""Columns beside the conversation that ms-swift 4.6 keeps (dataset/preprocessor/core.py, standard_keys)."""

SHAPES_BY_NAME: Mapping[str, Shape] = {
    **{stage.name: stage.rows for stage in STAGES.values()},
    **{task: shape for task, shape in TASKS.items() if shape},
}
"""What ``--to`` takes: stages, and tasks whose rows are known."""


def target_named(word: str) -> str:
    """The stage or task that ``--to`` names, by whatever name. Raises TunekitError where there is none."""
    known = {alias: stage.name for stage in STAGES.values() for alias in stage.aliases}
    name = known.get(word, word)
    if name not in SHAPES_BY_NAME:
        hint = did_you_mean(word, SHAPES_BY_NAME)
        raise TunekitError(f"--to takes {', '.join(SHAPES_BY_NAME)}, not {word}", hint)
    return name


def columns_named(text: str) -> dict[str, str]:
    """What ``--map prompt=instruction,response=output`` says. Raises TunekitError where it says nothing."""
    found: dict[str, str] = {}
    known = {name: role for role, names in reversed([*ROLES_OF_COLUMNS.items()]) for name in names}
    for part in filter(None, text.split(",")):
        role, _, column = (word.strip() for word in part.partition("="))
        if not column or role not in known:
            hint = f"prompt=COLUMN; it may be {', '.join(ROLES_OF_COLUMNS)}"
            raise TunekitError(f"--map {part}: {role or part} is nothing that a column can be", hint)
        found[role if role in ROLES_OF_COLUMNS else known[role]] = column
    return found


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
    cells = _Cells(row, columns or {})
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


class _Cells:
    """The columns of a row by what they are; what was taken is gone."""

    def __init__(self, row: Mapping[str, Any], columns: Mapping[str, str]) -> None:
        self.left: dict[str, Any] = dict(row)
        self._named = {role: _dug(self.left, column) for role, column in columns.items()}
        self._names = _names_by_role(self.left)
        self.media: Media = {kind: _listed(self.take(kind)) for kind in MARKS}

    def has(self, *roles: str) -> bool:
        """Whether there is something of each."""
        return all(self._name(role) is not None or self._named.get(role) is not None for role in roles)

    def take(self, role: str) -> Any:
        """What is of a role; None where there is nothing."""
        named = self._named.pop(role, None)
        if named is not None:
            return named
        name = self._name(role)
        return None if name is None else self.left.pop(name)

    def called(self, role: str) -> str:
        """The column of a role; empty where there is none."""
        return self._name(role) or ""

    def add(self, more: Mapping[str, Any]) -> None:
        """Columns that stood within another one."""
        self.left.update(more)
        self._names = _names_by_role(self.left)

    def _name(self, role: str) -> str | None:
        for name in self._names.get(role, ()):
            if name in self.left and self.left[name] not in (None, "", []):
                return name
        return None


def _names_by_role(row: Mapping[str, Any]) -> dict[str, list[str]]:
    """The columns of a row that can be of each role, the best name first."""
    found: dict[str, list[tuple[int, str]]] = {}
    for name in row:
        for role, rank in RANKS.get(name.lower(), ()):
            found.setdefault(role, []).append((rank, name))
    return {role: [name for _, name in sorted(ranked)] for role, ranked in found.items()}


def _dug(left: dict[str, Any], column: str) -> Any:
    """A column that the user named, taken out; ``data.question`` is one within another."""
    if column in left:
        return left.pop(column)
    value: Any = left
    for part in column.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _listed(value: Any) -> list[Any]:
    if value in (None, ""):
        return []
    found = messages_in(value) if isinstance(value, str) and value.lstrip()[:1] == "[" else value
    return list(found) if isinstance(found, (list, tuple)) else [found]


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


def _turns_of(cells: _Cells, value: Any, role: str) -> list[Turn]:
    """A cell as turns: messages, or a text that `role` says."""
    return conversation_in(value, cells.media) if _is_messages(value) else [{"role": role, "content": _text_of(value)}]


def _asked(cells: _Cells) -> list[Turn]:
    """The turns before the answer: history, and the question with its input."""
    turns: list[Turn] = []
    for pair in messages_in(cells.take("history")) or []:
        question, answer = (*pair, None)[:2] if isinstance(pair, (list, tuple)) and pair else (pair, None)
        turns += [{"role": "user", "content": str(question)}] if question else []
        turns += [{"role": "assistant", "content": str(answer)}] if answer else []
    joins = cells.called("prompt").lower() in ("instruction", "prompt") or "prompt" in cells._named  # noqa: SLF001
    prompt = cells.take("prompt")
    if prompt is None:
        return turns
    if _is_messages(prompt):
        return turns + conversation_in(prompt, cells.media)
    more = cells.take("input") if joins and cells.called("input") == "input" else None
    words = [_text_of(part) for part in (prompt, more) if part]
    return [*turns, {"role": "user", "content": "\n".join(words)}]


def _conversation(cells: _Cells) -> Made:
    messages = conversation_in(cells.take("messages"), cells.media)
    if cells.has("chosen", "rejected"):  # LLaMA-Factory: the answers stand beside what leads to them
        chosen, rejected = (_turns_of(cells, cells.take(role), "assistant") for role in ("chosen", "rejected"))
        return _pair(messages, chosen, rejected)
    if cells.has("rejected"):
        column = cells.called("rejected")
        worse = _turns_of(cells, cells.take("rejected"), "assistant")
        whole = column == "rejected_messages" or worse[0]["role"] != "assistant"
        return messages, {"rejected": worse if whole else [*_before_answer(messages), *worse]}
    return messages, {}


def _preferences(cells: _Cells) -> Made:
    asked = _asked(cells)
    chosen, rejected = (_answer(cells, cells.take(role)) for role in ("chosen", "rejected"))
    return _pair(asked, chosen, rejected)


def _answer(cells: _Cells, value: Any) -> list[Turn]:
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


def _better_and_worse(cells: _Cells) -> Made:
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


def _near(cells: _Cells) -> Made:
    if cells.has("messages"):
        anchor = conversation_in(cells.take("messages"), cells.media)
    else:
        value = cells.take("anchor") if cells.has("anchor") else cells.take("prompt")
        anchor = _turns_of(cells, value, "user")
    found = {role: _texts_near(cells, cells.take(role)) for role in ("positive", "negative")}
    return anchor, found


def _texts_near(cells: _Cells, value: Any) -> list[list[Turn]]:
    several = messages_in(value) if isinstance(value, str) and value.lstrip()[:1] == "[" else value
    if several is None:
        return []
    if isinstance(several, list) and several and isinstance(several[0], list):
        return [conversation_in(one, cells.media) for one in several]
    if isinstance(several, (list, tuple)) and not _is_messages(several):
        return [[{"role": "user", "content": _text_of(one)}] for one in several]
    return [_turns_of(cells, several, "user")]


def _question_and_answer(cells: _Cells) -> Made:
    asked = _asked(cells)
    by_text = cells.has("text") and not cells.has("response")
    answer = cells.take("text") if by_text else _solved(cells)
    return (asked if answer is None else asked + _turns_of(cells, answer, "assistant")), {}


def _solved(cells: _Cells) -> Any:
    """The answer; a solution is one, and stays beside it for a reward to compare with."""
    column = cells.called("response")
    kept = cells.left.get(column)
    answer = cells.take("response")
    if column.lower() == "solution":
        cells.left[column] = kept
    return answer


def _plain(cells: _Cells) -> Made:
    label = cells.take("label")
    role = "assistant" if label is None else "user"
    return [{"role": role, "content": _text_of(cells.take("text"))}], {"label": label}


def _inner_json(cells: _Cells) -> bool:
    """RLHF-V keeps question, chosen and rejected as JSON in the column ``text``."""
    text = cells.left.get("text")
    inner = messages_in(text) if isinstance(text, str) and text.lstrip()[:1] == "{" else None
    if not (isinstance(inner, dict) and {"question", "chosen", "rejected"} <= inner.keys()):
        return False
    del cells.left["text"]
    cells.add({name: inner[name] for name in ("question", "chosen", "rejected")})
    return True


READERS: tuple[tuple[str, Callable[[_Cells], bool], Callable[[_Cells], Made]], ...] = (
    ("rlhfv", _inner_json, _preferences),
    ("vlfeedback", lambda cells: cells.has("completions", "prompt"), _better_and_worse),
    ("conversation with near ones", lambda cells: cells.has("messages", "positive"), _near),
    ("conversation", lambda cells: cells.has("messages"), _conversation),
    ("preferences", lambda cells: cells.has("chosen", "rejected"), _preferences),
    ("texts near a text", lambda cells: cells.has("positive") and (cells.has("anchor") or cells.has("prompt")), _near),
    ("question and answer", lambda cells: cells.has("prompt"), _question_and_answer),
    ("text", lambda cells: cells.has("text"), _plain),
    ("answer", lambda cells: cells.has("response"), _question_and_answer),
)
"""Shapes, told by what a row has: the first that suits is read."""


# --- rows of a stage


def stage_rows(row: NormalRow, target: str) -> list[dict[str, Any]]:
    """The rows that a stage or a task (a key of `SHAPES_BY_NAME`) makes of one: two where a pair is marked for KTO.

    Raises ShapelessRow, with the reason, where the row has not what they need.
    """
    shape = SHAPES_BY_NAME[target]
    made = [_beside(row, found, shape, target) for found in _rows_of(row, shape, target)]
    for found in made:
        problem = row_problem(found, shape, target)
        if problem:
            raise ShapelessRow(problem)
    return made


def _rows_of(row: NormalRow, shape: Shape, target: str) -> list[dict[str, Any]]:
    if shape.pairs:
        return [_paired(row, target)]
    if shape.labelled:
        return _marked(row, target)
    if shape.classed:
        return [{"messages": _before_answer(row.messages) or row.messages, "label": _class_of(row.label)}]
    if shape.near:
        near = {f"{name}_messages": found for name, found in (("positive", row.positive), ("negative", row.negative))}
        return [{"messages": row.messages, **{name: found for name, found in near.items() if found}}]
    if not shape.answered:
        return [_prompt(row)]
    if row.label is False:
        raise ShapelessRow(f"its answer is marked as bad, and {target} would learn it")
    if shape.asked and not any(turn["role"] == "user" for turn in row.messages) and not row.media:
        raise ShapelessRow(f"it asks nothing: {target} would learn to answer an empty question")
    return [{"messages": row.messages}]


def _paired(row: NormalRow, target: str) -> dict[str, Any]:
    if row.rejected is None:
        raise ShapelessRow(f"{target} needs a rejected answer in every row")
    same = row.messages[:-1] == row.rejected[:-1] and row.rejected[-1]["role"] == "assistant"
    worse = {"rejected_response": row.rejected[-1]["content"]} if same else {"rejected_messages": row.rejected}
    return {"messages": row.messages, **worse}


def _marked(row: NormalRow, target: str) -> list[dict[str, Any]]:
    if row.rejected is not None:
        return [{"messages": row.messages, "label": True}, {"messages": row.rejected, "label": False}]
    word = str(row.label).strip().lower()
    if word not in GOOD:
        raise ShapelessRow(f"{target} needs a label that says whether the answer is good, not {word[:40]}")
    return [{"messages": row.messages, "label": GOOD[word]}]


GOOD: Mapping[str, bool] = {
    **dict.fromkeys(("true", "1", "1.0", "good", "yes", "chosen"), True),
    **dict.fromkeys(("false", "0", "0.0", "-1", "bad", "no", "rejected"), False),
}
"""What marks an answer as good or bad."""


def _class_of(label: Any) -> Any:
    return int(label) if isinstance(label, str) and label.strip().isdigit() else label


def _prompt(row: NormalRow) -> dict[str, Any]:
    """The question; the answer that was there stays beside it, for a reward to compare with."""
    asked = _before_answer(row.messages)
    if not any(turn["role"] == "user" for turn in asked):
        raise ShapelessRow("it asks nothing")
    answer = row.messages[-1]["content"] if len(asked) < len(row.messages) else None
    return {"messages": asked, **({} if answer is None else {"solution": answer})}


def _before_answer(messages: list[Turn]) -> list[Turn]:
    return messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages


def _beside(row: NormalRow, made: dict[str, Any], shape: Shape, target: str) -> dict[str, Any]:
    """A row with what stands beside its conversation: a reward gets every column, others what ms-swift reads."""
    rewarded = not shape.answered and target in STAGES
    known = KNOWN_TO_SWIFT if not rewarded else tuple(row.extra)
    label = {"label": row.label} if rewarded and row.label is not None else {}
    extra = {name: row.extra[name] for name in known if row.extra.get(name) is not None}
    tools = {"tools": row.tools} if row.tools else {}
    return {**made, **tools, **row.media, **label, **extra}


def columns_dropped(row: NormalRow, made: Mapping[str, Any]) -> list[str]:
    """Columns of a row of which nothing is in what was made of it."""
    return [name for name, value in row.extra.items() if name not in made and value != row.messages[-1]["content"]]
