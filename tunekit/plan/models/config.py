"""The config.json of a model, wherever it is here, and what it says: shape, positions, bits of the weights."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.files import read_json, shortened
from tunekit.plan.models.catalogue import hub_ids
from tunekit.plan.models.hub import cached_folder, kept_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.plan.models.model import Model

CONFIGS = Path(__file__).with_name("configs.json")
"""The shape of common models: the numbers of their config.json that decide the memory."""

QUANTIZED = re.compile(
    r"aqlm|awq|gptq|int4|int8|nvfp4|fp8|bnb|hqq|eetq|gguf|mlx|exl2|auto-?round|w\da\d{1,2}|\dbits?(?![a-z])"
)
"""Marks in the lower-case name of a model whose weights come quantized."""

BITS = re.compile(r"int([48])(?!\d)|(?<![\da-z])([2-8])-?bits?(?![a-z])|fp([48])(?!\d)|w([48])a\d")
"""Of the weights, in such a name."""

IN_MEMORY = (4, 8)
"""Bits of quantized weights whose memory is known."""

UNPACKED = ("mxfp4",)
"""Quantizations that transformers undoes where the model is trained, gpt-oss's."""


def quantization(name: str, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """How the weights of a model come quantized, by its config.json, or by its name where that is not here."""
    said = (config or {}).get("quantization_config")
    if isinstance(said, dict):
        method = str(said.get("quant_method") or ("bitsandbytes" if "load_in_4bit" in said else "quantized"))
        in_bits = [said.get("bits"), said.get("w_bit"), 4 if said.get("load_in_4bit") is True else None]
        in_bits += [8 if said.get("load_in_8bit") is True or "fp8" in method else None]
        bits = next((bits for bits in in_bits if isinstance(bits, int) and not isinstance(bits, bool)), None)
        return {} if method in UNPACKED else {"quantized": method, "bits": bits}
    short = name.rsplit("/", maxsplit=1)[-1].lower()
    mark = QUANTIZED.search(short) if config is None else None
    if mark is None:
        return {}
    found = BITS.search(short)
    bits = int(next(filter(None, found.groups()))) if found else 4 if mark[0] in ("awq", "bnb", "gptq") else None
    return {"quantized": mark[0], "bits": bits}


def config_of(model: Model) -> dict[str, Any]:
    """The config.json of a model: from its folder, the shipped one of a common model, or what a hub has left here.

    Raises TunekitError where it is nowhere here, or does not say the shape of the weights.
    """
    if model.local:
        return read_config(Path(model.id) / "config.json") or {}
    found = shipped_config(model) or kept_config(model)
    if found is None:
        raise unknown_shape(model)
    return usable_config(model, found)


def kept_config(model: Model) -> dict[str, Any] | None:
    """A model's config.json, as the hubs' clients or tunekit itself have left it here; None where they have not."""
    folder = cached_model(model)
    return (read_config(folder / "config.json") if folder else None) or kept_answer(hub_ids(model)[0])


def usable_config(model: Model, config: dict[str, Any]) -> dict[str, Any]:
    """A config.json that came from a hub. Raises TunekitError where it does not say the shape of the weights."""
    said = quantization(model.id, config)
    if said and (not model.quantized or model.bits not in IN_MEMORY):
        raise TunekitError(f"the weights of {model.id} come quantized, which the prediction does not know")
    return config


def unknown_shape(model: Model, problem: str = "") -> TunekitError:
    """What is raised where a model's config.json is nowhere to be had."""
    why = f" ({problem})" if problem else ""
    hint = "download the model and give its folder: --model ./folder"
    return TunekitError(f"the shape of {model.id} is not known here{why}", hint)


def cached_model(model: Model) -> Path | None:
    """The folder of a model on this machine: its own, or that of a hub's client; None where there is neither."""
    return Path(model.id) if model.local else cached_folder(hub_ids(model))


@cache
def _configs() -> dict[str, dict[str, Any]]:
    """The shipped shapes by the lower-case name of the model, without its organisation."""
    shipped: dict[str, dict[str, Any]] = json.loads(CONFIGS.read_text(encoding="utf-8"))
    return {known.split("/")[-1].lower(): config for known, config in shipped.items()}


def shipped_config(model: Model) -> dict[str, Any] | None:
    """The shape of a common model. Chat versions share that of their base: Qwen2.5-7B-Instruct is a Qwen2.5-7B."""
    name = model.id.split("/")[-1].lower().removeprefix("meta-")
    if QUANTIZED.search(name) and model.bits not in IN_MEMORY:
        return None
    fitting = [base for base in _configs() if f"{name}-".startswith(f"{base}-")]
    if not fitting:
        return None
    found = _configs()[max(fitting, key=len)]
    # Phi-4-multimodal is no Phi-4: what sees or hears has the shape of a model that does.
    return dict(found) if model.multimodal == ("vision_config" in found) else None


def read_config(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None where there is no such file. Raises TunekitError where it is not JSON."""
    try:
        document = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        why = shortened(str(getattr(error, "strerror", "") or error), 200)
        raise TunekitError(f"{path}: cannot be read as JSON: {why}") from error
    return document if isinstance(document, dict) else None
