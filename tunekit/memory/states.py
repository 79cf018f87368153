"""What a GPU holds besides activations: weights, gradients, the optimizer's states, DeepSpeed's shares and buckets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.memory.activations import Widths, targeted
from tunekit.memory.spec import Unknown
from tunekit.stages import REWARD_MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.memory.geometry import Geometry
    from tunekit.memory.spec import Spec

NF4, INT8 = 0.5, 1.0  # bytes of a quantized weight
# ... and of its share of the scales: float32 a block of 64; with double quantization 8 bits, and float32 a 256 of those
# (see quantize_4bit in bitsandbytes.functional)
SCALE, SCALE_TWICE = 4 / 64, 1 / 64 + 4 / (64 * 256)
# A state of bitsandbytes in 8 bits: a byte, and float32 a block of 256 (bitsandbytes.optim.optimizer, init_state)
EIGHT_BIT = 1 + 4 / 256
# Numbers in the bucket of DeepSpeed's reductions under ZeRO-1 and 2 (reduce_bucket_size, ms-swift's config/zero2.json),
# there in whole whatever is trained (deepspeed 0.19, runtime/zero/stage_1_and_2.py, setup_buckets; a second one only
# with overlap_comm). Under ZeRO-3 transformers writes hidden x hidden there (integrations/deepspeed.py,
# trainer_config_finalize)
BUCKET = 200_000_000
# Numbers that ZeRO-3 steps at once (sub_group_size), and parameters that it gathers at most
# (stage3_max_live_parameters); both in ms-swift's config/zero3.json
GROUP = 1_000_000_000
# Parameters below keep their states on the GPU under paged optimizers (bitsandbytes.optim.optimizer, get_state_buffer)
PAGE = 100_000
OPTIMIZER, LOSS = "optimizer step", "backward of the loss"
HEAD, EMBEDDING = "gradient of the head", "gradient of the embedding"
LAYER, BOTTOM = "", ", first layer"


@dataclass(frozen=True)
class OptimizerBytes:
    """What an optimizer holds, in bytes of one trained number."""

    own: float = 0  # by states in the weights' type, in units of it
    fixed: float = 0  # by states of their own type
    step: float = 0  # more while it steps, in units of the weights' type
    largest: float = 0  # more while it steps, of each number of the largest parameter
    paged: bool = False  # whether the states of large parameters can leave the GPU


OPTIMIZERS: Mapping[str, OptimizerBytes] = {
    "adamw_torch_fused": OptimizerBytes(own=2),
    "adamw_torch": OptimizerBytes(own=2, step=1),  # foreach: the square roots of all second moments at once
    "adamw_torch_8bit": OptimizerBytes(fixed=2 * EIGHT_BIT),  # torchao's blocks are of 256 too
    "adamw_8bit": OptimizerBytes(fixed=2 * EIGHT_BIT),
    "adamw_bnb_8bit": OptimizerBytes(fixed=2 * EIGHT_BIT),
    "paged_adamw_8bit": OptimizerBytes(fixed=2 * EIGHT_BIT, paged=True),
    "paged_adamw_32bit": OptimizerBytes(fixed=8, paged=True),
    "lion_32bit": OptimizerBytes(fixed=4),
    "lion_8bit": OptimizerBytes(fixed=EIGHT_BIT),
    "sgd": OptimizerBytes(),
    # transformers.optimization.Adafactor keeps a float32 a row and a column; its step has the gradient, its square, the
    # update and the weight in float32, one matrix at a time
    "adafactor": OptimizerBytes(fixed=0.01, largest=16),
}
"""By ``--optim``."""


def base_bytes(spec: Spec, geometry: Geometry) -> float:
    """The model's own weights."""
    number = 4 if spec.precision == "fp32" else 2
    parameters = geometry.parameters
    if spec.kind.gives == REWARD_MODEL and not geometry.tied:
        parameters -= geometry.vocab * geometry.hidden  # its head has one number (ms-swift's sequence classification)
    if not spec.bits:
        return number * parameters
    eight, linear = spec.bits == 8, geometry.linear_parameters
    each = INT8 if eight else NF4 + (SCALE_TWICE if spec.double_quant else SCALE)
    scales = sum(4 * item.outputs * item.layers for item in geometry.linears) if eight else 0
    return linear * each + scales + (4 if spec.kbit_prepare else number) * (parameters - linear)


def trained_numbers(spec: Spec, geometry: Geometry) -> int:
    """Parameters that get a gradient."""
    models = 2 if spec.kind.value_model else 1  # the value model learns too (ms-swift's pipelines/train/rlhf.py)
    if spec.tuner == "full":
        return models * geometry.parameters
    layers = targeted(spec, geometry)
    if not layers and spec.target_modules:  # none are named where the model is frozen
        raise Unknown(f"no linear layer of {geometry.model_type} is called {' or '.join(spec.target_modules)}")
    return models * sum(spec.lora_rank * (item.inputs + item.outputs) * item.layers for item in layers)


