"""``tunekit resume``."""

from __future__ import annotations

from typing import Annotated

import typer

from tunekit.cli.command import Number, option
from tunekit.plan.options import RETRY

FURTHER = "Further, or otherwise"


def resume(
    run: Annotated[str, typer.Argument(help="A run's name or folder, or one of its checkpoints.", show_default=False)],
    epochs: Annotated[str, option(FURTHER, "Passes over the data, counted from its beginning.")] = "",
    max_steps: Annotated[Number, option(FURTHER, "Optimizer steps, counted from its beginning.")] = None,
    oom_retry: Annotated[str, option(RETRY, "Another policy than before: neutral, lossy, off.")] = "",
    max_attempts: Annotated[Number, option(RETRY, "Starts at the most. Default: as before.")] = None,
    force: Annotated[bool, option(FURTHER, "Although its data or its model were changed since it began.")] = False,
) -> None:
    """Go on with a run that was interrupted or failed, from its newest complete checkpoint."""
    from tunekit.cli.train import go_on
    from tunekit.runs.folder import RunFolder
    from tunekit.runs.places import checkpoint_named, find_run
    from tunekit.runs.start import Onward

    folder = RunFolder(find_run(run).path.resolve())
    onward = Onward(oom_retry, max_attempts, epochs, max_steps, checkpoint_named(run, folder), force)
    raise typer.Exit(go_on(folder, onward))
