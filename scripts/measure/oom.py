"""A real out-of-memory: `tunekit sft` on a card that is held to 24 GB, which must go on with a smaller micro-batch."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from measure.material import make_model, make_rows
from measure.rows import CAP_GIB, OOM_ROW, OOM_ROW_TINY, shape
from measure.running import LONGEST, PLUGIN, environment, run

if TYPE_CHECKING:
    from pathlib import Path

    from tunekit.hardware import Gpu

NAME = f"oom-{CAP_GIB:.0f}gib"
STEPS, EFFECTIVE = 2, 32
CUT = "not done in time"
KEPT = 60
"""Lines of the log of an attempt that are kept: the whole traceback."""


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


def command(model: Path, data: Path, length: int, card: Gpu | None) -> list[str]:
    """The words of the run, all that matters to memory said."""
    words = {
        "--model": model,
        "--model_type": shape((OOM_ROW if card else OOM_ROW_TINY).model)["model_type"],
        "--template": "chatml",
        "--dataset": data,
        "--preset": "7b" if card else "cpu",
        "--micro-batch": OOM_ROW.micro_batch,
        "--effective-batch": EFFECTIVE,
        "--max-length": length,
        "--max_steps": STEPS,
        "--tuner_type": "lora",
        "--attn_impl": "sdpa",
        "--dataset_num_proc": 1,
        "--dataloader_num_workers": 0,
        "--report-to": "none",
        "--external_plugins": PLUGIN,
        "--callbacks": "tunekit_peak",
        "--name": NAME,
    }
    if card:  # plain LoRA, whatever the preset says: the first attempt is not to fit
        words |= {"--gpus": 1, "--packing": "false", "--use_liger_kernel": "false"}
    return [sys.executable, "-m", "tunekit", "sft", *(str(part) for pair in words.items() for part in pair)]


def take(work: Path, card: Gpu | None, seconds: float | None, *, expandable: bool = True) -> Told:
    """Run it; on a CPU nothing can be held to less, so that the first attempt succeeds and `reason` says so."""
    began = time.monotonic()
    row = OOM_ROW if card else OOM_ROW_TINY
    place = work / NAME
    shutil.rmtree(place, ignore_errors=True)  # a run that was cut: its name is taken
    place.mkdir(parents=True)
    model = make_model(work / "models" / f"{row.model.split('/')[-1].lower()}-empty", shape(row.model))
    data = make_rows(place / "data.jsonl", row, EFFECTIVE * STEPS)
    bounds = {"PEAK_CAP_GIB": str(CAP_GIB), "PEAK_FILE": str(place / "peak.json")}
    env = environment(work, card, expandable=expandable, **bounds)
    log = place / "tunekit.log"
    status = run(command(model, data, row.seq_len, card), env, place, log, LONGEST if seconds is None else seconds)
    return Told(*read(place / "runs" / NAME, log, status), time.monotonic() - began)


def read(folder: Path, log: Path, status: int | None) -> tuple[list[dict[str, Any]], str, str]:
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
    return attempts, without_folders("\n\n".join(parts)) + "\n", _reason(attempts, log, status)


def _reason(attempts: list[dict[str, Any]], log: Path, status: int | None) -> str:
    outcomes = [attempt["outcome"] for attempt in attempts]
    if status is None:
        return CUT
    if status != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"tunekit ended with status {status}: {lines[-1] if lines else 'it printed nothing'}"
    if outcomes[:1] == ["done"]:
        return "the first attempt already fitted"
    return ""


def without_folders(text: str) -> str:
    """Paths from the package on, or the file alone: where things lie on this machine is nobody's business."""
    text = re.sub(r"(?<![\w/.])/[^\s\"']*/(?:site|dist)-packages/", "", text)
    return re.sub(r"(?<![\w/.:])(?:/[\w.+@-]+)+/([\w.+@-]+)", r"\1", text)
