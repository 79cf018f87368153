"""What tools that are built on the Trainer of transformers have in common: its arguments, its launchers, its hub."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.plan.secrets import is_secret
from tunekit.recipes.importers.carried import carry_environment, keep_secret
from tunekit.recipes.importers.reader import read_keys
from tunekit.recipes.importers.source import KeyEntry
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, HIDDEN, LOST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tunekit.recipes.importers.source import Origin
    from tunekit.recipes.importers.translation import Draft

    Translate = Callable[[Draft, KeyEntry, Mapping[str, Any]], None]
    Functions = Mapping[str, Translate]

ZERO = re.compile(r"(?:zero|stage|ds_?z|(?<![a-z])z)[_-]?(?:stage)?[_-]?([0-3])(?![0-9])", re.IGNORECASE)
"""The stage of ZeRO in the name of a DeepSpeed file."""
FLASH = ("flash_attn", "flash_attention_2", "flash_attention_3", "flash_attention_4")
PEFTS_OWN: tuple[tuple[str, list[str]], ...] = (
    (r"phi-?[34]", ["qkv_proj"]),
    (r"gpt2|dialogpt|qwen-(vl|7b|14b|72b|1_8b)(?!.*[23])", ["c_attn"]),
    (r"chatglm|bloom|falcon|pythia|gpt-neox|stablelm-base", ["query_key_value"]),
    (r"", ["q_proj", "v_proj"]),
)
"""The modules that peft chooses where LoRA's targets are not named, by the name of the model; the first that fits."""


def named(*functions: Translate) -> dict[str, Translate]:
    """Functions by the names that rows know them by: their own without a line before it."""
    return {function.__name__.strip("_"): function for function in functions}


def default_entry(key: str) -> KeyEntry:
    """Stands for a key that is not written: its value is what the tool does by itself."""
    return KeyEntry(key, None)


def _warmup(draft: Draft, entry: KeyEntry, values: Mapping[str, Any]) -> None:
    """Steps win over a ratio in transformers; ms-swift takes one of the two only. Steps below 1 are a ratio."""
    steps = values.get("warmup_steps") or 0
    if entry.key == "warmup_ratio" and steps:
        draft.leave(entry, DEFAULT, "warmup_steps counts where both stand")
    elif entry.key == "warmup_ratio":
        draft.put(entry, warmup_ratio=entry.value)
    elif steps and steps < 1:
        draft.put(entry, "below 1 it is a ratio", warmup_ratio=steps)
    elif steps:
        draft.put(entry, warmup_steps=steps)
    else:
        draft.leave(entry, DEFAULT, "no warm-up in steps")


