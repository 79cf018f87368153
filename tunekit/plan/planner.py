"""Request → Plan: the one place where layers, rules and the batch come together."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError, did_you_mean
from tunekit.memory.search import NOT
from tunekit.plan import images, secrets, strategies
from tunekit.plan.auto import LAST_RESORT, choose_preset
from tunekit.plan.batch import MINIMUM_EFFECTIVE, Batch, solve
from tunekit.plan.draft import Draft
from tunekit.plan.models.parameters import check_names
from tunekit.plan.parts import check_rates
from tunekit.plan.plan import BATCH_FLAGS, Plan, in_order
from tunekit.plan.predict import peak_of, predictable
from tunekit.plan.rules import table as rules
from tunekit.plan.settings import COMMAND_LINE, Layer, Setting, Value, layer_of, merge
from tunekit.plan.solve import solve_memory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.hardware import Hardware
    from tunekit.plan.flags import FlagTable
    from tunekit.plan.models.find import Model
    from tunekit.plan.presets.library import Library, Preset
    from tunekit.plan.request import Request

ABOVE_ZERO = ("learning_rate", "num_train_epochs", "max_length", "lora_rank", "lora_alpha", "save_steps")
"""Flags whose numbers must be above 0; ms-swift finds out after the model is loaded, or trains nothing."""

GRPO_GENERATIONS = 8
"""Completions a prompt where ``--num_generations`` is not given (trl GRPOConfig)."""


@dataclass(frozen=True)
class Facts:
    """What is known about where the plan will run.

    Attributes:
        flags: of ms-swift.
        packages: import names that are installed; None where the machine was only described.
        environ: the environment that the run inherits.
        liger_models: model types that liger-kernel patches.
        memory_correction: measured ÷ predicted memory of earlier runs on this machine.
        loss_share: of the tokens, those that carry loss, where the data was looked at.
        row_tokens: of the longest row, or of a pack, likewise.
    """

    flags: FlagTable
    packages: frozenset[str] | None
    environ: Mapping[str, str]
    liger_models: frozenset[str] = frozenset()
    memory_correction: float = 1.0
    loss_share: float | None = None
    row_tokens: int | None = None


def make_plan(request: Request, model: Model, hardware: Hardware, library: Library, facts: Facts) -> Plan:
    """Decide every setting of a run.

    Raises:
        TunekitError: the request contradicts itself, a rule, or what ms-swift takes.
    """
    if request.preset != "auto":
        return _decide(request, request.preset, "", model, hardware, library, facts)
    known = predictable(model)
    name, reason = choose_preset(model, hardware, library, predictable=known)
    plan = _solved(_decide(request, name, reason, model, hardware, library, facts), facts)
    peak = peak_of(plan)
    if peak is None:
        return plan
    fits = "not even one row fits" if peak.verdict == NOT else "the micro-batch is the largest that fits"
    if not plan.settings[BATCH_FLAGS[0]].explicit:
        plan = replace(plan, preset_reason=f"{reason}; {fits}")
    if peak.safe or name == LAST_RESORT:
        return plan
    needs = f"{peak.prediction.process_gib:.1f} of {peak.card_gib:.1f} GiB"
    reason = f"{name} would take {needs} with micro-batch {plan.batch.micro}"
    smallest = _solved(_decide(request, LAST_RESORT, reason, model, hardware, library, facts), facts)
    least = peak_of(smallest)
    return smallest if least and least.verdict != NOT else plan


def _solved(plan: Plan, facts: Facts) -> Plan:
    return solve_memory(plan, facts.packages, facts.liger_models)


def _decide(
    request: Request, name: str, reason: str, model: Model, hardware: Hardware, library: Library, facts: Facts
) -> Plan:
    """The plan with the preset of that name, its own micro-batch as it is."""
    preset = library.load(name)
    overlays = [library.load_overlay(overlay) for overlay in request.overlays]
    typed = _typed(request)
    stage = library.load_stage(request.stage)
    said = merge(request.layers)
    strategy = strategies.layered(request.tuning, model, request.stage, typed, said)
    settings = merge(
        [
            _guesses(model),
            Layer("preset", preset.train),
            Layer("stage", stage.train),
            Layer("preset", library.own_settings(preset)),
            *(Layer("overlay", overlay.train) for overlay in overlays),
            strategy.rates,
            *request.layers,
            Layer("model", {"model": Setting(model.id, "model")}),
            strategy.meaning,
            layer_of(COMMAND_LINE, typed),
        ]
    )
    for flag in strategy.unset:
        settings.pop(flag, None)
    _check_known(settings, facts.flags, request.command)
    for flag, problem in model.undecided:
        if flag not in settings:
            raise TunekitError(f"{model.id}: {problem}", f"say which with --{flag}")
    micro = _batch_setting("micro", request.micro_batch or settings.pop(BATCH_FLAGS[0], None), preset, overlays)
    effective = _batch_setting("effective", request.effective_batch, preset, overlays)
    draft = Draft(request.command, model, hardware, facts.packages, settings)
    warnings = rules.apply(draft)
    images.bound(draft)
    check_names(draft)
    warnings += check_rates(draft, llm_rate=request.tuning.llm_rate)
    _check_trackers(draft)
    _name_for_trackers(draft, request.name)
    warnings += _missing_keys(draft, facts.environ)
    batch, batch_settings, given_way = _solve(draft, micro, effective)
    warnings = [*([model.note] if model.note else []), *warnings, *given_way]
    if hardware.described:
        warnings.append(
            "planned for the GPUs of --gpus: flash-attn and the other packages are taken to be installed there"
        )
    return Plan(
        command=request.command,
        model=model,
        hardware=hardware,
        preset=preset.name,
        preset_reason=reason,
        overlays=tuple(overlay.name for overlay in overlays),
        batch=batch,
        settings=in_order(draft.settings | batch_settings),
        env=environment(draft, facts.environ),
        secrets=secrets.of_plan(draft.trackers, facts.environ),
        changes=tuple(draft.changes),
        warnings=tuple(warnings),
        engine=facts.flags.version,
        engine_installed=facts.flags.installed,
        memory_correction=facts.memory_correction,
        loss_share=facts.loss_share,
        row_tokens=facts.row_tokens,
        rewards=request.rewards,
        row_format=request.row_format,
    )


def environment(draft: Draft, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that a run needs beside its flags.

    Every GPU that is used is named and gets a process of its own: left to itself, ms-swift spreads one model
    over all GPUs that it sees (https://github.com/modelscope/ms-swift/issues/6438).
    """
    hardware = draft.hardware
    env: dict[str, str] = {}
    if hardware.gpus:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.device for gpu in hardware.gpus)
    if hardware.world > 1 or draft.get("deepspeed") is not None:
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


