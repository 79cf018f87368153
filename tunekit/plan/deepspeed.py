"""Configurations of DeepSpeed and FSDP that a flag names: a name of ms-swift's, a file of JSON, or JSON itself."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tunekit.plan.batch import Batch
    from tunekit.plan.settings import Setting

ZERO = {"zero0": 0, "zero1": 1, "zero2": 2, "zero3": 3, "zero2_offload": 2, "zero3_offload": 3}
"""ms-swift's names for configurations of DeepSpeed, and their stages of ZeRO (sft_args.py, _init_deepspeed)."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "deepspeed": tuple(ZERO),
    "fsdp": ("fsdp2",),
    "teacher_deepspeed": tuple(ZERO),
}
"""Flags that name such a configuration, and the names that ms-swift has for its own."""

LARGEST = 1_000_000
"""Bytes of a file that is read."""

BATCH_NUMBERS: Mapping[str, Callable[[Batch], int]] = {
    "train_micro_batch_size_per_gpu": lambda batch: batch.micro,
    "gradient_accumulation_steps": lambda batch: batch.accumulation,
    "train_batch_size": lambda batch: batch.effective,
}
"""Numbers of DeepSpeed's that transformers compares with its own, and stops where they differ."""


def zero_stage_of(word: str) -> int:
    """The stage of ZeRO by ms-swift's name, or in a configuration of the user's; 0 without one that can be read."""
    if word in ZERO:
        return ZERO[word]
    zero = _quietly("deepspeed", word).get("zero_optimization") if word else None
    stage = zero.get("stage") if isinstance(zero, dict) else None
    return stage if stage in (1, 2, 3) and not isinstance(stage, bool) else 0


def shared_by(deepspeed: str, fsdp: str | None) -> tuple[str, tuple[str, ...]]:
    """How the GPUs share a model, and what leaves them, in the memory's words; an unreadable file says nothing.

    ms-swift's ``zero2_offload`` sends the states away, ``zero3_offload`` the parameters too (its config/*.json).
    """
    if fsdp is not None:
        return _shared_by_fsdp(fsdp)
    stage = zero_stage_of(deepspeed)
    if deepspeed in ZERO:
        gone = ("optimizer", "parameters")[: stage - 1] if deepspeed.endswith("_offload") else ()
        return (f"zero{stage}" if stage else "none"), gone
    zero = _quietly("deepspeed", deepspeed).get("zero_optimization") if stage else None
    parts = {"offload_optimizer": "optimizer", "offload_param": "parameters"}
    named = {
        parts[key]: value.get("device")
        for key, value in (zero or {}).items()
        if key in parts and isinstance(value, dict)
    }
    able = parts.values() if stage == 3 else ("optimizer",)
    return (f"zero{stage}" if stage else "none"), tuple(part for part in able if named.get(part) in ("cpu", "nvme"))


def _shared_by_fsdp(word: str) -> tuple[str, tuple[str, ...]]:
    document = {} if word in NAMES["fsdp"] else _quietly("fsdp", word)
    told, config = str(document.get("fsdp", "")), document.get("fsdp_config")
    config = config if isinstance(config, dict) else {}
    gone: tuple[str, ...] = (
        ("optimizer", "parameters") if "offload" in told.split() or config.get("offload_params") is True else ()
    )
    gone += ("activations",) if config.get("activation_cpu_offload") is True else ()
    return ("fsdp1" if config.get("fsdp_version") == 1 else "fsdp2"), gone


def _quietly(flag: str, word: str) -> dict[str, Any]:
    try:
        return _document(flag, word)
    except TunekitError:
        return {}


def check_configurations(settings: Mapping[str, Setting]) -> None:
    """Raise TunekitError where a flag names a configuration that is not there, or is none."""
    for flag, names in NAMES.items():
        setting = settings.get(flag)
        if setting is not None and setting.value != "None" and setting.value not in names:
            _document(flag, str(setting.value))


def check_batch_numbers(settings: Mapping[str, Setting], batch: Batch) -> None:
    """Raise TunekitError where a configuration of DeepSpeed's says another batch than the plan."""
    setting = settings.get("deepspeed")
    if setting is None or setting.value in ZERO or setting.value == "None":
        return
    document = _document("deepspeed", str(setting.value))
    for name, ours in BATCH_NUMBERS.items():
        number = document.get(name, "auto")
        if number not in ("auto", ours(batch)):
            raise TunekitError(
                f"--deepspeed {_shown(str(setting.value))}: {name} is {_shown(str(number))}, and the plan has "
                f"{ours(batch)}",
                f'write "{name}": "auto"; the batch is said with --effective-batch and --micro-batch',
            )


def _document(flag: str, word: str) -> dict[str, Any]:
    """The JSON object that a word names or is. Raises TunekitError."""
    if word.lstrip().startswith("{"):
        return _parsed(word, f"--{flag} {_shown(word)}")
    try:
        path = Path(word).expanduser().absolute()
        state = path.stat() if path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # ~nobody, names that are too long
        state = None
    if state is None:
        names = NAMES[flag]
        hint = did_you_mean(word[:60], names) or f"ms-swift has {', '.join(names)} of its own"
        raise TunekitError(f"--{flag} {_shown(word)}: there is no such file", hint)
    return _read(flag, str(path), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=16)
def _read(flag: str, path: str, changed: int, size: int) -> dict[str, Any]:
    """A file's object; `changed` and `size` tell versions of it apart."""
    del changed
    if size > LARGEST:
        raise TunekitError(f"--{flag} {path}: {size:,} bytes are no configuration")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TunekitError(f"--{flag} {path}: cannot be read: {error}") from error
    return _parsed(text, f"--{flag} {path}")


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise TunekitError(f"{where}: line {error.lineno} is not valid JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise TunekitError(f"{where}: not valid JSON") from error
    if not isinstance(document, dict):
        raise TunekitError(f"{where}: not a JSON object")
    return document


def _shown(word: str) -> str:
    return word if len(word) <= 60 else f"{word[:60]}…"
