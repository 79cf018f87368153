"""The pictures of a row: which files they are, whether these are there, and where the text places them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.data.files import shown
from tunekit.data.rows import ANSWER, CONTENTS, MESSAGES, QUESTION, SYSTEM, USERS, conversation_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KINDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "image": ("<image>", ("images", "image")),
    "video": ("<video>", ("videos", "video")),
    "audio": ("<audio>", ("audios", "audio")),
}
"""What a row may show or play: the mark that places it in a text, and the columns that it stands in."""

MARK = KINDS["image"][0]
LONGEST_PATH = 2000
"""Longer texts are pictures in base64 to ms-swift (template/vision_utils.py, _check_path)."""

SAYING = (*CONTENTS, *USERS, "assistant", "gpt", "bot")
"""Keys of a message's words."""

INLINE = re.compile(r"(?:https?:|data:|[A-Za-z0-9+/]{64,}={0,2}$)")
"""What is no path: an address, or the picture itself in base64."""


def pictures_of(row: dict[str, Any], kind: str = "image") -> list[Any]:
    """The pictures, or whatever else of `KINDS`, that stand in a column of their own."""
    columns = KINDS[kind][1]
    value = row.get(columns[0]) or row.get(columns[1])
    return value if isinstance(value, list) else [value] if isinstance(value, (str, dict)) else []


def sees_pictures(row: dict[str, Any]) -> bool:
    """Whether a row has pictures, in a column or within its messages."""
    return bool(pictures_of(row)) or any(True for _ in _inside(row, "image"))


def absent_file(row: dict[str, Any], root: str = "") -> tuple[str, str] | None:
    """The first picture, video or sound of a row whose file is not there: its kind and path; None where all are.

    Relative paths begin at `root`, too.
    """
    for kind in KINDS:
        for value in (*pictures_of(row, kind), *_inside(row, kind)):
            for part in value if isinstance(value, list) else [value]:  # a video may be a list of its pictures
                path = part.get("path") if isinstance(part, dict) and not part.get("bytes") else part
                if isinstance(path, str) and path and not _is_there(path.strip(), root):
                    return kind, path
    return None


def marks_problem(row: dict[str, Any]) -> str | None:
    """More places for pictures in a text than pictures: what is left over is learned as a word."""
    for kind, (mark, _) in KINDS.items():
        there = len(pictures_of(row, kind))
        marks = marks_in(row, kind) if there else 0
        if marks > there:
            return f"there are {marks} {mark} and {there} {kind}{'s' if there > 1 else ''}: as many are needed"
    return None


def marks_in(row: dict[str, Any], kind: str = "image") -> int:
    """How often the texts of a row place a picture, or whatever else of `KINDS`."""
    return sum(text.count(KINDS[kind][0]) for text in _texts(row))


def picture_problem(row: dict[str, Any], root: str = "") -> str | None:
    """Why the pictures, videos or sounds of a row cannot be found, here or below `root`; None where they can."""
    absent = absent_file(row, root)
    if absent is None:
        return None
    return f"the {absent[0]} {shown(absent[1], 200)} does not exist: another row would stand in for it"


def _is_there(path: str, root: str) -> bool:
    return len(path) > LONGEST_PATH or INLINE.match(path) is not None or seen_file(path, root) is not None


def seen_file(path: str, root: str = "") -> Path | None:
    """The file that ms-swift opens for the path of a picture; None where there is none, or it is no path."""
    if len(path) > LONGEST_PATH or INLINE.match(path):
        return None
    root = root or os.environ.get("ROOT_IMAGE_DIR", "")
    try:
        return next((one for one in (Path(path), Path(root) / Path(path).expanduser()) if one.exists()), None)
    except (OSError, ValueError, RuntimeError):
        return None


def _inside(row: dict[str, Any], kind: str) -> Iterator[Any]:
    """Pictures, or whatever else of `KINDS`, within messages, as OpenAI's format has them."""
    for content in _contents(row):
        for item in content if isinstance(content, list) else ():
            name = item.get("type") if isinstance(item, dict) else None
            if name in (kind, f"{kind}_url"):
                value = item.get(name)
                yield value.get("url") if isinstance(value, dict) and "url" in value else value


def _contents(row: dict[str, Any]) -> Iterator[Any]:
    for message in conversation_of(row) or ():
        if isinstance(message, dict):
            for key in SAYING:
                if key in message:
                    yield message[key]


def _texts(row: dict[str, Any]) -> Iterator[str]:
    columns = (value for key, value in row.items() if key.lower() in (*QUESTION, *ANSWER, *SYSTEM))
    values = [*_contents(row)] if any(key in row for key in MESSAGES) else [*columns]
    yield from (value for value in values if isinstance(value, str))
