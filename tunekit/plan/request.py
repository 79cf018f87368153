"""What the user asked for, and what their configuration says for all runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError, did_you_mean
from tunekit.plan import secrets
from tunekit.plan.rules.table import RESERVED
from tunekit.plan.settings import Layer, Setting, Value, layer_of
from tunekit.plan.strategies import Tuning
from tunekit.toml import line_of, read_toml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tunekit.data.functions.find import Function
    from tunekit.plan.flags import FlagTable

OPTIONS = ("preset", "with", "tuning_strategy", "effective_batch", "micro_batch", "gpus", "oom_retry", "max_attempts")
"""Options of tunekit, not flags of ms-swift, that may be set for all runs."""

NOT_SETTINGS = ("CONFIG", "CACHE", "DEBUG", "MOVED", "RUN_MARK", "VENV", "TEST_MODEL", "FUNCTION_SECONDS")
"""``TUNEKIT_*`` variables that are about tunekit itself."""


@dataclass(frozen=True)
class Request:
    """One call of ``tunekit sft``, ``pt`` or ``rlhf``, parsed and not yet decided.

    Attributes:
        command: of ms-swift.
        model: as typed.
        datasets: as typed.
        preset: a name, a path, or ``auto``.
        overlays: in the order given.
        micro_batch: rows one GPU computes at once; None leaves it to the preset.
        effective_batch: rows an optimizer step; None leaves it to the preset.
        flags: what was typed for this run, by ms-swift's names.
        layers: what the user's configuration and ``TUNEKIT_*`` say, weakest first.
        name: of the run; empty where tunekit is to name it.
        rewards: functions of the user's that score responses.
        row_format: the function of the user's that makes rows of ms-swift out of the dataset's.
        tuning: what is to be trained, by name.
    """

    command: str
    model: str
    datasets: tuple[str, ...]
    preset: str = "auto"
    overlays: tuple[str, ...] = ()
    micro_batch: Setting | None = None
    effective_batch: Setting | None = None
    flags: Mapping[str, Value] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    name: str = ""
    rewards: tuple[Function, ...] = ()
    row_format: Function | None = None
    tuning: Tuning = field(default_factory=Tuning)

    @property
    def stage(self) -> str:
        """What is trained: the RLHF type, or the command."""
        return str(self.flags.get("rlhf_type") or self.command)


@dataclass(frozen=True)
class Defaults:
    """What the user set for all runs: options of tunekit by name, and layers of ms-swift's flags."""

    options: Mapping[str, Setting]
    layers: tuple[Layer, ...]


def user_defaults(command: str, flags: FlagTable, environ: Mapping[str, str], config: Path) -> Defaults:
    """Read ``[defaults]`` of the user's ``config.toml`` and the variables ``TUNEKIT_*``.

    Raises:
        TunekitError: a name that is neither an option nor a flag, or a value of the wrong type.
    """
    options: dict[str, Setting] = {}
    layers: list[Layer] = []
    if config.is_file():
        table, text = read_toml(config)
        section = table.get("defaults", {})
        for key in table:
            if key != "defaults":
                raise TunekitError(
                    f"{config} line {line_of(text, key)}: {key} is unknown", "settings stand under [defaults]"
                )
        if not isinstance(section, dict):
            line = line_of(text, "defaults")
            raise TunekitError(f"{config} line {line}: defaults must be a table", "write [defaults]")
        for name, value in section.items():
            if not isinstance(value, (str, int, float, bool, list)):
                raise TunekitError(f"{config} line {line_of(text, name, 'defaults')}: {name} must be a value or a list")
        words = {
            name: [str(item) for item in value] if isinstance(value, list) else [_word(value)]
            for name, value in section.items()
        }
        where = {name: f"{config} line {line_of(text, name, 'defaults')}: " for name in words}
        layers.append(_sort(words, where, f"config {config.name}", command, flags, options))
    prefix = "TUNEKIT_"
    variables = {
        name.removeprefix(prefix).lower(): value
        for name, value in sorted(environ.items())
        if value and name.startswith(prefix) and name.removeprefix(prefix) not in NOT_SETTINGS
    }
    where = {name: f"environment variable {prefix}{name.upper()}: " for name in variables}
    lists = {name for name, flag in flags.by_command["rlhf"].items() if flag.kind == "list"}
    split = {name: value.split() if name in lists else [value] for name, value in variables.items()}
    layers.append(_sort(split, where, "environment", command, flags, options))
    return Defaults(options, tuple(layers))


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _sort(
    words: Mapping[str, list[str]],
    where: Mapping[str, str],
    source: str,
    command: str,
    flags: FlagTable,
    options: dict[str, Setting],
) -> Layer:
    """Split names into options of tunekit (put into `options`) and flags of ms-swift (returned)."""
    values: dict[str, Value] = {}
    for name, parts in words.items():
        if name in OPTIONS:
            options[name] = Setting(" ".join(parts), source)
            continue
        if name in RESERVED:
            reason, hint = RESERVED[name]
            raise TunekitError(f"{where[name]}{name} cannot be set: {reason}", hint)
        if name not in flags.by_command["rlhf"]:
            hint = did_you_mean(name, [*OPTIONS, *flags.by_command["rlhf"]])
            raise TunekitError(f"{where[name]}{name} is neither an option of tunekit nor a flag of ms-swift", hint)
        if name in flags.by_command[command]:
            try:
                secrets.refuse_secret(name)
                values[name] = flags.parse(name, parts, command)
            except TunekitError as error:
                raise TunekitError(f"{where[name]}{error.message}", error.hint) from error
    return layer_of(source, values)
