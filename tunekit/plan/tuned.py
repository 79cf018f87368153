"""The flags of a plan that say what is trained and how the base is kept, as the memory's specification takes them."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from tunekit.memory.fields import METHODS, TUNERS, TunerFields
from tunekit.memory.quantized import NAMES

if TYPE_CHECKING:
    from tunekit.plan.configuration import Configuration

FREEZING = tuple(item.name for item in fields(TunerFields) if item.name.startswith(("freeze_", "trainable_")))
"""Fields by which full training leaves parameters as they are."""

DROPOUTS = {"vera": ("vera_dropout", 0.0), "boft": ("boft_dropout", 0.0)}
"""The flag of dropout of adapters that have one of their own, and ms-swift's default."""

OTHERWISE = ("adapter", "new_special_tokens", "optimizer_plugin", "quant_method", "quant_group", *FREEZING)
"""Fields that are not read off a flag of their name."""


def tuner_fields(what: Configuration) -> dict[str, Any]:
    """Values of `TunerFields`, and the dropout of the adapter, by name; what the plan leaves open is left out."""
    found: dict[str, Any] = {}
    for item in fields(TunerFields):
        if item.name not in OTHERWISE and what.get(item.name) is not None:
            found[item.name] = _read(what, item.name, item.default)
    if what.full and not what.model.multimodal:  # of a vision model these name the vision tower's too
        names = (item for item in fields(TunerFields) if item.name in FREEZING and what.get(item.name) is not None)
        found |= {item.name: _read(what, item.name, item.default) for item in names}
    kind = what.text("tuner_type", "lora")
    found["adapter"] = kind if kind in TUNERS else "lora"
    flag, default = DROPOUTS.get(kind, ("lora_dropout", 0.05))
    found["lora_dropout"] = what.number(flag, default)
    found["new_special_tokens"] = len(what.words("new_special_tokens"))
    found["optimizer_plugin"] = what.text("optimizer", "default")
    found["quant_method"] = _method(what)
    if what.quantized and what.get("torch_dtype") in ("float16", "float32"):  # ms-swift's quant_args.py
        found.setdefault("bnb_4bit_compute_dtype", "float32")
    return found


def _method(what: Configuration) -> str:
    """How the weights are kept; of a name that says no more than ``Int4`` it is taken to be GPTQ's way."""
    said = what.text("quant_method") or what.model.quantized or "bnb"
    method = NAMES.get(said, said)
    return method if method in METHODS else "gptq"


def _read(what: Configuration, name: str, default: object) -> Any:
    """The value of a flag, of the kind that the field has."""
    if isinstance(default, tuple):
        return tuple(what.words(name))
    if isinstance(default, bool):
        return what.flag(name, default=default)
    if isinstance(default, int):
        return what.whole(name, default)
    return what.number(name, default) if isinstance(default, float) else what.text(name)
