"""The peak memory of one GPU in closed form: no torch, no weights, no GPU, a millisecond."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.memory.activations import FINAL_NORM, Widths, layer, positions, targeted
from tunekit.memory.geometry import Geometry
from tunekit.memory.spec import GIB, Prediction, Unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.memory.activations import Layer
    from tunekit.memory.spec import Spec

NF4, INT8 = 0.5, 1.0
"""Bytes of a quantized weight."""
SCALE, SCALE_TWICE = 4 / 64, 1 / 64 + 4 / (64 * 256)
"""... and of its share of the scales: float32 a block of 64; with double quantization 8 bits, and float32 a 256 of
those (bitsandbytes.functional.quantize_4bit)."""
CONVERTED, UNEVEN, UNSHARED = 0.2, 0.08, 0.7
"""Reserved beyond allocated: 0.2 of the logits' bytes, where the loop turns them to float32, but at least 0.08 of a
layer's; without expandable segments also 0.7 of what a layer or the loss needs, whichever is less: blocks cut for one
are of no use to the other. Fitted to 26 replays of traces through a model of PyTorch's allocator (mean error of what is
reserved 0.6 % with expandable segments and 2.3 % without, worst +10 %); measured rows of a T4 are 3.9 % off in the
mean, 17 % at worst. Rows of many lengths need more."""
CONTEXT = int(0.6 * GIB)
"""Of CUDA and its libraries, on an A100 or H100: an assumption. A T4 was measured to take 0.14 GiB."""
WORKSPACE = 2 * 4096 * 1024 * 2 + 2 * 8 * 16 * 1024
"""cuBLAS's workspaces ``:4096:2:16:8`` (PyTorch's CublasHandlePool.cpp), one for the thread that goes forward and one
for the thread that goes backward; a Hopper card takes 64 MiB."""
LOGITS, LOGITS_PAIRS = 12, 16
"""Of one logit, alive while the loss goes backward: float32 log-softmax, its gradient and the logits' gradient. TRL's
log-probabilities of pairs hold one more (trl.trainer.utils.selective_log_softmax)."""
SOFTCAP = 2
"""More of one logit where it went through a tanh, which keeps its output."""
BUCKET = {1: 2e8, 2: 2e8, 3: 5e8}
"""Numbers in a bucket of DeepSpeed's reductions: ms-swift's config/zero2.json; DeepSpeed's default elsewhere."""
LIVE = 1e9
"""Parameters that ZeRO-3 gathers at most (``stage3_max_live_parameters`` in ms-swift's config/zero3.json)."""
LOSS = "backward of the loss"

PAIRS = ("rm", "dpo", "orpo", "simpo", "cpo")
"""Stages whose rows are pairs: the chosen answer and the rejected one."""
REFERENCE = ("dpo", "kto", "ppo", "grpo")
"""Stages that compare with the model before training: a copy of it where there is no adapter to switch off."""


@dataclass(frozen=True)
class Optimizer:
    """What an optimizer holds, in bytes a trained number.

    Attributes:
        own: by states in the weights' type, in units of it.
        fixed: by states of their own type.
        step: more while it steps, in units of the weights' type.
    """

    own: float = 0
    fixed: float = 0
    step: float = 0


OPTIMIZERS: Mapping[str, Optimizer] = {
    "adamw_torch_fused": Optimizer(own=2),
    "adamw_torch": Optimizer(own=2, step=1),  # foreach: the square roots of all second moments at once
    "adamw_torch_8bit": Optimizer(fixed=2 + 2 * 4 / 256),
    "adamw_8bit": Optimizer(fixed=2 + 2 * 4 / 256),  # bitsandbytes: float32 scale a block of 256
    "adamw_bnb_8bit": Optimizer(fixed=2 + 2 * 4 / 256),
    "paged_adamw_8bit": Optimizer(),  # paged states can leave the GPU
    "paged_adamw_32bit": Optimizer(),
    "lion_32bit": Optimizer(fixed=4),
    "lion_8bit": Optimizer(fixed=1 + 4 / 256),
    "sgd": Optimizer(),
    "adafactor": Optimizer(fixed=0.01),  # a float32 a row and a column
    "muon": Optimizer(own=1),
}


