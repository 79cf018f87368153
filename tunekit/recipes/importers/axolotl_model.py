"""What axolotl says of the model: tuning, precision, attention, kernels, sharding."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.recipes.importers import trainer
from tunekit.recipes.importers.trainer import named
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, LOST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tunekit.recipes.importers.source import Entry
    from tunekit.recipes.importers.trainer import Functions
    from tunekit.recipes.importers.translation import Draft

SLICE = re.compile(r"\[\d*:\d*\]$")
"""Rows of a weight, behind its name in unfrozen_parameters."""
ATTENTION = {
    "flash_attention": "flash_attention_2",
    "sdp_attention": "sdpa",
    "eager_attention": "eager",
    "flex_attention": "flex_attention",
    "xformers_attention": "xformers",
    "sage_attention": "sage",
}
"""Keys of older releases, one an implementation, and the word of today."""


def _adapter(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """lora, or qlora, which is LoRA over 4 bits."""
    word = str(entry.value or "")
    if word not in ("", "lora", "qlora"):
        raise TunekitError(f"adapter {word} is not known", "axolotl's lora and qlora are understood")
    trainer.put_tuner(draft, entry, lora=bool(word))
    if word == "qlora" and not (values.get("load_in_8bit") or values.get("load_in_4bit") or values.get("gptq")):
        trainer.put_bnb(draft, entry, 4)


def _quantized(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """Weights of 4 or 8 bits, made while the model is loaded."""
    if not entry.value:
        return
    if values.get("gptq"):
        draft.leave(entry, DEFAULT, "the model is quantized already")
    else:
        trainer.put_bnb(draft, entry, 4 if entry.key == "load_in_4bit" else 8)


def _bnb(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Single fields of bitsandbytes' configuration."""
    table = entry.value if isinstance(entry.value, dict) else {}
    names = {"bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "bnb_4bit_compute_dtype", "bnb_4bit_quant_storage"}
    known = {name: str(value).removeprefix("torch.") for name, value in table.items() if name in names}
    lost = ", ".join(name for name in table if name not in names)
    if known:
        draft.put(entry, f"lost: {lost}" if lost else "", **known)
    else:
        draft.leave(entry, LOST, "ms-swift takes the type, the double quantization and the types of numbers")


def _lora_number(flag: str) -> Callable[[Draft, Entry, Mapping[str, Any]], None]:
    """A number of LoRA, which says nothing where everything is trained."""

    def set_number(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
        if draft.flags["tuner_type"] == ["lora"]:
            draft.put(entry, **{flag: entry.value})
        else:
            draft.leave(entry, DEFAULT, "all weights are trained")

    return set_number


def _targets(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """Modules by name; lora_target_linear adds all linear ones."""
    if draft.flags["tuner_type"] != ["lora"]:
        draft.leave(entry, DEFAULT, "all weights are trained")
    elif values.get("lora_target_linear"):
        draft.leave(entry, DEFAULT, "lora_target_linear holds them")
    elif entry.value:
        trainer.put_targets(draft, entry)


def _target_linear(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """All linear modules but the head."""
    if entry.value and draft.flags["tuner_type"] == ["lora"]:
        draft.put(entry, target_modules="all-linear")


def _layers(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """LoRA in some of the layers: a pattern over their numbers and the modules' names."""
    numbers = "|".join(str(number) for number in (entry.value if isinstance(entry.value, list) else [entry.value]))
    named = values.get("lora_target_modules")
    modules = "|".join(re.escape(str(name)) for name in named) if isinstance(named, list) else r"\w+_proj"
    draft.put(entry, target_regex=rf".*\.layers\.({numbers})\..*\.({modules})$")
    draft.flags.pop("target_modules", None)


def _unfrozen(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Patterns of what is trained, the rest stands still; axolotl takes their dots as dots and finds them anywhere."""
    whole = [SLICE.sub("", str(pattern)) for pattern in entry.value]
    regex = "|".join(re.sub(r"(?<!\\)\.(?!\+)", r"\\.", pattern) for pattern in whole)
    draft.put(entry, freeze_parameters_ratio=1, trainable_parameters_regex=regex)
    if whole != entry.value:
        draft.warnings.append("unfrozen_parameters names parts of a weight: ms-swift trains the whole of it")


def _same_model(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """Configuration and tokenizer come with the model."""
    if entry.value == values.get("base_model"):
        draft.leave(entry, DEFAULT, "it comes with the model")
    else:
        draft.leave(entry, LOST, "ms-swift takes configuration and tokenizer from the folder of the model")


def _bf16(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """Where nothing else is said axolotl takes bfloat16 on a GPU that has it."""
    other = values.get("fp16") or values.get("float16") or values.get("float32")
    if entry.value in (True, "full") or (entry.value == "auto" and not other):
        draft.put(entry, torch_dtype="bfloat16")
    elif entry.value is False and not (other or values.get("bfloat16")):
        draft.put(entry, "neither bf16 nor fp16", torch_dtype="float32", fp16=False, bf16=False)


def _half(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """fp16, unless bf16 stands beside it."""
    if entry.value and values.get("bf16") in (True, "full"):
        draft.leave(entry, DEFAULT, "bf16 counts where both stand")
    elif entry.value:
        draft.put(entry, torch_dtype="float16")


def _single(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """float32, unless another type stands beside it."""
    if entry.value and not any(values.get(name) for name in ("bf16", "fp16", "float16", "bfloat16")):
        draft.put(entry, torch_dtype="float32", fp16=False, bf16=False)


def _tf32(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """With auto it is left to PyTorch."""
    if entry.value != "auto":
        draft.put(entry, tf32=entry.value)


def _checkpointing(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Activations computed again; to move them off the GPU is axolotl's own."""
    if entry.value in ("offload", "offload_disk", "unsloth"):
        draft.put(entry, gradient_checkpointing=True)
        draft.leave(entry, LOST, "activations are computed again, but stay on the GPU")
        draft.warnings.append("the offload of activations is lost: more GPU memory is needed; ask tunekit fit")
    else:
        draft.put(entry, gradient_checkpointing=bool(entry.value))


def _attention_flag(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """The older way: a key for each implementation."""
    if entry.value and values.get("attn_implementation"):
        draft.leave(entry, DEFAULT, "attn_implementation says it")
    elif entry.value:
        trainer.put_attention(draft, entry, ATTENTION[entry.key])


def _compile_model(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """With auto axolotl decides."""
    if entry.value != "auto":
        draft.put(entry, torch_compile=entry.value)


def _chunked(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Saves the memory that Liger saves."""
    if entry.value:
        draft.put(entry, "Liger's loss in pieces, the same result", use_liger_kernel=True)


def _plugin(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Liger has a flag; other plugins are axolotl's own."""
    name = str(entry.value).rpartition(".")[2]
    if "liger" in name.lower():
        draft.put(entry, use_liger_kernel=True)
    elif entry.value:
        draft.leave(entry, LOST, f"ms-swift has no {name}")


def _liger(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """Single kernels of Liger; they count where its plugin is named."""
    named = any("liger" in str(value).lower() for key, value in values.items() if key.startswith("plugins"))
    if entry.value and (named or "plugins" not in " ".join(values)):
        draft.put(entry, "all kernels of Liger that fit the model", use_liger_kernel=True)
    else:
        draft.leave(entry, DEFAULT, "not asked for")


def _fsdp(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """A list of words, or none and a table."""
    if entry.value:
        trainer.put_fsdp(draft, entry, values)


def _fsdp_version(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """ms-swift's ready-made file is FSDP 2."""
    draft.put(entry, "" if entry.value == 2 else "version 2 instead of 1", fsdp="fsdp2")


def _fsdp_offload(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Weights on the CPU: not in ms-swift's ready-made file."""
    if entry.value:
        draft.leave(entry, LOST, "ms-swift's fsdp2 keeps the weights on the GPUs: a JSON file of your own says it")
        draft.warnings.append("FSDP's offload to the CPU is not carried over: more GPU memory is needed")


def _fsdp_checkpointing(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """On in ms-swift's ready-made file."""
    why = "ms-swift's fsdp2 computes activations again"
    draft.leave(entry, DEFAULT if entry.value else LOST, why)


def _fsdp_state(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Of the checkpoints only."""
    sharded = entry.value == "SHARDED_STATE_DICT"
    draft.leave(entry, DEFAULT if sharded else ELSEWHERE, "ms-swift's fsdp2 saves shards", "--fsdp FILE.json")


def _fsdp_reshard(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """As ms-swift does where it is true."""
    draft.leave(entry, DEFAULT if entry.value else LOST, "ms-swift's fsdp2 shards again after the forward pass")


FUNCTIONS: Functions = {
    "rank": _lora_number("lora_rank"),
    "alpha": _lora_number("lora_alpha"),
    "compile": _compile_model,
    **named(
        _adapter,
        _quantized,
        _bnb,
        _targets,
        _target_linear,
        _layers,
        _unfrozen,
        _same_model,
        _bf16,
        _half,
        _single,
        _tf32,
        _checkpointing,
        _attention_flag,
        _chunked,
        _plugin,
        _liger,
        _fsdp,
        _fsdp_version,
        _fsdp_offload,
        _fsdp_checkpointing,
        _fsdp_state,
        _fsdp_reshard,
    ),
}
