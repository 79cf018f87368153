"""ms-swift before 4: the model by its type, its template, how it is quantized and what of it is trained."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from tunekit.files import read_object
from tunekit.recipes.importers.table import TABLES
from tunekit.recipes.importers.translation import DEFAULT, LOST, TRAINS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import KeyEntry
    from tunekit.recipes.importers.translation import Draft

    Values = Mapping[str, Any]

TARGETS: Mapping[str, tuple[str, ...]] = {
    "baichuan": ("W_pack",),
    "chatglm|codegeex|glm|seqgpt|bloom|phi3-small|codefuse-codegeex": ("query_key_value",),
    r"qwen-|qwen1-|codefuse-qwen|polylm|modelscope-agent|tongyi": ("c_attn",),
    "internlm2": ("wqkv",),
    "phi2": ("Wqkv",),
    "phi3": ("qkv_proj",),
    "telechat": ("key_value", "query"),
    "dbrx": ("attn.Wqkv",),
    "mamba": ("in_proj", "x_proj", "embeddings", "out_proj"),
    "deepseek-v2|deepseek-coder-v2|minicpm3": ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj"),
}
"""What 2.x trained in a model by default, by the beginning of its type (2.6.1, utils/model.py); else q, k and v."""
USUAL_TARGETS = ("q_proj", "k_proj", "v_proj")
SEES = re.compile(
    r"(?i)(-vl|vl-|vision|audio|llava|omni|pixtral|4v|cogagent|ovis|molmo|florence|idefics|paligemma|ocr)"
)
PLAIN = "default-generation"


@cache
def old_names() -> dict[str, Any]:
    """``models`` and ``datasets`` of 2.x by name, with their ids on ModelScope and on Hugging Face."""
    return read_object(TABLES / "swift2.json")


def hub_column(draft: Draft) -> int:
    """Which id of `old_names` a run reads: 0 that of ModelScope, 1 that of Hugging Face."""
    values = draft.source.values()
    return int(values.get("use_hf") is True or str(draft.source.env.get("USE_HF", "")).lower() in {"1", "true"})


def model_of_type(draft: Draft, name: str) -> str | None:
    """The id of a model type of 2.x, on the hub that the run reads from."""
    row = old_names()["models"].get(name)
    found = row[hub_column(draft)] if isinstance(row, list) else row
    return str(found) if found else None


def _model(draft: Draft, entry: KeyEntry, _: Values) -> None:
    word = str(entry.value)
    head, slash, rest = word.partition("/")
    draft.put(entry, model=f"Qwen/{rest}" if head == "qwen" and slash else word)


def _model_type(draft: Draft, entry: KeyEntry, values: Values) -> None:
    known = model_of_type(draft, str(entry.value))
    if values.get("model_id_or_path") or values.get("ckpt_dir") or values.get("model_cache_dir"):
        draft.leave(entry, DEFAULT, "ms-swift knows the type by the model")
    elif known:
        draft.put(entry, "the types of 2.x are no names any more", model=known)
    else:
        draft.leave(entry, LOST, "no type of 2.x that is known: name the model with --model")


def _cached_model(draft: Draft, entry: KeyEntry, _: Values) -> None:
    draft.put(entry, model=entry.value)


def _other_type(draft: Draft, entry: KeyEntry, values: Values) -> None:
    flag = entry.key.removesuffix("_type")
    known = model_of_type(draft, str(entry.value))
    if values.get(f"{flag}_id_or_path"):
        draft.leave(entry, DEFAULT, "ms-swift knows the type by the model")
    elif known:
        draft.put(entry, **{flag: known})
    else:
        draft.leave(entry, LOST, f"no type of 2.x that is known: name the model with --{flag}")


def _tuning(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if draft.command in TRAINS:
        word = entry.value if values.get("sft_type") else draft.flags["tuner_type"]
        draft.put(entry, tuner_type=word)
    elif values.get("sft_type"):
        draft.leave(entry, DEFAULT, "an adapter is known by its folder")


def _template(draft: Draft, entry: KeyEntry, _: Values) -> None:
    from tunekit.plan.models.catalogue import template_names

    word = str(entry.value)
    name = word.replace("-", "_")
    if word.startswith(PLAIN):
        draft.put(entry, "texts without a template", use_chat_template=False)
    elif word != "AUTO" and name in template_names():
        draft.put(entry, template=name)
    else:
        draft.leave(entry, DEFAULT, "ms-swift takes the template of the model")


def _quantization(draft: Draft, entry: KeyEntry, values: Values) -> None:
    bits = values.get("quantization_bit")
    if draft.command == "export" and entry.key == "quant_method":
        draft.put(entry, quant_method=entry.value)
    elif not bits:
        draft.leave(entry, DEFAULT, "nothing is quantized")
    else:
        usual = "bnb" if bits in (4, 8) else "hqq"
        draft.put(entry, quant_method=values.get("quant_method") or usual, quant_bits=bits)


def _export_bits(draft: Draft, entry: KeyEntry, values: Values) -> None:
    draft.put(entry, quant_bits=entry.value)
    if values.get("merge_lora") is True:
        draft.warnings.append("merge first, then quantize: ms-swift 4.6 wants two commands for it")


def _targets(draft: Draft, entry: KeyEntry, values: Values) -> None:
    key = "lora_target_modules" if "lora_target_modules" in values else "target_modules"
    if _is_pattern(values.get(key)):
        draft.put(entry, A_PATTERN, target_regex=values[key])
        return
    words = _listed(values.get(key)) or ["DEFAULT"]
    if draft.flags.get("tuner_type") == ["full"] or draft.command not in TRAINS or values.get("lora_target_regex"):
        draft.leave(entry, DEFAULT, "no adapter is made")
        return
    found: list[str] = []
    for word in words:
        if word in {"ALL", "all-linear"}:
            found.append("all-linear")
        elif word == "DEFAULT":
            found += default_targets(draft, values)
        elif word == "EMBEDDING":
            found.append("all-embedding")
        else:
            found.append(word)
    draft.put(entry, "what 2.x trained in this model" if words == ["DEFAULT"] else "", target_modules=found)


def _is_pattern(value: Any) -> bool:
    return isinstance(value, str) and bool(re.search(r"[*+?\\^$|(\[]", value))


def _modules(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if _is_pattern(entry.value):
        draft.put(entry, A_PATTERN, target_regex=entry.value)
    else:
        draft.put(entry, target_modules=entry.value)


A_PATTERN = "a pattern is a flag of its own now"


def default_targets(draft: Draft, values: Values) -> list[str]:
    """What 2.x put adapters on where nothing is said."""
    kind = str(values.get("model_type") or values.get("model_id_or_path") or "").rpartition("/")[2].lower()
    if SEES.search(kind):
        draft.warnings.append(
            "2.x chose the layers of a model that sees by itself; --target_modules all-linear is near"
        )
        return ["all-linear"]
    fitting = (list(names) for heads, names in TARGETS.items() if re.match(heads, kind))
    return next(fitting, list(USUAL_TARGETS))


def _listed(value: Any) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [part for item in items if item not in (None, True) for part in str(item).replace(",", " ").split()]


def _saved_modules(draft: Draft, entry: KeyEntry, _: Values) -> None:
    words = _listed(entry.value)
    if "EMBEDDING" in words:
        kept = [word for word in words if word not in {"EMBEDDING", "LN"}]
        why = "EMBEDDING and LN stood for the embeddings and norms of the model: name its modules"
        if kept:
            draft.put(entry, modules_to_save=kept)
        draft.leave(entry, LOST, why)
    else:
        draft.put(entry, modules_to_save=words)


def _frozen(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if isinstance(entry.value, (int, float)):
        draft.put(entry, freeze_parameters_ratio=entry.value)
    else:
        draft.put(entry, freeze_parameters=entry.value)


def _freeze_vit(draft: Draft, entry: KeyEntry, values: Values) -> None:
    kind = str(values.get("model_type") or values.get("model_id_or_path") or "")
    if "freeze_vit" in values or SEES.search(kind):
        draft.put(entry, freeze_vit=entry.value)


def _checkpoint(draft: Draft, entry: KeyEntry, values: Values) -> None:
    path = str(entry.value)
    folder = draft.source.folder / path
    whole = (
        values.get("sft_type") == "full"
        or "merged" in path
        or (folder.is_dir() and not (folder / "adapter_config.json").is_file())
    )
    draft.put(entry, **{"model" if whole else "adapters": path})


FUNCTIONS = {
    "model": _model,
    "model_type": _model_type,
    "cached_model": _cached_model,
    "other_type": _other_type,
    "tuning": _tuning,
    "template": _template,
    "quantization": _quantization,
    "export_bits": _export_bits,
    "targets": _targets,
    "saved_modules": _saved_modules,
    "frozen": _frozen,
    "freeze_vit": _freeze_vit,
    "checkpoint": _checkpoint,
    "modules": _modules,
}
