"""The checkpoints of a run: which one a retry may continue from, and which one counts."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.engine.locate import RESTORES_BATCH_BELOW, package_version
from tunekit.engine.logs import read_summary
from tunekit.errors import Exit, TunekitError
from tunekit.files import path_of, read_object
from tunekit.runs.folder import RESULT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "model.safetensors", "pytorch_model.bin")
SHARDS = "model.safetensors.index.json"
STATE = "trainer_state.json"


UNFINISHED = "checkpoint-is-incomplete.txt"
"""transformers keeps this file in a checkpoint while a stop writes it (trainer_jit_checkpoint.py)."""

LONGEST_HEADER = 100_000_000
"""Bytes; safetensors itself reads no longer one."""

LOADING = re.compile(
    r"in (?:_load_from_checkpoint|_load_optimizer_and_scheduler|_load_rng_state|_load_callback_state|load_from_json"
    r"|deepspeed_load_checkpoint|load_checkpoint|load_peft_weights)\b"
    r"|SafetensorError|PytorchStreamReader failed|UnpicklingError"
)
"""What the log of an attempt shows that failed while it read its checkpoint (transformers/trainer.py, peft, torch)."""


def newest(output: Path, but: Collection[str] = ()) -> Path | None:
    """The newest complete checkpoint below `output`, `but` not one of these names; None where there is none.

    ``last-checkpoint`` is not asked: it may lead elsewhere, or be older than what was saved since. The state of the
    trainer is the last file of a checkpoint, so one whose files are whole is complete.
    """
    candidates = sorted((path for path in output.glob("checkpoint-*") if path.name not in but), key=step, reverse=True)
    return next((path for path in candidates if complete(path)), None)


def damaged(output: Path, found: Path | None) -> list[Path]:
    """Checkpoints newer than the one that was found, which are not complete, newest first."""
    newer = [path for path in output.glob("checkpoint-*") if step(path) > (step(found) if found else -1)]
    return sorted((path for path in newer if not complete(path)), key=step, reverse=True)


def saved_checkpoints(output: Path) -> dict[int, Path]:
    """The checkpoints below `output` by step that were written to their end; training need not continue from them.

    The state of the trainer is the last file of one. ``--save_only_model`` leaves the optimizer out.
    """
    found = {step(path): path for path in output.glob("checkpoint-*") if step(path) >= 0}
    return {at: path for at, path in found.items() if _weights(path, whole) and read_object(path / STATE)}


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
    return int(number) if number.isdecimal() else -1


def complete(path: Path) -> bool:
    """Whether training continues exactly from this folder: all files are there, and none was cut off.

    A missing optimizer or scheduler would not stop ms-swift: it resumes with the learning rate restarted, silently.
    """
    at = step(path)
    if at < 0 or (path / UNFINISHED).exists() or read_object(path / STATE).get("global_step") != at:
        return False
    if any(path.glob("global_step*")):  # DeepSpeed keeps weights, optimizer and scheduler in a folder of its own
        return _deepspeed_complete(path)
    states = all(whole(path / name) for name in ("optimizer.pt", "scheduler.pt"))
    return states and _weights(path, whole) and _random_states(path)


def _deepspeed_complete(path: Path) -> bool:
    """``latest`` names the folder; in it are weights, and a part of the optimizer of every process."""
    try:
        place = path / (path / "latest").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return False
    parts = list(place.glob("*_states.pt")) if place.parent == path and _deepspeed_step(place) == step(path) else []
    optimizers = [part for part in parts if part.name.endswith("optim_states.pt")]
    enough = len(optimizers) >= max(1, _ranks(path)) and len(optimizers) < len(parts)
    return enough and all(map(whole, parts)) and (not any(path.glob("rng_state*.pth")) or _random_states(path))


def _deepspeed_step(place: Path) -> int:
    """The optimizer step that the name of DeepSpeed's folder holds; -1 for any other name."""
    number = place.name.removeprefix("global_step")
    return int(number) if number.isdecimal() else -1


def _random_states(path: Path) -> bool:
    """Whether every process saved its random state: ``rng_state.pth`` of one, ``rng_state_0.pth`` … of several."""
    found = sorted(path.glob("rng_state*.pth"))
    ranks = max(1, _ranks(path), len(found))
    names = {"rng_state.pth"} if ranks == 1 else {f"rng_state_{rank}.pth" for rank in range(ranks)}
    return {file.name for file in found} == names and all(map(whole, found))


def _ranks(path: Path) -> int:
    """How many processes trained, as ``args.json`` in a checkpoint says; 0 where it does not."""
    said = read_object(path / "args.json").get("global_world_size")
    return said if isinstance(said, int) and said > 0 else 0


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds an adapter, which needs its base model beside it."""
    return (path_of(str(folder)) / "adapter_config.json").is_file()


def has_weights(path: Path) -> bool:
    """Whether a folder holds the weights of an adapter or of a model, with every file that an index of pieces names."""
    return _weights(path, _written)


def _weights(path: Path, good: Callable[[Path], bool]) -> bool:
    if any(good(path / name) for name in WEIGHTS):
        return True
    try:
        return all(good(path / name) for name in set(read_object(path / SHARDS)["weight_map"].values()))
    except (OSError, KeyError, TypeError, AttributeError):
        return False


def _written(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def whole(path: Path) -> bool:
    """Whether a file of safetensors or of torch was written to its end. Reads its head or its tail."""
    try:
        if not path.is_file():
            return False
        return _whole_tensors(path) if path.suffix == ".safetensors" else _whole_archive(path)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def _whole_tensors(path: Path) -> bool:
    """The header says where the last tensor ends (https://github.com/huggingface/safetensors#format)."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= LONGEST_HEADER:
            return False
        header = json.loads(file.read(length))
    ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    return bool(8 + length + max(ends, default=0) == path.stat().st_size)


def _whole_archive(path: Path) -> bool:
    """``torch.save`` writes a zip archive, whose table stands at its end; before 1.6 it wrote a bare pickle."""
    with path.open("rb") as file:
        head = file.read(2)
    if head[:1] == b"\x80":
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return bool(archive.namelist())
    except zipfile.BadZipFile:
        return False


def loading_failed(log: str) -> bool:
    """Whether the log of an attempt that went on from a checkpoint shows that it could not be read."""
    return bool(LOADING.search(log[log.rfind("Traceback (most recent call last)") :]))


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
