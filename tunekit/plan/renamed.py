"""What the options of other tools, and of earlier ms-swift, are today: for hints and for imports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SWIFT_2, SWIFT_3 = "ms-swift 2", "ms-swift 3"
LLAMA_FACTORY, TRL, AXOLOTL, UNSLOTH, PEFT = "LLaMA-Factory", "TRL", "axolotl", "unsloth", "PEFT"
RESONANCE, NEUROTRAIN, QWEN_VL = "Resonance", "NeuroTrain", "Qwen-VL"

SAME = "{}"
"""The value as it stands there. It may be part of a longer one, as in ``pissa_niter_{}``."""


@dataclass(frozen=True)
class Renamed:
    """An option of another tool, and what says the same today.

    Attributes:
        name: of the option there.
        tools: whose name it is; empty where it is found in many scripts.
        now: flags of ms-swift (``lora_rank``) or options of tunekit (``micro-batch``) and their values; empty where
            nothing says the same.
        value: the only value of which this holds; empty where it holds of each.
        hint: for people; ``{now}`` stands for `now` as it is typed.
    """

    name: str
    tools: tuple[str, ...]
    now: Mapping[str, str]
    value: str = ""
    hint: str = "it is {now}"

    @property
    def text(self) -> str:
        """The hint, as in ``it is --quant_method bnb --quant_bits 4``."""
        words = [f"--{name}" if value == SAME else f"--{name} {value}" for name, value in self.now.items()]
        return self.hint.replace("{now}", " ".join(words))


SINCE_3, SINCE_4 = "it is {now} since ms-swift 3.0", "it is {now} since ms-swift 4.0"
ALIGNER, VIT = "it is --learning-rate-aligner (ms-swift: {now})", "it is --learning-rate-vit (ms-swift: {now})"
FLASH = {"attn_impl": "flash_attn"}
BNB_4, BNB_8 = ({"quant_method": "bnb", "quant_bits": bits} for bits in ("4", "8"))
ALL_LINEAR = {"target_modules": "all-linear"}
QLORA = {"tuner_type": "lora", **BNB_4}
FINETUNING = "it is {now} lora or full; freeze is --tuning-strategy freeze --trainable-layers N"
AUGMENT = "it is done before training: tunekit augment DATA.jsonl --flip --out FOLDER"
BATCH = "it is {now} (one GPU) or --effective-batch (one optimizer step)"
LAST_LAYERS = {"tuning-strategy": "freeze", "trainable-layers": SAME}

RENAMED = (
    Renamed("train_type", (SWIFT_3,), {"tuner_type": SAME}, hint=SINCE_4),
    Renamed("sft_type", (SWIFT_2,), {"tuner_type": SAME}, hint=SINCE_4),
    Renamed("model_id_or_path", (SWIFT_2,), {"model": SAME}, hint=SINCE_3),
    Renamed("model_name_or_path", (LLAMA_FACTORY, TRL, RESONANCE, NEUROTRAIN, QWEN_VL), {"model": SAME}),
    Renamed("template_type", (SWIFT_2,), {"template": SAME}, hint=SINCE_3),
    Renamed("lora_target_modules", (SWIFT_2, TRL, AXOLOTL, RESONANCE), {"target_modules": SAME}),
    Renamed("lora_dropout_p", (SWIFT_2,), {"lora_dropout": SAME}),
    Renamed("lora_r", (TRL, AXOLOTL, RESONANCE), {"lora_rank": SAME}),
    Renamed("lora_target", (LLAMA_FACTORY,), {"target_modules": SAME}),
    Renamed("cutoff_len", (LLAMA_FACTORY,), {"max_length": SAME}),
    Renamed("max_seq_length", (TRL, UNSLOTH, QWEN_VL), {"max_length": SAME}),
    Renamed("dtype", (SWIFT_2, TRL, UNSLOTH), {"torch_dtype": SAME}),
    Renamed("use_flash_attn", (SWIFT_2,), FLASH, "true"),
    Renamed("use_flash_attention_2", (RESONANCE,), FLASH, "true"),
    Renamed("flash_attn", (LLAMA_FACTORY,), FLASH, "fa2"),
    Renamed("quantization_bit", (SWIFT_2, LLAMA_FACTORY), BNB_4, "4"),
    Renamed("quantization_bit", (SWIFT_2, LLAMA_FACTORY), BNB_8, "8"),
    Renamed("load_in_4bit", (TRL, AXOLOTL, UNSLOTH, NEUROTRAIN), BNB_4, "true"),
    Renamed("load_in_8bit", (TRL, AXOLOTL, UNSLOTH), BNB_8, "true"),
    Renamed("bits", (RESONANCE,), BNB_4, "4", "it is {now}, or 8"),
    Renamed("bits", (RESONANCE,), BNB_8, "8"),
    Renamed("quantization_type", (LLAMA_FACTORY,), {"bnb_4bit_quant_type": SAME}, hint="it is {now} nf4"),
    Renamed("double_quantization", (LLAMA_FACTORY,), {"bnb_4bit_use_double_quant": SAME}),
    Renamed("use_lora", (RESONANCE, NEUROTRAIN), {"tuner_type": "lora"}, "true", "it is {now}, which is the default"),
    Renamed("finetuning_type", (LLAMA_FACTORY,), {"tuner_type": SAME}, hint=FINETUNING),
    Renamed("freeze_trainable_layers", (LLAMA_FACTORY,), LAST_LAYERS, hint="it is {now} N"),
    Renamed("freeze_vision_tower", (LLAMA_FACTORY, RESONANCE), {"freeze_vit": SAME}),
    Renamed("freeze_multi_modal_projector", (LLAMA_FACTORY,), {"freeze_aligner": SAME}),
    Renamed("freeze_language_model", (LLAMA_FACTORY,), {"freeze_llm": SAME}),
    Renamed("additional_target", (LLAMA_FACTORY,), {"modules_to_save": SAME}),
    Renamed("use_pissa", (), {"init_weights": "pissa"}, "true"),
    Renamed("pissa_init", (LLAMA_FACTORY,), {"init_weights": "pissa"}, "true"),
    Renamed("learning_rate_projector", (QWEN_VL,), {"aligner_lr": SAME}, hint=ALIGNER),
    Renamed("projector_lr", (), {"aligner_lr": SAME}, hint=ALIGNER),
    Renamed("mm_projector_lr", (QWEN_VL,), {"aligner_lr": SAME}, hint=ALIGNER),
    Renamed("vision_tower_lr", (QWEN_VL,), {"vit_lr": SAME}, hint=VIT),
    Renamed("vision_lr", (), {"vit_lr": SAME}, hint=VIT),
    Renamed("image_max_pixels", (LLAMA_FACTORY,), {"max-pixels": SAME}),
    Renamed("use_data_augmentation", (QWEN_VL,), {}, hint=AUGMENT),
    Renamed("q_lora", (RESONANCE,), QLORA, "true"),
    Renamed("batch_size", (SWIFT_2,), {"micro-batch": SAME}, hint=BATCH),
)
"""Names that ms-swift does not have today. The first row of a name has its hint.

