"""The peak memory of one GPU in closed form: no torch, no weights, no GPU, a millisecond."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from tunekit.memory.activations import FINAL_NORM, Widths, layer_bytes, mask_bytes, position_bytes
from tunekit.memory.card import context_note, cublas_workspace, cuda_context
from tunekit.memory.geometry import Geometry
from tunekit.memory.spec import GIB, Prediction, Unknown, loss_tokens
from tunekit.memory.states import (
    BOTTOM,
    EMBEDDING,
    HEAD,
    LAYER,
    LOSS,
    OPTIMIZER,
    OPTIMIZERS,
    gradients_by_moment,
    static_bytes,
    step_bytes,
)
from tunekit.memory.vision import language_spec, sight_of, vision_notes, weight_bytes
from tunekit.stages import REWARD_MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.memory.spec import Spec

CONVERTED, UNEVEN, UNSHARED = 0.2, 0.08, 0.7
"""Reserved beyond allocated: 0.2 of the logits' bytes, where the loop turns them to float32, but at least 0.08 of a
layer's; without expandable segments also 0.7 of what a layer or the loss needs, whichever is less: blocks cut for one
are of no use to the other. Fitted to 26 replays of traces through a model of PyTorch's allocator; docs/memory.md says
how far it is from 216 others and from measured rows. Rows of many lengths need more."""
LOGITS, LOGITS_RLHF, SOFTCAP = 12, 16, 2
"""Of one logit, alive while the loss goes backward: float32 log-softmax, its gradient and the logits' gradient. TRL's
log-probabilities, of pairs and of answers, hold one more (trl.trainer.utils.selective_log_softmax). A tanh that it went
through keeps its output."""


@lru_cache(maxsize=1024)
def estimate(spec: Spec) -> Prediction:
    """Predict the peak of one GPU, once for each `spec`. Raises Unknown where there is no formula for a part of it."""
    spec = replace(spec, seq_len=spec.longest)
    geometry = Geometry.from_config(spec.config)
    if spec.optimizer not in OPTIMIZERS:
        raise Unknown(f"the states of the optimizer {spec.optimizer} are not known to the estimate")
    asked, sight, spec = spec, sight_of(spec, geometry), language_spec(spec)
    static = static_bytes(spec, geometry)
    static["weights"] = weight_bytes(asked, spec, geometry)
    static |= {name: static[name] + size for name, size in sight.static.items()}
    gradients = gradients_by_moment(spec, geometry)[OPTIMIZER]
    passing = sight.beside(_passing(spec, geometry), gradients)
    stepping = {"other": step_bytes(spec, geometry) + sight.step + 2 * cublas_workspace(spec.capability)}
    stepping["gradients"] = gradients + sight.gradients
    peak_at, dynamic = max((*passing.items(), (OPTIMIZER, stepping)), key=lambda moment: sum(moment[1].values()))
    total = sum(static.values()) + sum(dynamic.values())
    names = ["weights", "adapter", "gradients", "optimizer", "checkpoints", "layer", "logits", "other"]
    names += ["vision"] if geometry.tower else []
    moved = max(sum(moment.values()) for moment in passing.values()) + _unused(spec, passing)
    reserved = max(total, sum(static.values()) + moved)
    return Prediction(
        allocated_gib=total / GIB,
        reserved_gib=reserved / GIB,
        process_gib=(reserved + cuda_context(spec.capability)) / GIB,
        breakdown={name: (static.get(name, 0.0) + dynamic.get(name, 0.0)) / GIB for name in names},
        method="estimate",
        peak_at=peak_at,
        notes=_notes(asked, geometry),
    )


def _unused(spec: Spec, passing: Mapping[str, Mapping[str, float]]) -> float:
    """Bytes that PyTorch's allocator holds and cannot use at the peak."""
    layer_bytes = max(moment.get("layer", 0.0) for moment in passing.values())
    loss_bytes = passing[LOSS]["logits"]
    converted = 0.0 if spec.outputs_kept else CONVERTED * loss_bytes
    unshared = 0.0 if spec.expandable_segments else UNSHARED * min(layer_bytes, loss_bytes)
    return max(converted, UNEVEN * layer_bytes) + unshared


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
    if spec.gradient_checkpointing:
        kept, peak = float(embedded * geometry.layers), worst.peak
        below = kept / geometry.layers
    else:
        kept = sum(kind.kept * count for kind, count in kinds)
        peak = max(worst.peak - worst.kept, FINAL_NORM * geometry.hidden * tokens)
        below = kept / geometry.layers + embedded
    held = stream * geometry.vocab * lossy if spec.outputs_kept and not spec.fused_loss else 0
    gradients = gradients_by_moment(spec, geometry)
    layers = {"layer": peak, "logits": held, "other": other}
    loss = {"checkpoints": kept, "other": other}
    found = {
        worst.moment: {"checkpoints": kept, "gradients": gradients[LAYER], **layers},
        worst.moment + BOTTOM: {"checkpoints": below, "gradients": gradients[BOTTOM], **layers},
        LOSS: {**loss, "gradients": gradients[LOSS], "logits": _logits(spec, geometry, rows)},
        EMBEDDING: {"gradients": gradients[EMBEDDING], "other": other},
    }
    if spec.tuner == "full" and not spec.fused_loss:
        head = 2 * (geometry.vocab + geometry.hidden) * lossy + 8 * geometry.hidden * tokens
        found[HEAD] = {**loss, "gradients": gradients[HEAD], "logits": head}
    return found


