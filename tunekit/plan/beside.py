"""Plan → memory: answers that a run writes, models beside the one that it trains, and its evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.memory.geometry import Geometry
from tunekit.plan.deepspeed import zero_stage_of
from tunekit.plan.models.config import config_of
from tunekit.plan.models.find import resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.plan.configuration import Configuration

VLLM_DEFAULT = 0.9
"""ms-swift's ``vllm_gpu_memory_utilization`` (rlhf_trainers/args_mixin.py)."""

ANSWER, EVALUATED_ANSWER = 512, 64
"""Tokens of an answer: ms-swift's ``max_completion_length`` in RLHF, and ``max_new_tokens`` of an evaluation that
writes (rlhf_args.py, sft_args.py)."""

ANSWER_FLAGS = ("response_length", "max_new_tokens", "max_completion_length")
"""The first that is set counts, for all three (rlhf_args.py, _init_max_completion_length)."""

ON_POLICY = 0.5
"""Share of the steps on answers of one's own under distillation (``lmbda``, rlhf_args.py)."""

STAND_IN = "-"
"""A model that is named only so that a stage can be planned; see `tunekit.stages.Stage.stand_ins`."""


def stage_fields(what: Configuration) -> dict[str, Any]:
    """What `tunekit.memory.stage_fields.StageFields` holds, of a configuration."""
    writes = _answer_length(what)
    use_hf, taught = what.flag("use_hf"), _teacher_names(what)
    teachers, unknown = _known(taught, use_hf=use_hf)
    rewards, unknown_rewards = _known(_reward_names(what), use_hf=use_hf)
    if not what.stage.value_model:  # of PPO's the value model is counted, too: both as large as the policy
        unknown += unknown_rewards
    asleep = writes and _sleeps(what)
    return {
        "completion_len": writes,
        "generations": _generations(what) if writes and what.stage.generates else 0,
        "local_rollout_forward_batch_size": what.whole("local_rollout_forward_batch_size", 64),
        "beta": what.number("beta", 0.5) if what.get("beta") is not None else None,
        "vllm_mode": what.text("vllm_mode") or None if what.flag("use_vllm") else None,
        "vllm_gib": _share(what) * what.hardware.gpu_gib if asleep else 0.0,
        "sleep_level": what.whole("sleep_level", 0) if asleep else 0,
        "teacher": teachers[0] if teachers else None,
        "teacher_zero_stage": zero_stage_of(teacher) if (teacher := what.text("teacher_deepspeed")) else None,
        "teacher_offload": what.flag("offload_teacher_model"),
        "teacher_elsewhere": what.stage.teacher and not taught,
        "gkd_logits_topk": what.whole("gkd_logits_topk", 0),
        "rewards": tuple(rewards),
        "unknown_models": unknown,
        "evaluates": what.evaluates,
        "eval_batch": what.whole("per_device_eval_batch_size", 1),
        "eval_generates": what.flag("predict_with_generate"),
    }


def vllm_share(what: Configuration) -> float:
    """Share of each GPU, 0 to 1, that vLLM keeps from the training, which it does not where it sleeps meanwhile."""
    return 0.0 if _sleeps(what) else _share(what)


def names_beside(what: Configuration) -> list[str]:
    """The models with weights of their own that a run loads beside the one that it trains, as they are named."""
    return [*_reward_names(what), *_teacher_names(what)]


def _reward_names(what: Configuration) -> list[str]:
    return [name for name in what.words("reward_model") if name != STAND_IN] if what.stage.scored_by else []


def _teacher_names(what: Configuration) -> list[str]:
    """The teacher, where it is loaded; the trained model without its adapter can be one (rlhf_args, _check_teacher)."""
    name = what.text("teacher_model")
    if not what.stage.generates or what.stage.value_model or not name:
        return []
    own = name == what.model.id and not what.full and not what.get("teacher_adapters")
    return [] if own else [name]


def _share(what: Configuration) -> float:
    """Share of each GPU that vLLM takes where it writes the answers on the same one."""
    if not what.flag("use_vllm") or what.get("vllm_mode") != "colocate":
        return 0.0
    return what.number("vllm_gpu_memory_utilization", VLLM_DEFAULT)


def _sleeps(what: Configuration) -> bool:
    """Whether vLLM gives its share back while the model trains (rlhf_args.py, _init_grpo)."""
    return bool(_share(what)) and what.whole("sleep_level", 0) > 0 and not what.flag("async_generate")


def _answer_length(what: Configuration) -> int:
    """Tokens of the answers that the model itself writes; 0 where it writes none."""
    if not what.stage.generates:
        return what.whole("max_new_tokens", EVALUATED_ANSWER) if what.flag("predict_with_generate") else 0
    if what.stage.teacher and what.number("lmbda", ON_POLICY) <= 0:
        return 0
    return next((found for flag in ANSWER_FLAGS if (found := what.whole(flag))), ANSWER)


def _generations(what: Configuration) -> int:
    """Answers that one GPU writes before it trains on them (args_mixin.py, _init_generation_batch_params)."""
    whole = what.whole("generation_batch_size")
    if whole and not what.stage.value_model:
        return max(1, whole // what.hardware.world)
    steps = None if what.stage.value_model else what.whole("steps_per_generation")
    return what.batch.micro * (steps or what.batch.accumulation)


def _known(names: list[str], *, use_hf: bool) -> tuple[list[Mapping[str, Any]], tuple[str, ...]]:
    """The config.json of each, and the names of those whose shape is not known."""
    found = [(name, _config(name, use_hf=use_hf)) for name in names]
    return [config for _, config in found if config], tuple(name for name, config in found if not config)


def _config(name: str, *, use_hf: bool) -> Mapping[str, Any] | None:
    """The config.json of a model beside the trained one, where its shape is known here and has a formula."""
    try:
        found = config_of(resolve(name, use_hf=use_hf))
        Geometry.from_config(found)
    except TunekitError:
        return None
    return found
