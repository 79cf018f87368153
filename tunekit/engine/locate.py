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

from tunekit.plan.configuration import FLASH_PACKAGES

OPTIONAL_PACKAGES = (
    *("bitsandbytes", "liger_kernel", "deepspeed", "vllm"),
    *("swanlab", "wandb", "tensorboard", "mlflow", "trackio"),
    *("torchvision", "qwen_vl_utils"),
)
"""Packages that decide what a plan may use, by import name."""

RESTORES_BATCH_BELOW = (5, 2)
"""transformers before 5.2 takes the old micro-batch from ``trainer_state.json`` on resume, whatever the flags say:
the run would be out of memory again, at a doubled effective batch
(https://github.com/huggingface/transformers/pull/43770)."""


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
    """Which of `OPTIONAL_PACKAGES` and `FLASH_PACKAGES` are here (not proven to work: `tunekit doctor` does that)."""
    return frozenset(name for name in OPTIONAL_PACKAGES if find_package(name)) | installed_flash()


@cache
def installed_flash() -> frozenset[str]:
    """Which of `FLASH_PACKAGES` are installed, by their distributions as transformers finds them."""
    found = {name for name, package in FLASH_PACKAGES.items() if _has_folder(package.module.partition(".")[0])}
    found = {name for name in found if _is_distribution(FLASH_PACKAGES[name].distribution)}
    return frozenset(found if "flash_attn_4" not in found or _knows_flash_4() else found - {"flash_attn_4"})


def _has_folder(name: str) -> bool:
    """Whether a top-level package or namespace is there: flash-attn-4 brings ``flash_attn`` without an __init__.py."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _is_distribution(name: str) -> bool:
    from importlib import metadata  # only where a package of that name was found: it takes some milliseconds

    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _knows_flash_4() -> bool:
    """Whether the transformers here can use flash-attn-4: old ones cannot. Without any, nothing runs anyway."""
    root = find_package("transformers")
    used = root / "modeling_flash_attention_utils.py" if root else None
    return used is None or not used.is_file() or "flash_attention_4" in used.read_text(encoding="utf-8")


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


def has_callback(engine: Installation, name: str) -> bool:
    """Whether ms-swift's ``--callbacks`` knows a name, by its source."""
    table = engine.root / "callbacks" / "mapping.py"
    return table.is_file() and bool(re.search(rf"['\"]{re.escape(name)}['\"]:", table.read_text(encoding="utf-8")))


@cache
def liger_models() -> frozenset[str]:
    """Model types (transformers') that the installed liger-kernel patches, by its source; empty where there is none."""
    root = find_package("liger_kernel")
    table = root / "transformers" / "monkey_patch.py" if root else None
    if table is None or not table.is_file():
        return frozenset()
    _, _, rows = table.read_text(encoding="utf-8").partition("MODEL_TYPE_TO_APPLY_LIGER_FN = {")
    return frozenset(re.findall(r'"(\w+)":', rows.partition("}")[0]))
