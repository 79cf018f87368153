"""TRL's trainers: whether a source is TRL's, and which of them reads it where YAML alone does not say so."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from tunekit.recipes.importers.table import rules_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import Origin

RULES = rules_in("trainer", "trl")
KINDS = {
    "sft": "",
    "dpo": "dpo",
    "kto": "kto",
    "reward": "rm",
    "reward_modeling": "rm",
    "grpo": "grpo",
    "rloo": "grpo",
    "orpo": "orpo",
    "cpo": "cpo",
    "gkd": "gkd",
}
"""What TRL trains, and the kind of RLHF that it is in ms-swift; empty for none."""
ABSENT = (
    "ppo",
    "online_dpo",
    "nash_md",
    "xpo",
    "bco",
    "prm",
    "gold",
    "distillation",
    "sdft",
    "sdpo",
    "tpo",
    "async_grpo",
)
"""What TRL trains and ms-swift does not, or in another way altogether."""
SIGNS: Mapping[str, frozenset[str]] = {
    "grpo": frozenset(
        {
            "reward_funcs",
            "reward_weights",
            "num_generations",
            "max_completion_length",
            "num_iterations",
            "epsilon",
            "epsilon_high",
            "scale_rewards",
            "use_vllm",
            "vllm_mode",
            "generation_batch_size",
            "steps_per_generation",
            "mask_truncated_completions",
            "importance_sampling_level",
            "temperature",
            "reward_model_name_or_path",
            "log_completions",
        }
    ),
    "rloo": frozenset({"normalize_advantages", "reward_clip_range"}),
    "kto": frozenset({"desirable_weight", "undesirable_weight"}),
    "reward": frozenset({"center_rewards_coefficient"}),
    "cpo": frozenset({"cpo_alpha", "simpo_gamma"}),
    "gkd": frozenset({"lmbda", "seq_kd", "teacher_model_name_or_path"}),
    "dpo": frozenset(
        {
            "beta",
            "label_smoothing",
            "precompute_ref_log_probs",
            "loss_weights",
            "ld_alpha",
            "f_divergence_type",
            "rpo_alpha",
            "use_weighting",
            "reference_free",
            "discopop_tau",
            "force_use_ref_model",
            "precompute_ref_batch_size",
        }
    ),
    "sft": frozenset(
        {
            "packing",
            "packing_strategy",
            "eval_packing",
            "dataset_text_field",
            "completion_only_loss",
            "assistant_only_loss",
            "padding_free",
            "max_seq_length",
        }
    ),
}
"""Keys that only some of TRL's trainers have; where as many speak for two, the first counts."""
SERVES = ("vllm-serve", "chat", "env", "skills")
"""What is called beside a training."""


def likeness_to_trl(source: Origin) -> int:
    """A call of trl or of one of its scripts, or a file with a model and keys that only TRL has."""
    if source.program[:1] == ("trl",):
        return 0 if source.program[1:2] and source.program[1] in SERVES else 100
    if source.program:
        return 80 if names_trainer(source) and _looks_like(source) else 0
    return min(75, 35 + 10 * _signs(source)) if _looks_like(source) else 0


def _looks_like(source: Origin) -> bool:
    keys = {entry.key for entry in source.entries}
    return "model_name_or_path" in keys and bool(keys & {"dataset_name", "datasets"}) and "data_path" not in keys


def _signs(source: Origin) -> int:
    return len({entry.key for entry in source.entries} & own_keys())


@cache
def own_keys() -> frozenset[str]:
    """Keys that only TRL has."""
    return frozenset(RULES) - frozenset(rules_in("trainer"))


def names_trainer(source: Origin) -> str:
    """The trainer that the name of a script speaks of: ``trl/scripts/dpo.py``, ``examples/scripts/sft_vlm.py``."""
    program = source.program[0] if source.program else ""
    if program == "trl":
        return source.program[1] if len(source.program) > 1 else ""
    name = re.split(r"[/.]", program.removesuffix(".py"))[-1]
    return _trainer_in(name) if program.endswith(".py") or program.startswith("trl.") else ""


def _trainer_in(name: str) -> str:
    words = re.sub(r"[^a-z]+", "_", name.lower()).strip("_")
    fitting = [kind for kind in (*KINDS, *ABSENT) if re.search(rf"(^|_){kind}(_|$)", words)]
    return max(fitting, key=len, default="")


def trainer_of(source: Origin) -> str:
    """``sft``, ``dpo``, ``grpo``, …: by the call, else by the keys, else by the name of the file."""
    said = names_trainer(source)
    if said:
        return said
    keys = {entry.key for entry in source.entries if entry.value is not None}
    counts = {kind: len(keys & signs) for kind, signs in SIGNS.items()}
    best = max(counts, key=lambda kind: counts[kind])
    named_so = _trainer_in(source.path.stem) if source.path else ""
    if named_so in KINDS and counts.get(named_so, 0) == counts[best]:
        return named_so
    return best if counts[best] else "sft"
