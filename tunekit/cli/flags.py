"""``tunekit flags``: look a parameter up."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tunekit.cli.show.lines import print_document, print_table

if TYPE_CHECKING:
    from tunekit.plan.explained import KnownFlag

KINDS = {"int": "whole number", "float": "number", "bool": "true or false", "str": "text", "list": "several words"}
FEW = 12
"""Choices that are listed on one line."""


def flags_command(
    word: Annotated[str, typer.Argument(help="A name, or a part of one.", show_default=False)] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Look a parameter up: what it takes, its default, what tunekit sets it to and why, its names in other tools.

    A part of a name, also of another tool's, lists what holds it.
    """
    from tunekit.engine.flags import flag_table
    from tunekit.plan.explained import explain_flag, names_of
    from tunekit.runs.prepare import preset_library

    flags = flag_table()
    library = preset_library(flags)
    name = word.lstrip("-").replace("-", "_")
    names = names_of(flags, name)
    if name and (name in names or len(names) < 2):
        known = explain_flag(names[0] if len(names) == 1 else name, flags, library)
        print_document({"ms_swift": flags.version, **asdict(known)}) if as_json else _show(known)
        return
    found = [explain_flag(other, flags, library) for other in names] if name else []
    if as_json:
        document = [asdict(known) for known in found] if name else names
        print_document({"ms_swift": flags.version, "flags": document})
        return
    if not name:
        for other in names:
            print(other)
        return
    head = ["flag", "takes", "default", "in other tools"]
    print_table([head, *([row.name, _takes(row), row.default, ", ".join(row.elsewhere)] for row in found)])


def _show(known: KnownFlag) -> None:
    print(f"--{known.name}\n")
    rows = [["takes", _takes(known)]]
    if known.commands:
        rows.append(["default", known.default or "none"])
        rows.append(["commands", ", ".join(known.commands)])
    rows += [[spelled, text] for spelled, text in known.options.items()]
    if known.reserved:
        rows.append(["tunekit's", known.reserved])
    rows += [[name, f"the name in {', '.join(tools) or 'many scripts'}"] for name, tools in known.elsewhere.items()]
    print_table(rows)
    if known.uses:
        print("\nWhat tunekit makes of it\n")
        print_table([[use.value or "…", use.where, use.why] for use in known.uses])


def _takes(known: KnownFlag) -> str:
    if known.choices and len(known.choices) <= FEW:
        return f"{KINDS[known.kind]}: {', '.join(known.choices)}" if known.kind == "list" else ", ".join(known.choices)
    return KINDS[known.kind]
