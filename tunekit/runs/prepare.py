"""From words to a run that can begin: gather the facts, ask the planner, and say where the run will be kept."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tunekit.console import say
from tunekit.data import lengths
from tunekit.data.functions.find import FORMAT, Function, find_function
from tunekit.data.lengths import Unmeasured
from tunekit.engine.flags import flag_table
from tunekit.engine.launch import LAUNCHERS
from tunekit.engine.locate import find_engine, installed_packages, liger_models
from tunekit.engine.rewards import check_weights, choose_rewards
from tunekit.errors import Exit, TunekitError
from tunekit.files import config_folder, shipped_presets
from tunekit.hardware import choose_hardware
from tunekit.memory.search import FITS
from tunekit.plan.measured import question_of, rows_measured
from tunekit.plan.models.find import as_type, resolve
from tunekit.plan.models.source import source_of
from tunekit.plan.pasted import in_todays_names
from tunekit.plan.planner import Facts, default_name, make_plan
from tunekit.plan.presets.shelf import Library
from tunekit.plan.request import Request, read_request, stage_named
from tunekit.plan.savings import LIGER_MODELS
from tunekit.plan.schedule import schedule_of
from tunekit.plan.user_words import user_words
from tunekit.runs.columns import with_columns
from tunekit.runs.data import data_notes, row_bytes, schedule_for, schedule_notes, shape_of
from tunekit.runs.datasets import name_datasets
from tunekit.runs.fetch import find_config
from tunekit.runs.folder import Run
from tunekit.runs.learned import learned_correction, learned_pace
from tunekit.runs.places import new_place

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tunekit.hardware import Hardware
    from tunekit.plan.flags import FlagTable
    from tunekit.plan.measured import Measured
    from tunekit.plan.plan import Plan
    from tunekit.plan.said import Words
    from tunekit.plan.schedule import Schedule
    from tunekit.plan.settings import Value
    from tunekit.speed.duration import Duration


LARGEST_ON_CPU = 1.0
"""Billions of parameters that are trained on a CPU without being asked for by name."""


@dataclass(frozen=True)
class Surroundings:
    """What is the same for all runs planned in one call; `others` are the user's configuration and ``TUNEKIT_*``."""

    flags: FlagTable
    shelf: Library
    others: tuple[Words, ...]
    machines: dict[tuple[str, int | None], Hardware] = field(default_factory=dict)

    def machine(self, gpus: str, nodes: int | None) -> Hardware:
        """The hardware that ``--gpus`` and ``--nodes`` mean. The driver is asked once. Raises TunekitError."""
        if (gpus, nodes) not in self.machines:
            self.machines[gpus, nodes] = choose_hardware(gpus or None, nodes)
        return self.machines[gpus, nodes]


def look_around() -> Surroundings:
    """Read the flags of ms-swift and the user's configuration; presets are read when they are asked for."""
    flags = flag_table()
    return Surroundings(flags, preset_library(flags), user_words(flags, os.environ, config_folder() / "config.toml"))


def preset_library(flags: FlagTable) -> Library:
    """The user's presets and those that tunekit ships, checked against ms-swift's flags."""
    return Library(shipped_presets(), config_folder() / "presets", flags)


def request_of(command: str, words: Words, around: Surroundings) -> Request:
    """What the words of a command ask for. Raises TunekitError where they cannot be understood."""
    words = in_todays_names(words, around.flags)
    return read_request(stage_named(command, words, around.flags), words, around.others, around.flags)


def gather_facts(request: Request, around: Surroundings) -> Facts:
    """What a plan is made from beside the request, GPUs included. Raises TunekitError for names that mean nothing."""
    machine = around.machine(request.gpus, request.nodes)
    names, rewards, row_format = _functions(request)
    elsewhere = machine.described and not (LAUNCHERS[request.launch].same_python and find_engine())
    return Facts(
        flags=around.flags,
        shelf=around.shelf,
        environ=os.environ,
        hardware=machine,
        packages=None if elsewhere else installed_packages(),
        model=as_type(resolve(request.model, use_hf=_use_hf(request)), _model_type(request)),
        liger_models=LIGER_MODELS if elsewhere else liger_models(),
        memory_correction=1.0 if machine.described else learned_correction(machine),
        reward_names=names,
        rewards=rewards,
        row_format=row_format,
    )


def prepare(request: Request, facts: Facts, *, look: bool = False, at: tuple[str, Path] | None = None) -> Run:
    """Plan what was asked for. Reads files; writes nothing but caches, and starts no training.

    `look` asks the hub for the shape of a model that is not known, and tokenizes a sample of the dataset where memory
    depends on it (seconds). `at` is the run's name and folder, where they are not to be chosen here. Raises
    TunekitError where it cannot be planned.
    """
    if look and facts.hardware.gpus:
        with contextlib.suppress(TunekitError):  # then it is planned without a prediction
            find_config(facts.model)
    request, named = name_datasets(request, use_hf=_use_hf(request))
    plan = _planned(request, facts)
    rows = _rows(plan, look=look)
    if rows:
        plan = _planned(request, replace(facts, loss_share=rows.heaviest_share or None, row_tokens=rows.seq_len))
    held = rows.samples_per_row if rows and plan.packed else None
    schedule = schedule_of(plan, rows.lengths.total, held=held) if rows else schedule_for(plan)
    notes = data_notes(plan) + (schedule_notes(plan, schedule) if schedule else [])
    plan = replace(plan, warnings=(*plan.warnings, *named, *notes))
    check_weights(plan)
    default = default_name(plan)
    name, path = at or new_place(request.name, request.output_dir, default)
    chosen = "" if at or request.name or request.output_dir else default
    source = source_of(plan.model, facts.environ, use_hf=_use_hf(request) or facts.model.hugging_face)
    duration, untold = time_of(plan, schedule, rows, request.prices) if schedule else (None, "")
    return Run(
        *(plan, name, path, request.oom_retry, request.max_attempts, rows, chosen, schedule, source, duration, untold)
    )


