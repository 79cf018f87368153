"""ms-swift before 4: datasets by the names of 2.x, how many of their rows, validation, lengths, weights of losses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.recipes.importers.swift_before_model import hub_column, old_names
from tunekit.recipes.importers.translation import DEFAULT, LOST, TRAINS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import KeyEntry
    from tunekit.recipes.importers.translation import Draft

    Values = Mapping[str, Any]

HUB = re.compile(r"^(?:(HF|MS|hf|ms)::)?(.+)$")
REACT = {"true": "react", "react": "react", "alpha-umi": "alpha_umi", "agent-flan": "agentflan"}


def _dataset(draft: Draft, entry: KeyEntry, values: Values) -> None:
    flag = "val_dataset" if "val" in entry.key else "dataset"
    keys = ("dataset", "custom_train_dataset_path") if flag == "dataset" else ("val_dataset", "custom_val_dataset_path")
    words = [word for key in keys for word in _datasets(values.get(key))]
    given = [_dataset_word(draft, word) for word in words]
    extra = values.get("self_cognition_sample")
    if flag == "dataset" and isinstance(extra, int) and extra > 0:
        given.append(f"swift/self-cognition#{extra}")
    sample = values.get("train_dataset_sample")
    if flag == "dataset" and isinstance(sample, int) and sample > 0 and len(given) == 1:
        given = [f"{given[0].partition('#')[0]}#{sample}"]
    draft.put(entry, **{flag: given})


def _datasets(value: Any) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [part for item in items if item not in (None, True) for part in str(item).split(",") if part]


def _dataset_word(draft: Draft, word: str) -> str:
    """A dataset of 2.x as 4.6 names it: ``HF::id:subset#100/10``."""
    found = HUB.match(word)
    hub, rest = (found[1], found[2]) if found else ("", word)
    rest, number, rows = rest.partition("#")
    name, colon, subset = rest.partition(":")
    known = old_names()["datasets"].get(name)
    if known:
        ids = [known[0] or known[1], known[1] or known[0]]
        name = ids[1 if hub and hub.lower() == "hf" else hub_column(draft)]
        if not colon and len(known) > 2:
            colon, subset = ":", "/".join(known[2])
    rows, slash, held = rows.partition("/")
    if slash:
        draft.warnings.append(
            f"{word}: {held} of its rows were for validation; --val_dataset NAME#{held} names them now"
        )
    count = f"{number}{rows}" if rows and rows != "-1" else ""
    return f"{hub.lower()}::{name}{colon}{subset}{count}" if hub else f"{name}{colon}{subset}{count}"


def _sample(draft: Draft, entry: KeyEntry, values: Values) -> None:
    words = [word for key in ("dataset", "custom_train_dataset_path") for word in _datasets(values.get(key))]
    if not isinstance(entry.value, int) or entry.value < 0:
        draft.leave(entry, DEFAULT, "all rows")
    elif len(words) == 1:
        draft.put(entry, dataset=draft.flags.get("dataset") or [f"{_dataset_word(draft, words[0])}#{entry.value}"])
    else:
        draft.leave(entry, LOST, "of several datasets: NAME#N says how many rows of each")


def _val_sample(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if isinstance(entry.value, int) and entry.value < 0:
        draft.leave(entry, DEFAULT, "all rows")
    elif draft.command in TRAINS:
        draft.leave(entry, LOST, "--val_dataset NAME#N says how many rows are looked at")
    else:
        draft.put(entry, val_dataset_sample=entry.value)


def _self_cognition(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if not isinstance(entry.value, int) or entry.value <= 0:
        draft.leave(entry, DEFAULT, "none")
        return
    word = f"swift/self-cognition#{entry.value}"
    given = draft.flags.get("dataset", [])
    draft.put(entry, dataset=given if word in given or _datasets(values.get("dataset")) else [*given, word])


def _held_out(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if values.get("val_dataset") or values.get("custom_val_dataset_path") or values.get("streaming") is True:
        draft.leave(entry, DEFAULT, "there are rows for validation, or a stream")
    elif draft.command in TRAINS:
        draft.put(entry, split_dataset_ratio=entry.value)
    else:
        draft.leave(entry, DEFAULT, "nothing is trained")


def _loss_scale(draft: Draft, entry: KeyEntry, _: Values) -> None:
    word = REACT.get(str(entry.value).lower())
    if word:
        draft.put(entry, loss_scale=word)
    else:
        draft.leave(entry, DEFAULT, "it is off")


def _loss_scale_file(draft: Draft, entry: KeyEntry, _: Values) -> None:
    word = Path(str(entry.value)).stem.replace("_loss_scale_config", "").replace("-", "_").replace("default", "react")
    known = {"agentflan": "agentflan", "alpha_umi": "alpha_umi", "react": "react"}
    if word in known:
        draft.put(entry, loss_scale=known[word])
    else:
        draft.leave(entry, LOST, "a plugin gives losses weights of its own now: --external_plugins, --loss_scale NAME")


def _length(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if entry.value == -1:
        draft.leave(entry, DEFAULT, "the model's own length, in both")
    elif "max_length" in values or draft.command in TRAINS:
        draft.put(entry, max_length=entry.value)


def _model_length(draft: Draft, entry: KeyEntry, _: Values) -> None:
    draft.put(entry, **{"max_model_len" if draft.command in TRAINS else "vllm_max_model_len": entry.value})


FUNCTIONS = {
    "dataset": _dataset,
    "sample": _sample,
    "val_sample": _val_sample,
    "self_cognition": _self_cognition,
    "held_out": _held_out,
    "loss_scale": _loss_scale,
    "loss_scale_file": _loss_scale_file,
    "length": _length,
    "model_length": _model_length,
}
