"""What an adapter's own files say: of which model it is, and how large."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.plan.models.catalogue import hub_ids, hub_names
from tunekit.plan.models.model import parameters

if TYPE_CHECKING:
    from tunekit.plan.models.model import Model

FILE = "adapter_config.json"
LARGEST = 1_000_000
"""Bytes of such a file that are read."""

ALIKE = 0.1
"""Sizes that differ by less may be of one model, counted in two ways."""


@dataclass(frozen=True)
class Adapter:
    """An adapter in a folder on this machine.

    Attributes:
        base: the name or folder of the model that it was trained on; empty where it is not said.
        rank: of its matrices, and `alpha` what scales them; None where they are not said.
    """

    base: str
    rank: int | None
    alpha: int | None


def adapter_in(name: str) -> Adapter | None:
    """The adapter in a folder; None where there is no such folder, or it does not say what it is."""
    try:
        path = Path(name).expanduser() / FILE
        if not path.is_file() or path.stat().st_size > LARGEST:
            return None
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    base = document.get("base_model_name_or_path")
    return Adapter(
        base if isinstance(base, str) else "", _above_zero(document.get("r")), _above_zero(document.get("lora_alpha"))
    )


def _above_zero(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def other_base(adapter: Adapter, model: Model) -> bool:
    """Whether an adapter's base is, by its name, another model than this one; a folder that was moved is the same."""
    if not adapter.base or _same_folder(adapter.base, model):
        return False
    return _bare(adapter.base) not in {_bare(name) for name in (model.id, *hub_ids(model))}


def check_base(flag: str, name: str, model: Model) -> None:
    """Raise TunekitError where an adapter cannot be of this model: its base is of another size, or another model."""
    adapter = adapter_in(name)
    if adapter is None or not other_base(adapter, model):
        return
    theirs, ours = parameters(_bare(adapter.base)), model.params_b
    resized = theirs and ours and abs(theirs - ours) > ALIKE * max(theirs, ours)
    listed = hub_names()
    both_known = _bare(adapter.base) in listed and not model.local and _bare(model.id) in listed
    if resized or both_known:
        raise TunekitError(
            f"--{flag} {name} was trained on another model: its base model is {adapter.base}, not {model.id}",
            f"--model {adapter.base}, or an adapter of {model.id}",
        )


def _same_folder(base: str, model: Model) -> bool:
    try:
        return model.local and Path(base).expanduser().resolve() == Path(model.id).expanduser().resolve()
    except (OSError, RuntimeError, ValueError):
        return False


def _bare(name: str) -> str:
    """A model's name without organisation and folders, as in a hub's cache too."""
    cached = re.search(r"models--(?:.+?--)?([^/\\]+)[/\\]snapshots[/\\]", f"{name}/")
    last = cached[1] if cached else re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    return last.replace("___", ".").lower().removeprefix("meta-")
