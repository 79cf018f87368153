"""What the stages of training ask of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.files import path_of
from tunekit.plan.rules.rule import Rule, Warn
from tunekit.stages import STAGES

if TYPE_CHECKING:
    from tunekit.plan.configuration import Configuration

PACKABLE = tuple(stage.name for stage in STAGES.values() if stage.packs and stage.rlhf_type)
"""RLHF types that ms-swift can pack (rlhf_args.py, _check_padding_free)."""

VLLM_SHARE = 0.4
"""Of the GPU, for vLLM beside the training. ms-swift's 0.9 leaves nothing to train with; its own examples of training
and generating on one GPU take 0.3 to 0.5."""

HIGHEST_PREFERENCE_RATE = 2e-5
"""Above it a learning rate suits supervised training, and seldom preferences or reinforcement learning."""

FULL_RATE = 2e-5
"""Learning rate of full training: 1e-5 to 5e-5 in the guides, whose examples take this."""

MERGE_FIRST = "merge the adapter first: tunekit merge RUN, then --model with the merged folder"


def _full_at_the_rate_of_adapters(plan: Configuration) -> bool:
    """Full training was asked for, and the learning rate is a preset's that was made for adapters."""
    rate, tuner = plan.settings.get("learning_rate"), plan.settings.get("tuner_type")
    if rate is None or tuner is None or not plan.full or not plan.hardware.gpus:
        return False
    own = rate.source.kind == "preset" and rate.source != tuner.source
    return own and plan.number("learning_rate", 0) > FULL_RATE


def _scored_by_adapter(plan: Configuration) -> bool:
    """The model that scores the answers is an adapter, or a folder that holds one."""
    folders = [path_of(name) for name in plan.words("reward_model")]
    adapter = plan.get("reward_adapters") or any((folder / "adapter_config.json").is_file() for folder in folders)
    return plan.stage.scored_by == "model" and bool(adapter)


def _unscored(plan: Configuration) -> bool:
    """Nothing scores the answers: no function or model, no environment here or behind a vLLM server, no teacher."""
    scorers = ("reward_funcs", "reward_model", "gym_env", "teacher_model", "teacher_model_server")
    scored = any(plan.get(flag) for flag in scorers) or plan.flag("use_gym_env")
    return plan.stage.scored_by == "functions" and not scored and plan.get("vllm_mode") != "server"


def _slow_without_vllm(plan: Configuration) -> bool:
    """Reward functions score the answers of a model on GPUs, which vLLM would write faster."""
    return plan.stage.scored_by == "functions" and bool(plan.hardware.gpus)


