"""LLaMA-Factory: the model, its precision, what of it is trained, templates, generation and export."""

from __future__ import annotations

import contextlib
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.files import read_toml
from tunekit.plan.models.catalogue import template_of
from tunekit.plan.models.config import config_of
from tunekit.plan.models.find import resolve
from tunekit.recipes.importers.llamafactory_training import answers_itself, listed
from tunekit.recipes.importers.table import TABLES
from tunekit.recipes.importers.translation import DEFAULT, LOST, TRAINS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.plan.models.model import Model
    from tunekit.recipes.importers.source import Entry
    from tunekit.recipes.importers.translation import Draft

    Values = Mapping[str, Any]

ATTENTION = {"disabled": "eager", "sdpa": "sdpa", "fa2": "flash_attention_2", "fa3": "flash_attention_3"}
KERNELS = "flash_attention_2"
BACKENDS = {"huggingface": "transformers", "hf": "transformers"}
ON_THE_FLY = {"bnb": (4, 8), "hqq": (1, 2, 3, 4, 8), "eetq": (8,)}
"""Bits to which ms-swift quantizes a model as it loads it, by method."""
AGENTS = {
    "qwen": "hermes",
    "default": "",
    "glm4": "glm4",
    "glm4_moe": "glm4_5",
    "llama3": "llama3",
    "mistral": "mistral",
}
"""``tool_format`` as an ``agent_template`` of ms-swift; the others bear the same name."""
LAYERS = "model.layers."
EXTRA = {"embed_tokens": "model.embed_tokens", "norm": "model.norm", "lm_head": "lm_head"}
NO_LAYERS = "the number of layers is not known here: name them with --trainable_parameters"
GENERATES = ("infer", "deploy", "app", "rlhf")
ENGINES = ("infer", "deploy", "app", "rlhf")
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


def _model(draft: Draft, entry: Entry, values: Values) -> None:
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


def _adapters(draft: Draft, entry: Entry, values: Values) -> None:
    adapters = listed(entry.value or "")
    if not adapters:
        draft.leave(entry, DEFAULT, "not set")
    elif draft.command in TRAINS and values.get("create_new_adapter") is True:
        draft.put(entry, "merged before the training", model=draft.flags.get("model") or f"{adapters[-1]}-merged")
    elif draft.command == "export" or len(adapters) == 1 or draft.command not in TRAINS:
        draft.put(entry, adapters=adapters)
    else:
        draft.put(entry, "all but the last are merged before the training", adapters=adapters[-1:])


def _new_adapter(draft: Draft, entry: Entry, values: Values) -> None:
    if entry.value is True and values.get("adapter_name_or_path"):
        at = draft.flags.get("model") or f"{listed(values['adapter_name_or_path'])[-1]}-merged"
        draft.put(entry, "the old adapter is merged before the training", model=at)
    else:
        draft.leave(entry, DEFAULT, "the adapter that is named goes on training")


def _tuning(draft: Draft, entry: Entry, values: Values) -> None:
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


def _frozen(draft: Draft, entry: Entry, values: Values) -> None:
    if values.get("finetuning_type") != "freeze" or draft.command not in TRAINS:
        draft.leave(entry, DEFAULT, "it is about finetuning_type freeze alone")
        return
    names = trained_names(draft, values)
    if names:
        draft.put(entry, freeze_parameters_ratio=1, trainable_parameters=names)
    else:
        draft.leave(entry, LOST, NO_LAYERS)


def _llama_pro(draft: Draft, entry: Entry, values: Values) -> None:
    if entry.value is not True:
        draft.leave(entry, DEFAULT, "it is off")
    elif values.get("finetuning_type") == "freeze":
        _frozen(draft, entry, values)
    else:
        draft.leave(entry, LOST, "ms-swift's llamapro adds new blocks: another method of that name")


