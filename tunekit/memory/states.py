"""What a GPU holds besides activations: weights, gradients, the optimizer's states, DeepSpeed's shares and buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.memory.companions import companions
from tunekit.memory.names import EMBEDDING_NAME, HEAD_NAME
from tunekit.memory.optimizers import optimizer_of, state_bytes, step_bytes_of
from tunekit.memory.quantized import linear_bytes
from tunekit.memory.sharding import (
    BOTTOM,
    EMBEDDING,
    GROUP,
    HEAD,
    LAYER,
    LOSS,
    MOMENTS,
    OPTIMIZER,
    among,
    averages_whole,
    by_deepspeed,
    by_fsdp,
    gathered,
    off_gpu,
    sharding_of,
)
from tunekit.memory.tuners import (
    frozen_bytes,
    trained_matrices,
    trained_numbers,
    trained_share,
    trains,
    widened_by_fsdp,
)
from tunekit.stages import REWARD_MODEL

if TYPE_CHECKING:
    from tunekit.memory.geometry import Geometry
    from tunekit.memory.spec import Spec
    from tunekit.memory.tuners import Matrix


def base_bytes(spec: Spec, geometry: Geometry, *, scores: bool = False) -> float:
    """The weights of a model; where it `scores`, its head has one number."""
    number = 4 if spec.precision == "fp32" else 2
    parameters = geometry.parameters
    if (scores or spec.kind.gives == REWARD_MODEL) and not geometry.tied:
        parameters -= geometry.vocab * geometry.hidden  # its head has one number (ms-swift's sequence classification)
    if not spec.bits:
        return number * parameters
    others = (4 if spec.kbit_prepare else number) * (parameters - geometry.linear_parameters)
    return linear_bytes(spec, geometry) + others


def _short(spec: Spec) -> bool:
    """Whether DeepSpeed keeps what trains in 2 bytes a number, and a float32 copy in the optimizer."""
    return by_deepspeed(spec) and spec.precision != "fp32"


def trained_bytes(spec: Spec, geometry: Geometry) -> float:
    """Bytes of all that trains: of its weights, and once more of its gradients."""
    return sum(_width(spec, item) * item.numbers for item in trained_matrices(spec, geometry))


def _width(spec: Spec, matrix: Matrix) -> float:
    return 2.0 if _short(spec) else float(matrix.width)


def _widest(spec: Spec, geometry: Geometry) -> float:
    """Bytes of a trained number as the engine reduces it."""
    return max((_width(spec, item) for item in trained_matrices(spec, geometry)), default=0.0)


def static_bytes(spec: Spec, geometry: Geometry) -> dict[str, float]:
    """What is there from one step to the next, in bytes."""
    trained = trained_bytes(spec, geometry)
    states = state_bytes(spec, geometry)
    if _short(spec):  # a float32 copy of the weights, and states as wide
        states = 4.0 * trained_numbers(spec, geometry) + state_bytes(spec, geometry, 4)
    sharding, share = sharding_of(spec), among(spec)
    shared = sharding.weights and (not (by_fsdp(spec) and spec.bits) or spec.quant_shared)
    weights = base_bytes(spec, geometry) * (2 if widened_by_fsdp(spec) else 1)
    adapter = 0.0 if spec.tuner == "full" else trained + frozen_bytes(spec, geometry)
    if off_gpu(spec, "parameters"):
        weights = adapter = 0.0
    elif shared:
        weights /= share
    return {
        "weights": weights + sum(size / shares for size, shares in _beside(spec)),
        "adapter": adapter / (share if sharding.weights else 1),
        "optimizer": 0.0 if off_gpu(spec, "optimizer") else states / (share if sharding.states else 1),
    }


def _beside(spec: Spec) -> list[tuple[float, int]]:
    """Bytes of each model that stays beside the trained one, and GPUs that hold it together."""
    found = (one for one in companions(spec) if one.stays)
    return [(base_bytes(one.spec, one.geometry, scores=one.scores), one.shares) for one in found]


def gathered_by_moment(spec: Spec, geometry: Geometry) -> dict[str, float]:
    """Bytes beside the shares, by moment: see `gathered`."""
    weights = base_bytes(spec, geometry) + sum(size for size, shares in _beside(spec) if shares > 1)
    return gathered(spec, geometry, weights, _widest(spec, geometry))


def step_bytes(spec: Spec, geometry: Geometry) -> float:
    """Bytes that the optimizer's step needs beside its states; none where it runs on the processor."""
    if off_gpu(spec, "optimizer"):
        return 0.0
    share = among(spec) if sharding_of(spec).states else 1
    if not by_deepspeed(spec):
        return step_bytes_of(spec, geometry) / share
    numbers = trained_numbers(spec, geometry) / share
    # gradients in float32, as wide as the states (deepspeed 0.19, stage_1_and_2.py and stage3.py, step)
    return (4 + optimizer_of(spec).step * 4) * (min(numbers, GROUP) if spec.zero_stage == 3 else numbers)


def gradients_by_moment(spec: Spec, geometry: Geometry) -> dict[str, float]:
    """Bytes of gradients that stand there, by moment.

    Without earlier micro-batches they come one by one while the micro-batch goes backward. The embedding's is as large
    as the embedding; a tied head's waits for it, and their sum is a third one.
    """
    if off_gpu(spec, "optimizer"):  # gradients go where the states are
        return dict.fromkeys(MOMENTS, 0.0)
    whole = trained_bytes(spec, geometry) * trained_share(spec, geometry)
    share = among(spec) if sharding_of(spec).gradients else 1
    extra = whole if averages_whole(spec) else 0.0  # DistributedDataParallel's buckets
    if by_deepspeed(spec):  # partitions that stay; what is on its way there is in the bucket
        return dict.fromkeys(MOMENTS, whole / share)
    if by_fsdp(spec) and share > 1:  # what is whole is with what is gathered
        before = whole if spec.accumulates else 0.0
        above = max(before, whole * (1 - 1 / geometry.layers))
        held = {LOSS: before, HEAD: before, LAYER: before, BOTTOM: above, EMBEDDING: whole, OPTIMIZER: whole}
        return {moment: size / share for moment, size in held.items()}
    if spec.device_map:
        return dict.fromkeys(MOMENTS, whole / share)
    head, table = (_table_bytes(spec, geometry, name) for name in (HEAD_NAME, EMBEDDING_NAME))
    waits = table if geometry.tied and spec.tuner == "full" else 0.0
    head = head or waits
    if spec.accumulates:
        held = {LOSS: whole, HEAD: whole + head, LAYER: whole + waits, BOTTOM: whole + waits}
        held |= {EMBEDDING: whole + table + 2 * waits, OPTIMIZER: whole}
    else:  # above: of all layers but the one that goes backward, and of an untied head
        above = (whole - table - (0 if waits else head)) * (1 - 1 / geometry.layers)
        held = {LOSS: 0.0, HEAD: head, LAYER: head, BOTTOM: above + head}
        held |= {EMBEDDING: whole + 2 * waits, OPTIMIZER: whole}
    if spec.fused_loss:
        held[LOSS] += head  # made in the forward pass
    return {moment: size + extra for moment, size in held.items()}


def _table_bytes(spec: Spec, geometry: Geometry, name: str) -> float:
    """Bytes of the gradient of the embedding, or of the head; 0 where it does not train."""
    width = max((item.width for item in trained_matrices(spec, geometry) if item.own and item.name == name), default=0)
    return float(width * trains(spec, geometry, name))
