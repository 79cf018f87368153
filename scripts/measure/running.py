"""Run one row as a real ms-swift in a process of its own, and read what the plugin wrote."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from measure.material import make_model, make_rows
from measure.rows import shape

from tunekit.engine.failures import classify
from tunekit.engine.locate import installed_flash
from tunekit.memory.spec import GIB

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from measure.rows import Row

    from tunekit.hardware import Gpu

PLUGIN = Path(__file__).with_name("peak_plugin.py")
ROOT = Path(__file__).resolve().parents[2]
STEPS, ADDED_UP = 5, 2
"""Optimizer steps, and micro-batches in each: the states of the optimizer are there from the second step on, and the
second micro-batch of a step finds the gradients of the first. What follows `WARM_UP` steps tells the speed."""
WARM_UP = 2
LONGEST = 300.0
"""Seconds after which a row is given up."""
FLASH = {"flash_attn": "flash_attn", "flash_attn_3": "flash_attention_3", "flash_attn_4": "flash_attention_4"}
"""ms-swift's name of flash attention, by the package that is here."""

Runner: TypeAlias = "Callable[[list[str], Mapping[str, str], Path, Path, float], int | None]"
"""Runs ``swift WORDS`` with variables in a folder, into a log, for so many seconds at most: `WarmEngines.run`."""


@dataclass(frozen=True)
class Outcome:
    """How a row ended.

    Attributes:
        record: what the plugin wrote; None where the run failed.
        before: MiB of the card that were taken before the run.
        reason: why there is no record; ``""`` where there is one.
        out_of_time: it was ended because no time was left, which says nothing about the row.
        log: the end of what ms-swift printed.
        alone: whether nothing else used the card: else there is no speed, and a process only where one is listed.
    """

    seconds: float
    record: dict[str, Any] | None = None
    before: float | None = None
    reason: str = ""
    out_of_time: bool = False
    log: str = ""
    alone: bool = True

    def gib(self, name: str) -> float | None:
        """The peak of training: ``allocated`` or ``reserved``."""
        sizes = [step[name] for step in self.record["steps"] if step[name] is not None] if self.record else []
        return max(sizes) / GIB if sizes else None

    def tokens_per_second(self, tokens: int) -> float | None:
        """Where a micro-batch has so many: of the steps after `WARM_UP`, without what reading and logging take."""
        took = [step["seconds"] for step in self.record["steps"]][WARM_UP:] if self.record and self.alone else []
        return ADDED_UP * tokens * len(took) / sum(took) if took and all(took) else None

    @property
    def process_gib(self) -> float | None:
        """What nvidia-smi shows of the process; in a container, where it shows none, what the card gave since."""
        if not self.record:
            return None
        listed = [line for line in self.record["processes_mib"] if len(line) == 2 and line[1].isdigit()]
        own = [line for line in listed if line[0] == str(self.record["pid"])]
        if own:
            return int(own[0][1]) / 1024
        used = self.record["card_used_mib"]
        known = self.alone and bool(used) and used[0][0].isdigit() and self.before is not None
        return (int(used[0][0]) - (self.before or 0)) / 1024 if known else None


def attention(kind: str) -> str:
    """ms-swift's name of a prediction's kind of attention."""
    if kind != "flash":
        return kind
    return next((FLASH[package] for package in FLASH if package in installed_flash()), "flash_attn")


def command(row: Row, model: Path, data: Path, output: Path, device: str) -> list[str]:
    """The words behind ``swift``."""
    flags: dict[str, Any] = {
        "model": model,
        "model_type": shape(row.model)["model_type"],
        "template": "qwen2_5_vl" if row.side else "chatml",
        "dataset": data,
        "split_dataset_ratio": 0,
        "tuner_type": "full" if row.tuner == "full" else "lora",
        "torch_dtype": "bfloat16",
        "attn_impl": attention(row.attn),
        "max_length": row.seq_len,
        "per_device_train_batch_size": row.micro_batch,
        "gradient_accumulation_steps": ADDED_UP,
        "max_steps": STEPS,
        "gradient_checkpointing": row.checkpointing,
        "optim": row.optimizer,
        "train_dataloader_shuffle": False,
        "lazy_tokenize": False,
        "dataset_num_proc": 1,
        "dataloader_num_workers": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "check_model": False,
        "add_version": False,
        "output_dir": output,
        "external_plugins": PLUGIN,
        "callbacks": "tunekit_peak",
    }
    optional: dict[str, tuple[bool, Any]] = {
        "rlhf_type": (row.stage != "sft", row.stage),
        "reward_funcs": (row.stage == "grpo", "format"),
        "num_generations": (row.stage == "grpo", row.micro_batch),
        "max_completion_length": (row.stage == "grpo", row.answer),
        "freeze_vit": (row.tower, False),
        "freeze_aligner": (row.tower, False),
        "lora_rank": (row.tuner != "full", row.lora_rank),
        "lora_dropout": (row.tuner != "full", 0.05),
        "target_modules": (row.tuner != "full", "all-linear"),
        "quant_method": (row.tuner == "qlora", "bnb"),
        "quant_bits": (row.tuner == "qlora", 4),
        "packing": (row.packing, True),
        "use_liger_kernel": (row.liger, True),
        "use_cpu": (device == "cpu", True),
    }
    flags |= {name: value for name, (used, value) in optional.items() if used}
    words = ["sft" if row.stage == "sft" else "rlhf"]
    for name, value in flags.items():
        words += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return words


