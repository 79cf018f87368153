"""What a user sees of a run that has ended."""

from __future__ import annotations

import shlex
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.cli.show.lines import readable_width, show_line, style
from tunekit.cli.show.screen import duration
from tunekit.console import say
from tunekit.engine.after import suggested
from tunekit.engine.logs import read_summary
from tunekit.errors import Exit, counted
from tunekit.runs.checkpoints import best_checkpoint, newest
from tunekit.runs.folder import RUNS

if TYPE_CHECKING:
    from tunekit.runs.attempts import Report
    from tunekit.runs.folder import RunFolder


def show_end(folder: RunFolder, report: Report) -> int:
    """What came out of a run, and what can be done next. Returns the exit code."""
    if report.status == "done":
        say(f"  {done_line(folder, report)}")
        _show_next(folder, report)
        return int(Exit.DONE)
    if report.status == "interrupted":
        say(f"  Stopped after {_took(report)}.{_losses(report)} No process is left.")
        saved = newest(folder.output)
        onward = f"from {saved.name}" if saved else "from the first step: no checkpoint was saved yet"
        show_line("Go on", f"tunekit resume {_run_word(folder)} ({onward})")
        return int(Exit.INTERRUPTED)
    show_failure(folder, report)
    return int(Exit.TRAINING_FAILED)


def done_line(folder: RunFolder, report: Report) -> str:
    """How long a run took and what it reached."""
    return f"{style('Done', 'green')} in {_took(report)}.{_losses(report)}{_best(folder)}"


def _took(report: Report) -> str:
    attempts = len(report.state.attempts)
    tries = f", {counted(attempts, 'attempt')}" if attempts > 1 else ""
    return f"{duration(report.seconds)}{tries}"


def _losses(report: Report) -> str:
    losses = list(report.progress.losses.values())
    return f" Loss {losses[0]:.4g} → {losses[-1]:.4g}." if losses else ""


def show_failure(folder: RunFolder, report: Report) -> None:
    """Why a run failed, what was tried, where its log is."""
    failure = report.failure
    if failure is None:  # pragma: no cover - a run that did not fail has another status
        return
    attempts = report.state.attempts
    say(f"  {style(failure.kind.title, 'red')} (exit status {failure.status}), after {_took(report)}.")
    say(textwrap.indent(textwrap.fill(failure.evidence, readable_width()), "  "))
    if failure.kind.is_memory:
        show_line("Tried", "")
        for attempt in attempts:
            line = f"micro-batch {attempt.micro_batch} × {attempt.accumulation}"
            after = f"; then {attempt.next_step}" if attempt.next_step else ""
            say(f"    {attempt.number}  {line}: {attempt.outcome} at step {attempt.last_step}{after}")
        if report.left:
            onward = f"tunekit resume {_run_word(folder)} --max-attempts {report.state.max_attempts}"
            show_line("Hint", f"{onward} tries what is left, at the same optimisation: {report.left}")
        elif report.state.oom_retry == "neutral":
            lossy = f"tunekit resume {_run_word(folder)} --oom-retry lossy"
            show_line("Hint", f"{lossy} may load in 4 bits or shorten rows")
    show_line("Full log", str(folder.attempt(attempts[-1].number) / "train.log"))


def _show_next(folder: RunFolder, report: Report) -> None:
    checkpoint = best_checkpoint(folder.output)
    if not checkpoint:
        show_line("Note", "no checkpoint was saved (--save_strategy no)")
        return
    whole, here = checkpoint.resolve(), Path.cwd()
    show_line("Saved", str(whole.relative_to(here) if whole.is_relative_to(here) else checkpoint))
    for followup in suggested(report.state.plan):
        show_line(followup.title, f"tunekit {followup.command} {_run_word(folder)}", wrap=False)


def _best(folder: RunFolder) -> str:
    found = read_summary(folder.output / "logging.jsonl")
    best, metric = found.get("best_model_checkpoint"), found.get("best_metric")
    return f" Best {Path(best).name} ({metric:.4g})." if best and metric is not None else ""


def _run_word(folder: RunFolder) -> str:
    """The name or path by which `tunekit resume` finds the run."""
    path = folder.path
    return path.name if path.parent.resolve() == RUNS.resolve() else shlex.quote(str(path))