STAGE_RULES = (
    Rule(
        "full-learning-rate",
        when=_full_at_the_rate_of_adapters,
        change={"learning_rate": FULL_RATE},
        why="every weight moves, so the steps must be a tenth of those of an adapter",
        source="the Qwen-VL and LLaMA-Factory guides: 1e-5 to 5e-5",
    ),
    Rule(
        "padding-free",
        when=lambda plan: plan.packed and plan.stage.padding_free,
        change={"packing": False, "padding_free": True},
        why="the rows are written while it trains, so there is nothing to pack; no padding is computed either way",
        source="ms-swift 4.6 pipelines/train/sft.py: grpo and gkd are not packed; rlhf_args.py allows padding_free",
        same=("packing",),
    ),
    Rule(
        "packing-rlhf",
        when=lambda plan: plan.packed and bool(plan.stage.rlhf_type) and not plan.stage.packs,
        change={"packing": False},
        why=f"of the RLHF types ms-swift packs only {', '.join(PACKABLE)}",
        source="ms-swift 4.6 rlhf_args.py, _check_padding_free",
    ),
    Rule(
        "reference-adapter",
        when=lambda plan: (
            plan.stage.ref_adapters
            and plan.get("adapters") is not None
            and plan.get("ref_adapters") is None
            and not plan.full
        ),
        change={"ref_adapters": lambda plan: plan.get("adapters")},
        why="the reference model is the one that training starts from; ms-swift alone would compare with the model "
        "before that adapter was trained",
        source="ms-swift 4.6 rlhf_args.py: set both --adapters and --ref_adapters",
    ),
    Rule(
        "ppo-adapter",
        when=lambda plan: plan.stage.reference and not plan.stage.ref_adapters and plan.get("adapters") is not None,
        refuse=True,
        why="PPO cannot start from an adapter: ms-swift takes no adapter as its reference model",
        hint=MERGE_FIRST,
        source="ms-swift 4.6 pipelines/train/rlhf.py: only DPO, KTO and GRPO support ref_adapters",
    ),
    Rule(
        "full-from-adapter",
        when=lambda plan: plan.full and plan.get("adapters") is not None,
        refuse=True,
        why="full training starts from a model, not from an adapter",
        hint=MERGE_FIRST,
        source="ms-swift 4.6 pipelines/train/tuner.py",
    ),
    Rule(
        "ppo-reward-model",
        when=lambda plan: plan.stage.scored_by == "model" and plan.get("reward_model") is None,
        refuse=True,
        why="PPO needs a reward model that scores the answers",
        hint="train one with tunekit rm, merge it, then --reward_model with the merged folder; functions score in "
        "tunekit grpo --reward FILE.py:FUNCTION",
        source="ms-swift 4.6 pipelines/train/rlhf.py",
    ),
    Rule(
        "ppo-reward-functions",
        when=lambda plan: plan.stage.scored_by == "model" and plan.typed("reward_funcs"),
        refuse=True,
        why="PPO learns from a reward model, and ms-swift would ignore --reward_funcs",
        hint="functions score in tunekit grpo --reward FILE.py:FUNCTION",
        source="ms-swift 4.6 pipelines/train/rlhf.py: reward_funcs are GRPO's",
    ),
    Rule(
        "ppo-reward-adapter",
        when=_scored_by_adapter,
        refuse=True,
        why="the reward model of PPO must be a whole model: with an adapter ms-swift finds no score layer",
        hint="merge it: tunekit merge RUN, then --reward_model with the merged folder",
        source="seen on ms-swift 4.6: LlamaForCausalLM has no attribute score",
    ),
    Rule(
        "grpo-reward",
        when=_unscored,
        refuse=True,
        why="GRPO needs something that scores the answers",
        hint="--reward accuracy (ms-swift's own), --reward my/rewards.py:my_reward, or --reward_model",
        source="ms-swift 4.6 rlhf_trainers/grpo_trainer.py and rollout_mixin.py",
    ),
    Rule(
        "grpo-vllm",
        when=lambda plan: _slow_without_vllm(plan) and plan.get("use_vllm") is None and "vllm" in (plan.packages or ()),
        change={"use_vllm": True, "vllm_mode": "colocate", "vllm_gpu_memory_utilization": VLLM_SHARE},
        why=f"vLLM is installed and writes the answers many times faster; it takes {VLLM_SHARE:.0%} of the GPU",
        source="ms-swift 4.6 rlhf_trainers/args_mixin.py; its examples of colocate mode",
    ),
)
"""Spliced into `tunekit.plan.rules.table.RULES`, as the warnings below into its `WARNINGS`."""

STAGE_WARNINGS = (
    Warn(
        lambda plan: plan.stage.batch_decides,
        "this loss is averaged within a micro-batch: a retry with a smaller one keeps the effective batch but not "
        "exactly the loss",
    ),
    Warn(
        lambda plan: not plan.stage.rates and plan.number("learning_rate", 0) > HIGHEST_PREFERENCE_RATE,
        "the learning rate suits SFT; preference and reinforcement learning usually want 5e-6 to 1e-5 "
        "(--learning-rate)",
    ),
    Warn(
        lambda plan: plan.stage.epochs_only and plan.get("max_steps") is not None,
        "PPO ignores --max_steps: it goes through the data --num_train_epochs times",
    ),
    Warn(
        lambda plan: (
            plan.stage.teacher and plan.get("teacher_model") is None and plan.get("teacher_model_server") is None
        ),
        "without --teacher_model the model is its own teacher (self-distillation)",
    ),
    Warn(
        lambda plan: _slow_without_vllm(plan) and not plan.flag("use_vllm") and plan.missing("vllm"),
        "without vLLM (pip install vllm) the answers are written by transformers, which takes most of the time",
    ),
)