def time_of(
    plan: Plan, schedule: Schedule, rows: Measured | None, prices: Mapping[str, float]
) -> tuple[Duration | None, str]:
    """How long a plan takes, at prices per GPU and hour; else why that is not told."""
    from tunekit.plan.pace import duration_of  # for plans whose rows can be counted alone
    from tunekit.runs.preflight import checkpoint_gib
    from tunekit.speed.price import price_for

    try:
        seen, saved = learned_pace(plan), checkpoint_gib(plan) or 0.0
        size = None if rows else row_bytes(plan, schedule.rows)
        made = duration_of(plan, schedule, rows, row_bytes=size, saved_gib=saved, seen=seen)
    except TunekitError as error:
        return None, error.message
    price = price_for(prices, plan.hardware.gpus[0].name) if prices else 0.0
    return replace(made, price=price), ""


def _planned(request: Request, facts: Facts) -> Plan:
    """The plan, and the names under which its rows are taken for what they are."""
    plan = make_plan(request, facts)
    return with_columns(plan, shape_of(plan)[0])


def _rows(plan: Plan, *, look: bool) -> Measured | None:
    """What is known of the rows of a plan whose memory can be predicted."""
    if plan.peak is None:
        return None
    try:
        question = question_of(plan)
        found = lengths.measured_before(question)
        if found is None and look:
            say("Looking at the dataset: tokenizing a sample of it …")
            found = lengths.measure_rows(question)
    except Unmeasured as error:
        if look:
            say(f"The dataset was not measured ({error.message}); a share of tokens with loss is assumed.")
        return None
    return rows_measured(plan, found) if found else None


def too_large(run: Run, request: Request, facts: Facts) -> TunekitError | None:
    """What refuses a run, exit code 3, where by the estimate the GPU is too small; it names a preset that fits.

    So is a machine without any for a model of more than `LARGEST_ON_CPU`, unless a CPU was asked for.
    """
    size = facts.model.params_b
    if not facts.hardware.gpus and not request.gpus and size and size > LARGEST_ON_CPU:
        return TunekitError(
            f"this machine shows no GPU, and {facts.model.id} has {size:.3g} billion parameters",
            "nvidia-smi says whether the driver sees one; --gpus 24GB plans for another machine, and --gpus cpu trains "
            "on the CPU all the same, very slowly",
            Exit.DOES_NOT_FIT,
        )
    peak = run.plan.peak
    if peak is None or peak.fits:
        return None
    return TunekitError(
        f"{run.plan.preset} would take {peak.prediction.process_gib:.1f} GiB of {peak.card_gib:.1f}",
        f"{peak.evaluation or _nearest(request, facts)}; --force starts all the same",
        Exit.DOES_NOT_FIT,
    )


def _nearest(request: Request, facts: Facts) -> str:
    """Which preset takes most of what there is and fits; micro-batches that were typed stay typed."""
    found: list[tuple[float, str]] = []
    for name in ["auto", *facts.shelf.names()]:
        try:
            plan = make_plan(replace(request, preset=name), facts)
        except TunekitError:
            continue  # that preset cannot be combined with what was typed
        if plan.peak and plan.peak.verdict == FITS:
            needs = plan.peak.prediction.process_gib
            found.append((needs, f"--preset {name} fits (micro-batch {plan.batch.micro}, {needs:.1f} GiB)"))
    return max(found)[1] if found else "tunekit fit says what helps"


def _functions(request: Request) -> tuple[tuple[str, ...], tuple[Function, ...], Function | None]:
    """What scores answers, by name; which of that are functions of the user's; and the one that makes rows."""
    row_format = find_function(request.row_format, FORMAT) if request.row_format else None
    if not request.rewards:
        return (), (), row_format
    plugins = request.typed.get("external_plugins")
    names, functions = choose_rewards(list(request.rewards), plugins.render() if plugins else [])
    return tuple(names), tuple(functions), row_format


def _use_hf(request: Request) -> bool:
    """Whether model ids are meant for Hugging Face, by flag, configuration or ms-swift's own variable ``USE_HF``."""
    said = _said(request, "use_hf")
    return os.environ.get("USE_HF", "").lower() in ("1", "true", "yes") if said is None else said is True


def _model_type(request: Request) -> str:
    return str(_said(request, "model_type") or "")


def _said(request: Request, flag: str) -> Value | None:
    """What the user said of a flag, for this run or for all; None where that is nothing."""
    places = (request.typed, *reversed(request.layers))
    return next((settings[flag].value for settings in places if flag in settings), None)
