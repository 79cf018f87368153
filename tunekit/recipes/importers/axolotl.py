"""axolotl's YAML: one flat file, with tables for data, FSDP, GRPO and vLLM inside."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.recipes.importers import axolotl_data, axolotl_model, axolotl_training, grpo, trainer
from tunekit.recipes.importers.columns import tables_of
from tunekit.recipes.importers.table import read_table
from tunekit.recipes.importers.trainer import default_entry, named
from tunekit.recipes.importers.translation import DEFAULT, LOST, Dialect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import Entry, Origin
    from tunekit.recipes.importers.trainer import Functions
    from tunekit.recipes.importers.translation import Draft

TITLE = "axolotl"
RULES = read_table("axolotl")
OWN_KEYS = frozenset(
    {
        "base_model",
        "micro_batch_size",
        "sequence_len",
        "sample_packing",
        "val_set_size",
        "num_epochs",
        "lora_r",
        "lora_target_linear",
        "adapter",
        "dataset_prepared_path",
        "evals_per_epoch",
        "saves_per_epoch",
        "optimizer",
        "lr_scheduler",
        "datasets",
        "train_on_inputs",
    }
)
"""Keys that make a file of settings look like axolotl's."""

RL = {"dpo": "dpo", "ipo": "dpo", "kto": "kto", "orpo": "orpo", "simpo": "simpo", "grpo": "grpo", "gdpo": "grpo"}
PLAIN_TEXT = ("completion", "pretrain")
TEMPLATES = {
    "chatml": "chatml",
    "llama3": "llama3",
    "llama3_2_vision": "llama3_2_vision",
    "llama4": "llama4",
    "gemma": "gemma",
    "gemma3": "gemma3_text",
    "gemma3n": "gemma3n",
    "gemma4": "gemma4",
    "phi_3": "phi3",
    "phi_35": "phi3",
    "deepseek_v2": "deepseek",
    "deepseek_v3": "deepseek_v2_5",
    "qwen_25": "qwen2_5",
    "qwen3": "qwen3",
    "qwen3_5": "qwen3_5",
    "qwen2_vl": "qwen2_vl",
    "pixtral": "pixtral",
    "aya": "aya",
    "cohere": "c4ai",
    "nemotron_h": "nemotron_h",
    "mistral_v3_tekken": "mistral_nemo",
    "mistral_v7_tekken": "mistral_2501",
}
"""Chat templates of axolotl and the nearest of ms-swift."""


def _likeness(source: Origin) -> int:
    """A call of axolotl, or a file with keys that only axolotl has."""
    said = " ".join(source.program)
    if re.fullmatch(r"(.*/)?axolotl( train)?|axolotl\.cli\.train|.*axolotl/cli/train\.py|scripts/finetune\.py", said):
        return 100
    if source.program:
        return 0
    keys = {entry.key for entry in source.entries}
    return min(95, 25 * len(keys & OWN_KEYS) + 40 * ("base_model" in keys)) if len(keys & OWN_KEYS) > 1 else 0


def _begin(draft: Draft) -> None:
    """The command, the kind of RLHF and of tuning: nearly all other keys hang on them."""
    values = draft.source.values()
    kind = values.get("rl")
    if values.get("process_reward_model"):
        raise TunekitError("ms-swift trains no process reward model", "an ordinary one it does: reward_model")
    if kind and kind not in RL:
        raise TunekitError(f"ms-swift does not train with axolotl's rl: {kind}", f"{', '.join(RL)} are understood")
    if kind:
        draft.command = "rlhf"
        draft.flags["rlhf_type"] = [RL[kind]]
    elif values.get("reward_model"):
        draft.command = "rlhf"
        draft.flags["rlhf_type"] = ["rm"]
    elif _is_plain_text(values):
        draft.command = "pt"
    draft.flags["tuner_type"] = ["lora" if values.get("adapter") or values.get("lora_model_dir") else "full"]


def _is_plain_text(values: Mapping[str, Any]) -> bool:
    """Whether every row is text without roles."""
    streamed = any(key.startswith("pretraining_dataset") for key, value in values.items() if value)
    return streamed or (bool(_kinds(values)) and _kinds(values) <= set(PLAIN_TEXT))


def _kinds(values: Mapping[str, Any]) -> set[str]:
    return {str(row.get("type") or "").partition(".")[0] for row in tables_of(values, "datasets")}


