"""TRL: ``trl sft --config file.yaml --flag …``, its scripts, and its YAML alone: what its keys are in ms-swift."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.recipes.importers import grpo, trainer, trl_data
from tunekit.recipes.importers.trainer import default_entry, named
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, LOST, Dialect
from tunekit.recipes.importers.trl_trainer import KINDS, RULES, likeness_to_trl, names_trainer, trainer_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import KeyEntry
    from tunekit.recipes.importers.trainer import Functions
    from tunekit.recipes.importers.translation import Draft

TITLE = "TRL"
RATES = {"sft": "2e-5", "reward": "1e-4"}
BETAS = {"dpo": 0.1, "kto": 0.1, "orpo": 0.1, "cpo": 0.1, "grpo": 0.0, "rloo": 0.05, "gkd": 0.5}


def begin_trl(draft: Draft) -> None:
    """The command, the kind of RLHF and of tuning."""
    kind, values = trainer_of(draft.source), draft.source.values()
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise TunekitError(f"TRL's {kind} has no counterpart in ms-swift", f"these have one: {known}")
    if not names_trainer(draft.source):
        draft.warnings.append(f"the file does not say which trainer reads it: taken for trl {kind}")
    if KINDS[kind]:
        draft.command = "rlhf"
        draft.flags["rlhf_type"] = ["simpo" if kind == "cpo" and values.get("loss_type") == "simpo" else KINDS[kind]]
    if kind == "rloo":
        draft.put(default_entry("rloo"), "GRPO with RLOO's advantages", advantage_estimator="rloo", num_generations=2)
    draft.flags["tuner_type"] = ["lora" if values.get("use_peft") else "full"]


def _use_peft(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """LoRA, or all weights where it is not asked for."""
    trainer.put_tuner(draft, entry, lora=bool(entry.value))


def _lora(draft: Draft, entry: KeyEntry, values: Mapping[str, Any]) -> None:
    """Numbers of LoRA say nothing where everything is trained."""
    flag = {"lora_r": "lora_rank", "lora_modules_to_save": "modules_to_save"}.get(entry.key, entry.key)
    if values.get("use_peft"):
        draft.put(entry, **{flag: entry.value})
    else:
        draft.leave(entry, DEFAULT, "without use_peft all weights are trained")


def _targets(draft: Draft, entry: KeyEntry, values: Mapping[str, Any]) -> None:
    """Modules of LoRA; peft has its own choice for each family of models."""
    if not values.get("use_peft"):
        draft.leave(entry, DEFAULT, "without use_peft all weights are trained")
    elif entry.value in ("", None):
        names = trainer.targets_of_peft(str(values.get("model_name_or_path") or ""))
        draft.put(entry, "peft's own choice for this family of models", target_modules=names)
    else:
        trainer.put_targets(draft, entry)


def _dtype(draft: Draft, entry: KeyEntry, values: Mapping[str, Any]) -> None:
    """The type that weights are loaded in; TRL then trains in bfloat16 beside it, unless that is off."""
    mixed = "float16" if values.get("fp16") else "" if values.get("bf16") is False else "bfloat16"
    word = str(entry.value)
    if word == "auto":
        draft.put(entry, torch_dtype=mixed) if mixed else draft.leave(entry, DEFAULT, "as the model says")
    elif word == "float32" and mixed:
        draft.put(entry, f"{mixed} for weights too, which TRL keeps in float32: half the memory", torch_dtype=mixed)
    elif word == "float32":
        draft.put(entry, torch_dtype="float32", fp16=False, bf16=False)
    else:
        draft.put(entry, torch_dtype=word)


def _precision(draft: Draft, entry: KeyEntry, values: Mapping[str, Any]) -> None:
    """bf16 is on in TRL where neither it nor fp16 is written; dtype has the word about weights."""
    if "dtype" in values or "torch_dtype" in values:
        draft.leave(entry, DEFAULT, "with dtype")
    elif entry.value:
        why = "TRL keeps the weights in float32 beside it"
        draft.put(entry, why, torch_dtype="float16" if entry.key == "fp16" else "bfloat16")
    else:
        draft.leave(entry, DEFAULT, "not asked for")


def _quantized(draft: Draft, entry: KeyEntry, values: Mapping[str, Any]) -> None:
    """bitsandbytes; TRL does not quantize twice unless it is asked to."""
    if not entry.value:
        return
    four = entry.key == "load_in_4bit"
    trainer.put_bnb(draft, entry, 4 if four else 8)
    if four and not values.get("use_bnb_nested_quant"):
        draft.put(entry, "TRL quantizes once", bnb_4bit_use_double_quant=False)


def _nested(draft: Draft, entry: KeyEntry, values: Mapping[str, Any]) -> None:
    """Quantized constants."""
    if values.get("load_in_4bit"):
        draft.put(entry, bnb_4bit_use_double_quant=bool(entry.value))


def _rate(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Each trainer has a rate of its own where none is written."""
    rate = entry.value if entry.value != "auto" else RATES.get(trainer_of(draft.source), "1e-6")
    draft.put(entry, learning_rate=rate)


