"""Which checkpoint a retry may continue from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tunekit.engine.locate import package_version

RESTORES_BATCH_BELOW = (5, 2)
"""transformers before 5.2 takes the old micro-batch from ``trainer_state.json`` on resume, whatever the flags say:
the run would be out of memory again, at a doubled effective batch
(https://github.com/huggingface/transformers/pull/43770)."""

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "model.safetensors", "pytorch_model.bin")
SHARDS = "model.safetensors.index.json"


def newest(output: Path) -> Path | None:
    """The newest complete checkpoint below `output`, None where there is none.

    ms-swift moves the link ``last-checkpoint`` only after all files of a checkpoint are written; the link may be
    missing where checkpoints were copied, so the folders are looked at too.
    """
    link = output / "last-checkpoint"
    candidates = [link.resolve()] if link.is_symlink() and link.exists() else []
    candidates += sorted(output.glob("checkpoint-*"), key=step, reverse=True)
    return next((path for path in candidates if complete(path)), None)


def step(path: Path) -> int:
    """The optimizer step of a checkpoint's folder; -1 for any other name."""
    number = path.name.removeprefix("checkpoint-")
    return int(number) if number.isdigit() else -1


def complete(path: Path) -> bool:
    """Whether training continues exactly from this folder.

    A missing optimizer or scheduler would not stop ms-swift: it resumes with the learning rate restarted, silently.
    """
    if step(path) < 0 or not (path / "trainer_state.json").is_file():
        return False
    try:
        json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if any(path.glob("global_step*")):  # DeepSpeed keeps weights, optimizer and scheduler in a folder of its own
        return (path / "latest").is_file()
    states = all(_written(path / name) for name in ("optimizer.pt", "scheduler.pt"))
    return states and has_weights(path) and any(path.glob("rng_state*.pth"))


def has_weights(path: Path) -> bool:
    """Whether a folder holds the weights of an adapter or of a model, all of them."""
    return any(_written(path / name) for name in WEIGHTS) or _all_shards(path)


def _all_shards(path: Path) -> bool:
    """Whether every file that the index of a model in pieces names is there."""
    try:
        index = json.loads((path / SHARDS).read_text(encoding="utf-8"))
        return all(_written(path / name) for name in set(index["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _written(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def ready_to_resume(checkpoint: Path, scratch: Path) -> Path:
    """A checkpoint that the installed transformers resumes with the flags' micro-batch.

    Below 5.2 that is a copy (hard links, so no disk space) whose ``trainer_state.json`` names no batch size.

    Args:
        checkpoint: complete.
        scratch: a folder for the copy.
    """
    version = package_version("transformers")
    if version is None or version >= RESTORES_BATCH_BELOW:
        return checkpoint
    copy = scratch / checkpoint.name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(checkpoint, copy, copy_function=_link)
    state_file = copy / "trainer_state.json"
    state = json.loads(state_file.read_text(encoding="utf-8"))
    state["train_batch_size"] = None
    state_file.unlink()
    state_file.write_text(json.dumps(state), encoding="utf-8")
    return copy


def _link(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:  # another file system
        shutil.copy2(source, target)
