"""Compare predictions of memory with measured rows and with each other, and write the tables of docs/memory.md.

    python scripts/bench_memory.py [--quick]

* benchmarks/measured.csv: published rows whose configuration is known. benchmarks/gpu-*.csv: rows that
  scripts/measure-memory took.
* Estimate, trace and fitcheck-llm on the same rows. FITCHECK_PYTHON names an interpreter that has it; without, its
  column is left out.
* Estimate against trace on many shapes, tuners and settings; not with --quick.
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from measure.table import spec_of as spec_of_run  # noqa: E402

from tunekit.hardware import CARDS  # noqa: E402
from tunekit.memory.estimate import estimate  # noqa: E402
from tunekit.memory.geometry import Geometry  # noqa: E402
from tunekit.memory.spec import Prediction, Spec, Unknown  # noqa: E402
from tunekit.memory.trace.client import LIBRARIES, trace, trace_worker  # noqa: E402

if TYPE_CHECKING:
    from tunekit.worker import Worker

PAGE = ROOT / "docs/memory.md"
MARKS = ("<!-- tables: written by scripts/bench-memory -->", "<!-- end of tables -->")
LIMIT = 600
"""Seconds that one trace may take."""
PLAIN, FITCHECK, HELD_OUT = "plain", "fitcheck-llm", "final-t4"
"""The loop of the rows that fitcheck-llm's authors measured; how their sources are called; and the file of those that
its numbers were not fitted to."""
KINDS = ("allocated", "reserved", "process")


def _qwen(hidden: int, layers: int, heads: int, width: int) -> dict[str, Any]:
    """Qwen's first generation in the shape of its second: as many heads of keys as of queries."""
    sizes = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    kind = {"model_type": "qwen2", "vocab_size": 151936, "tie_word_embeddings": False}
    return {**kind, **sizes, "num_key_value_heads": heads, "intermediate_size": width}


SHAPES = {
    "Qwen/Qwen-1_8B": _qwen(2048, 24, 16, 5504),
    "Qwen/Qwen-7B": _qwen(4096, 32, 32, 11008),
    "Qwen/Qwen-14B": _qwen(5120, 40, 40, 13696),
}
CONFIGS = {**json.loads((ROOT / "tunekit/plan/models/configs.json").read_text(encoding="utf-8")), **SHAPES}


@dataclass(frozen=True)
class Row:
    """A measured configuration.

    Attributes:
        id: its name in the file.
        file: where it stands.
        held_out: whether fitcheck-llm's own numbers were fitted without it.
        loop: ``swift`` or ``plain``.
        spec: what was trained.
        card: on which GPU.
        measured: GiB by kind, of what was measured.
    """

    id: str
    file: str
    held_out: bool
    loop: str
    spec: Spec
    card: str
    measured: dict[str, float]


def capability(card: str) -> tuple[int, int] | None:
    """The compute capability of a card by its name as the driver gives it, None where it is not known."""

    def words(name: str) -> set[str]:
        return {word for word in name.lower().replace("-", " ").split() if not word.endswith("gb")}

    named = [item for item in CARDS.values() if words(item[0]) <= words(card)]
    return max(named, key=lambda item: len(words(item[0])))[2] if named else None


