"""A run that another program starts, or several machines: what the commands of the stages do for ``--launch``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.console import say
from tunekit.engine.launch import LAUNCHERS
from tunekit.errors import Exit, TunekitError
from tunekit.runs.queue import as_node, check_launcher, cluster_job, place_of_machine, rendered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.plan.request import Request
    from tunekit.plan.said import Words
    from tunekit.runs.folder import Run, RunFolder
    from tunekit.runs.prepare import Surroundings

__all__ = ["as_node", "check_launcher", "place_of_machine"]

AFTER = {"done": Exit.DONE, "interrupted": Exit.INTERRUPTED}


def only_text(request: Request) -> set[str]:
    """``dry_run`` where the launcher's text is all that tunekit does."""
    unnumbered = request.launch == "nodes" and request.node_rank is None
    return {"dry_run"} if unnumbered or not LAUNCHERS[request.launch].starts else set()


def rendered_text(run: Run, request: Request, words: Words, around: Surroundings, given: Mapping[str, Any]) -> str:
    """What the launcher is given; empty where that is the command itself, or where only the plan is looked at."""
    if {"json", "explain"} & given.keys() or request.launch == "local" or request.node_rank is not None:
        return ""
    if request.launch == "slurm" and "write" in given:
        hint = f"it is kept in {run.path}/job.sbatch without --write; --dry-run prints it"
        raise TunekitError("a job of Slurm needs the folder of its run", hint)
    return rendered(cluster_job(run, request, words, around.others), request.launch)


def start_elsewhere(
    run: Run, request: Request, words: Words, around: Surroundings, given: Mapping[str, Any]
) -> int | None:
    """Queue a run, or join the others of one. Returns the exit code; None where it starts here as any other does."""
    from tunekit.cli.show.lines import show_line, show_lines
    from tunekit.cli.show.screen import make_screen

    if request.node_rank:
        from tunekit.runs.join import join_run

        return join_run(run, request.node_rank, show_lines, make_screen(run.name))
    if request.launch != "slurm":
        return None
    from tunekit.runs.places import claim
    from tunekit.runs.queue import SCRIPT, queue_run

    run = claim(run)
    folder = queue_run(run, cluster_job(run, request, words, around.others), show_lines)
    if "submit" in given:
        return queue_again(folder)
    show_line("Job", f"{folder.path / SCRIPT} is written. Submit it: sbatch {folder.path / SCRIPT}", wrap=False)
    return int(Exit.DONE)


def resume_job(folder: RunFolder, *, submits: bool) -> int:
    """Follow the job of a run that is queued or trains; without one submit it, where that is wanted."""
    from tunekit.runs.queue import SCRIPT, live_job

    if not submits and not live_job(folder.load()):
        hint = f"sbatch {folder.path / SCRIPT}, or --submit here"
        raise TunekitError(f"{folder.path} trains in a job of Slurm, and none is there", hint)
    return queue_again(folder)


def queue_again(folder: RunFolder) -> int:
    """Submit the job of a run, unless one is there already, and follow it. Returns the exit code."""
    from tunekit.cli.show.lines import show_line
    from tunekit.runs.queue import live_job, submit

    state = folder.load()
    if state.status == "done":
        say(f"{state.name} is done; nothing to submit.")
        return int(Exit.DONE)
    job = live_job(state)
    if not job:
        job = submit(folder)
        show_line("Job", f"{job} is submitted")
    return follow_job(folder, job)


def follow_job(folder: RunFolder, job: str) -> int:
    """Show a job until its end. Returns the exit code of the run; Ctrl-C leaves the job alone."""
    from tunekit.cli.show.lines import show_line, show_lines
    from tunekit.cli.show.screen import make_screen
    from tunekit.runs.queue import come_back, follow

    screen = make_screen(folder.load().name)
    try:
        state = follow(folder, job, show_lines, screen)
    except KeyboardInterrupt:
        screen.pause()
        show_lines(come_back(folder, job))
        return int(Exit.INTERRUPTED)
    show_line("Job", f"{job} has ended, and the run is {state.status}; its log: {folder.path}/slurm-{job}.log")
    return int(AFTER.get(state.status, Exit.TRAINING_FAILED))
