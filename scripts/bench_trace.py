"""Compare the memory trace with published measurements and print the tables.

    python scripts/bench_trace.py measured.csv [WORDS]

The rows are those that ``fitcheck-llm`` 0.3.1 measured on a Tesla T4 (its source distribution, data/measurements),
with the loop of its ``scripts/measure.py``: fp16 without autocast, LoRA on q, k, v and o without dropout, the default
AdamW, checkpoints that are not reentrant, memory-efficient attention with grouped keys expanded. WORDS select rows.
"""

from __future__ import annotations

import csv
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tunekit.memory.spec import Spec, Unknown  # noqa: E402
from tunekit.memory.trace import trace  # noqa: E402

FIELDS = "hidden_size num_hidden_layers num_attention_heads num_key_value_heads intermediate_size vocab_size"


def config(kind: str, sizes: tuple[int, ...], *, tied: bool, **more: Any) -> dict[str, Any]:
    """A config.json with the fields that decide memory."""
    named = dict(zip(FIELDS.split(), sizes, strict=True))
    return {"model_type": kind, **named, "tie_word_embeddings": tied, **more}


CONFIGS = {
    "SmolLM2-135M": config("llama", (576, 30, 9, 3, 1536, 49152), tied=True),
    "SmolLM2-360M": config("llama", (960, 32, 15, 5, 2560, 49152), tied=True),
    "SmolLM2-1.7B": config("llama", (2048, 24, 32, 32, 8192, 49152), tied=True),
    "deepseek-coder-1.3b-instruct": config("llama", (2048, 24, 16, 16, 5504, 32256), tied=False),
    "Qwen2.5-Coder-1.5B-Instruct": config("qwen2", (1536, 28, 12, 2, 8960, 151936), tied=True),
    "Qwen2.5-1.5B-Instruct": config("qwen2", (1536, 28, 12, 2, 8960, 151936), tied=True),
    "Llama-3.2-1B-Instruct": config("llama", (2048, 16, 32, 8, 8192, 128256), tied=True, head_dim=64),
    "Llama-3.2-3B-Instruct": config("llama", (3072, 28, 24, 8, 8192, 128256), tied=True, head_dim=128),
}


def spec_of(row: dict[str, str]) -> Spec | None:
    """What a row of the table trained; None where its model is not known here."""
    known = CONFIGS.get(row["model"].rsplit("/", 1)[-1])
    if known is None or not row["id"].startswith("fitcheck"):
        return None
    quantized = row["method"] == "qlora"
    return Spec(
        config=known,
        tuner=row["method"],
        double_quant=False,
        kbit_prepare=quantized,
        lora_rank=int(row["lora_rank"]),
        target_modules=tuple(row["target_modules"].split("+")),
        lora_dropout=0.0,
        micro_batch=int(row["micro_batch"]),
        seq_len=int(row["seq_len"]),
        attn="eager" if row["attn"] == "eager" else "sdpa",
        optimizer="adamw_torch",
        precision="fp16",
        outputs_kept=True,
        method="trace",
    )


def number(notes: str, name: str) -> float:
    """A number that the notes of a row give."""
    found = re.search(rf"{name}=([0-9.]+)", notes)
    return float(found.group(1)) if found else float("nan")


def summary(name: str, errors: list[float]) -> str:
    """One line about errors in percent."""
    sizes = sorted(abs(error) for error in errors)
    ninety_fifth = sizes[min(len(sizes) - 1, round(0.95 * (len(sizes) - 1)))]
    return (
        f"{name}: n {len(errors)}, mean {statistics.mean(sizes):.2f} %, median {statistics.median(sizes):.2f} %, "
        f"95th {ninety_fifth:.1f} %, lowest {min(errors):+.1f} %, highest {max(errors):+.1f} %"
    )


def main() -> None:
    """Print a table and two summaries."""
    errors: dict[str, list[float]] = {"allocated": [], "reserved": [], "process": []}
    print("row,model,tuner,attn,rows x tokens,allocated,traced,%,process,traced,%,seconds")
    with Path(sys.argv[1]).open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if all(word in str(row) for word in sys.argv[2:])]
    for row in rows:
        spec = spec_of(row)
        if spec is None:
            continue
        began = time.perf_counter()
        try:
            told = trace(spec, 300, loop="plain")
        except Unknown as error:
            print(f"{row['id']},unknown: {error}")
            continue
        took = time.perf_counter() - began
        measured = {"allocated": float(row["peak_gib"])}
        measured["reserved"] = number(row["notes"], "reserved_gib")
        measured["process"] = number(row["notes"], "process_gib")
        said = {"allocated": told.allocated_gib, "reserved": told.reserved_gib, "process": told.process_gib}
        wrong = {name: 100 * (said[name] / measured[name] - 1) for name in measured}
        for name, error in wrong.items():
            errors[name].append(error)
        print(
            f"{row['id']},{spec_name(row)},{row['method']},{spec.attn},{spec.micro_batch}x{spec.seq_len},"
            f"{measured['allocated']:.3f},{said['allocated']:.3f},{wrong['allocated']:+.1f},"
            f"{measured['process']:.3f},{said['process']:.3f},{wrong['process']:+.1f},{took:.1f}",
            flush=True,
        )
    for name, values in errors.items():
        if values:
            print(summary(name, values))


def spec_name(row: dict[str, str]) -> str:
    """The model's short name."""
    return row["model"].rsplit("/", 1)[-1]


if __name__ == "__main__":
    main()
