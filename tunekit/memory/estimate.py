"""The peak memory of one GPU in closed form: no torch, no weights, no GPU, a millisecond."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from tunekit.memory.activations import FINAL_NORM, Widths, layer_bytes, mask_bytes, position_bytes
from tunekit.memory.card import MIB, NCCL, context_note, cublas_workspace, cuda_context
from tunekit.memory.companions import companions
from tunekit.memory.evaluation import evaluation_moments
from tunekit.memory.generation import rollout_moments, teacher_moments
from tunekit.memory.geometry import Geometry
from tunekit.memory.losses import loss_bytes
from tunekit.memory.optimizers import optimizer_of
from tunekit.memory.sharding import (
    BOTTOM,
    EMBEDDING,
    HEAD,
    LAYER,
    LOSS,
    OPTIMIZER,
    among,
    by_deepspeed,
    by_fsdp,
    first_fsdp,
    held_back,
    talks,
)
from tunekit.memory.spec import GIB, Prediction, loss_tokens
from tunekit.memory.states import gathered_by_moment, gradients_by_moment, static_bytes, step_bytes
from tunekit.memory.tuners import grown, trains_head
from tunekit.memory.vision import language_spec, sight_of, vision_notes, weight_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.memory.generation import Moments
    from tunekit.memory.spec import Spec

CONVERTED, UNEVEN, UNSHARED = 0.2, 0.08, 0.7
"""Reserved beyond allocated: 0.2 of the logits' bytes, where the loop turns them to float32, but at least 0.08 of a
layer's; without expandable segments also 0.7 of what a layer or the loss needs, whichever is less: blocks cut for one
are of no use to the other. Fitted to 26 replays of traces through a model of PyTorch's allocator; docs/memory.md says
how far it is from 216 others and from measured rows. Rows of many lengths need more."""
RETURNED = 0.4
"""Of what stands at the optimizer's step and not at the peak: gradients, and what the step needs where segments cannot
grow. Blocks that it had are cut too small for others. Read off 30 more replays of full training. For what FSDP 1 holds
back the same share was taken after published rows were seen to agree with it: there it is no prediction."""

PARTS = ("weights", "adapter", "gradients", "optimizer", "checkpoints", "layer", "logits", "other")
"""Of every prediction; the cache of answers that are written comes where it is at the peak."""


@lru_cache(maxsize=1024)
def estimate(spec: Spec) -> Prediction:
    """Predict the peak of one GPU, once for each `spec`. Raises Unknown where there is no formula for a part of it."""
    spec = replace(spec, seq_len=math.ceil(spec.longest / spec.sequence_parallel))
    geometry = grown(spec, Geometry.from_config(spec.config).built_by(spec)).cut(spec.tensor_parallel)
    optimizer_of(spec)  # which may have no count
    asked, sight, spec = spec, sight_of(spec, geometry), language_spec(spec)
    static = static_bytes(spec, geometry)
    static["weights"] = weight_bytes(asked, spec, geometry)
    static |= {name: static[name] + size for name, size in sight.static.items()}
    gradients = gradients_by_moment(spec, geometry)[OPTIMIZER]
    training = sight.beside(_passing(spec, geometry), gradients)
    beside = sight.with_images({**rollout_moments(spec, geometry), **evaluation_moments(spec, geometry)})
    passing = {**training, **beside}
    stepping = {"other": step_bytes(spec, geometry) + sight.step + 2 * cublas_workspace(spec.capability)}
    stepping["other"] += gathered_by_moment(spec, geometry)[OPTIMIZER]
    stepping["gradients"] = gradients + sight.gradients
    peak_at, dynamic = max((*passing.items(), (OPTIMIZER, stepping)), key=lambda moment: sum(moment[1].values()))
    held = sum(static.values())
    total = held + sum(dynamic.values())
    names = dict.fromkeys((*PARTS, *static, *dynamic, *(["vision"] if geometry.tower else [])))
    reserved = max(total, held + _reserved_beside(spec, geometry, training, beside, stepping))
    elsewhere = cuda_context(spec.capability) + (NCCL if talks(spec) else 0)
    return Prediction(
        allocated_gib=total / GIB,
        reserved_gib=reserved / GIB,
        process_gib=(_with_vllm(spec, reserved, held) + elsewhere) / GIB,
        breakdown={name: (static.get(name, 0.0) + dynamic.get(name, 0.0)) / GIB for name in names},
        method="estimate",
        peak_at=peak_at,
        notes=_notes(asked, geometry),
    )


def _with_vllm(spec: Spec, reserved: float, static: float) -> float:
    """Bytes with what vLLM takes beside PyTorch's allocator: all the time, or while it is awake.

    While it wakes up the cached blocks of the training are given back, and what is there from step to step stays
    (ms-swift's rollout_mixin.py, _fast_infer).
    """
    vllm = spec.vllm_gib * GIB
    return max(reserved, static + vllm) if spec.sleep_level else reserved + vllm


def _reserved_beside(
    spec: Spec, geometry: Geometry, training: Moments, beside: Moments, stepping: Mapping[str, float]
) -> float:
    """Bytes that PyTorch's allocator holds beside what is there from step to step."""
    unused = _unused(spec, training, stepping) + _apart(spec, geometry, training, stepping)
    moved = max(sum(moment.values()) for moment in (*training.values(), *beside.values()))
    between = max(sum(moment.values()) for moment in training.values()) + _unfound(spec, training, beside)
    return max(moved, between) + unused


def _unused(spec: Spec, passing: Mapping[str, Mapping[str, float]], stepping: Mapping[str, float]) -> float:
    """Bytes that PyTorch's allocator holds and cannot use at the peak."""
    layer_bytes = max(moment.get("layer", 0.0) for moment in passing.values())
    loss_bytes = passing[LOSS]["logits"]
    converted = 0.0 if spec.outputs_kept else CONVERTED * loss_bytes
    unshared = 0.0 if spec.expandable_segments else UNSHARED * min(layer_bytes, loss_bytes)
    gone = _gone(passing, stepping) + (0.0 if spec.expandable_segments else stepping["other"])
    return max(converted, UNEVEN * layer_bytes) + unshared + (RETURNED * gone if spec.tuner == "full" else 0.0)


def _gone(passing: Mapping[str, Mapping[str, float]], stepping: Mapping[str, float]) -> float:
    """Bytes of gradients that stand at the optimizer's step and not at the peak of a micro-batch."""
    peak = max(passing.values(), key=lambda moment: sum(moment.values()))
    return max(0.0, stepping["gradients"] - peak.get("gradients", 0.0))


def _apart(
    spec: Spec, geometry: Geometry, passing: Mapping[str, Mapping[str, float]], stepping: Mapping[str, float]
) -> float:
    """More bytes that FSDP's streams hold: a block is of use to one stream only (c10/cuda/CUDACachingAllocator.cpp).

    It gathers in one stream and reduces in another, so that what either has at its own peak stays beside the peak. What
    FSDP 1 holds back stands between the blocks of layers.
    """
    if not by_fsdp(spec) or among(spec) == 1:
        return 0.0
    beside = gathered_by_moment(spec, geometry)
    peak = max(passing, key=lambda name: sum(passing[name].values()))
    tokens = spec.micro_batch * spec.seq_len * (2 if spec.kind.rows.pairs else 1)
    between = held_back(spec, Widths.of(spec).stream * geometry.hidden * tokens, geometry.layers)
    apart = max(beside.values()) - beside[_moment(peak)] + (1 - RETURNED) * _gone(passing, stepping)
    return apart + RETURNED * between


def _moment(name: str) -> str:
    """The moment of `gathered_by_moment` that a peak is called by."""
    return name if name in (LOSS, HEAD, EMBEDDING) else BOTTOM if name.endswith(BOTTOM) else LAYER


def _unfound(spec: Spec, training: Moments, beside: Moments) -> float:
    """Bytes of logits between steps for which no cached block is large enough, where Liger makes none in training.

    With expandable segments they are cut from what is there. Seen on a trace of ms-swift's agent example
    (docs/memory.md): what an evaluation adds is all of its logits.
    """
    if spec.expandable_segments:
        return 0.0
    logits = max((moment.get("logits", 0.0) for moment in beside.values()), default=0.0)
    return max(0.0, logits - training[LOSS]["logits"])


def _passing(spec: Spec, geometry: Geometry) -> dict[str, dict[str, float]]:
    """What comes and goes in forward and backward, by moment, in bytes."""
    rows = spec.micro_batch * (2 if spec.kind.rows.pairs else 1)
    tokens, lossy = rows * spec.seq_len, loss_tokens(spec, rows)
    stream = Widths.of(spec).stream
    counts = {False: geometry.layers - geometry.moe_layers, True: geometry.moe_layers}
    kinds = [(layer_bytes(spec, geometry, rows, experts), count) for experts, count in counts.items() if count]
    worst = max((kind for kind, _ in kinds), key=lambda kind: kind.peak)
    other = 2 * cublas_workspace(spec.capability) + position_bytes(geometry) * tokens + mask_bytes(spec, rows)
    embedded = stream * geometry.hidden * tokens
    if spec.checkpoints:
        kept, peak = float(embedded * geometry.layers), worst.peak
        below = kept / geometry.layers + held_back(spec, embedded, geometry.layers)
        below += kept * bool(held_back(spec, 1, geometry.layers)) * (1 - 1 / geometry.layers)
    else:
        kept = sum(kind.kept * count for kind, count in kinds)
        peak = max(worst.peak - worst.kept, FINAL_NORM * geometry.hidden * tokens)
        below = kept / geometry.layers + embedded
    kept, below = (_here(spec, size, geometry.layers) for size in (kept, below))
    learning = _kept_beside(spec, geometry, rows)
    kept, below = kept + learning, below + learning
    held = stream * geometry.vocab * lossy if spec.outputs_kept and not spec.fused_loss else 0
    gradients = gradients_by_moment(spec, geometry)
    layers = {"layer": peak, "logits": held, "other": other}
    loss = {"checkpoints": kept, "other": other}
    found = {
        worst.moment: {"checkpoints": kept, "gradients": gradients[LAYER], **layers},
        worst.moment + BOTTOM: {"checkpoints": below, "gradients": gradients[BOTTOM], **layers},
        LOSS: {**loss, "gradients": gradients[LOSS], "logits": loss_bytes(spec, geometry, rows)},
        EMBEDDING: {"gradients": gradients[EMBEDDING], "other": other},
        **teacher_moments(spec, loss, rows),
    }
    if trains_head(spec, geometry) and not spec.fused_loss:
        head = 2 * (geometry.vocab + geometry.hidden) * lossy + 8 * geometry.hidden * tokens
        found[HEAD] = {**loss, "gradients": gradients[HEAD], "logits": head}
    beside = gathered_by_moment(spec, geometry)
    for name, moment in found.items():
        moment["other"] += beside[_moment(name)]
    return found


def _here(spec: Spec, kept: float, layers: int) -> float:
    """What one GPU holds of all that the layers keep: some layers are on others, or what they keep is off the GPU.

    What leaves is on its way while the next layer computes: two layers' stay.
    """
    kept /= spec.gpus if spec.device_map else 1
    return min(kept, 2 * kept / layers) if "activations" in spec.offload else kept


def _kept_beside(spec: Spec, geometry: Geometry, rows: int) -> float:
    """Bytes that models which learn beside the trained one keep until its turn on the way back is over.

    The hidden states of every layer are returned, in float32 (trl's ppo_trainer.py, forward).
    """
    kept = 0.0
    for one in companions(spec):
        if one.learns:
            shape = one.geometry
            counts = {False: shape.layers - shape.moe_layers, True: shape.moe_layers}
            kept += sum(layer_bytes(one.spec, shape, rows, moe).kept * count for moe, count in counts.items() if count)
            kept += 4 * geometry.hidden * (geometry.layers + 1) * rows * spec.seq_len
    return kept


def _notes(spec: Spec, geometry: Geometry) -> tuple[str, ...]:
    """What was assumed."""
    suffix = spec.loss_share < 1 and spec.micro_batch > 1 and not spec.packing
    stage, moe = spec.kind, geometry.moe_layers
    said = {
        context_note(spec.capability): True,
        "gradients of earlier micro-batches are held": spec.accumulates,
        "no autocast": not spec.autocast,
        **vision_notes(spec, geometry),
        "prompts of a micro-batch differ in length": suffix,
        "what an indexer of tokens needs is not counted": geometry.family.indexed,
        "a layer of code that the model brings, by its published form": geometry.family.own_code,
        "experts by grouped matrix products": moe > 0 and geometry.fused,
        "experts one by one, as transformers 4 has them: not traced": not geometry.fused,
        "transformers 5 fuses experts, so that bitsandbytes leaves them unquantized": bool(
            moe and spec.bits and geometry.fused
        ),
        f"{spec.stage} was not traced: rough": stage.rough,
        "reward and value model of the same size": stage.value_model and not spec.rewards,
        "generating completions, and an engine for that on the same GPU, are not counted": stage.generates
        and not spec.completion_len,
        "the teacher's weights are not counted": stage.teacher and spec.teacher is None and not spec.teacher_elsewhere,
        f"not counted, since their shape is not known here: {', '.join(spec.unknown_models)}": bool(
            spec.unknown_models
        ),
        "ms-swift leaves gradient checkpointing off here": spec.gradient_checkpointing and not stage.checkpoints,
        "gaps that a growing cache of answers leaves are not counted": bool(spec.completion_len and not spec.vllm_mode),
        "what vLLM keeps while it sleeps is not counted": bool(spec.vllm_gib and spec.sleep_level),
        "DeepSpeed's buckets as ms-swift sets them, read from its source; not traced": by_deepspeed(spec),
        "FSDP 1, which keeps inputs of frozen layers and their gradients; not traced": first_fsdp(spec),
        "FSDP 2's units as accelerate makes them, read from its source; not traced": by_fsdp(spec)
        and not first_fsdp(spec),
        "4-bit weights are divided, as bnb_4bit_quant_storage of a float type lets them be": bool(
            by_fsdp(spec) and spec.bits and spec.quant_shared
        ),
        f"{NCCL / MIB:.0f} MiB for the buffers of NCCL, an assumption": talks(spec),
        "the layers are laid evenly over the GPUs, and the loss is on the fullest": bool(spec.device_map),
        "what leaves the GPU is not traced": bool(spec.offload),
        "8-bit weights are not traced; outliers are not counted": spec.bits == 8,
        "states of large parameters may leave the GPU": optimizer_of(spec).paged,
        "the longest of the lengths": bool(spec.lengths),
    }
    return tuple(note for note, holds in said.items() if holds)
