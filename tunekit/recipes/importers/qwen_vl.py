"""The train.py of the Qwen-VL guide: parts of a vision model by strategy, each with a rate of its own."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError, did_you_mean
from tunekit.plan.models.find import resolve
from tunekit.plan.models.parameters import Layers, layers_of
from tunekit.recipes.importers import trainer
from tunekit.recipes.importers.table import read_table
from tunekit.recipes.importers.trainer import named
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, TRANSLATED, Dialect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import Entry, Origin
    from tunekit.recipes.importers.trainer import Functions
    from tunekit.recipes.importers.translation import Draft

TITLE = "Qwen-VL"
RULES = read_table("qwen-vl")
OWN_KEYS = frozenset(
    {"tuning_strategy", "llm_frozen_layers", "learning_rate_llm", "learning_rate_projector", "dataset_config_path"}
    | {"learning_rate_vit", "train_split_ratio", "eval_dataset_scripts", "use_data_augmentation"}
)
STRATEGIES: Mapping[str, Mapping[str, Any]] = {
    "qlora": {"tuner_type": "lora", "quant_method": "bnb", "quant_bits": 4},
    "lora": {"tuner_type": "lora"},
    "lora_llm_full_vit": {"tuner_type": "lora_llm"},
    "partial_llm_full_vit": {"tuner_type": "full", "freeze_vit": False, "freeze_aligner": False},
    "vit_only": {"tuner_type": "full", "freeze_llm": True, "freeze_vit": False, "freeze_aligner": False},
    "full": {"tuner_type": "full", "freeze_vit": False, "freeze_aligner": False},
}
RATES = {"learning_rate_vit": "vit_lr", "learning_rate_projector": "aligner_lr"}
STEM = "model.language_model."
"""What the parameters of the language model begin with in every Qwen-VL since the second."""
MISSPELT = re.compile(r"Qwen2\.5-(\d+)B-VL-Chat$", re.IGNORECASE)
"""The guide's name of a model, which no hub has."""


def _likeness(source: Origin) -> int:
    """Flags that only this script has."""
    keys = {entry.key for entry in source.entries}
    own = len(keys & OWN_KEYS)
    return 60 + min(35, 20 * own) if own and source.program[:1] != ("swift",) else 0


def _begin(draft: Draft) -> None:
    """What is trained: tuning_strategy says it, and it has to be one of the guide."""
    word = str(draft.source.values().get("tuning_strategy") or "")
    if word and word not in STRATEGIES:
        near = did_you_mean(word, STRATEGIES) or f"there are {', '.join(STRATEGIES)}"
        raise TunekitError(f"--tuning_strategy {word} is none of the guide", near)
    if word:
        draft.flags["tuner_type"] = [STRATEGIES[word]["tuner_type"]]
    else:
        draft.warnings.append("no --tuning_strategy: ms-swift trains LoRA in the language model")


def _model(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """The guide misspells a model."""
    draft.put(entry, model=entry.value)
    found = MISSPELT.search(str(entry.value))
    if found:
        draft.warnings.append(f"no hub has {entry.value}: Qwen/Qwen2.5-VL-{found[1]}B-Instruct is meant")


def _strategy(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """Parts of the model, in full or by adapters."""
    word = str(entry.value)
    meaning = STRATEGIES[word]
    if word == "qlora" and (values.get("learning_rate_vit") or values.get("learning_rate_projector")):
        meaning = {**meaning, "tuner_type": "lora_llm"}  # the guide: the ViT may be trained in full beside it
    draft.put(entry, f"tunekit: --tuning-strategy {word}", **meaning)


def _frozen(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """The first layers of the language model, and what feeds them."""
    if values.get("tuning_strategy") != "partial_llm_full_vit":
        draft.leave(entry, DEFAULT, "of partial_llm_full_vit only")
        return
    try:
        layers = layers_of(resolve(str(values.get("model_name_or_path") or ""), use_hf=True))
    except TunekitError:
        layers = Layers(STEM, int(entry.value))
    draft.put(entry, freeze_parameters=[layers.embedding, *layers.prefixes(range(int(entry.value)))])


def _rate(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """A rate of ViT or projector, which counts where they are trained."""
    if values.get("tuning_strategy") == "lora":
        draft.leave(entry, DEFAULT, "ViT and projector stand still")
    else:
        draft.put(entry, **{RATES[entry.key]: entry.value})


def _lora(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Numbers of LoRA say nothing where everything is trained."""
    if draft.flags.get("tuner_type") == ["full"]:
        draft.leave(entry, DEFAULT, "no adapters are trained")
    else:
        draft.put(entry, **{entry.key: entry.value})


def _registry(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """A JSON file that says where each data set is."""
    if _known(draft.source, str(entry.value)):
        draft.leave(entry, TRANSLATED, "--dataset: it says which files the names mean")
    else:
        draft.leave(entry, ELSEWHERE, "the file is not here: name the files themselves", "--dataset FILE")


def _names(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """Names of that file: where it is here, the files that they mean."""
    names = entry.value if isinstance(entry.value, list) else str(entry.value).split(",")
    known = _known(draft.source, str(values.get("dataset_config_path") or ""))
    files = [known.get(str(name).strip(), str(name).strip()) for name in names]
    draft.put(entry, dataset=files)
    unknown = [name for name in files if name not in known.values()]
    if unknown:
        draft.warnings.append(f"{', '.join(unknown)}: names of a register that is not here: put the files there")


def _known(source: Origin, name: str) -> dict[str, str]:
    """The file of each name, under whichever of the usual words it stands."""
    try:
        table = json.loads((source.folder / name).read_text(encoding="utf-8")) if name else {}
    except (OSError, ValueError):
        return {}
    rows = table.items() if isinstance(table, dict) else ((row.get("name"), row) for row in table)
    words = ("path", "data_path", "file", "file_name", "annotation_path", "annotations", "json_path", "train")
    found: dict[str, str] = {}
    for key, row in rows:
        place = row if isinstance(row, str) else next((row[word] for word in words if word in row), None)
        if place:
            found[str(key)] = str(place)
    return found


def _kept(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """What is not trained on is for evaluation."""
    draft.put(entry, split_dataset_ratio=f"{1 - float(entry.value):.6g}")


def _eval_steps(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Every so many steps."""
    draft.put(entry, eval_strategy="steps", eval_steps=entry.value)


def _wandb(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """W&B, or none where it is not asked for."""
    draft.put(entry, report_to="wandb" if entry.value else "none")


def _wandb_project(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """W&B reads its project from the environment."""
    draft.put_env(entry, WANDB_PROJECT=str(entry.value))


def _finish(draft: Draft) -> None:
    """Hub and batch: what no single key says."""
    partial = draft.source.values().get("tuning_strategy") == "partial_llm_full_vit"
    if partial and "freeze_parameters" not in draft.flags:
        draft.warnings.append("partial_llm_full_vit without --llm_frozen_layers: no layer is frozen")
    trainer.close_run(draft, "the guide's train.py")


FUNCTIONS: Functions = {
    **trainer.FUNCTIONS,
    **named(
        _model,
        _strategy,
        _frozen,
        _rate,
        _lora,
        _registry,
        _names,
        _kept,
        _eval_steps,
        _wandb,
        _wandb_project,
    ),
}

QWEN_VL = Dialect("qwen-vl", TITLE, RULES, _likeness, FUNCTIONS, _begin, _finish)
