"""What a GPU holds besides activations: weights, gradients, the optimizer's states, DeepSpeed's shares and buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.memory.names import EMBEDDING_NAME, HEAD_NAME
from tunekit.memory.optimizers import optimizer_of, state_bytes, step_bytes_of
from tunekit.memory.quantized import linear_bytes
from tunekit.memory.tuners import frozen_bytes, trained_matrices, trained_numbers, trained_share, trains
from tunekit.stages import REWARD_MODEL

if TYPE_CHECKING:
    from tunekit.memory.geometry import Geometry
    from tunekit.memory.spec import Spec

# Numbers in the bucket of DeepSpeed's reductions under ZeRO-1 and 2 (reduce_bucket_size, ms-swift's config/zero2.json),
# there in whole whatever is trained (deepspeed 0.19, runtime/zero/stage_1_and_2.py, setup_buckets; a second one only
# with overlap_comm). Under ZeRO-3 transformers writes hidden x hidden there (integrations/deepspeed.py,
# trainer_config_finalize)
BUCKET = 200_000_000
# Numbers that ZeRO-3 steps at once (sub_group_size), and parameters that it gathers at most
# (stage3_max_live_parameters); both in ms-swift's config/zero3.json
GROUP = 1_000_000_000
OPTIMIZER, LOSS = "optimizer step", "backward of the loss"
HEAD, EMBEDDING = "gradient of the head", "gradient of the embedding"
LAYER, BOTTOM = "", ", first layer"


def base_bytes(spec: Spec, geometry: Geometry) -> float:
    """The model's own weights."""
    number = 4 if spec.precision == "fp32" else 2
    parameters = geometry.parameters
    if spec.kind.gives == REWARD_MODEL and not geometry.tied:
        parameters -= geometry.vocab * geometry.hidden  # its head has one number (ms-swift's sequence classification)
    if not spec.bits:
        return number * parameters
    others = (4 if spec.kbit_prepare else number) * (parameters - geometry.linear_parameters)
    return linear_bytes(spec, geometry) + others


def _short(spec: Spec) -> bool:
    """Whether DeepSpeed keeps what trains in 2 bytes a number, and a float32 copy in the optimizer."""
    return bool(spec.zero_stage) and spec.precision != "fp32"


def trained_bytes(spec: Spec, geometry: Geometry) -> float:
    """Bytes of all that trains: of its weights, and once more of its gradients."""
    if _short(spec):
        return 2.0 * trained_numbers(spec, geometry)
    return float(sum(item.width * item.numbers for item in trained_matrices(spec, geometry)))


def static_bytes(spec: Spec, geometry: Geometry) -> dict[str, float]:
    """What is there from one step to the next, in bytes."""
    trained = trained_bytes(spec, geometry)
    states = state_bytes(spec, geometry)
    if _short(spec):  # a float32 copy of the weights, and states as wide
        states = 4.0 * trained_numbers(spec, geometry) + state_bytes(spec, geometry, 4)
    share, of_weights = spec.gpus if spec.zero_stage else 1, spec.gpus if spec.zero_stage == 3 else 1
    # a reward and a value model are taken to be as large
    stage = spec.kind
    models = 1 + (stage.reference and spec.tuner == "full") + stage.value_model + (stage.scored_by == "model")
    weights = base_bytes(spec, geometry) * models
    buckets = 0.0
    if spec.zero_stage:
        width = 2 if _short(spec) else max(item.width for item in trained_matrices(spec, geometry))
        buckets = width * float(BUCKET if spec.zero_stage < 3 else geometry.hidden**2)
    if of_weights > 1:
        buckets += min(2.0 * GROUP, weights * (1 - 1 / spec.gpus))
    return {
        "weights": weights / of_weights,
        "adapter": (0 if spec.tuner == "full" else trained + frozen_bytes(spec, geometry)) / of_weights,
        "optimizer": states / share,
        "other": buckets,
    }


def step_bytes(spec: Spec, geometry: Geometry) -> float:
    """Bytes that the optimizer's step needs beside its states."""
    if not spec.zero_stage:
        return step_bytes_of(spec, geometry)
    numbers = trained_numbers(spec, geometry) / spec.gpus
    # gradients in float32, as wide as the states (deepspeed 0.19, stage_1_and_2.py and stage3.py, step)
    return (4 + optimizer_of(spec).step * 4) * (min(numbers, GROUP) if spec.zero_stage == 3 else numbers)


def gradients_by_moment(spec: Spec, geometry: Geometry) -> dict[str, float]:
    """Bytes of gradients that stand there, by moment.

    Without earlier micro-batches they come one by one while the micro-batch goes backward. The embedding's is as large
    as the embedding; a tied head's waits for it, and their sum is a third one.
    """
    whole = trained_bytes(spec, geometry) * trained_share(spec, geometry)
    extra = whole if spec.gpus > 1 and not spec.zero_stage else 0.0  # DistributedDataParallel's buckets
    if spec.zero_stage:  # partitions that stay; what is on its way there is in the bucket
        share = spec.gpus if spec.zero_stage >= 2 else 1
        return dict.fromkeys((OPTIMIZER, LOSS, HEAD, LAYER, BOTTOM, EMBEDDING), whole / share)
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
