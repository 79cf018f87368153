"""``tunekit runs list | show | compare | logs | stop | rm``: what is remembered of runs, from their folders alone."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunekit.cli.command import File
from tunekit.console import say, shown_plainly
from tunekit.errors import TunekitError

if TYPE_CHECKING:
    from tunekit.runs.history import PastRun

HELP = "List runs, look at one, compare several, follow, stop and delete them."

app = typer.Typer(help=HELP, invoke_without_command=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Name = Annotated[str, typer.Argument(metavar="RUN", help="A run's name or folder.", show_default=False)]

PIECE = 1 << 16
"""Characters of a log that are read at once."""


@app.callback()
def runs_command(ctx: typer.Context) -> None:
    """List runs, look at one, compare several, follow, stop and delete them. Without a word: list them."""
    if ctx.invoked_subcommand is None:
        list_runs()


@app.command("list")
def list_runs(as_json: Json = False) -> None:
    """The runs in ./runs, newest first; stages of a recipe stand together."""
    from tunekit.cli.show.runs import print_runs
    from tunekit.runs.history import read_history

    found = read_history()
    for error in found.damaged:
        say(f"left out: {error.message}")
    print_runs(found, as_json=as_json)


@app.command("show")
def show_run(run: Name, as_json: Json = False) -> None:
    """One run: what it came to, its curves, its attempts, and every setting with where it comes from."""
    from tunekit.cli.show.runs import print_run
    from tunekit.runs.history import past_run

    print_run(past_run(run), as_json=as_json)


@app.command("compare")
def compare_runs(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Two runs or more.", show_default=False)],
    plot: Annotated[File, typer.Option("--plot", help="A picture of their curves: .png, .svg or .pdf.")] = None,
    as_json: Json = False,
) -> None:
    """What differs between runs: settings, data, environment and what came out; their curves on one axis."""
    from tunekit.cli.show.runs import print_comparison
    from tunekit.runs.history import past_run

    if len(runs) < 2:
        raise TunekitError("one run alone does not compare", f"name two: tunekit runs compare {runs[0]} OTHER")
    found = [past_run(run) for run in runs]
    if plot:
        _draw(plot, found)
    print_comparison(found, as_json=as_json)


def _draw(plot: Path, runs: list[PastRun]) -> None:
    from tunekit.cli.show.picture import check_picture, draw_runs
    from tunekit.cli.show.runs import curve_together

    check_picture(plot)
    key = curve_together(runs)
    if key is None:
        raise TunekitError(f"--plot {plot}: these runs have logged no number in common")
    draw_runs(plot, key, {run.name: run.logged.of(key) for run in runs})
    say(f"wrote {plot}")


@app.command("logs")
def print_log(
    run: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    attempt: Annotated[int, typer.Option(help="Which attempt, from 1. Default: the last.", show_default=False)] = 0,
) -> None:
    """What ms-swift printed."""
    from tunekit.runs.history import past_run

    past = past_run(run)
    known = past.folder.attempts()
    number = attempt or max(known, default=0)
    if number not in known:
        there = f"it has {', '.join(map(str, known))}" if known else "it has none yet"
        raise TunekitError(f"{past.name} has no attempt {number}" if number else f"{past.name} has no log", there)
    try:
        _pour(past, number, follow=follow)
    except OSError as error:
        log = past.folder.attempt(number) / "train.log"
        raise TunekitError(f"{log} cannot be read: {error.strerror}") from error


def _pour(past: PastRun, number: int, *, follow: bool) -> None:
    """Copy a log to stdout; while the run lives, what is added too, of later attempts as well."""
    from tunekit.runs.living import living

    path = past.folder.path
    while True:
        with (past.folder.attempt(number) / "train.log").open(encoding="utf-8", errors="replace", newline="\n") as log:
            while True:
                alive = follow and living(path) is not None  # asked before reading: what it wrote last is not lost
                while piece := log.read(PIECE):
                    sys.stdout.write(shown_plainly(piece.replace("\r", "\n")))
                sys.stdout.flush()
                later = [other for other in past.folder.attempts() if other > number]
                if not follow or not alive or later:
                    break
                time.sleep(0.3)
        started = [other for other in later if (past.folder.attempt(other) / "train.log").is_file()]
        if not follow or not started:
            return
        number = min(started)


@app.command("stop")
def stop_run(run: Name) -> None:
    """Stop a run as Ctrl-C does: what was learned is saved, and tunekit resume goes on."""
    from tunekit.runs.history import past_run
    from tunekit.runs.living import ask_to_stop, living

    past = past_run(run)
    asked = ask_to_stop(past.folder.path)
    say(f"asked {past.name} to stop (pid {asked.supervisor}); a second stop makes it hurry")
    while living(past.folder.path):
        time.sleep(0.2)
    say(f"stopped; go on: tunekit resume {past.name}")


@app.command("rm")
def delete_runs(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs by name or folder.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete runs with all that they learned."""
    from tunekit.runs.discard import discard_run, size_of
    from tunekit.runs.history import past_run

    for past in [past_run(run) for run in runs]:
        size = size_of(past) / 2**20
        told = f"{past.folder.path} ({size:,.0f} MiB)"
        if not yes and not _agreed(f"delete {told} and all that it learned? [y/N] "):
            say(f"kept {past.folder.path}")
            continue
        discard_run(past)
        say(f"deleted {told}")


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise TunekitError("nobody can be asked here", "--yes deletes without asking")
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