def _adafactor(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """An older name of an optimizer."""
    if entry.value:
        draft.put(entry, optim="adafactor")


def _precision(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Mixed precision; ms-swift trains in the type that the weights are loaded in."""
    if entry.value in (True, "auto"):
        draft.put(entry, torch_dtype={"fp16": "float16"}.get(entry.key, "bfloat16"))
    else:
        draft.leave(entry, DEFAULT, "not asked for")


def _resume(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """A checkpoint of another tool holds weights that ms-swift reads, and a state of the optimizer that it does not."""
    if isinstance(entry.value, str) and entry.value.lower() not in ("", "latest", "none"):
        why = "a checkpoint of another tool cannot be resumed: its weights at most, as --model or --adapters"
        draft.put(entry, why, resume_from_checkpoint=entry.value)
        draft.warnings.append(f"{entry.value}: {why}")
    elif entry.value:
        draft.leave(entry, ELSEWHERE, "the newest checkpoint of a run", "tunekit resume")


def _trackers(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Where the curves go."""
    names = [str(name) for name in (entry.value if isinstance(entry.value, list) else [entry.value])]
    names = [word for name in names for word in re.split(r"[,\s]+", name.strip("[]")) if word]
    draft.put(entry, report_to=names or ["none"])


def _deepspeed(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """A file of DeepSpeed: as it is where it is there, else the one of ms-swift that its name speaks of."""
    if not entry.value:
        return
    word = str(entry.value)
    if isinstance(entry.value, dict) or (draft.source.folder / word).is_file():
        draft.put(entry, deepspeed=entry.value)
    elif zero := zero_in_name(word):
        draft.put(entry, f"{word} is not here: ms-swift's own file of the same stage", deepspeed=zero)
    else:
        draft.put(entry, deepspeed=word)


def zero_in_name(word: str) -> str:
    """What ms-swift calls the DeepSpeed file that a name speaks of, as ``zero3_offload``; empty where it does not."""
    found = ZERO.search(word.rpartition("/")[2])
    if not found:
        return ""
    offload = "_offload" if "offload" in word.lower() and found[1] in "23" else ""
    return f"zero{found[1]}{offload}"


def put_fsdp(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Sharding by PyTorch itself: ms-swift has one ready-made way, and takes a JSON file for all others."""
    if not entry.value:
        return
    why = "sharded by FSDP2, with activations computed again instead of gradient checkpointing"
    if "offload" in str(entry.value):
        why += "; its offload to the CPU is lost: a JSON file of your own says it"
        draft.warnings.append("FSDP's offload to the CPU is not carried over: more GPU memory is needed")
    draft.put(entry, why, fsdp="fsdp2")
    draft.flags.pop("gradient_checkpointing", None)


def _fsdp_config(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """Details of FSDP are those of ms-swift's ready-made file."""
    draft.leave(entry, ELSEWHERE, "ms-swift's fsdp2 chooses the details", "--fsdp FILE.json")


def _attention(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """By the name that transformers gives it."""
    put_attention(draft, entry, str(entry.value))


def _hub_token(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """A secret stays out of the command and out of every report."""
    put_secret(draft, entry, "HF_TOKEN")


def put_secret(draft: Draft, entry: KeyEntry, variable: str) -> None:
    """Report a secret without its value; `variable` holds it for the run."""
    if entry.value:
        keep_secret(draft, variable)
        hidden = replace(entry, value=HIDDEN)
        draft.leave(hidden, ELSEWHERE, "a secret is no flag: set the variable", f"env:{variable}")


def _environment(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """A table of variables; those that hold secrets are named only."""
    table = entry.value if isinstance(entry.value, dict) else {}
    hidden = [name for name in table if is_secret(name)]
    for name in hidden:
        keep_secret(draft, name)
    shown = {str(name): _variable(value) for name, value in table.items() if name not in hidden}
    why = f"set {', '.join(hidden)} yourself" if hidden else ""
    draft.put_env(replace(entry, value=shown), why, **shown)


def _variable(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bias(draft: Draft, entry: KeyEntry, _values: Mapping[str, Any]) -> None:
    """ms-swift trains no biases, or all."""
    if entry.value in ("none", "all"):
        draft.put(entry, lora_bias=entry.value)
    else:
        draft.leave(entry, LOST, f"ms-swift trains no biases, or all: not {entry.value}")


FUNCTIONS: Functions = {"fsdp": put_fsdp} | named(
    _warmup,
    _adafactor,
    _precision,
    _resume,
    _trackers,
    _deepspeed,
    _fsdp_config,
    _hub_token,
    _environment,
    _attention,
    _bias,
)
"""Those that the rows of ``trainer.toml`` name."""


def put_hugging_face(draft: Draft, title: str) -> None:
    """Models and data come from Hugging Face, not from ModelScope, as ms-swift has it by itself."""
    draft.put(default_entry("hub"), f"{title} fetches from Hugging Face", use_hf=True)


def put_tuner(draft: Draft, entry: KeyEntry, *, lora: bool) -> None:
    """Full training or LoRA."""
    draft.put(entry, tuner_type="lora" if lora else "full")


def put_bnb(draft: Draft, entry: KeyEntry, bits: int) -> None:
    """Weights of 4 or 8 bits; without the method ms-swift would train plain LoRA."""
    draft.put(entry, quant_method="bnb", quant_bits=bits)


def put_attention(draft: Draft, entry: KeyEntry, word: str) -> None:
    """An implementation of attention by the name that transformers gives it."""
    if word in ("eager", "sdpa", "flex_attention", *FLASH):
        draft.put(entry, attn_impl="flash_attn" if word == "flash_attention_2" else word)
    elif "flash-attn3" in word or "flash_attn3" in word:
        draft.put(entry, "of the installed package, not of the hub", attn_impl="flash_attention_3")
    elif "flash" in word:
        draft.put(entry, "of the installed package, not of the hub", attn_impl="flash_attn")
    else:
        draft.leave(entry, LOST, f"ms-swift has no attention {word}")


def put_targets(draft: Draft, entry: KeyEntry) -> None:
    """Modules that LoRA changes: a list, words with commas between, or all linear ones."""
    names = entry.value if isinstance(entry.value, list) else str(entry.value).split(",")
    names = [str(name).strip() for name in names if str(name).strip()]
    if len(names) == 1 and re.search(r"[*+?\\^$|(\[]", names[0]):
        draft.put(entry, target_regex=names[0])
    elif names and names[0].replace("_", "-") in ("all-linear", "all"):
        draft.put(entry, target_modules="all-linear")
    else:
        draft.put(entry, target_modules=names)


def targets_of_peft(model: str) -> list[str]:
    """The modules that peft itself takes for a model where none are named."""
    return next(names for pattern, names in PEFTS_OWN if re.search(pattern, model.lower()))


def need_flash(draft: Draft, key: str) -> None:
    """Packing needs a flash attention in ms-swift: write one where no other is asked for."""
    implementation = draft.flags.get("attn_impl")
    if implementation and implementation[0] not in FLASH:
        draft.warnings.append(f"ms-swift packs with a flash attention only, not with {implementation[0]}")
    elif not implementation:
        draft.put(default_entry(key), "ms-swift packs with a flash attention only", attn_impl="flash_attn")


def take_accelerate(draft: Draft, name: str) -> None:
    """What a file of `accelerate launch` says of the run: DeepSpeed, FSDP, precision, processes.

    Where the file is not there, its name says what it can.
    """
    entry = KeyEntry("config_file", name)
    settings = _settings_of(draft.source, name)
    kind = str(settings.get("distributed_type", "")).upper()
    if kind == "DEEPSPEED" or (not settings and zero_in_name(name)):
        _take_zero(draft, entry, settings.get("deepspeed_config"), name)
    elif kind == "FSDP" or (not settings and "fsdp" in name.lower()):
        put_fsdp(draft, replace(entry, value=_fsdp_of(settings)) if _fsdp_of(settings) else entry, {})
    elif settings:
        draft.leave(entry, DEFAULT, "the processes that it starts")
    else:
        draft.leave(entry, LOST, "the file is not here")
        draft.warnings.append(f"{name} is not here: its DeepSpeed, FSDP and processes are not known")
    processes = settings.get("num_processes")
    if draft.world is None and isinstance(processes, int) and processes > 0:
        draft.world = processes
    if "torch_dtype" not in draft.flags and settings.get("mixed_precision") in ("bf16", "fp16"):
        word = {"bf16": "bfloat16", "fp16": "float16"}[settings["mixed_precision"]]
        draft.put(KeyEntry("mixed_precision", settings["mixed_precision"]), f"of {name}", torch_dtype=word)


def _settings_of(source: Origin, name: str) -> dict[str, Any]:
    try:
        entries, _ = read_keys(source.folder / name)
    except TunekitError:
        return {}
    return {entry.key: entry.value for entry in entries}


def _fsdp_of(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    table = settings.get("fsdp_config")
    return table if isinstance(table, dict) else {}


def _take_zero(draft: Draft, entry: KeyEntry, table: Any, name: str) -> None:
    table = table if isinstance(table, dict) else {}
    file = table.get("deepspeed_config_file")
    if file:
        _deepspeed(draft, replace(entry, value=file), {})
        return
    stage = table.get("zero_stage")
    offload = {table.get("offload_optimizer_device"), table.get("offload_param_device")} & {"cpu", "nvme"}
    word = (
        f"zero{stage}{'_offload' if offload and stage in (2, 3) else ''}" if stage is not None else zero_in_name(name)
    )
    draft.put(entry, f"{name} says it", deepspeed=word or "zero2")


def close_run(draft: Draft, title: str) -> None:
    """What is left of a run when all keys were seen: hub, batch, processes, and what cannot go together."""
    put_hugging_face(draft, title)
    if "quant_method" in draft.flags and draft.flags.get("tuner_type") == ["full"]:
        draft.warnings.append("quantized weights cannot be trained in full: --tuner_type lora")
    draft.micro = _number(draft, "per_device_train_batch_size") or 1
    draft.accumulation = _number(draft, "gradient_accumulation_steps")
    draft.world = draft.source.world or draft.world
    _carry_devices(draft)
    carry_environment(draft)


def _carry_devices(draft: Draft) -> None:
    """The devices that deepspeed's ``--include localhost:0,2`` names."""
    launch = draft.source.launch
    host, _, devices = launch.get("include", "").partition(":")
    if devices and "@" not in devices:
        draft.env.setdefault("CUDA_VISIBLE_DEVICES", devices)
    elif host:
        draft.warnings.append(f"--include {launch['include']}: several machines, each with a command of its own")


def _number(draft: Draft, flag: str) -> int | None:
    words = draft.flags.get(flag, [])
    try:
        return int(float(words[0])) if words else None
    except ValueError:
        return None


def warn_of_evaluation(draft: Draft) -> None:
    """Steps of evaluation without rows to evaluate on: ms-swift would silently not evaluate."""
    asks = draft.flags.get("eval_strategy", ["no"]) != ["no"]
    has = any(draft.flags.get(flag) for flag in ("val_dataset", "split_dataset_ratio", "cached_val_dataset"))
    if asks and not has:
        draft.warnings.append("it asks for evaluation, but no rows for it can be named: --val_dataset, or none is done")
