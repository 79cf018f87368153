"""A pass through a model that keeps nothing for backward: evaluations, log-probabilities, prompts of answers.

Whole numbers of bytes a token and a unit of width, read off traces of such passes as those of
`tunekit.memory.activations` off training steps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tunekit.memory.activations import SDPA_BIAS, Widths, mask_bytes, padded, position_bytes
from tunekit.memory.card import cublas_workspace
from tunekit.memory.sharding import LAYER, LOSS
from tunekit.memory.states import gathered_by_moment, gradients_by_moment
from tunekit.memory.targets import targeted

if TYPE_CHECKING:
    from tunekit.memory.geometry import Geometry
    from tunekit.memory.spec import Spec

HIDDEN, HIDDEN_CAST = 8, 12
"""Of h: the residual, what a norm computes in float32, and with adapters in float32 their copy of the input."""
MLP, MLP_CAST = 6, 8
"""Of the MLP's width: gate, up and what is made of them; an adapter on the way down has a copy."""
QUERY, QUERY_CAST, KEYS = 8, 10, 4
"""Of queries and keys: before and after rotation, and the output of attention."""
EAGER_FORWARD = 10
"""Of rows x S x S a head: scores, masked scores and the softmax in float32."""
EXPERTS_HIDDEN, EXPERTS_WIDTH, EXPERTS_SENT = 8, 8, 2
"""Of what is sent to the experts: h at the moment of their outputs; or of their width with a copy of the input."""
ROUTED, ROUTES = 40, 2
"""Bytes of one choice of an expert, and of one expert a token."""


def forward_bytes(spec: Spec, geometry: Geometry, rows: int, length: int) -> float:
    """Bytes of the worst layer while so many rows of so many tokens pass, with what all layers share."""
    spec = replace(spec, seq_len=length)
    tokens, hidden, widths = rows * length, geometry.hidden, Widths.of(spec)
    wide = widths.stream / 2  # the numbers are of a stream of 2 bytes
    parts = set() if spec.tuner == "full" else {linear.part for linear in targeted(spec, geometry)}
    casts = widths.adapter > widths.stream
    reads = (HIDDEN_CAST if casts and parts else HIDDEN) * hidden
    keys = geometry.query if spec.attn == "eager" or padded(spec, rows) else geometry.keys
    query = QUERY_CAST if casts and "attention_out" in parts else QUERY
    moments = [(reads + query * geometry.query + KEYS * keys) * tokens * wide + _scores(spec, geometry, rows)]
    if geometry.moe_layers < geometry.layers:
        width = geometry.intermediate
        moments.append((reads + (MLP_CAST if "mlp_out" in parts else MLP) * width) * tokens * wide)
        if spec.bits:  # a weight of 2 bytes a number for as long as its product takes
            moments.append((reads + 4 * width) * tokens * wide + 2 * hidden * width)
    if geometry.moe_layers:
        moments.append((reads + _experts(geometry)) * tokens * wide)
    return max(moments) + position_bytes(geometry) * tokens + mask_bytes(spec, rows)


def _scores(spec: Spec, geometry: Geometry, rows: int) -> float:
    scores = rows * spec.seq_len**2
    if spec.attn == "eager":
        return EAGER_FORWARD * geometry.heads * scores
    return SDPA_BIAS * scores if padded(spec, rows) else 0


def _experts(geometry: Geometry) -> float:
    """Bytes a token of a MoE block; see `EXPERTS_HIDDEN`."""
    sent, width = (geometry.experts_per_token * size for size in (geometry.hidden, geometry.expert_width))
    shared = geometry.intermediate if geometry.moe_layers == geometry.layers else 0
    worst = max(EXPERTS_HIDDEN * sent, EXPERTS_SENT * sent + EXPERTS_WIDTH * width)
    return worst + ROUTED * geometry.experts_per_token + ROUTES * geometry.experts + MLP_CAST * shared


def between_steps(spec: Spec, geometry: Geometry) -> dict[str, float]:
    """What comes and goes and is there between two steps: gradients in buckets alone, workspaces, a gathered layer."""
    dropped = replace(spec, accumulates=False, liger=False)
    return {
        "gradients": gradients_by_moment(dropped, geometry)[LOSS],
        "other": 2.0 * cublas_workspace(spec.capability) + gathered_by_moment(spec, geometry)[LAYER],
    }
