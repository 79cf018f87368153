"""Plan → memory: what a plan asks of one GPU, in the words of a prediction."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tunekit.memory.spec import GIB, Spec
from tunekit.plan.rules import FLASH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.plan.plan import Plan

PRECISION = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}

LOSS_SHARE = {"pt": 1.0}
TYPICAL_LOSS_SHARE = 0.25
"""Share of the tokens that carry loss where the data has not been looked at: prompts are masked, and in instruction
data they are most of the text. An assumption, named wherever it is used; pre-training has loss on every token."""

DEFAULT_LENGTH = 2048
"""Tokens a row where neither preset nor user bounds them."""


def loss_share_of(plan: Plan) -> float:
    """The assumed share of tokens that carry loss."""
    return LOSS_SHARE.get(plan.loss, TYPICAL_LOSS_SHARE)


def weights_gib(plan: Plan) -> float | None:
    """GiB of one GPU that the model's weights alone take; None where the size of the model is not known."""
    if plan.model.params_b is None:
        return None
    quantized = {"4": 0.56, "8": 1.06}.get(str(plan.get("quant_bits"))) if plan.get("quant_method") == "bnb" else None
    width = quantized or (4 if plan.get("torch_dtype") == "float32" else 2)
    shared = plan.hardware.world if str(plan.get("deepspeed") or "").startswith("zero3") else 1
    return plan.model.params_b * 1e9 * width / GIB / shared


def spec_of(plan: Plan, config: Mapping[str, Any], loss_share: float | None = None) -> Spec:
    """The configuration that one GPU of a plan computes.

    Args:
        plan: decided.
        config: the model's config.json.
        loss_share: measured on the data; None assumes `loss_share_of`.
    """
    quantized = plan.get("quant_method") == "bnb"
    bits = int(str(plan.get("quant_bits") or 4)) if quantized else None
    tuner = "full" if plan.get("tuner_type") == "full" else "qlora" if quantized else "lora"
    attention = str(plan.get("attn_impl") or "sdpa")
    zero = re.match(r"zero([123])", str(plan.get("deepspeed") or ""))
    targets = plan.get("target_modules")
    lora_dtype = plan.get("lora_dtype")
    return Spec(
        config=config,
        tuner=tuner,
        quant_bits=bits,
        double_quant=plan.get("bnb_4bit_use_double_quant", True) is not False,
        lora_rank=int(str(plan.get("lora_rank") or 8)),
        target_modules=tuple(targets) if isinstance(targets, list) else ("all-linear",),
        lora_dropout=float(str(plan.get("lora_dropout", 0.05))),
        lora_dtype=None if lora_dtype is None else str(lora_dtype),
        micro_batch=plan.batch.micro,
        seq_len=int(str(plan.get("max_length") or DEFAULT_LENGTH)),
        loss_share=loss_share_of(plan) if loss_share is None else loss_share,
        packing=plan.packed,
        gradient_checkpointing=plan.get("gradient_checkpointing", True) is not False,
        attn="flash" if attention in FLASH else "eager" if attention == "eager" else "sdpa",
        optimizer=str(plan.get("optim") or "adamw_torch_fused"),
        precision=PRECISION.get(str(plan.get("torch_dtype")), "bf16"),
        liger=plan.get("use_liger_kernel") is True,
        stage=plan.loss,
        gpus=plan.hardware.world,
        zero_stage=int(zero[1]) if zero else 0,
        expandable_segments="expandable_segments:True" in plan.env.get("PYTORCH_CUDA_ALLOC_CONF", ""),
    )
