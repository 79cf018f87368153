"""From the words of the command line to a plan: gather the facts, ask the planner."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tunekit import hardware
from tunekit.console import say
from tunekit.data.functions.find import FORMAT, Function, find
from tunekit.data.lengths import Unmeasured
from tunekit.engine.flags import flag_table
from tunekit.engine.locate import installed_packages, liger_models
from tunekit.engine.rewards import check_weights, choose_rewards, words_of
from tunekit.errors import Exit, TunekitError, did_you_mean
from tunekit.files import config_folder, shipped_presets
from tunekit.memory.search import FITS, NOT
from tunekit.plan import measured, secrets
from tunekit.plan.models.find import config_of, resolve
from tunekit.plan.planner import Facts, default_name, make_plan
from tunekit.plan.predict import peak_of
from tunekit.plan.presets.library import Library
from tunekit.plan.request import Defaults, Request, user_defaults
from tunekit.plan.rules.table import RESERVED
from tunekit.plan.savings import LIGER_MODELS
from tunekit.plan.settings import COMMAND_LINE, Setting, Value
from tunekit.plan.strategies import Tuning
from tunekit.runs import learned
from tunekit.runs.folder import place

if TYPE_CHECKING:
    from pathlib import Path

    from tunekit.plan.flags import FlagTable
    from tunekit.plan.measured import Measured
    from tunekit.plan.plan import Plan

RETRY_POLICIES = ("neutral", "lossy", "off")
DEFAULT_ATTEMPTS = 5


@dataclass(frozen=True)
class Asked:
    """What stood on the command line.

    Attributes:
        command: ``sft``, ``pt`` or ``rlhf``.
        words: flags of ms-swift with their words, tunekit's short forms of them included.
    """

    command: str
    model: str
    words: dict[str, list[str]]
    datasets: list[str]
    preset: str = ""
    overlays: str = ""
    effective_batch: int | None = None
    micro_batch: int | None = None
    rewards: tuple[str, ...] = ()
    row_format: str = ""
    tuning: Tuning = field(default_factory=Tuning)
    gpus: str = ""
    name: str = ""
    output_dir: str = ""
    oom_retry: str = ""
    max_attempts: int | None = None


@dataclass(frozen=True)
class Prepared:
    """A plan, where it will run, and how often it may be tried."""

    plan: Plan
    name: str
    path: Path
    oom_retry: str
    max_attempts: int


def library(flags: FlagTable) -> Library:
    """The user's presets and those that tunekit ships, checked against ms-swift's flags."""
    return Library(shipped_presets(), config_folder() / "presets", flags)


def prepare(asked: Asked, *, look: bool = False, at: tuple[str, Path] | None = None) -> Prepared:
    """Plan what was asked for. Reads files and asks the driver for GPUs; writes and starts nothing.

    Args:
        asked: on the command line.
        look: ask the hub for the shape of a model that is not known, and tokenize a sample of the dataset where memory
            depends on it (seconds).
        at: name and folder of the run, where they are not to be chosen here.

    Raises:
        TunekitError: it cannot be done, with the reason.
    """
    flags = flag_table()
    defaults = user_defaults(asked.command, flags, os.environ, config_folder() / "config.toml")
    machine = hardware.choose_hardware(asked.gpus or _option(defaults, "gpus"))
    typed = _typed(asked, flags)
    rewards, row_format = _functions(asked, typed)
    overlays = asked.overlays or _option(defaults, "with") or ""
    micro = typed.pop("per_device_train_batch_size", None)
    if micro is not None and asked.micro_batch is not None:
        raise TunekitError("--micro-batch and --per_device_train_batch_size are the same", "give one of them")
    request = Request(
        command=asked.command,
        model=asked.model,
        datasets=tuple(asked.datasets),
        preset=asked.preset or _option(defaults, "preset") or "auto",
        overlays=tuple(overlay for overlay in overlays.replace(",", " ").split() if overlay),
        micro_batch=_batch("micro_batch", asked.micro_batch if micro is None else micro, defaults),
        effective_batch=_batch("effective_batch", asked.effective_batch, defaults),
        flags=typed,
        name=asked.name,
        layers=defaults.layers,
        rewards=rewards,
        row_format=row_format,
        tuning=_tuning(asked, defaults),
    )
    facts = Facts(
        flags,
        None if machine.described else installed_packages(),
        os.environ,
        LIGER_MODELS if machine.described else liger_models(),
        1.0 if machine.described else learned.correction(machine),
    )
    model = resolve(asked.model, use_hf=_use_hf(typed, defaults))
    if look and machine.gpus:
        with contextlib.suppress(TunekitError):  # then it is planned without a prediction
            config_of(model, online=True)
    shelf = library(flags)
    plan = make_plan(request, model, machine, shelf, facts)
    found = _rows(plan, look=look)
    if found:
        seen = replace(facts, loss_share=found.heaviest_share or None, row_tokens=found.seq_len)
        plan = make_plan(request, model, machine, shelf, seen)
    check_weights(plan)
    name, path = at or place(asked.name or None, asked.output_dir or None, default_name(plan.model, plan.loss))
    return Prepared(plan, name, path, *_retries(asked, defaults))


def _rows(plan: Plan, *, look: bool) -> Measured | None:
    """What is known of the rows of a plan whose memory can be predicted."""
    if peak_of(plan) is None:
        return None
    found = measured.known(plan)
    if found or not look:
        return found
    say("Looking at the dataset: tokenizing a sample of it …")
    try:
        return measured.measure(plan)
    except Unmeasured as error:
        say(f"The dataset was not measured ({error.message}); a share of tokens with loss is assumed.")
        return None


def refuse_too_large(asked: Asked, prepared: Prepared) -> None:
    """Stop before a launch that cannot end well, and name the preset that comes nearest and fits.

    Raises:
        TunekitError: exit code 3; by the estimate the tensors alone are larger than the GPU.
    """
    peak = peak_of(prepared.plan)
    if peak is None or peak.verdict != NOT:
        return
    raise TunekitError(
        f"{prepared.plan.preset} would take {peak.prediction.process_gib:.1f} GiB of {peak.card_gib:.1f}",
        f"{_nearest(asked)}; --force starts all the same",
        Exit.DOES_NOT_FIT,
    )


def _nearest(asked: Asked) -> str:
    """Which preset takes most of what there is and fits; micro-batches that were typed stay typed."""
    found: list[tuple[float, str]] = []
    for name in ["auto", *library(flag_table()).names()]:
        try:
            plan = prepare(replace(asked, preset=name)).plan
        except TunekitError:
            continue  # that preset cannot be combined with what was typed
        peak = peak_of(plan)
        if peak is not None and peak.verdict == FITS:
            took = f"micro-batch {plan.batch.micro}, {peak.prediction.process_gib:.1f} GiB"
            found.append((peak.prediction.process_gib, f"--preset {name} fits ({took})"))
    return max(found)[1] if found else "tunekit fit says what helps"


def _typed(asked: Asked, flags: FlagTable) -> dict[str, Value]:
    """The flags of ms-swift on the command line, with their types."""
    typed: dict[str, Value] = {}
    for flag, words in asked.words.items():
        secrets.refuse_secret(flag)
        if flag in RESERVED and not (flag == "rlhf_type" and asked.command == "rlhf"):
            reason, hint = RESERVED[flag]
            raise TunekitError(f"--{flag} is tunekit's to set: {reason}", hint)
        typed[flag] = flags.parse(flag, words, asked.command)
    return typed


def _functions(asked: Asked, typed: dict[str, Value]) -> tuple[tuple[Function, ...], Function | None]:
    """The rewards and the format that are functions of the user's; all rewards are added to what was typed, by name.

    Raises:
        TunekitError: there is no such function, or what is trained takes no rewards.
    """
    row_format = find(asked.row_format, FORMAT) if asked.row_format else None
    if not asked.rewards:
        return (), row_format
    loss = str(typed.get("rlhf_type", asked.command))
    if loss != "grpo":
        hint = "PPO learns from a model: --reward_model FOLDER" if loss == "ppo" else None
        raise TunekitError(f"--reward is for GRPO, not for {loss}", hint)
    if "reward_funcs" in typed:
        raise TunekitError("--reward and --reward_funcs are the same", "give one of them")
    typed["reward_funcs"], functions = choose_rewards(list(asked.rewards), words_of(typed.get("external_plugins")))
    return tuple(functions), row_format


def _option(defaults: Defaults, name: str) -> str | None:
    setting = defaults.options.get(name)
    return None if setting is None else str(setting.value)


def _tuning(asked: Asked, defaults: Defaults) -> Tuning:
    """What is to be trained: the strategy that was typed, or the one for all runs."""
    return replace(asked.tuning, strategy=asked.tuning.strategy or _option(defaults, "tuning_strategy") or "")


def _batch(name: str, typed: Value | None, defaults: Defaults) -> Setting | None:
    if typed is not None:
        return Setting(typed, COMMAND_LINE)
    setting = defaults.options.get(name)
    return None if setting is None else Setting(_whole(name, str(setting.value)), setting.source)


def _retries(asked: Asked, defaults: Defaults) -> tuple[str, int]:
    policy = asked.oom_retry or _option(defaults, "oom_retry") or RETRY_POLICIES[0]
    most = asked.max_attempts
    if most is None:
        most = _whole("max_attempts", _option(defaults, "max_attempts") or str(DEFAULT_ATTEMPTS))
    return check_policy(policy), check_attempts(most)


def check_attempts(number: int) -> int:
    """`number` if so many attempts can be made; raises TunekitError otherwise."""
    if number < 1:
        raise TunekitError(f"--max-attempts must be 1 or more, not {number}")
    return number


def check_policy(word: str) -> str:
    """`word` if it is a retry policy; raises TunekitError otherwise."""
    if word not in RETRY_POLICIES:
        raise TunekitError(
            f"--oom-retry takes {', '.join(RETRY_POLICIES)}, not {word}", did_you_mean(word, RETRY_POLICIES)
        )
    return word


def _whole(name: str, word: str) -> int:
    if not word.isdigit():
        raise TunekitError(f"{name} takes a whole number, not {word}")
    return int(word)


def _use_hf(typed: dict[str, Value], defaults: Defaults) -> bool:
    """Whether model ids are meant for Hugging Face, by flag, configuration or ms-swift's own variable ``USE_HF``."""
    if "use_hf" in typed:
        return typed["use_hf"] is True
    for layer in reversed(defaults.layers):
        if "use_hf" in layer.settings:
            return layer.settings["use_hf"].value is True
    return os.environ.get("USE_HF", "").lower() in ("1", "true", "yes")