def _finish(draft: Draft) -> None:
    """Columns, curves, packing and batch, which no single key says."""
    axolotl_data.put_columns(draft)
    if any(key.startswith("pretraining_dataset") for key in draft.source.values()):
        draft.put(default_entry("streaming"), "a pretraining_dataset is read as a stream", streaming=True)
    if "report_to" not in draft.flags:
        draft.put(default_entry("report_to"), f"{TITLE}'s default", report_to="none")
    if draft.flags.get("packing") == ["true"]:
        trainer.need_flash(draft, "sample_packing")
    if draft.command == "sft" and _kinds(draft.source.values()) & set(PLAIN_TEXT):
        draft.warnings.append(
            "plain text beside conversations: ms-swift writes it as an answer, in the model's template"
        )
    trainer.close_run(draft, TITLE)
    trainer.warn_of_evaluation(draft)


def _rl(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """The kind of RLHF; IPO is DPO with another loss."""
    if not entry.value:
        return
    more = {"ipo": {"loss_type": "ipo"}, "gdpo": {"advantage_estimator": "grpo"}}.get(entry.value, {})
    draft.put(entry, rlhf_type=RL[entry.value], **more)
    if entry.value == "gdpo":
        draft.warnings.append("GDPO scales each reward before they are added: ms-swift's GRPO adds them first")


def _beta(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """The newest of its three names counts."""
    if entry.value is None:
        return
    if entry.key != "rl_beta" and values.get("rl_beta") is not None:
        draft.leave(entry, DEFAULT, "rl_beta counts where both stand")
    else:
        draft.put(entry, beta=entry.value)


def _reward(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """A reward model is trained."""
    if entry.value:
        draft.put(entry, rlhf_type="rm")


def _template(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """A chat template by name; where ms-swift has none that fits it takes the model's own."""
    word = str(entry.value or "")
    if word.startswith("tokenizer_default") or not word:
        draft.leave(entry, DEFAULT, "ms-swift takes the template of the model")
    elif word in TEMPLATES:
        draft.put(entry, template=TEMPLATES[word])
    else:
        draft.leave(entry, LOST, f"ms-swift has no template {word}: it takes the one of the model")


def _new_tokens(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Tokens that are added; ms-swift makes all of them special."""
    if not entry.value:
        return
    tokens = [*draft.flags.get("new_special_tokens", []), *(str(token) for token in entry.value)]
    draft.put(entry, "they become special tokens" if entry.key == "tokens" else "", new_special_tokens=tokens)


def _on_inputs(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Loss on the prompt as well; plain text has loss everywhere."""
    if entry.value:
        draft.put(entry, loss_scale="all")
    else:
        draft.leave(entry, DEFAULT, "loss on answers, in plain text on all of it")


def _eval_packing(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """ms-swift packs both or none."""
    same = bool(entry.value) == bool(values.get("sample_packing"))
    draft.leave(entry, DEFAULT if same else LOST, "ms-swift packs the rows of evaluation as it packs the others")


def _concatenated(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Texts are joined and cut."""
    if entry.value:
        draft.put(entry, packing=True, truncation_strategy="split")


def _excess(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """What happens to rows that are too long."""
    word = str(entry.value)
    if word == "raise":
        draft.leave(entry, LOST, "ms-swift leaves rows out or cuts them: tunekit data check finds them before")
    elif draft.command == "pt" and word == "drop":
        draft.put(entry, "plain text is cut into rows of that length", truncation_strategy="split")
    else:
        draft.put(entry, truncation_strategy={"truncate": "right"}.get(word, "delete"))


def _prompt_length(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """GRPO's prompts are bounded by max_length."""
    if draft.flags.get("rlhf_type") == ["grpo"] and entry.value:
        draft.put(entry, "in GRPO it bounds the prompt", max_length=entry.value)
    elif entry.value:
        draft.leave(entry, LOST, "ms-swift bounds prompt and answer together")


FUNCTIONS: Functions = (
    dict(trainer.FUNCTIONS)
    | dict(grpo.FUNCTIONS)
    | dict(axolotl_data.FUNCTIONS)
    | dict(axolotl_model.FUNCTIONS)
    | dict(axolotl_training.FUNCTIONS)
    | named(
        _rl, _beta, _reward, _template, _new_tokens, _eval_packing, _on_inputs, _concatenated, _excess, _prompt_length
    )
)

AXOLOTL = Dialect("axolotl", TITLE, RULES, _likeness, FUNCTIONS, _begin, _finish)
