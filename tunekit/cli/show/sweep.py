"""What a user sees of a sweep: its runs and their time beforehand, a table of what came out."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from tunekit.cli.show.duration import roughly
from tunekit.cli.show.lines import print_document, print_table, show_line, show_lines, style, table_lines
from tunekit.cli.show.plan import plan_document, show_plan
from tunekit.cli.show.run import show_done, show_failure, show_page
from tunekit.cli.show.runs import run_summary
from tunekit.cli.show.screen import duration, make_screen
from tunekit.console import say, shown_plainly
from tunekit.errors import counted
from tunekit.runs.comparison import not_comparable
from tunekit.runs.curves import EVALUATED, digits_of
from tunekit.runs.folder import RunFolder
from tunekit.runs.preflight import problems_of
from tunekit.runs.script import command_for
from tunekit.runs.sweep import FINISHED, ONWARD
from tunekit.runs.sweep_run import ranked

if TYPE_CHECKING:
    from tunekit.runs.history import PastRun
    from tunekit.runs.report import Report, Screen
    from tunekit.runs.sweep import Sweep, Trial

MEASURED = ("val_dataset", "split_dataset_ratio")
"""Flags by which a run is evaluated."""

FROM_TRAINING = (
    "nothing is evaluated, so runs are ranked by what they reached on the rows they learn from, where the one wins "
    "that learns them by heart: --val-split 0.1 or --val-dataset FILE"
)


def show_sweep(sweep: Sweep) -> None:
    """The first plan in full, then each run in a line, and the time of all; on stderr."""
    coming = [trial.run for trial in sweep.trials if trial.run]
    if coming:
        show_plan(coming[0])
    say(f"  {style(f'Sweep {sweep.name}')}: {_in_words(sweep)}")
    if any(trial.state != FINISHED for trial in sweep.trials):  # else the table of what came out says it all
        for line in table_lines(_planned(sweep)):
            say(f"    {line}")
    show_lines(_time(sweep))
    if coming and not any(coming[0].plan.get(flag) for flag in MEASURED):
        show_line("Note", FROM_TRAINING, "yellow")
    say("")


def _in_words(sweep: Sweep) -> str:
    """``4 runs over learning_rate (1e-4, 2e-4) and lora_rank (8, 16)``, and how many of them have begun."""
    over = " and ".join(f"{axis.key} ({', '.join(axis.values)})" for axis in sweep.axes)
    states = [trial.state for trial in sweep.trials]
    begun = {"done": states.count(FINISHED), "to go on with": states.count(ONWARD)}
    told = ", ".join(f"{number} {word}" for word, number in begun.items() if number)
    return f"{counted(len(states), 'run')} over {over}{told and f': {told}'}"


def _time(sweep: Sweep) -> list[tuple[str, str]]:
    if all(trial.state == FINISHED for trial in sweep.trials):
        return []
    left = sweep.seconds_left
    if left is None:
        return [("Time", "not told: it is not known for every run")]
    about, low, high = map(roughly, left)
    return [("Time", f"about {about} ({low} to {high}) for all that is left, one run after another")]


def _planned(sweep: Sweep) -> list[list[str]]:
    """Each run with what is its own, its batch, its memory and time, and what is to be done with it."""
    keys = [axis.key for axis in sweep.axes]
    rows = [["RUN", *keys, "BATCH", "GIB", "TIME", "STATE"]]
    for trial in sweep.trials:
        plan = trial.run.plan if trial.run else trial.past.state.plan if trial.past else None
        batch = f"{plan.batch.micro} × {plan.batch.accumulation} × {plan.batch.data_parallel}" if plan else ""
        memory = f"{plan.peak.prediction.process_gib:.1f}" if plan and plan.peak else ""
        left = trial.seconds_left
        time = f"about {roughly(left[0])}" if left and left[0] else ""
        rows.append([trial.name, *(trial.values[key] for key in keys), batch, memory, time, trial.state])
    return _filled(rows)


def _filled(rows: list[list[str]]) -> list[list[str]]:
    """Rows without the columns that are empty below their head; of other people's data no control character."""
    kept = [at for at in range(len(rows[0])) if any(row[at] for row in rows[1:])]
    return [[shown_plainly(row[at]) for at in kept] for row in rows]


