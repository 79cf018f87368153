"""Compare the memory estimate with published measurements whose configuration is known.

    python scripts/bench_estimate.py MEASURED_CSV

Rows of one card, with fixed lengths, plain LoRA, QLoRA or full training and a model of tunekit/plan/configs.json.
"""

from __future__ import annotations

import csv
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tunekit.memory.estimate import estimate  # noqa: E402
from tunekit.memory.spec import Prediction, Spec  # noqa: E402

T4_CONTEXT = 0.1376
"""GiB: what the source measured on its T4 (140.9 MiB)."""
PRECISE = "fitcheck"
"""The rows whose every setting is known; their loop is plain: float16, no autocast, outputs held, no dropout."""


def configs() -> dict[str, dict[str, Any]]:
    """config.json by model, without the maker's name."""
    known = json.loads((ROOT / "tunekit/plan/configs.json").read_text(encoding="utf-8"))
    return {name.split("/")[-1]: config for name, config in known.items()}


def config_of(model: str, known: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """The config of a published name, whatever it is tuned for."""
    name = re.sub(r"-(Instruct|instruct|Chat|chat)$", "", model.rsplit("/", maxsplit=1)[-1]).replace("Coder-", "")
    return known.get(name)


def spec_of(row: dict[str, str], known: dict[str, dict[str, Any]]) -> Spec | None:
    """The row as a specification, or None where too little of it is known."""
    config = config_of(row["model"], known)
    if config is None or not row["id"].startswith(PRECISE):
        return None
    qlora = row["method"] == "qlora"
    return Spec(
        config=config,
        tuner=row["method"],
        double_quant=False,
        kbit_prepare=qlora,
        lora_rank=int(row["lora_rank"]),
        target_modules=tuple(row["target_modules"].split("+")),
        lora_dropout=0.0,
        micro_batch=int(row["micro_batch"]),
        seq_len=int(row["seq_len"]),
        gradient_checkpointing=row["grad_ckpt"] == "yes",
        attn="eager" if row["attn"] == "eager" else "sdpa",
        precision="fp16",
        outputs_kept=True,
    )


def measured(row: dict[str, str]) -> tuple[float, float, float]:
    """Allocated, reserved and process GiB."""
    notes = dict(re.findall(r"(\w+)=([\d.]+)", row["notes"]))
    return float(row["peak_gib"]), float(notes["reserved_gib"]), float(notes["process_gib"])


def line(row: dict[str, str], spec: Spec, guess: Prediction) -> tuple[float, float]:
    """Print one comparison; returns the errors of allocated and process in percent."""
    allocated, _, process = measured(row)
    wrong = (guess.allocated_gib / allocated - 1) * 100
    whole = ((guess.reserved_gib + T4_CONTEXT) / process - 1) * 100
    shape = f"{spec.tuner:5} {spec.attn:5} {spec.micro_batch}x{spec.seq_len}"
    print(
        f"{row['id']:13} {row['model'].split('/')[-1]:30} {shape:18} {allocated:8.3f} {guess.allocated_gib:8.3f}"
        f" {wrong:+6.1f} % {process:8.3f} {whole:+6.1f} %  {guess.peak_at}"
    )
    return wrong, whole


def main() -> None:
    """Print the table."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} MEASURED_CSV")
    known, seen = configs(), set()
    errors: list[tuple[float, float]] = []
    print(f"{'row':13} {'model':30} {'configuration':18} measured estimate  error   process  error")
    with Path(sys.argv[1]).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            spec = spec_of(row, known)
            if spec is None:
                continue
            key = (row["model"], row["peak_gib"], repr(spec))
            if key in seen:
                continue  # measured again, with the same result
            seen.add(key)
            errors.append(line(row, spec, estimate(spec)))
    for name, column in (("allocated", 0), ("process", 1)):
        sizes = [abs(error[column]) for error in errors]
        print(
            f"{name}: {len(sizes)} rows, mean {statistics.mean(sizes):.2f} %, median {statistics.median(sizes):.2f} %,"
            f" worst {max((error[column] for error in errors), key=abs):+.1f} %"
        )


if __name__ == "__main__":
    main()
