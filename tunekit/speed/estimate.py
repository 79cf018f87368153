"""The time of a step, in closed form: each part of the work divided by what the card does of it in a second.

Twelve numbers were fitted to 434 published rows (benchmarks/speed.csv; docs/time.md names the sources
and the errors on rows that were kept apart). The counts of bytes and kernels were set by hand on the same rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.speed.cards import Rates
    from tunekit.speed.work import Work


# Fitted: what no datasheet says.
MATMUL, FLASH = 0.93, 0.554
"""Shares of the sustained rate that training's matmuls, and flash attention forward and backward together, reach."""
ELEMENTWISE, ADAPTED, FUSED, COMPILED = 1.59, 0.745, 0.448, 0.407
"""Traffic against the bytes that are counted below: element-wise, of adapters; fused and compiled code against it."""
LAUNCH, HOOK = 15.5e-6, 2.9e-3
"""Seconds of the CPU a kernel; and a layer and pass for DeepSpeed's gathering, beside the transfer."""
SENT = 1.13
"""Communication against bytes ÷ link. That it hides behind computing was not visible in any row."""
SCORE = 31.7
"""Bytes a score of attention that is written out."""
CACHED = 0.564
"""Traffic of cards with a large cache (five rows of one card)."""

# Set by hand.
TRAFFIC = 0.85
"""Of the bandwidth of the datasheet, what copies reach."""
QUANTIZED = 0.6
"""Of that, what bitsandbytes' kernels reach as they unpack weights."""
DEQUANTIZED = 2.6
"""Bytes a weight: 0.6 read, 2 written."""
LLAMA, GPT = (80, 18), (30, 10)
"""Bytes a token and layer, times the residual's width and the MLP's: norms, rotary, residuals, gate; and those of a
model with LayerNorm and GELU, which are one kernel each."""
ADAPTER = (24, 8)
"""Bytes a token of a module's input and output: casts, dropout, addition."""
LOGIT = {"eager": 30, "fused": 10, "rewritten": 10, "compiled": 10}
"""Bytes a logit: float32 copies, softmax, gradient."""
LAUNCHES = {"eager": 40, "fused": 28, "rewritten": 24, "compiled": 14}
"""Kernels a layer and pass."""
BY_HAND = ("rewritten", "compiled")
"""Kernels that halve an adapter's traffic and launches."""
STEP, STATE = 0.02, 28
"""Seconds a step of the optimizer, and bytes a trained parameter (float32 weight, gradient and two moments)."""
GATHERED = {None: 2.0, 8: 1.06, 4: 0.56}
"""Bytes a weight that is sent to another GPU, by its bits."""


class LayerPasses(NamedTuple):
    """How often the layers are gone through: forward always; again where activations are recomputed; backward."""

    again: int = 0
    backward: int = 1

    def times(self, backward: float) -> float:
        """Forward passes that it comes to, where backward costs so many."""
        return 1 + self.again + backward * self.backward


LOOK = LayerPasses(0, 0)
"""Forward alone: an evaluation, a reference model."""


class StepTime(NamedTuple):
    """Seconds of one step of one GPU.

    Attributes:
        micro: of a micro-batch. `step`: of the optimizer, once a step.
        parts: of a micro-batch by name, and of the step's end; the CPU's launches go on beside the GPU's work.
    """

    work: Work
    micro: float
    step: float
    parts: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return self.work.accumulation * self.micro + self.step

    @property
    def tokens_per_second(self) -> float:
        """Of one GPU, padding included."""
        return self.work.accumulation * self.work.tokens / self.seconds


def step_time(work: Work, card: Rates) -> StepTime:
    """The time of a step of training on one kind of card."""
    parts = computed(work, card, LayerPasses(again=int(work.checkpointing)))
    micro = _together(parts)
    if work.reference:
        micro += _together(computed(work, card, LOOK))
    sent, summed = _communication(work, card, micro)
    parts |= {"communication": sent, "optimizer": _optimizer(work, card) + summed}
    return StepTime(work, micro + sent, parts["optimizer"], parts)


def look_seconds(work: Work, card: Rates) -> float:
    """Seconds of a micro-batch that is only evaluated."""
    sent, _ = _communication(work, card, 0.0, passes=1)
    return _together(computed(work, card, LOOK)) + sent