def _tokens(draft: Draft, entry: Entry, values: Values) -> None:
    both = listed(values.get("add_special_tokens") or "") + listed(values.get("add_tokens") or "")
    if both:
        why = "they become special tokens" if entry.key == "add_tokens" else ""
        draft.put(entry, why, new_special_tokens=both)


def _precision(draft: Draft, entry: Entry, values: Values) -> None:
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


def _attention(draft: Draft, entry: Entry, values: Values) -> None:
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


def _rope(draft: Draft, entry: Entry, values: Values) -> None:
    if not entry.value:
        draft.leave(entry, DEFAULT, "not set")
    elif entry.value == "llama3":
        draft.leave(entry, LOST, "ms-swift takes linear, dynamic and yarn as words")
    else:
        why = "LLaMA-Factory does so only where cutoff_len is above the model's own length"
        draft.put(entry, why, rope_scaling=entry.value, max_model_len=values.get("cutoff_len") or 2048)


def _quantization(draft: Draft, entry: Entry, values: Values) -> None:
    bits, method = values.get("quantization_bit"), str(values.get("quantization_method") or "bnb").lower()
    method = {"bitsandbytes": "bnb"}.get(method, method)
    if bits is None:
        draft.leave(entry, DEFAULT, "the model's own config says how it is quantized")
    elif bits not in ON_THE_FLY.get(method, ()):
        draft.leave(entry, LOST, f"ms-swift does not quantize a model to {bits} bits with {method} as it loads it")
    else:
        more = {"hqq_axis": 0} if method == "hqq" else {}
        draft.put(entry, quant_method=method, quant_bits=bits, **more)


def _unsloth(draft: Draft, entry: Entry, _: Values) -> None:
    if entry.value is True:
        draft.put(entry, tuner_backend="unsloth")
    else:
        draft.leave(entry, DEFAULT, "it is off")


def _checkpointing(draft: Draft, entry: Entry, _: Values) -> None:
    if entry.value is True:
        draft.put(entry, gradient_checkpointing=False)
    else:
        draft.leave(entry, DEFAULT, "on in both")


def _reentrant(draft: Draft, entry: Entry, values: Values) -> None:
    if values.get("disable_gradient_checkpointing") is True:
        draft.leave(entry, DEFAULT, "gradient checkpointing is off")
    else:
        draft.put(entry, gradient_checkpointing_kwargs={"use_reentrant": entry.value})


def _sees(values: Values) -> bool:
    words = f"{values.get('model_name_or_path') or ''} {values.get('template') or ''}"
    return bool(SEES.search(words))


def _max_pixels(draft: Draft, entry: Entry, values: Values) -> None:
    if "image_max_pixels" in values or _sees(values):
        draft.put(entry, max_pixels=entry.value)


def _pixels(draft: Draft, entry: Entry, _: Values) -> None:
    draft.put_env(entry, "of models of the Qwen family", **{PIXELS[entry.key]: str(entry.value)})


def _cache(draft: Draft, entry: Entry, _: Values) -> None:
    if entry.value:
        draft.put_env(entry, HF_HUB_CACHE=str(entry.value))


def _template(draft: Draft, entry: Entry, values: Values) -> None:
    row = _templates().get(str(entry.value))
    if row is None:
        why = "no template of ms-swift writes the same; it takes the model's own"
        draft.leave(entry, LOST, why)
        draft.warnings.append(f"template {entry.value}: {why}")
        return
    known = known_model(draft, str(values.get("model_name_or_path") or ""))
    own = template_of(known) if known else None
    more = {"system": ""} if row.get("empty_system") and not values.get("default_system") else {}
    same = row["to"][:1] if row.get("first") else row["to"]
    if own in same and not more:
        draft.leave(entry, DEFAULT, "the model's own: ms-swift takes it by itself")
    elif own is None and len(same) > 1:
        draft.leave(entry, DEFAULT, f"ms-swift chooses by the model: {' or '.join(same)}")
    else:
        draft.put(entry, f"ms-swift itself would take {own}" if own else "", template=same[0], **more)
        if own and own not in row["to"]:
            draft.warnings.append(f"template {entry.value}: ms-swift knows the model's as {own}; is it the right one?")


