"""What ``tunekit data check`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.cli.show.lines import print_document, show_line
from tunekit.console import say
from tunekit.data.findings import ERROR, NOTE, WARNING
from tunekit.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tunekit.data.findings import Finding
    from tunekit.data.mend import Mended
    from tunekit.data.survey import DatasetCheck
    from tunekit.runs.long import LongRows

COLOURS = {ERROR: "red", WARNING: "yellow", NOTE: None}


def show_check(done: DatasetCheck, lengths: LongRows | None, written: Sequence[Mended] | None, *, as_json: bool) -> int:
    """Print what was found, and return the exit code: 4 where rows will not do and were not written anew."""
    if as_json:
        print_document(_document(done, lengths, written))
    else:
        _show(done, lengths, fixed=written is not None)
        for one in written or ():
            _show_written(one)
    mended = written is not None and any(one.kept for one in written)
    return int(Exit.DATA if done.errors and not mended else Exit.DONE)


def _show(done: DatasetCheck, lengths: LongRows | None, *, fixed: bool) -> None:
    turns = sum(one.turns for one in done.files)
    parts = [f"{done.rows:,} rows" if done.rows != 1 else "1 row"]
    parts += [f"{len(done.files)} files"] if len(done.files) > 1 else []
    parts += [done.shape] if done.shape else []
    parts += [f"{turns / done.rows:.1f} turns"] if turns and done.rows else []
    if lengths and lengths.measured:
        tokens = lengths.measured.lengths
        parts.append(f"{tokens.median:,.0f} tokens (p95 {tokens.p95:,}, longest {tokens.longest:,})")
    say(f"  {' · '.join(parts)}")
    show_line("Stage", _stage(done))
    if done.columns:
        renamed = " and ".join(f"{old} as {new}" for old, new in done.columns.items())
        show_line("Columns", f"ms-swift gets {renamed}: tunekit passes --columns by itself")
    for finding in done.findings.all():
        show_line(finding.level, finding_in_words(finding, done), COLOURS[finding.level])
    too_long = long_in_words(lengths)
    if too_long:
        show_line(WARNING, too_long, COLOURS[WARNING])
    if lengths and lengths.measured is None:
        show_line(NOTE, f"tokens were not counted: {lengths.why}")
    if done.rows and done.too_many:
        show_line(ERROR, f"{done.bad:,} of {done.rows:,} rows will not do: tunekit starts no run with so many", "red")
    if done.errors and not fixed:
        show_line("Fix", "--fix OUT.jsonl writes the rows that will do, or can be mended, there, and the others beside")
    if not len(done.findings) and not too_long:
        show_line("ok", "nothing is wrong with them", "green")


def _stage(done: DatasetCheck) -> str:
    others = [name for name in done.suits if name != done.stage]
    suits = f"; they suit {', '.join(others)} too" if others else ""
    if not done.chosen:
        fits = "" if done.stage in done.suits or not done.suits else f"; they suit {', '.join(done.suits)}"
        return f"judged for {done.stage}{fits}"
    if done.stage not in done.suits:
        return f"they suit none that is known; judged for {done.stage}"
    return f"judged for {done.stage}, which they suit{suits} (--stage)"


def finding_in_words(finding: Finding, done: DatasetCheck) -> str:
    """A finding in a line: how many rows, what, and where the first of them are."""
    several = len(done.files) > 1
    rows = f"{finding.count:,} row{'' if finding.count == 1 else 's'}: " if finding.count else ""
    units = {str(one.file.path): one.file.unit for one in done.files}
    named = [(file, number) for file, number in finding.places if number]
    if not named:
        return f"{f'{finding.places[0][0]}: ' if several else ''}{rows}{finding.problem}"
    unit = units.get(named[0][0], "row")
    places = ", ".join(f"{file}:{number}" if several else f"{number:,}" for file, number in named)
    more = ", …" if finding.count > len(named) else ""
    plural = "" if len(named) == 1 and not more else "s"
    return f"{rows}{finding.problem} ({unit}{plural} {places}{more})"


def long_in_words(lengths: LongRows | None) -> str:
    """How many rows are too long, and what becomes of them; empty where none are, or it is not known."""
    if lengths is None or lengths.measured is None:
        return ""
    found = lengths.measured
    if not found.max_length or found.lengths.longest <= found.max_length:
        return ""
    seen = len(found.lengths.rows) + found.lengths.unusable
    of = f"of {seen:,} rows" if seen >= found.lengths.total else f"of a sample of {seen:,} rows"
    some = f"{found.over:,} {of} are" if found.over else "a few rows are"
    what = "drops them" if found.dropped else "cuts them"
    return f"{some} longer than --max_length {found.max_length:,}: ms-swift {what}"


def _show_written(one: Mended) -> None:
    left = sum(one.left.values())
    mended = f", {one.mended:,} of them mended" if one.mended else ""
    say(f"wrote {one.out}: {one.kept:,} row{'' if one.kept == 1 else 's'}{mended}")
    say(f"wrote {one.beside}: {left:,} left out" + (f" ({_reasons(one)})" if left else ""))


def _reasons(one: Mended) -> str:
    often = sorted(one.left.items(), key=lambda item: -item[1])[:3]
    return "; ".join(f"{count:,}: {why[:80]}" for why, count in often)


def _document(done: DatasetCheck, lengths: LongRows | None, written: Sequence[Mended] | None) -> dict[str, Any]:
    files = [
        {
            "file": str(one.file.path),
            "kind": one.file.kind,
            "encoding": one.file.encoding,
            "rows": one.rows,
            "bad": one.bad,
            "validation": number in done.validation,
        }
        for number, one in enumerate(done.files)
    ]
    document: dict[str, Any] = {
        "files": files,
        "rows": done.rows,
        "bad": done.bad,
        "stage": done.stage,
        "suits": done.suits,
        "shape": done.shape,
        "columns": done.columns,
        "findings": [finding.to_json() for finding in done.findings.all()],
    }
    if lengths:
        document["lengths"] = lengths.document()
    if written is not None:
        document["written"] = [
            {"out": str(one.out), "rows": one.kept, "mended": one.mended, "left": str(one.beside), "why": one.left}
            for one in written
        ]
    return document
