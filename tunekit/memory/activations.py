"""What forward and backward hold of one decoder layer: whole numbers of bytes, a token and a unit of width.

Every number here was read off traces of the model's own forward and backward (fake tensors, torch 2.13, transformers
5.19, peft 0.20): each width was changed alone, and the difference, a whole number, is the coefficient. Where the number
comes from is said beside it. Widths: hidden h, query heads q, keys k, MLP i; T tokens.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.memory.beside import beside_bytes
from tunekit.memory.kinds import SHAPES, adapter_width, inner_rank
from tunekit.memory.quantized import dequantized_width
from tunekit.memory.targets import targeted
from tunekit.memory.tuners import trains_layers, trains_norms

if TYPE_CHECKING:
    from tunekit.memory.geometry import Geometry
    from tunekit.memory.spec import Spec

NORM = 4  # an RMSNorm keeps its input in float32
NORM_TRAINED = 8  # ... and, where its weight is trained, what it multiplied (2) and its output for the next weights (2)
# Liger's RMSNorm keeps its input as it is (liger_kernel.ops.rms_norm, save_for_backward); a trained weight changes
# nothing of it, but the next ones keep what they read (2)
LIGER_NORM = 2
# Of h while Liger's MLP goes backward, beside what the norm keeps: the residual, the layer's output, the gradient from
# above and the next one; its SwiGLU writes gradients over gate and up (liger_kernel.ops.swiglu)
LIGER_MLP = 8
# Of h, beside attention, while the MLP's norm goes backward: float32 copies of input, gradient and products
NORM_BACKWARD = 28
FINAL_NORM = 24  # the same of the last norm where nothing else of a layer is added to it
HIDDEN_LIVE = 6  # of h in a layer computed again: the residual, the gradient from above and the linear layer's output
# Of q: gradients of output and query (2 + 2), kept query and output (4), the kernel's float32 accumulator (4)
FLASH_BACKWARD = 12
LOGSUMEXP = 4  # flash attention keeps one float32 a token and head
# Of S x S a head: the float32 softmax, and its copy in the width of the heads where that is less
EAGER_KEPT = {2: 6, 4: 4}
# The same going backward: softmax, gradient in float32, its product with the softmax (SoftMax.cu) and the result, which
# is 2 bytes in float16: there CUDA's softmax converts by itself (ATen/native/SoftMax.cpp, half_to_float)
EAGER_PEAK = {"float16": 14, "other": 16}
EAGER_SINKS = {"kept": 4, "peak": 8}  # gpt-oss: softmax in bfloat16 (modeling_gpt_oss.eager_attention_forward)
EAGER_CAPPED = 2  # more of it where scores go through a tanh, whose output is kept
# Of rows x S x S, where rows are padded: the mask as booleans, made once; as numbers, kept by each layer
SDPA_MASK, SDPA_BIAS = 1, 2
POSITIONS = 28  # bytes a token for ids, positions and labels (int64) and the norms' variances


@dataclass(frozen=True)
class Widths:
    """Bytes of one number."""

    stream: int  # in the residual stream and the MLP: 4 where norms were turned to float32
    heads: int  # in queries, keys and values
    autocast: bool  # whether linear layers take 2-byte copies of 4-byte inputs
    adapter: int  # in the adapter's weights

    @staticmethod
    def of(spec: Spec) -> Widths:
        """As `spec` computes. A loop that holds its outputs is one of the user's own: it has no autocast."""
        wide = spec.precision == "fp32" or spec.kbit_prepare
        autocast = spec.precision != "fp32" and not spec.outputs_kept
        return Widths(4 if wide else 2, 4 if wide and not autocast else 2, autocast, adapter_width(spec))


@dataclass(frozen=True)
class Adapters:
    """What adapters keep of what they read."""

    attention_in: int = 0  # adapters on q, k and v
    attention_out: int = 0  # on the output of attention
    mlp_in: int = 0  # on gate and up
    mlp_out: int = 0  # on down
    count: int = 0  # adapters in one layer
    own: int = 0  # bytes each keeps of one number of its input
    shared: int = 0  # bytes that all on the same input keep together: the input itself
    # Bytes of the input that the frozen layer keeps itself, as one of 8 bits does
    # (bitsandbytes.autograd._functions.MatMul8bitLt keeps A)
    held: int = 0
    cast: int = 0  # bytes of the input's copy in the adapter's type, alive only while the adapter computes
    dropout: bool = False  # whether inputs are dropped out

    @staticmethod
    def of(spec: Spec, geometry: Geometry, widths: Widths) -> Adapters:
        """The adapters of `spec`; none under full training."""
        if spec.tuner == "full" or spec.adapter not in SHAPES:
            return Adapters()
        parts = Counter(linear.part for linear in targeted(spec, geometry))
        converts = widths.adapter > widths.stream  # peft casts the input to the adapter's type
        copy = 2 if widths.autocast else max(widths.adapter, widths.stream)
        dropout = spec.dropout > 0
        own = 1 + copy if dropout else (copy if converts or copy < widths.stream else 0)
        return Adapters(
            **parts,
            count=sum(parts.values()),
            own=own,
            shared=0 if own else widths.stream,
            held=widths.stream if spec.bits == 8 else 0,
            cast=widths.adapter if converts and (dropout or widths.autocast) else 0,
            dropout=dropout,
        )

    def kept(self, count: int) -> int:
        """Bytes of one number that `count` adapters on the same input keep."""
        return count * self.own + max(self.shared if count else 0, self.held)


