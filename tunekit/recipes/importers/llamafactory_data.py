"""LLaMA-Factory: datasets by ``dataset_info.json``, their columns and tags, lengths, packing, validation."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.files import parse_json, path_of, read_text
from tunekit.recipes.importers.llamafactory_model import PLAIN_TEXT, packs
from tunekit.recipes.importers.llamafactory_training import listed
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, LOST, TRAINS, words_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import Entry
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


def _dataset(draft: Draft, entry: Entry, values: Values) -> None:
    if draft.command in ("deploy", "app", "export"):
        draft.leave(entry, DEFAULT, f"swift {draft.command} takes no rows here")
        return
    flag = "val_dataset" if draft.command == "infer" else "dataset"
    _write(draft, entry, values, flag)


def _validation(draft: Draft, entry: Entry, values: Values) -> None:
    if draft.command in ("deploy", "app", "export"):
        draft.leave(entry, DEFAULT, f"swift {draft.command} takes no rows here")
        return
    _write(draft, entry, values, "val_dataset")


def _write(draft: Draft, entry: Entry, values: Values, flag: str) -> None:
    """Put the datasets that a key names."""
    found = named_datasets(draft, entry, values)
    problems = [one.problem for one in found if one.problem]
    notes = [one.note for one in found if one.note]
    words = [f"{one.word}{_rows_of(one, values)}" for one in found if not one.problem]
    more: dict[str, Any] = {}
    mapped = [one for one in (*found, *_others(draft, entry, values)) if not one.problem]
    if any(one.messages for one in mapped) or len({json.dumps(dict(one.columns)) for one in mapped}) > 1:
        name = f"{draft.source.path.stem if draft.source.path else 'imported'}.datasets.json"
        draft.files[name] = _info_of(mapped)
        more["custom_dataset_info"] = name
        notes.append(f"columns and tags stand in {name}")
    elif mapped and mapped[0].columns:
        more["columns"] = dict(mapped[0].columns)
    for one in found:
        if one.convert:
            source = one.word.removesuffix(CONVERTED)
            stage = draft.flags.get("rlhf_type", [draft.command])[0]
            draft.before.append(["tunekit", "data", "convert", source, "--to", stage, "--out", one.word])
    draft.put(entry, "; ".join(dict.fromkeys((*problems, *notes))), **({flag: words} if words else {}), **more)
    for problem in problems:
        draft.leave(entry, LOST, problem)
        draft.warnings.append(f"{entry.key}: {problem}")


def _others(draft: Draft, entry: Entry, values: Values) -> list[Named]:
    """The datasets of the other key: one map of columns is for all of them."""
    other = {"dataset": "eval_dataset", "eval_dataset": "dataset"}[entry.key]
    return named_datasets(draft, replace(entry, key=other, value=values[other]), values) if values.get(other) else []


def _rows_of(one: Named, values: Values) -> str:
    """``#N`` of a dataset: the rows that are drawn from it."""
    most = values.get("max_samples")
    wanted = one.rows
    if isinstance(most, int) and not isinstance(most, bool):
        there = one.rows or (count_rows(path_of(one.word)) if one.local else None)
        wanted = most if there is None or there >= most else one.rows
    return f"#{wanted}" if wanted else ""


def named_datasets(draft: Draft, entry: Entry, values: Values) -> list[Named]:
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


def _info_of(datasets: list[Named]) -> str:
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


def warn_of_equal_names(draft: Draft) -> None:
    """Warn where two datasets would be mixed up, for ms-swift tells files of its list by their names."""
    names = [Path(word.partition("#")[0]).name for word in draft.flags.get("dataset", [])]
    if "custom_dataset_info" in draft.flags and len(set(names)) < len(names):
        draft.warnings.append("two datasets bear one file name: ms-swift tells them apart by it alone; rename one")


def _held_out(draft: Draft, entry: Entry, values: Values) -> None:
    size = entry.value if isinstance(entry.value, (int, float)) and not isinstance(entry.value, bool) else 0
    if draft.command not in TRAINS or not size:
        draft.leave(entry, DEFAULT, "nothing is held out")
        return
    why = "" if values.get("eval_strategy") else "LLaMA-Factory holds the rows out and never looks at them"
    if size < 1 and values.get("streaming") is not True:
        draft.put(entry, why, split_dataset_ratio=entry.value)
        return
    found = named_datasets(draft, replace(entry, key="dataset", value=values.get("dataset") or ""), values)
    counts = [one.rows or (count_rows(path_of(one.word)) if one.local else None) for one in found]
    known = [count for count in counts if count]
    total = sum(known)
    if len(known) != len(counts) or total <= size or values.get("streaming") is True:
        draft.leave(
            entry, LOST, "a number of rows to hold out: ms-swift takes a share, and the rows cannot be counted here"
        )
        draft.warnings.append(f"val_size: nothing is held out; --split_dataset_ratio R takes {size:g} of your rows")
    else:
        draft.put(entry, f"{size:g} of {total:,} rows", split_dataset_ratio=round(float(size) / total, 6))


