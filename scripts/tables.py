"""The tables of the READMEs that are computed: what fits on which card, and errors against measured runs."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from measure.table import spec_of  # noqa: E402

from tunekit.engine.flags import SNAPSHOT, from_json  # noqa: E402
from tunekit.files import shipped_presets  # noqa: E402
from tunekit.hardware import choose_hardware  # noqa: E402
from tunekit.memory.estimate import estimate  # noqa: E402
from tunekit.plan.models.find import resolve  # noqa: E402
from tunekit.plan.planner import Facts, make_plan  # noqa: E402
from tunekit.plan.presets.shelf import Library  # noqa: E402
from tunekit.plan.request import Request  # noqa: E402
from tunekit.plan.savings import LIGER_MODELS  # noqa: E402
from tunekit.plan.settings import COMMAND_LINE, Setting  # noqa: E402
from tunekit.stages import STAGES, USUAL  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tunekit.plan.plan import Plan

SIZES = (12, 16, 24, 40, 48, 80)
"""GPU memory in GB as sold."""

MODELS = (
    *("Qwen2.5-1.5B", "Qwen2.5-3B", "Qwen2.5-7B", "Qwen3-8B", "Qwen2.5-14B", "gpt-oss-20b", "Qwen3-30B-A3B"),
    *("Qwen2.5-32B", "Qwen2.5-72B"),
)


MEASURED = ROOT / "benchmarks/gpu-h100-80gb-hbm3-2026-11-25.csv"
NEAR = 2
"""Percent."""


def library() -> Library:
    """The shipped presets, checked against the shipped snapshot of flags."""
    flags = from_json(json.loads(SNAPSHOT.read_text(encoding="utf-8")), installed=False)
    return Library(shipped_presets(), None, flags)


def planned(model: str, gpu_gb: int, shelf: Library) -> Plan:
    """What ``tunekit sft --gpus 24GB`` plans by itself, with nothing said of preset or batch."""
    known, data = resolve(model), Setting(["data.jsonl"], COMMAND_LINE)
    request = Request(stage=STAGES[USUAL], model=known.id, typed={"dataset": data}, preset="auto")
    facts = Facts(
        flags=shelf.flags,
        shelf=shelf,
        environ={},
        hardware=choose_hardware(f"{gpu_gb}GB"),
        packages=None,
        model=known,
        liger_models=LIGER_MODELS,
    )
    return make_plan(request, facts)


def in_short(plan: Plan) -> str:
    """A plan in a cell: how it trains, micro-batch × accumulation, GiB; a dash where it does not fit."""
    if plan.peak is None or not plan.peak.fits:
        return "–"
    batch, tuner = plan.batch, "QLoRA" if plan.get("quant_bits") else "LoRA"
    tight = "" if plan.peak.safe else ", tight"
    return f"{tuner} {batch.micro} × {batch.accumulation}<br>{plan.peak.prediction.process_gib:.1f} GiB{tight}"


def cards(model: str, tokens: str) -> str:
    """What fits, by model and card, under heads in the words of a language."""
    shelf, rows = library(), []
    for name in MODELS:
        plans = [planned(name, size, shelf) for size in SIZES]
        lengths = dict.fromkeys(str(plan.get("max_length")) for plan in plans if plan.peak and plan.peak.fits)
        rows.append([name, " / ".join(lengths), *map(in_short, plans)])
    return table([model, tokens, *(f"{size} GB" for size in SIZES)], rows)


def kind_of(line: Mapping[str, str]) -> str:
    """The class of a measured row: a key of the words of `measured`."""
    if line["image_side"]:
        return "pictures"
    return line["stage"] if line["stage"] != USUAL else "text"


def measured(words: Mapping[str, str], head: list[str]) -> str:
    """How far the estimate is from what PyTorch allocated in the measured runs, by class."""
    errors: dict[str, list[float]] = {kind: [] for kind in words}
    with MEASURED.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            told = estimate(spec_of(line, choose_hardware("H100").gpus[0].capability)).allocated_gib
            errors[kind_of(line)].append(100 * (told / float(line["allocated_gib"]) - 1))
    rows = []
    for kind, found in errors.items():
        near = sum(abs(error) <= NEAR for error in found)
        rows.append([words[kind], str(len(found)), str(near), f"{min(found):+.1f} %", f"{max(found):+.1f} %"])
    return table(head, rows)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


TABLES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "README.md": {
        "cards": lambda: cards("model", "tokens a row"),
        "measured": lambda: measured(
            {
                "text": "text, SFT: LoRA and QLoRA, with and without Liger",
                "dpo": "text, DPO",
                "grpo": "text, GRPO",
                "pictures": "pictures, SFT",
            },
            ["real runs on an H100", "rows", "within 2 %", "lowest", "highest"],
        ),
    },
    "README.zh.md": {
        "cards": lambda: cards("模型", "每行 token 数"),
        "measured": lambda: measured(
            {
                "text": "文本，SFT：LoRA 与 QLoRA，用或不用 Liger",
                "dpo": "文本，DPO",
                "grpo": "文本，GRPO",
                "pictures": "图文，SFT",
            },
            ["H100 上的真实训练", "行数", "误差不超过 2 %", "最低", "最高"],
        ),
    },
}
"""What makes each table, by page and by the name of its marks."""
