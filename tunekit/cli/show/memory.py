"""What ``tunekit fit`` prints."""

from __future__ import annotations

import json
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from tunekit.cli.show.duration import in_thousands, time_lines
from tunekit.cli.show.lines import VERDICT_COLOURS, print_document, print_table, readable_width, style
from tunekit.cli.show.picture import PARTS, draw_prediction, draw_what_if
from tunekit.console import say
from tunekit.errors import Exit
from tunekit.memory.search import FITS, NOT
from tunekit.runs.forecast import pace_of
from tunekit.stages import USUAL

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tunekit.memory.spec import Prediction, Spec
    from tunekit.runs.forecast import Forecast

BAR = 40
"""Characters of the bar that stands for the card."""


def show_prediction(made: Forecast, *, as_json: bool, picture: Path | None = None) -> int:
    """Print the prediction, draw it where a `picture` is named, and return the exit code."""
    if picture:
        share = f"{made.loss_share:.0%} of the tokens carry loss"
        about = f"{configuration(made.spec)} · preset {made.plan.preset} · {share} · {made.prediction.method}"
        draw_prediction(picture, f"{made.plan.model.named} on one GPU", about, list(made.alternatives()), made.card_gib)
    if as_json:
        print_document(made.document())
    else:
        _print_prediction(made)
    return int(Exit.DOES_NOT_FIT if made.verdict == NOT else Exit.DONE)


def _print_prediction(made: Forecast) -> None:
    prediction, card = made.prediction, made.card_gib
    print(f"{made.plan.model.named} · {configuration(made.spec)} · preset {made.plan.preset}")
    verdict = style(made.verdict, VERDICT_COLOURS[made.verdict], sys.stdout)
    print(f"{bar_of(prediction, card)}  {verdict} {card:.1f} GiB\n")
    print_table(_parts(prediction, card))
    print(f"\npeak at: {prediction.peak_at}")
    print(f"largest micro-batch that fits: {made.largest_micro_batch or 'none'}")
    if made.planned:
        print(textwrap.fill(f"the plan takes {made.spec.micro_batch}: {made.planned}", readable_width()))
    if made.verdict != FITS:
        print("\nwhat helps")
        fits = style("← fits", VERDICT_COLOURS[FITS], sys.stdout)
        marks = [fits if item.needs_gib <= card else "" for item in made.levers]
        savings = [(f"saves {item.saves_gib:.1f}", f"then needs {item.needs_gib:.1f} GiB") for item in made.levers]
        rows = [(item.name, *row, mark) for item, row, mark in zip(made.levers, savings, marks, strict=True)]
        larger = (
            f"a GPU of {made.smallest_gpu} GB, nothing changed"
            if made.smallest_gpu
            else "no single GPU holds it as it is"
        )
        print_table([*rows, (larger, "", "", fits if made.smallest_gpu else "")])
    _show_time(made)
    say(f"\n{prediction.method}: {_share(made)}")
    for note in [*made.notes, *prediction.notes]:
        say(note)


def _show_time(made: Forecast) -> None:
    """How long the run takes, or without a dataset its pace."""
    if made.duration or made.untold:
        print("\n" + "\n".join(f"{title.lower()}: {line}" for title, line in time_lines(made.duration, made.untold)))
        return
    pace = pace_of(made.spec, made.plan.hardware.gpus[0].name)
    if pace["tokens_per_second"]:
        low, high = in_thousands(pace["low"]), in_thousands(pace["high"])
        about = in_thousands(pace["tokens_per_second"])
        print(f"\npace: about {about} tokens/s a GPU ({low} to {high}), padding included")
    else:
        print(f"\npace: not told: {pace['no_time']}")


def _parts(prediction: Prediction, card_gib: float) -> list[list[str]]:
    """What the memory is, the largest part first; a bar for each on the scale of the card's."""
    scale = BAR / max(card_gib, prediction.process_gib)
    parts = sorted(prediction.breakdown.items(), key=lambda part: -part[1])
    drawn = [(name, gib) for name, gib in parts if gib >= 0.005]
    drawn.append(("fragmentation", prediction.reserved_gib - prediction.allocated_gib))
    table = [[PARTS[name].label, f"{gib:8.2f} GiB", "█" * round(scale * gib)] for name, gib in drawn]
    context = prediction.process_gib - prediction.reserved_gib
    last = [(PARTS["context"].label, context), ("all", prediction.process_gib)]
    return [*table, *([name, f"{gib:8.2f} GiB", ""] for name, gib in last)]


def configuration(asked: Spec) -> str:
    """What is trained, and in which rows, in some words."""
    packed = "packed" if asked.packing else "unpacked"
    tuner = asked.tuner if asked.tuner == "full" else f"{asked.tuner} r{asked.lora_rank}"
    stage = "" if asked.stage == USUAL else f"{asked.stage} · "
    with_ = (" · Liger" if asked.liger else "") + ("" if asked.sharding == "none" else f" · {asked.sharding}")
    with_ += f" · {' and '.join(asked.offload)} off the GPU" if asked.offload else ""
    written = f" + {asked.completion_len} written" if asked.kind.generates and asked.completion_len else ""
    return f"{stage}{tuner} · micro-batch {asked.micro_batch} × {asked.seq_len}{written} {packed}{with_}"


def bar_of(prediction: Prediction, card_gib: float) -> str:
    """The card as a bar: what the process takes of it, and ``+`` where that is more than there is."""
    filled = round(BAR * prediction.process_gib / card_gib)
    drawn = "█" * min(BAR, filled) + "·" * max(0, BAR - filled) + ("+" if filled > BAR else "")
    return f"{drawn} {prediction.process_gib:.1f} GiB"


def _share(made: Forecast) -> str:
    """How many of the tokens carry loss, and where that is known from."""
    if made.spec.kind.generates and made.spec.completion_len:
        return f"answers of {made.spec.completion_len} tokens carry loss"
    if made.assumed or made.rows is None or made.typed_share is not None:
        more = " (assumed; --loss-percent says otherwise)" if made.assumed else ""
        return f"{made.loss_share:.0%} of the tokens carry loss{more}"
    mean, heavy = f"{made.rows.loss_share:.0%}", f"{made.rows.heaviest_share:.0%}"
    more = "" if mean == heavy else f", {heavy} of the heaviest micro-batch: that is counted"
    return f"{mean} of the tokens carry loss{more}"


def show_what_if(made: Forecast, picture: Path | None = None, *, as_json: bool = False) -> None:
    """The largest micro-batch for GPU sizes, tuners and Liger; drawn, too, where a `picture` is named."""
    table = made.what_if()
    kinds = list(next(iter(table.values())))
    what = f"{made.spec.seq_len} tokens a row, {made.loss_share:.0%} of them with loss"
    if picture:
        title = f"{made.plan.model.named}: the largest micro-batch that fits"
        cells = [list(row.values()) for row in table.values()]
        draw_what_if(picture, title, f"{what} · estimate", kinds, [f"{size} GB" for size in table], cells)
    if as_json:
        rows = [{"gpu_gb": size, "largest_micro_batch": row} for size, row in table.items()]
        print_document({"seq_len": made.spec.seq_len, "loss_share": made.loss_share, "table": rows})
        return
    print(f"{made.plan.model.named}: largest micro-batch at {what}\n")
    lines = [[str(size), *(str(largest or "–") for largest in row.values()), ""] for size, row in table.items()]
    print_table([["GB", *kinds, ""], *lines])


def print_answers(answers: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line, as soon as it is there."""
    for answer in answers:
        print(json.dumps(answer, ensure_ascii=False), flush=True)