def _beta(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """What it weighs differs from trainer to trainer, and so does what it is where it is not written."""
    kind = trainer_of(draft.source)
    if entry.value != "auto":
        draft.put(entry, beta=entry.value)
    elif kind in BETAS:
        draft.put(entry, beta=BETAS[kind])


def _loss_type(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Names of losses are those of ms-swift, but for those of sft."""
    kind = trainer_of(draft.source)
    word = str(entry.value)
    if kind == "sft":
        if word == "dft":
            draft.put(entry, enable_dft_loss=True)
        else:
            draft.leave(entry, DEFAULT if word in ("nll", "chunked_nll") else LOST, f"{word}: the loss of sft")
    elif kind == "cpo" and word == "simpo":
        draft.put(entry, rlhf_type="simpo")
    elif word == "auto":
        if kind == "grpo":
            draft.put(entry, loss_type="dapo")
    elif word in ("vespo", "luspo", "exo_pair_plus", "sigmoid_norm"):
        draft.leave(entry, LOST, f"ms-swift has no loss {word}")
    else:
        draft.put(entry, loss_type=entry.value)


def _divergence(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """ms-swift measures the reverse KL."""
    word = str(entry.value).rpartition(".")[2].lower()
    if word == "reverse_kl":
        draft.leave(entry, DEFAULT, "ms-swift measures the reverse KL")
    else:
        draft.leave(entry, LOST, "ms-swift measures the reverse KL")


def _truncation(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Rows that are too long are cut in TRL; ms-swift would leave them out."""
    draft.put(entry, truncation_strategy="left" if entry.value == "keep_end" else "right")


def _prompt_length(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """In GRPO it is all that is bounded of the input."""
    if draft.flags.get("rlhf_type") == ["grpo"]:
        draft.put(entry, "in GRPO it bounds the prompt; TRL cuts it from the left", max_length=entry.value)
        draft.flags["truncation_strategy"] = ["left"]
    else:
        draft.leave(entry, LOST, "ms-swift bounds prompt and answer together: --max_length")


def _packing_strategy(draft: Draft, entry: KeyEntry, values: Mapping[str, Any]) -> None:
    """With bfd TRL packs whole rows, as ms-swift does; wrapped joins and cuts them."""
    if not values.get("packing"):
        draft.leave(entry, DEFAULT, "no packing")
    elif entry.value == "wrapped":
        why = "rows are cut where they do not fit, but do not see each other"
        draft.put(entry, why, truncation_strategy="split")
    else:
        draft.leave(entry, DEFAULT, "ms-swift packs by best fit too")


def _eval_packing(draft: Draft, entry: KeyEntry, values: Mapping[str, Any]) -> None:
    """ms-swift packs both or none."""
    same = bool(entry.value) == bool(values.get("packing"))
    draft.leave(entry, DEFAULT if same else LOST, "ms-swift packs the rows of evaluation as it packs the others")


def _completion_only(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Loss on answers is what ms-swift does."""
    if entry.value:
        draft.leave(entry, DEFAULT, "loss on answers only")
    else:
        draft.put(entry, "loss on the prompt as well", loss_scale="all")


def _assistant_only(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Without it TRL has loss on all of a conversation that has no prompt of its own."""
    if entry.value:
        draft.leave(entry, DEFAULT, "loss on answers only")
    else:
        why = "ms-swift has loss on answers only; TRL on all of a conversation: --loss_scale all is that"
        draft.leave(entry, DEFAULT, why)


def _own_token(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Tokens with a duty of their own come with the tokenizer and the template."""
    draft.leave(entry, LOST, "ms-swift takes it from the tokenizer and the template")


def _accelerate(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """A file of accelerate, or the name of one that TRL brings."""
    word = str(entry.value)
    if word in ("single_gpu", "multi_gpu"):
        draft.leave(entry, DEFAULT, "the processes that it starts")
    elif zero := re.fullmatch(r"zero[123]", word):
        draft.put(entry, deepspeed=zero[0])
    elif word in ("fsdp1", "fsdp2"):
        trainer.put_fsdp(draft, entry, {})
    else:
        trainer.take_accelerate(draft, word)


def _processes(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Processes of the launcher, behind the flags of the training."""
    if isinstance(entry.value, int):
        draft.world = entry.value
    draft.leave(entry, ELSEWHERE, "the number of processes", "env:NPROC_PER_NODE")


def finish_trl(draft: Draft) -> None:
    """Packing, hub, batch: what no single key says."""
    trl_data.put_data(draft)
    if draft.flags.get("packing") == ["true"]:
        trainer.need_flash(draft, "packing")
    scored = {"reward_funcs", "reward_model"} & set(draft.flags) or "reward" in draft.own
    if draft.flags.get("rlhf_type") == ["grpo"] and not scored:
        draft.warnings.append("GRPO needs a reward: none that ms-swift has is named")
    if "config_file" in draft.source.launch:
        trainer.take_accelerate(draft, draft.source.launch["config_file"])
    trainer.close_run(draft, TITLE)
    trainer.warn_of_evaluation(draft)


FUNCTIONS: Functions = {
    **trainer.FUNCTIONS,
    **grpo.FUNCTIONS,
    **trl_data.FUNCTIONS,
    **named(
        _use_peft,
        _lora,
        _targets,
        _dtype,
        _precision,
        _quantized,
        _nested,
        _rate,
        _beta,
        _loss_type,
        _divergence,
        _truncation,
        _prompt_length,
        _packing_strategy,
        _eval_packing,
        _completion_only,
        _assistant_only,
        _own_token,
        _accelerate,
        _processes,
    ),
}
TRL = Dialect("trl", TITLE, RULES, likeness_to_trl, FUNCTIONS, begin_trl, finish_trl)
