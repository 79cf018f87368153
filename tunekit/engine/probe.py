"""What of the packages is here, and whether it works.

Imports are real ones, each in an interpreter of its own: a package may hang, crash or print, and gets no tokens.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tunekit.engine.locate import find_package, installed_flash
from tunekit.plan import secrets
from tunekit.plan.configuration import FLASH_PACKAGES
from tunekit.worker import WorkerFailed, ask_once

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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
    "flash_attn_3": "import flash_attn_interface",
    "flash_attn_4": "import flash_attn.cute",
    "bitsandbytes": BITSANDBYTES,
    "liger_kernel": "import liger_kernel.transformers",
    "deepspeed": "import deepspeed",
    "swanlab": "import swanlab",
}
"""What is run to see whether a package works, by the name that plans know it by. The slowest comes first."""

Watch = Callable[[str], None]
"""Is told in a few words what is being done."""


@dataclass(frozen=True)
class Import:
    """How the import of an installed package went: ``slow`` where the time limit ended it, ``untried`` without one.

    `error` is the whole text of a broken one, `found` what the code in `IMPORTS` found out.
    """

    status: Literal["works", "broken", "slow", "untried"]
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


def find_packages() -> dict[str, Import]:
    """What is installed of `IMPORTS`, without an import: of torch, its files say for which GPUs it was built."""
    found: dict[str, Import] = {name: Import("untried") for name in _present()}
    if "torch" in found:
        found["torch"] = Import("untried", found=_torch_build(find_package("torch")))
    return found


def try_imports(watch: Watch) -> dict[str, Import]:
    """Import what is installed of `IMPORTS`, several at a time; what is not installed is left out."""
    names = _present()
    left = dict.fromkeys(names)
    lock = threading.Lock()

    def tell() -> None:
        watch(f"importing {', '.join(left)}" if left else "")

    def attempt(name: str) -> Import:
        result = try_import(IMPORTS[name])
        with lock:
            del left[name]
            tell()
        return result

    if not names:
        return {}
    tell()
    # More at a time than there are cores would only bring all of them nearer to the limit.
    with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2)) as pool:
        return dict(zip(names, pool.map(attempt, names), strict=True))


def _present() -> list[str]:
    flash = installed_flash()
    return [name for name in IMPORTS if (name in flash if name in FLASH_PACKAGES else find_package(name))]


def _torch_build(root: Path | None) -> dict[str, str]:
    """The CUDA or ROCm that a torch was built for, as its version.py says."""
    try:
        text = (root / "version.py").read_text(encoding="utf-8", errors="replace") if root else ""
    except OSError:
        text = ""
    rows = {name: re.search(rf"^{name}(?:: [^=]*)? = '([^']*)'", text, re.MULTILINE) for name in ("cuda", "hip")}
    return {name: row.group(1) if row else "" for name, row in rows.items()}


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
