"""NeuroTrain's TOML, a stage at a time: the model, LoRA, rows and rewards; ``train_llm.py`` reads it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.recipes.importers import trainer
from tunekit.recipes.importers.columns import CONVERSATIONS, NamedRows, put_rows
from tunekit.recipes.importers.grpo import function_place, say_of_rewards
from tunekit.recipes.importers.neurotrain_stages import STAGES, is_datasets, is_stages, stages_in
from tunekit.recipes.importers.table import rules_in
from tunekit.recipes.importers.trainer import default_entry, named
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, LOST, TRANSLATED, Dialect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import KeyEntry, Origin
    from tunekit.recipes.importers.trainer import Functions
    from tunekit.recipes.importers.translation import Draft

TITLE = "NeuroTrain"
RULES = rules_in("trainer", "neurotrain")
FIELDS = {
    "prompt_field": "query",
    "response_field": "response",
    "chosen_field": "response",
    "rejected_field": "rejected_response",
    "image_field": "images",
    "system_field": "system",
}
QUERIES = {"query", "prompt", "input", "instruction", "question", "problem"}
RESPONSES = {
    "response",
    "answer",
    "output",
    "targets",
    "target",
    "answers",
    "solution",
    "text",
    "completion",
    "content",
}
"""Columns that ms-swift takes for a question and for an answer."""
KNOWN = {"query": QUERIES, "response": RESPONSES, "images": {"image", "images"}, "system": {"system"}}
TYPES = {"bfloat16": "bfloat16", "bf16": "bfloat16", "float16": "float16", "fp16": "float16", "half": "float16"}


def _likeness(source: Origin) -> int:
    """Its script, or its tables."""
    if source.program and re.search(r"(^|/)train_(llm|vlm)\.py$", source.program[0]):
        return 95
    if source.program:
        return 0
    tables = source.values()
    found = 50 * is_stages(tables.get("stages")) + 30 * isinstance(tables.get("model"), dict)
    found += 30 * is_datasets(tables.get("datasets")) + 15 * ({"task_name", "wandb_entity"} & set(tables) != set())
    return min(95, found)


def _begin(draft: Draft) -> None:
    """The command, the kind of RLHF and of tuning."""
    values = draft.source.values()
    kind = str(values.get("stage_type") or "sft")
    if kind not in STAGES:
        raise TunekitError(f"a stage of the type {kind} is not known", f"there are {', '.join(STAGES)}")
    draft.command = STAGES[kind]
    if draft.command == "rlhf":
        draft.flags["rlhf_type"] = [kind]
    draft.flags["tuner_type"] = ["lora" if _says(values, "use_lora") else "full"]


def _says(values: Mapping[str, Any], name: str) -> Any:
    """A key of the model, also where it stands behind its last table and so inside of that."""
    return values.get(f"model.{name}") or values.get(f"model.lora_config.{name}")


def _stage_type(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """The command, and the kind of RLHF."""
    if draft.command == "rlhf":
        draft.put(entry, rlhf_type=entry.value)
    else:
        draft.leave(entry, TRANSLATED, f"swift {draft.command}")


def _load_from(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Empty means the stage before."""
    if not entry.value:
        why = "it goes on from the stage before: in a recipe by itself, else with --adapters or --model of its result"
        draft.leave(entry, ELSEWHERE, why, "recipe")
        draft.goes_on = True
    elif draft.flags["tuner_type"] == ["lora"]:
        draft.put(entry, adapters=entry.value)
    else:
        draft.put(entry, model=entry.value)


