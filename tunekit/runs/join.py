"""One of several machines that train together and that no scheduler starts, but not the first, which keeps the run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tunekit.engine.command import build_command, child_environment
from tunekit.engine.failures import failure_in
from tunekit.engine.plugin import Files, with_files
from tunekit.errors import Exit, TunekitError
from tunekit.plan.secrets import secret_values
from tunekit.runs import preflight
from tunekit.runs.attempts import engine_or_fail
from tunekit.runs.checkpoints import newest
from tunekit.runs.folder import RunFolder
from tunekit.runs.functions import try_functions, write_files
from tunekit.runs.supervisor import StopRequest, supervise

if TYPE_CHECKING:
    from tunekit.runs.folder import Run
    from tunekit.runs.report import Screen
    from tunekit.runs.start import Show


def join_run(run: Run, rank: int, show: Show, screen: Screen) -> int:
    """Train beside the first machine, to its end. Returns the exit code. Raises TunekitError.

    It goes on from the same checkpoint, which it finds on the disk that all machines share, and keeps its log and what
    else it needs in a folder of its own. Nothing is tried again: the machines would not agree on it.
    """
    engine = engine_or_fail()
    preflight.check_machine(run.plan)
    place = RunFolder(run.path.resolve() / "machines" / str(rank))
    files = Files.of_run(place.path)
    with StopRequest(raises=True) as stop, place:
        show(try_functions(run.plan, files))
        show(write_files(run.plan, files))
        output = run.path.resolve() / "output"
        found = newest(output)
        command = build_command(with_files(run.plan, files), output, found, engine.program)
        stop.raises = False
        log = place.path / "train.log"
        ended = supervise(
            command.argv,
            child_environment(command, os.environ),
            log,
            secrets=secret_values(os.environ),
            inherit=(place.lock_fd,),
            stop=stop,
        )
    if ended.stopped_by:
        return int(Exit.INTERRUPTED)
    if ended.status:
        failure = failure_in(log, ended.status, ended.oom_kills, ended.unwritten)
        hint = f"the whole log: {log}; the first machine may say more"
        raise TunekitError(f"{failure.kind.title}: {failure.evidence}", hint, Exit.TRAINING_FAILED)
    screen.say([f"Machine {rank} is done: the first one has what was learned, in {run.path}."])
    return int(Exit.DONE)
