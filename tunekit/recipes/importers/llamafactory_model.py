"""LLaMA-Factory: the model, its adapters, its precision, how it is quantized and what of it is trained."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.plan.models.config import config_of
from tunekit.plan.models.find import resolve
from tunekit.recipes.importers.llamafactory_training import listed
from tunekit.recipes.importers.translation import DEFAULT, LOST, TRAINS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.plan.models.model import Model
    from tunekit.recipes.importers.source import KeyEntry
    from tunekit.recipes.importers.translation import Draft

    Values = Mapping[str, Any]

ATTENTION = {"disabled": "eager", "sdpa": "sdpa", "fa2": "flash_attention_2", "fa3": "flash_attention_3"}
KERNELS = "flash_attention_2"
ON_THE_FLY = {"bnb": (4, 8), "hqq": (1, 2, 3, 4, 8), "eetq": (8,)}
"""Bits to which ms-swift quantizes a model as it loads it, by method."""
LAYERS = "model.layers."
EXTRA = {"embed_tokens": "model.embed_tokens", "norm": "model.norm", "lm_head": "lm_head"}
NO_LAYERS = "the number of layers is not known here: name them with --trainable_parameters"
PIXELS = {
    "image_min_pixels": "MIN_PIXELS",
    "video_max_pixels": "VIDEO_MAX_PIXELS",
    "video_min_pixels": "VIDEO_MIN_PIXELS",
    "video_fps": "FPS",
    "video_maxlen": "FPS_MAX_FRAMES",
}
SEES = re.compile(
    r"(?i)(vl\b|-vl|_vl|vision|llava|omni|pixtral|minicpm-[vo]|paligemma|ocr|4v|5v|internvl|gemma-?3n|mllama)"
)
"""Names of models, and of templates, that take pictures."""


def _model(draft: Draft, entry: KeyEntry, values: Values) -> None:
    adapters = listed(values.get("adapter_name_or_path") or "")
    merged = adapters if values.get("create_new_adapter") is True else adapters[:-1]
    if draft.command not in TRAINS or not merged:
        draft.put(entry, model=entry.value)
        return
    at = str(entry.value)
    for adapter in merged:
        into = f"{adapter.rstrip('/')}-merged"
        export = ["swift", "export", "--model", at, "--adapters", adapter, "--merge_lora", "true", "--output_dir", into]
        draft.before.append(export)
        at = into
    draft.put(entry, "the adapters are merged into it first", model=at)
    draft.warnings.append(
        "LLaMA-Factory merges adapters in memory before it trains; here the commands above do so first"
    )


def _adapters(draft: Draft, entry: KeyEntry, values: Values) -> None:
    adapters = listed(entry.value or "")
    if not adapters:
        draft.leave(entry, DEFAULT, "not set")
    elif draft.command in TRAINS and values.get("create_new_adapter") is True:
        draft.put(entry, "merged before the training", model=draft.flags.get("model") or f"{adapters[-1]}-merged")
    elif draft.command == "export" or len(adapters) == 1 or draft.command not in TRAINS:
        draft.put(entry, adapters=adapters)
    else:
        draft.put(entry, "all but the last are merged before the training", adapters=adapters[-1:])


def _new_adapter(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if entry.value is True and values.get("adapter_name_or_path"):
        at = draft.flags.get("model") or f"{listed(values['adapter_name_or_path'])[-1]}-merged"
        draft.put(entry, "the old adapter is merged before the training", model=at)
    else:
        draft.leave(entry, DEFAULT, "the adapter that is named goes on training")


def _tuning(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if draft.command not in TRAINS:
        draft.leave(entry, DEFAULT, "an adapter is known by its folder")
    elif entry.value != "freeze":
        draft.put(entry, tuner_type=entry.value)
    else:
        names = trained_names(draft, values)
        if names:
            draft.put(entry, tuner_type="full", freeze_parameters_ratio=1, trainable_parameters=names)
        else:
            draft.put(entry, NO_LAYERS, tuner_type="full", freeze_parameters_ratio=1)
            draft.warnings.append(f"finetuning_type freeze: {NO_LAYERS}")
            draft.refused.append(f"finetuning_type: freeze: {NO_LAYERS}")


def trained_names(draft: Draft, values: Values) -> list[str]:
    """The beginnings of the names of what ``freeze`` trains; empty where the model's layers cannot be counted."""
    wanted = values.get("freeze_trainable_layers", 2)
    layers = _layers(draft, str(values.get("model_name_or_path") or ""))
    if not isinstance(wanted, int) or isinstance(wanted, bool) or (layers is None and wanted >= 0):
        return []
    count = layers or 0
    if values.get("use_llama_pro") is True and wanted > 0:
        step = max(count // wanted, 1)
        chosen = range(step - 1, count, step)
    else:
        chosen = range(max(count - wanted, 0), count) if wanted >= 0 else range(-wanted)
    modules = listed(values.get("freeze_trainable_modules") or "all")
    ends = [""] if modules == ["all"] else modules
    extra = [EXTRA.get(name, name) for name in listed(values.get("freeze_extra_modules") or "")]
    return [*(f"{LAYERS}{layer}.{end}" for layer in chosen for end in ends), *extra]


def _layers(draft: Draft, name: str) -> int | None:
    """The number of a model's layers; None where it is not known."""
    model = known_model(draft, name)
    if model is None:
        return None
    try:
        config = config_of(model)
    except TunekitError:
        return None
    inner = config.get("text_config", config)
    number = inner.get("num_hidden_layers") if isinstance(inner, dict) else None
    return number if isinstance(number, int) else None


def _frozen(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if values.get("finetuning_type") != "freeze" or draft.command not in TRAINS:
        draft.leave(entry, DEFAULT, "it is about finetuning_type freeze alone")
        return
    names = trained_names(draft, values)
    if names:
        draft.put(entry, freeze_parameters_ratio=1, trainable_parameters=names)
    else:
        draft.leave(entry, LOST, NO_LAYERS)


def _llama_pro(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if entry.value is not True:
        draft.leave(entry, DEFAULT, "it is off")
    elif values.get("finetuning_type") == "freeze":
        _frozen(draft, entry, values)
    else:
        draft.leave(entry, LOST, "ms-swift's llamapro adds new blocks: another method of that name")


def _tokens(draft: Draft, entry: KeyEntry, values: Values) -> None:
    both = listed(values.get("add_special_tokens") or "") + listed(values.get("add_tokens") or "")
    if both:
        why = "they become special tokens" if entry.key == "add_tokens" else ""
        draft.put(entry, why, new_special_tokens=both)


def _precision(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if entry.value is not True:
        draft.leave(entry, DEFAULT, "it is off")
        return
    half = entry.key == "fp16"
    whole = draft.flags.get("tuner_type") == ["full"] and entry.key == "bf16" and values.get("pure_bf16") is not True
    why = "LLaMA-Factory keeps whole weights in float32 beside it: the same with --torch_dtype float32 --bf16 true"
    if draft.command in TRAINS:
        draft.put(entry, f"{why} --fp16 false, and twice the memory" if whole else "", torch_dtype=_dtype(half=half))
    else:
        draft.leave(entry, DEFAULT, "the model says it")


def _dtype(*, half: bool) -> str:
    return "float16" if half else "bfloat16"


def say_precision(draft: Draft) -> None:
    """Warn where a training names no precision: the two tools then choose in their own ways."""
    if draft.command in TRAINS and "torch_dtype" not in draft.flags:
        draft.warnings.append("neither bf16 nor fp16 is set: ms-swift computes in the precision of the model's config")


def _attention(draft: Draft, entry: KeyEntry, values: Values) -> None:
    word = str(entry.value)
    if word == "auto":
        if draft.flags.get("packing") == ["true"] or packs(draft, values):
            draft.put(entry, "packing needs a flash attention", attn_impl=KERNELS)
        else:
            draft.leave(entry, DEFAULT, "ms-swift chooses by itself, too")
    elif draft.command == "export":
        draft.leave(entry, DEFAULT, "nothing is computed")
    else:
        draft.put(entry, attn_impl=ATTENTION.get(word, word))


def packs(draft: Draft, values: Values) -> bool:
    """Whether rows are packed: asked for, or pre-training where nothing is said."""
    asked = values.get("packing")
    return values.get("neat_packing") is True or asked is True or (asked is None and draft.command == PLAIN_TEXT)


PLAIN_TEXT = "pt"


def _rope(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if not entry.value:
        draft.leave(entry, DEFAULT, "not set")
    elif entry.value == "llama3":
        draft.leave(entry, LOST, "ms-swift takes linear, dynamic and yarn as words")
    else:
        why = "LLaMA-Factory does so only where cutoff_len is above the model's own length"
        draft.put(entry, why, rope_scaling=entry.value, max_model_len=values.get("cutoff_len") or 2048)


def _quantization(draft: Draft, entry: KeyEntry, values: Values) -> None:
    bits, method = values.get("quantization_bit"), str(values.get("quantization_method") or "bnb").lower()
    method = {"bitsandbytes": "bnb"}.get(method, method)
    if bits is None:
        draft.leave(entry, DEFAULT, "the model's own config says how it is quantized")
    elif bits not in ON_THE_FLY.get(method, ()):
        draft.leave(entry, LOST, f"ms-swift does not quantize a model to {bits} bits with {method} as it loads it")
    else:
        more = {"hqq_axis": 0} if method == "hqq" else {}
        draft.put(entry, quant_method=method, quant_bits=bits, **more)


def _reentrant(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if values.get("disable_gradient_checkpointing") is True:
        draft.leave(entry, DEFAULT, "gradient checkpointing is off")
    else:
        draft.put(entry, gradient_checkpointing_kwargs={"use_reentrant": entry.value})


def _sees(values: Values) -> bool:
    words = f"{values.get('model_name_or_path') or ''} {values.get('template') or ''}"
    return bool(SEES.search(words))


def _max_pixels(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if "image_max_pixels" in values or _sees(values):
        draft.put(entry, max_pixels=entry.value)


def _pixels(draft: Draft, entry: KeyEntry, _: Values) -> None:
    draft.put_env(entry, "of models of the Qwen family", **{PIXELS[entry.key]: str(entry.value)})


def _cache(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if entry.value:
        draft.put_env(entry, HF_HUB_CACHE=str(entry.value))


def known_model(draft: Draft, name: str) -> Model | None:
    """The model of that name, or in that folder; None where tunekit does not know it."""
    for word in (str(draft.source.folder / name), name, Path(name).name):
        with contextlib.suppress(TunekitError):
            return resolve(word)
    return None


FUNCTIONS = {
    "model": _model,
    "adapters": _adapters,
    "new_adapter": _new_adapter,
    "tuning": _tuning,
    "frozen": _frozen,
    "llama_pro": _llama_pro,
    "tokens": _tokens,
    "precision": _precision,
    "attention": _attention,
    "rope": _rope,
    "quantization": _quantization,
    "reentrant": _reentrant,
    "max_pixels": _max_pixels,
    "pixels": _pixels,
    "cache": _cache,
}