def rows_of(path: Path) -> list[Row]:
    """The rows of one file."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    found = []
    for line in lines:
        measured = {kind: float(line[f"{kind}_gib"]) for kind in KINDS if line[f"{kind}_gib"]}
        card = capability(line["card"])
        loop = PLAIN if FITCHECK in line["source"] else "swift"
        spec = spec_of_published(line, plain=loop == PLAIN) if path.stem == "measured" else spec_of_run(line)
        spec = replace(spec, capability=card)
        found.append(Row(line["id"], path.stem, HELD_OUT in line["source"], loop, spec, line["card"], measured))
    return found


def spec_of_published(line: dict[str, str], *, plain: bool) -> Spec:
    """A line of measured.csv; a plain loop has one micro-batch a step, no dropout, and holds the logits."""
    quantized = line["tuner"] == "qlora"
    return Spec(
        config=CONFIGS[line["model"]],
        tuner=line["tuner"],
        quant_bits=int(line["quant_bits"]) if line["quant_bits"] else None,
        double_quant=not plain,
        kbit_prepare=plain and quantized,
        lora_rank=int(line["lora_rank"]),
        target_modules=tuple(line["target_modules"].split("+")),
        lora_dropout=0.0 if plain else 0.05,
        micro_batch=int(line["micro_batch"]),
        seq_len=int(line["seq_len"]),
        loss_share=float(line["loss_share"]),
        gradient_checkpointing=line["gradient_checkpointing"] == "yes",
        attn=line["attn"],
        optimizer=line["optimizer"],
        precision=line["precision"],
        outputs_kept=plain,
        accumulates=not plain,
    )


def fitcheck_question(row: Row) -> dict[str, Any]:
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


def fitcheck(rows: list[Row]) -> dict[str, dict[str, float]]:
    """GiB by row and kind as fitcheck-llm says; nothing without it, nor of packing, Liger and preferences."""
    python = os.environ.get("FITCHECK_PYTHON")
    known = [row for row in rows if not (row.spec.packing or row.spec.liger or row.spec.stage != "sft")]
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


def predictions(rows: list[Row], worker: Worker) -> dict[str, dict[str, dict[str, float]]]:
    """GiB by method, row and kind."""
    found: dict[str, dict[str, dict[str, float]]] = {"estimate": {}, "trace": {}}
    for row in rows:
        found["estimate"][row.id] = gib(estimate(row.spec))
        try:
            found["trace"][row.id] = gib(trace(row.spec, LIMIT, loop=row.loop, worker=worker))
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


def errors_of(rows: list[Row], said: dict[str, dict[str, float]], kind: str) -> list[float]:
    """Percent by which a method is above what was measured, of the rows that have both."""
    pairs = [(said[row.id][kind], row.measured[kind]) for row in rows if kind in row.measured and row.id in said]
    return [100 * (told / measured - 1) for told, measured in pairs]


def compared(rows: list[Row], methods: dict[str, dict[str, dict[str, float]]], *, by_role: bool) -> str:
    """How far each method is from a group of rows."""
    groups = {"all": rows}
    if by_role:
        groups["holdout"] = [row for row in rows if row.held_out]
    body = []
    for kind in KINDS:
        for name, said in methods.items():
            for group, members in groups.items():
                known = all(kind in answer for answer in said.values())
                errors = errors_of(members, said, kind) if known else []
                if errors:
                    body.append([kind, name, *([group] if by_role else []), *summary(errors)])
    return table(["", "method", *(["which"] if by_role else []), *SUMMARY], body)


def each(rows: list[Row], methods: dict[str, dict[str, dict[str, float]]], kind: str) -> str:
    """Every row with every method."""
    body = []
    for row in rows:
        spec = row.spec
        length = f"{spec.micro_batch} × {spec.seq_len}"
        said = [
            f"{errors_of([row], answers, kind)[0]:+.1f} %" if row.id in answers else "" for answers in methods.values()
        ]
        body.append([row.id, spec.tuner, spec.attn, length, f"{row.measured[kind]:.2f}", *said])
    return table(["row", "tuner", "attention", "rows × tokens", f"{kind}, GiB", *methods], body)


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


def tables(*, quick: bool) -> str:
    """Everything between the marks."""
    rows = [row for path in sorted((ROOT / "benchmarks").glob("*.csv")) for row in rows_of(path)]
    with trace_worker() as worker:
        methods = predictions(rows, worker)
        precise = [row for row in rows if row.loop == PLAIN]
        coarse = [row for row in rows if row.file == "measured" and row.loop != PLAIN]
        own = [row for row in rows if row.file != "measured"]
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
        parts = [f"With {versions}.\n", times()]
        parts += ["### A Tesla T4, every setting known\n", compared(precise, methods, by_role=True)]
        parts += ["### An A100, as published for Qwen's first generation\n", compared(coarse, methods, by_role=False)]
        if own:
            parts += ["### Rows of scripts/measure-memory\n", compared(own, methods, by_role=False)]
            parts += [
                each([row for row in own if kind in row.measured], methods, kind) for kind in ("allocated", "process")
            ]
        if not quick:
            text, unknown = grid(worker)
            left_out = f" {unknown} of the combinations cannot be traced." if unknown else ""
            parts += [
                "### The estimate against the trace\n",
                f"Real widths, {DEPTH} layers, expandable segments.{left_out}\n",
                text,
            ]
        parts += ["### Row by row: process, T4\n", each(precise, methods, "process")]
        parts += ["### Row by row: as published, A100\n", each(coarse, methods, "process")]
    return "\n".join(parts)


def main(words: list[str]) -> None:
    """Write the tables into the page."""
    if words not in ([], ["--quick"]):
        sys.exit(__doc__)
    text = tables(quick=bool(words))
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{text}\n{MARKS[1]}{after}", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
