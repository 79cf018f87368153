"""The commands of the stages, ``tunekit rlhf`` and ``tunekit resume``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunekit.cli.command import Number, option
from tunekit.console import say
from tunekit.plan.options import RETRY
from tunekit.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.plan.request import Words
    from tunekit.runs.folder import Run

HELP = {
    **{stage.name: stage.learns for stage in STAGES.values()},
    "rlhf": "Any of the stages from rm to gkd, named as ms-swift does: --rlhf-type dpo.",
}
"""The first line of each command's help. The rest is the same for all of them."""

REST = "\n\nAny flag of ms-swift may be added as it is, such as --save_strategy epoch; tunekit checks it first."


def train(command: str, words: Words, given: Mapping[str, Any]) -> None:
    """Plan a stage by the words that were typed, and train, show or write it by the options that were `given`."""
    from tunekit.cli.show import plan as show
    from tunekit.cli.show.lines import print_document
    from tunekit.runs import prepare

    around = prepare.look_around()
    request = prepare.request_of(command, words, around)
    facts = prepare.gather_facts(request, around)
    run = prepare.prepare(request, facts, look=not {"json", "explain", "write", "dry_run"} & given.keys())
    if "json" in given:
        print_document(show.plan_document(run))
    elif "explain" in given:
        show.print_settings(run)
    elif "write" in given:
        from tunekit.runs.script import write_script

        path = Path(given["write"])
        show.show_written(run, path, write_script(run, path))
    elif "dry_run" in given:
        show.print_command(run)
    else:
        if "force" not in given:
            prepare.refuse_too_large(run, request, facts)
        show.show_plan(run)
        _start(run)


def _start(run: Run) -> None:
    """Train; what shows and supervises it is imported now, which a dry run does without."""
    from tunekit.cli.show.lines import show_lines
    from tunekit.cli.show.run import show_end
    from tunekit.cli.show.screen import make_screen
    from tunekit.runs.folder import RunFolder
    from tunekit.runs.start import check_run, start_run

    check_run(run, show_lines)
    report = start_run(run, show_lines, make_screen(run.name))
    raise typer.Exit(show_end(RunFolder(run.path), report))


def resume(
    run: Annotated[str, typer.Argument(help="A run's name or folder.", show_default=False)],
    oom_retry: Annotated[str, option(RETRY, "Another policy than before: neutral, lossy, off.")] = "",
    max_attempts: Annotated[Number, option(RETRY, "Starts at the most. Default: as before.")] = None,
) -> None:
    """Go on with a run that was interrupted or failed, from its newest complete checkpoint."""
    from tunekit.cli.show.lines import show_lines
    from tunekit.cli.show.run import show_end
    from tunekit.cli.show.screen import make_screen
    from tunekit.runs.folder import RunFolder, find_run
    from tunekit.runs.start import resume_run

    folder = RunFolder(find_run(run).path.resolve())
    report = resume_run(folder, show_lines, make_screen, oom_retry=oom_retry, max_attempts=max_attempts)
    if report is None:
        say(f"{folder.load().name} is done; nothing to resume")
        return
    raise typer.Exit(show_end(folder, report))