@dataclass(frozen=True)
class LayerBytes:
    """One decoder layer, in bytes."""

    kept: float  # for backward, where layers are not computed again
    peak: float  # with everything alive at the layer's worst moment, computed again
    moment: str  # that moment


def position_bytes(geometry: Geometry) -> int:
    """Bytes a token that all layers share: POSITIONS, and the cosines and sines of rotary embeddings."""
    return POSITIONS + (2 if geometry.family.sinks else 4) * geometry.head_dim


def padded(spec: Spec, rows: int) -> bool:
    """Whether attention gets a mask, and is not computed by flash attention: rows of different lengths side by side."""
    return spec.attn == "sdpa" and rows > 1 and not spec.packing and not spec.outputs_kept


def mask_bytes(spec: Spec, rows: int) -> int:
    """Bytes of the mask that all layers share."""
    numbers = rows * spec.seq_len**2
    if spec.attn == "eager":
        return Widths.of(spec).heads * numbers
    return SDPA_MASK * numbers if padded(spec, rows) else 0


def layer_bytes(spec: Spec, geometry: Geometry, rows: int, experts: bool) -> LayerBytes:
    """One layer of `rows` rows, with `experts` or without."""
    widths = Widths.of(spec)
    adapters = Adapters.of(spec, geometry, widths)
    trained = trains_layers(spec, geometry)
    hidden, tokens = geometry.hidden, rows * spec.seq_len
    norm, spared = _norms(spec, geometry)
    reads = norm + adapters.kept(adapters.attention_in)
    inside, backward = _attention(spec, geometry, widths, rows)
    inside += adapters.own * adapters.attention_out * geometry.query * tokens
    attention = reads * hidden * tokens + inside
    moments = {"backward of attention": (reads + HIDDEN_LIVE) * hidden * tokens + backward}
    if not spec.liger:  # Liger's writes its gradient over the one it is given
        moments["backward of a norm"] = attention + NORM_BACKWARD * hidden * tokens
    if spec.bits and not experts:  # the product with a weight that is 2 bytes a number for that long
        beside = (norm + adapters.kept(adapters.mlp_in) + HIDDEN_LIVE) * hidden
        beside += 4 * widths.stream * geometry.intermediate
        copy = dequantized_width(spec)
        beside += (
            0 if copy == widths.stream else copy * (hidden + geometry.intermediate)
        )  # of what goes in and comes out
        moments["a dequantized weight"] = attention + beside * tokens + copy * hidden * geometry.intermediate
    if experts:
        kept_mlp, more = _experts(geometry, norm, HIDDEN_LIVE + (2 if trained else 0))
    else:
        kept_mlp, more = _mlp(spec, geometry, widths, adapters, norm)
    moments.update({name: attention + (size - spared * hidden) * tokens for name, size in more.items()})
    moment = max(moments, key=lambda name: moments[name])
    more_held = beside_bytes(spec, geometry, tokens)
    # the outputs of the adapters' first halves, and what is held beside
    inner = 2.0 * inner_rank(spec) * adapters.count * tokens + more_held.kept
    alive = moments[moment] - spared * hidden * tokens + inner + more_held.passing
    if trained:  # a matrix's new gradient, before it is added to the one that stands there
        alive += widths.stream * hidden * max(geometry.query, geometry.intermediate, 2 * geometry.expert_width)
    return LayerBytes(attention + kept_mlp * tokens + inner, alive, moment)


def _norms(spec: Spec, geometry: Geometry) -> tuple[int, int]:
    """Bytes of h that the norms of one half of a layer keep, and how many of those are there anyway.

    What Liger's norm keeps is its input: in a layer computed again the checkpoint, or the residual.
    """
    trained = trains_norms(spec, geometry)
    if not spec.liger:
        return (NORM_TRAINED if trained else NORM) * geometry.family.norms // 2, 0
    return (LIGER_NORM + (2 if trained else 0)) * geometry.family.norms // 2, LIGER_NORM