def print_sweep_script(sweep: Sweep, *, refused: bool = False) -> None:
    """The plans on stderr, the commands of what has yet to begin on stdout; none where the sweep is `refused`."""
    coming = [(trial, trial.run) for trial in sweep.trials if trial.run]
    problems = [problem for trial, run in coming for problem in problems_of(run, f"{trial.name}: ")]
    show_sweep(sweep)
    for problem in dict.fromkeys(problems):
        show_line("Refused", f"{problem} (so a start would end at once)", "red")
    if refused:
        return
    if not coming:
        say("  Every run has begun: without --dry-run it goes on with what is not done.")
    for trial, run in coming:
        print(f"# {trial.name}: {trial.own}\n{command_for(run).shell()}\n")


def print_sweep_document(sweep: Sweep) -> None:
    """The sweep as one JSON object on stdout: each run's values, plan or result, and what is best so far."""
    ordered, best = ranked(sweep)
    left = sweep.seconds_left
    places = {trial.name: place for place, trial in enumerate(ordered, start=1)}
    print_document(
        {
            "sweep": sweep.name,
            "folder": str(sweep.path),
            "stage": sweep.command,
            "over": {axis.key: list(axis.values) for axis in sweep.axes},
            "seconds_left": dict(zip(("about", "low", "high"), left, strict=True)) if left else None,
            "best": best.name if best else None,
            "runs": [{**_trial_document(trial), "place": places[trial.name]} for trial in sweep.trials],
        }
    )


def _trial_document(trial: Trial) -> dict[str, Any]:
    past, run = trial.past, trial.run
    result = {**run_summary(past), "loss": _last(past, "loss"), "eval_loss": _last(past, EVALUATED)} if past else None
    said = past.state.said.get("seconds") if past else None
    return {
        "name": trial.name,
        "values": dict(trial.values),
        "state": trial.state,
        "plan": plan_document(run, problems_of(run, f"{trial.name}: ")) if run else None,
        "result": {**result, "seconds_said": said} if result else None,
    }


def _last(past: PastRun, key: str) -> float | None:
    return next(reversed([*past.logged.of(key).values()]), None)


def print_results(sweep: Sweep) -> bool:
    """The table of what came out on stdout, best first; what to do next on stderr. Whether a run is left to train."""
    trials, best = ranked(sweep)
    keys = [axis.key for axis in sweep.axes]
    rows = [["RUN", *keys, "RESULT", "LOSS", "EVAL", "TIME", "SAID", "STATUS"]]
    rows += [[trial.name, *(trial.values[key] for key in keys), *_came_out(trial)] for trial in trials]
    say("")
    print_table(_filled(rows))
    say("")
    pasts = [trial.past for trial in trials if trial.past]
    why = not_comparable(pasts) if pasts else []
    if best:
        show_line(
            "Best", f"{best.name}: {best.own}{f'; but their losses do not compare: another {why[0]}' if why else ''}"
        )
    if len(pasts) > 1:
        compare = shlex.join(["tunekit", "runs", "compare", *(past.name for past in pasts[:4])])
        show_line("Compare", f"{compare}  (every setting, and the curves on one axis)", wrap=False)
    return any(trial.state != FINISHED for trial in trials)


def _came_out(trial: Trial) -> list[str]:
    """Result, last loss and evaluation, the time and what was said of it, status; as a table has them."""
    past = trial.past
    if past is None:
        return ["", "", "", "", "", "not begun"]
    result, said = past.result, past.state.said.get("seconds")
    numbers = [_last(past, "loss"), _last(past, EVALUATED)]
    return [
        f"{result.word} {digits_of(result.value)}" if result else "",
        *("" if number is None else digits_of(number) for number in numbers),
        duration(past.seconds) if past.seconds else "",
        f"about {roughly(said)}" if said else "",
        past.told,
    ]


class SweepOnStderr:
    """Shows a sweep on stderr: a `tunekit.runs.sweep_run.SweepScreen`."""

    def begins(self, trial: Trial, number: int, count: int) -> Screen:
        """Which run it is, and where it shows itself."""
        say("")
        say(f"  {style(f'{number}/{count} {trial.name}')} · {trial.own}")
        return make_screen(f"{number}/{count} {trial.name}")

    def show(self, lines: list[tuple[str, str]]) -> None:
        """Lines with a title each."""
        show_lines(lines)

    def ended(self, trial: Trial, report: Report) -> None:
        """What came out of a run."""
        folder = RunFolder(trial.path)
        if report.status == "done":
            show_done(folder, report)
        elif report.status == "interrupted":
            say(f"  {trial.name} was stopped. No process is left.")
        else:
            show_failure(folder, report)
        show_page(folder)
