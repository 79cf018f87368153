"""What is to be said of one row: by the shape that a stage asks for, its pictures, and what stands in its text."""

from __future__ import annotations

import json
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from tunekit.data.check import row_problem
from tunekit.data.columns import renamed_row
from tunekit.data.findings import DAMAGED, FORM, KEY, ORDER, PICTURE, ROW, UNREADABLE
from tunekit.data.pictures import MARK, absent_picture, marks_in, marks_problem, pictures_of, seen_file, sees_pictures
from tunekit.data.rows import ANSWER, ASSISTANTS, MESSAGES, QUESTION, ROLES, ROW_LISTS, SYSTEM, USERS, conversation_of
from tunekit.data.suspicious import damage_in, secret_in
from tunekit.files import path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tunekit.data.entry import Entry
    from tunekit.stages import Shape

Said = tuple[str, str, str]
"""A kind of finding, what is alike, and the problem."""

SPECIAL = frozenset((*ROW_LISTS, *ROLES, *QUESTION, *ANSWER, *SYSTEM, "label", "tools")) - {"messages"}
"""Columns beside a conversation with which a row is looked at more closely."""

PLAIN_ROLES = frozenset(("user", "assistant"))
NO_CONVERSATION = "it has no conversation, and other rows of the file do: ms-swift leaves it out"

NAMES = frozenset(("id", "idx", "index", "uuid", "_id"))
"""Columns that number rows: two that differ in them alone are the same to a model."""


class Judge:
    """Judges rows of one stage; `columns` are renamed before.

    `conversations`: the file has conversations, so ms-swift leaves out its rows that are none.
    """

    def __init__(
        self, shape: Shape | None, name: str, columns: Mapping[str, str] | None = None, *, conversations: bool = False
    ) -> None:
        self.shape, self.name, self.columns, self.conversations = shape, name, dict(columns or {}), conversations
        self._plain = bool(shape and shape.answered) and not (shape and (shape.pairs or shape.labelled or shape.near))
        self._simple: dict[tuple[str, ...], bool] = {}

    def of_entry(self, entry: Entry) -> list[Said]:
        """All that is wrong with what stands at a place; empty where nothing is."""
        row = entry.row
        if row is None:
            return [(UNREADABLE, entry.fault.partition(":")[0], entry.fault)]
        found = [(FORM, entry.fault, entry.fault)] if entry.fault else []
        if self._is_fine(row):
            return found
        if self.columns:
            row = renamed_row(row, self.columns)
        return [*found, *self._of_row(row)]

    def of_made(self, row: dict[str, Any]) -> list[Said]:
        """What is wrong with a row that was made for the stage: its columns are ms-swift's already."""
        return list(self._of_row(row))

    def of_text(self, blob: bytes) -> list[Said]:
        """What its text, in UTF-8, has that it should not."""
        meaning = "" if blob.isascii() else damage_in(blob)
        secret = secret_in(blob)
        found: list[Said] = [(DAMAGED, meaning, meaning)] if meaning else []
        if secret:
            found.append((KEY, secret[0], f"{secret[0]} stands in the text: {secret[1]}"))
        return found

    def _is_fine(self, row: dict[str, Any]) -> bool:
        """Whether a row is a plain conversation as the stage wants it: of most files most rows, told in a moment."""
        if not self._plain:
            return False
        names = tuple(row)
        simple = self._simple.get(names)
        if simple is None:
            simple = "messages" in row and SPECIAL.isdisjoint(name.lower() for name in names) and not self.columns
            if len(self._simple) < 1000:
                self._simple[names] = simple
        return simple and _plain_turns(row["messages"])

    def _of_row(self, row: dict[str, Any]) -> Iterator[Said]:
        problem = row_problem(row, self.shape, self.name) if self.shape else None
        if problem is None and self.conversations and not any(key in row for key in MESSAGES):
            problem = NO_CONVERSATION
        if problem:
            yield (PICTURE, "marks", problem) if problem == marks_problem(row) else (ROW, _alike(problem), problem)
            return
        if sees_pictures(row):
            yield from _of_pictures(row)
        elif marks_in(row):
            yield ORDER, "no picture", f"{MARK} stands in the text and there is no image: it is learned as a word"
        if odd := order_problem(row):
            yield (ROW if odd.startswith("a system") else ORDER), _alike(odd), odd


