"""Request → Plan: the one place where layers, rules and the batch come together."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.plan import secrets, strategies
from tunekit.plan.auto import (
    FOR_MEMORY,
    LAST_RESORT,
    THE_MICRO_BATCH,
    choose_preset,
    say_what_liger_saves,
    say_what_limits,
    solve_memory,
    what_limits,
)
from tunekit.plan.batch import MAXIMUM, MINIMUM_EFFECTIVE, Batch, solve_batch
from tunekit.plan.configuration import BATCH_FLAGS
from tunekit.plan.counted import uncounted_notes
from tunekit.plan.deepspeed import check_batch_numbers, check_configurations
from tunekit.plan.images import bound_images
from tunekit.plan.measured import ROOT
from tunekit.plan.parts import check_rates
from tunekit.plan.plan import Plan, in_order
from tunekit.plan.predict import predictable
from tunekit.plan.rules.evaluation import solve_evaluation
from tunekit.plan.rules.model import check_adapters_of, check_names_of_swift
from tunekit.plan.rules.table import apply_rules
from tunekit.plan.rules.tuning import check_names
from tunekit.plan.settings import COMMAND_LINE, TUNEKIT, Setting, Source, overlaid
from tunekit.plan.trackers import known_environment, name_for_trackers, tracker_notes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.data.functions.find import Function
    from tunekit.hardware import Hardware
    from tunekit.plan.flags import FlagTable
    from tunekit.plan.models.model import Model
    from tunekit.plan.presets.shelf import Library, Preset
    from tunekit.plan.request import Request

ABOVE_ZERO = (
    *("learning_rate", "num_train_epochs", "max_length", "lora_rank", "lora_alpha", "save_steps", "eval_steps"),
    *("num_generations_eval", "per_device_eval_batch_size"),
)
"""Flags whose numbers must be above 0; ms-swift finds out after the model is loaded, or trains nothing."""

MACHINES = "--launch slurm or --launch nodes starts them (docs/clusters.md)"
DESCRIBED = "planned for the GPUs of --gpus: flash-attn and the other packages are taken to be installed there"
MODEL = Source("model")
SPLIT = "split_dataset_ratio"


@dataclass(frozen=True)
class Facts:
    """What is known beside the request. It is looked up once, and handed to every stage and preset that is tried.

    Attributes:
        environ: the environment that the run inherits.
        packages: import names that are installed; None where the machine was only described.
        liger_models: model types that liger-kernel patches.
        memory_correction: measured ÷ predicted memory of earlier runs on this machine.
        rewards: functions of the user's that score answers; `reward_names` is what ms-swift calls all that score.
        row_format: the function of the user's that makes rows.
        loss_share: of the tokens, those that carry loss, where the data was looked at.
        row_tokens: of the longest row, or of a pack, likewise.
    """

    flags: FlagTable
    shelf: Library
    environ: Mapping[str, str]
    hardware: Hardware
    packages: frozenset[str] | None
    model: Model
    liger_models: frozenset[str] = frozenset()
    memory_correction: float = 1.0
    reward_names: tuple[str, ...] = ()
    rewards: tuple[Function, ...] = ()
    row_format: Function | None = None
    loss_share: float | None = None
    row_tokens: int | None = None


def make_plan(request: Request, facts: Facts) -> Plan:
    """Decide every setting of a run. Raises TunekitError where the request contradicts itself, a rule or ms-swift."""
    if request.preset != "auto":
        return _finished(_decide(request, facts, request.preset), facts)
    micro = BATCH_FLAGS[0]
    if micro not in request.typed:
        return _finished(_chosen(request, facts), facts)
    # A micro-batch that was typed is all that it changes: the rest is decided as if it had not been.
    others = {flag: setting for flag, setting in request.typed.items() if flag != micro}
    chosen = _chosen(replace(request, typed=others), facts)
    reason = chosen.preset_reason.partition(f"; {THE_MICRO_BATCH}")[0]
    plan = _decide(request, facts, chosen.preset, reason)
    for change in chosen.changes:
        if change.by in FOR_MEMORY:
            plan = plan.changed({change.flag: change.after}, change.by, change.why)
    return _finished(plan, facts)


def _chosen(request: Request, facts: Facts) -> Plan:
    """The plan of ``--preset auto``."""
    known = predictable(facts.model)
    name, reason = choose_preset(facts.model, facts.hardware, facts.shelf, predictable=known)
    plan = _solved(_decide(request, facts, name, reason), facts)
    peak = plan.peak
    if peak is None:
        if known and facts.hardware.gpus:  # by what was asked for it cannot be predicted: the preset's own table counts
            name, reason = choose_preset(facts.model, facts.hardware, facts.shelf, predictable=False)
            plan = _decide(request, facts, name, reason)
        return plan
    if peak.safe or name == LAST_RESORT or (peak.evaluation and peak.largest_micro_batch):
        return plan  # what an evaluation takes no other preset takes less of
    needs = f"{peak.prediction.process_gib:.1f} of {peak.card_gib:.1f} GiB"
    reason = f"{name} would take {needs} with micro-batch {plan.batch.micro}"
    smallest = _solved(_decide(request, facts, LAST_RESORT, reason), facts)
    return smallest if smallest.peak and smallest.peak.fits else plan


def _solved(plan: Plan, facts: Facts) -> Plan:
    """The plan with the largest micro-batch that fits, and what limits it."""
    solved = solve_memory(plan, facts.packages, facts.liger_models)
    if solved.peak is None:
        return solved
    limit = what_limits(solved, solved.peak, plan.batch.micro)
    return replace(say_what_limits(solved, limit), preset_reason=f"{plan.preset_reason}; {limit}")


def _finished(plan: Plan, facts: Facts) -> Plan:
    """The plan with what follows from its batch: the batch of evaluations, reasons that speak of it, and notes."""
    check_batch_numbers(plan.settings, plan.batch)
    plan = say_what_liger_saves(solve_evaluation(plan))
    warnings = (*plan.warnings, *uncounted_notes(plan, facts.flags))
    return replace(plan, settings=in_order(plan.settings), warnings=warnings)


def _decide(request: Request, facts: Facts, name: str, reason: str = "") -> Plan:
    """The plan with the preset of that name, its own micro-batch as it is."""
    preset = facts.shelf.load(name)
    overlays = [facts.shelf.load_overlay(overlay) for overlay in request.overlays]
    settings = _layered(request, facts, preset, overlays)
    _check_known(settings, facts.flags, request.stage.command)
    check_names_of_swift(settings)
    check_configurations(settings)
    check_adapters_of(facts.model, settings)
    for flag, problem in facts.model.undecided:
        if flag not in settings:
            raise TunekitError(f"{facts.model.id}: {problem}", f"say which with --{flag}")
    micro = settings.pop(BATCH_FLAGS[0], None) or _wished_batch("micro", [preset, *overlays])
    plan = Plan(
        stage=request.stage,
        model=facts.model,
        hardware=facts.hardware,
        batch=Batch(1, 1),
        settings=settings,
        packages=None if facts.packages is None else tuple(sorted(facts.packages)),
        memory_correction=facts.memory_correction,
        loss_share=facts.loss_share,
        row_tokens=facts.row_tokens,
        preset=preset.name,
        preset_reason=reason,
        overlays=tuple(overlay.name for overlay in overlays),
        warnings=(facts.model.note,) if facts.model.note else (),
        engine=facts.flags.version,
        engine_installed=facts.flags.installed,
        rewards=facts.rewards,
        row_format=facts.row_format,
    )
    plan = bound_images(apply_rules(plan))
    check_names(plan)
    rates = check_rates(plan, llm_rate=request.tuning.llm_rate)
    environ = {**facts.environ, **request.env}
    plan = replace(plan, env={**request.env, **environment_of(plan, environ)})
    plan = name_for_trackers(plan, request.name or default_name(plan), request.tracked, environ)
    effective, raised = _effective(request, plan, [preset, *overlays])
    plan, given_way = _with_batch(plan, micro, effective)
    described = [DESCRIBED] if facts.hardware.described and request.launch != "slurm" else []
    if facts.hardware.nodes > 1 and request.launch == "local" and not facts.environ.get("NNODES"):
        described.append(f"{facts.hardware.nodes} machines train together: {MACHINES}")
    pictures = {ROOT: request.image_root} if request.image_root else {}
    return replace(
        plan,
        settings=in_order(plan.settings),
        env={**plan.env, **pictures},
        secrets=secrets.of_plan(plan.trackers, known_environment(environ)),
        warnings=(
            *(*request.notes, *plan.warnings, *rates, *tracker_notes(plan, environ)),
            *(*raised, *given_way, *described),
        ),
    )


def _layered(request: Request, facts: Facts, preset: Preset, overlays: list[Preset]) -> dict[str, Setting]:
    """Every setting from the strongest place that says it, before any rule."""
    typed = dict(request.typed)
    if facts.reward_names:
        typed["reward_funcs"] = Setting(list(facts.reward_names), COMMAND_LINE)
    strategy = strategies.layered(request.tuning, facts.model, request.stage, typed, overlaid(request.layers))
    why = "found in the folder: ms-swift cannot tell it by the architecture"
    found = {"model_type": facts.model.model_type, "template": facts.model.template}
    settings = overlaid(
        [
            {flag: Setting(value, MODEL, why) for flag, value in found.items() if value},
            preset.train,
            facts.shelf.load_stage(request.stage.name).train if preset.staged else {},
            facts.shelf.own_settings(preset),
            *(overlay.train for overlay in overlays),
            strategy.rates,
            *request.layers,
            {"model": Setting(facts.model.id, MODEL)},
            strategy.meaning,
            typed,
        ]
    )
    return {flag: setting for flag, setting in settings.items() if flag not in strategy.unset}


def environment_of(plan: Plan, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that a run needs beside its flags.

    Every GPU that is used is named and gets a process of its own: left to itself, ms-swift spreads one model
    over all GPUs that it sees (https://github.com/modelscope/ms-swift/issues/6438).
    """
    hardware = plan.hardware
    env: dict[str, str] = {}
    if hardware.gpus:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.device for gpu in hardware.gpus)
    if hardware.world > 1 or plan.get("deepspeed") is not None:
        env["NPROC_PER_NODE"] = str(hardware.local_world)
    if hardware.gpus:
        env["PYTORCH_CUDA_ALLOC_CONF"] = _allocator(environ.get("PYTORCH_CUDA_ALLOC_CONF", ""))
    return env


