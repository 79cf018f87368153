"""Ways to need less memory that leave the optimisation as it is, or nearly so.

Every function gives the flags to change, or None where it has nothing to offer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Container

    from tunekit.plan.configuration import Configuration
    from tunekit.plan.settings import Value

Packages: TypeAlias = "Container[str] | None"
"""Import names of what is installed; None where the machine was only described, and all is taken to be there."""

# fmt: off
LIGER_MODELS = frozenset((
    "deepseek_v2", "deepseek_v3", "deepseek_v4", "exaone4", "falcon_h1", "gemma", "gemma2", "gemma3", "gemma3_text",
    "gemma4", "gemma4_text", "glm4", "glm4v", "glm4v_moe", "gpt_oss", "granite", "hunyuan_v1_dense",
    "hunyuan_v1_moe", "internvl", "llama", "llama4", "llama4_text", "llava", "ministral", "mistral", "mixtral",
    "mllama", "mllama_text_model", "muse_glimmer", "nemotron", "olmo2", "olmo3", "paligemma", "phi3", "pixtral",
    "qwen2", "qwen2_5_vl", "qwen2_5_vl_text", "qwen2_vl", "qwen2_vl_text", "qwen3", "qwen3_5", "qwen3_5_moe",
    "qwen3_5_moe_text", "qwen3_5_text", "qwen3_moe", "qwen3_next", "qwen3_vl", "qwen3_vl_moe", "qwen3_vl_moe_text",
    "qwen3_vl_text", "smollm3", "smolvlm",
))
# fmt: on
"""Model types that liger-kernel 0.8.5 patches (transformers/monkey_patch.py), for machines that were only described."""

ZERO_LADDER = {"": "zero2", "zero0": "zero2", "zero1": "zero2", "zero2": "zero3", "zero3": "zero3_offload"}
"""The next stage of DeepSpeed ZeRO."""


def liger_flags(plan: Configuration, packages: Packages, models: frozenset[str]) -> dict[str, Value] | None:
    """Liger's fused cross-entropy, which never holds the whole logits; `models` are those that liger-kernel patches.

    Only for supervised and continued training: ms-swift's preference losses want the logits, and its GRPO and GKD take
    Liger with conditions.
    """
    if not plan.stage.liger or not plan.hardware.gpus or _lacks(packages, "liger_kernel"):
        return None
    if plan.get("use_liger_kernel") is not None or plan.model.family not in models:
        return None
    return {"use_liger_kernel": True}


def four_bit_flags(plan: Configuration, packages: Packages) -> dict[str, Value] | None:
    """QLoRA: the frozen weights in 4 bits.

    Not for mixtures of experts, whose fused expert weights bitsandbytes leaves alone, and not beside ZeRO-3, which
    cannot shard 4-bit weights.
    """
    if plan.get("tuner_type") != "lora" or plan.get("quant_method") is not None or _lacks(packages, "bitsandbytes"):
        return None
    if plan.model.moe or plan.model.quantized or plan.zero_stage == 3:
        return None
    return {"quant_method": "bnb", "quant_bits": "4"}


def zero_flags(plan: Configuration, packages: Packages) -> dict[str, Value] | None:
    """The next stage of DeepSpeed ZeRO, on several GPUs; stage 3 does not go with quantized weights."""
    stage = ZERO_LADDER.get(plan.text("deepspeed"))
    if plan.get("fsdp") is not None:  # rule fsdp-deepspeed
        return None
    if stage is None or plan.hardware.world == 1 or not plan.hardware.gpus or _lacks(packages, "deepspeed"):
        return None
    if stage != "zero2" and (plan.get("quant_method") is not None or plan.model.quantized):
        return None  # rule qlora-zero3
    return {"deepspeed": stage}


def _lacks(packages: Packages, package: str) -> bool:
    return packages is not None and package not in packages
