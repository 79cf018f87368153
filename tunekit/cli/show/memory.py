"""What ``tunekit fit`` prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tunekit.cli.rows import Rows
from tunekit.cli.show.lines import print_table
from tunekit.cli.show.picture import draw_prediction, draw_what_if
from tunekit.console import say
from tunekit.errors import Exit, TunekitError
from tunekit.hardware import GIB_PER_GB
from tunekit.memory.estimate import estimate
from tunekit.memory.search import FITS, NOT, largest_micro_batch, levers, verdict
from tunekit.memory.spec import Prediction, Spec, Unknown
from tunekit.memory.trace.client import trace
from tunekit.runs.prepare import Prepared

CLASSES = (16, 24, 32, 40, 48, 80, 96, 141, 192)
"""GPU memory in GB as sold, for ``--what-if``."""

BAR = 40
"""Characters of the bar that stands for the card."""

METHODS: dict[str, Callable[[Spec], Prediction]] = {"estimate": estimate, "trace": trace}


def show_prediction(
    prepared: Prepared,
    asked: Spec,
    method: Callable[[Spec], Prediction],
    *,
    as_json: bool,
    picture: Path | None = None,
    data: Rows,
) -> int:
    """Print the prediction, draw it where a `picture` is named, and return the exit code."""
    card = prepared.plan.hardware.gpu_gib
    if not card:
        raise TunekitError("there is no GPU here to fit on", "name one: --gpus 24GB, --gpus H100")
    notes = list(data.notes)
    try:
        prediction = method(asked)
    except Unknown as error:
        if method is estimate:
            raise
        notes.append(f"the trace cannot tell ({error.message}): this is the estimate")
        prediction = estimate(asked)
    judged = verdict(prediction, card)
    largest = largest_micro_batch(asked, card)
    helps = levers(asked) if judged != FITS else []
    if picture:
        share = f"{asked.loss_share:.0%} of the tokens carry loss"
        about = f"{configuration(asked)} · preset {prepared.plan.preset} · {share} · {prediction.method}"
        draw_prediction(picture, f"{prepared.plan.model.id} on one GPU", about, asked, prediction, card)
    if as_json:
        document = {
            **asdict(prediction),
            "notes": [*notes, *prediction.notes],
            "card_gib": card,
            "verdict": judged,
            "micro_batch": asked.micro_batch,
            "largest_micro_batch": largest,
            "loss_share": asked.loss_share,
            "seq_len": asked.seq_len,
            "data": data.document(),
            "levers": [{"name": item.name, "saves_gib": item.saves_gib, "needs_gib": item.needs_gib} for item in helps],
        }
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return int(Exit.DOES_NOT_FIT if judged == NOT else Exit.DONE)
    print(f"{prepared.plan.model.id} · {configuration(asked)} · preset {prepared.plan.preset}")
    print(f"{bar(prediction, card)}  {judged} {card:.1f} GiB\n")
    parts = sorted(prediction.breakdown.items(), key=lambda part: -part[1])
    scale = BAR / max(card, prediction.process_gib)
    table = [[name, f"{gib:8.2f} GiB", "█" * round(scale * gib)] for name, gib in parts if gib >= 0.005]
    fragmentation = prediction.reserved_gib - prediction.allocated_gib
    context = prediction.process_gib - prediction.reserved_gib
    table += [["fragmentation", f"{fragmentation:8.2f} GiB", "█" * round(scale * fragmentation)]]
    table += [["context", f"{context:8.2f} GiB", ""], ["all", f"{prediction.process_gib:8.2f} GiB", ""]]
    print_table(table)
    print(f"\npeak: {prediction.peak_at}" if prediction.peak_at else "")
    print(f"largest micro-batch that fits: {largest or 'none'}")
    if helps:
        print("\nwhat helps")
        print_table(
            [
                [
                    item.name,
                    f"saves {item.saves_gib:.1f}",
                    f"then needs {item.needs_gib:.1f} GiB",
                    fit_word(item.needs_gib, card),
                ]
                for item in helps
            ]
        )
    say(f"\n{prediction.method}: {data.share(prepared.plan)}")
    for note in [*notes, *prediction.notes]:
        say(note)
    return int(Exit.DOES_NOT_FIT if judged == NOT else Exit.DONE)


def configuration(asked: Spec) -> str:
    """What is trained, and in which rows, in some words."""
    packed = "packed" if asked.packing else "unpacked"
    tuner = asked.tuner if asked.tuner == "full" else f"{asked.tuner} r{asked.lora_rank}"
    stage = "" if asked.stage == "sft" else f"{asked.stage} · "
    with_ = (" · Liger" if asked.liger else "") + (f" · ZeRO-{asked.zero_stage}" if asked.zero_stage else "")
    return f"{stage}{tuner} · micro-batch {asked.micro_batch} × {asked.seq_len} {packed}{with_}"


def bar(prediction: Prediction, card_gib: float) -> str:
    """The card as a bar: what the process takes of it, and ``+`` where that is more than there is."""
    filled = round(BAR * prediction.process_gib / card_gib)
    drawn = "█" * min(BAR, filled) + "·" * max(0, BAR - filled) + ("+" if filled > BAR else "")
    return f"{drawn} {prediction.process_gib:.1f} GiB"


def fit_word(needs_gib: float, card_gib: float) -> str:
    """A mark behind what fits."""
    return "← fits" if needs_gib <= card_gib else ""


def show_what_if(prepared: Prepared, asked: Spec, picture: Path | None = None, *, as_json: bool = False) -> None:
    """The largest micro-batch for GPU sizes, tuners and Liger; drawn, too, where a `picture` is named."""
    cells = [
        [largest_micro_batch(changed, gigabytes * GIB_PER_GB) for changed in _what_if(asked).values()]
        for gigabytes in CLASSES
    ]
    what = f"{asked.seq_len} tokens a row, {asked.loss_share:.0%} of them with loss"
    if picture:
        title = f"{prepared.plan.model.id}: the largest micro-batch that fits"
        draw_what_if(
            picture, title, f"{what} · estimate", list(_what_if(asked)), [f"{size} GB" for size in CLASSES], cells
        )
    if as_json:
        named = [dict(zip(_what_if(asked), row, strict=True)) for row in cells]
        table = [{"gpu_gb": size, "largest_micro_batch": row} for size, row in zip(CLASSES, named, strict=True)]
        print(json.dumps({"seq_len": asked.seq_len, "loss_share": asked.loss_share, "table": table}, indent=2))
        return
    print(f"{prepared.plan.model.id}: largest micro-batch at {what}\n")
    rows = [
        [str(gigabytes), *(str(largest or "–") for largest in row), ""]
        for gigabytes, row in zip(CLASSES, cells, strict=True)
    ]
    print_table([["GB", *_what_if(asked), ""], *rows])


def _what_if(asked: Spec) -> dict[str, Spec]:
    """The columns of the table."""
    return {
        f"{tuner}{' + Liger' if liger else ''}": replace(
            asked, tuner=tuner, quant_bits=4 if tuner == "qlora" else None, liger=liger
        )
        for tuner in ("lora", "qlora", "full")
        for liger in (False, True)
    }


def answer_lines(path: Path) -> None:
    """One answer a line for each configuration in a file of JSON lines; a bad one gets ``error`` in its place.

    Raises:
        TunekitError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TunekitError(f"{path} cannot be read: {error}", code=Exit.DATA) from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            print(json.dumps(_answer(line, number), ensure_ascii=False), flush=True)


def _answer(line: str, number: int) -> dict[str, Any]:
    try:
        asked = Spec.from_json(json.loads(line))
        return asdict(METHODS[asked.method](asked))
    except ValueError as error:
        return {"error": f"line {number}: not JSON: {error}"}
    except TunekitError as error:
        return {"error": f"line {number}: {error.message}"}
