"""The command of a run as a shell script that says where it comes from, and what it needs beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tunekit
from tunekit.engine.command import build_command
from tunekit.engine.plugin import Files, with_files
from tunekit.errors import TunekitError
from tunekit.files import write_atomically
from tunekit.runs.functions import write_files

if TYPE_CHECKING:
    from pathlib import Path

    from tunekit.engine.command import Command
    from tunekit.plan.plan import Plan
    from tunekit.runs.folder import Run

MARK = "# Written by tunekit"


def command_for(run: Run, files: Files | None = None) -> Command:
    """The command of a run, for people: with the files it needs where they are, or will be once it begins."""
    plan = with_files(run.plan, files or Files.of_run(run.path))
    return build_command(plan, run.path / "output")


def write_own_script(run: Run) -> None:
    """Write ``command.sh`` into the folder of a run. Raises TunekitError where it cannot be written."""
    _write(run, run.path / "command.sh", Files.of_run(run.path))


def write_script(run: Run, path: Path) -> list[tuple[str, str]]:
    """Write the command as an executable script of the user's, and what it needs beside it; gives lines for people.

    Raises TunekitError where a file is there that tunekit did not write, or one cannot be written.
    """
    _check_target(path)
    files = Files.beside(path)
    if run.plan.rewards:
        _check_target(files.plugin)
    if run.plan.row_format and files.data.exists() and not path.exists():
        raise TunekitError(f"{files.data} exists already, and tunekit did not write it", "take another name")
    _write(run, path, files)
    return write_files(run.plan, files, anew=True)


def write_launch_text(path: Path, text: str) -> list[tuple[str, str]]:
    """Write what a launcher is given into a file of the user's; no lines for people. Raises as `write_script`."""
    _check_target(path)
    try:
        write_atomically(path, text)
    except OSError as error:
        raise TunekitError(f"{path} cannot be written: {error.strerror}") from error
    return []


def _write(run: Run, path: Path, files: Files) -> None:
    plan = run.plan
    comments = [
        f"{MARK[2:]} {tunekit.__version__} for ms-swift {plan.engine}.",
        f"Preset {' + '.join((plan.preset, *plan.overlays))}; batch {plan.batch.equation(plan.hardware.device)}.",
        *(f"Changed: {line}" for line in plan.changed_lines()),
        *(f"Needs {words}" for words in _needs(plan, files)),
    ]
    try:
        write_atomically(path, command_for(run, files).script(comments), mode=0o755)
    except OSError as error:
        raise TunekitError(f"{path} cannot be written: {error.strerror}") from error


def _needs(plan: Plan, files: Files) -> list[str]:
    """What a script needs beside ms-swift, for its head."""
    own = ", ".join(dict.fromkeys(reward.file for reward in plan.rewards))
    rewards = [f"{files.plugin} and {own}: the rewards."] if own else []
    return rewards + ([f"{files.data}: the rows that {plan.row_format.spec} made."] if plan.row_format else [])


def _beginning(path: Path) -> bytes:
    if not path.is_file():  # a pipe would wait for someone who writes
        return b""
    with path.open("rb") as file:
        return file.read(200)


def _check_target(path: Path) -> None:
    """A script may replace an older one of tunekit, and nothing else; a folder is not made for it."""
    if not path.parent.is_dir():
        raise TunekitError(f"the folder {path.parent} does not exist")
    if path.is_dir():
        raise TunekitError(f"{path} is a folder", "name a file in it")
    if path.exists() and MARK.encode() not in _beginning(path):
        raise TunekitError(f"{path} exists already, and tunekit did not write it", "take another name, or delete it")
