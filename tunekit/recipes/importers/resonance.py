"""Resonance: scripts for vision models over the Trainer of transformers, one a stage: sft.py, dpo.py, ppo.py."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tunekit.recipes.importers import trainer
from tunekit.recipes.importers.columns import TEXT_PAIRS, NamedRows, put_rows, rows_in_files
from tunekit.recipes.importers.table import rules_in
from tunekit.recipes.importers.trainer import named
from tunekit.recipes.importers.translation import DEFAULT, LOST, TRANSLATED, Dialect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import KeyEntry, Origin
    from tunekit.recipes.importers.trainer import Functions
    from tunekit.recipes.importers.translation import Draft

TITLE = "Resonance"
RULES = rules_in("trainer", "resonance")

KINDS = {"sft": "", "dpo": "dpo", "ppo": "ppo", "rm": "rm", "reward": "rm", "kto": "kto", "grpo": "grpo"}
"""Scripts, and the kind of RLHF that they are in ms-swift; empty for none."""
DATASETS = {"vlfeedback_paired": "MMInstruction/VLFeedback", "rlhfv": "HaoyeZhang/RLHF-V-Dataset"}
"""Names that stand for a data set of the hub; the others say how the rows of `data_path` look."""
PAIRED = ("plain_dpo",)
OWN_KEYS = frozenset(
    {"q_lora", "bits", "score_margin", "max_target_length", "project_name", "group_name", "image_root", "data_ratio"}
)


def _likeness(source: Origin) -> int:
    """A script of Resonance, or flags that only it has."""
    program = source.program[0] if source.program else ""
    keys = {entry.key for entry in source.entries}
    if re.search(r"(^|[/.])resonance[/.]", program, re.IGNORECASE):
        return 100
    if {"dataset_name", "data_path"} <= keys or str(source.values().get("dataset_name")) in (*DATASETS, *PAIRED):
        return 85
    alone = source.line and not program  # flags alone, as the guide shows them
    if not (keys & OWN_KEYS or alone) or not keys or not keys <= set(RULES):
        return 0
    return 70 if keys & OWN_KEYS else 5


def _kind(draft: Draft) -> str:
    """The stage that the script's name says, else the one that the flags and data are of."""
    program = draft.source.program[0] if draft.source.program else ""
    name = re.split(r"[/.]", program.removesuffix(".py"))[-1]
    found = next((kind for kind in KINDS if re.search(rf"(^|_){kind}(_|$)", name)), "")
    values = draft.source.values()
    if found:
        return found
    if {"kl_coef", "cliprange", "vf_coef"} & set(values):
        return "ppo"
    return "dpo" if {"beta", "score_margin"} & set(values) or _is_paired(values) else "sft"


def _is_paired(values: Mapping[str, Any]) -> bool:
    return str(values.get("dataset_name")) in (*PAIRED, *DATASETS)


def _begin(draft: Draft) -> None:
    """The command, the kind of RLHF and of tuning."""
    kind, values = KINDS[_kind(draft)], draft.source.values()
    if kind:
        draft.command = "rlhf"
        draft.flags["rlhf_type"] = [kind]
    draft.flags["tuner_type"] = ["lora" if values.get("use_lora") or values.get("q_lora") else "full"]


def _is_lora(draft: Draft) -> bool:
    return draft.flags["tuner_type"] == ["lora"]


