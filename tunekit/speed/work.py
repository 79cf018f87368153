"""What a GPU computes in a step of training, in numbers: what the time is counted from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

KERNELS = ("eager", "fused", "rewritten", "compiled")
"""The model's own code; fused norms, rotary and loss (Liger); adapters by hand too (unsloth); compiled."""
ATTENTION = ("eager", "efficient", "flash", "flash3")
"""All scores in memory; PyTorch's memory-efficient kernel; flash attention 1 or 2; the ones made for the card."""
SHARDING = ("none", "zero2", "zero3", "fsdp")
"""What several GPUs share: nothing (DDP), gradients and optimizer, or all of it."""


@dataclass(frozen=True)
class DecoderShape:
    """A decoder as its work is counted.

    Attributes:
        width: of the MLP; of the experts that one token is sent to, where there are any.
        matrices: of the MLP: 3 with a gate, as in Llama; 2 without, as in GPT-2.
        query, keys: width of all query heads, of all key heads.
        parameters: all of the model, experts included; 0 counts those that a token meets.
    """

    layers: int
    hidden: int
    width: int
    query: int
    keys: int
    heads: int
    vocab: int
    tied: bool = False
    matrices: int = 3
    parameters: int = 0

    @property
    def weights(self) -> int:
        """Of the layers' matrices, those that one token meets."""
        attention = 2 * self.hidden * (self.query + self.keys)
        return self.layers * (attention + self.matrices * self.hidden * self.width)

    @property
    def stored(self) -> int:
        """All weights that are held and gathered."""
        return self.parameters or self.weights + (1 if self.tied else 2) * self.hidden * self.vocab


class LoraLayers(NamedTuple):
    """LoRA's, of one layer: features of the layers it adapts, in and out, summed; and how many these are."""

    inputs: int
    outputs: int
    modules: int
    rank: int = 8

    @property
    def weights(self) -> int:
        """Trained weights of a layer."""
        return self.rank * (self.inputs + self.outputs)


def adapters_of(shape: DecoderShape, *, attention: bool = True, mlp: bool = True, rank: int = 8) -> LoraLayers:
    """The adapters on all projections of the attention, of the MLP, or both."""
    h, f, q, k = shape.hidden, shape.width, shape.query, shape.keys
    gates = shape.matrices - 1
    inputs = (3 * h + q) * attention + (gates * h + f) * mlp
    outputs = (h + q + 2 * k) * attention + (gates * f + h) * mlp
    return LoraLayers(inputs, outputs, 4 * attention + shape.matrices * mlp, rank)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one of `gpus` computes in a micro-batch, and how many of these make a step.

    Attributes:
        adapters: None where the model itself is trained.
        head_trained: embedding and head are trained beside adapters.
        bits: of a quantized base's weights; None where it is not.
        length: tokens a row, padding included.
        span: tokens that one attends to at the most, where a packed row holds shorter ones; 0: the whole row.
        logits: share of the tokens whose logits are computed.
        reference: a frozen model sees every row too.
        hooks: DeepSpeed gathers the weights of each layer by hooks in Python.
        link: GB/s one way between the GPUs; 0: what their card has.
    """

    shape: DecoderShape
    adapters: LoraLayers | None = None
    head_trained: bool = False
    bits: int | None = None
    micro: int = 1
    length: int = 2048
    span: float = 0.0
    logits: float = 1.0
    accumulation: int = 1
    checkpointing: bool = True
    attention: str = "flash"
    kernels: str = "eager"
    reference: bool = False
    sharding: str = "none"
    hooks: bool = False
    gpus: int = 1
    link: float = 0.0

    @property
    def full(self) -> bool:
        """Whether the model itself is trained."""
        return self.adapters is None

    @property
    def tokens(self) -> int:
        """Of a micro-batch, padding included."""
        return self.micro * self.length
