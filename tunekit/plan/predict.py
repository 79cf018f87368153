"""Plan → memory: what a configuration asks of one GPU, in the words of a prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.memory.estimate import estimate
from tunekit.memory.evaluation import EVALUATION
from tunekit.memory.geometry import Geometry
from tunekit.memory.search import NOT, largest_micro_batch, verdict
from tunekit.memory.spec import GIB, PIXELS, Spec
from tunekit.plan.beside import stage_fields, vllm_share
from tunekit.plan.deepspeed import shared_by
from tunekit.plan.models.config import config_of
from tunekit.plan.parts import ALIGNER, FULL, LLM, VIT, frozen_by_name, trained_parts
from tunekit.plan.tuned import tuner_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.memory.spec import Prediction
    from tunekit.plan.configuration import Configuration
    from tunekit.plan.models.model import Model

PRECISION = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}

PROMPT = 512
"""Tokens of a prompt to which the model writes an answer, where none was measured: ``max_length`` only cuts them."""

DEFAULT_LENGTH = 2048
"""Tokens a row where neither preset nor user bounds them."""

PARTS = {LLM: "llm", VIT: "vit", ALIGNER: "aligner"}
"""What `Spec.trains` calls the parts of a model."""

VIT_CHECKPOINTS = "vit_gradient_checkpointing"
"""Left alone it is as ``gradient_checkpointing`` (ms-swift's sft_args.py)."""

BYTES_QUANTIZED = {4: 0.56, 8: 1.06}
"""Bytes of a quantized weight, scales included, by its bits."""

SPARE = 0.08
"""Share of a card that tunekit's own choices leave free: with expandable segments, which tunekit sets, the estimate of
what is reserved was at most 9 % below the trace, and 1.4 % off in the mean (docs/memory.md)."""


@dataclass(frozen=True)
class Peak:
    """What a plan takes of one of its GPUs, by the estimate.

    Attributes:
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
    def fits(self) -> bool:
        """Whether it can be tried at all: fits, or is tight."""
        return self.verdict != NOT

    @property
    def evaluation(self) -> str:
        """What an evaluation asks that the training does not, and which flag saves it; empty where it asks no more."""
        moment = self.prediction.peak_at
        if not moment.startswith(EVALUATION):
            return ""
        few = "--per_device_eval_batch_size 1, or " if self.spec.eval_batch > 1 else ""
        return f"the peak is at {moment}: {few}--eval_strategy no"

    @property
    def safe(self) -> bool:
        """Whether it fits with room to spare."""
        return self.prediction.process_gib <= self.card_gib * (1 - SPARE)

    @cached_property
    def largest_micro_batch(self) -> int:
        """The largest micro-batch that fits with room to spare, 0 where one row does not."""
        return self.largest_with(self.correction)

    def largest_with(self, correction: float) -> int:
        """The same with another correction than that of the machine, where a failure has just said more."""
        return largest_that_fits(self.spec, self.card_gib, correction)


def largest_that_fits(spec: Spec, card_gib: float, correction: float = 1.0) -> int:
    """The largest micro-batch that fits a card with room to spare, 0 where one row does not: the one that is named.

    With a smaller micro-batch than asked a step has several, so gradients stand there while one is computed. What an
    evaluation takes does not change with it.
    """
    spec = replace(spec, evaluates=False)
    prediction = estimate(spec)
    context = prediction.process_gib - prediction.reserved_gib
    room = card_gib * (1 - SPARE) - context
    return largest_micro_batch(replace(spec, accumulates=True), room / correction + context)


def predictable(model: Model) -> bool:
    """Whether the estimate knows the shape of a model."""
    try:
        Geometry.from_config(config_of(model))
    except TunekitError:
        return False
    return True


def peak_of(what: Configuration) -> Peak | None:
    """The peak of a configuration; None without a GPU, or where it cannot be predicted.

    That is so where the shape of the model is not known or has no formula, where full training freezes parts of a
    vision model, and where something is trained that has no count: `unpredicted_because` says what.
    """
    if not what.hardware.gpus:
        return None
    try:
        peak = _peak_of(what)
    except TunekitError:
        return None
    # Full training is what it takes at the most where parts are frozen: a bound that says nothing if it is too high.
    return None if what.model.multimodal and frozen_by_name(what) and not peak.safe else peak


def unpredicted_because(what: Configuration) -> str:
    """Why a configuration cannot be predicted, where the shape of the model is no reason; empty where there is none."""
    if not what.hardware.gpus or not predictable(what.model):
        return ""
    try:
        _peak_of(what)
    except TunekitError as error:
        return error.message
    return ""


def _peak_of(what: Configuration) -> Peak:
    card = what.hardware.gpu_gib * (1 - vllm_share(what))
    spec = spec_of(what, config_of(what.model))
    spec.check()
    return _peak(spec, card, what.memory_correction)


def image_pixels(what: Configuration, config: Mapping[str, Any]) -> int:
    """Of an image as large as they get: ``--max_pixels``, then the variables that ms-swift's templates read.

    For Qwen that is IMAGE_MAX_TOKEN_NUM, or MAX_PIXELS where it is not set (models/qwen.py, compat_qwen_vl_utils).
    """
    tower = Geometry.from_config(config).tower
    bounds = [what.whole("max_pixels")]
    if tower and tower.cut.variable:
        most, pixels = (what.env.get(name, "") for name in (tower.cut.variable, "MAX_PIXELS"))
        if most.isdecimal():
            bounds.append(int(most) * tower.cut.area)
        elif pixels.isdecimal() and tower.inside:
            bounds.append(int(pixels))
    return min((bound for bound in bounds if bound), default=PIXELS)


@lru_cache(maxsize=256)
def _peak(spec: Spec, card_gib: float, correction: float) -> Peak:
    """Computed once for one configuration, however many plans have it."""
    return Peak(spec, corrected(estimate(spec), correction), card_gib, correction)


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


def weights_gib(what: Configuration) -> float | None:
    """GiB of one GPU that the model's weights alone take; None where the size of the model is not known."""
    if what.model.params_b is None:
        return None
    quantized = BYTES_QUANTIZED.get(what.quant_bits or what.model.bits or 0)
    width = quantized or (4 if what.get("torch_dtype") == "float32" else 2)
    shared = what.hardware.world if what.sharded == 3 else 1
    return what.model.params_b * 1e9 * width / GIB / shared


@cache
def installed_transformers() -> str | None:
    """The version of transformers here, which is not imported; None where there is none."""
    try:
        return metadata.version("transformers")
    except metadata.PackageNotFoundError:
        return None


def _row_tokens(what: Configuration) -> int:
    """Tokens of a row where nothing was measured; of a prompt, where the model writes the answer."""
    length = what.whole("max_length", DEFAULT_LENGTH)
    if what.stage.generates:
        return min(length, PROMPT)
    return what.whole("packing_length", length) if what.packed else length


def spec_of(
    what: Configuration,
    config: Mapping[str, Any],
    loss_share: float | None = None,
    seq_len: int | None = None,
    samples_per_row: float = 1.0,
) -> Spec:
    """What one GPU computes, as the memory models take it; `config` is the model's config.json.

    `loss_share` and `seq_len`, in tokens a row, are measured on the data; None leaves them to the configuration. How
    many images a sample has is not measured: one is taken for each of the `samples_per_row`.
    """
    loss_share = what.loss_share if loss_share is None else loss_share
    sharding, offload = shared_by(what.text("deepspeed"), what.text("fsdp") or None)
    eager = what.get("attn_impl") == "eager"
    bits = (what.quant_bits or 4) if what.quantizes else what.model.bits
    if what.model.quantized and not bits:
        raise TunekitError(f"the weights of {what.model.id} come quantized, which the prediction does not know")
    parts = trained_parts(what)
    return Spec(
        config=config,
        tuner="full" if what.full else "qlora" if bits else "lora",
        quant_bits=bits,
        double_quant=not what.model.quantized and what.flag("bnb_4bit_use_double_quant", default=True),
        lora_rank=what.rank,
        target_modules=tuple(what.words("target_modules") or ["all-linear"]),
        lora_dtype=what.text("lora_dtype") or None,
        micro_batch=what.batch.micro,
        accumulates=what.batch.accumulation > 1,
        capability=what.hardware.capability,
        seq_len=seq_len or what.row_tokens or _row_tokens(what),
        loss_share=what.stage.loss_share if loss_share is None else loss_share,
        packing=what.packed or what.flag("padding_free"),
        # ms-swift's fsdp2.json checkpoints by itself
        gradient_checkpointing=what.flag("gradient_checkpointing", default=True) or what.get("fsdp") == "fsdp2",
        attn="flash" if what.flash else "eager" if eager else "sdpa",
        optimizer=what.text("optim", "adamw_torch_fused"),
        precision=PRECISION.get(what.text("torch_dtype"), "bf16"),
        liger=what.flag("use_liger_kernel"),
        stage=what.stage.name,
        gpus=what.hardware.world,
        sharding=sharding,
        offload=offload,
        quant_shared=what.text("bnb_4bit_quant_storage") in PRECISION,
        device_map="auto" if what.get("device_map") == "auto" and sharding == "none" else None,
        sequence_parallel=what.whole("sequence_parallel_size", 1),
        tensor_parallel=what.whole("deepspeed_autotp_size", 1),
        transformers=installed_transformers(),
        **tuner_fields(what),
        trains=tuple(PARTS[part] for part in parts) or ("llm",),
        vit_tuner="full" if not what.full and FULL in (parts.get(VIT), parts.get(ALIGNER)) else None,
        vit_gradient_checkpointing=None if what.get(VIT_CHECKPOINTS) is None else what.flag(VIT_CHECKPOINTS),
        images=math.ceil(samples_per_row),
        pixels=image_pixels(what, config),
        expandable_segments="expandable_segments:True" in what.env.get("PYTORCH_CUDA_ALLOC_CONF", ""),
        **stage_fields(what),
    )