Sources: ms-swift's ``handle_compatibility`` of 2.6.1 and its renames of 3.0 and 4.0, LLaMA-Factory 0.9.5
(``hparams``), TRL 1.16, axolotl 0.19.
"""

FREEZE = {"tuning-strategy": "freeze"}
LOFTQ = "ms-swift 4.6 cannot pass on what it wants; pissa and olora are like it"
OFFLINE = "ms-swift knows cloud and local; local writes to ./swanlog without a network"

RENAMED_VALUES = (
    Renamed("tuner_type", (), QLORA, "qlora", "QLoRA is --tuning-strategy qlora, or {now}"),
    Renamed("tuner_type", (LLAMA_FACTORY,), FREEZE, "freeze", "it is {now} --trainable-layers N"),
    Renamed("target_modules", (LLAMA_FACTORY,), ALL_LINEAR, "all", "every linear layer is all-linear"),
    Renamed("target_modules", (RESONANCE,), ALL_LINEAR, "auto", "every linear layer is all-linear, the default"),
    Renamed("target_modules", (), {}, "attention", "name its layers: q_proj k_proj v_proj o_proj in most models"),
    Renamed("lora_bias", (PEFT, RESONANCE), {}, "lora_only", "ms-swift knows none and all"),
    Renamed("init_weights", (PEFT,), {}, "loftq", LOFTQ),
    Renamed("swanlab_mode", (), {"swanlab_mode": "local"}, "offline", OFFLINE),
)
"""Flags that are still there, and a value of theirs that is not."""


def renamed_hint(name: str) -> str | None:
    """What to write instead of an option that ms-swift does not have; None where the name is not known."""
    return next((row.text for row in RENAMED if row.name == name), None)


def renamed_value_hint(name: str, value: str) -> str | None:
    """What to write instead of a value that a flag no longer takes; None where it is not known."""
    return next((row.text for row in RENAMED_VALUES if (row.name, row.value) == (name, value)), None)