@cache
def _templates() -> dict[str, Any]:
    return read_toml(TABLES / "llamafactory_templates.toml")[0]


def known_model(draft: Draft, name: str) -> Model | None:
    """The model of that name, or in that folder; None where tunekit does not know it."""
    for word in (str(draft.source.folder / name), name, Path(name).name):
        with contextlib.suppress(TunekitError):
            return resolve(word)
    return None


def _thinking(draft: Draft, entry: Entry, values: Values) -> None:
    thinks = _templates().get(str(values.get("template")), {}).get("thinks")
    if not thinks or draft.command not in TRAINS:
        draft.leave(entry, DEFAULT, "it is about models that think alone")
    elif entry.value is True:
        why = "rows without thoughts get empty ones in the answer, which are learned"
        draft.put(entry, why, disable_ignore_empty_think=True)
    else:
        draft.leave(entry, DEFAULT, "ms-swift puts empty thoughts before the answer, without loss, too")


def _tools(draft: Draft, entry: Entry, _: Values) -> None:
    word = AGENTS.get(str(entry.value), str(entry.value))
    if word and entry.value:
        draft.put(entry, agent_template=word)
    else:
        draft.leave(entry, LOST, "ms-swift has no such format of tools")


def _generation(draft: Draft, entry: Entry, values: Values) -> None:
    if draft.command not in GENERATES or (draft.command in TRAINS and not answers_itself(draft)):
        draft.leave(entry, DEFAULT, "it is about generation, and nothing is generated")
    elif entry.key == "temperature" and values.get("do_sample") is False:
        draft.put(entry, "do_sample is off", temperature=0)
    elif entry.key in {"num_beams", "repetition_penalty"} and draft.command in TRAINS:
        draft.leave(entry, DEFAULT, "it is about predictions alone")
    else:
        draft.put(entry, **{entry.key: entry.value})


def _new_tokens(draft: Draft, entry: Entry, _: Values) -> None:
    if answers_itself(draft):
        draft.put(entry, max_completion_length=entry.value)
    elif draft.command in TRAINS or draft.command not in GENERATES:
        draft.leave(entry, DEFAULT, "it is about generation, and nothing is generated")
    else:
        draft.put(entry, max_new_tokens=entry.value)


def _sampling(draft: Draft, entry: Entry, _: Values) -> None:
    if entry.value is False and draft.command in GENERATES and draft.command not in TRAINS:
        draft.put(entry, temperature=0)
    else:
        draft.leave(entry, DEFAULT, "the temperature says it")


def _served_dtype(draft: Draft, entry: Entry, _: Values) -> None:
    if draft.command in TRAINS or entry.value == "auto":
        draft.leave(entry, DEFAULT, "the model says it" if entry.value == "auto" else "nothing is served")
    else:
        draft.put(entry, torch_dtype=entry.value)


def _backend(draft: Draft, entry: Entry, values: Values) -> None:
    if draft.command in TRAINS or draft.command not in GENERATES:
        draft.leave(entry, DEFAULT, "nothing is served")
    else:
        word = BACKENDS.get(str(entry.value), entry.value)
        own = {flag: usual for key, (flag, usual) in ENGINE.items() if key.startswith(f"{word}_") and key not in values}
        draft.put(entry, infer_backend=word, **{flag: usual for flag, usual in own.items() if usual is not None})


def _engine_part(draft: Draft, entry: Entry, values: Values) -> None:
    backend = str(values.get("infer_backend") or "")
    flag, _ = ENGINE[entry.key]
    if draft.command in TRAINS or draft.command not in ENGINES or not entry.key.startswith(backend or "?"):
        draft.leave(entry, DEFAULT, "that engine does not serve here")
    else:
        draft.put(entry, **{flag: entry.value})


