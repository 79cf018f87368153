"""A plugin of ms-swift that writes down the GPU memory of a run, and can hold the run to less than the card has.

    swift sft … --external_plugins scripts/measure/peak_plugin.py --callbacks tunekit_peak

``PEAK_FILE`` names the JSON file that is written after every optimizer step; ``PEAK_CAP_GIB`` bounds
PyTorch's allocator before the model is loaded. ms-swift imports this file while it reads its arguments
(swift/arguments/base_args/base_args.py, _import_external_plugins) and makes the callback by its name in `callbacks_map`
(swift/trainers/mixin.py, _get_callbacks). Without a GPU every number is null.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
from swift.callbacks import TrainerCallback, callbacks_map

NAME = "tunekit_peak"
GIB = 2**30


def cap(gib: str | None) -> float | None:
    """Bound the allocator to so many GiB; the share of the card that this is, None where nothing is bounded.

    The CUDA context is not counted, as it is not allocated by PyTorch.
    """
    if not gib or not torch.cuda.is_available():
        return None
    _, total = torch.cuda.mem_get_info()
    share = min(1.0, float(gib) * GIB / total)
    torch.cuda.set_per_process_memory_fraction(share)
    return share


def peaks() -> dict[str, int | None]:
    """The most bytes since the last reset, as PyTorch's allocator counts them."""
    if not torch.cuda.is_available():
        return {"allocated": None, "reserved": None}
    return {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}


def asked(query: str) -> list[list[str]]:
    """What nvidia-smi answers about this card, a list of fields a line; nothing where it does not answer."""
    card = ["-i", os.environ["PEAK_CARD"]] if os.environ.get("PEAK_CARD") else []
    command = ["nvidia-smi", *card, query, "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [[field.strip() for field in line.split(",")] for line in answer.splitlines() if line.strip()]


@torch.no_grad()
def fill(model: torch.nn.Module) -> None:
    """Give weights of zeros a content, in place: a GPU multiplies zeros faster, as they take less power."""
    for name, weight in model.named_parameters():
        if "lora_" in name:
            continue
        if not weight.is_floating_point():  # of bitsandbytes: any byte is two weights
            weight.data.random_(0, 256)
            state = getattr(weight, "quant_state", None)
            if state is not None and getattr(state, "offset", None) is not None:
                state.offset.fill_(0.02)  # the mean of the scales, which are zero as the weights were
        elif weight.dim() > 1:
            weight.data.normal_(0, 0.02)
        else:
            weight.data.fill_(0.0 if name.endswith("bias") else 1.0)


def now() -> float:
    """Seconds, when all that was asked of the GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class PeakCallback(TrainerCallback):
    """Writes the peaks after every step: those of loading apart from those of training.

    Blocks that loading left in the allocator stay reserved, so `reserved` counts them, as nvidia-smi does.
    """

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Keep the peaks of loading and begin anew."""
        self.loading = peaks()
        self.steps: list[dict[str, float | None]] = []
        fill(self.trainer.model)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Its rows are there; from here on it is timed."""
        self.began = now()

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Write the file anew, so that what was measured before a failure is kept."""
        self.steps.append({**peaks(), "seconds": now() - self.began})
        gpu = torch.cuda.is_available()
        record = {
            "pid": os.getpid(),
            "card": torch.cuda.get_device_name() if gpu else None,
            "cuda": torch.version.cuda if gpu else None,
            "share": SHARE,
            "step": state.global_step,
            "loading": self.loading,
            "steps": self.steps,
            "retries": torch.cuda.memory_stats()["num_alloc_retries"] if gpu else None,
            "processes_mib": asked("--query-compute-apps=pid,used_memory") if gpu else [],
            "card_used_mib": asked("--query-gpu=memory.used") if gpu else [],
        }
        target = os.environ.get("PEAK_FILE")
        if target and state.is_world_process_zero:
            fresh = Path(f"{target}.new")
            fresh.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            fresh.replace(target)


SHARE = cap(os.environ.get("PEAK_CAP_GIB"))
callbacks_map[NAME] = PeakCallback
