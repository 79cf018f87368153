"""The checkpoints of a run: which one a retry may continue from, and which one counts."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from tunekit.engine.locate import package_version
from tunekit.engine.logs import read_summary
from tunekit.errors import Exit, TunekitError
from tunekit.files import path_of, read_object
from tunekit.runs.folder import RESULT

RESTORES_BATCH_BELOW = (5, 2)
"""transformers before 5.2 takes the old micro-batch from ``trainer_state.json`` on resume, whatever the flags say:
the run would be out of memory again, at a doubled effective batch
(https://github.com/huggingface/transformers/pull/43770)."""

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "model.safetensors", "pytorch_model.bin")
SHARDS = "model.safetensors.index.json"
STATE = "trainer_state.json"


def newest(output: Path) -> Path | None:
    """The newest complete checkpoint below `output`, None where there is none.

    ms-swift moves ``last-checkpoint`` only after all files are written; copied folders may be without the link.
    """
    link = output / "last-checkpoint"
    candidates = [link.resolve()] if link.is_symlink() and link.exists() else []
    candidates += sorted(output.glob("checkpoint-*"), key=step, reverse=True)
    return next((path for path in candidates if complete(path)), None)


def saved_checkpoints(output: Path) -> dict[int, Path]:
    """The checkpoints below `output` by step that were written to their end; training need not continue from them.

    The state of the trainer is the last file of one. ``--save_only_model`` leaves the optimizer out.
    """
    found = {step(path): path for path in output.glob("checkpoint-*") if step(path) >= 0}
    return {at: path for at, path in found.items() if has_weights(path) and (path / STATE).is_file()}


def best_checkpoint(output: Path, *, evaluated: bool = False) -> Path | None:
    """The best checkpoint below `output` where the run was evaluated, else the last; None where there is none.

    A run's summary names both; where the run did not end, its newest checkpoint names the best one. Folders may have
    been moved since. `evaluated` takes only what an evaluation found to be the best.
    """
    ended, saved = read_summary(output / "logging.jsonl"), saved_checkpoints(output)
    last = saved[max(saved)] if saved else None
    best = ended.get("best_model_checkpoint")
    if not best and last:
        best = read_object(last / STATE).get("best_model_checkpoint")
    for known in (best, None if evaluated else ended.get("last_model_checkpoint")):
        path = output / Path(str(known or "")).name
        if step(path) >= 0 and path.is_dir():
            return path
    return None if evaluated else last


def link_result(folder: Path) -> Path:
    """Point ``result`` in a finished stage to the checkpoint that counts. Raises TunekitError where there is none."""
    checkpoint = best_checkpoint(folder / "output")
    if checkpoint is None:
        raise TunekitError(f"{folder} has no checkpoint to go on from", "drop --save_strategy no", Exit.TRAINING_FAILED)
    link, new = folder / RESULT, folder / f".{RESULT}.new"
    new.unlink(missing_ok=True)
    new.symlink_to(os.path.join("output", checkpoint.name))  # noqa: PTH118 - relative, so that the folder can be moved
    new.replace(link)
    return checkpoint


def step(path: Path) -> int:
    """The optimizer step of a checkpoint's folder; -1 for any other name."""
    number = path.name.removeprefix("checkpoint-")
    return int(number) if number.isdigit() else -1


def complete(path: Path) -> bool:
    """Whether training continues exactly from this folder.

    A missing optimizer or scheduler would not stop ms-swift: it resumes with the learning rate restarted, silently.
    """
    if step(path) < 0 or not read_object(path / STATE):
        return False
    if any(path.glob("global_step*")):  # DeepSpeed keeps weights, optimizer and scheduler in a folder of its own
        return (path / "latest").is_file()
    states = all(_written(path / name) for name in ("optimizer.pt", "scheduler.pt"))
    return states and has_weights(path) and any(path.glob("rng_state*.pth"))


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds an adapter, which needs its base model beside it."""
    return (path_of(str(folder)) / "adapter_config.json").is_file()


def has_weights(path: Path) -> bool:
    """Whether a folder holds the weights of an adapter or of a model, with every file that an index of pieces names."""
    if any(_written(path / name) for name in WEIGHTS):
        return True
    try:
        return all(_written(path / name) for name in read_object(path / SHARDS)["weight_map"].values())
    except (OSError, KeyError, TypeError, AttributeError):
        return False


def _written(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def ready_to_resume(checkpoint: Path, scratch: Path) -> Path:
    """A complete checkpoint that the installed transformers resumes with the flags' micro-batch.

    Below 5.2 a copy in `scratch` (hard links, so no disk space) whose ``trainer_state.json`` names no batch size.
    """
    version = package_version("transformers")
    if version is None or version >= RESTORES_BATCH_BELOW:
        return checkpoint
    copy = scratch / checkpoint.name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(checkpoint, copy, copy_function=_link)
    state = read_object(copy / STATE) | {"train_batch_size": None}
    (copy / STATE).unlink()  # else the checkpoint's own file would be written, through the hard link
    (copy / STATE).write_text(json.dumps(state), encoding="utf-8")
    return copy


def _link(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:  # another file system
        shutil.copy2(source, target)
