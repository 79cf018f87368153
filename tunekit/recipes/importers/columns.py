"""Rows of another tool's data sets as ms-swift reads them: ``--columns``, or ``--custom_dataset_info``.

One map of columns counts for all data sets. Where they differ, or where the roles of turns have names of their own,
each gets an entry of custom_dataset_info, written into the command itself; ms-swift finds it by the end of the name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunekit.data.files import FILE_TYPES
from tunekit.data.sound import read_rows
from tunekit.errors import TunekitError
from tunekit.recipes.importers.source import Entry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tunekit.recipes.importers.translation import Draft

ROLES = {"user": {"user", "human"}, "assistant": {"assistant", "gpt", "bot"}, "system": {"system"}}
"""Names of roles that ms-swift knows by itself."""
KEYS = {"role": {"role", "from"}, "content": {"content", "value"}}
"""Keys of a turn that ms-swift knows by itself."""
CONVERSATIONS = {"messages", "conversation", "conversations"}
"""Columns that it takes for the turns."""

TEXT_PAIRS = {"chosen": "response", "rejected": "rejected_response"}
"""Preference rows as text: ms-swift never finds them by itself."""


@dataclass
class NamedRows:
    """One data set: its name as ms-swift takes it, what its columns are there, what its turns are called.

    Attributes:
        columns: theirs → ms-swift's, those that it would not find by itself.
        turns: fields of ms-swift's MessagesPreprocessor (``role_key``, ``user_role``, …).
    """

    name: str
    columns: dict[str, str] = field(default_factory=dict)
    turns: dict[str, str] = field(default_factory=dict)


def tables_of(values: Mapping[str, Any], head: str) -> list[dict[str, Any]]:
    """The tables of a list, put together again from their dotted keys: ``datasets.0.path``, …."""
    tables: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        first, _, rest = key.partition(".")
        number, _, name = rest.partition(".")
        if first == head and number.isdigit() and name:
            tables.setdefault(number, {})[name] = value
    return list(tables.values())


def turns_of(keys: Mapping[str, str], roles: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What ms-swift must be told of turns: their keys for role and content, their names of the roles.

    `keys` is theirs by ms-swift's name, `roles` all of theirs by ms-swift's; of several new names the first counts.
    """
    told = {f"{ours}_key": theirs for ours, theirs in keys.items() if ours in KEYS and theirs not in KEYS[ours]}
    for ours, names in roles.items():
        new = [name for name in names if name not in ROLES.get(ours, {ours})]
        if ours in ROLES and new:
            told[f"{ours}_role"] = new[0]
    return told


def put_rows(draft: Draft, datasets: Sequence[NamedRows], key: str = "datasets") -> None:
    """Write what ms-swift must be told of the columns and turns of all data sets."""
    told = [rows for rows in datasets if rows.columns or rows.turns]
    maps = [rows.columns for rows in datasets]
    if any(rows.turns for rows in told) or len({json.dumps(it, sort_keys=True) for it in maps}) > 1:
        infos = [json.dumps([_info(rows)], ensure_ascii=False) for rows in told]
        draft.put(Entry(key, None), "names of columns and roles", custom_dataset_info=infos)
    elif told:
        draft.put(Entry(key, None), "names of columns", columns=told[0].columns)


def _info(rows: NamedRows) -> dict[str, Any]:
    name = rows.name.partition("#")[0]
    local = name.endswith(FILE_TYPES) or name.startswith((".", "/"))
    info: dict[str, Any] = {"dataset_path": name} if local else {"hf_dataset_id": name.partition(":")[0]}
    if rows.columns:
        info["columns"] = rows.columns
    if rows.turns:
        info["messages"] = rows.turns
    return info


def rows_in_files(names: Sequence[str], folder: Path) -> int | None:
    """Rows of all these files together; None where one is not here or cannot be counted."""
    total = 0
    for name in names:
        path = folder / name
        if not path.is_file():
            return None
        try:
            total += sum(1 for _ in read_rows(path, limit=10**12))
        except TunekitError:
            return None
    return total or None


def put_split(draft: Draft, entry: Entry, names: Sequence[str]) -> None:
    """A part of the rows for evaluation: a ratio, or from 1 on a number of rows, which has to be counted here."""
    number = float(entry.value)
    if number < 1:
        draft.put(entry, split_dataset_ratio=entry.value)
        return
    total = rows_in_files(names, draft.source.folder)
    if total and number < total:
        draft.put(entry, f"{number:g} of {total} rows", split_dataset_ratio=f"{number / total:.6g}")
    else:
        draft.warnings.append(f"{entry.key} {number:g} is a number of rows: ms-swift takes a part of all, 0.05 say")
        draft.leave(entry, "lost", "a number of rows; they are not here to be counted: --split_dataset_ratio")
