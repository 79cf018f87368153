"""What a user sees of a run that has ended."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.cli.show.duration import roughly
from tunekit.cli.show.lines import show_line, show_result
from tunekit.cli.show.screen import duration
from tunekit.console import say
from tunekit.engine.after import suggested
from tunekit.engine.kinds import Kind
from tunekit.engine.logs import read_summary
from tunekit.errors import counted
from tunekit.runs.checkpoints import best_checkpoint, newest, step
from tunekit.runs.folder import RUNS
from tunekit.runs.outcome import Ending, Verdict, results
from tunekit.runs.unusual import AFTER, USUAL_REASONS

if TYPE_CHECKING:
    from tunekit.runs.folder import RunFolder
    from tunekit.runs.report import Report


COLOURS = {Ending.LEARNED: "green", Ending.UNKNOWN: "yellow", Ending.NOTHING: "red", Ending.DIVERGED: "red"}
"""Green is what was learned."""


def show_end(folder: RunFolder, report: Report) -> int:
    """What came out of a run, and what can be done next. Returns the exit code."""
    if report.status == "done":
        show_done(folder, report)
        _show_next(folder, report)
    elif report.status == "interrupted":
        show_result("Stopped", f" after {_took(report)}.{_results(report)} No process is left.")
        _show_rows(report)
        saved = newest(folder.output)
        lost = report.progress.step - step(saved) if saved else 0
        later = f"; {counted(lost, 'step')} after it {'is' if lost == 1 else 'are'} lost" if lost > 0 else ""
        onward = f"from {saved.name}{later}" if saved else "from the first step: no checkpoint was saved yet"
        show_line("Go on", f"tunekit resume {_run_word(folder)} ({onward})")
    else:
        show_failure(folder, report)
    show_page(folder)
    return int(report.exit_code)


def show_page(folder: RunFolder) -> None:
    """Write the page of a run that has ended, and say where it is."""
    from tunekit.cli.show.page import page_at_the_end

    page = page_at_the_end(folder.path)
    if page:
        show_line("Report", str(page), wrap=False)


def show_done(folder: RunFolder, report: Report) -> None:
    """How long a run took, what it reached, and what is wrong with it."""
    verdict = report.verdict or Verdict(Ending.UNKNOWN)
    after = "after" if verdict.ending is Ending.DIVERGED else "in"
    told = f" {after} {_took(report)}.{_results(report)}{_best(folder)}"
    show_result(verdict.ending.value, told, COLOURS[verdict.ending])
    if verdict.why:
        show_line("Warning", f"{verdict.why}.", COLOURS[verdict.ending] if verdict.hint else None)
    if verdict.hint:
        show_line("Hint", verdict.hint)
    _show_pace(report)
    _show_rows(report)
    _show_curve(folder, report)


def _took(report: Report) -> str:
    attempts = len(report.state.attempts)
    tries = f", {counted(attempts, 'attempt')}" if attempts > 1 else ""
    said = report.state.said.get("seconds") if report.status == "done" else None
    return f"{duration(report.seconds)}{f' (said about {roughly(said)})' if said else ''}{tries}"


def _show_pace(report: Report) -> None:
    """What may be the reason where a run that went through in one attempt took longer than the most that was said."""
    most = report.state.said.get("high")
    if most and len(report.state.attempts) == 1 and report.seconds > most:
        why = f"Seen after {AFTER} steps: {'; '.join(report.slow)}." if report.slow else USUAL_REASONS
        show_line("Slower", f"than {roughly(most)}, the most that was said. {why}", "yellow")


def _results(report: Report) -> str:
    told = results(report.state.plan.stage, report.progress)
    return "".join(f" {line[0].upper()}{line[1:]}." for line in told)


def _show_rows(report: Report) -> None:
    """Which rows ms-swift did not use."""
    for line in report.rows.lines():
        show_line("Rows", line, "yellow")


def _show_curve(folder: RunFolder, report: Report) -> None:
    """The curve of the whole run as a picture, where it can be drawn."""
    from tunekit.cli.show.picture import CURVE, draw_curve

    drawn = draw_curve(folder.output / "images" / CURVE, report.state.name, report.progress, report.state.plan.stage)
    if drawn:
        show_line("Curve", str(drawn), wrap=False)


def show_failure(folder: RunFolder, report: Report) -> None:
    """Why a run failed, what was tried, where its log is."""
    failure = report.failure
    if failure is None:  # pragma: no cover - a run that did not fail has another status
        return
    attempts = report.state.attempts
    show_result(failure.kind.title, f" (exit status {failure.status}), after {_took(report)}.", "red")
    show_result("", failure.evidence)
    if failure.kind is not Kind.DATA or not report.rows.dropped:  # which says the same
        _show_rows(report)
    if failure.kind.remedy:
        show_line("Hint", failure.kind.remedy)
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
