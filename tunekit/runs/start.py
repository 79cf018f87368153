"""Begin a run, or go on with one: check what can be checked in a second, take the folder, train."""

from __future__ import annotations

import itertools
import math
import os
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.engine.flags import flag_table
from tunekit.engine.plugin import Files
from tunekit.errors import TunekitError
from tunekit.files import read_object
from tunekit.plan.models.find import resolve
from tunekit.plan.options import spelled
from tunekit.plan.request import attempts_taken
from tunekit.plan.said import Said, words_taken
from tunekit.plan.settings import COMMAND_LINE
from tunekit.runs import preflight
from tunekit.runs.attempts import engine_or_fail, run_attempts
from tunekit.runs.checkpoints import STATE, best_checkpoint, complete, is_adapter, newest, step
from tunekit.runs.folder import RUNS, RunFolder, unwritable
from tunekit.runs.functions import first_files, settled, try_functions, write_files
from tunekit.runs.inputs import check_inputs, look_at_inputs
from tunekit.runs.script import write_own_script
from tunekit.runs.starter import HERE
from tunekit.runs.supervisor import StopRequest
from tunekit.runs.trust import refuse_foreign, refuse_unknown_flags

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tunekit.plan.request import Request
    from tunekit.plan.settings import Value
    from tunekit.runs.folder import Run, RunState
    from tunekit.runs.report import Report, Screen
    from tunekit.runs.starter import Starter

    Show = Callable[[list[tuple[str, str]]], None]
    """Shows lines to people, each with its title."""

LONGEST = 1e6
"""Epochs that can be asked for."""


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
    try:
        show(first_files(run.plan, folder.path))
        state = run.begun()
        state.inputs = look_at_inputs(settled(run.plan, Files.of_run(folder.path)))
        keep()
        write_own_script(run)
        folder.save(state)
    except OSError as error:
        raise unwritable(folder.path, error) from error
    return state


def start_run(run: Run, show: Show, screen: Screen) -> Report:
    """Begin a run that was checked, and train. Raises TunekitError."""
    with StopRequest(raises=True) as stop, RunFolder(run.path) as folder:
        state = begin_run(folder, run, show)
        stop.raises = False
        return run_attempts(folder, state, screen, stop)


@dataclass(frozen=True)
class Onward:
    """How to go on with a run. What is not said stays as it was.

    Attributes:
        epochs, max_steps: to train further than it was to; `max_steps` counts from its beginning.
        checkpoint: the name of the one to go on from; empty for the newest that is complete.
        force: although what it learns from is another than before, or another user wrote its folder.
        env: variables of the plan that are others now, as the address of the first machine.
    """

    oom_retry: str = ""
    max_attempts: int | None = None
    epochs: str = ""
    max_steps: int | None = None
    checkpoint: str = ""
    force: bool = False
    env: Mapping[str, str] = field(default_factory=dict)


def resume_run(
    folder: RunFolder,
    show: Show,
    screen: Callable[[str], Screen],
    onward: Onward = Onward(),
    starter: Starter = HERE,
) -> Report | None:
    """Go on with a run from its newest complete checkpoint; None where it is done.

    `screen` makes the screen of a run by its name, `starter` starts its attempts. Raises TunekitError where what was
    asked for cannot be, the run is in use, or what it needs is gone or was changed.
    """
    words_taken(Said("oom_retry", (onward.oom_retry,) if onward.oom_retry else ()))
    attempts_taken(onward.max_attempts)
    folder.load()  # where it is none there is nothing to lock either
    refuse_foreign(folder.path, force=onward.force)
    with StopRequest(raises=True) as stop, folder:
        state = folder.load()
        if Path(state.cwd).is_dir():
            os.chdir(state.cwd)  # where the run was started: its relative paths begin there
        if onward.epochs or onward.max_steps:
            show([further(folder, state, onward)])
        elif state.status == "done":
            return None
        refuse_unknown_flags(folder.path / "run.json", state.plan, flag_table())
        state.oom_retry = onward.oom_retry or state.oom_retry
        state.max_attempts = onward.max_attempts or state.max_attempts
        state.plan = replace(state.plan, env={**state.plan.env, **onward.env})
        starter.check(state)
        preflight.check_launch(state.plan, folder.path)
        files = Files.of_run(folder.path)
        show(try_functions(state.plan, files))
        show(write_files(state.plan, files))
        inputs = look_at_inputs(settled(state.plan, files))
        changed = check_inputs(state.inputs, inputs, force=onward.force)
        show([("Changed", line) for line in changed])
        state.inputs = inputs
        if onward.checkpoint:
            show(set_aside(folder, onward.checkpoint))
        stop.raises = False
        return run_attempts(folder, state, screen(state.name), stop, starter)


