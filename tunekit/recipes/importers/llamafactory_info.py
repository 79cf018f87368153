"""LLaMA-Factory's ``dataset_info.json``: where a dataset lies, its columns and tags; and ms-swift's file like it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.files import parse_json, path_of, read_text
from tunekit.recipes.importers.llamafactory_model import PLAIN_TEXT
from tunekit.recipes.importers.llamafactory_training import listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import KeyEntry
    from tunekit.recipes.importers.translation import Draft

    Values = Mapping[str, Any]

INFO = "dataset_info.json"
LARGEST = 256 * 2**20
"""Bytes of a file whose rows are counted."""
ROLES = {"role_tag": ("from", "role"), "content_tag": ("value", "content")}
SPEAKERS = {"user_tag": ("human", "user"), "assistant_tag": ("gpt", "assistant", "bot"), "system_tag": ("system",)}
"""Tags, with what ms-swift finds by itself."""
TAGS = {
    "role_tag": ("role_key", "from"),
    "content_tag": ("content_key", "value"),
    "user_tag": ("user_role", "human"),
    "assistant_tag": ("assistant_role", "gpt"),
    "system_tag": ("system_role", "system"),
}
"""Tags, with their names in ms-swift's file, and what LLaMA-Factory takes where they are absent."""
TURNS = ("messages", "conversations", "conversation")
"""Columns of turns that ms-swift finds by itself."""
SAME = ("system", "history", "images", "videos", "audios", "tools")
NO_PLACE = ("folder", "script_url", "cloud_file_name")


@dataclass(frozen=True)
class Named:
    """One dataset of ``dataset_info.json``: what ms-swift is given for it.

    Attributes:
        word: a path or an id, without the number of rows.
        columns: theirs → ms-swift's, only where the names differ.
        messages: ms-swift's keys of the turns, where it would not find them by itself.
        rows: that are drawn from it.
        problem: why it cannot be given.
        convert: the stage for which its rows must be converted first.
    """

    word: str
    columns: Mapping[str, str] = field(default_factory=dict)
    messages: Mapping[str, str] = field(default_factory=dict)
    rows: int | None = None
    problem: str = ""
    note: str = ""
    convert: bool = False
    local: bool = False


def named_datasets(draft: Draft, entry: KeyEntry, values: Values) -> list[Named]:
    """What ms-swift is given for the datasets that a key names."""
    folder = values.get("dataset_dir") or "data"
    names = listed(entry.value)
    if folder == "ONLINE":
        return [Named(name) for name in names]
    if str(folder).startswith("REMOTE:"):
        problem = f"{INFO} of {str(folder)[7:]} lies on a hub, which is not asked"
        return [Named(name, problem=problem) for name in names]
    place, shown = _place(draft, str(folder))
    try:
        info = parse_json(read_text(place / INFO))
    except (OSError, ValueError) as error:
        problem = f"{Path(shown) / INFO} cannot be read, which says what {', '.join(names)} is"
        return [Named(name, problem=f"{problem}: {getattr(error, 'strerror', None) or error}") for name in names]
    known = info if isinstance(info, dict) else {}
    return [_named(name, known.get(name), shown, draft) for name in names]


def _place(draft: Draft, folder: str) -> tuple[Path, str]:
    """Where the folder of datasets is, from here or from the file, and how it is written from here."""
    here = path_of(folder)
    beside = draft.source.folder / folder
    if not (here / INFO).is_file() and (beside / INFO).is_file():
        return beside, str(beside)
    return here, folder.removeprefix("./").rstrip("/")


