"""Plan → memory: what a plan asks of one GPU, in the words of a prediction."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.memory.estimate import estimate
from tunekit.memory.geometry import Geometry
from tunekit.memory.search import largest_micro_batch, verdict
from tunekit.memory.spec import GIB, Spec
from tunekit.plan.draft import FLASH
from tunekit.plan.models.find import config_of
from tunekit.plan.parts import in_part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.memory.spec import Prediction
    from tunekit.plan.models.find import Model
    from tunekit.plan.plan import Plan

PRECISION = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}

LOSS_SHARE = {"pt": 1.0}
TYPICAL_LOSS_SHARE = 0.25
"""Share of the tokens that carry loss where the data has not been looked at: prompts are masked, and in instruction
data they are most of the text. An assumption, named wherever it is used; pre-training has loss on every token."""

VLLM_DEFAULT = 0.9
"""ms-swift's ``vllm_gpu_memory_utilization`` (rlhf_trainers/args_mixin.py)."""

DEFAULT_LENGTH = 2048
"""Tokens a row where neither preset nor user bounds them."""


SPARE = 0.08
"""Share of a card that tunekit's own choices leave free: with expandable segments, which tunekit sets, the estimate of
what is reserved was at most 9 % below the trace, and 1.4 % off in the mean (docs/memory.md)."""


@dataclass(frozen=True)
class Peak:
    """What a plan takes of one of its GPUs, by the estimate.

    Attributes:
        spec: what was estimated.
        prediction: corrected by what runs on this machine took.
        card_gib: of the GPU with the least memory, without vLLM's share.
        correction: measured ÷ predicted on this machine; 1 where nothing was measured.
    """

    spec: Spec
    prediction: Prediction
    card_gib: float
    correction: float

    @property
    def verdict(self) -> str:
        """``fits``, ``tight`` or ``does not fit``."""
        return verdict(self.prediction, self.card_gib)

    @property
    def safe(self) -> bool:
        """Whether it fits with room to spare."""
        return self.prediction.process_gib <= self.card_gib * (1 - SPARE)

    def largest_micro_batch(self, correction: float | None = None) -> int:
        """The largest micro-batch that fits with room to spare, 0 where one row does not.

        Args:
            correction: another one than that of the machine, where a failure has just told more.
        """
        context = self.prediction.process_gib - self.prediction.reserved_gib
        room = self.card_gib * (1 - SPARE) - context
        # With a smaller micro-batch a step has several, so that gradients stand there while one is computed.
        spec = replace(self.spec, accumulates=True)
        return largest_micro_batch(spec, room / (correction or self.correction) + context)


def predictable(model: Model) -> bool:
    """Whether the estimate knows the shape of a model."""
    try:
        Geometry.from_config(config_of(model))
    except TunekitError:
        return False
    return True


def peak_of(plan: Plan) -> Peak | None:
    """The peak of a plan; None without a GPU, or where there is no telling it.

    That is so where the shape of the model is not known or has no formula, and where full training freezes layers.
    """
    if not plan.hardware.gpus:
        return None
    try:
        spec = spec_of(plan, config_of(plan.model))
        prediction = estimate(spec)
    except TunekitError:
        return None
    card = plan.hardware.gpu_gib * (1 - vllm_share(plan))
    peak = Peak(spec, corrected(prediction, plan.memory_correction), card, plan.memory_correction)
    # Full training is what it takes at the most where layers are frozen: a bound that says nothing if it is too high.
    bound = in_part(plan.settings, multimodal=plan.model.multimodal)
    return None if bound and not peak.safe else peak


def vllm_share(plan: Plan) -> float:
    """Share of each GPU, 0 to 1, that vLLM takes where it writes the answers beside the training."""
    if plan.get("use_vllm") is not True or plan.get("vllm_mode") != "colocate":
        return 0.0
    return float(str(plan.get("vllm_gpu_memory_utilization", VLLM_DEFAULT)))


def corrected(prediction: Prediction, factor: float) -> Prediction:
    """A prediction with PyTorch's share multiplied by `factor`; the CUDA context stays what it is."""
    if factor == 1:
        return prediction
    context = prediction.process_gib - prediction.reserved_gib
    reserved = prediction.reserved_gib * factor
    return replace(
        prediction,
        allocated_gib=prediction.allocated_gib * factor,
        reserved_gib=reserved,
        process_gib=reserved + context,
        breakdown={name: gib * factor for name, gib in prediction.breakdown.items()},
        notes=(*prediction.notes, f"multiplied by {factor:.2f}, as runs on this machine measured"),
    )


def loss_share_of(plan: Plan) -> float:
    """The share of tokens that carry loss: measured, or else assumed."""
    if plan.loss_share is not None:
        return plan.loss_share
    return LOSS_SHARE.get(plan.loss, TYPICAL_LOSS_SHARE)


def weights_gib(plan: Plan) -> float | None:
    """GiB of one GPU that the model's weights alone take; None where the size of the model is not known."""
    if plan.model.params_b is None:
        return None
    quantized = {"4": 0.56, "8": 1.06}.get(str(plan.get("quant_bits"))) if plan.get("quant_method") == "bnb" else None
    width = quantized or (4 if plan.get("torch_dtype") == "float32" else 2)
    shared = plan.hardware.world if str(plan.get("deepspeed") or "").startswith("zero3") else 1
    return plan.model.params_b * 1e9 * width / GIB / shared


def spec_of(plan: Plan, config: Mapping[str, Any], loss_share: float | None = None, seq_len: int | None = None) -> Spec:
    """The configuration that one GPU of a plan computes.

    Args:
        plan: decided.
        config: the model's config.json.
        loss_share: measured on the data; None assumes `loss_share_of`.
        seq_len: tokens a row, measured on the data; None assumes the most that the plan allows.
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
        accumulates=plan.batch.accumulation > 1,
        capability=plan.hardware.capability,
        seq_len=seq_len or plan.row_tokens or int(str(plan.get("max_length") or DEFAULT_LENGTH)),
        loss_share=loss_share_of(plan) if loss_share is None else loss_share,
        packing=plan.packed or plan.get("padding_free") is True,
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
