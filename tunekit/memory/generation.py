"""What stages hold that train on answers of their own: while these are written, scored and answered by a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.memory.companions import REWARD, TEACHER, companions
from tunekit.memory.forward import between_steps, forward_bytes
from tunekit.memory.losses import SCORED, final_states, scored_bytes
from tunekit.memory.spec import loss_tokens
from tunekit.memory.states import base_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.memory.companions import Companion
    from tunekit.memory.geometry import Geometry
    from tunekit.memory.spec import Spec

SAMPLED = 14
"""Bytes of one word's chance for one answer: the logit in 2 and 4 bytes, by temperature, and its probability
(transformers.generation.utils, _sample)."""
READ, WRITTEN = "reading the prompts", "writing answers"
PROBABILITIES, ROLLOUT = "log-probabilities of the answers", "logits of the answers that were written"

Moments = dict[str, dict[str, float]]


def rollout_moments(spec: Spec, geometry: Geometry) -> Moments:
    """What comes and goes before a step on answers that the model wrote, by moment, in bytes; `Spec.longest` tokens."""
    if not (spec.kind.generates and spec.completion_len):
        return {}
    rows = max(spec.micro_batch, spec.generations)
    if spec.kind.value_model:
        return _policy_rollout(spec, geometry, rows)
    found = {} if spec.vllm_mode else writing_moments(spec, geometry, rows)
    found |= scoring_moments(spec, geometry, rows, spec.micro_batch)
    return found


def writing_moments(spec: Spec, geometry: Geometry, rows: int, more: float = 0.0) -> Moments:
    """What so many answers take while transformers writes them, all in one cache that grows by a token.

    ms-swift hands all rows to one call (rollout_mixin.py, TransformersEngine with max_batch_size 0). `more` are bytes
    of logits that are kept. Under ZeRO-3 the whole model is gathered for it (``ds3_gather_for_generation``).
    """
    rest, length = between_steps(spec, geometry), spec.seq_len
    prompt = max(1, length - spec.completion_len)
    whole = base_bytes(spec, geometry) * (1 - 1 / spec.gpus) if spec.zero_stage == 3 else 0.0
    key = 2 * geometry.keys * rows  # bytes of one token's keys in one layer
    copies = 2 * key if spec.attn == "flash" else 4 * geometry.query * rows
    rest["weights"] = whole
    return {
        READ: {
            **rest,
            "cache": 2.0 * key * geometry.layers * prompt,
            "layer": forward_bytes(spec, geometry, rows, prompt),
            "logits": more,
        },
        WRITTEN: {
            **rest,
            "cache": 2.0 * key * geometry.layers * length,
            "layer": float((copies + key) * length),  # of one layer: repeated for every head, and the longer keys
            "logits": float(SAMPLED * geometry.vocab * rows) + more,
        },
    }


def scoring_moments(spec: Spec, geometry: Geometry, rows: int, micro: int) -> Moments:
    """What is held while written answers are scored: by reward models all at once, by the model a micro-batch at once.

    Under grpo the log-probabilities of the model as it was, and of the reference, are always taken, with whole logits,
    also under Liger (grpo_trainer.py, _prepare_batch_inputs).
    """
    rest, length = between_steps(spec, geometry), spec.seq_len
    found: Moments = {}
    beside = companions(spec)
    scorers = [forward_bytes(one.spec, one.geometry, rows, length) for one in beside if one.role == REWARD]
    if scorers:  # one after the other
        found[REWARD] = {**rest, "layer": max(scorers)}
    for one in beside:
        if one.role == TEACHER and not spec.kind.teacher:
            found |= _answered(one, one.spec, one.geometry, micro, rest)
    if spec.kind.scored_by == "functions":
        found |= _answered(None, spec, geometry, micro, rest)
    return found


def _answered(who: Companion | None, spec: Spec, geometry: Geometry, rows: int, rest: Mapping[str, float]) -> Moments:
    """Log-probabilities of so many rows by the model or a companion, which may come for it alone."""
    lossy, name = loss_tokens(spec, rows), f"{PROBABILITIES}{f', {who.role}' if who else ''}"
    logits = scored_bytes(rows) * geometry.vocab * lossy + final_states(spec, geometry, rows * spec.seq_len) / 2
    comes = {} if who is None or who.stays else {"weights": base_bytes(spec, geometry) / who.shares}
    layer = forward_bytes(spec, geometry, rows, spec.seq_len)
    return {name: {**rest, **comes, "logits": logits}, f"{name}, a layer": {**rest, **comes, "layer": layer}}


def teacher_moments(spec: Spec, student: Mapping[str, float], rows: int) -> Moments:
    """What is held while a teacher answers beside the student's activations and logits, under distillation.

    `student` is what stands there anyway: checkpoints, gradients and workspaces.
    """
    found: Moments = {}
    for one in companions(spec):
        if one.role == TEACHER and spec.kind.teacher:
            lossy = loss_tokens(spec, rows)
            logits = (4 + SCORED) * one.geometry.vocab * lossy * (not spec.fused_loss)
            comes = {} if one.stays else {"weights": base_bytes(one.spec, one.geometry) / one.shares}
            layer = forward_bytes(one.spec, one.geometry, rows, spec.seq_len)
            found["the teacher answers"] = {**student, **comes, "logits": float(logits), "layer": layer}
    return found


def _policy_rollout(spec: Spec, geometry: Geometry, rows: int) -> Moments:
    """PPO's rollout: logits of every answer in float32 stay until all are scored, and are copied once when they are
    laid together (trl 0.29, experimental/ppo/ppo_trainer.py, batch_generation); whole rows get logits of the reference,
    and the hidden states of every layer are kept for them (forward, output_hidden_states).
    """  # noqa: D205
    rest, length = between_steps(spec, geometry), spec.seq_len
    answer, part = min(spec.completion_len, length), min(rows, spec.local_rollout_forward_batch_size)
    logits = 4.0 * geometry.vocab * answer
    found = writing_moments(spec, geometry, part, more=logits * rows)
    found[WRITTEN]["logits"] += logits * part  # the words' chances, and once more as one tensor
    found[ROLLOUT] = {**rest, "logits": 2 * logits * rows}
    states = 2 * geometry.hidden * (geometry.layers + 1) * part * length
    found[PROBABILITIES] = {
        **rest,
        "layer": forward_bytes(spec, geometry, part, length) + states,
        "logits": logits * rows + 2.0 * geometry.vocab * part * length,
    }
    for one in companions(spec):
        if one.role == REWARD:
            kept = 2 * one.geometry.hidden * (one.geometry.layers + 1) * part * length
            layer = forward_bytes(one.spec, one.geometry, part, length) + kept
            found[REWARD] = {**rest, "layer": layer, "logits": logits * rows}
    return found
