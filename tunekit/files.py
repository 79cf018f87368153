"""Where tunekit keeps what is not part of a run, and how it writes files that are never half there."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def shipped_presets() -> Path:
    """The folder of presets that tunekit brings: in the wheel, or beside the package in a checkout."""
    inside = Path(__file__).parent / "_presets"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "presets"


def shipped_recipes() -> Path:
    """The folder of recipes that tunekit brings, as `shipped_presets`."""
    inside = Path(__file__).parent / "_recipes"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "recipes"


def config_folder() -> Path:
    """The user's ``config.toml``, ``presets/`` and ``recipes/``. ``TUNEKIT_CONFIG`` names another folder."""
    override = os.environ.get("TUNEKIT_CONFIG")
    if override:
        return Path(override)
    import platformdirs

    return Path(platformdirs.user_config_dir("tunekit"))


def cache_folder() -> Path:
    """What can be made again: flag tables, downloads. ``TUNEKIT_CACHE`` names another folder."""
    override = os.environ.get("TUNEKIT_CACHE")
    if override:
        return Path(override)
    import platformdirs

    return Path(platformdirs.user_cache_dir("tunekit"))


def write_atomically(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Write `content` so that a reader finds the old one or the new, also after a power cut; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none, or it is damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
