"""What model hubs have left on this machine: whole models of their clients, and single config.json files of tunekit."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any

from tunekit.files import cache_folder, path_of, read_json, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


SHORT = 4096
"""Bytes of a file that holds one line."""


def cached_folder(ids: Sequence[str]) -> Path | None:
    """The folder, with a config.json, of a model that a hub's client has downloaded; None without one.

    `ids` are those of the model on the hubs, each ``organisation/name``.
    """
    return next((folder for folder in _folders(ids) if (folder / "config.json").is_file()), None)


def folders_of(ids: Sequence[str], *, hugging_face: bool) -> list[Path]:
    """Where the client of one hub would have put a model, whether or not it has."""
    found: list[Path] = []
    for owner, name in _parts(ids):
        found += _of_hugging_face(owner, name) if hugging_face else _of_modelscope(owner, name)
    return found


def _folders(ids: Sequence[str]) -> Iterator[Path]:
    for owner, name in _parts(ids):
        yield from _of_hugging_face(owner, name)
        yield from _of_modelscope(owner, name)


def _parts(ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    for hub_id in ids:
        if re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id):
            owner, name = hub_id.split("/")
            yield owner, name


def _of_hugging_face(owner: str, name: str) -> Iterator[Path]:
    """Of huggingface_hub 1."""
    yield from _snapshots(_hugging_face_cache() / f"models--{owner}--{name}", "main")


def _of_modelscope(owner: str, name: str) -> Iterator[Path]:
    """Of modelscope 1.9 to 1.40."""
    modelscope = path_of(os.environ.get("MODELSCOPE_CACHE") or "~/.cache/modelscope")
    yield from _snapshots(modelscope / "models" / f"{owner}--{name}", "master")
    for root in (modelscope / "models", modelscope / "hub" / "models", modelscope, modelscope / "hub"):
        yield root / owner / name.replace(".", "___")
        yield root / owner / name


def _hugging_face_cache() -> Path:
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if named:
        return path_of(named)
    home = os.environ.get("HF_HOME")
    shared = path_of(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return (path_of(home) if home else shared / "huggingface") / "hub"


def _snapshots(repository: Path, branch: str) -> Iterator[Path]:
    """The snapshot that the branch points to, then the others, newest first."""
    with contextlib.suppress(OSError, ValueError):
        yield repository / "snapshots" / read_text(repository / "refs" / branch, SHORT).strip()
    with contextlib.suppress(OSError):
        folders = (repository / "snapshots").iterdir()
        yield from sorted(folders, key=lambda folder: folder.stat().st_mtime_ns, reverse=True)


def kept_answer(hub_id: str) -> dict[str, Any] | None:
    """A config.json that `tunekit.runs.fetch` has brought before; None without one, or where it is damaged."""
    try:
        document = read_json(answer_place(hub_id))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def answer_place(hub_id: str) -> Path:
    """Where a config.json that a hub was asked for is kept."""
    return cache_folder() / "configs" / f"{hub_id.lower().replace('/', '--')}.json"
