"""``--columns`` of a plan: what was said, or what its rows need to be taken by ms-swift for what they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.data.columns import OtherShape, columns_of_text, suggested_columns
from tunekit.data.files import local_file
from tunekit.data.look import first_rows
from tunekit.errors import Exit, TunekitError
from tunekit.plan.settings import Setting, Source

if TYPE_CHECKING:
    from tunekit.plan.plan import Plan
    from tunekit.stages import Shape

WHY = "under their own names ms-swift would take no notice of them"


def columns_of(plan: Plan) -> dict[str, str]:
    """The columns that ms-swift renames for a plan, old names to new ones."""
    return columns_of_text(plan.text("columns"))


def with_columns(plan: Plan, shape: Shape | None) -> Plan:
    """A plan that renames the columns its datasets need, and says so; the same where nothing is to be renamed.

    Raises TunekitError, exit code 4, where renaming does not help, with the command that converts the rows.
    """
    if shape is None or plan.get("columns") is not None:
        return plan
    found: dict[str, str] = {}
    seen: list[tuple[str, set[str], dict[str, str]]] = []
    for name in (*plan.words("dataset"), *plan.words("val_dataset")):
        needed, present = _needed(name, shape, plan.stage.name)
        found |= needed
        seen.append((name, present, needed))
    for name, present, needed in seen:
        other = next((old for old, new in found.items() if old in present and needed.get(old) != new), None)
        if other:
            message = f"{name}: its {other} is not what another dataset's is, and --columns is one for all"
            raise TunekitError(message, convert_hint(name, plan.stage.name), Exit.DATA)
    if not found:
        return plan
    names = [Path(name).name for name, _, needed in seen if needed]
    renamed = " and ".join(f"{old} as {new}" for old, new in found.items())
    note = f"{', '.join(names)}: ms-swift gets {renamed} (--columns); {WHY}"
    columns = Setting(json.dumps(found), Source("rule", "columns"), WHY)
    return replace(plan.with_settings({"columns": columns}), warnings=(*plan.warnings, note))


def _needed(name: str, shape: Shape, stage: str) -> tuple[dict[str, str], set[str]]:
    """The columns that a dataset must have renamed, and those that it has; none of one that cannot be looked at."""
    try:
        path = local_file(name)
        rows = first_rows(path) if path else []
    except TunekitError:  # which is said where the rows are checked
        return {}, set()
    try:
        return suggested_columns(rows, shape), {column for row in rows for column in row}
    except OtherShape as error:
        raise TunekitError(f"{path}: {error}", convert_hint(name, stage), Exit.DATA) from None


def convert_hint(name: str, target: str) -> str:
    """The command that makes rows of a stage or task out of those of a file."""
    path = Path(name.rpartition("#")[0] or name)
    out = path.with_name(f"{path.name.split('.')[0]}.{target}.jsonl")
    return f"tunekit data convert {path} --to {target} --out {out}"
