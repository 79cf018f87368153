"""GRPO as TRL has it, which axolotl hands on to: rewards, vLLM, importance sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.recipes.importers.trainer import named
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, LOST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import Entry
    from tunekit.recipes.importers.trainer import Functions
    from tunekit.recipes.importers.translation import Draft

REWARDS = {
    "accuracy_reward": "accuracy",
    "reasoning_accuracy_reward": "accuracy",
    "think_format_reward": "format",
    "get_soft_overlong_punishment": "soft_overlong",
}
"""Rewards that TRL brings, and ms-swift's of the same kind."""
SCALES = {"true": "group", "false": "none"}


def _rewards(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Rewards that ms-swift has too, reward models by their names, and Python functions by their path."""
    names = [str(name) for name in (entry.value if isinstance(entry.value, list) else [entry.value])]
    ready = [REWARDS[name] for name in names if name in REWARDS]
    models = [name for name in names if "/" in name]
    own = [name for name in names if name not in REWARDS and name not in models]
    where = " ".join(f"--reward {_place(name)}" for name in own)
    why = f"{', '.join(own)}: tunekit {where}" if own else ""
    if ready or models:
        flags = {"reward_funcs": ready} if ready else {}
        draft.put(entry, why, **flags, **({"reward_model": models} if models else {}))
    else:
        draft.leave(entry, ELSEWHERE, "a Python function that gives a number for each completion", where)
    if own:
        draft.warnings.append(f"rewards in Python are not part of the command: tunekit {where}")


def _place(name: str) -> str:
    module, _, function = name.replace(":", ".").rpartition(".")
    return f"{module.replace('.', '/') or 'rewards'}.py:{function}"


def _scale_rewards(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Words of today, true and false of older releases."""
    word = str(entry.value).lower()
    draft.put(entry, scale_rewards=SCALES.get(word, word))


def _top_k(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """0 turns it off there, -1 here."""
    draft.put(entry, top_k=entry.value or -1)


def uses_vllm(values: Mapping[str, Any]) -> bool:
    """Whether completions come from vLLM."""
    return bool(values.get("use_vllm") or values.get("trl.use_vllm"))


def _vllm_mode(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """ms-swift wants it written beside use_vllm."""
    if uses_vllm(values):
        draft.put(entry, vllm_mode=entry.value)
    elif values.get(entry.key):
        draft.leave(entry, DEFAULT, "no vLLM is used")


def _vllm_memory(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """The part of the GPU that vLLM takes where it runs beside the training."""
    if uses_vllm(values):
        draft.put(entry, vllm_gpu_memory_utilization=entry.value)


def _sleep(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Whether vLLM gives its memory back while the model trains."""
    draft.put(entry, sleep_level=1 if entry.value else 0)


def _importance(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """The correction for the difference between vLLM's probabilities and the model's; on in TRL, off in ms-swift."""
    head = "trl." if entry.key.startswith("trl.") else ""
    name = entry.key.removeprefix(head)
    off = values.get(f"{head}vllm_importance_sampling_correction") is False
    if not uses_vllm(values) or off:
        draft.leave(entry, DEFAULT, "no correction is asked for")
    elif name in ("vllm_importance_sampling_cap", "vllm_importance_sampling_clip_max"):
        draft.put(entry, rollout_importance_sampling_threshold=entry.value)
    elif name == "vllm_importance_sampling_mode":
        draft.put(entry, rollout_importance_sampling_mode=entry.value)
    else:
        mode = values.get(f"{head}vllm_importance_sampling_mode") or "sequence_mask"
        most = values.get(f"{head}vllm_importance_sampling_clip_max") or values.get(
            f"{head}vllm_importance_sampling_cap"
        )
        flags = {"rollout_importance_sampling_mode": mode, "rollout_importance_sampling_threshold": most or 3.0}
        draft.put(entry, **flags)


def _aggregation(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """ms-swift adds the rewards, then scales."""
    same = entry.value == "sum_then_normalize"
    draft.leave(entry, DEFAULT if same else LOST, "ms-swift adds the rewards, then scales them")


def _server(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """Where the server of vLLM listens, if no other key says it."""
    name = f"vllm_server_{entry.key.rpartition('.')[2]}"
    apart = uses_vllm(values) and values.get("trl.vllm_mode") == "server"
    if values.get(f"trl.{name}") or not apart:
        draft.leave(entry, DEFAULT, f"trl.{name} says it" if apart else "no server of vLLM is used")
    else:
        draft.put(entry, **{name: entry.value})


FUNCTIONS: Functions = named(
    _rewards, _scale_rewards, _top_k, _vllm_mode, _vllm_memory, _sleep, _importance, _aggregation, _server
)
