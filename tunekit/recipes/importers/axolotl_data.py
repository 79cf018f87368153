"""axolotl's lists of data: each names a file or a data set of the hub, a kind of rows, and its columns and roles."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tunekit.recipes.importers.columns import (
    CONVERSATIONS,
    KEYS,
    TEXT_PAIRS,
    NamedRows,
    put_rows,
    put_split,
    tables_of,
    turns_of,
)
from tunekit.recipes.importers.trainer import named
from tunekit.recipes.importers.translation import DEFAULT, LOST, TRANSLATED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import Entry
    from tunekit.recipes.importers.trainer import Functions
from tunekit.recipes.importers.translation import Draft

LISTS = ("datasets", "pretraining_dataset")
BUILDERS = ("json", "csv", "parquet", "arrow", "text")
"""Not data sets but kinds of files, which data_files names."""
PROMPTED = re.compile(
    r"(alpaca|gpteacher|oasst|reflection|explainchoice|concisechoice|summarizetldr|jeopardy|context_qa|creative_acr|"
    r"orcamini|pygmalion|metharme|llama2_chat|sharegpt|load_)"
)
"""Kinds of rows that axolotl writes with words of its own around them, not with the template of the model."""
PAIRED = ("dpo", "orpo", "simpo", "rm")
"""Kinds of RLHF whose rows are pairs."""
FIELDS = {
    "field_instruction": "instruction",
    "field_input": "input",
    "field_output": "output",
    "field_system": "system",
    "field_prompt": "query",
    "field_completion": "response",
    "field_label": "label",
}
PAIRS = {
    "chatml.intel": {"question": "query", "chosen": "response", "rejected": "rejected_response"},
    "chatml.icr": {"input": "query", "chosen": "response", "rejected": "rejected_response"},
    "chatml.argilla": {
        "instruction": "query",
        "chosen_response": "response",
        "rejected_response": "rejected_response",
    },
    "chatml.argilla_chat": {"chosen": "messages", "rejected": "rejected_messages"},
    "chatml.ultra": {"chosen": "messages", "rejected": "rejected_messages"},
}
"""Columns of preference rows by their kind; ``llama3.…`` means the same ones. All others: prompt, chosen, rejected."""


def names_of(row: Mapping[str, Any]) -> list[str]:
    """The arguments of ``--dataset`` for one table."""
    path = str(row.get("path") or "")
    files = row.get("data_files") or []
    files = [str(name) for name in (files if isinstance(files, list) else [files])]
    if files and (path in BUILDERS or path.startswith(".")):
        return files
    return [f"{path}:{row['name']}" if row.get("name") else path]


def _data(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """One more data set."""
    head, number, _ = entry.key.split(".", 2)
    row = {key.split(".", 2)[2]: value for key, value in values.items() if key.startswith(f"{head}.{number}.")}
    flag = "val_dataset" if head == "test_datasets" else "dataset"
    draft.put(entry, **{flag: [*draft.flags.get(flag, []), *names_of(row)]})


def _pretraining(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """One name, or a list of them."""
    names = entry.value if isinstance(entry.value, list) else [entry.value]
    draft.put(entry, dataset=[*draft.flags.get("dataset", []), *(str(name) for name in names)])


def _of_data(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Part of the name of a data set, or of what its columns and roles are called."""
    if entry.key.endswith((".ds_type", ".type")):
        draft.leave(entry, DEFAULT, "the ending of the file says it")
    else:
        draft.leave(entry, TRANSLATED, "part of --dataset, --columns or --custom_dataset_info")


