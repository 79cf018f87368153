"""A folder of a run may come from elsewhere: what its ``run.json`` says is data, and is looked at before it is used."""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.plan.configuration import BATCH_FLAGS
from tunekit.plan.variables import CARRIED, PLANNED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tunekit.plan.flags import Flag, FlagTable
    from tunekit.plan.plan import Plan
    from tunekit.plan.settings import Value

STATES = ("run.json", "recipe.json", "stage.json")
"""What says how a run or a recipe goes on."""

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

KINDS = {"int": (int,), "float": (int, float), "bool": (bool,), "list": (list,), "str": (str, int, float)}
"""What the value of a flag of each kind is in ``run.json``."""


def unsafe(name: str, plan: Plan) -> str:
    """What a plan that was read from a file must not hold, in words; empty where it is clean."""
    return next(_unsafe(name, plan), "")


def _unsafe(name: str, plan: Plan) -> Iterator[str]:
    if not name.isprintable() or "/" in name or name.startswith((".", "-")):
        yield f"{name!r} is no name of a run"
    for variable, value in plan.env.items():
        known = PLANNED.fullmatch(variable) or CARRIED.fullmatch(variable)
        if not known or not isinstance(value, str) or not value.isprintable():
            yield f"the variable {variable!r} is none that tunekit sets"
    yield from (f"{word!r} is no name of a variable" for word in plan.secrets if not IDENTIFIER.fullmatch(word))
    for function in (*plan.rewards, *((plan.row_format,) if plan.row_format else ())):
        if not all(IDENTIFIER.fullmatch(word) for word in (function.name, function.alias or function.name)):
            yield f"{function.name!r} is no name of a function"
    for flag, setting in plan.settings.items():
        if not IDENTIFIER.fullmatch(flag):
            yield f"{flag!r} is no flag"
        if not _plain(setting.value) or any(word.startswith("--") for word in setting.render()):
            yield f"the value of --{flag} is none"


def _plain(value: Value) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    return isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value))


def refuse_unknown_flags(path: Path, plan: Plan, flags: FlagTable) -> None:
    """Raise TunekitError where the plan in `path` sets a flag that this ms-swift does not have, or takes otherwise."""
    batch = plan.batch
    if [plan.get(flag) for flag in BATCH_FLAGS] != [batch.micro, batch.accumulation]:
        problem = f"{path}: its batch is {batch.micro} × {batch.accumulation}, and its flags say another"
        raise TunekitError(problem, "correct it there, or start the run anew")
    for flag, setting in plan.settings.items():
        try:
            known = flags.find(flag, plan.stage.command)
        except TunekitError as error:
            hint = f"{error.hint}; or install ms-swift {plan.engine}, with which it was begun" if error.hint else None
            raise TunekitError(
                f"{path}: {error.message}", hint or f"it was begun with ms-swift {plan.engine}"
            ) from None
        if not _taken(known, setting.value):
            raise TunekitError(f"{path}: --{flag} does not take {setting.value!r}", "correct it there")


def _taken(flag: Flag, value: Value) -> bool:
    if value == "None" and flag.optional:
        return True
    if flag.choices and not {str(item) for item in (value if isinstance(value, list) else [value])} <= set(
        flag.choices
    ):
        return False
    kinds = KINDS.get(flag.kind, (object,))
    return isinstance(value, kinds) and (isinstance(value, bool) <= (bool in kinds or flag.kind not in KINDS))


def refuse_foreign(folder: Path, *, force: bool = False) -> None:
    """Raise TunekitError where somebody else wrote the run or recipe in `folder`, as git does (safe.directory)."""
    owners = {(folder / name).lstat().st_uid for name in (".", *STATES) if (folder / name).exists()}
    if force or owners <= {os.geteuid()}:
        return
    owner = next(iter(owners - {os.geteuid()}))
    message = f"{folder} belongs to another user (uid {owner}), and to go on with it would run what it says"
    raise TunekitError(message, "read it first; then --force, or copy it with cp -r, which makes it yours")
