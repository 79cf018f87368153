"""Compare predictions of memory with measured rows and with each other, and write the tables of docs/memory.md.

    python scripts/bench_memory.py [--quick]

* benchmarks/measured.csv: published rows whose configuration is known, or assumed as memory_rows.py says.
  benchmarks/gpu-*.csv: rows that scripts/measure-memory took.
* Errors by class, and row by row. With --quick nothing is traced.
* Estimate, trace and fitcheck-llm on the same rows. FITCHECK_PYTHON names an interpreter that has it; without, its
  column is left out.
* Estimate against trace on many shapes, tuners and settings; not with --quick, which keeps the page's old table.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from memory_rows import ASSUMED, CONFIGS, KINDS, ROOT, MeasuredRow, rows_of

from tunekit.memory.estimate import estimate
from tunekit.memory.geometry import Geometry
from tunekit.memory.spec import Prediction, Spec, Unknown
from tunekit.memory.trace.client import LIBRARIES, trace, trace_worker

if TYPE_CHECKING:
    from tunekit.worker import Worker

PAGE = ROOT / "docs/memory.md"
MARKS = ("<!-- tables: written by scripts/bench-memory -->", "<!-- end of tables -->")
LIMIT = 600
"""Seconds that one trace may take."""
GRID = "### The estimate against the trace\n"


def fitcheck_question(row: MeasuredRow) -> dict[str, Any]:
    """A row in fitcheck-llm's words."""
    spec, shape = row.spec, Geometry.from_config(row.spec.config)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return {
        "model": {
            "name": "model",
            "num_params": shape.parameters,
            "hidden_size": shape.hidden,
            "num_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_kv_heads": shape.kv_heads,
            "intermediate_size": shape.intermediate,
            "vocab_size": shape.vocab,
            "head_dim": shape.head_dim,
            "tie_word_embeddings": shape.tied,
        },
        "training": {
            "precision": spec.precision,
            "quantization": "nf4" if spec.bits == 4 else "none",
            "double_quant": spec.bits == 4 and spec.double_quant,
            "batch_size": spec.micro_batch,
            "seq_len": spec.seq_len,
            "lora_rank": None if spec.tuner == "full" else spec.lora_rank,
            "lora_targets": targets if spec.target_modules == ("all-linear",) else list(spec.target_modules),
            "grad_checkpoint": spec.gradient_checkpointing,
            "flash_attn": spec.attn != "eager",
        },
        "gpu": "t4" if "T4" in row.card else "a100-80",
    }


def _in_fitchecks_words(spec: Spec) -> bool:
    """Whether fitcheck-llm has words for it: it knows no packing, Liger, preferences, several GPUs and experts."""
    asked = spec.packing or spec.liger or spec.stage != "sft" or spec.gpus > 1
    return not asked and not Geometry.from_config(spec.config).experts


def fitcheck(rows: list[MeasuredRow]) -> dict[str, dict[str, float]]:
    """GiB by row and kind as fitcheck-llm says; nothing without it, nor of packing, Liger and preferences."""
    python = os.environ.get("FITCHECK_PYTHON")
    known = [row for row in rows if _in_fitchecks_words(row.spec)]
    if not python or not known:
        return {}
    lines = "".join(json.dumps(fitcheck_question(row)) + "\n" for row in known)
    script = str(ROOT / "scripts/bench_fitcheck.py")
    done = subprocess.run([python, script], input=lines, capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return {row.id: answer for row, answer in zip(known, answers, strict=True)}


def gib(said: Prediction) -> dict[str, float]:
    """A prediction by kind."""
    return {kind: getattr(said, f"{kind}_gib") for kind in KINDS}


def predictions(rows: list[MeasuredRow], worker: Worker | None) -> dict[str, dict[str, dict[str, float]]]:
    """GiB by method, row and kind; without a worker there is no trace."""
    found = {"estimate": {row.id: gib(estimate(row.spec)) for row in rows}}
    for row in rows if worker else ():
        try:
            found.setdefault("trace", {})[row.id] = gib(trace(row.spec, LIMIT, worker=worker))
        except Unknown as error:
            print(f"{row.id}: {error.message}", file=sys.stderr)
    said = fitcheck(rows)
    return {**found, "fitcheck-llm": said} if said else found


def summary(errors: list[float]) -> list[str]:
    """Count, mean, median, 95th percentile of the sizes, and the worst either way."""
    sizes = sorted(abs(error) for error in errors)
    high = sizes[round(0.95 * (len(sizes) - 1))]
    middle = [f"{number:.2f} %" for number in (statistics.mean(sizes), statistics.median(sizes), high)]
    return [str(len(errors)), *middle, f"{min(errors):+.1f} %", f"{max(errors):+.1f} %"]


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]) + "\n"


