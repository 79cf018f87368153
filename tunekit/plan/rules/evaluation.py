"""What evaluating during training asks of a plan: something to evaluate on, steps that meet, a batch that divides."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.plan.rules.rule import Rule, Warn
from tunekit.plan.settings import Setting, Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunekit.plan.configuration import Configuration
    from tunekit.plan.plan import Plan
    from tunekit.plan.settings import Value

EVALUATES = (
    *("eval_steps", "eval_strategy", "eval_on_start", "eval_delay", "eval_metric", "eval_accumulation_steps"),
    *("do_eval", "per_device_eval_batch_size", "num_generations_eval", "predict_with_generate"),
    *("metric_for_best_model", "early_stop_interval"),
)
"""Flags that mean nothing where there is nothing to evaluate on: then ms-swift sets ``eval_strategy`` to ``no``."""

OF_PRESETS = ("preset", "overlay", "stage")
"""Sources of settings that were written for runs with and without an evaluation."""

VALIDATION = "--val_dataset FILE, or --val-split 0.01 (of ms-swift: --split_dataset_ratio)"

SAVE_STEPS = 500
"""ms-swift's ``save_steps`` where nothing sets it (transformers training_args.py)."""

EVAL_BATCH, EVAL_GENERATIONS = "per_device_eval_batch_size", "num_generations_eval"


def _idle(plan: Configuration) -> list[str]:
    """Flags of an evaluation that will not be."""
    if plan.validated or plan.get("eval_strategy") == "no":
        return []
    return [flag for flag in EVALUATES if plan.get(flag) not in (None, False, "no", 0)]


def _of_preset(plan: Configuration, flag: str) -> bool:
    return plan.settings[flag].source.kind in OF_PRESETS


def _asked(plan: Configuration) -> list[str]:
    return [flag for flag in _idle(plan) if not _of_preset(plan, flag)]


def _kept(flag: str) -> Callable[[Configuration], Value | None]:
    return lambda plan: None if flag in _idle(plan) and _of_preset(plan, flag) else plan.get(flag)


def _misses_saves(plan: Configuration) -> bool:
    """Whether a checkpoint would be written without an evaluation that says how good it is."""
    saves = plan.text("save_strategy", "steps")
    if not plan.flag("load_best_model_at_end") or saves == "best":
        return False
    if plan.text("eval_strategy", saves) != saves:
        return True
    save_steps = plan.number("save_steps", SAVE_STEPS)
    eval_steps = plan.number("eval_steps", save_steps)
    if saves != "steps" or eval_steps <= 0:
        return False
    if (save_steps < 1) != (eval_steps < 1):
        return True
    scale = 1 if eval_steps >= 1 else 1_000_000
    return round(save_steps * scale) % max(1, round(eval_steps * scale)) != 0


EVALUATION_RULES = (
    Rule(
        "nothing-to-evaluate",
        when=lambda plan: any(_of_preset(plan, flag) for flag in _idle(plan)),
        change={flag: _kept(flag) for flag in EVALUATES},
        why="there is nothing to evaluate on",
        source="ms-swift 4.6 sft_args.py: eval_strategy becomes no",
        quiet=True,
    ),
    Rule(
        "best-not-evaluated",
        when=lambda plan: plan.flag("load_best_model_at_end") and not plan.evaluates,
        refuse=True,
        why="--load_best_model_at_end needs an evaluation that says which checkpoint is the best, and there is none",
        hint=VALIDATION,
        source="transformers 5 training_args.py: requires the save and eval strategy to match",
    ),
    Rule(
        "best-at-other-steps",
        when=_misses_saves,
        refuse=True,
        why="--load_best_model_at_end needs an evaluation at every save: the same strategy for both, and --save_steps "
        "a multiple of --eval_steps",
        hint="leave --eval_steps out: then it is evaluated wherever it is saved",
        source="transformers 5 training_args.py: requires the saving steps to be a round multiple",
    ),
    Rule(
        "plateau-not-evaluated",
        when=lambda plan: plan.get("lr_scheduler_type") in ("reduce_lr_on_plateau", "greedy") and not plan.evaluates,
        refuse=True,
        why="this --lr_scheduler_type follows the loss of evaluations, and there is none",
        hint=f"{VALIDATION}; or another --lr_scheduler_type",
        source="transformers 5 training_args.py: requires an eval strategy",
    ),
)
"""Spliced into `tunekit.plan.rules.table.RULES`, as the warnings below into its `WARNINGS`."""

EVALUATION_WARNINGS = (
    Warn(
        lambda plan: bool(plan.words("val_dataset")) and plan.number("split_dataset_ratio", 0) > 0,
        "there is a --val-dataset, so nothing is split off the rows: --val-split does nothing",
    ),
    Warn(
        lambda plan: bool(_asked(plan)),
        f"{{flags}}: there is nothing to evaluate on, so nothing is evaluated; add {VALIDATION}",
        lambda plan: {"flags": " and ".join(f"--{flag}" for flag in _asked(plan))},
    ),
)


def solve_evaluation(plan: Plan) -> Plan:
    """The plan with an evaluation whose batch holds whole prompts, where a stage writes several answers to each.

    ms-swift wants ``per_device_eval_batch_size`` × processes to be divisible by ``num_generations_eval``, which is
    ``num_generations`` where nothing says otherwise (rlhf_trainers/args_mixin.py). As many rows are evaluated at once
    as the training computes, or fewer answers a prompt are written. Raises TunekitError where both were typed.
    """
    answers = plan.whole("num_generations", plan.stage.generations)
    if plan.stage.generations <= 1 or answers <= 1 or not plan.evaluates:
        return plan
    world, rows = plan.hardware.world, plan.whole(EVAL_BATCH, 1)
    wanted = plan.whole(EVAL_GENERATIONS, answers)
    if wanted < 1 or rows * world % wanted == 0:
        return plan
    step = math.lcm(world, wanted) // world
    if not plan.typed(EVAL_BATCH):
        most = max(rows, plan.batch.micro)
        if step <= most or plan.typed(EVAL_GENERATIONS):
            why = f"with {world} {plan.hardware.device}{'s' * (world > 1)} it holds whole prompts of {wanted} answers"
            return _with(plan, EVAL_BATCH, max(step, rows // step * step), why)
        rows = most
    elif plan.typed(EVAL_GENERATIONS):
        raise TunekitError(
            f"--{EVAL_BATCH} {rows} × {world} is no multiple of --{EVAL_GENERATIONS} {wanted}",
            f"--{EVAL_BATCH} {step} holds whole prompts; ms-swift evaluates no parts of them",
        )
    plan = plan if plan.get(EVAL_BATCH) == rows else _with(plan, EVAL_BATCH, rows, "as many rows as in training")
    fewer = math.gcd(rows * world, answers)
    return _with(plan, EVAL_GENERATIONS, fewer, f"so that {rows * world} rows hold whole prompts")


def _with(plan: Plan, flag: str, value: int, why: str) -> Plan:
    return plan.with_settings({flag: Setting(value, Source("rule", "evaluation-batch"), why)})