def environment(work: Path, card: Gpu | None, *, expandable: bool = True, **more: str) -> dict[str, str]:
    """Variables of a run: one card, the allocator's setting, no hub, and caches in the folder `work`."""
    launcher = ("NPROC_PER_NODE", "NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "PYTORCH_ALLOC_CONF")
    kept = {name: value for name, value in os.environ.items() if name not in launcher}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    hubs = {"HF_HOME": work / "hf", "MODELSCOPE_CACHE": work / "ms"}
    # What tunekit keeps of a run on a card that is held to less than it has would mislead it later.
    own = {**hubs, "TUNEKIT_CONFIG": work / "config", "TUNEKIT_CACHE": work / "cache"}
    return {
        **kept,
        **{name: str(folder) for name, folder in own.items()},
        "PYTHONPATH": path,
        "HF_HUB_OFFLINE": "1",
        "MODELSCOPE_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": card.device if card else "",
        "PEAK_CARD": card.device if card else "",
        "PYTORCH_CUDA_ALLOC_CONF": f"expandable_segments:{expandable}",
        **more,
    }


def material(row: Row, work: Path) -> tuple[Path, Path]:
    """The model's folder and the dataset of a row; models are shared by rows."""
    model = make_model(work / "models" / f"{row.model.split('/')[-1].lower()}-empty", shape(row.model))
    place = work / row.id
    place.mkdir(parents=True, exist_ok=True)
    return model, make_rows(place / "data.jsonl", row, row.micro_batch * ADDED_UP * STEPS)


def measure(row: Row, work: Path, start: Runner, card: Gpu | None, seconds: float | None) -> Outcome:
    """Train a row and return its peaks.

    Args:
        row: what to train.
        work: a folder for all that is made.
        start: what runs ms-swift.
        card: the GPU; None trains on the CPU, and no peak is known.
        seconds: that are left; None for no limit but `LONGEST`.
    """
    began = time.monotonic()
    place = work / row.id
    found = place / "peak.json"
    found.unlink(missing_ok=True)
    model, data = material(row, work)
    words = command(row, model, data, place / "output", "cuda" if card else "cpu")
    before = used_mib(card) if card else None
    env = environment(work, card, expandable=row.expandable, PEAK_FILE=str(found))
    limit = LONGEST if seconds is None else min(LONGEST, seconds - (time.monotonic() - began))
    log = place / "swift.log"
    status = start(words, env, place, log, limit)
    took = time.monotonic() - began
    text = log.read_text(encoding="utf-8", errors="replace")
    if status is None:
        return Outcome(took, reason=f"not done after {limit:.0f} s", out_of_time=limit < LONGEST, log=text[-20000:])
    reason = refusal(row, status, text, found)
    if reason:
        return Outcome(took, reason=reason, log=text[-20000:])
    record = json.loads(found.read_text(encoding="utf-8"))
    if card and record["card"] is None:
        return Outcome(took, reason="torch does not see the GPU", log=text[-20000:])
    return Outcome(took, record, before)


def refusal(row: Row, status: int, log: str, found: Path) -> str:
    """Why the run tells nothing about the row; empty where it does."""
    if status != 0:
        failure = classify(status, log)
        return f"{failure.kind.title}: {failure.evidence}"
    if row.stage == "grpo":  # its answers are written as it goes
        return "" if found.is_file() else "the plugin wrote nothing"
    seen = re.search(r"Dataset Token Length: .*?min=([\d.]+), max=([\d.]+), size=(\d+)", log)
    wanted = (row.seq_len - row.uneven, row.seq_len)
    if not seen or (float(seen[1]), float(seen[2])) != wanted:
        told = f"{float(seen[1]):.0f} to {float(seen[2]):.0f} tokens" if seen else "an unknown length"
        return f"the rows have {told}, not {wanted[0]} to {wanted[1]}"
    if not found.is_file():
        return "the plugin wrote nothing"
    return ""


def run(words: list[str], env: Mapping[str, str], folder: Path, log: Path, limit: float) -> int | None:
    """The exit status of a program; None where its time was up. None of its processes is left."""
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            words, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
        try:
            return process.wait(max(0.0, limit))
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def used_mib(card: Gpu) -> float | None:
    """MiB of the card that are taken now; None where nvidia-smi does not say."""
    query = ["nvidia-smi", "-i", card.device, "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return float(answer) if answer.isdigit() else None
