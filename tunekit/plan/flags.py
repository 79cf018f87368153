"""The flags that ms-swift takes, and the check that a flag and its value are right before anything starts.

ms-swift itself accepts any unambiguous *prefix* of a flag (argparse does), so ``--lora_ran 4`` sets
``lora_rank`` without a word. tunekit takes exact names only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tunekit.plan.settings import Value

TRUE_WORDS = ("true", "yes", "t", "y", "1")
FALSE_WORDS = ("false", "no", "f", "n", "0")

RENAMED = {
    "train_type": "it is --tuner_type since ms-swift 4.0",
    "sft_type": "it is --tuner_type since ms-swift 4.0",
    "model_id_or_path": "it is --model since ms-swift 3.0",
    "model_name_or_path": "it is --model",
    "template_type": "it is --template since ms-swift 3.0",
    "lora_target_modules": "it is --target_modules",
    "lora_dropout_p": "it is --lora_dropout",
    "lora_r": "it is --lora_rank",
    "lora_target": "it is --target_modules",
    "cutoff_len": "it is --max_length",
    "max_seq_length": "it is --max_length",
    "dtype": "it is --torch_dtype",
    "use_flash_attn": "it is --attn_impl flash_attn",
    "use_flash_attention_2": "it is --attn_impl flash_attn",
    "flash_attn": "it is --attn_impl flash_attn",
    "quantization_bit": "it is --quant_method bnb --quant_bits 4",
    "load_in_4bit": "it is --quant_method bnb --quant_bits 4",
    "load_in_8bit": "it is --quant_method bnb --quant_bits 8",
    "bits": "it is --quant_method bnb --quant_bits 4, or 8",
    "quantization_type": "it is --bnb_4bit_quant_type nf4",
    "double_quantization": "it is --bnb_4bit_use_double_quant",
    "use_lora": "it is --tuner_type lora, which is the default",
    "finetuning_type": "it is --tuner_type lora or full; freeze is --tuning-strategy freeze --trainable-layers N",
    "freeze_trainable_layers": "it is --tuning-strategy freeze --trainable-layers N",
    "freeze_vision_tower": "it is --freeze_vit",
    "freeze_multi_modal_projector": "it is --freeze_aligner",
    "freeze_language_model": "it is --freeze_llm",
    "additional_target": "it is --modules_to_save",
    "use_pissa": "it is --init_weights pissa",
    "pissa_init": "it is --init_weights pissa",
    "learning_rate_projector": "it is --learning-rate-aligner (ms-swift: --aligner_lr)",
    "projector_lr": "it is --learning-rate-aligner (ms-swift: --aligner_lr)",
    "mm_projector_lr": "it is --learning-rate-aligner (ms-swift: --aligner_lr)",
    "vision_tower_lr": "it is --learning-rate-vit (ms-swift: --vit_lr)",
    "vision_lr": "it is --learning-rate-vit (ms-swift: --vit_lr)",
    "image_max_pixels": "it is --max-pixels",
    "use_data_augmentation": "it is done before training: tunekit augment DATA.jsonl --flip --out FOLDER",
    "q_lora": "it is --tuner_type lora --quant_method bnb --quant_bits 4",
    "batch_size": "it is --micro-batch (one GPU) or --effective-batch (one optimizer step)",
}
"""Names from older ms-swift versions and other tools, and what to write today."""

RENAMED_VALUES = {
    ("tuner_type", "qlora"): "QLoRA is --tuning-strategy qlora, or --tuner_type lora --quant_method bnb --quant_bits 4",
    ("tuner_type", "freeze"): "it is --tuning-strategy freeze --trainable-layers N",
    ("target_modules", "all"): "every linear layer is all-linear",
    ("target_modules", "auto"): "every linear layer is all-linear, the default",
    ("target_modules", "attention"): "name its layers: q_proj k_proj v_proj o_proj in most models",
    ("lora_bias", "lora_only"): "ms-swift knows none and all",
    ("init_weights", "loftq"): "ms-swift 4.6 cannot pass on what it wants; pissa and olora are like it",
    (
        "swanlab_mode",
        "offline",
    ): "ms-swift knows cloud and local; local writes to ./swanlog without a network",
}


@dataclass(frozen=True)
class Flag:
    """One flag of ms-swift.

    Attributes:
        kind: ``int``, ``float``, ``bool``, ``str`` or ``list`` (several words).
        choices: the allowed words, empty where any is allowed.
        optional: whether ``None`` may stand for "not set".
    """

    name: str
    kind: str
    choices: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class FlagTable:
    """All flags of one ms-swift version.

    Attributes:
        version: of ms-swift, as in ``4.6.0``.
        installed: whether they were read from the installed ms-swift, not from the shipped snapshot.
        by_command: ``sft``, ``pt`` and ``rlhf``, each with its flags by name.
    """

    version: str
    installed: bool
    by_command: Mapping[str, Mapping[str, Flag]]

    def find(self, name: str, command: str) -> Flag:
        """The flag of that exact name.

        Raises:
            TunekitError: there is none, with what it is called now or the closest names.
        """
        flags = self.by_command[command]
        if name in flags:
            return flags[name]
        hint = RENAMED.get(name)
        if hint is None and any(name in others for others in self.by_command.values()):
            hint = "it is a flag of tunekit rlhf"
        hint = hint or did_you_mean(name, flags, "--")
        raise TunekitError(f"--{name} is not a flag of ms-swift {self.version}", hint)

    def parse(self, name: str, words: Sequence[str], command: str) -> Value:
        """The value that `words` give to the flag `name`, of the flag's type.

        Raises:
            TunekitError: no such flag, or the words do not fit it.
        """
        flag = self.find(name, command)
        if flag.kind == "list":
            _choose(flag, words)
            return list(words)
        if not words and flag.kind == "bool":
            return True
        if len(words) != 1:
            got = f"{len(words)} ({' '.join(words)})" if words else "none"
            raise TunekitError(f"--{name} takes one value, not {got}")
        (word,) = words
        _choose(flag, [word])
        if flag.optional and word == "None":
            return word
        return CONVERT[flag.kind](flag, word)


MODULES = ("target_modules", "modules_to_save", "target_parameters")
"""Lists of names that hold no comma."""


def _choose(flag: Flag, words: Sequence[str]) -> None:
    for word in words:
        if flag.name in MODULES and "," in word:
            names = " ".join(part for part in word.replace(",", " ").split() if part)
            raise TunekitError(f"--{flag.name} takes words, not a list with commas", f"write --{flag.name} {names}")
        renamed = RENAMED_VALUES.get((flag.name, word))
        if renamed:
            raise TunekitError(f"--{flag.name} does not take {word}", renamed)
        if flag.choices and word not in flag.choices:
            hint = did_you_mean(word, flag.choices)
            raise TunekitError(f"--{flag.name} takes {', '.join(flag.choices)}, not {word}", hint)


def _to_bool(flag: Flag, word: str) -> bool:
    if word.lower() in TRUE_WORDS:
        return True
    if word.lower() in FALSE_WORDS:
        return False
    raise TunekitError(f"--{flag.name} takes true or false, not {word}")


def _to_int(flag: Flag, word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise TunekitError(f"--{flag.name} takes a whole number, not {word}") from None


def _to_float(flag: Flag, word: str) -> float | int:
    try:
        number = float(word)
    except ValueError:
        raise TunekitError(f"--{flag.name} takes a number, not {word}", "written like 0.0002 or 2e-4") from None
    return int(word) if re.fullmatch(r"[+-]?\d+", word) else number


def _to_str(_flag: Flag, word: str) -> str:
    return word


CONVERT: dict[str, Callable[[Flag, str], Value]] = {
    "bool": _to_bool,
    "int": _to_int,
    "float": _to_float,
    "str": _to_str,
}