def _trained_width(spec: Spec) -> int:
    """Bytes of one trained number; DeepSpeed keeps them in 2 and a float32 copy in the optimizer."""
    if spec.zero_stage and spec.precision != "fp32":
        return 2
    return (4 if spec.precision == "fp32" else 2) if spec.tuner == "full" else Widths.of(spec).adapter


def static_bytes(spec: Spec, geometry: Geometry) -> dict[str, float]:
    """What is there from one step to the next, in bytes."""
    numbers, width = trained_numbers(spec, geometry), _trained_width(spec)
    optimizer = OPTIMIZERS[spec.optimizer]
    stays = _small_numbers(spec, geometry) if optimizer.paged else numbers
    states = optimizer.own * width * numbers + optimizer.fixed * stays
    if spec.zero_stage and spec.precision != "fp32":  # a float32 copy of the weights, and states as wide
        states = (4 + optimizer.own * 4) * numbers + optimizer.fixed * stays
    share, of_weights = spec.gpus if spec.zero_stage else 1, spec.gpus if spec.zero_stage == 3 else 1
    # a reward and a value model are taken to be as large
    stage = spec.kind
    models = 1 + (stage.reference and spec.tuner == "full") + stage.value_model + (stage.scored_by == "model")
    weights = base_bytes(spec, geometry) * models
    buckets = 0.0
    if spec.zero_stage:
        buckets = width * float(BUCKET if spec.zero_stage < 3 else geometry.hidden**2)
    if of_weights > 1:
        buckets += min(2.0 * GROUP, weights * (1 - 1 / spec.gpus))
    return {
        "weights": weights / of_weights,
        "adapter": 0 if spec.tuner == "full" else width * numbers / of_weights,
        "optimizer": states / share,
        "other": buckets,
    }


def _small_numbers(spec: Spec, geometry: Geometry) -> int:
    """Trained numbers in parameters so small that a paged optimizer keeps their states on the GPU."""
    if spec.tuner == "full":
        return geometry.other_parameters
    rank, linears = spec.lora_rank, targeted(spec, geometry)
    sizes = [(rank * side, item.layers) for item in linears for side in (item.inputs, item.outputs)]
    return sum(size * layers for size, layers in sizes if size < PAGE)


def _largest(spec: Spec, geometry: Geometry) -> int:
    if spec.tuner == "full":
        experts = geometry.experts * 2 * geometry.expert_width * geometry.hidden
        return max(geometry.vocab * geometry.hidden, experts)
    return spec.lora_rank * max((max(item.inputs, item.outputs) for item in targeted(spec, geometry)), default=0)


def step_bytes(spec: Spec, geometry: Geometry) -> float:
    """Bytes that the optimizer's step needs beside its states."""
    share = spec.gpus if spec.zero_stage else 1
    numbers, optimizer = trained_numbers(spec, geometry) / share, OPTIMIZERS[spec.optimizer]
    if not spec.zero_stage:
        return optimizer.step * _trained_width(spec) * numbers + optimizer.largest * _largest(spec, geometry)
    # gradients in float32, as wide as the states (deepspeed 0.19, stage_1_and_2.py and stage3.py, step)
    return (4 + optimizer.step * 4) * (min(numbers, GROUP) if spec.zero_stage == 3 else numbers)


def gradients_by_moment(spec: Spec, geometry: Geometry) -> dict[str, float]:
    """Bytes of gradients that stand there, by moment.

    Without earlier micro-batches they come one by one while the micro-batch goes backward. The embedding's is as large
    as the embedding; a tied head's waits for it, and their sum is a third one.
    """
    numbers, width = trained_numbers(spec, geometry), _trained_width(spec)
    whole = float(width * numbers)
    extra = whole if spec.gpus > 1 and not spec.zero_stage else 0.0  # DistributedDataParallel's buckets
    if spec.zero_stage:  # partitions that stay; what is on its way there is in the bucket
        share = spec.gpus if spec.zero_stage >= 2 else 1
        return dict.fromkeys((OPTIMIZER, LOSS, HEAD, LAYER, BOTTOM, EMBEDDING), whole / share)
    table = float(width * geometry.vocab * geometry.hidden) if spec.tuner == "full" else 0.0
    waits = table if geometry.tied else 0.0
    if spec.accumulates:
        held = {LOSS: whole, HEAD: whole + table, LAYER: whole + waits, BOTTOM: whole + waits}
        held |= {EMBEDDING: whole + table + 2 * waits, OPTIMIZER: whole}
    else:  # above: of all layers but the one that goes backward, and of an untied head
        above = (whole - table * (1 if geometry.tied else 2)) * (1 - 1 / geometry.layers)
        held = {LOSS: 0.0, HEAD: table, LAYER: table, BOTTOM: above + table}
        held |= {EMBEDDING: whole + 2 * waits, OPTIMIZER: whole}
    if spec.fused_loss and spec.tuner == "full":
        held[LOSS] += table  # made in the forward pass
    return {moment: size + extra for moment, size in held.items()}