def _use_lora(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """LoRA, or all weights where it is not asked for."""
    trainer.put_tuner(draft, entry, lora=_is_lora(draft))


def _lora(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Numbers of LoRA say nothing where everything is trained."""
    if _is_lora(draft):
        draft.put(entry, **{"lora_rank" if entry.key == "lora_r" else entry.key: entry.value})
    else:
        draft.leave(entry, DEFAULT, "without use_lora all weights are trained")


def _targets(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """`auto` looks for the linear modules."""
    if not _is_lora(draft):
        draft.leave(entry, DEFAULT, "without use_lora all weights are trained")
    elif entry.value == "auto":
        draft.put(entry, target_modules="all-linear")
    else:
        trainer.put_targets(draft, entry)


def _q_lora(draft: Draft, entry: KeyEntry, values: Mapping[str, Any]) -> None:
    """LoRA over weights of 4 or 8 bits."""
    if entry.value:
        trainer.put_bnb(draft, entry, int(values.get("bits") or 4))


def _bits(draft: Draft, entry: KeyEntry, values: Mapping[str, Any]) -> None:
    """Counts with q_lora."""
    if values.get("q_lora"):
        trainer.put_bnb(draft, entry, int(entry.value))
    else:
        draft.leave(entry, DEFAULT, "without q_lora weights keep all their bits")


def _saved(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Modules that are trained in full beside LoRA."""
    draft.put(entry, modules_to_save=[word.strip() for word in str(entry.value).split(",") if word.strip()])


def _flash(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Attention of the installed flash-attn."""
    if entry.value:
        draft.put(entry, attn_impl="flash_attn")


def _dataset_name(draft: Draft, entry: KeyEntry, values: Mapping[str, Any]) -> None:
    """A data set of the hub, or the shape of the rows of data_path."""
    hub_id = DATASETS.get(str(entry.value))
    if values.get("data_path"):
        draft.leave(entry, TRANSLATED, "the shape of the rows: --columns where ms-swift would not know it")
    elif hub_id:
        draft.put(entry, dataset=hub_id)
        draft.warnings.append(f"{hub_id}: Resonance makes pairs of its rows; ms-swift wants them made: tunekit data")
    else:
        draft.put(entry, dataset=entry.value)
        draft.warnings.append(f"--dataset_name {entry.value}: without --data_path no rows are named")


def _data_path(draft: Draft, entry: KeyEntry, values: Mapping[str, Any]) -> None:
    """The file of rows, or a part of it."""
    ratio = float(values.get("data_ratio") or 1)
    total = rows_in_files([str(entry.value)], draft.source.folder) if ratio < 1 else None
    draft.put(entry, dataset=f"{entry.value}#{round(total * ratio)}" if total else entry.value)


def _data_ratio(draft: Draft, entry: KeyEntry, values: Mapping[str, Any]) -> None:
    """ms-swift takes a number of rows, so they have to be counted here."""
    if float(entry.value) >= 1:
        draft.leave(entry, DEFAULT, "all rows")
    elif rows_in_files([str(values.get("data_path") or "")], draft.source.folder):
        draft.leave(entry, TRANSLATED, "a number of rows behind the name, in --dataset")
    else:
        draft.leave(entry, LOST, "a number of rows goes behind the name, FILE#1000; they are not here to be counted")


def _image_root(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Where paths of pictures begin."""
    draft.put_env(entry, ROOT_IMAGE_DIR=str(entry.value))


def _project(draft: Draft, entry: KeyEntry, values: Mapping[str, Any]) -> None:
    """W&B reads its project from the environment."""
    written = values.get("report_to")
    if written is None or "wandb" in str(written):
        draft.put_env(entry, WANDB_PROJECT=str(entry.value))
    else:
        draft.leave(entry, DEFAULT, "W&B is not used")


def _group(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """W&B reads its group from the environment."""
    draft.put_env(entry, WANDB_RUN_GROUP=str(entry.value))


def _finish(draft: Draft) -> None:
    """Columns of pairs, hub, batch: what no single key says."""
    values = draft.source.values()
    if "".join(draft.flags.get("rlhf_type", [])) in ("dpo", "rm"):
        put_rows(draft, [NamedRows(name, dict(TEXT_PAIRS)) for name in draft.flags.get("dataset", [])], "dataset_name")
    if draft.flags.get("rlhf_type") == ["ppo"] and "reward_model" not in draft.flags:
        draft.warnings.append("ms-swift's PPO needs --reward_model, which this command does not name")
    if "config_file" in draft.source.launch:
        trainer.take_accelerate(draft, draft.source.launch["config_file"])
    trainer.close_run(draft, TITLE)
    if "eval_strategy" in values:
        trainer.warn_of_evaluation(draft)


FUNCTIONS: Functions = {
    **trainer.FUNCTIONS,
    **named(
        _use_lora,
        _lora,
        _targets,
        _q_lora,
        _bits,
        _saved,
        _flash,
        _dataset_name,
        _data_path,
        _data_ratio,
        _image_root,
        _project,
        _group,
    ),
}

RESONANCE = Dialect("resonance", TITLE, RULES, _likeness, FUNCTIONS, _begin, _finish)