def further(folder: RunFolder, state: RunState, onward: Onward) -> tuple[str, str]:
    """Let a run train for longer than it was to; a line for people. Raises TunekitError where that is not longer."""
    checkpoint = newest(folder.output)
    reached = read_object(checkpoint / STATE) if checkpoint else {}
    if checkpoint is None and state.status == "done":
        best = best_checkpoint(folder.output)
        hint = f"train on from its weights: --adapters {best} with another --name" if best else None
        raise TunekitError(f"{state.name} kept no checkpoint with an optimizer, from which it could go on", hint)
    flags: dict[str, Value | None]
    if onward.max_steps is not None:
        here, wanted, what = reached.get("global_step", 0), float(onward.max_steps), "--max-steps"
        flags = {"max_steps": onward.max_steps}
    else:
        here, wanted, what = reached.get("epoch") or 0, _epochs(onward.epochs), "--epochs"
        flags = {"num_train_epochs": int(wanted) if wanted.is_integer() else wanted}
        flags |= {"max_steps": None} if "max_steps" in state.plan.settings else {}
    if wanted <= here:
        raise TunekitError(
            f"{what} {wanted:g} is no further than {state.name} is, at {here:g}", "it counts from the start"
        )
    state.plan = state.plan.changed(flags, COMMAND_LINE, "asked for on resume")
    if state.status == "done":
        state.status = "interrupted"
    return (
        "Further",
        f"to {what.removeprefix('--')} {wanted:g}; the learning rate follows the new schedule from here",
    )


def _epochs(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not 0 < number < LONGEST:
        raise TunekitError(f"--epochs takes a number above 0, not {word[:40]}")
    return number


def set_aside(folder: RunFolder, name: str) -> list[tuple[str, str]]:
    """Keep the checkpoints after the one of that name elsewhere, so that a run goes on from it; lines for people.

    Raises TunekitError where it is not whole.
    """
    chosen = folder.output / name
    if not complete(chosen):
        found = newest(folder.output)
        raise TunekitError(f"{chosen} is not whole", f"{found} is" if found else "no checkpoint of the run is")
    newer = [path for path in folder.output.glob("checkpoint-*") if step(path) > step(chosen)]
    kept = folder.path / "set-aside"
    places = (kept / str(number) for number in itertools.count(1))
    place = next(path for path in places if not path.exists())
    for path in newer:
        place.mkdir(parents=True, exist_ok=True)
        path.rename(place / path.name)
    return [("Kept", f"what was learned after {name} is in {place}")] if newer else []


def run_to_resume(request: Request, word: str) -> RunFolder | None:
    """The run that ``--resume auto`` goes on with; None where it has yet to begin.

    Raises TunekitError for another word, without a name, and where that run was begun with other settings.
    """
    if not word:
        return None
    words_taken(Said("resume", (word,)))
    if not (request.name or request.output_dir):
        raise TunekitError("--resume auto needs to know the run", "name it: --name NAME, or --output-dir FOLDER")
    folder = RunFolder(Path(request.output_dir).expanduser() if request.output_dir else RUNS / request.name)
    if not (folder.path / "run.json").is_file():
        return None
    plan = folder.load().plan
    hint = "take another --name for other settings"
    if Path(resolve(request.model).id).name != Path(plan.model.id).name:  # hubs have the same under other owners
        problem = f"{folder.path} was begun with {plan.model.id}, and now says --model {request.model}"
        raise TunekitError(problem, hint)
    for flag, setting in request.typed.items():
        old = plan.settings.get(flag)
        if (old is None or old.source.kind != "retry") and (old is None or old.render() != setting.render()):
            begun = "without it" if old is None else f"with {' '.join(old.render())}"
            problem = f"{folder.path} was begun {begun}, and now says {spelled(flag)} {' '.join(setting.render())}"
            raise TunekitError(problem, hint)
    return RunFolder(folder.path.resolve())


def done_lines(folder: RunFolder) -> list[str]:
    """What to say of a run that is done and is to be gone on with."""
    state, best = folder.load(), best_checkpoint(folder.output)
    word = shlex.quote(str(folder.path))
    lines = [f"{state.name} is done; nothing to resume. To train it further: tunekit resume {word} --epochs N, or"]
    lines[0] += " --max-steps N, counted from its beginning"
    if best:
        flag = "--adapters" if is_adapter(best) else "--model"
        command = f"tunekit {state.plan.stage.name} … {flag} {shlex.quote(str(best))} --name OTHER"
        lines.append(f"or begin anew from what it learned: {command}")
    return lines
