"""ms-swift before 4: scripts of 2.x and 3.x. What 4.6 still calls so is taken as it is; a table names the rest."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

from tunekit.engine.flags import SNAPSHOT
from tunekit.files import read_object
from tunekit.recipes.importers import swift_before_data as data
from tunekit.recipes.importers import swift_before_model as model
from tunekit.recipes.importers import swift_before_training as training
from tunekit.recipes.importers.carried import carry_environment
from tunekit.recipes.importers.table import KeyRule, Rules, read_table
from tunekit.recipes.importers.trainer import need_flash
from tunekit.recipes.importers.translation import TRAINS, Dialect, Draft
from tunekit.stages import STAGES, USUAL

if TYPE_CHECKING:
    from tunekit.recipes.importers.source import Origin

PROGRAM = re.compile(r"(?:^|/|\.)(?:swift|llm_(?P<old>[a-z]+)\.py|(?P<new>[a-z]+)\.py)$")
COMMANDS = (
    *("sft", "pt", "rlhf", "infer", "export", "deploy", "app", "eval", "merge-lora", "app-ui", "web-ui", "sample"),
    "rollout",
)
MODULE = re.compile(r"swift\.cli\.(?P<name>[a-z_]+)")
RENAMED = {"app-ui": "app", "merge-lora": "export", "merge_lora": "export"}
OLD = (
    *(
        "sft_type",
        "model_id_or_path",
        "template_type",
        "batch_size",
        "lora_target_modules",
        "custom_train_dataset_path",
    ),
    *("train_dataset_sample", "self_cognition_sample", "dataset_test_ratio", "quantization_bit", "use_flash_attn"),
    *("check_dataset_strategy", "eval_batch_size", "preprocess_num_proc", "lora_dropout_p", "only_save_model"),
    *("add_output_dir_suffix", "neftune_alpha", "ref_model_type", "merge_lora_and_save", "show_dataset_sample"),
    *("eval_human", "vllm_enable_lora", "custom_val_dataset_path", "dtype", "deepspeed_config_path"),
)
"""Flags that 2.x alone had."""
ONE = ("train_type", "tuner_type", "model", "torch_dtype", "per_device_train_batch_size", "adapters")
"""Flags that came with 3.0."""


@cache
def flags_of_now() -> frozenset[str]:
    """The flags of ms-swift 4.6, of all its commands."""
    return frozenset(row[0] for row in read_object(SNAPSHOT).get("flags", ()))


def _rules(name: str) -> dict[str, KeyRule]:
    table = read_table(name)
    return table | {flag: KeyRule(flag, "to", flag) for flag in sorted(flags_of_now() - table.keys())}


def _command(origin: Origin) -> str:
    """The word behind ``swift``, or what a script of 2.x was for; empty where it is no call of ms-swift."""
    if not origin.program:
        return ""
    first, *rest = origin.program
    if found := MODULE.fullmatch(first):
        return found["name"].replace("_", "-") if found["name"] != "main" else "".join(rest[:1])
    if first == "swift" and rest:
        return rest[0] if rest[0] in COMMANDS or rest[0] in STAGES else ""
    found = re.search(r"(?:^|/)(?:llm_)(?P<name>[a-z]+)\.py$|swift/cli/(?P<cli>[a-z_]+)\.py$", first)
    return (found["name"] or found["cli"]) if found else ""


def _likeness(origin: Origin, *, old: bool) -> int:
    command = _command(origin)
    keys = origin.values().keys()
    if not command and not origin.program and origin.line and keys <= flags_of_now():
        return 0 if old else 4  # flags alone, as guides show them
    if not command:
        own = bool({"train_type", "tuner_type", "sft_type"} & keys) and bool(
            {"model", "model_id_or_path", "model_type"} & keys
        )
        return (60 if ("sft_type" in keys) == old else 10) if own and not origin.program else 0
    marks = sum(flag in keys for flag in OLD) + 2 * (command in STAGES and STAGES[command].command != command)
    marks += "llm_" in origin.program[0]
    marks += command == "app-ui" or ("model_type" in keys and not keys & {"model", "adapters", "ckpt_dir"})
    newer = sum(flag in keys for flag in ONE)
    if not marks and not newer:
        return 40 if old else 60
    return 90 if (marks > newer) == old else 20


def _split(origin: Origin) -> list[Origin]:
    """One run; the ``ENV`` of ms-swift's own YAML are variables."""
    said = origin.values().get("ENV")
    if not isinstance(said, dict):
        return [origin]
    env = dict(origin.env) | {str(name): str(value) for name, value in said.items()}
    return [replace(origin, entries=tuple(entry for entry in origin.entries if entry.key != "ENV"), env=env)]


def _begin(draft: Draft, *, old: bool) -> None:
    word = _command(draft.source)
    word = RENAMED.get(word, word) or USUAL
    values = draft.source.values()
    if _command(draft.source).startswith("merge"):
        draft.flags["merge_lora"] = ["true"]
    stage = STAGES.get(word)
    draft.command = stage.command if stage else word
    kind = str(values.get("rlhf_type") or (word if stage and stage.command != word else ""))
    if kind:
        draft.flags["rlhf_type"] = [kind]
    if draft.command in TRAINS:
        said = values.get("sft_type" if old else "train_type") or values.get("tuner_type")
        draft.flags["tuner_type"] = [str(said or ("full" if old and word == "pt" else "lora"))]
    draft.world = draft.source.world or _one_process(draft)


def _one_process(draft: Draft) -> int | None:
    """ms-swift itself starts one process where ``NPROC_PER_NODE`` is not set; torchrun says so otherwise."""
    return 1 if draft.source.program else None


def _finish(draft: Draft, *, old: bool) -> None:
    carry_environment(draft, skip=("USE_HF",))
    if str(draft.source.env.get("USE_HF", "")).lower() in {"1", "true"}:
        draft.flags["use_hf"] = ["true"]
    if draft.command not in TRAINS:
        return
    if draft.flags.get("packing") == ["true"]:
        need_flash(draft, "attn_impl")
    visible = draft.source.env.get("CUDA_VISIBLE_DEVICES", "").strip(",").count(",") + 1
    if visible > 1 and (draft.world or draft.source.world) == 1:
        draft.warnings.append(
            f"one process for {visible} GPUs: ms-swift spreads the model over them; tunekit takes one"
        )
    if not old and "adam_beta2" not in draft.flags:
        draft.warnings.append(
            "3.x before 3.2.2 took 0.999 for --adam_beta2, not 0.95; the script does not say which it was"
        )
    if not old and not {"split_dataset_ratio", "val_dataset"} & draft.flags.keys():
        draft.warnings.append("3.x before 3.6 held 1 % of the rows out: --split_dataset_ratio 0.01 does so")
    if not old and draft.flags.get("rlhf_type") == [training.PAIRS] and "rpo_alpha" not in draft.flags:
        draft.warnings.append("3.x before 3.8 added the loss of the chosen answer: --rpo_alpha 1.0 does so")


FUNCTIONS = {**model.FUNCTIONS, **data.FUNCTIONS, **training.FUNCTIONS}

SWIFT2, SWIFT3 = (
    Dialect(
        name=name,
        title=title,
        rules=Rules(partial(_rules, name)),
        likeness=partial(_likeness, old=old),
        functions=FUNCTIONS,
        abbreviates=True,
        split=_split,
        begin=partial(_begin, old=old),
        finish=partial(_finish, old=old),
    )
    for name, title, old in (("swift2", "ms-swift 2", True), ("swift3", "ms-swift 3", False))
)
