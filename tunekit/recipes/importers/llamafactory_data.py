"""LLaMA-Factory: the datasets of a run, how many of their rows, lengths, packing, validation, mixtures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.files import path_of
from tunekit.recipes.importers.llamafactory_info import CONVERTED, Named, count_rows, info_of, named_datasets
from tunekit.recipes.importers.llamafactory_model import PLAIN_TEXT, packs
from tunekit.recipes.importers.llamafactory_training import listed
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, LOST, TRAINS, words_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import KeyEntry
    from tunekit.recipes.importers.translation import Draft

    Values = Mapping[str, Any]


def _dataset(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if draft.command in ("deploy", "app", "export"):
        draft.leave(entry, DEFAULT, f"swift {draft.command} takes no rows here")
        return
    flag = "val_dataset" if draft.command == "infer" else "dataset"
    _write(draft, entry, values, flag)


def _validation(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if draft.command in ("deploy", "app", "export"):
        draft.leave(entry, DEFAULT, f"swift {draft.command} takes no rows here")
        return
    _write(draft, entry, values, "val_dataset")


def _write(draft: Draft, entry: KeyEntry, values: Values, flag: str) -> None:
    """Put the datasets that a key names."""
    found = named_datasets(draft, entry, values)
    problems = [one.problem for one in found if one.problem]
    notes = [one.note for one in found if one.note]
    words = [f"{one.word}{_rows_of(one, values)}" for one in found if not one.problem]
    more: dict[str, Any] = {}
    mapped = [one for one in (*found, *_others(draft, entry, values)) if not one.problem]
    if any(one.messages for one in mapped) or len({json.dumps(dict(one.columns)) for one in mapped}) > 1:
        name = f"{draft.source.path.stem if draft.source.path else 'imported'}.datasets.json"
        draft.files[name] = info_of(mapped)
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


def _others(draft: Draft, entry: KeyEntry, values: Values) -> list[Named]:
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


def warn_of_equal_names(draft: Draft) -> None:
    """Warn where two datasets would be mixed up, for ms-swift tells files of its list by their names."""
    names = [Path(word.partition("#")[0]).name for word in draft.flags.get("dataset", [])]
    if "custom_dataset_info" in draft.flags and len(set(names)) < len(names):
        draft.warnings.append("two datasets bear one file name: ms-swift tells them apart by it alone; rename one")


def _held_out(draft: Draft, entry: KeyEntry, values: Values) -> None:
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


def _samples(draft: Draft, entry: KeyEntry, _: Values) -> None:
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


def _cutoff(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if draft.command not in TRAINS and not (draft.command == "infer" and values.get("do_predict")):
        draft.leave(entry, DEFAULT, "it is about rows, and there are none")
    elif draft.command == "infer":
        draft.put(entry, max_length=entry.value)
    else:
        way = "split" if draft.command == PLAIN_TEXT and packs(draft, values) else "right"
        why = "LLaMA-Factory cuts question and answer in proportion, ms-swift at the end" if way == "right" else ""
        draft.put(entry, why, max_length=entry.value, truncation_strategy=way)


def _packing(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if draft.command not in TRAINS:
        draft.leave(entry, DEFAULT, "nothing is packed")
        return
    isolated = values.get("neat_packing") is True or not packs(draft, values)
    why = "" if isolated else "in ms-swift the samples of a pack do not see one another; in LLaMA-Factory they do"
    draft.put(entry, why, packing=packs(draft, values))


def _mixing(draft: Draft, entry: KeyEntry, values: Values) -> None:
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


def _probabilities(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if str(values.get("mix_strategy") or "concat").startswith("interleave") and entry.value:
        draft.put(entry, interleave_prob=listed(entry.value))
    else:
        draft.leave(entry, DEFAULT, "datasets are not mixed")


def _tokenized(draft: Draft, entry: KeyEntry, _: Values) -> None:
    why = "a form of LLaMA-Factory's own: swift export --to_cached_dataset true makes that of ms-swift"
    draft.leave(entry, ELSEWHERE if entry.value else DEFAULT, why, "--cached_dataset")


def _system(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if entry.value is None:
        draft.leave(entry, DEFAULT, "not set")
        return
    if str(entry.value).endswith(".txt"):
        draft.warnings.append("default_system ends in .txt: ms-swift takes it for a file")
    draft.put(entry, system=words_of(entry.value))


def _media(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if entry.value:
        draft.put_env(entry, ROOT_IMAGE_DIR=str(entry.value))


FUNCTIONS = {
    "dataset": _dataset,
    "validation": _validation,
    "held_out": _held_out,
    "samples": _samples,
    "cutoff": _cutoff,
    "packing": _packing,
    "mixing": _mixing,
    "probabilities": _probabilities,
    "tokenized": _tokenized,
    "system": _system,
    "media": _media,
}
