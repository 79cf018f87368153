"""NeuroTrain's list of stages: one source each, with the rows for its kind and the flags of the call for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunekit.recipes.importers.source import KeyEntry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import Origin

STAGES = {"pretrain": "pt", "sft": "sft", "dpo": "rlhf", "ppo": "rlhf", "grpo": "rlhf", "rm": "rlhf", "kto": "rlhf"}
"""Kinds of stages, and the command of ms-swift."""
BEHIND = ("deepspeed", "resume")
"""Flags of the call, which count over the keys of a stage."""


def is_stages(value: Any) -> bool:
    """Whether a value is a list of tables that name their kind, as ``[[stages]]`` is."""
    return isinstance(value, list) and bool(value) and all(isinstance(it, dict) and "stage_type" in it for it in value)


def is_datasets(value: Any) -> bool:
    """Whether a value holds a table for each kind of rows, as ``[datasets.NAME]`` makes it."""
    return isinstance(value, dict) and bool(value) and all(isinstance(it, dict) for it in value.values())


def stages_in(source: Origin) -> list[Origin]:
    """One source a stage: what holds for all, its own keys, and the rows for its kind."""
    values = source.values()
    tables = values.get("datasets")
    datasets: dict[str, Any] = tables if isinstance(tables, dict) and is_datasets(tables) else {}
    listed = values.get("stages")
    stages: list[dict[str, Any]] = listed if isinstance(listed, list) and is_stages(listed) else [_stage_of(datasets)]
    shared = [entry for entry in source.entries if entry.key not in ("stages", "datasets")]
    found, used = [], set()
    for number, stage in enumerate(stages):
        name = _rows_for(stage, values, datasets)
        used.add(name)
        goes_on = {"load_from": ""} if number else {}
        keys = (goes_on | stage).items()
        own = [KeyEntry(key, value, source.lines.get(f"stages.{number}.{key}")) for key, value in keys]
        rows = [KeyEntry("datasets", {name: datasets[name]}, _line(source, "datasets"))] if name else []
        before = [entry for entry in shared if entry.key not in BEHIND]
        behind = [entry for entry in shared if entry.key in BEHIND and _is_for(entry, number, stages)]
        found.append(replace(source, entries=(*before, *own, *rows, *behind)))
    spare = {name: rows for name, rows in datasets.items() if name not in used}
    if spare:
        entries = tuple(
            KeyEntry(f"unused.{name}.{key}", value) for name, rows in spare.items() for key, value in rows.items()
        )
        found[0] = replace(found[0], entries=(*found[0].entries, *entries))
    return found


def _line(source: Origin, key: str) -> int | None:
    return next((entry.line for entry in source.entries if entry.key == key), None)


def _is_for(entry: KeyEntry, number: int, stages: list[dict[str, Any]]) -> bool:
    """Whether a flag of the call is for this stage: a checkpoint is of the stage whose name is in its path."""
    if entry.key != "resume":
        return True
    named_so = [place for place, stage in enumerate(stages) if f"/{stage.get('stage_name')}/" in str(entry.value)]
    return number == (named_so or [0])[0]


def _stage_of(datasets: Mapping[str, Any]) -> dict[str, Any]:
    """The stage that a file without any speaks of."""
    kinds = [name.removeprefix("vlm_") for name in datasets]
    return {"stage_type": next((kind for kind in kinds if kind in STAGES), "sft")}


def _rows_for(stage: Mapping[str, Any], values: Mapping[str, Any], datasets: Mapping[str, Any]) -> str:
    """The name of the rows for a stage; empty where there are none."""
    model = values.get("model")
    sees = isinstance(model, dict) and model.get("model_type") == "vlm"
    kind = str(stage.get("stage_type"))
    names = [str(stage.get("stage_name")), *([f"vlm_{kind}", kind] if sees else [kind, f"vlm_{kind}"])]
    return next((name for name in names if name in datasets), "")