def _use_lora(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """LoRA, or all weights."""
    trainer.put_tuner(draft, entry, lora=bool(entry.value))


def _lora(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Fields of peft's LoraConfig."""
    name = entry.key.rpartition(".")[2]
    if draft.flags["tuner_type"] == ["lora"]:
        draft.put(entry, **{"lora_rank" if name == "r" else name: entry.value})
    else:
        draft.leave(entry, DEFAULT, "without use_lora all weights are trained")


def _targets(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Modules that LoRA changes."""
    if draft.flags["tuner_type"] == ["lora"]:
        trainer.put_targets(draft, entry)
    else:
        draft.leave(entry, DEFAULT, "without use_lora all weights are trained")


def _bias(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """ms-swift trains no biases, or all."""
    if entry.value in ("none", "all"):
        draft.put(entry, lora_bias=entry.value)
    else:
        draft.leave(entry, LOST, f"ms-swift trains no biases, or all: not {entry.value}")


def _quantized(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """bitsandbytes; behind a table of the model the key is inside of that table, but the model is meant."""
    if not entry.value:
        return
    trainer.put_bnb(draft, entry, 4 if entry.key.endswith("4bit") else 8)
    if "lora_config" in entry.key:
        draft.put(
            entry, "it stands behind [model.lora_config] and so inside it; the model is meant", quant_method="bnb"
        )
        draft.warnings.append(
            f"{entry.key}: it stands behind [model.lora_config] and so inside it; taken for the model's"
        )
    if str(draft.source.values().get("deepspeed") or "").lower().find("zero3") >= 0:
        draft.warnings.append("bitsandbytes and ZeRO-3 do not go well together: ZeRO-2 is the safer one")


def _dtype(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """The type of the weights."""
    word = str(entry.value)
    if word == "auto":
        draft.leave(entry, DEFAULT, "as the model says")
    else:
        draft.put(entry, torch_dtype=TYPES.get(word, word))


def _compute_dtype(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """The type that quantized weights are computed in."""
    draft.put(entry, bnb_4bit_compute_dtype=TYPES.get(str(entry.value), entry.value))


def _flash(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Attention of the installed flash-attn."""
    if entry.value:
        draft.put(entry, attn_impl="flash_attn")


def _rows(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """A file or a data set of the hub."""
    draft.put(entry, dataset=entry.value)


def _val_rows(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Rows for evaluation."""
    draft.put(entry, val_dataset=entry.value)


def _column(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """What a column is called."""
    draft.leave(entry, TRANSLATED, "--columns where ms-swift would not know it")


def _split(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """ms-swift reads the split that is called train."""
    same = entry.value == "train"
    draft.leave(entry, DEFAULT if same else LOST, "ms-swift reads the split train")


def _format(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """A Python function that writes a row as text."""
    draft.call(entry, "format", [_place(str(entry.value))], "a Python function that writes a row")


def _reward(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """A Python function that gives a number; ms-swift's PPO takes a model only."""
    if draft.flags.get("rlhf_type") == ["ppo"]:
        draft.leave(entry, LOST, "ms-swift's PPO takes a reward model: GRPO takes functions")
    else:
        draft.call(entry, "reward", [_place(str(entry.value))], "a Python function that scores each answer")
        say_of_rewards(draft)


def _place(name: str) -> str:
    """``src.utils.rewards:score`` as tunekit takes it: ``src/utils/rewards.py:score``."""
    return name if name.partition(":")[0].endswith(".py") else function_place(name)


def _wandb(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """W&B, or no tracker where it is not asked for."""
    draft.put(entry, report_to="wandb" if entry.value else "none")


def _variable(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """W&B reads it from the environment."""
    draft.put_env(entry, **{entry.key.upper(): str(entry.value)})


def _unused(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Rows of a kind that no stage is of."""
    draft.leave(replace(entry, key=entry.key.replace("unused.", "datasets.", 1)), DEFAULT, "no stage uses these rows")


def _columns_of(values: Mapping[str, Any], command: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in values.items():
        name = key.rpartition(".")[2]
        if not key.startswith("datasets.") or not value:
            continue
        if name == "prompt_field" and value in CONVERSATIONS:
            continue
        ours = FIELDS.get(name) or (("response" if command == "pt" else "query") if name == "text_field" else "")
        if ours and (name in ("chosen_field", "rejected_field") or value not in KNOWN.get(ours, {ours})):
            found[str(value)] = ours
    return found


def _finish(draft: Draft) -> None:
    """Columns, what LoRA takes by itself, hub and batch."""
    values = draft.source.values()
    columns = _columns_of(values, draft.command)
    if draft.flags.get("rlhf_type") in (["dpo"], ["rm"]) and "response" not in columns.values():
        columns |= {"chosen": "response", "rejected": "rejected_response"}
    put_rows(draft, [NamedRows(name, columns) for name in draft.flags.get("dataset", [])])
    if draft.flags["tuner_type"] == ["lora"]:
        _lora_defaults(draft, values)
    if "model" not in draft.flags:
        draft.warnings.append("no model is named: --model")
    if draft.flags.get("rlhf_type") == ["ppo"] and "reward_model" not in draft.flags:
        draft.warnings.append("ms-swift's PPO needs --reward_model")
    if not {"model.use_lora", "model.lora_config.use_lora"} & set(values):
        draft.put(default_entry("model.use_lora"), f"{TITLE}'s default", tuner_type="full")
    trainer.close_run(draft, TITLE)


def _lora_defaults(draft: Draft, values: Mapping[str, Any]) -> None:
    """What peft takes where the table of LoRA leaves something out."""
    model = str(values.get("model.model_name_or_path") or "")
    own = {"lora_rank": 8, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": trainer.targets_of_peft(model)}
    for flag, value in own.items():
        if flag not in draft.flags and "target_regex" not in draft.flags:
            draft.put(
                default_entry(f"model.lora_config.{flag.removeprefix('lora_rank') or 'r'}"),
                "peft's default",
                **{flag: value},
            )


FUNCTIONS: Functions = {
    **trainer.FUNCTIONS,
    **named(
        _stage_type,
        _load_from,
        _use_lora,
        _lora,
        _targets,
        _bias,
        _quantized,
        _dtype,
        _compute_dtype,
        _flash,
        _rows,
        _val_rows,
        _column,
        _split,
        _format,
        _reward,
        _wandb,
        _variable,
        _unused,
    ),
}
NEUROTRAIN = Dialect("neurotrain", TITLE, RULES, _likeness, FUNCTIONS, _begin, _finish, stages_in)
