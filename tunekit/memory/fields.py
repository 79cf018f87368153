"""What a specification says of what is trained and of how the base is kept, in ms-swift's own names and defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

TUNERS = (
    *("lora", "longlora", "adalora", "llamapro", "adapter", "vera", "boft", "fourierft", "reft", "bone", "ia3"),
    *("lora_llm", "dummy"),
)
"""Kinds of adapter of ms-swift 4.6 (pipelines/train/tuner.py, tuner_plugin/mapping.py)."""

UNDROPPED = ("fourierft", "ia3", "lora_llm")
"""Those without dropout (ms-swift's LoRA beside a trained vision tower is given none)."""

METHODS = ("bnb", "hqq", "eetq", "quanto", "fp8", "awq", "gptq", "aqlm")
"""Ways to keep weights quantized: ms-swift's ``--quant_method``, and formats that models come in."""

OPTIMIZER_PLUGINS = ("default", "galore", "lorap", "muon", "muonclip", "multimodal")
"""ms-swift's ``--optimizer`` (optimizers/mapping.py)."""

TUNED_CHOICES: Mapping[str, Collection[Any]] = {
    "adapter": TUNERS,
    "lora_bias": ("none", "all"),
    "quant_method": METHODS,
    "bnb_4bit_compute_dtype": (None, "float16", "bfloat16", "float32"),
    "optimizer_plugin": OPTIMIZER_PLUGINS,
    "galore_proj_type": ("std", "reverse_std", "right", "left", "full"),
}
"""Fields that take one of a few values."""

TUNED_WHOLE = (
    *("adalora_init_r", "vera_rank", "boft_n_butterfly_factor", "fourier_n_frequency"),
    *("adapter_length", "llamapro_num_new_blocks", "galore_rank"),
)
"""Fields that hold a whole number of 1 or more; `TUNED_FROM_ZERO` one of 0 or more."""
TUNED_FROM_ZERO = ("boft_block_size", "boft_block_num", "lisa_activated_layers", "new_special_tokens")
TUNED_SWITCHES = ("use_dora", "use_galore", "galore_with_embedding", "galore_quantization", "use_logits_to_keep")
"""Fields that are true or false."""
TUNED_WORDS = (
    *("modules_to_save", "target_parameters", "freeze_parameters", "trainable_parameters", "galore_target_modules"),
)
"""Fields that hold a list of names, which may be empty."""
TUNED_PATTERNS = ("target_regex", "freeze_parameters_regex", "trainable_parameters_regex")
"""Fields that hold a regular expression; empty: none."""


@dataclass(frozen=True, kw_only=True)
class TunerFields:
    """The part of a `Spec` that says what is trained beside the common LoRA, and how.

    Attributes:
        adapter: under lora and qlora the kind of adapter, as ``--tuner_type`` names it.
        target_regex: of the modules with an adapter, instead of target_modules.
        new_special_tokens: how many tokens are added to the vocabulary.
        lisa_activated_layers: layers that full training trains at a time; 0: all.
        quant_method: how quantized weights are kept.
        quant_group: weights that share a scale; 0: as the method has it.
        optimizer_plugin: as ``--optimizer`` names it; what ``--optim`` names is `Spec.optimizer`.
        use_logits_to_keep: whether logits are made only for tokens with loss.
    """

    adapter: str = "lora"
    use_dora: bool = False
    lora_bias: str = "none"
    target_regex: str = ""
    target_parameters: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] = ()
    new_special_tokens: int = 0
    adalora_init_r: int = 12
    vera_rank: int = 256
    boft_block_size: int = 4
    boft_block_num: int = 0
    boft_n_butterfly_factor: int = 1
    fourier_n_frequency: int = 2000
    adapter_length: int = 128
    llamapro_num_new_blocks: int = 4
    freeze_parameters: tuple[str, ...] = ()
    freeze_parameters_regex: str = ""
    freeze_parameters_ratio: float = 0.0
    trainable_parameters: tuple[str, ...] = ()
    trainable_parameters_regex: str = ""
    lisa_activated_layers: int = 0
    quant_method: str = "bnb"
    quant_group: int = 0
    bnb_4bit_compute_dtype: str | None = None
    optimizer_plugin: str = "default"
    use_galore: bool = False
    galore_rank: int = 128
    galore_target_modules: tuple[str, ...] = ()
    galore_with_embedding: bool = False
    galore_proj_type: str = "std"
    galore_quantization: bool = False
    use_logits_to_keep: bool = True
