"""What ``tunekit data stats`` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tunekit.cli.show.lines import print_document, print_table
from tunekit.cli.show.picture import draw_lengths

if TYPE_CHECKING:
    from pathlib import Path

    from tunekit.runs.rows import DatasetStats

WIDTH = 36
EIGHTHS = " ▏▎▍▌▋▊▉█"


def print_stats(found: DatasetStats, *, as_json: bool, picture: Path | None = None) -> None:
    """Print the lengths of rows, and draw them where a `picture` is named."""
    if picture:
        lengths = found.rows.lengths
        about = f"{_some(found)}, {found.rows.loss_share:.0%} of the tokens carry loss"
        drawn = [(part.above, part.most or lengths.longest, part.rows) for part in found.bins()]
        draw_lengths(picture, ", ".join(lengths.names), about, drawn, found.rows.max_length)
    if as_json:
        print_document(_document(found))
        return
    rows, lengths = found.rows, found.rows.lengths
    print(f"{', '.join(lengths.names)} · {found.plan.model.named} · {found.plan.stage.name}")
    print(f"{_some(found)}\n")
    print_table([[_bounds(part.above, part.most), _bar(part.rows, found), ""] for part in found.bins()])
    print()
    facts = [
        [
            "tokens a row",
            f"mean {lengths.mean:,.0f}, half below {lengths.median:,.0f}, "
            f"95 % below {lengths.p95:,}, longest {lengths.longest:,}",
        ],
        ["with loss", f"{rows.loss_share:.1%} of the tokens that are trained on"],
        *([f"over {bound:,}", _over(found, bound, number)] for bound, number in found.over().items()),
    ]
    if lengths.unusable:
        why = f": {lengths.problem}" if lengths.problem else ""
        facts.append(["of no use", f"{_share(found, lengths.unusable)}: ms-swift leaves them out{why}"])
    if found.packs is not None:
        held = f"a packed row of {rows.seq_len:,} tokens holds {rows.samples_per_row:.1f} rows"
        facts.append(["packs", f"about {found.packs:,} an epoch: {held}"])
    if found.steps:
        facts.append(["steps", f"{found.steps} (effective batch {found.plan.batch.effective}, {found.plan.preset})"])
    print_table(facts)


def _some(found: DatasetStats) -> str:
    lengths = found.rows.lengths
    seen = len(lengths.rows) + lengths.unusable
    return f"all {seen:,} rows" if seen >= lengths.total else f"{seen:,} of {lengths.total:,} rows, evenly spread"


def _bounds(above: int, most: int | None) -> str:
    low = f"{above + 1:,}" if above else "0"
    return f"{f'{low}–{most:,}' if most else f'more than {above:,}':>17} tokens"


def _bar(rows: int, found: DatasetStats) -> str:
    most = max(part.rows for part in found.bins())
    eighths = round(8 * WIDTH * rows / max(1, most))
    bar = EIGHTHS[-1] * (eighths // 8) + EIGHTHS[eighths % 8].strip()
    return f"{bar or ('▏' if rows else ''):<{WIDTH}}  {rows / len(found.rows.lengths.rows):6.1%}"


def _share(found: DatasetStats, rows: int) -> str:
    seen = len(found.rows.lengths.rows) + found.rows.lengths.unusable
    return f"{rows / seen:.1%} of the rows ({rows:,})"


def _over(found: DatasetStats, bound: int, rows: int) -> str:
    if bound != found.rows.max_length:
        return _share(found, rows)
    what = "ms-swift leaves them out" if found.rows.dropped else "ms-swift cuts them"
    return f"{_share(found, rows)} ← max_length: {what}" if rows else "none ← max_length"


def _document(found: DatasetStats) -> dict[str, Any]:
    rows, lengths = found.rows, found.rows.lengths
    return {
        "files": lengths.names,
        "model": found.plan.model.id,
        "stage": found.plan.stage.name,
        "rows": lengths.total,
        "measured": len(lengths.rows),
        "unusable": lengths.unusable,
        "tokens": {"mean": lengths.mean, "median": lengths.median, "p95": lengths.p95, "longest": lengths.longest},
        "loss_share": rows.loss_share,
        "bins": [asdict(part) for part in found.bins()],
        "max_length": rows.max_length,
        "over": {str(bound): number for bound, number in found.over().items()},
        "packs": found.packs,
        "rows_in_a_pack": rows.samples_per_row if found.plan.packed else None,
        "effective_batch": found.plan.batch.effective,
        "steps_an_epoch": found.schedule.per_epoch if found.schedule else None,
        "steps": found.schedule.steps if found.schedule else None,
    }
