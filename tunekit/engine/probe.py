"""Import packages for real, each in an interpreter of its own: it may hang, crash or print, and gets no tokens."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tunekit.engine.locate import find_package
from tunekit.plan import secrets
from tunekit.worker import WorkerFailed, ask_once

if TYPE_CHECKING:
    from collections.abc import Mapping

TIME_LIMIT = 120.0
"""Seconds that one import may take. From a local disk it is 2 to 12; from a cold network disk far more."""

TORCH = """
import torch
found = {"cuda": torch.version.cuda or "", "hip": getattr(torch.version, "hip", None) or "", "gpus": 0}
if torch.cuda.is_available():
    found["gpus"] = torch.cuda.device_count()
    for index in range(found["gpus"]):
        try:
            (torch.ones(1, device=f"cuda:{index}") + 1).item()
        except Exception as error:
            found["gpu_error"] = f"GPU {index}: {type(error).__name__}: {str(error).splitlines()[0]}"
            break
"""
"""A GPU that is listed may still not compute: this torch has no code for it, or it has fallen off the bus."""

BITSANDBYTES = """
import bitsandbytes.cextension as extension
import torch
if torch.cuda.is_available() and "Mock" in type(extension.lib).__name__:
    raise ImportError(f"its CUDA library does not load: {extension.lib.error_msg}")
"""
"""bitsandbytes imports without its library and fails at the first 4-bit layer."""

IMPORTS: Mapping[str, str] = {
    "swift": "from swift.pipelines import sft_main",  # the import of the package alone loads next to nothing
    "torch": TORCH,
    "torchvision": "import torchvision",
    "flash_attn": "import flash_attn",
    "bitsandbytes": BITSANDBYTES,
    "liger_kernel": "import liger_kernel.transformers",
    "deepspeed": "import deepspeed",
    "swanlab": "import swanlab",
}
"""What is run to see whether a package works, by import name. The slowest comes first."""


@dataclass(frozen=True)
class Import:
    """How the import of an installed package went: ``slow`` where the time limit ended it.

    `error` is the whole text of a broken one, `found` what the code in `IMPORTS` found out.
    """

    status: Literal["works", "broken", "slow"]
    error: str = ""
    found: Mapping[str, Any] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The last line of the error, with its type: that is where torch and transformers name the reason."""
        lines = [line.strip() for line in self.error.splitlines() if line.strip()]
        if not lines:
            return ""
        kind = lines[0].partition(":")[0]
        text = lines[-1] if len(lines) == 1 or not kind.isidentifier() else f"{kind}: {lines[-1]}"
        return text if len(text) <= 200 else f"{text[:199]}…"


def try_imports() -> dict[str, Import]:
    """Import what is installed of `IMPORTS`, several at a time; what is not installed is left out."""
    present = [name for name in IMPORTS if find_package(name)]
    if not present:
        return {}
    # More at a time than there are cores would only bring all of them nearer to the limit.
    with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2)) as pool:
        return dict(zip(present, pool.map(try_import, [IMPORTS[name] for name in present]), strict=True))


def try_import(code: str, limit: float = TIME_LIMIT) -> Import:
    """Run `code` in an interpreter of its own."""
    try:
        found = ask_once("tunekit.engine.probe:run_import", code, limit, _without_secrets(os.environ))
        error = found.get("error")
    except WorkerFailed as failed:
        if failed.late:
            return Import("slow")
        found, error = {}, _death(failed)
    if error is None:
        return Import("works", found=found)
    return Import("broken", secrets.redact(error, secrets.secret_values(os.environ)))


def run_import(code: str) -> dict[str, Any]:
    """What `code` leaves in its variable ``found``, or its ``error``; `try_import` asks for it from another process."""
    names: dict[str, Any] = {"found": {}}
    try:
        exec(code, names)  # noqa: S102 - a row of `IMPORTS`
    except BaseException as error:  # noqa: BLE001 - a package may raise anything, SystemExit too
        return {"error": f"{type(error).__name__}: {error}"}
    return dict(names["found"])


def _without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of an import: no tokens, and no hub, which some packages ask meanwhile."""
    kept = {name: value for name, value in environ.items() if not secrets.is_secret(name)}
    return {**kept, "HF_HUB_OFFLINE": "1"}


def _death(failed: WorkerFailed) -> str:
    """Why an interpreter ended without an answer: the signal, or the last line it wrote."""
    if failed.status is None:
        return str(failed)
    if failed.status < 0:
        return f"the interpreter was ended by {signal.Signals(-failed.status).name}"
    return failed.printed or f"the interpreter ended with status {failed.status}"
