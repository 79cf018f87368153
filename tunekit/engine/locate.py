"""Find ms-swift and its companions in this interpreter without importing any of them.

The interpreter is asked, never ``PATH``: a ``swift`` found there may be Apple's compiler.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

OPTIONAL_PACKAGES = (
    *("flash_attn", "flash_attn_3", "bitsandbytes", "liger_kernel", "deepspeed", "swanlab", "wandb", "vllm"),
    *("torchvision", "qwen_vl_utils"),
)
"""Packages that decide what a plan may use, by import name."""


@dataclass(frozen=True)
class Installation:
    """The ms-swift of an interpreter, whose `root` is the folder of the package ``swift``."""

    python: str
    root: Path
    version: str

    @property
    def program(self) -> tuple[str, ...]:
        """The words that start ms-swift in this interpreter."""
        # Not with -m: a swift.py in the current folder would be run instead. ms-swift names its trainers so too.
        return (self.python, str(self.root / "cli" / "main.py"))


@cache
def find_package(name: str) -> Path | None:
    """The folder of a top-level package, found without running any of its code; None where it is not installed."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a half-loaded or broken entry on the path counts as absent
        return None
    return Path(spec.origin).parent if spec and spec.origin else None


@cache
def find_engine() -> Installation | None:
    """ms-swift in this interpreter, or None. A package ``swift`` that is not ms-swift does not count."""
    root = find_package("swift")
    if root is None or not (root / "cli" / "main.py").is_file():
        return None
    found = re.search(r"^__version__ = '([^']+)'", (root / "version.py").read_text(encoding="utf-8"), re.MULTILINE)
    return Installation(sys.executable, root, found.group(1) if found else "unknown")


def installed_packages() -> frozenset[str]:
    """Which of `OPTIONAL_PACKAGES` are installed here (present, not proven to work: `tunekit doctor` imports them)."""
    return frozenset(name for name in OPTIONAL_PACKAGES if find_package(name))


def package_version(distribution: str) -> tuple[int, ...] | None:
    """The release numbers of an installed distribution, as in ``(5, 19, 0)``; None where it is not installed."""
    from importlib import metadata

    try:
        return release_of(metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return None


def release_of(version: str) -> tuple[int, ...]:
    """The release numbers of a version: ``(5, 19, 0)`` of ``5.19.0+cu128``; empty where it holds no number."""
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+", maxsplit=1)[0])[:3])


@cache
def liger_models() -> frozenset[str]:
    """Model types (transformers') that the installed liger-kernel patches, by its source; empty where there is none."""
    root = find_package("liger_kernel")
    table = root / "transformers" / "monkey_patch.py" if root else None
    if table is None or not table.is_file():
        return frozenset()
    _, _, rows = table.read_text(encoding="utf-8").partition("MODEL_TYPE_TO_APPLY_LIGER_FN = {")
    return frozenset(re.findall(r'"(\w+)":', rows.partition("}")[0]))
