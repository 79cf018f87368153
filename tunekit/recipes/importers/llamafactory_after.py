"""LLaMA-Factory: what is done with a trained model: answers are made, it is served, it is exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.recipes.importers.llamafactory_stage import answers_itself
from tunekit.recipes.importers.translation import DEFAULT, TRAINS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import KeyEntry
    from tunekit.recipes.importers.translation import Draft

    Values = Mapping[str, Any]

BACKENDS = {"huggingface": "transformers", "hf": "transformers"}
GENERATES = ("infer", "deploy", "app", "rlhf")
ENGINES = ("infer", "deploy", "app", "rlhf")


def _generation(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if draft.command not in GENERATES or (draft.command in TRAINS and not answers_itself(draft)):
        draft.leave(entry, DEFAULT, "it is about generation, and nothing is generated")
    elif entry.key == "temperature" and values.get("do_sample") is False:
        draft.put(entry, "do_sample is off", temperature=0)
    elif entry.key in {"num_beams", "repetition_penalty"} and draft.command in TRAINS:
        draft.leave(entry, DEFAULT, "it is about predictions alone")
    else:
        draft.put(entry, **{entry.key: entry.value})


def _new_tokens(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if answers_itself(draft):
        draft.put(entry, max_completion_length=entry.value)
    elif draft.command in TRAINS or draft.command not in GENERATES:
        draft.leave(entry, DEFAULT, "it is about generation, and nothing is generated")
    else:
        draft.put(entry, max_new_tokens=entry.value)


def _sampling(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if entry.value is False and draft.command in GENERATES and draft.command not in TRAINS:
        draft.put(entry, temperature=0)
    else:
        draft.leave(entry, DEFAULT, "the temperature says it")


def _served_dtype(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if draft.command in TRAINS or entry.value == "auto":
        draft.leave(entry, DEFAULT, "the model says it" if entry.value == "auto" else "nothing is served")
    else:
        draft.put(entry, torch_dtype=entry.value)


def _backend(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if draft.command in TRAINS or draft.command not in GENERATES:
        draft.leave(entry, DEFAULT, "nothing is served")
    else:
        word = BACKENDS.get(str(entry.value), entry.value)
        own = {flag: usual for key, (flag, usual) in ENGINE.items() if key.startswith(f"{word}_") and key not in values}
        draft.put(entry, infer_backend=word, **{flag: usual for flag, usual in own.items() if usual is not None})


def _engine_part(draft: Draft, entry: KeyEntry, values: Values) -> None:
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


def _exports(draft: Draft, entry: KeyEntry) -> bool:
    if draft.command != "export":
        draft.leave(entry, DEFAULT, "nothing is exported")
    return draft.command == "export"


def _export_dir(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if _exports(draft, entry):
        merge = {"merge_lora": True} if values.get("adapter_name_or_path") else {}
        draft.put(entry, output_dir=entry.value, **merge)


def _shards(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if _exports(draft, entry):
        draft.put(entry, max_shard_size=f"{entry.value}GB")


def _export_device(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if _exports(draft, entry):
        draft.put(entry, device_map=entry.value)


def _legacy(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if _exports(draft, entry):
        draft.put(entry, safe_serialization=entry.value is not True)


def _export_bits(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if _exports(draft, entry) and entry.value:
        more = {name: value for key, (name, value) in EXPORT_PARTS.items() if key not in values}
        draft.put(entry, quant_method="gptq", quant_bits=entry.value, **more)
        if values.get("adapter_name_or_path"):
            draft.warnings.append(
                "ms-swift merges an adapter and quantizes a model in two commands, one after the other"
            )


def _export_dataset(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if _exports(draft, entry) and entry.value:
        draft.put(entry, dataset=str(entry.value))


def _export_part(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if _exports(draft, entry):
        if values.get("export_quantization_bit"):
            draft.put(entry, **{EXPORT_PARTS[entry.key][0]: entry.value})
        else:
            draft.leave(entry, DEFAULT, "nothing is quantized")


EXPORT_PARTS = {
    "export_quantization_nsamples": ("quant_n_samples", 128),
    "export_quantization_maxlen": ("max_length", 1024),
}


def _export_hub(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if _exports(draft, entry) and entry.value:
        draft.put(entry, push_to_hub=True, hub_model_id=entry.value)


FUNCTIONS = {
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
