"""What a user sees of an imported run: what became of each key, and the command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.cli.show.lines import show_line, show_lines
from tunekit.console import say
from tunekit.errors import TunekitError, counted
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, LOST, TRANSLATED, UNKNOWN
from tunekit.recipes.importers.written import batch_of, raised, swift_words, tunekit_words, variables_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tunekit.recipes.importers.translation import Dialect, Draft, Outcome

TITLES = {LOST: "Lost", UNKNOWN: "Unknown", ELSEWHERE: "Instead"}
COLOURS = {LOST: "yellow", UNKNOWN: "red", ELSEWHERE: None}


def import_document(file: str, dialect: Dialect, drafts: Sequence[Draft], *, swift: bool) -> dict[str, Any]:
    """The runs and what became of each key, as plain data: the first at the top, and all of several in `stages`."""
    stages = [_run_document(draft, swift=swift) for draft in drafts]
    head = {"dialect": dialect.name, "source": file}
    return head | stages[0] | ({"stages": stages} if len(stages) > 1 else {})


def _run_document(draft: Draft, *, swift: bool) -> dict[str, Any]:
    batch = batch_of(draft)
    return {
        "command": draft.command,
        "argv": swift_words(draft) if swift else tunekit_words(draft),
        "env": variables_of(draft, swift=swift),
        "secrets": draft.secrets,
        "batch": {
            "micro": batch.micro,
            "accumulation": batch.accumulation,
            "data_parallel": batch.data_parallel,
            "effective": batch.effective,
            "warning": batch.warning,
        }
        if batch
        else None,
        "warnings": [*draft.warnings, *draft.source.unread],
        "before": draft.before,
        "files": draft.files,
        "refused": draft.refused,
        "report": [_row(outcome) for outcome in draft.outcomes],
    }


def _row(outcome: Outcome) -> dict[str, Any]:
    return {
        "key": outcome.key,
        "value": outcome.value,
        "line": outcome.line,
        "status": outcome.status,
        "flags": list(outcome.flags),
        "where": outcome.where,
        "why": outcome.why,
    }


def refusal_of(file: str, dialect: Dialect, drafts: Sequence[Draft]) -> TunekitError | None:
    """Why the runs are not taken over unless the user insists; None where nothing stands against it."""
    unknown = [outcome for draft in drafts for outcome in draft.outcomes if outcome.status == UNKNOWN]
    insist = "--lenient goes on without"
    if unknown:
        names = ", ".join(f"{one.key}{_at(one)}" for one in unknown)
        whys = [one.why for one in unknown if "did you mean" in one.why]
        hint = f"{whys[0].partition('; ')[2]} {insist}" if len(unknown) == 1 and whys else insist
        return TunekitError(f"{file}: {dialect.title} knows no {names}", hint)
    refused = [reason for draft in drafts for reason in draft.refused]
    return TunekitError(f"{file}: {'; '.join(refused)}", insist) if refused else None


def _at(outcome: Outcome) -> str:
    return f" (line {outcome.line})" if outcome.line else ""


def show_import(file: str, dialect: Dialect, drafts: Sequence[Draft]) -> None:
    """What was found, and what did not come over as it was, on stderr."""
    runs = counted(len(drafts), "run")
    say("")
    show_line("From", f"{file}: {dialect.title}, {runs}")
    for number, draft in enumerate(drafts, start=1):
        if len(drafts) > 1:
            say(f"\n  {number}. {draft.command}")
        _show_draft(draft)
    say("")


def _show_draft(draft: Draft) -> None:
    known = {status: [one for one in draft.outcomes if one.status == status] for status in TITLES}
    same = [one for one in draft.outcomes if one.status == TRANSLATED and one.value is not None]
    own = [one for one in draft.outcomes if one.status == TRANSLATED and one.value is None]
    default = sum(one.status == DEFAULT for one in draft.outcomes)
    words = f"{counted(len(same), 'key')} translated, {len(own)} written that only the other tool takes by itself, "
    show_line("Keys", f"{words}{default} the same by default")
    for status, found in known.items():
        for one in found:
            show_line(TITLES[status], f"{one.key}{_at(one)}: {one.why}", COLOURS[status])
    flags = [f"--{flag} {' '.join(draft.flags[flag])}" for one in own for flag in one.flags if flag in draft.flags]
    if flags:
        show_line("Default", f"what it takes where nothing is written: {', '.join(flags)}")
    batch = batch_of(draft)
    if batch:
        show_line("Batch", f"{batch.micro} × {batch.accumulation} × {batch.data_parallel or '?'} = {batch.effective}")
        if batch.warning:
            show_line("Note", f"{batch.warning}; with tunekit it is {raised(batch)}")
    show_lines(("Note", warning) for warning in (*draft.warnings, *draft.source.unread))
    for name in draft.secrets:
        show_line("Secret", f"set {name}; it is written nowhere")
    for name, text in draft.files.items():
        show_line("File", f"{name} must stand here (--out writes it beside):")
        say(text)
