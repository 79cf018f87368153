"""What an evaluation holds while the training waits: rows of its own batch, without gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tunekit.memory.forward import between_steps, forward_bytes
from tunekit.memory.generation import scoring_moments, writing_moments
from tunekit.memory.losses import eval_loss_bytes

if TYPE_CHECKING:
    from tunekit.memory.generation import Moments
    from tunekit.memory.geometry import Geometry
    from tunekit.memory.spec import Spec

EVALUATION = "evaluation"
"""With this word begins the name of every moment of one."""


def evaluation_moments(spec: Spec, geometry: Geometry) -> Moments:
    """What comes and goes while rows are evaluated, by moment, in bytes (transformers.Trainer, prediction_step).

    It comes after a step, so that no gradients stand there; the optimizer's states do. Rows are as long as in training.
    """
    if not spec.evaluates:
        return {}
    stage, rows = spec.kind, spec.eval_batch * (2 if spec.kind.rows.pairs else 1)
    rest = between_steps(spec, geometry)
    found: Moments = {}
    if spec.completion_len and (stage.generates or spec.eval_generates) and not spec.vllm_mode:
        longer = spec if stage.generates else replace(spec, seq_len=spec.seq_len + spec.completion_len)
        found |= writing_moments(longer, geometry, rows)
    if stage.generates and spec.completion_len and not stage.value_model:
        found |= scoring_moments(spec, geometry, rows, rows)
    if not stage.value_model and not (spec.eval_generates and not stage.rlhf_type):
        found["whole logits"] = {**rest, "logits": eval_loss_bytes(spec, geometry, rows)}
        found["a layer"] = {**rest, "layer": forward_bytes(spec, geometry, rows, spec.seq_len)}
    return {f"{EVALUATION}, {name}": moment for name, moment in found.items()}
