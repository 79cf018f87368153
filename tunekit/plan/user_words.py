"""What the user says for all runs: ``config.toml`` and the variables ``TUNEKIT_*``, as words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.errors import TunekitError, did_you_mean
from tunekit.files import line_of, read_toml
from tunekit.plan.options import ALL, FOR_ONE_RUN, OPTIONS, RESERVED, TRAIN, WORDS, canonical
from tunekit.plan.renamed import renamed_hint
from tunekit.plan.said import Said, Words, gather_words, words_of_value
from tunekit.plan.settings import Source

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tunekit.plan.flags import FlagTable

PREFIX = "TUNEKIT_"
NOT_SETTINGS = ("CONFIG", "CACHE", "DEBUG", "MOVED", "RUN_MARK", "VENV", "TEST_MODEL", "FUNCTION_SECONDS")
"""``TUNEKIT_*`` variables that are about tunekit itself."""


def user_words(flags: FlagTable, environ: Mapping[str, str], config: Path) -> tuple[Words, Words]:
    """``[defaults]`` of the user's ``config.toml``, and the variables ``TUNEKIT_*``: the weaker one first.

    Raises TunekitError where a name is neither an option for all runs nor a flag.
    """
    places = (
        gather_words(Source("config", config.name), _of_config(config) if config.is_file() else ()),
        gather_words(Source("environment"), _of_environment(flags, environ)),
    )
    for place in places:
        for said in place.said.values():
            _check_for_all(said, flags)
    return places


def _of_config(config: Path) -> list[Said]:
    table, text = read_toml(config)
    for key in table:
        if key != "defaults":
            unknown = f"{config} line {line_of(text, key)}: {key} is unknown"
            raise TunekitError(unknown, "settings stand under [defaults]")
    section = table.get("defaults", {})
    if not isinstance(section, dict):
        raise TunekitError(f"{config} line {line_of(text, 'defaults')}: defaults must be a table", "write [defaults]")
    return [
        Said(name, words_of_value(value, f"{where}: {name}"), where)
        for name, value in section.items()
        for where in [f"{config} line {line_of(text, name, 'defaults')}"]
    ]


def _of_environment(flags: FlagTable, environ: Mapping[str, str]) -> list[Said]:
    found = []
    for variable, value in sorted(environ.items()):
        name = variable.removeprefix(PREFIX)
        if not value or name == variable or name in NOT_SETTINGS:
            continue
        key = name.lower()
        several = key in OPTIONS and OPTIONS[key].kind == WORDS
        flag = flags.by_command["rlhf"].get(canonical(key))
        words = value.split() if several or (flag and flag.kind == "list") else [value]
        found.append(Said(key, tuple(words), f"environment variable {variable}"))
    return found


def _check_for_all(said: Said, flags: FlagTable) -> None:
    """Raise TunekitError where something cannot be set for all runs."""
    option = OPTIONS.get(said.name)
    if option and TRAIN in option.commands:
        if option.reach < ALL:
            raise TunekitError(f"{said.label} cannot be set for all runs", f"say it for each: {option.spelled}")
        return
    if said.name in FOR_ONE_RUN:
        raise TunekitError(f"{said.label} cannot be set for all runs", FOR_ONE_RUN[said.name])
    known = flags.by_command["rlhf"]
    if said.name not in known and said.name not in RESERVED:
        everywhere = [name for name, option in OPTIONS.items() if option.reach == ALL]
        hint = renamed_hint(said.name) or did_you_mean(said.name, [*everywhere, *known])
        raise TunekitError(f"{said.label} is neither an option of tunekit nor a flag of ms-swift", hint)
