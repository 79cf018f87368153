"""What a specification says of the answers that a model writes, of the models beside it, and of evaluations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

STAGE_CHOICES: Mapping[str, Collection[Any]] = {
    "vllm_mode": (None, "colocate", "server"),
    "sleep_level": (0, 1, 2),
    "teacher_zero_stage": (None, 0, 1, 2, 3),
}
"""Fields that take one of a few values."""

STAGE_WHOLE = ("eval_batch", "local_rollout_forward_batch_size")
"""Fields that hold a whole number of 1 or more; `STAGE_FROM_ZERO` one of 0 or more."""
STAGE_FROM_ZERO = ("completion_len", "generations", "gkd_logits_topk")
STAGE_NUMBERS = ("vllm_gib", "beta")
"""Fields that hold a number of 0 or more."""
STAGE_SWITCHES = ("teacher_offload", "teacher_elsewhere", "evaluates", "eval_generates", "eval_logits")
"""Fields that are true or false."""


@dataclass(frozen=True, kw_only=True)
class StageFields:
    """The part of a `Spec` that says what a stage holds beside the model that it trains.

    Attributes:
        completion_len: tokens of an answer that the model writes, on top of the ``seq_len`` ones of its prompt: under
            ppo, grpo and gkd in training, elsewhere in an evaluation that writes answers. 0: it writes none.
        generations: answers that one GPU writes at once, before it trains on them: micro-batch × steps_per_generation.
            0, or fewer than a micro-batch: those of one.
        local_rollout_forward_batch_size: of these, those that PPO computes at once.
        beta: weight of the reference under grpo, where 0 saves it; under gkd 0 and 1 are divergences of one side.
        vllm_mode: who writes the answers: vLLM on the same GPU or on others; None is the model itself.
        vllm_gib: what vLLM takes on the same GPU.
        sleep_level: above 0 vLLM gives that back while the model trains.
        teacher: config.json of the teacher where it has weights of its own.
        teacher_zero_stage: of DeepSpeed for the teacher; None is the one of the model.
        teacher_offload: whether the teacher leaves the GPU when it has answered.
        teacher_elsewhere: whether no teacher's weights are here: the model teaches itself, or a server does.
        gkd_logits_topk: of the teacher's logits, those that are compared; 0: all.
        rewards: config.json of each reward model; PPO's value model is as large as the first.
        unknown_models: names of models that stand there too, and whose shape is not known.
        evaluates: whether the training stops to evaluate.
        eval_batch: rows that one GPU evaluates at once.
        eval_generates: whether an evaluation writes answers (``predict_with_generate``).
        eval_logits: whether an evaluation makes logits where Liger spares them in training: transformers before 5.15
            has it so, and every one where more than the loss is asked for.
    """

    completion_len: int = 0
    generations: int = 0
    local_rollout_forward_batch_size: int = 64
    beta: float | None = None
    vllm_mode: str | None = None
    vllm_gib: float = 0.0
    sleep_level: int = 0
    teacher: Mapping[str, Any] | None = field(default=None, hash=False)
    teacher_zero_stage: int | None = None
    teacher_offload: bool = False
    teacher_elsewhere: bool = False
    gkd_logits_topk: int = 0
    rewards: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    unknown_models: tuple[str, ...] = ()
    evaluates: bool = False
    eval_batch: int = 1
    eval_generates: bool = False
    eval_logits: bool = True