SUMMARY = ["rows", "mean", "median", "95th", "lowest", "highest"]


def errors_of(rows: list[MeasuredRow], said: dict[str, dict[str, float]], kind: str) -> list[float]:
    """Percent by which a method is above what was measured, of the rows that have both."""
    pairs = [(said[row.id][kind], row.measured[kind]) for row in rows if kind in row.measured and row.id in said]
    return [100 * (told / measured - 1) for told, measured in pairs]


def by_class(rows: list[MeasuredRow], methods: dict[str, dict[str, dict[str, float]]]) -> str:
    """How far each method is from each class of rows, and from all; fitcheck-llm's own holdout is a class too."""
    groups: dict[str, list[MeasuredRow]] = {}
    for row in rows:
        groups.setdefault(row.kind, []).append(row)
    groups = dict(sorted(groups.items()))
    groups["fitcheck-llm's holdout"] = [row for row in rows if row.held_out]
    body = []
    for group, members in groups.items():
        for kind in KINDS:
            for name, said in methods.items():
                known = all(kind in answer for answer in said.values())
                errors = errors_of(members, said, kind) if known else []
                if errors:
                    body.append([group, kind, name, *summary(errors)])
    return table(["class", "", "method", *SUMMARY], body)


def assumptions() -> str:
    """What is assumed of each source."""
    return table(["rows", "assumed"], [[f"{name}-*", item.words] for name, item in ASSUMED.items()])


def each(rows: list[MeasuredRow], methods: dict[str, dict[str, dict[str, float]]]) -> str:
    """Every row with every method: its process, or what was allocated where nobody measured that."""
    body = []
    for row in rows:
        spec, kind = row.spec, "allocated" if "allocated" in row.measured else "process"
        length = f"{spec.micro_batch} × {spec.seq_len}"
        said = [
            f"{errors_of([row], answers, kind)[0]:+.1f} %" if row.id in answers else "" for answers in methods.values()
        ]
        where = f"{spec.gpus} × {spec.sharding}" if spec.gpus > 1 else spec.attn
        body.append([row.id, row.kind, where, length, f"{row.measured[kind]:.2f} {kind}", *said])
    return table(["row", "class", "attention, or GPUs", "rows × tokens", "GiB", *methods], body)


FAMILIES = {
    "Qwen2.5-7B": "Qwen/Qwen2.5-7B",
    "Qwen3-8B": "Qwen/Qwen3-8B",
    "Llama-3.1-8B": "meta-llama/Llama-3.1-8B",
    "gemma-2-2b": "google/gemma-2-2b",
    "gemma-3-1b": "google/gemma-3-1b",
    "Phi-3-mini": "microsoft/Phi-3-mini-4k",
    "Qwen3-30B-A3B": "Qwen/Qwen3-30B-A3B",
    "gpt-oss-20b": "openai/gpt-oss-20b",
}
SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "a quarter with loss": {"loss_share": 0.25},
    "packed": {"packing": True, "attn": "flash", "micro_batch": 4, "loss_share": 0.25},
    "Liger": {"liger": True, "micro_batch": 2},
    "no checkpointing": {"gradient_checkpointing": False, "seq_len": 1024},
    "eager": {"attn": "eager"},
    "no dropout": {"lora_dropout": 0.0, "micro_batch": 4, "loss_share": 0.25},
    "one micro-batch a step": {"accumulates": False},
    "DPO": {"stage": "dpo", "seq_len": 1024},
}
"""What is compared: each with each tuner."""


DEPTH = 8