def _attention(spec: Spec, geometry: Geometry, widths: Widths, rows: int) -> tuple[float, float]:
    """Bytes that attention keeps for backward, and those alive while it goes backward."""
    query, keys = geometry.query, geometry.keys
    tokens = rows * spec.seq_len
    if spec.attn == "eager" or padded(spec, rows) or (spec.attn == "sdpa" and spec.outputs_kept):
        keys = query  # repeated for every head, as values are (transformers' use_gqa_in_sdpa: not without a mask)
    norms = (LIGER_NORM if spec.liger else NORM) + (2 if trains_norms(spec, geometry) else 0)
    normed = norms * (query + geometry.keys) if geometry.family.qk_norm else 0
    twice = 2 * widths.heads
    kept = (twice * (query + keys) + normed + LOGSUMEXP * geometry.heads) * tokens
    if "qkv" in geometry.family.fused:
        kept += widths.heads * (query + keys) * tokens  # the values are a part of one tensor, which stays whole
    backward = (FLASH_BACKWARD + twice - 4) * query + (twice + 4) * keys + normed + LOGSUMEXP * geometry.heads
    if keys < query:
        backward += 4 * query  # the kernel writes gradients of keys and values for every query head
    if spec.attn != "eager":
        bias = SDPA_BIAS * rows * spec.seq_len**2 if padded(spec, rows) else 0
        return kept + bias, backward * tokens + bias
    scores = geometry.heads * rows * spec.seq_len**2
    each = EAGER_KEPT[widths.heads]
    peak = EAGER_PEAK["float16" if spec.precision == "fp16" and widths.heads == 2 else "other"]
    if geometry.family.sinks:
        each, peak = EAGER_SINKS["kept"], EAGER_SINKS["peak"]
    if geometry.family.capped:
        each, peak = each + EAGER_CAPPED, peak + EAGER_CAPPED
    return kept + each * scores, (twice * (query + keys) + normed + 4 * query) * tokens + peak * scores


def _mlp(
    spec: Spec, geometry: Geometry, widths: Widths, adapters: Adapters, norm: int
) -> tuple[float, dict[str, float]]:
    """Of a gated MLP and its norm, bytes a token: kept, and alive at each moment that can be the worst."""
    hidden, width, number = geometry.hidden, geometry.intermediate, widths.stream
    trained = trains_layers(spec, geometry)
    gated = (2 if spec.liger else 3) * number  # gate, up, and without Liger the activation of gate
    reads = norm + adapters.kept(adapters.mlp_in)
    product = number if trained else adapters.kept(adapters.mlp_out)
    kept = reads * hidden + (gated + product) * width
    live = reads + HIDDEN_LIVE + (0 if trained or (adapters.shared and adapters.mlp_in) else 2)
    if geometry.family.norms == 4:
        live -= norm // 2  # of the norm after the MLP, which the MLP's adapters come before
    if geometry.family.late_norms:
        live -= norm + 2
    beside, written = (LIGER_MLP, (4 if trained else 3) * number) if spec.liger else (4, 2 * gated)
    moments: dict[str, float] = {"backward of the MLP": (reads + beside) * hidden + written * width}
    if adapters.mlp_in:
        cast = adapters.cast
        moments["adapters of gate and up"] = (live + 2 * cast - 2) * hidden + (gated if cast else 4) * width
    if adapters.mlp_out:
        held = gated + number + adapters.cast + adapters.own
        moments["adapter of down, its output"] = (live + 4) * hidden + held * width
        if adapters.dropout and widths.adapter == 4:
            dropped = 4 if widths.autocast else 0  # without autocast it is the copy that is kept
            moments["adapter of down, dropout"] = live * hidden + (held + dropped) * width
    return kept, moments


def _experts(geometry: Geometry, norm: int, live: int) -> tuple[float, dict[str, float]]:
    """Of a MoE block and its norm, bytes a token, by grouped matrix products; see `_mlp`."""
    hidden, width, experts = geometry.hidden, geometry.expert_width, geometry.experts
    sent_hidden, sent_width = geometry.experts_per_token * hidden, geometry.experts_per_token * width
    shared = geometry.intermediate if geometry.moe_layers == geometry.layers else 0
    beside = 40.0 * geometry.experts_per_token + 16 * experts + 6 * shared  # the router and the shared expert
    if geometry.family.sinks:
        width_kept = 12  # gpt-oss keeps both clamps, the sigmoid and the products
        moments = {
            "activation of the experts": 2 * sent_hidden + 20 * sent_width,
            "outputs of the experts": 10 * sent_hidden + 12 * sent_width,
        }
    else:
        width_kept = 6
        moments = {
            "outputs of the experts": 8 * sent_hidden + 6 * sent_width,
            "inputs of the experts": 4 * sent_hidden + 8 * sent_width,
            "backward of the experts": 12 * sent_width,
        }
    alive = {name: (norm + live) * hidden + size + beside for name, size in moments.items()}
    return norm * hidden + 2 * sent_hidden + width_kept * sent_width + beside, alive
