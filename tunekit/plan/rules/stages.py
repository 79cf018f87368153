"""What the stages of training ask of a plan: rules of the same kind as those of `tunekit.plan.rules.table`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.plan.draft import Draft, Rule
from tunekit.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunekit.plan.settings import Value

PACKING_RLHF = tuple(stage.name for stage in STAGES.values() if stage.packs and stage.rlhf_type)
"""RLHF types that ms-swift can pack (rlhf_args.py, _check_padding_free)."""

WRITES_ROWS = ("grpo", "gkd")
"""RLHF types whose rows are encoded while they train: --packing only means --padding_free there."""

REF_ADAPTERS = tuple(stage.name for stage in STAGES.values() if stage.ref_adapters)
"""RLHF types whose reference model may be an adapter (pipelines/train/rlhf.py)."""

MICRO_BATCH_LOSSES = ("kto", "orpo")
"""Losses that average within a micro-batch: another micro-batch is another loss, by a little."""

VLLM_SHARE = 0.4
"""Of the GPU, for vLLM beside the training. ms-swift's 0.9 leaves nothing to train with; its own examples of training
and generating on one GPU take 0.3 to 0.5."""

FULL_RATE = 2e-5
"""Learning rate of full training: 1e-5 to 5e-5 in the guides, whose examples take this."""


def _full_at_the_rate_of_adapters(draft: Draft) -> bool:
    """Full training was asked for, and the learning rate is a preset's that was made for adapters."""
    rate, tuner = draft.settings.get("learning_rate"), draft.settings.get("tuner_type")
    if rate is None or tuner is None or tuner.value != "full" or not draft.hardware.gpus:
        return False
    return rate.source.startswith("preset ") and rate.source != tuner.source and float(str(rate.value)) > FULL_RATE


def _holds_adapter(value: Value | None) -> bool:
    """Whether a folder, or the first of several, holds an adapter and no model."""
    names = value if isinstance(value, list) else [str(value)] if value else []
    folders = [Path(name).expanduser() for name in names]
    return any((folder / "adapter_config.json").is_file() for folder in folders)


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
        when=lambda draft: draft.get("packing") is True and draft.loss in WRITES_ROWS,
        change={"packing": False, "padding_free": True},
        why="the rows are written while it trains, so there is nothing to pack; no padding is computed either way",
        source="ms-swift 4.6 pipelines/train/sft.py: grpo and gkd are not packed; rlhf_args.py allows padding_free",
    ),
    Rule(
        "packing-rlhf",
        when=lambda draft: draft.get("packing") is True and bool(draft.loss) and draft.loss not in PACKING_RLHF,
        change={"packing": False},
        why=f"of the RLHF types ms-swift packs only {', '.join(PACKING_RLHF)}",
        source="ms-swift 4.6 rlhf_args.py, _check_padding_free",
    ),
    Rule(
        "reference-adapter",
        when=lambda draft: (
            draft.loss in REF_ADAPTERS
            and draft.get("adapters") is not None
            and draft.get("ref_adapters") is None
            and draft.get("tuner_type") != "full"
        ),
        change={"ref_adapters": lambda draft: draft.get("adapters")},
        why="the reference model is the one that training starts from; ms-swift alone would compare with the model "
        "before that adapter was trained",
        source="ms-swift 4.6 rlhf_args.py: set both --adapters and --ref_adapters",
    ),
    Rule(
        "ppo-adapter",
        when=lambda draft: draft.loss == "ppo" and draft.get("adapters") is not None,
        refuse=True,
        why="PPO cannot start from an adapter: ms-swift takes no adapter as its reference model",
        hint="merge the adapter first: tunekit merge RUN, then --model with the merged folder",
        source="ms-swift 4.6 pipelines/train/rlhf.py: only DPO, KTO and GRPO support ref_adapters",
    ),
    Rule(
        "full-from-adapter",
        when=lambda draft: draft.get("tuner_type") == "full" and draft.get("adapters") is not None,
        refuse=True,
        why="full training starts from a model, not from an adapter",
        hint="merge the adapter first: tunekit merge RUN, then --model with the merged folder",
        source="ms-swift 4.6 pipelines/train/tuner.py",
    ),
    Rule(
        "ppo-reward-model",
        when=lambda draft: draft.loss == "ppo" and draft.get("reward_model") is None,
        refuse=True,
        why="PPO needs a reward model that scores the answers",
        hint="train one with tunekit rm, merge it, then --reward_model with the merged folder",
        source="ms-swift 4.6 pipelines/train/rlhf.py",
    ),
    Rule(
        "ppo-reward-adapter",
        when=lambda draft: (
            draft.loss == "ppo" and (bool(draft.get("reward_adapters")) or _holds_adapter(draft.get("reward_model")))
        ),
        refuse=True,
        why="the reward model of PPO must be a whole model: with an adapter ms-swift finds no score layer",
        hint="merge it: tunekit merge RUN, then --reward_model with the merged folder",
        source="seen on ms-swift 4.6: LlamaForCausalLM has no attribute score",
    ),
    Rule(
        "grpo-reward",
        when=lambda draft: draft.loss == "grpo" and not draft.get("reward_funcs") and draft.get("reward_model") is None,
        refuse=True,
        why="GRPO needs something that scores the answers",
        hint="--reward accuracy (ms-swift's own), --reward my/rewards.py:my_reward, or --reward_model",
        source="ms-swift 4.6 rlhf_trainers/grpo_trainer.py",
    ),
    Rule(
        "grpo-vllm",
        when=lambda draft: (
            draft.loss == "grpo"
            and bool(draft.hardware.gpus)
            and draft.get("use_vllm") is None
            and draft.packages is not None
            and "vllm" in draft.packages
        ),
        change={"use_vllm": True, "vllm_mode": "colocate", "vllm_gpu_memory_utilization": VLLM_SHARE},
        why=f"vLLM is installed and writes the answers many times faster; it takes {VLLM_SHARE:.0%} of the GPU",
        source="ms-swift 4.6 rlhf_trainers/args_mixin.py; its examples of colocate mode",
    ),
)
"""Every rule of a stage; they follow those of the machine."""

STAGE_WARNINGS: tuple[tuple[Callable[[Draft], bool], str], ...] = (
    (
        lambda draft: draft.loss in MICRO_BATCH_LOSSES,
        "this loss is averaged within a micro-batch: a retry with a smaller one keeps the effective batch but not "
        "exactly the loss",
    ),
    (
        lambda draft: bool(draft.loss) and float(str(draft.get("learning_rate") or 0)) > 2e-5,
        "the learning rate suits SFT; preference and reinforcement learning usually want 5e-6 to 1e-5 "
        "(--learning-rate)",
    ),
    (
        lambda draft: draft.loss == "ppo" and draft.get("max_steps") is not None,
        "PPO ignores --max_steps: it goes through the data --num_train_epochs times",
    ),
    (
        lambda draft: (
            draft.loss == "gkd" and draft.get("teacher_model") is None and draft.get("teacher_model_server") is None
        ),
        "without --teacher_model the model is its own teacher (self-distillation)",
    ),
    (
        lambda draft: (
            draft.loss == "grpo"
            and bool(draft.hardware.gpus)
            and draft.get("use_vllm") is not True
            and draft.missing("vllm")
        ),
        "without vLLM (pip install vllm) the answers are written by transformers, which takes most of the time",
    ),
)
"""What the plan says of a stage without changing anything."""