def _kind(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """The kind of rows: ms-swift knows it by the columns, and writes them with the template of the model."""
    if isinstance(entry.value, dict):
        lost = [
            name for name in ("format", "no_input_format", "system_format", "prompt_format") if entry.value.get(name)
        ]
        draft.leave(entry, TRANSLATED, f"--columns; lost: {', '.join(lost)}" if lost else "--columns")
        if lost:
            draft.warnings.append(f"{entry.key}: words around the rows ({', '.join(lost)}) are lost: tunekit --format")
        if entry.value.get("system_prompt"):
            draft.flags["system"] = [str(entry.value["system_prompt"])]
        return
    word = str(entry.value)
    if word.startswith("input_output") or word == "_synthetic":
        draft.leave(entry, LOST, "ms-swift reads no segments with labels: write them as messages with loss")
    elif PROMPTED.match(word) and not word.startswith("sharegpt"):
        why = f"the rows of {word} get the template of the model, not the words that axolotl puts around them"
        draft.leave(entry, TRANSLATED, why)
        draft.warnings.append(why)
    else:
        draft.leave(entry, DEFAULT, "ms-swift knows the rows by their columns")


def _split(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """ms-swift reads the split that is called train."""
    if entry.value == "train":
        draft.leave(entry, DEFAULT, "ms-swift reads the split train")
    else:
        draft.leave(entry, LOST, "ms-swift reads the split train; write the other to a file")


def _revision(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Data comes as it is today."""
    same = entry.value == "main"
    draft.leave(entry, DEFAULT if same else LOST, "ms-swift reads the newest revision of a data set")


def _own_template(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """One template for all rows."""
    same = entry.value == values.get("chat_template") or str(entry.value).startswith("tokenizer_default")
    draft.leave(entry, DEFAULT if same else LOST, "one template for all data sets: --template")


def _trained_roles(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Loss on answers."""
    names = set(entry.value if isinstance(entry.value, list) else [entry.value])
    same = names <= {"assistant", "gpt"}
    draft.leave(entry, DEFAULT if same else LOST, "loss on answers; a key loss of a message says more")


def _trained_eos(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Loss on what ends an answer."""
    same = entry.value == "turn"
    draft.leave(entry, DEFAULT if same else LOST, "loss on what ends an answer, and on no other end")


def _val_size(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """A part, or a number of rows."""
    if not entry.value:
        draft.leave(entry, DEFAULT, "no rows are kept for evaluation")
    else:
        names = [name for head in LISTS for row in tables_of(values, head) for name in names_of(row)]
        put_split(draft, entry, names)


def put_columns(draft: Draft) -> None:
    """What ms-swift must be told of the columns and roles of all data sets."""
    values = draft.source.values()
    stage = "".join(draft.flags.get("rlhf_type", []))
    if stage in PAIRED and any(
        str(row.get("type")).startswith("chat_template") for row in tables_of(values, "datasets")
    ):
        draft.warnings.append(
            "chosen and rejected of a chat_template are turns: ms-swift wants text: tunekit data convert"
        )
    lists = [row for head in (*LISTS, "test_datasets") for row in tables_of(values, head)]
    put_rows(draft, [NamedRows(name, _columns(row, stage), _turns(row)) for row in lists for name in names_of(row)])


def _columns(row: Mapping[str, Any], stage: str) -> dict[str, str]:
    """What the columns of one data set are in ms-swift, where it would not know them."""
    types = row.get("type")
    fields = {**row, **types} if isinstance(types, dict) else dict(row)
    found = {str(fields[name]): ours for name, ours in FIELDS.items() if fields.get(name)}
    if "input" not in found.values():  # without it ms-swift does not take a row for alpaca's
        found = {
            theirs: {"instruction": "query", "output": "response"}.get(ours, ours) for theirs, ours in found.items()
        }
    text = fields.get("text_column") or fields.get("field")
    if text and text != "text":
        found[str(text)] = "response"
    turns = fields.get("field_messages")
    if turns and turns not in CONVERSATIONS:
        found[str(turns)] = "messages"
    if fields.get("field_tools") not in (None, "tools"):
        found[str(fields["field_tools"])] = "tools"
    if stage in PAIRED:
        found |= _pairs(fields, str(types))
    return {theirs: ours for theirs, ours in found.items() if theirs != ours}


def _pairs(fields: Mapping[str, Any], kind_of_rows: str) -> dict[str, str]:
    if fields.get("field_chosen") or fields.get("field_rejected"):
        chosen, rejected = fields.get("field_chosen") or "chosen", fields.get("field_rejected") or "rejected"
        return {str(chosen): "response", str(rejected): "rejected_response"}
    return PAIRS.get(re.sub(r"^(llama3|zephyr)\.", "chatml.", kind_of_rows), TEXT_PAIRS)


def _turns(row: Mapping[str, Any]) -> dict[str, str]:
    """What the turns of one data set are called, where ms-swift would not know them."""
    keys = dict(row.get("message_property_mappings") or {})
    keys |= {ours: row[f"message_field_{ours}"] for ours in KEYS if row.get(f"message_field_{ours}")}
    roles = row.get("roles") or {}
    return turns_of(keys, {ours: names if isinstance(names, list) else [names] for ours, names in roles.items()})


FUNCTIONS: Functions = {
    "type": _kind,
    **named(_data, _pretraining, _of_data, _split, _revision, _own_template, _trained_roles, _trained_eos, _val_size),
}