def estimate(spec: Spec) -> Prediction:
    """Predict the peak of one GPU.

    Raises:
        Unknown: the architecture or the optimizer has no formula here.
    """
    geometry = Geometry.from_config(spec.config)
    if spec.optimizer not in OPTIMIZERS:
        raise Unknown(f"the states of the optimizer {spec.optimizer} are not known to the estimate")
    static = _static(spec, geometry)
    passing = _passing(spec, geometry)
    stepping = {"other": _step(spec, geometry) + WORKSPACE}
    peak_at, dynamic = max((*passing.items(), ("optimizer step", stepping)), key=lambda moment: sum(moment[1].values()))
    total = sum(static.values()) + sum(dynamic.values())
    names = ("weights", "adapter", "gradients", "optimizer", "checkpoints", "layer", "logits", "other")
    parts = {name: (static.get(name, 0.0) + dynamic.get(name, 0.0)) / GIB for name in names}
    moved = max(sum(moment.values()) for moment in passing.values()) + _unused(spec, passing)
    reserved = max(total, sum(static.values()) + moved)
    return Prediction(
        allocated_gib=total / GIB,
        reserved_gib=reserved / GIB,
        process_gib=(reserved + CONTEXT) / GIB,
        breakdown=parts,
        method="estimate",
        peak_at=peak_at,
        notes=_notes(spec, geometry),
    )


def _unused(spec: Spec, passing: Mapping[str, Mapping[str, float]]) -> float:
    """Bytes that PyTorch's allocator holds and cannot use at the peak."""
    layer_bytes = max(moment.get("layer", 0.0) for moment in passing.values())
    loss_bytes = passing[LOSS]["logits"]
    converted = 0.0 if spec.outputs_kept else CONVERTED * loss_bytes
    unshared = 0.0 if spec.expandable_segments else UNSHARED * min(layer_bytes, loss_bytes)
    return max(converted, UNEVEN * layer_bytes) + unshared


def base_bytes(spec: Spec, geometry: Geometry) -> float:
    """The model's own weights."""
    number = 4 if spec.precision == "fp32" else 2
    bits = spec.bits
    if not bits:
        return number * geometry.parameters
    linear = geometry.linear_parameters
    each = INT8 if bits == 8 else NF4 + (SCALE_TWICE if spec.double_quant else SCALE)
    scales = sum(4 * item.outputs * item.layers for item in geometry.linears) if bits == 8 else 0
    rest = geometry.parameters - linear
    return linear * each + scales + (4 if spec.kbit_prepare else number) * rest


def trained_numbers(spec: Spec, geometry: Geometry) -> int:
    """Parameters that get a gradient."""
    if spec.tuner == "full":
        return geometry.parameters
    layers = targeted(spec, geometry)
    if not layers:
        raise Unknown(f"no linear layer of {geometry.model_type} is called {' or '.join(spec.target_modules)}")
    return sum(spec.lora_rank * (item.inputs + item.outputs) * item.layers for item in layers)


def _trained_width(spec: Spec) -> int:
    """Bytes of one trained number; DeepSpeed keeps them in 2 and a float32 copy in the optimizer."""
    if spec.zero_stage and spec.precision != "fp32":
        return 2
    return (4 if spec.precision == "fp32" else 2) if spec.tuner == "full" else Widths.of(spec).adapter


def _static(spec: Spec, geometry: Geometry) -> dict[str, float]:
    """What is there from one step to the next, in bytes."""
    numbers, width = trained_numbers(spec, geometry), _trained_width(spec)
    optimizer = OPTIMIZERS[spec.optimizer]
    states = (optimizer.own * width + optimizer.fixed) * numbers
    if spec.zero_stage and spec.precision != "fp32":
        states = (4 + optimizer.own * 4 + optimizer.fixed) * numbers
    gradients = 0 if spec.outputs_kept else width * numbers  # a loop of the user's own does not add up
    if spec.gpus > 1 and not spec.zero_stage:
        gradients += width * numbers  # DistributedDataParallel's buckets
    shares = {
        "optimizer": spec.gpus if spec.zero_stage >= 1 else 1,
        "gradients": spec.gpus if spec.zero_stage >= 2 else 1,
        "weights": spec.gpus if spec.zero_stage == 3 else 1,
    }
    adapter = 0 if spec.tuner == "full" else width * numbers
    weights = base_bytes(spec, geometry) * _copies(spec)
    buckets = 0.0
    if spec.gpus > 1 and spec.zero_stage:
        buckets = 2 * min(BUCKET[spec.zero_stage], numbers)
    if shares["weights"] > 1:
        buckets += min(2 * LIVE, weights * (1 - 1 / spec.gpus))
    return {
        "weights": weights / shares["weights"],
        "adapter": adapter / shares["weights"],
        "gradients": gradients / shares["gradients"],
        "optimizer": states / shares["optimizer"],
        "other": buckets,
    }


def _copies(spec: Spec) -> int:
    """Models of this size on the GPU."""
    reference = 1 if spec.stage in REFERENCE and spec.tuner == "full" else 0
    return 1 + reference + (2 if spec.stage == "ppo" else 0)


