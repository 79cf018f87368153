"""``tunekit doctor``: is this machine ready to train, and what mends it where it is not."""

from __future__ import annotations

import shutil
import sys
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tunekit.cli.show.lines import print_document
from tunekit.console import coloured, columns, redraws
from tunekit.errors import counted

if TYPE_CHECKING:
    from tunekit.engine.doctor import Check

COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}
WIDEST = 100
LEVEL = max(len(level) for level in COLOURS) + 2
SHALLOW = "Packages were found, not imported: tunekit doctor --deep tries each one."


def doctor(
    deep: Annotated[
        bool, typer.Option("--deep", help="Import torch, ms-swift and the others, and try the GPUs.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Is this machine ready to train? Each line says what mends it; exit code 1 where there is a problem."""
    from tunekit.engine.doctor import check_environment
    from tunekit.engine.environment import find_environment

    try:
        checks = check_environment(find_environment(deep=deep, watch=_watch))
    finally:
        _watch("")
    problems = sum(check.level == "problem" for check in checks)
    warnings = sum(check.level == "warning" for check in checks)
    if as_json:
        print_document({"checks": [asdict(check) for check in checks], "problems": problems, "warnings": warnings})
    else:
        colour = coloured(sys.stdout)
        for line in doctor_lines(checks, min(shutil.get_terminal_size().columns, WIDEST)):
            typer.echo(line, color=colour)
        typer.echo(f"\n  {_verdict(problems, warnings)}", color=colour)
        if not deep:
            typer.echo(f"  {SHALLOW}")
    if problems:
        raise typer.Exit(1)


def _watch(what: str) -> None:
    """What is waited for, in a line that is written over; nothing where stderr is no terminal."""
    wide = columns(sys.stderr) if redraws(sys.stderr) else None
    if wide:
        line = f"  {what} …" if what else ""
        typer.echo(f"\r\x1b[K{line if len(line) < wide else line[: wide - 2] + '…'}", err=True, nl=False)


def doctor_lines(checks: list[Check], width: int) -> list[str]:
    """The lines for people. What mends a thing is never broken into two lines: it is there to be copied."""
    names = max(len(check.name) for check in checks) + 2
    lines = []
    for check in checks:
        level = typer.style(f"{check.level:<{LEVEL}}", fg=COLOURS[check.level], bold=check.level != "ok")
        first, *rest = textwrap.wrap(check.found, max(width - 2 - LEVEL - names, 20), break_on_hyphens=False)
        lines.append(f"  {level}{check.name:<{names}}{first}")
        lines += [" " * (2 + LEVEL + names) + line for line in rest]
        if check.fix:
            lines.append(f"{' ' * (2 + LEVEL)}fix: {typer.style(check.fix, bold=True)}")
    return lines


def _verdict(problems: int, warnings: int) -> str:
    counts = [counted(number, noun) for number, noun in ((problems, "problem"), (warnings, "warning")) if number]
    ready = "Not ready to train" if problems else "Ready to train"
    return f"{ready}: {', '.join(counts)}." if counts else f"{ready}."