ENGINE: Mapping[str, tuple[str, int | float | None]] = {
    "vllm_maxlen": ("vllm_max_model_len", 4096),
    "vllm_gpu_util": ("vllm_gpu_memory_utilization", 0.7),
    "vllm_max_lora_rank": ("vllm_max_lora_rank", 32),
    "vllm_enforce_eager": ("vllm_enforce_eager", None),
    "vllm_config": ("vllm_engine_kwargs", None),
    "sglang_maxlen": ("sglang_context_length", 4096),
    "sglang_mem_fraction": ("sglang_mem_fraction_static", 0.7),
    "sglang_tp_size": ("sglang_tp_size", None),
}
"""Keys of the engines that answer: the flag, and what LLaMA-Factory takes where ms-swift takes something else."""


def _exports(draft: Draft, entry: Entry) -> bool:
    if draft.command != "export":
        draft.leave(entry, DEFAULT, "nothing is exported")
    return draft.command == "export"


def _export_dir(draft: Draft, entry: Entry, values: Values) -> None:
    if _exports(draft, entry):
        merge = {"merge_lora": True} if values.get("adapter_name_or_path") else {}
        draft.put(entry, output_dir=entry.value, **merge)


def _shards(draft: Draft, entry: Entry, _: Values) -> None:
    if _exports(draft, entry):
        draft.put(entry, max_shard_size=f"{entry.value}GB")


def _export_device(draft: Draft, entry: Entry, _: Values) -> None:
    if _exports(draft, entry):
        draft.put(entry, device_map=entry.value)


def _legacy(draft: Draft, entry: Entry, _: Values) -> None:
    if _exports(draft, entry):
        draft.put(entry, safe_serialization=entry.value is not True)


def _export_bits(draft: Draft, entry: Entry, values: Values) -> None:
    if _exports(draft, entry) and entry.value:
        more = {name: value for key, (name, value) in EXPORT_PARTS.items() if key not in values}
        draft.put(entry, quant_method="gptq", quant_bits=entry.value, **more)
        if values.get("adapter_name_or_path"):
            draft.warnings.append(
                "ms-swift merges an adapter and quantizes a model in two commands, one after the other"
            )


def _export_dataset(draft: Draft, entry: Entry, _: Values) -> None:
    if _exports(draft, entry) and entry.value:
        draft.put(entry, dataset=str(entry.value))


def _export_part(draft: Draft, entry: Entry, values: Values) -> None:
    if _exports(draft, entry):
        if values.get("export_quantization_bit"):
            draft.put(entry, **{EXPORT_PARTS[entry.key][0]: entry.value})
        else:
            draft.leave(entry, DEFAULT, "nothing is quantized")


EXPORT_PARTS = {
    "export_quantization_nsamples": ("quant_n_samples", 128),
    "export_quantization_maxlen": ("max_length", 1024),
}


def _export_hub(draft: Draft, entry: Entry, _: Values) -> None:
    if _exports(draft, entry) and entry.value:
        draft.put(entry, push_to_hub=True, hub_model_id=entry.value)


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
    "unsloth": _unsloth,
    "checkpointing": _checkpointing,
    "reentrant": _reentrant,
    "max_pixels": _max_pixels,
    "pixels": _pixels,
    "cache": _cache,
    "template": _template,
    "thinking": _thinking,
    "tools": _tools,
    "generation": _generation,
    "new_tokens": _new_tokens,
    "sampling": _sampling,
    "backend": _backend,
    "served_dtype": _served_dtype,
    "engine_part": _engine_part,
    "export_dir": _export_dir,
    "shards": _shards,
    "export_device": _export_device,
    "legacy": _legacy,
    "export_bits": _export_bits,
    "export_dataset": _export_dataset,
    "export_part": _export_part,
    "export_hub": _export_hub,
}