def _logits(spec: Spec, geometry: Geometry, rows: int) -> float:
    """Bytes from the last norm to the loss."""
    hidden, lossy = geometry.hidden, loss_tokens(spec, rows)
    states = (8 if spec.tuner == "full" else 4) * hidden * rows * spec.seq_len
    if spec.kind.gives == REWARD_MODEL:
        return states  # a head of one number
    if spec.fused_loss:
        # liger_kernel.ops.fused_linear_cross_entropy: as many chunks as the vocabulary is wider than the model.
        chunk: int = 2 ** math.ceil(math.log2(max(1, math.ceil(lossy / math.ceil(geometry.vocab / hidden)))))
        return 2 * min(chunk, lossy) * geometry.vocab + 2 * hidden * lossy + states
    each = LOGITS_RLHF if spec.kind.rlhf_type else LOGITS
    each += LOGITS if spec.kind.teacher else 0  # the teacher's
    each += Widths.of(spec).stream if spec.outputs_kept else 0
    each += SOFTCAP if geometry.softcap else 0
    return each * geometry.vocab * lossy + states


def _notes(spec: Spec, geometry: Geometry) -> tuple[str, ...]:
    """What was assumed."""
    suffix = spec.loss_share < 1 and spec.micro_batch > 1 and not spec.packing
    stage, moe = spec.kind, geometry.moe_layers
    said = {
        context_note(spec.capability): True,
        "gradients of earlier micro-batches are held": spec.accumulates,
        "a loop of one's own: no autocast": spec.outputs_kept,
        **vision_notes(spec, geometry),
        "prompts of a micro-batch differ in length": suffix,
        "experts by grouped matrix products": moe > 0,
        "transformers 5 fuses experts, so that bitsandbytes leaves them unquantized": bool(moe and spec.bits),
        f"{spec.stage} was not traced: rough": stage.rough,
        "reward and value model of the same size": stage.value_model,
        "generating completions, and an engine for that on the same GPU, are not counted": stage.generates,
        "the teacher's weights are not counted": stage.teacher,
        "DeepSpeed's buckets as ms-swift sets them, read from its source; not traced": spec.zero_stage > 0,
        "8-bit weights are not traced; outliers are not counted": spec.bits == 8,
        "states of large parameters may leave the GPU": OPTIMIZERS[spec.optimizer].paged,
        "the longest of the lengths": bool(spec.lengths),
    }
    return tuple(note for note, holds in said.items() if holds)