def computed(work: Work, card: Rates, passes: LayerPasses) -> dict[str, float]:
    """Seconds of a micro-batch by what is computed; ``launch`` is the CPU's."""
    shape, tokens, flops, bandwidth = work.shape, work.tokens, _flops(card), _bandwidth(card)
    layers, weights = shape.layers, shape.weights
    frozen_once = passes.times(2 if work.full else 1)  # a frozen weight needs the gradient of its input alone
    head = passes.backward * (1 + (work.full or work.head_trained)) + 1
    matmul = max(2 * weights * tokens * frozen_once / flops, 2 * weights * frozen_once / bandwidth)
    matmul += 2 * shape.hidden * shape.vocab * tokens * work.logits * head / flops
    a, b = LLAMA if shape.matrices == 3 else GPT
    touched = layers * tokens * (a * shape.hidden + b * shape.width) * passes.times(2) / bandwidth
    own = shape.matrices == 2 or work.kernels == "eager"
    fused = 1.0 if own else FUSED if work.kernels == "fused" else COMPILED
    touched *= ELEMENTWISE * _cache(card) * fused
    logits = LOGIT[work.kernels] if passes.backward else LOGIT["fused"]
    unpacked = DEQUANTIZED * weights * passes.times(1) / (bandwidth * QUANTIZED) if work.bits else 0.0
    return {
        "matmul": matmul,
        "attention": _attention(work, card, passes),
        "elementwise": touched,
        "adapters": _adapters(work, card, passes),
        "loss": tokens * work.logits * shape.vocab * logits / bandwidth,
        "dequantize": unpacked,
        "launch": _launches(work, card, passes),
    }


def _flops(card: Rates) -> float:
    return card.sustained * 1e12 * MATMUL


def _bandwidth(card: Rates) -> float:
    return card.bandwidth * 1e9 * TRAFFIC


def _cache(card: Rates) -> float:
    return CACHED if card.cached else 1.0


def _together(parts: Mapping[str, float]) -> float:
    """The larger of what the GPU computes and the CPU launches: the 4-norm, since near each other both are felt."""
    gpu = sum(seconds for name, seconds in parts.items() if name != "launch")
    return float((gpu**4 + parts["launch"] ** 4) ** 0.25)


def _attention(work: Work, card: Rates, passes: LayerPasses) -> float:
    shape, seen = work.shape, min(work.span or work.length, work.length)
    scores = shape.layers * seen * work.tokens
    if work.attention == "eager":  # the whole square, written out
        moved = scores * shape.heads * SCORE * passes.times(1.2) / _bandwidth(card)
        return 4 * scores * shape.query * passes.times(2) / _flops(card) + moved
    rate = card.sustained * 1e12 * FLASH * (1.0 if work.attention == "flash3" else card.flash)
    rate *= 0.5 if work.attention == "efficient" else 1.0
    return 2 * scores * shape.query * passes.times(2.5) / rate


def _adapters(work: Work, card: Rates, passes: LayerPasses) -> float:
    if work.adapters is None:
        return 0.0
    a, b = ADAPTER
    moved = work.shape.layers * work.tokens * (a * work.adapters.inputs + b * work.adapters.outputs)
    fused = 0.5 if work.kernels in BY_HAND else 1.0
    traffic = ADAPTED * _cache(card) * fused * moved * passes.times(1.5) / _bandwidth(card)
    return traffic + 2 * work.shape.layers * work.adapters.weights * work.tokens * passes.times(2) / _flops(card)


def _launches(work: Work, card: Rates, passes: LayerPasses) -> float:
    kernels: float = LAUNCHES[work.kernels]
    if work.adapters:
        kernels += 6 * work.adapters.modules * (0.5 if work.kernels in BY_HAND else 1)
    if work.bits:
        kernels += 2 * (4 + work.shape.matrices)
    seconds = LAUNCH * card.host * work.shape.layers * kernels * passes.times(2)
    hooks = HOOK * work.shape.layers * passes.times(1) if work.hooks else 0.0
    return seconds + hooks


def _communication(work: Work, card: Rates, micro: float, passes: int = 2) -> tuple[float, float]:
    """Seconds a micro-batch and, beside these, a step; `micro` is what one computes."""
    if work.gpus == 1:
        return 0.0, 0.0
    link = (work.link or card.link) * 1e9
    # Halves travel (n - 1) / n of their size; adapters' gradients are too small to be seen.
    share, stored = (work.gpus - 1) / work.gpus, work.shape.stored
    reduced = 2.0 if work.full and passes > 1 else 0.0
    if work.sharding in ("fsdp", "zero3"):
        return SENT * share * stored * (passes * GATHERED[work.bits] + reduced) / link, 0.0
    if work.sharding == "zero2":
        return SENT * share * stored * reduced / link, share * stored * reduced / link
    return 0.0, max(0.0, share * stored * 2 * reduced / link - 0.5 * micro)  # DDP: half of it behind the backward


def _optimizer(work: Work, card: Rates) -> float:
    trained = work.shape.stored if work.adapters is None else work.adapters.weights * work.shape.layers
    return STEP + STATE * trained / (work.gpus if work.sharding != "none" else 1) / _bandwidth(card)
