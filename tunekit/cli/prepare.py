"""From the words of the command line to a plan: gather the facts, ask the planner."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tunekit import hardware
from tunekit.engine.flags import flag_table
from tunekit.engine.locate import installed_packages
from tunekit.errors import TunekitError, did_you_mean
from tunekit.paths import config_folder, shipped_presets
from tunekit.plan import secrets
from tunekit.plan.flags import FlagTable
from tunekit.plan.models import resolve
from tunekit.plan.plan import Plan
from tunekit.plan.planner import Facts, default_name, make_plan
from tunekit.plan.presets import Library
from tunekit.plan.request import Defaults, Request, user_defaults
from tunekit.plan.rules import RESERVED
from tunekit.plan.settings import COMMAND_LINE, Setting, Value
from tunekit.runs.folder import place

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


def prepare(asked: Asked) -> Prepared:
    """Plan what was asked for. Reads files and asks the driver for GPUs; writes and starts nothing.

    Raises:
        TunekitError: it cannot be done, with the reason.
    """
    flags = flag_table()
    defaults = user_defaults(asked.command, flags, os.environ, config_folder() / "config.toml")
    machine = hardware.choose(asked.gpus or _option(defaults, "gpus"))
    typed = _typed(asked, flags)
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
    )
    facts = Facts(flags, None if machine.described else installed_packages(), os.environ)
    model = resolve(asked.model, use_hf=_use_hf(typed, defaults))
    plan = make_plan(request, model, machine, library(flags), facts)
    name, path = place(asked.name or None, asked.output_dir or None, default_name(plan.model, plan.loss))
    return Prepared(plan, name, path, *_retries(asked, defaults))


def _typed(asked: Asked, flags: FlagTable) -> dict[str, Value]:
    """The flags of ms-swift on the command line, with their types."""
    typed: dict[str, Value] = {}
    for flag, words in asked.words.items():
        secrets.refuse(flag)
        if flag in RESERVED and not (flag == "rlhf_type" and asked.command == "rlhf"):
            reason, hint = RESERVED[flag]
            raise TunekitError(f"--{flag} is tunekit's to set: {reason}", hint)
        typed[flag] = flags.parse(flag, words, asked.command)
    return typed


def _option(defaults: Defaults, name: str) -> str | None:
    setting = defaults.options.get(name)
    return None if setting is None else str(setting.value)


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
