"""What the columns of a row are, by what tools call them and by what the user says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.data.rows import ANSWER, MESSAGES, QUESTION, SYSTEM, messages_in
from tunekit.data.turns import MARKS, Media
from tunekit.errors import TunekitError

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def role_of_column(name: str) -> str:
    """What a column of that name is, of `ROLES_OF_COLUMNS`; empty where the name says nothing."""
    return name if name in ROLES_OF_COLUMNS else next((role for role, _ in RANKS.get(name, ())), "")


def columns_named(text: str) -> dict[str, str]:
    """What ``--map prompt=instruction,response=output`` says. Raises TunekitError where it says nothing."""
    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        role, _, column = (word.strip() for word in part.partition("="))
        if not column or not role_of_column(role):
            hint = f"prompt=COLUMN; it may be {', '.join(ROLES_OF_COLUMNS)}"
            raise TunekitError(f"--map {part}: {role or part} is nothing that a column can be", hint)
        found[role_of_column(role)] = column
    return found


class Cells:
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

    def named(self, role: str) -> bool:
        """Whether the user said which column is of a role, and it was not taken yet."""
        return role in self._named

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