def _samples(draft: Draft, entry: Entry, _: Values) -> None:
    if entry.value is None:
        draft.leave(entry, DEFAULT, "not set")
        return
    flag = "dataset" if draft.command in TRAINS else "val_dataset"
    words = draft.flags.get(flag, [])
    if not any("#" in word for word in words) and words:
        draft.leave(entry, DEFAULT, "no dataset has more rows; ms-swift would repeat some")
    elif draft.command in TRAINS:
        draft.put(entry, "the first rows, as LLaMA-Factory takes them", dataset=words, dataset_shuffle=False)
    else:
        draft.put(entry, "the first rows, as LLaMA-Factory takes them", **{flag: words})


def _cutoff(draft: Draft, entry: Entry, values: Values) -> None:
    if draft.command not in TRAINS and not (draft.command == "infer" and values.get("do_predict")):
        draft.leave(entry, DEFAULT, "it is about rows, and there are none")
    elif draft.command == "infer":
        draft.put(entry, max_length=entry.value)
    else:
        way = "split" if draft.command == PLAIN_TEXT and packs(draft, values) else "right"
        why = "LLaMA-Factory cuts question and answer in proportion, ms-swift at the end" if way == "right" else ""
        draft.put(entry, why, max_length=entry.value, truncation_strategy=way)


def _packing(draft: Draft, entry: Entry, values: Values) -> None:
    if draft.command not in TRAINS:
        draft.leave(entry, DEFAULT, "nothing is packed")
        return
    isolated = values.get("neat_packing") is True or not packs(draft, values)
    why = "" if isolated else "in ms-swift the samples of a pack do not see one another; in LLaMA-Factory they do"
    draft.put(entry, why, packing=packs(draft, values))


def _loss_scale(draft: Draft, entry: Entry, _: Values) -> None:
    if entry.value is True:
        draft.put(entry, loss_scale="all" if entry.key == "train_on_prompt" else "last_round")
    else:
        draft.leave(entry, DEFAULT, "it is off")


def _mixing(draft: Draft, entry: Entry, values: Values) -> None:
    ways = {"interleave_under": "first_exhausted", "interleave_over": "all_exhausted"}
    word = str(entry.value)
    if word in ways:
        count = max(len(listed(values.get("dataset") or "")), 1)
        shares = listed(values.get("interleave_probs") or "") or [f"{1 / count:.6g}"] * count
        draft.put(entry, interleave_prob=shares, stopping_strategy=ways[word])
    elif word == "concat":
        draft.leave(entry, DEFAULT, "one behind the other in both")
    else:
        draft.leave(entry, LOST, f"ms-swift does not mix datasets by {word}")


def _probabilities(draft: Draft, entry: Entry, values: Values) -> None:
    if str(values.get("mix_strategy") or "concat").startswith("interleave") and entry.value:
        draft.put(entry, interleave_prob=listed(entry.value))
    else:
        draft.leave(entry, DEFAULT, "datasets are not mixed")


def _tokenized(draft: Draft, entry: Entry, _: Values) -> None:
    why = "a form of LLaMA-Factory's own: swift export --to_cached_dataset true makes that of ms-swift"
    draft.leave(entry, ELSEWHERE if entry.value else DEFAULT, why, "--cached_dataset")


def _system(draft: Draft, entry: Entry, _: Values) -> None:
    if entry.value is None:
        draft.leave(entry, DEFAULT, "not set")
        return
    if str(entry.value).endswith(".txt"):
        draft.warnings.append("default_system ends in .txt: ms-swift takes it for a file")
    draft.put(entry, system=words_of(entry.value))


def _media(draft: Draft, entry: Entry, _: Values) -> None:
    if entry.value:
        draft.put_env(entry, ROOT_IMAGE_DIR=str(entry.value))


def _shuffling(draft: Draft, entry: Entry, _: Values) -> None:
    if entry.value is True:
        draft.put(entry, train_dataloader_shuffle=False, dataset_shuffle=False)
    else:
        draft.leave(entry, DEFAULT, "rows are shuffled in both")


FUNCTIONS = {
    "dataset": _dataset,
    "validation": _validation,
    "held_out": _held_out,
    "samples": _samples,
    "cutoff": _cutoff,
    "packing": _packing,
    "loss_scale": _loss_scale,
    "mixing": _mixing,
    "probabilities": _probabilities,
    "tokenized": _tokenized,
    "system": _system,
    "media": _media,
    "shuffling": _shuffling,
}
