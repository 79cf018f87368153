"""Which columns of a dataset must be renamed for ms-swift to take them for what they are: ``--columns``.

ms-swift 4.6 maps questions and answers by itself, and never a pair: rows with prompt, chosen and rejected it loads as
prompts alone, without a word. Names as in its dataset/preprocessor/core.py; a test loads each map with the real one.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tunekit.data.rows import ANSWER, MEDIA, MESSAGES, QUESTION, REJECTED, ROLES, SYSTEM, USERS, messages_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tunekit.stages import Shape

CHOSEN = ("chosen", "chosen_response")
TAGS = ("kto_tag", "tag", "desirable", "is_desirable")
"""What other tools call the label of KTO; LLaMA-Factory's first."""

BODIES = ("body", "raw", "raw_content", "document", "article", "passage", "paragraph", "story", "code")
"""What the only text of a row is called, beside the names that ms-swift knows."""

OTHER_SHAPE = "its chosen and rejected answers are objects, which no renaming of columns makes into ms-swift's"
APART = "its chosen answers do not begin with the question, which stands in a column of messages of its own"
TAKEN = 'beside "chosen" there is another answer or a conversation, so it cannot take that name'


class OtherShape(ValueError):  # noqa: N818 - named as what was found
    """No renaming makes rows of that kind into ms-swift's: they must be converted. The message says why."""


def renamed_row(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """A row whose columns are renamed as ``--columns`` does, whatever the case of their names."""
    if not columns:
        return dict(row)
    lower = {old.lower(): new for old, new in columns.items()}
    return {lower.get(name.lower(), name): value for name, value in row.items()}


def columns_of_text(text: str) -> dict[str, str]:
    """What ``--columns`` says; empty where it is no JSON object of names, which ms-swift itself will say."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {str(old): str(new) for old, new in found.items()} if isinstance(found, dict) else {}


def suggested_columns(rows: Sequence[Mapping[str, Any]], shape: Shape) -> dict[str, str]:
    """The names that some rows of a dataset need to be taken for what they are; empty where they need none.

    Raises OtherShape where renaming does not help.
    """
    names = {name.lower(): name for row in rows for name in row}
    if shape.pairs:
        return _pair(rows, names)
    if shape.labelled and "label" not in names:
        tag = next((names[tag] for tag in TAGS if tag in names), "")
        return {tag: "label"} if tag else {}
    if not shape.asked and shape.answered:
        return _body(rows, names)
    return {}


def _pair(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> dict[str, str]:
    chosen = next((names[name] for name in CHOSEN if name in names), "")
    rejected = next((names[name] for name in REJECTED if name in names), "")
    if not chosen or not rejected:
        return {}
    pairs = [(row[chosen], row[rejected]) for row in rows if row.get(chosen) and row.get(rejected)]
    if not pairs:
        return {}
    texts = all(isinstance(one, str) and not _is_list(one) for pair in pairs for one in pair)
    turns = [] if texts else [messages_in(one) for pair in pairs for one in pair]
    if not all(isinstance(one, list) and one and isinstance(one[0], dict) for one in turns):
        raise OtherShape(OTHER_SHAPE)
    if names.keys() & {*MESSAGES, *ANSWER} - {chosen.lower()}:
        raise OtherShape(TAKEN)
    if texts:
        return _changed({chosen: "response", rejected: "rejected_response"})
    if not any(_role(turn) in USERS for one in turns for turn in one) and "prompt" in names:
        raise OtherShape(APART)
    return _changed({chosen: "messages", rejected: "rejected_messages"})


def _changed(columns: dict[str, str]) -> dict[str, str]:
    return {old: new for old, new in columns.items() if old != new}


def _is_list(text: str) -> bool:
    return text.lstrip()[:2] in ("[{", "[ ") and isinstance(messages_in(text), list)


def _role(turn: Any) -> str:
    return str(next((turn[key] for key in ROLES if key in turn), "")) if isinstance(turn, dict) else ""


def _body(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> dict[str, str]:
    """The column of plain text: one that is called so, or the only one that holds any."""
    if names.keys() & {*MESSAGES, *QUESTION, *ANSWER, *SYSTEM, *MEDIA}:
        return {}
    texts = [name for name in names.values() if _all_text(row.get(name) for row in rows)]
    named = [names[body] for body in BODIES if names.get(body) in texts]
    found = named[:1] or (texts if len(texts) == 1 else [])
    return {found[0]: "response"} if found else {}


def _all_text(values: Iterable[Any]) -> bool:
    found = [value for value in values if value is not None]
    return bool(found) and all(isinstance(value, str) for value in found)
