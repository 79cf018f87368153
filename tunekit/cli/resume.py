"""``tunekit resume``."""

from __future__ import annotations

from typing import Annotated

import typer

from tunekit.cli.command import Number, option
from tunekit.plan.options import CLUSTER, RETRY

FURTHER = "Further, or otherwise"


def resume(
    run: Annotated[str, typer.Argument(help="A run's name or folder, or one of its checkpoints.", show_default=False)],
    epochs: Annotated[str, option(FURTHER, "Passes over the data, counted from its beginning.")] = "",
    max_steps: Annotated[Number, option(FURTHER, "Optimizer steps, counted from its beginning.")] = None,
    oom_retry: Annotated[str, option(RETRY, "Another policy than before: neutral, lossy, off.")] = "",
    max_attempts: Annotated[Number, option(RETRY, "Starts at the most. Default: as before.")] = None,
    force: Annotated[bool, option(FURTHER, "Although its data or its model were changed since it began.")] = False,
    in_allocation: Annotated[
        bool, option(CLUSTER, "What the script of a job says: start it on all its machines.")
    ] = False,
    submit: Annotated[bool, option(CLUSTER, "Submit the job of a run that Slurm starts, and follow it.")] = False,
) -> None:
    """Go on with a run that was interrupted or failed, from its newest complete checkpoint."""
    from tunekit.cli.train import go_on
    from tunekit.runs.folder import RunFolder
    from tunekit.runs.places import checkpoint_named, find_run
    from tunekit.runs.start import Onward

    folder = RunFolder(find_run(run).path.resolve())
    onward = Onward(oom_retry, max_attempts, epochs, max_steps, checkpoint_named(run, folder), force)
    if in_allocation:
        from tunekit.runs.allocation import resume_in_allocation

        raise typer.Exit(go_on(folder, onward, resume_in_allocation))
    if folder.load().launch.get("launcher") == "slurm":
        from tunekit.cli.launch import resume_job

        raise typer.Exit(resume_job(folder, submits=submit))
    raise typer.Exit(go_on(folder, onward))
