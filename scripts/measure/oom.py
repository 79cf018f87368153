"""Real out-of-memory errors: `tunekit sft` held to less than the card has must do the right thing."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from measure.material import make_model, make_rows
from measure.rows import CAP_GIB, OOM_ROW, OOM_ROW_TINY, Row, shape
from measure.running import LONGEST, PLUGIN, environment, run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tunekit.hardware import Gpu

STEPS, EFFECTIVE = 2, 32
CUT = "not done in time"
KEPT = 120
"""Lines of the log of an attempt that are kept: the whole traceback."""


@dataclass(frozen=True)
class Case:
    """One way to run out of memory.

    Attributes:
        cap_gib: what PyTorch may take.
        words: of tunekit, beside those of all cases.
        ends: the exit status that is right.
    """

    name: str
    row: Row
    cap_gib: float
    words: Mapping[str, object]
    ends: int = 0


CASES = (
    Case(f"oom-{CAP_GIB:.0f}gib", OOM_ROW, CAP_GIB, {}),
    Case(
        "oom-evaluating",
        Row("Qwen/Qwen2.5-0.5B", seq_len=1024),
        12.0,
        {
            "--micro-batch": 1,
            "--per_device_eval_batch_size": 32,
            "--eval_strategy": "steps",
            "--eval_steps": 1,
            "--split_dataset_ratio": 0.5,
        },
    ),
    Case("oom-loading", Row("Qwen/Qwen2.5-1.5B", seq_len=1024), 2.0, {"--micro-batch": 1}, ends=1),
)
"""In training, where half of the micro-batch fits; in an evaluation of many rows; while the weights are loaded."""


@dataclass(frozen=True)
class Told:
    """What came out.

    Attributes:
        attempts: as in the run's ``run.json``.
        text: the end of each failed attempt's log, without the machine's folders.
        reason: why this shows no retry; empty where it does.
    """

    attempts: list[dict[str, Any]]
    text: str
    reason: str
    seconds: float


def command(case: Case, model: Path, data: Path, card: Gpu | None) -> list[str]:
    """The words of the run, all that matters to memory said."""
    row = case.row if card else OOM_ROW_TINY
    words = {
        "--model": model,
        "--model_type": shape(row.model)["model_type"],
        "--template": "chatml",
        "--dataset": data,
        "--preset": "7b" if card else "cpu",
        "--micro-batch": row.micro_batch,
        "--effective-batch": EFFECTIVE,
        "--max-length": row.seq_len,
        "--max_steps": STEPS,
        "--tuner_type": "lora",
        "--attn_impl": "sdpa",
        "--dataset_num_proc": 1,
        "--dataloader_num_workers": 0,
        "--report-to": "none",
        "--external_plugins": PLUGIN,
        "--callbacks": "tunekit_peak",
        "--name": case.name,
    }
    if card:  # plain LoRA, whatever the preset says: the first attempt is not to fit
        words |= {"--gpus": 1, "--packing": "false", "--use_liger_kernel": "false", **case.words}
    return [sys.executable, "-m", "tunekit", "sft", *(str(part) for pair in words.items() for part in pair)]


def take(case: Case, work: Path, card: Gpu | None, seconds: float | None, *, expandable: bool = True) -> Told:
    """Run it; on a CPU nothing can be held to less, so that the first attempt succeeds and `reason` says so."""
    began = time.monotonic()
    row = case.row if card else OOM_ROW_TINY
    place = work / case.name
    shutil.rmtree(place, ignore_errors=True)  # a run that was cut: its name is taken
    place.mkdir(parents=True)
    model = make_model(work / "models" / f"{row.model.split('/')[-1].lower()}-empty", shape(row.model))
    data = make_rows(place / "data.jsonl", row, 2 * EFFECTIVE * STEPS)
    bounds = {"PEAK_CAP_GIB": str(case.cap_gib), "PEAK_FILE": str(place / "peak.json")}
    env = environment(work, card, expandable=expandable, **bounds)
    log = place / "tunekit.log"
    limit = LONGEST if seconds is None else seconds
    status = run(command(case, model, data, card), env, place, log, limit)
    return Told(*read(place / "runs" / case.name, log, status, case.ends), time.monotonic() - began)


def read(folder: Path, log: Path, status: int | None, ends: int = 0) -> tuple[list[dict[str, Any]], str, str]:
    """The attempts of a run, what the failed ones printed, and what is wrong with it."""
    state = folder / "run.json"
    attempts = json.loads(state.read_text(encoding="utf-8"))["attempts"] if state.is_file() else []
    failed = [attempt for attempt in attempts if attempt["outcome"] != "done"]
    parts = []
    for attempt in failed:
        text = (folder / "attempts" / str(attempt["number"]) / "train.log").read_text(
            encoding="utf-8", errors="replace"
        )
        lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()][-KEPT:]
        head = f"# attempt {attempt['number']}: {attempt['outcome']}, exit status {attempt['status']}"
        parts.append("\n".join([head, *lines]))
    return attempts, without_folders("\n\n".join(parts)) + "\n", _reason(attempts, log, status, ends)


def _reason(attempts: list[dict[str, Any]], log: Path, status: int | None, ends: int) -> str:
    outcomes = [attempt["outcome"] for attempt in attempts]
    if status is None:
        return CUT
    if status != ends:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"tunekit ended with status {status}: {lines[-1] if lines else 'it printed nothing'}"
    if outcomes[:1] == ["done"]:
        return "the first attempt already fitted"
    return ""


def without_folders(text: str) -> str:
    """Paths from the package on, or the file alone: where things lie on this machine is nobody's business."""
    text = re.sub(r"(?<![\w/.])/[^\s\"']*/(?:site|dist)-packages/", "", text)
    return re.sub(r"(?<![\w/.:])(?:/[\w.+@-]+)+/([\w.+@-]+)", r"\1", text)
