"""The pictures of a row: which files they are, whether these are there, and where the text places them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.data.files import shown
from tunekit.data.rows import ANSWER, CONTENTS, MESSAGES, QUESTION, SYSTEM, conversation_of

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS = ("images", "image")
MARK = "<image>"
LONGEST_PATH = 2000
"""Longer texts are pictures in base64 to ms-swift (template/vision_utils.py, _check_path)."""

SAYING = (*CONTENTS, "user", "assistant")
"""Keys of a message's words."""

INLINE = re.compile(r"(?:https?:|data:|[A-Za-z0-9+/]{64,}={0,2}$)")
"""What is no path: an address, or the picture itself in base64."""


def pictures_of(row: dict[str, Any]) -> list[Any]:
    """The pictures that stand in a column of their own."""
    value = row.get(COLUMNS[0]) or row.get(COLUMNS[1])
    return value if isinstance(value, list) else [value] if isinstance(value, (str, dict)) else []


def sees_pictures(row: dict[str, Any]) -> bool:
    """Whether a row has pictures, in a column or within its messages."""
    return bool(pictures_of(row)) or any(True for _ in _inside(row))


def absent_picture(row: dict[str, Any], root: str = "") -> str:
    """The first picture of a row whose file is not there; empty where all are. Relative paths begin at `root`, too."""
    for picture in (*pictures_of(row), *_inside(row)):
        path = picture.get("path") if isinstance(picture, dict) and not picture.get("bytes") else picture
        if isinstance(path, str) and path and not _is_there(path.strip(), root):
            return path
    return ""


def marks_problem(row: dict[str, Any]) -> str | None:
    """More places for pictures in a text than pictures: what is left over is learned as a word."""
    pictures = len(pictures_of(row))
    marks = marks_in(row) if pictures else 0
    if marks <= pictures:
        return None
    return f"there are {marks} {MARK} and {pictures} image{'s' if pictures > 1 else ''}: as many are needed"


def marks_in(row: dict[str, Any]) -> int:
    """How often the texts of a row place a picture."""
    return sum(text.count(MARK) for text in _texts(row))


def picture_problem(row: dict[str, Any], root: str = "") -> str | None:
    """Why the pictures of a row cannot be found, here or below `root`; None where they can."""
    absent = absent_picture(row, root)
    return f"the image {shown(absent, 200)} does not exist: another row would stand in for it" if absent else None


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


def _inside(row: dict[str, Any]) -> Iterator[Any]:
    """Pictures within messages, as OpenAI's format has them."""
    for content in _contents(row):
        for item in content if isinstance(content, list) else ():
            kind = item.get("type") if isinstance(item, dict) else None
            if kind in ("image", "image_url"):
                value = item.get(kind)
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