def _plain_turns(turns: Any) -> bool:
    """Whether messages are texts of user and assistant in turn, perhaps behind a system prompt, and end with an answer.

    No more is asked of it than that it is quick and never takes for fine what is not.
    """
    if type(turns) is not list or len(turns) < 2:
        return False
    before: Any = ""
    for turn in turns:
        if type(turn) is not dict:
            return False
        role, content = turn.get("role"), turn.get("content")
        fits = role in PLAIN_ROLES or (role == "system" and not before)
        if type(content) is not str or not content or role == before or not fits or MARK in content:
            return False
        before = role
    return bool(before == "assistant" and turns[-2]["role"] == "user")


def _alike(problem: str) -> str:
    """Problems that differ in a number are alike."""
    return "".join("#" if char.isdigit() else char for char in problem)


def _of_pictures(row: dict[str, Any]) -> Iterator[Said]:
    absent = absent_picture(row)
    if absent:
        yield PICTURE, "absent", f"the image {absent[:200]} does not exist: another row would stand in for it"
        return
    for picture in pictures_of(row):
        path: Any = picture.get("path") if isinstance(picture, dict) and not picture.get("bytes") else picture
        file = seen_file(path.strip()) if isinstance(path, str) and path else None
        why = unreadable_picture(str(file)) if file else ""
        if why:
            yield PICTURE, why, f"the image {str(path)[:200]} cannot be read: {why}"
            return
    pictures, marks = len(pictures_of(row)), marks_in(row)
    if 0 < marks < pictures:
        yield ORDER, "fewer", f"there are {marks} {MARK} and {pictures} images: ms-swift puts the others first"


@lru_cache(maxsize=100_000)
def unreadable_picture(path: str) -> str:
    """Why a file is no picture that can be opened; empty where it is, and where Pillow is not installed."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        return "" if path_of(path).stat().st_size else "it is empty"
    try:
        with Image.open(path) as picture:
            picture.verify()
    except UnidentifiedImageError:
        return "it is no picture that Pillow knows"
    except Exception as error:  # noqa: BLE001 - its readers raise what they like: SyntaxError for a broken PNG
        return f"{type(error).__name__}: it is damaged"
    return ""


def order_problem(row: dict[str, Any]) -> str:
    """What is odd in the order of a conversation's turns; empty where nothing is.

    As in ms-swift 4.6 template/base.py: _swift_prepare_inputs joins turns of one speaker, and _swift_encode fails at a
    system prompt behind the first turn.
    """
    before = ""
    for number, turn in enumerate(conversation_of(row) or (), start=1):
        role = str(next((turn[key] for key in ROLES if key in turn), "")) if isinstance(turn, dict) else ""
        kind = "user" if role in USERS else "assistant" if role in ASSISTANTS[:3] else role
        if kind == "system" and number > 1:
            return f"a system prompt stands in turn {number}, behind others: ms-swift leaves such rows out"
        if kind == before and kind in PLAIN_ROLES:
            return f"turns {number - 1} and {number} are both of the {kind}: ms-swift joins them without a space"
        before = kind
    return ""


@cache
def row_encoder() -> Callable[[Any], bytes]:
    """What writes a row as JSON in UTF-8, always in the same way: msgspec, where it is installed."""
    try:
        from msgspec.json import Encoder
    except ImportError:
        return _encode
    encode = Encoder(order="deterministic").encode
    return lambda row: _encoded(encode, row)


def _encoded(encode: Callable[[Any], bytes], row: Any) -> bytes:
    try:
        return encode(row)
    except Exception:  # noqa: BLE001 - msgspec has errors of its own, and Arrow values that it cannot write
        return _encode(row)


def _encode(row: Any) -> bytes:
    return json.dumps(row, ensure_ascii=False, sort_keys=True, default=str).encode("utf-8", "replace")
