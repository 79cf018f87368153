"""unsloth: a Python script with a few calls, which is parsed and never run.

What the script does to its rows in Python cannot be carried over, and is said.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.recipes.importers import trainer, trl, trl_trainer
from tunekit.recipes.importers.table import rules_in
from tunekit.recipes.importers.trainer import named
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, LOST, TRANSLATED, Dialect
from tunekit.recipes.importers.unsloth_script import entries_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import KeyEntry, Origin
    from tunekit.recipes.importers.trainer import Functions
    from tunekit.recipes.importers.translation import Draft

TITLE = "unsloth"
RULES = rules_in("trainer", "trl", "unsloth")
USES = re.compile(r"^\s*(from|import)\s+unsloth\b", re.MULTILINE)
TEMPLATES = {
    "chatml": "chatml",
    "llama-3": "llama3",
    "llama-3.1": "llama3_2",
    "llama-3.2": "llama3_2",
    "llama-3.3": "llama3_2",
    "llama3": "llama3",
    "llama": "llama",
    "zephyr": "zephyr",
    "qwen-2.5": "qwen2_5",
    "qwen2.5": "qwen2_5",
    "qwen-3": "qwen3",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma",
    "gemma-3": "gemma3_text",
    "gemma3": "gemma3_text",
    "phi-3": "phi3",
    "phi-4": "phi4",
}
"""Templates of unsloth and the nearest of ms-swift."""


def _likeness(source: Origin) -> int:
    """A script that imports unsloth."""
    return 100 if not source.program and USES.search(source.text) else 0


def script_in(source: Origin) -> list[Origin]:
    """The script with its arguments as entries, and its trainer as the program."""
    try:
        entries, trainers = entries_of(source.text)
    except (SyntaxError, ValueError, RecursionError) as error:
        line = f" line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise TunekitError(f"{source.path or 'standard input'}{line}: not a Python script") from error
    kind = trainers[-1].removeprefix("Unsloth").removesuffix("Trainer").lower() if trainers else "sft"
    program = ("trl", kind if kind in trl_trainer.KINDS else "sft")
    return [replace(source, program=program, entries=tuple(entries))]


def _begin(draft: Draft) -> None:
    """The command, and LoRA unless the script trains all weights."""
    values = draft.source.values()
    trl.begin_trl(draft)
    full = values.get("from_pretrained.full_finetuning") or not any(key.startswith("get_peft_model") for key in values)
    draft.flags["tuner_type"] = ["full" if full else "lora"]


def _model(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Its own copies of models that are quantized already carry it in their name."""
    draft.put(entry, model=entry.value)
    if str(entry.value).endswith("bnb-4bit"):
        draft.warnings.append(f"{entry.value} is quantized already: nothing more is passed for that")


def _bits(draft: Draft, entry: KeyEntry, values: Mapping[str, Any]) -> None:
    """4 or 8 bits, made while the model is loaded."""
    if not entry.value:
        return
    if str(values.get("from_pretrained.model_name") or "").endswith("bnb-4bit"):
        draft.leave(entry, DEFAULT, "the model is quantized already")
    else:
        trainer.put_bnb(draft, entry, 8 if entry.key.endswith("8bit") else 4)


def _full(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """All weights."""
    trainer.put_tuner(draft, entry, lora=not entry.value)


def _weights(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """The type of the weights."""
    draft.put(entry, torch_dtype=str(entry.value).removeprefix("torch."))


def _precision(draft: Draft, entry: KeyEntry, values: Mapping[str, Any]) -> None:
    """bf16 where the GPU has it, which every one of today does."""
    if entry.value and not values.get("from_pretrained.dtype"):
        draft.put(entry, torch_dtype="float16" if entry.key == "fp16" else "bfloat16")
    else:
        draft.leave(entry, DEFAULT, "not asked for")


def _checkpointing(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Its own way moves activations to the CPU."""
    if entry.value == "unsloth":
        draft.put(entry, gradient_checkpointing=True)
        draft.leave(entry, LOST, "activations are computed again, but stay on the GPU")
    else:
        draft.put(entry, gradient_checkpointing=str(entry.value).lower() == "true")


def _targets(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Modules by name."""
    trainer.put_targets(draft, entry)


def _vision(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Adapters in the ViT and what joins it to the language model."""
    draft.put(entry, freeze_vit=not entry.value, freeze_aligner=not entry.value)


def _language(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Adapters in the language model."""
    draft.put(entry, freeze_llm=not entry.value)


def _vllm(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Completions come from vLLM, in the same process."""
    if entry.value and draft.flags.get("rlhf_type") == ["grpo"]:
        draft.put(entry, use_vllm=True, vllm_mode="colocate")
    else:
        draft.leave(entry, DEFAULT, "nothing is generated while it trains")


def _rows(draft: Draft, entry: KeyEntry, values: Mapping[str, Any]) -> None:
    """A data set of the hub, or the files of a builder."""
    files = values.get("load_dataset.data_files")
    if isinstance(files, dict):
        files = files.get("train")
    config = values.get("load_dataset.name")
    local = entry.value in ("json", "csv", "parquet", "text") and files
    draft.put(entry, dataset=files if local else f"{entry.value}:{config}" if config else entry.value)


def _of_rows(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Part of the name."""
    draft.leave(entry, TRANSLATED, "part of --dataset")


def _split(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """The split train, or the first rows of it."""
    rows = re.fullmatch(r"train\[:(\d+)\]", str(entry.value))
    if entry.value == "train":
        draft.leave(entry, DEFAULT, "ms-swift reads the split train")
    elif rows:
        draft.leave(entry, LOST, f"put #{rows[1]} behind the name: rows by chance, not the first")
    else:
        draft.leave(entry, LOST, "ms-swift reads the split train; write another one to a file")


def _template(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """A chat template by name."""
    name = TEMPLATES.get(str(entry.value))
    if name:
        draft.put(entry, template=name)
    else:
        draft.leave(entry, LOST, f"ms-swift has no template {entry.value}: it takes the one of the model")


def _format(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """A Python function that writes a row as text."""
    file = draft.source.path.name if draft.source.path else "FILE.py"
    where = f"tunekit --format {file}:{entry.value[0]}"
    draft.leave(entry, ELSEWHERE, "a Python function that writes a row", where)


def _finish(draft: Draft) -> None:
    """What the script does to its rows, and what TRL's own files leave to the end."""
    draft.world = draft.source.world or 1  # unsloth trains on one GPU
    trl.finish_trl(draft)
    if re.search(r"\.map\(", draft.source.text):
        why = "the script changes its rows in Python (map): write them to a file, or tunekit --format FILE.py:FUNC"
        draft.warnings.append(why)
    if "dataset" not in draft.flags:
        draft.warnings.append("no rows are named in the script as ms-swift could read them: --dataset")
    if "get_chat_template.chat_template" in draft.source.values():
        draft.warnings.append("text that the script makes with a chat template has it already: give ms-swift the turns")


FUNCTIONS: Functions = {
    **trl.FUNCTIONS,
    **named(
        _model,
        _bits,
        _full,
        _weights,
        _precision,
        _checkpointing,
        _targets,
        _vision,
        _language,
        _vllm,
        _rows,
        _of_rows,
        _split,
        _template,
        _format,
    ),
}

UNSLOTH = Dialect("unsloth", TITLE, RULES, _likeness, FUNCTIONS, _begin, _finish, script_in)