def _allocator(setting: str) -> str:
    """What the user set, with expandable segments unless they said otherwise.

    They keep freed blocks of different lengths reusable: 19.1 GiB instead of 23.8 reserved for a 7B model on
    rows of growing length. https://pytorch.org/docs/stable/notes/cuda.html#optimizing-memory-usage
    """
    if "expandable_segments" in setting:
        return setting
    return ",".join(part for part in (setting, "expandable_segments:True") if part)


def _check_known(settings: Mapping[str, Setting], flags: FlagTable, command: str) -> None:
    for flag, setting in settings.items():
        where = "" if setting.explicit else f"{setting.source}: "
        if flag in ABOVE_ZERO and isinstance(setting.value, (int, float)) and setting.value <= 0:
            raise TunekitError(f"{where}--{flag} must be above 0, not {setting.value}")
        if flag == SPLIT and isinstance(setting.value, (int, float)) and not 0 <= setting.value < 1:
            hint = "0.1 keeps a tenth of the rows; ms-swift takes no number of them"
            raise TunekitError(f"{where}--{flag} is a share from 0 to below 1, not {setting.value:g}", hint)
        try:
            flags.parse(flag, setting.render(), command)
        except TunekitError as error:
            raise TunekitError(f"{where}{error.message}", error.hint) from error