def _step(spec: Spec, geometry: Geometry) -> float:
    """Bytes that the optimizer's step needs beside its states."""
    share = spec.gpus if spec.zero_stage else 1
    gradients = _trained_width(spec) if spec.outputs_kept else 0  # those that `_static` leaves out
    numbers = trained_numbers(spec, geometry)
    return (gradients + OPTIMIZERS[spec.optimizer].step * _trained_width(spec)) * numbers / share


def _passing(spec: Spec, geometry: Geometry) -> dict[str, dict[str, float]]:
    """What comes and goes in forward and backward, by moment, in bytes."""
    rows = spec.micro_batch * (2 if spec.stage in PAIRS else 1)
    tokens = rows * spec.seq_len
    stream = Widths.of(spec).stream
    dense, moe = geometry.layers - geometry.moe_layers, geometry.moe_layers
    kinds: list[tuple[Layer, int]] = []
    for count, experts in ((dense, False), (moe, True)):
        if count:
            kinds.append((layer(spec, geometry, rows, experts), count))
    worst = max((kind for kind, _ in kinds), key=lambda kind: kind.peak)
    other = WORKSPACE + positions(geometry) * tokens
    kept: float
    if spec.gradient_checkpointing:
        kept, peak = float(stream * geometry.layers * geometry.hidden * tokens), worst.peak
    else:
        kept = sum(kind.kept * count for kind, count in kinds)
        peak = max(worst.peak - worst.kept, FINAL_NORM * geometry.hidden * tokens)
    held = Widths.of(spec).stream * geometry.vocab * loss_tokens(spec, rows) if spec.outputs_kept else 0
    return {
        worst.moment: {"checkpoints": kept, "layer": peak, "logits": 0 if spec.liger else held, "other": other},
        LOSS: {"checkpoints": kept, "logits": _logits(spec, geometry, rows), "other": other},
    }


def loss_tokens(spec: Spec, rows: int) -> int:
    """Tokens whose logits are computed (ms-swift's trainers/mixin.py, prepare_logits_to_keep).

    One row, or one packed from many: those with loss. Several rows: from the earliest token with loss in any of them;
    prompts are taken to be of any length up to twice the mean one, so that the shortest of n is 2/(n + 1) of the mean.
    """
    share = spec.loss_share
    if rows > 1 and not spec.packing:
        share = 1 - (1 - share) * 2 / (rows + 1)
    return max(1, math.ceil(rows * spec.seq_len * share))


def _logits(spec: Spec, geometry: Geometry, rows: int) -> float:
    """Bytes from the last norm to the loss."""
    tokens, hidden = rows * spec.seq_len, geometry.hidden
    states = (8 if spec.tuner == "full" else 4) * hidden * tokens
    if spec.stage == "rm":
        return states  # a head of one number
    if spec.liger:
        # liger_kernel.ops.fused_linear_cross_entropy: as many chunks as the vocabulary is wider than the model.
        chunk: int = 2 ** math.ceil(math.log2(max(1, math.ceil(tokens / math.ceil(geometry.vocab / hidden)))))
        return 2 * chunk * geometry.vocab + 2 * hidden * tokens + states
    each = LOGITS if spec.stage in ("pt", "sft") else LOGITS_PAIRS
    if spec.stage == "gkd":
        each += LOGITS  # of the teacher
    if spec.outputs_kept:
        each += Widths.of(spec).stream
    if geometry.softcap:
        each += SOFTCAP
    return each * geometry.vocab * loss_tokens(spec, rows) + states


def _notes(spec: Spec, geometry: Geometry) -> tuple[str, ...]:
    """What was assumed."""
    plain = spec.outputs_kept
    suffix = spec.loss_share < 1 and spec.micro_batch > 1 and not spec.packing and not spec.liger
    said = {
        "0.6 GiB for the CUDA context": True,
        "gradients of earlier micro-batches are held": not plain,
        "a loop of one's own: no autocast, and no earlier micro-batch": plain,
        "the vision tower and images are not counted": geometry.vision,
        "prompts of a micro-batch differ in length": suffix,
        "experts by grouped matrix products": bool(geometry.moe_layers),
        "transformers 5 fuses experts, so that bitsandbytes leaves them unquantized": bool(
            geometry.moe_layers and spec.bits
        ),
        f"{spec.stage} was not traced: rough": spec.stage in ("ppo", "grpo", "gkd", "kto", "rm"),
        "reward and value model of the same size": spec.stage == "ppo",
        "the teacher's weights are not counted": spec.stage == "gkd",
        "DeepSpeed's buckets as ms-swift sets them; not traced": spec.zero_stage > 0,
        "of Liger only the fused loss is counted": spec.liger,
    }
    return tuple(note for note, holds in said.items() if holds)
