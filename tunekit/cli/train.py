"""The commands of the stages and ``tunekit rlhf``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.console import say
from tunekit.errors import Exit
from tunekit.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from tunekit.errors import TunekitError
    from tunekit.plan.request import Request
    from tunekit.plan.said import Words
    from tunekit.runs.folder import Run, RunFolder
    from tunekit.runs.report import Report, Screen
    from tunekit.runs.start import Onward, Show

    Way: TypeAlias = Callable[[RunFolder, Show, Callable[[str], Screen], Onward], Report | None]
    """Goes on with a run, as `tunekit.runs.start.resume_run` does."""

HELP = {
    **{stage.name: stage.learns for stage in STAGES.values()},
    "rlhf": "Any of the stages from rm to gkd, named as ms-swift does: --rlhf-type dpo.",
}
"""The first line of each command's help. The rest is the same for all of them."""

LAUNCHING = {"node_rank", "master", "slurm", "cloud", "submit"}
"""Options that say how a launcher starts a run."""

REST = (
    "\n\nAny flag of ms-swift may be added as it is, such as --save_strategy epoch; tunekit checks it first. A file of "
    "them (YAML, JSON, TOML) may stand first: tunekit sft train.yaml"
)


def train(command: str, words: Words, given: Mapping[str, Any]) -> int:
    """Plan a stage by the words that were typed, and train, show or write it by the options that were `given`.

    Returns the exit code.
    """
    from tunekit.cli.show import plan as show
    from tunekit.runs import prepare

    around = prepare.look_around()
    request = prepare.request_of(command, words, around)
    looks = {"json", "explain", "write", "dry_run"} & given.keys()
    elsewhere = request.launch != "local" or LAUNCHING & given.keys()
    if elsewhere:
        from tunekit.cli import launch

        launch.check_launcher(request, submits="submit" in given)
        looks = looks or launch.only_text(request)
    if "resume" in given and not looks and (ended := _goes_on(request, given)) is not None:
        return ended
    facts = prepare.gather_facts(request, around)
    at = launch.place_of_machine(request) if elsewhere else None
    run = prepare.prepare(request, facts, look=not looks, at=at)
    if elsewhere:
        run = launch.as_node(run, request)
    too_large = None if "force" in given else prepare.too_large(run, request, facts)
    text = launch.rendered_text(run, request, words, around, given) if elsewhere and looks else ""
    if looks:
        _look(run, given, too_large, text)
        return int(Exit.DONE)
    if too_large:
        raise too_large
    show.show_plan(run)
    if elsewhere and (ended := launch.start_elsewhere(run, request, words, around, given)) is not None:
        return ended
    return _start(run)


def _look(run: Run, given: Mapping[str, Any], too_large: TunekitError | None, text: str) -> None:
    """Show or write a plan; what a start would refuse is refused, with the same exit code and without a command.

    `text` is what its launcher is given, where that is not the command.
    """
    from tunekit.cli.show import plan as show
    from tunekit.cli.show.lines import print_document
    from tunekit.runs.preflight import problems_of

    problems = problems_of(run)
    if "json" in given:
        print_document(show.plan_document(run, problems))
    elif "explain" in given:
        show.print_settings(run, problems)
    elif too_large:
        show.show_plan(run)
    elif "write" in given:
        from tunekit.runs.script import write_launch_text, write_script

        path = Path(given["write"])
        show.show_written(run, path, problems, write_launch_text(path, text) if text else write_script(run, path))
    else:
        show.print_command(run, problems, text)
    if too_large:
        raise too_large


def _goes_on(request: Request, given: Mapping[str, Any]) -> int | None:
    """What the run of that name ended with, where ``--resume auto`` found one and went on with it."""
    from tunekit.runs.start import Onward, run_to_resume

    if request.node_rank:  # the first machine keeps the run
        return None
    there = run_to_resume(request, given["resume"])
    if there and request.launch == "slurm":
        from tunekit.cli import launch

        return launch.queue_again(there)
    env = {}
    if there and request.node_rank is not None:
        from tunekit.engine.launch import node_variables

        env = node_variables(there.load().plan.hardware.nodes, request.node_rank, request.master)
    return go_on(there, Onward(force="force" in given, env=env)) if there else None


def _start(run: Run) -> int:
    """Train. What only this needs is imported here, so that a dry run does without. Returns the exit code."""
    from tunekit.cli.show.lines import show_lines
    from tunekit.cli.show.run import show_end
    from tunekit.cli.show.screen import make_screen
    from tunekit.runs.folder import RunFolder
    from tunekit.runs.places import claim
    from tunekit.runs.start import check_run, start_run

    check_run(run, show_lines)
    run = claim(run)
    report = start_run(run, show_lines, make_screen(run.name))
    return show_end(RunFolder(run.path), report)


def go_on(folder: RunFolder, onward: Onward, way: Way | None = None) -> int:
    """Go on with a run, to its end; `way` is how, where that is not here. Returns the exit code."""
    from tunekit.cli.show.lines import show_lines
    from tunekit.cli.show.run import show_end
    from tunekit.cli.show.screen import make_screen
    from tunekit.runs.start import done_lines, resume_run

    report = (way or resume_run)(folder, show_lines, make_screen, onward)
    if report is None:
        for line in done_lines(folder):
            say(line)
        return int(Exit.DONE)
    return show_end(folder, report)