def _wished_batch(key: str, parts: list[Preset]) -> Setting:
    """The micro or effective batch of the preset, or of the last overlay that names it."""
    named = [part.batch[key] for part in parts if key in part.batch]
    return named[-1] if named else Setting(MINIMUM_EFFECTIVE if key == "effective" else 1, TUNEKIT)


def _effective(request: Request, plan: Plan, parts: list[Preset]) -> tuple[Setting, list[str]]:
    """The effective batch that is wished for, and what was raised to get there.

    An accumulation that was given, as in a command of ms-swift, counts with the micro-batch beside it on every GPU.
    """
    if not request.accumulated:
        return request.effective_batch or _wished_batch("effective", parts), []
    asked = request.accumulated * _data_parallel(plan)
    wished = Setting(max(asked, MINIMUM_EFFECTIVE), Source("batch"))
    note = f"effective batch {asked} → {wished.value} by accumulation: tunekit never trains below 32 rows a step"
    return wished, [note] if wished.value != asked else []


def _with_batch(plan: Plan, micro: Setting, effective: Setting) -> tuple[Plan, list[str]]:
    """The plan with the batch that comes nearest to what is wished, and what had to give way."""
    for name, setting in (("--micro-batch", micro), ("--effective-batch", effective)):
        if setting.whole > MAXIMUM:
            raise TunekitError(f"{name} is more than {MAXIMUM:,} rows, which no step computes")
    device, copies, wanted = plan.hardware.device, _data_parallel(plan), effective.whole
    # The batch of some stages counts answers, and must hold whole prompts.
    generations = plan.whole("num_generations", plan.stage.generations) if plan.stage.generations > 1 else 1
    if micro.explicit and not effective.explicit:  # the typed number stays, the preset's gives way, upwards
        unit = math.lcm(max(1, micro.whole) * copies, max(1, generations))
        wanted = math.ceil(wanted / unit) * unit
    batch = solve_batch(micro.whole, wanted, copies, generations)
    rows = batch.effective // copies
    if micro.explicit and batch.micro != micro.value:
        raise TunekitError(
            f"--micro-batch {micro.value} does not divide {rows}, the rows of one {device}",
            f"--micro-batch {batch.micro} does, or choose another --effective-batch",
        )
    warnings = []
    if batch.effective != effective.whole:
        among = f"among {copies} {device}s" if copies > 1 else f"among micro-batches of {batch.micro}"
        whole = f" in prompts of {generations} answers" if generations > 1 else ""
        reason = f"{effective.value} rows cannot be shared equally {among}{whole}"
        warnings.append(f"effective batch {effective.value} → {batch.effective}: {reason}")
    lowered = "" if batch.micro == micro.value else f"; lowered from {micro.value}, which does not divide {rows} rows"
    return plan.with_batch(batch, micro.source, f"{micro.why}{lowered}".removeprefix("; ")), warnings


def _data_parallel(plan: Plan) -> int:
    """Model copies: processes divided by those that share one copy."""
    shards = plan.whole("sequence_parallel_size", 1) * plan.whole("deepspeed_autotp_size", 1)
    world = plan.hardware.world
    if world % shards:
        raise TunekitError(
            f"{world} processes cannot be split into groups of {shards}",
            "sequence_parallel_size × deepspeed_autotp_size must divide the number of GPUs",
        )
    return world // shards


def default_name(plan: Plan) -> str:
    """What a run is called where the user names none: ``qwen2.5-7b-sft``."""
    return f"{plan.model.short}-{plan.stage.name}"