def _typed(request: Request) -> dict[str, Value]:
    """What was typed for this run, with the datasets."""
    if request.command == "rlhf" and "rlhf_type" not in request.flags:
        raise TunekitError("tunekit rlhf needs --rlhf-type", "one of dpo, orpo, simpo, kto, cpo, rm, ppo, grpo, gkd")
    typed: dict[str, Value] = dict(request.flags)
    if request.datasets:
        typed["dataset"] = list(request.datasets)
    return typed


def _name_for_trackers(draft: Draft, name: str) -> None:
    """Trackers would call the run after the path of its output folder."""
    for tracker, flag in {"swanlab": "swanlab_exp_name", "wandb": "run_name"}.items():
        if tracker in draft.trackers and flag not in draft.settings:
            called = name or default_name(draft.model, draft.loss or draft.command)
            draft.settings[flag] = Setting(called, "tunekit", "else it would be the path of the output folder")


TRACKERS = (
    *("swanlab", "wandb", "tensorboard", "mlflow", "comet_ml", "neptune", "clearml", "dagshub", "codecarbon"),
    *("azure_ml", "flyte", "dvclive", "trackio", "none", "all"),
)
"""What --report_to takes (transformers 5.19 integrations, and swanlab); others fail after the model is loaded."""


def _check_trackers(draft: Draft) -> None:
    for tracker in draft.trackers:
        if tracker not in TRACKERS:
            hint = did_you_mean(tracker, TRACKERS) or f"there are {', '.join(TRACKERS)}"
            raise TunekitError(f"--report_to does not know {tracker}", hint)


def _missing_keys(draft: Draft, environ: Mapping[str, str]) -> list[str]:
    """Trackers ask for a login only after the model is loaded, and fail where there is no terminal to answer."""
    if draft.get("swanlab_mode") == "local":
        return []
    wanted = {tracker: secrets.VARIABLE_OF_TRACKER.get(tracker) for tracker in draft.trackers}
    return [
        f"{variable} is not set: {tracker} must have been logged in to on the machine that trains"
        for tracker, variable in wanted.items()
        if variable and not environ.get(variable)
    ]


