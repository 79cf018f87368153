"""What the loss holds, from the last norm to the gradients of the logits: bytes of one logit, read off traces.

The traces ran the functions of ms-swift 4.6 and trl 0.29 that make each loss on fake tensors, forward and backward, and
followed every storage; what stands here or in `tunekit.stages` is the whole number that they came to.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from tunekit.memory.activations import Widths
from tunekit.memory.spec import loss_tokens
from tunekit.memory.tuners import trains_head
from tunekit.stages import REWARD_MODEL

if TYPE_CHECKING:
    from tunekit.memory.geometry import Geometry
    from tunekit.memory.spec import Spec

SOFTCAP = 2
"""A tanh that the logits went through keeps its output."""

SCORED, SUMMED = 6, 4
"""Of a logit whose log-probability is wanted and no gradient: 2 bytes and its float32 copy; then the float32 one, and
of one row more the exponentials (trl.trainer.utils.selective_log_softmax; torch.logsumexp on CUDA)."""


class Divergence(NamedTuple):
    """Bytes of one logit of the student where a teacher is followed (ms-swift's rlhf_trainers/gkd_loss.py)."""

    whole: int  # of each token: both models' logits, those selected, those by temperature, and log-probabilities kept
    chunk: int  # more of those in the chunk of 512 that is computed
    eval_whole: int  # the same without gradients
    eval_chunk: int
    liger: int  # of every token under Liger, which chunks by rows (liger_kernel/chunked_loss, 0.8.5)


DIVERGENCES = {0.0: Divergence(32, 12, 24, 20, 28), 1.0: Divergence(36, 8, 24, 20, 28)}
BETWEEN = Divergence(52, 8, 24, 28, 46)
"""By ``--beta``: the two that look from one side, and all between; ms-swift's default is 0.5."""

TOP = 12
"""Of one logit where only the teacher's highest are compared (``gkd_logits_topk``)."""

CHUNK = 512
"""Tokens that are compared at once (jsd_loss)."""

PIECE, PIECE_ROWS = 4096, 2048
"""Words and tokens that Liger's GRPO loss computes at once, a row at a time: 8 bytes each, and for a trained head a
gradient in float32 and one in its own type (liger_kernel/chunked_loss/fused_linear_ppo.py)."""


def final_states(spec: Spec, geometry: Geometry, tokens: int) -> float:
    """Bytes of the last hidden states while the loss is computed."""
    return (8 if trains_head(spec, geometry) else 4) * geometry.hidden * tokens


def loss_bytes(spec: Spec, geometry: Geometry, rows: int) -> float:
    """Bytes from the last norm to the loss, of a micro-batch of so many rows that is trained on."""
    lossy = loss_tokens(spec, rows)
    states = final_states(spec, geometry, rows * spec.seq_len)
    if spec.kind.gives == REWARD_MODEL:
        return states  # a head of one number
    if spec.fused_loss:
        return states + _fused_bytes(spec, geometry, rows, lossy)
    each = _distilled(spec, lossy) if spec.kind.teacher and spec.kind.rlhf_type else spec.kind.logit_bytes
    each += Widths.of(spec).stream if spec.outputs_kept else 0
    each += SOFTCAP if geometry.softcap else 0
    return each * geometry.vocab * lossy + states


def eval_loss_bytes(spec: Spec, geometry: Geometry, rows: int) -> float:
    """The same of rows that are evaluated, without gradients; Liger spares them where `Spec.eval_logits` is off."""
    lossy = loss_tokens(spec, rows)
    states = 4 * geometry.hidden * rows * spec.seq_len
    if spec.kind.gives == REWARD_MODEL or (spec.fused_loss and not spec.kind.rlhf_type and not spec.eval_logits):
        return states
    each = spec.kind.eval_logit_bytes
    if spec.kind.rlhf_type:
        each = scored_bytes(rows) if each <= SCORED else each
        each = _distilled(spec, lossy, learns=False) if spec.kind.teacher else each
    return each * geometry.vocab * lossy + states


def scored_bytes(rows: int) -> float:
    """Bytes of one logit of so many rows whose log-probabilities are taken without gradients."""
    return max(SCORED, SUMMED + 4 / rows)


def _fused_bytes(spec: Spec, geometry: Geometry, rows: int, lossy: int) -> float:
    """Bytes of a loss that Liger computes from the hidden states, in pieces or not."""
    hidden, vocab, full = geometry.hidden, geometry.vocab, trains_head(spec, geometry)
    if spec.kind.teacher:  # a gradient of the head is made, whether it is trained or not
        return _divergence(spec).liger * vocab * rows * spec.seq_len + (0 if full else 2 * vocab * hidden)
    if spec.kind.generates:
        answer = min(PIECE_ROWS, math.ceil(lossy / rows))
        return 8 * PIECE * answer + 2 * hidden * lossy + (4 * vocab * hidden if full else 0)
    # liger_kernel.ops.fused_linear_cross_entropy: as many chunks as the vocabulary is wider than the model.
    chunk: int = 2 ** math.ceil(math.log2(max(1, math.ceil(lossy / math.ceil(vocab / hidden)))))
    return 2 * min(chunk, lossy) * vocab + 2 * hidden * lossy


def _divergence(spec: Spec) -> Divergence:
    return BETWEEN if spec.beta is None else DIVERGENCES.get(float(spec.beta), BETWEEN)


def _distilled(spec: Spec, tokens: int, *, learns: bool = True) -> float:
    """Bytes of one logit of the student beside a teacher."""
    if spec.gkd_logits_topk:
        return TOP
    found, share = _divergence(spec), min(1.0, CHUNK / tokens)
    return found.whole + found.chunk * share if learns else found.eval_whole + found.eval_chunk * share
