"""The file of measurements, and how far predictions are from them."""

from __future__ import annotations

import csv
import io
import statistics
from typing import TYPE_CHECKING, Any

from measure.rows import ENDING, beyond_text, shape

from tunekit.files import write_atomically
from tunekit.memory.estimate import estimate
from tunekit.memory.spec import ZERO_STAGES, Prediction, Spec, Unknown
from tunekit.memory.trace.client import trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from measure.rows import Row
    from measure.running import Outcome

COLUMNS = (
    *("id", "source", "model", "tuner", "quant_bits", "lora_rank", "target_modules", "micro_batch", "seq_len"),
    *("loss_share", "packing", "gradient_checkpointing", "attn", "optimizer", "liger", "stage", "precision"),
    *("gpus", "zero_stage", "expandable_segments", "card", "allocated_gib", "reserved_gib", "process_gib"),
    *("versions", "date"),
)
GPU_COLUMNS = (*COLUMNS, "tokens_per_second", "image_side", "tower")
"""Of what is measured here: published rows say a speed seldom, and have a file of their own for it."""
MEASURED = ("allocated", "reserved", "process")
SOURCE = "scripts/measure-memory"
METHODS: dict[str, Callable[[Spec], Prediction]] = {"estimate": estimate, "trace": lambda spec: trace(spec, 300)}


def record(row: Row, outcome: Outcome, card: str, versions: str, date: str) -> dict[str, str]:
    """A measured row as the words of the file; what is not known is empty."""
    spec, speed = row.spec, outcome.tokens_per_second(row.tokens)
    numbers = {
        "allocated_gib": outcome.gib("allocated"),
        "reserved_gib": outcome.gib("reserved"),
        "process_gib": outcome.process_gib,
    }
    values: dict[str, Any] = {
        **{name: getattr(spec, name) for name in COLUMNS if hasattr(spec, name)},
        **{name: None if number is None else f"{number:.4f}" for name, number in numbers.items()},
        "id": row.id,
        "source": SOURCE,
        "model": row.model,
        "seq_len": row.seq_len,
        "lora_rank": None if row.tuner == "full" else row.lora_rank,
        "target_modules": None if row.tuner == "full" else "+".join(spec.target_modules),
        "loss_share": f"{spec.loss_share:.4f}",
        "card": card,
        "versions": versions,
        "date": date,
        "tokens_per_second": None if speed is None else f"{speed:.0f}",
        "image_side": row.side or None,
        "tower": row.tower,
    }
    return {name: _word(values[name]) for name in GPU_COLUMNS}


def _word(value: Any) -> str:
    if value is None:
        return ""
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def spec_of(line: Mapping[str, str], capability: tuple[int, int] | None = None) -> Spec:
    """The configuration that a line of the file describes, on a card of this compute capability."""

    def flag(name: str) -> bool:
        return line[name] == "yes"

    length, share, side = int(line["seq_len"]), float(line["loss_share"]), int(line.get("image_side") or 0)
    answer, tower = round(share * length) - ENDING, line.get("tower") == "yes"
    return Spec(
        config=shape(line["model"]),
        tuner=line["tuner"],
        quant_bits=int(line["quant_bits"]) if line["quant_bits"] else None,
        lora_rank=int(line["lora_rank"] or 8),
        target_modules=tuple((line["target_modules"] or "all-linear").split("+")),
        micro_batch=int(line["micro_batch"]),
        **beyond_text(length, answer, line["stage"], side, tower=tower),
        loss_share=share,
        packing=flag("packing"),
        gradient_checkpointing=flag("gradient_checkpointing"),
        attn=line["attn"],
        optimizer=line["optimizer"],
        precision=line["precision"],
        liger=flag("liger"),
        stage=line["stage"],
        gpus=int(line["gpus"]),
        sharding=ZERO_STAGES[int(line["zero_stage"])],
        expandable_segments=flag("expandable_segments"),
        capability=capability,
    )


def read(path: Path) -> list[dict[str, str]]:
    """The lines of a file; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def add(path: Path, line: Mapping[str, str]) -> None:
    """Append a line; the file is never half written."""
    text = io.StringIO()
    writer = csv.DictWriter(text, GPU_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*read(path), line])
    write_atomically(path, text.getvalue())


def predict(method: Callable[[Spec], Prediction], spec: Spec) -> Prediction | str:
    """What a method says, or why it says nothing."""
    try:
        return method(spec)
    except Unknown as error:
        return error.message


def errors(lines: Sequence[Mapping[str, str]], title: str, capability: tuple[int, int] | None = None) -> list[str]:
    """A table of the measured peaks and the errors of one of `METHODS` in percent, and a summary."""
    wrong: dict[str, list[float]] = {name: [] for name in MEASURED}
    wide = max((len(line["id"]) for line in lines), default=0)
    table = [f"{title}: measured GiB, and how much more is predicted"]
    table.append(f"{'':{wide}}  {'  '.join(f'{name:>15}' for name in MEASURED)}")
    for line in lines:
        told = predict(METHODS[title], spec_of(line, capability))
        cells = []
        for name in MEASURED:
            text = line[f"{name}_gib"]
            if isinstance(told, str) or not text:
                cells.append(f"{text[:-2] or '-':>7}       -")
                continue
            error = 100 * (getattr(told, f"{name}_gib") / float(text) - 1)
            wrong[name].append(error)
            cells.append(f"{float(text):7.2f} {error:+6.1f}%")
        table.append(f"{line['id']:{wide}}  {'  '.join(f'{cell:>15}' for cell in cells)}")
        if isinstance(told, str):
            table.append(f"  {title} says nothing: {told}")
    for name, values in wrong.items():
        if values:
            mean = statistics.mean(abs(error) for error in values)
            worst = max(values, key=abs)
            table.append(f"{name}: {len(values)} rows, mean error {mean:.1f} %, worst {worst:+.1f} %")
    return table
