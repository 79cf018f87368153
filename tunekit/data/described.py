"""Rows of a dataset that a table describes: its columns by what they are, its turns in words that are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.data.cells import ROLES_OF_COLUMNS, role_of_column
from tunekit.data.registry import TAGS, find_datasets
from tunekit.data.survey import paths_of_rows
from tunekit.errors import Exit, TunekitError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tunekit.data.registry import NamedDataset


def files_named(words: Sequence[str], table: str = "") -> list[tuple[Path, NamedDataset]]:
    """The files that words mean, with what a table of datasets says of each: of a file that none names, nothing.

    Raises TunekitError, exit code 4, where one is neither a file here nor in the table.
    """
    found = []
    for one in find_datasets(words, table):
        if one.hint:
            raise TunekitError(f"dataset {one.typed} is neither a file nor in the table", one.hint, Exit.DATA)
        found += [(path, one.dataset) for path in paths_of_rows(one.dataset.place)]
    return found


def roles_of_columns(dataset: NamedDataset) -> dict[str, str]:
    """What its columns are: the roles of `ROLES_OF_COLUMNS`, and their names in the dataset."""
    found = {role_of_column(name): column for column, name in dataset.columns.items()}
    if "rejected" in found and "response" in found:
        found["chosen"] = found.pop("response")
    return {role: column for role, column in found.items() if role in ROLES_OF_COLUMNS}


def row_as_described(row: dict[str, Any], dataset: NamedDataset) -> dict[str, Any]:
    """The row with the turns of its conversations as role and content, where the table has other words for them."""
    return row if not dataset.messages else {name: _renamed(value, dataset.messages) for name, value in row.items()}


def _renamed(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_renamed(one, words) for one in value]
    if not isinstance(value, dict):
        return value
    role = next((value[key] for key in (words.get("role_key"), *TAGS["role"][1]) if key and key in value), None)
    content = next((value[key] for key in (words.get("content_key"), *TAGS["content"][1]) if key in value), None)
    if role is None:
        return value
    known = {words[name]: tag for tag, (name, _) in TAGS.items() if name.endswith("_role") and name in words}
    return {"role": known.get(str(role), role), "content": content}
