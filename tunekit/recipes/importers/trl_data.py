"""Data of TRL: one data set of the hub with its splits, or a mixture; columns go by the trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.recipes.importers.columns import TEXT_PAIRS, NamedRows, put_rows, put_split, tables_of
from tunekit.recipes.importers.trainer import named
from tunekit.recipes.importers.translation import DEFAULT, LOST, TRANSLATED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import Entry
    from tunekit.recipes.importers.trainer import Functions
    from tunekit.recipes.importers.translation import Draft

PAIRS = ("dpo", "rm", "orpo", "cpo", "simpo")


def _names(row: Mapping[str, Any]) -> list[str]:
    files = row.get("data_files") or []
    files = [str(name) for name in (files if isinstance(files, list) else [files])]
    path = str(row.get("path") or "")
    return files or [f"{path}:{row['name']}" if row.get("name") else path]


def _dataset(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """A data set of the hub or a file, with its configuration behind it."""
    config = values.get("dataset_config")
    draft.put(entry, dataset=f"{entry.value}:{config}" if config else entry.value)


def _dataset_config(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Stands behind the name."""
    draft.leave(entry, TRANSLATED, "behind the name, in --dataset")


def _mixed(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """One of several data sets."""
    head = entry.key.rpartition(".")[0]
    row = {key.removeprefix(f"{head}."): value for key, value in values.items() if key.startswith(f"{head}.")}
    draft.put(entry, dataset=[*draft.flags.get("dataset", []), *_names(row)])


def _of_mixed(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Part of the name of one."""
    draft.leave(entry, TRANSLATED, "part of --dataset")


def _split(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """ms-swift reads the split that is called train."""
    same = entry.value == "train"
    draft.leave(entry, DEFAULT if same else LOST, "ms-swift reads the split train; write another one to a file")


def _test_split(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Another split of the same data set, for evaluation."""
    draft.leave(entry, LOST, "ms-swift reads the split train: --val_dataset FILE, or --split_dataset_ratio")


def _split_size(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """Rows of a mixture that are kept for evaluation."""
    put_split(draft, entry, [name for row in tables_of(values, "datasets") for name in _names(row)])


def _text_field(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """The column of plain text, where rows have neither messages nor prompts."""
    if entry.value == "text":
        draft.leave(entry, DEFAULT, "ms-swift knows the column text")
    else:
        draft.leave(entry, TRANSLATED, "--columns")


def put_data(draft: Draft) -> None:
    """What ms-swift must be told of columns: those of preference rows it never finds by itself."""
    values = draft.source.values()
    kind = "".join(draft.flags.get("rlhf_type", []))
    columns: dict[str, str] = {}
    if kind in PAIRS:
        columns = dict(TEXT_PAIRS)
        draft.warnings.append(
            "the rows are taken for prompt, chosen and rejected as text; for lists of messages the map is "
            '{"chosen": "messages", "rejected": "rejected_messages"}: tunekit data check tells'
        )
    elif values.get("dataset_text_field") not in (None, "", "text"):
        columns = {str(values["dataset_text_field"]): "response"}
    put_rows(draft, [NamedRows(name, columns) for name in draft.flags.get("dataset", [])], "dataset_name")


FUNCTIONS: Functions = named(
    _dataset, _dataset_config, _mixed, _of_mixed, _split, _test_split, _split_size, _text_field
)
