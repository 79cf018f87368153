"""The packages that vision models need, for the tests alone: torchvision and qwen_vl_utils.

The torchvision that pip finds is built for CUDA. Beside the CPU build of PyTorch its own operators cannot be loaded,
and then transformers cannot be imported at all, for text models neither. So the tests keep both packages in a folder of
their own, which only the process of `forkrun` has on its path, and declare there the operators that are missing; none
of them is called in training. An environment that has both packages already is used as it is.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

PACKAGES = ("torchvision", "qwen_vl_utils")
CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"

MISSING_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
"""What torchvision gives meta kernels to without asking whether it is there (torchvision/_meta_registrations.py)."""


def folder() -> Path | None:
    """The folder that must stand on the path of the process that trains; None where the packages are installed.

    The first call fetches them with pip, as ``TUNEKIT_TEST_VISION`` names a folder that has them.
    """
    if named := os.environ.get("TUNEKIT_TEST_VISION"):
        return Path(named)
    if all(importlib.util.find_spec(name) for name in PACKAGES):
        return None
    from tunekit.files import cache_folder

    wanted = [line for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines() if line.startswith(PACKAGES)]
    versions = "-".join(line.partition("==")[2] for line in wanted)
    target = cache_folder() / f"vision-{versions}-{sys.implementation.cache_tag}"
    if not target.is_dir():
        half = target.with_name(f"{target.name}.{os.getpid()}")
        # Without their dependencies: PyTorch is here already, and `av` reads videos only.
        words = ["install", "--quiet", "--no-deps", "--target", str(half), *wanted]
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)
        half.rename(target)
    return target


def declare_missing_operators() -> object:
    """Make torchvision importable where its own operators cannot be loaded; keep what is returned alive."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    try:
        torch.ops.load_library(next(Path(spec.origin).parent.glob("_C*.so")))
    except (OSError, StopIteration):
        library = torch.library.Library("torchvision", "DEF")
        for operator in MISSING_OPERATORS:
            library.define(operator)
        return library
    return None