def shallow(config: dict[str, Any]) -> dict[str, Any]:
    """A shape with `DEPTH` layers: a trace takes as long as there are layers, and they are all alike."""
    depth = config["num_hidden_layers"]
    cut = {name: value[:DEPTH] for name, value in config.items() if isinstance(value, list) and len(value) == depth}
    return {**config, **cut, "num_hidden_layers": DEPTH}


def grid(worker: Worker) -> tuple[str, int]:
    """How far the estimate is from the trace, by setting; and how many could not be traced."""
    errors: dict[str, dict[str, list[float]]] = {}
    unknown = 0
    for family, model in FAMILIES.items():
        for setting, changes in SETTINGS.items():
            for tuner in ("lora", "qlora", "full"):
                attn = "flash" if "gpt-oss" in model else "sdpa"
                spec = Spec(config=shallow(CONFIGS[model]), tuner=tuner, expandable_segments=True)
                spec = replace(spec, **{"attn": attn, **changes})
                try:
                    traced = trace(spec, LIMIT, worker=worker)
                except Unknown as error:
                    print(f"{family}, {tuner}, {setting}: {error.message}", file=sys.stderr)
                    unknown += 1
                    continue
                told = estimate(spec)
                for name in (f"setting: {setting}", f"tuner: {tuner}", f"model: {family}", "all"):
                    kinds = errors.setdefault(name, {"allocated": [], "reserved": []})
                    kinds["allocated"].append(100 * (told.allocated_gib / traced.allocated_gib - 1))
                    kinds["reserved"].append(100 * (told.reserved_gib / traced.reserved_gib - 1))
    body = []
    for name in sorted(errors, key=lambda name: (name == "all", name)):
        kinds = errors[name]
        parts = [
            [f"{statistics.mean(map(abs, kind)):.2f} %", f"{max(kind, key=abs):+.1f} %"] for kind in kinds.values()
        ]
        body.append([name, str(len(kinds["allocated"])), *parts[0], *parts[1]])
    return table(["", "compared", "allocated: mean", "worst", "reserved: mean", "worst"], body), unknown


def times() -> str:
    """How long an answer takes, nothing kept from before."""
    spec = Spec(config=CONFIGS["meta-llama/Llama-3.1-8B"])
    began = time.perf_counter()
    for _ in range(100):
        estimate(spec)
    quick = (time.perf_counter() - began) / 100
    before = os.environ.get("TUNEKIT_CACHE")
    with tempfile.TemporaryDirectory() as empty:
        os.environ["TUNEKIT_CACHE"] = empty
        began = time.perf_counter()
        trace(spec, LIMIT)
        slow = time.perf_counter() - began
    del os.environ["TUNEKIT_CACHE"]
    if before is not None:
        os.environ["TUNEKIT_CACHE"] = before
    return f"An estimate takes {1000 * quick:.1f} ms, a trace of Llama-3.1-8B {slow:.0f} s with its start.\n"


def tables(old: str, *, quick: bool) -> str:
    """Everything between the marks; `old` is what stands there."""
    rows = [row for path in sorted((ROOT / "benchmarks").glob("*.csv")) if _of_memory(path) for row in rows_of(path)]
    with contextlib.nullcontext() if quick else trace_worker() as worker:
        methods = predictions(rows, worker)
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
        parts = [f"With {versions}.\n", *(() if quick else (times(),))]
        parts += ["### By class\n", by_class(rows, methods), "### What is assumed of them\n", assumptions()]
        if worker is None:
            parts += [GRID + old.partition(GRID)[2].partition("\n### ")[0]] if GRID in old else []
        else:
            text, unknown = grid(worker)
            left_out = f" {unknown} of the combinations cannot be traced." if unknown else ""
            parts += [GRID, f"Real widths, {DEPTH} layers, expandable segments.{left_out}\n", text]
        parts += ["### Row by row\n", each(rows, methods)]
    return "\n".join(parts)


def _of_memory(path: Path) -> bool:
    return path.stem == "measured" or path.stem.startswith("gpu-")


def main(words: list[str]) -> None:
    """Write the tables into the page."""
    if words not in ([], ["--quick"]):
        sys.exit(__doc__)
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(MARKS[0])
    old, _, after = rest.partition(MARKS[1])
    text = tables(old, quick=bool(words))
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{text}\n{MARKS[1]}{after}", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
