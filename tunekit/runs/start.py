"""Begin a run, or go on with one: check what can be checked in a second, take the folder, train."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.engine.plugin import Files
from tunekit.plan.request import Said, attempts_taken, words_taken
from tunekit.runs import preflight
from tunekit.runs.attempts import engine_or_fail, run_attempts
from tunekit.runs.folder import RunFolder
from tunekit.runs.functions import first_files, try_functions, write_files
from tunekit.runs.script import write_own_script

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunekit.runs.attempts import Report, Screen
    from tunekit.runs.folder import Run, RunState

    Show = Callable[[list[tuple[str, str]]], None]
    """Shows lines to people, each with its title."""


def check_run(run: Run, show: Show) -> None:
    """Check what can be known before a run begins. Raises TunekitError where it cannot be trained here."""
    engine_or_fail()
    preflight.check_machine(run.plan)
    preflight.check_launch(run.plan, run.path)
    show(try_functions(run.plan, Files.of_run(run.path)))


def begin_run(folder: RunFolder, run: Run, show: Show, keep: Callable[[], None] = lambda: None) -> RunState:
    """Write what a run needs into its folder, whose lock must be held; `keep` writes what else belongs there.

    ``run.json`` comes last: a folder without one has not begun. Raises TunekitError.
    """
    show(first_files(run.plan, folder.path))
    state = run.begun()
    keep()
    write_own_script(run)
    folder.save(state)
    return state


def start_run(run: Run, show: Show, screen: Screen) -> Report:
    """Begin a run that was checked, and train. Raises TunekitError."""
    with RunFolder(run.path) as folder:
        return run_attempts(folder, begin_run(folder, run, show), screen)


def resume_run(
    folder: RunFolder,
    show: Show,
    screen: Callable[[str], Screen],
    *,
    oom_retry: str = "",
    max_attempts: int | None = None,
) -> Report | None:
    """Go on with a run from its newest complete checkpoint; None where it is done.

    `screen` makes the screen of a run by its name; `oom_retry` and `max_attempts` replace those of before. Raises
    TunekitError where there is no such policy, the run is in use, or what it needs is gone.
    """
    words_taken(Said("oom_retry", (oom_retry,) if oom_retry else ()))
    attempts_taken(max_attempts)
    with folder:
        state = folder.load()
        if Path(state.cwd).is_dir():
            os.chdir(state.cwd)  # where the run was started: its relative paths begin there
        if state.status == "done":
            return None
        state.oom_retry = oom_retry or state.oom_retry
        state.max_attempts = max_attempts or state.max_attempts
        preflight.check_launch(state.plan, folder.path)
        files = Files.of_run(folder.path)
        show(try_functions(state.plan, files))
        show(write_files(state.plan, files))
        return run_attempts(folder, state, screen(state.name))