def _guesses(model: Model) -> Layer:
    """What ms-swift must be told about the model."""
    source = "model"
    found = {"model_type": model.model_type, "template": model.template}
    settings: dict[str, Setting] = {}
    for flag, value in found.items():
        if value:
            settings[flag] = Setting(value, source, "found in the folder: ms-swift cannot tell it by the architecture")
    return Layer(source, settings)


def _check_known(settings: Mapping[str, Setting], flags: FlagTable, command: str) -> None:
    for flag, setting in settings.items():
        if flag in ABOVE_ZERO and isinstance(setting.value, (int, float)) and setting.value <= 0:
            where = "" if setting.explicit else f"{setting.source}: "
            raise TunekitError(f"{where}--{flag} must be above 0, not {setting.value}")
        try:
            flags.parse(flag, setting.render(), command)
        except TunekitError as error:
            where = "" if setting.explicit else f"{setting.source}: "
            raise TunekitError(f"{where}{error.message}", error.hint) from error


def _batch_setting(key: str, typed: Setting | None, preset: Preset, overlays: list[Preset]) -> Setting:
    """The wished micro or effective batch, from the strongest place that names it."""
    if typed is not None:
        return typed
    found = merge([Layer("preset", preset.batch), *(Layer("overlay", overlay.batch) for overlay in overlays)])
    return found.get(key, Setting(MINIMUM_EFFECTIVE if key == "effective" else 1, "tunekit"))


def _solve(draft: Draft, micro: Setting, effective: Setting) -> tuple[Batch, dict[str, Setting], list[str]]:
    """The batch, the two flags that say it, and what had to give way."""
    device = draft.hardware.device
    copies = _data_parallel(draft)
    generations = _generations(draft)
    wanted = _number(effective)
    if micro.explicit and not effective.explicit:  # the typed number stays, the preset's gives way, upwards
        unit = math.lcm(max(1, _number(micro)) * copies, max(1, generations))
        wanted = math.ceil(wanted / unit) * unit
    batch = solve(_number(micro), wanted, copies, generations)
    rows = batch.effective // copies
    if micro.explicit and batch.micro != micro.value:
        raise TunekitError(
            f"--micro-batch {micro.value} does not divide {rows}, the rows of one {device}",
            f"--micro-batch {batch.micro} does, or choose another --effective-batch",
        )
    warnings = []
    if batch.effective != _number(effective):
        among = f"among {copies} {device}s" if copies > 1 else f"among micro-batches of {batch.micro}"
        whole = f" in prompts of {generations} answers" if generations > 1 else ""
        reason = f"{effective.value} rows cannot be shared equally {among}{whole}"
        warnings.append(f"effective batch {effective.value} → {batch.effective}: {reason}")
    lowered = "" if batch.micro == micro.value else f"; lowered from {micro.value}, which does not divide {rows} rows"
    micro_flag, accumulation_flag = BATCH_FLAGS
    settings = {
        micro_flag: Setting(batch.micro, micro.source, f"{micro.why}{lowered}".removeprefix("; ")),
        accumulation_flag: Setting(
            batch.accumulation, "batch", f"{batch.effective} ÷ {batch.micro} ÷ {copies} {device}"
        ),
    }
    return batch, settings, warnings


def _generations(draft: Draft) -> int:
    """Completions a prompt: GRPO's batch counts them, and must hold whole prompts."""
    if draft.loss != "grpo":
        return 1
    asked = draft.get("num_generations")
    return GRPO_GENERATIONS if asked is None else int(str(asked))


def _data_parallel(draft: Draft) -> int:
    """Model copies: processes divided by those that share one copy."""
    shards = int(str(draft.get("sequence_parallel_size") or 1)) * int(str(draft.get("deepspeed_autotp_size") or 1))
    world = draft.hardware.world
    if world % shards:
        raise TunekitError(
            f"{world} processes cannot be split into groups of {shards}",
            "sequence_parallel_size × deepspeed_autotp_size must divide the number of GPUs",
        )
    return world // shards


def _number(setting: Setting) -> int:
    return int(str(setting.value))


def default_name(model: Model, loss: str) -> str:
    """What a run is called where the user names none: ``qwen2.5-7b-sft``."""
    return f"{model.short}-{loss}"