def _named(name: str, row: Any, shown: str, draft: Draft) -> Named:
    if not isinstance(row, dict):
        return Named(name, problem=f"{INFO} holds no {name}")
    hub = {"ms": "ms_hub_url", "hf": "hf_hub_url"}
    modelscope = draft.source.env.get("USE_MODELSCOPE_HUB", "").lower() in ("1", "true", "y")
    order = [hub["ms"], hub["hf"]] if modelscope else [hub["hf"], hub["ms"]]
    word = next((str(row[key]) for key in order if row.get(key)), "")
    if word and row.get("subset"):
        word = f"{word}:{row['subset']}"
    local = not word and isinstance(row.get("file_name"), str)
    if local:
        word = f"{shown}/{row['file_name']}"
    if not word:
        lost = next((key for key in NO_PLACE if row.get(key)), "a file")
        return Named(name, problem=f"{name}: ms-swift has nothing like {lost} of {INFO}")
    if str(row.get("split") or "train") != "train":
        return Named(name, problem=f"{name}: ms-swift takes the split train, not {row['split']}")
    rows = row.get("num_samples") if isinstance(row.get("num_samples"), int) else None
    columns, messages, note, convert = _shape(row, draft)
    return Named(f"{word}{CONVERTED}" if convert else word, columns, messages, rows, "", note, convert, local)


CONVERTED = ".converted.jsonl"


def _shape(row: Mapping[str, Any], draft: Draft) -> tuple[dict[str, str], dict[str, str], str, bool]:
    """Columns, keys of the turns, what is to be said, and whether the rows must be converted."""
    columns = {key: value for key, value in _table(row, "columns").items() if isinstance(value, str)}
    ranked = row.get("ranking") is True
    note = (
        "LLaMA-Factory adds `detailed thinking off` to the system prompt" if row.get("formatting") == "openai" else ""
    )
    if row.get("formatting", "alpaca") == "alpaca":
        return _alpaca(columns, ranked=ranked, text=draft.command == PLAIN_TEXT), {}, note, False
    tags = _table(row, "tags")
    mapped = {columns[name]: name for name in SAME if columns.get(name, name) != name}
    turns = columns.get("messages", "conversations")
    if turns not in TURNS:
        mapped[turns] = "messages"
    if columns.get("kto_tag", "label") != "label":
        mapped[columns["kto_tag"]] = "label"
    usual = {**ROLES, **SPEAKERS}
    odd = any(str(tags.get(tag, usual[tag][0])) not in usual[tag] for tag in usual)
    messages = {name: str(tags.get(tag, given)) for tag, (name, given) in TAGS.items()} if odd else {}
    return mapped, messages, note, ranked


def _table(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    inner = row.get(key)
    return inner if isinstance(inner, dict) else {}


def _alpaca(columns: Mapping[str, str], *, ranked: bool, text: bool) -> dict[str, str]:
    """The map of columns of rows with an instruction and an output."""
    theirs = columns or {"prompt": "instruction", "query": "input", "response": "output"}
    target = {"prompt": "instruction", "query": "input", "response": "output"}
    if text:
        target = {"prompt": "response"}
    elif columns and "query" not in columns and columns.get("prompt") != "instruction":
        target = {"prompt": "query", "response": "response"}
    if ranked:
        target |= {"chosen": target.get("response", "output"), "rejected": "rejected_response"}
    target |= {"kto_tag": "label", **{name: name for name in SAME}}
    return {theirs[key]: name for key, name in target.items() if key in theirs and theirs[key] != name}


def info_of(datasets: list[Named]) -> str:
    """ms-swift's file of datasets: a list, one object each."""
    rows: list[dict[str, Any]] = []
    for one in datasets:
        head, _, subset = one.word.partition(":")
        key = "dataset_path" if one.local else "hf_dataset_id"
        row: dict[str, Any] = {key: head if not one.local else one.word}
        if not one.local:
            row["ms_dataset_id"] = head
            if subset:
                row["subsets"] = [subset]
        if one.columns:
            row["columns"] = dict(one.columns)
        if one.messages:
            row["messages"] = dict(one.messages)
        if one.columns or one.messages:
            rows.append(row)
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def count_rows(path: Path) -> int | None:
    """The rows of a file of JSON or JSON lines; None where they cannot be counted."""
    try:
        text = read_text(path, LARGEST)
        if path.suffix == ".json" and text.lstrip().startswith("["):
            rows = parse_json(text)
            return len(rows) if isinstance(rows, list) else None
    except (OSError, ValueError):
        return None
    return sum(1 for line in text.splitlines() if line.strip()) if path.suffix in (".json", ".jsonl") else None
