"""``tunekit sweep``."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

from tunekit.console import say
from tunekit.errors import Exit, TunekitError, did_you_mean
from tunekit.plan.options import CLUSTER, OPTIONS, TRAIN
from tunekit.stages import STAGES, USUAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tunekit.plan.said import Words
    from tunekit.runs.sweep import Sweep

HELP = (
    f"Train once for each value of an option or two, and compare what came out: tunekit sweep {USUAL} --model M "
    "--dataset D --learning-rate 1e-4,2e-4 --lora-rank 8,16"
    "\n\nThe stage stands first; behind it all that tunekit STAGE takes. What is swept has its values with commas "
    "between them, and every combination is a run of its own. The same call goes on where it ended; --json never "
    "trains, and has what came out so far."
)

NOT_HERE: Mapping[str, str] = {
    "write": "--dry-run prints the commands of all runs",
    "explain": f"tunekit {USUAL} --explain shows the settings of one run",
    "resume": "called once more, a sweep goes on where it ended",
    "output_dir": "its runs are runs/NAME-1, runs/NAME-2 …: --name NAME",
    **{
        row.name: "a sweep does not queue its runs on a cluster yet: --dry-run prints each, to be started as a run"
        for row in OPTIONS.values()
        if row.panel == CLUSTER and row.name != "nodes"
    },
}
"""Options of the stages that are for one run: what to do instead."""


def sweep_words(args: Sequence[str]) -> int:
    """Do what the words behind ``tunekit sweep`` ask for. Returns the exit code."""
    from tunekit.cli.words import read_words

    named = [*STAGES, "rlhf"]
    command = args[0] if args and not args[0].startswith("-") else ""
    if command not in named:
        hint = did_you_mean(command, named) or f"tunekit sweep {USUAL} --model M --dataset D --learning-rate 1e-4,2e-4"
        problem = f"{command} is no stage" if command else "tunekit sweep needs a stage first"
        raise TunekitError(problem, hint)
    words, given = read_words(TRAIN, args[1:])
    for name in given:
        if name in NOT_HERE and not (name == "launch" and given[name] == "local"):
            raise TunekitError(f"{OPTIONS[name].spelled} is not for a sweep", NOT_HERE[name])
    return _sweep(command, words, given)


def _sweep(command: str, words: Words, given: Mapping[str, Any]) -> int:
    from tunekit.cli.show import sweep as show
    from tunekit.runs.prepare import look_around
    from tunekit.runs.sweep import large_trial, plan_sweep

    looks = {"json", "dry_run"} & given.keys()
    sweep = plan_sweep(command, words, look_around(), look=not looks)
    refusal = None if "force" in given else large_trial(sweep)
    if "json" in given:
        show.print_sweep_document(sweep)
    elif "dry_run" in given:
        show.print_sweep_script(sweep, refused=refusal is not None)
    elif refusal is None:
        return _run(sweep, force="force" in given)
    if refusal:
        raise refusal
    return int(Exit.DONE)


def _run(sweep: Sweep, *, force: bool) -> int:
    """Train what is not done yet, and show what came out."""
    from tunekit.cli.show import sweep as show
    from tunekit.cli.show.lines import show_lines
    from tunekit.runs.folder import RunFolder
    from tunekit.runs.sweep_run import check_sweep, run_sweep

    screen = show.SweepOnStderr()
    show.show_sweep(sweep)
    check_sweep(sweep, screen)
    place = RunFolder(sweep.path)
    place.acquire()
    try:
        code = run_sweep(sweep, screen, force=force)
    except KeyboardInterrupt:  # between two runs; one that trains ends with a report
        code = int(Exit.INTERRUPTED)
        say("  Stopped. No process is left.")
    finally:
        place.release()
    if show.print_results(sweep):
        show_lines([("Go on", shlex.join(["tunekit", *sys.argv[1:]]))])
    return code
