"""ms-swift before 4: scripts of 2.x and 3.x. What 4.6 still calls so is taken as it is; a table names the rest."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.engine.flags import SNAPSHOT
from tunekit.files import read_object
from tunekit.recipes.importers.carried import carry_environment, keep_secret
from tunekit.recipes.importers.source import Entry
from tunekit.recipes.importers.table import TABLES, KeyRule, read_table
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, LOST, TRAINS, Dialect, Draft
from tunekit.stages import STAGES, USUAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import Origin

    Values = Mapping[str, Any]

PROGRAM = re.compile(r"(?:^|/|\.)(?:swift|llm_(?P<old>[a-z]+)\.py|(?P<new>[a-z]+)\.py)$")
COMMANDS = ("sft", "pt", "rlhf", "infer", "export", "deploy", "app", "eval", "merge-lora", "app-ui", "web-ui", "sample")
MODULE = re.compile(r"swift\.cli\.(?P<name>[a-z_]+)")
RENAMED = {"app-ui": "app", "merge-lora": "export", "merge_lora": "export"}
OLD = (
    *(
        "sft_type",
        "model_id_or_path",
        "template_type",
        "batch_size",
        "lora_target_modules",
        "custom_train_dataset_path",
    ),
    *("train_dataset_sample", "self_cognition_sample", "dataset_test_ratio", "quantization_bit", "use_flash_attn"),
    *("check_dataset_strategy", "eval_batch_size", "preprocess_num_proc", "lora_dropout_p", "only_save_model"),
    *("add_output_dir_suffix", "neftune_alpha", "ref_model_type", "merge_lora_and_save", "show_dataset_sample"),
    *("eval_human", "vllm_enable_lora", "custom_val_dataset_path", "dtype", "deepspeed_config_path"),
)
"""Flags that 2.x alone had."""
ONE = ("train_type", "tuner_type", "model", "torch_dtype", "per_device_train_batch_size", "adapters")
"""Flags that came with 3.0."""
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
HUB = re.compile(r"^(?:(HF|MS|hf|ms)::)?(.+)$")
SECRETS = {"hub_token": "MODELSCOPE_API_TOKEN", "api_key": "", "swanlab_token": "SWANLAB_API_KEY"}
REACT = {"true": "react", "react": "react", "alpha-umi": "alpha_umi", "agent-flan": "agentflan"}


@cache
def flags_of_now() -> frozenset[str]:
    """The flags of ms-swift 4.6, of all its commands."""
    return frozenset(row[0] for row in read_object(SNAPSHOT).get("flags", ()))


def _rules(name: str) -> dict[str, KeyRule]:
    table = read_table(name)
    return {**table, **{flag: KeyRule(flag, "to", flag) for flag in sorted(flags_of_now() - table.keys())}}


@cache
def _names() -> dict[str, Any]:
    return read_object(TABLES / "swift2.json")


def _command(origin: Origin) -> str:
    """The word behind ``swift``, or what a script of 2.x was for; empty where it is no call of ms-swift."""
    if not origin.program:
        return ""
    first, *rest = origin.program
    if found := MODULE.fullmatch(first):
        return found["name"].replace("_", "-") if found["name"] != "main" else "".join(rest[:1])
    if first == "swift" and rest:
        return rest[0] if rest[0] in COMMANDS or rest[0] in STAGES else ""
    found = re.search(r"(?:^|/)(?:llm_)(?P<name>[a-z]+)\.py$|swift/cli/(?P<cli>[a-z_]+)\.py$", first)
    return (found["name"] or found["cli"]) if found else ""


def _likeness(origin: Origin, *, old: bool) -> int:
    command = _command(origin)
    keys = origin.values().keys()
    if not command and not origin.program and origin.line and keys <= flags_of_now():
        return 0 if old else 4  # flags alone, as guides show them
    if not command:
        own = bool({"train_type", "tuner_type", "sft_type"} & keys) and bool(
            {"model", "model_id_or_path", "model_type"} & keys
        )
        return (60 if ("sft_type" in keys) == old else 10) if own and not origin.program else 0
    marks = sum(flag in keys for flag in OLD) + 2 * (command in STAGES and STAGES[command].command != command)
    marks += "llm_" in origin.program[0]
    newer = sum(flag in keys for flag in ONE)
    is_old = marks > newer
    return (90 if is_old else 20) if old else (90 if not is_old else 20)


def _split(origin: Origin) -> list[Origin]:
    """One run; the ``ENV`` of ms-swift's own YAML are variables."""
    said = origin.values().get("ENV")
    if not isinstance(said, dict):
        return [origin]
    env = dict(origin.env) | {str(name): str(value) for name, value in said.items()}
    return [replace(origin, entries=tuple(entry for entry in origin.entries if entry.key != "ENV"), env=env)]


def _begin(draft: Draft, *, old: bool) -> None:
    word = _command(draft.source)
    word = RENAMED.get(word, word) or USUAL
    values = draft.source.values()
    if _command(draft.source).startswith("merge"):
        draft.flags["merge_lora"] = ["true"]
    stage = STAGES.get(word)
    draft.command = stage.command if stage else word
    kind = str(values.get("rlhf_type") or (word if stage and stage.command != word else ""))
    if kind:
        draft.flags["rlhf_type"] = [kind]
    if draft.command in TRAINS:
        said = values.get("sft_type" if old else "train_type") or values.get("tuner_type")
        draft.flags["tuner_type"] = [str(said or ("full" if old and word == "pt" else "lora"))]
    draft.world = draft.source.world or _one_process(draft)


def _one_process(draft: Draft) -> int | None:
    """ms-swift itself starts one process where ``NPROC_PER_NODE`` is not set; torchrun says so otherwise."""
    return 1 if draft.source.program and draft.source.program[0] == "swift" else None


def _finish(draft: Draft, *, old: bool) -> None:
    carry_environment(draft, skip=("USE_HF",))
    if str(draft.source.env.get("USE_HF", "")).lower() in {"1", "true"}:
        draft.flags["use_hf"] = ["true"]
    if draft.command not in TRAINS:
        return
    visible = draft.source.env.get("CUDA_VISIBLE_DEVICES", "").strip(",").count(",") + 1
    if visible > 1 and (draft.world or draft.source.world) == 1:
        draft.warnings.append(
            f"one process for {visible} GPUs: ms-swift spreads the model over them; tunekit takes one"
        )
    if not old and "adam_beta2" not in draft.flags:
        draft.warnings.append(
            "3.x before 3.2.2 took 0.999 for --adam_beta2, not 0.95; the script does not say which it was"
        )
    if not old and not {"split_dataset_ratio", "val_dataset"} & draft.flags.keys():
        draft.warnings.append("3.x before 3.6 held 1 % of the rows out: --split_dataset_ratio 0.01 does so")
    if not old and draft.flags.get("rlhf_type") == [PAIRS] and "rpo_alpha" not in draft.flags:
        draft.warnings.append("3.x before 3.8 added the loss of the chosen answer: --rpo_alpha 1.0 does so")


PAIRS = "dpo"


def _modelscope_or_hf(draft: Draft) -> int:
    values = draft.source.values()
    return int(values.get("use_hf") is True or str(draft.source.env.get("USE_HF", "")).lower() in {"1", "true"})


def model_of_type(draft: Draft, name: str) -> str | None:
    """The id of a model type of 2.x, on the hub that the run reads from."""
    row = _names()["models"].get(name)
    found = row[_modelscope_or_hf(draft)] if isinstance(row, list) else row
    return str(found) if found else None


def _model(draft: Draft, entry: Entry, _: Values) -> None:
    word = str(entry.value)
    head, slash, rest = word.partition("/")
    draft.put(entry, model=f"Qwen/{rest}" if head == "qwen" and slash else word)


def _model_type(draft: Draft, entry: Entry, values: Values) -> None:
    known = model_of_type(draft, str(entry.value))
    if values.get("model_id_or_path") or values.get("ckpt_dir") or values.get("model_cache_dir"):
        draft.leave(entry, DEFAULT, "ms-swift knows the type by the model")
    elif known:
        draft.put(entry, "the types of 2.x are no names any more", model=known)
    else:
        draft.leave(entry, LOST, "no type of 2.x that is known: name the model with --model")


def _cached_model(draft: Draft, entry: Entry, _: Values) -> None:
    draft.put(entry, model=entry.value)


def _other_type(draft: Draft, entry: Entry, values: Values) -> None:
    flag = entry.key.removesuffix("_type")
    known = model_of_type(draft, str(entry.value))
    if values.get(f"{flag}_id_or_path"):
        draft.leave(entry, DEFAULT, "ms-swift knows the type by the model")
    elif known:
        draft.put(entry, **{flag: known})
    else:
        draft.leave(entry, LOST, f"no type of 2.x that is known: name the model with --{flag}")


def _tuning(draft: Draft, entry: Entry, values: Values) -> None:
    if draft.command in TRAINS:
        word = entry.value if values.get("sft_type") else draft.flags["tuner_type"]
        draft.put(entry, tuner_type=word)
    elif values.get("sft_type"):
        draft.leave(entry, DEFAULT, "an adapter is known by its folder")


def _template(draft: Draft, entry: Entry, _: Values) -> None:
    from tunekit.plan.models.catalogue import template_names

    word = str(entry.value)
    name = word.replace("-", "_")
    if word.startswith(PLAIN):
        draft.put(entry, "texts without a template", use_chat_template=False)
    elif word != "AUTO" and name in template_names():
        draft.put(entry, template=name)
    else:
        draft.leave(entry, DEFAULT, "ms-swift takes the template of the model")


def _eval_batch(draft: Draft, entry: Entry, values: Values) -> None:
    rows = entry.value or values.get("batch_size") or 1
    draft.put(entry, **{"per_device_eval_batch_size" if draft.command in TRAINS else "max_batch_size": rows})


def _quantization(draft: Draft, entry: Entry, values: Values) -> None:
    bits = values.get("quantization_bit")
    if draft.command == "export" and entry.key == "quant_method":
        draft.put(entry, quant_method=entry.value)
    elif not bits:
        draft.leave(entry, DEFAULT, "nothing is quantized")
    else:
        usual = "bnb" if bits in (4, 8) else "hqq"
        draft.put(entry, quant_method=values.get("quant_method") or usual, quant_bits=bits)


def _export_bits(draft: Draft, entry: Entry, values: Values) -> None:
    draft.put(entry, quant_bits=entry.value)
    if values.get("merge_lora") is True:
        draft.warnings.append("merge first, then quantize: ms-swift 4.6 wants two commands for it")


def _targets(draft: Draft, entry: Entry, values: Values) -> None:
    key = "lora_target_modules" if "lora_target_modules" in values else "target_modules"
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


def _saved_modules(draft: Draft, entry: Entry, _: Values) -> None:
    words = _listed(entry.value)
    if "EMBEDDING" in words:
        kept = [word for word in words if word not in {"EMBEDDING", "LN"}]
        why = "EMBEDDING and LN stood for the embeddings and norms of the model: name its modules"
        if kept:
            draft.put(entry, modules_to_save=kept)
        draft.leave(entry, LOST, why)
    else:
        draft.put(entry, modules_to_save=words)


def _frozen(draft: Draft, entry: Entry, _: Values) -> None:
    if isinstance(entry.value, (int, float)):
        draft.put(entry, freeze_parameters_ratio=entry.value)
    else:
        draft.put(entry, freeze_parameters=entry.value)


def _freeze_vit(draft: Draft, entry: Entry, values: Values) -> None:
    kind = str(values.get("model_type") or values.get("model_id_or_path") or "")
    if "freeze_vit" in values or SEES.search(kind):
        draft.put(entry, freeze_vit=entry.value)


def _deepspeed(draft: Draft, entry: Entry, _: Values) -> None:
    found = re.fullmatch(r"(?:default-)?zero([0-3])(?:[-_](offload))?", str(entry.value))
    if found:
        draft.put(entry, deepspeed=f"zero{found[1]}" + ("_offload" if found[2] else ""))
    else:
        draft.put(entry, deepspeed=entry.value)


def _dataset(draft: Draft, entry: Entry, values: Values) -> None:
    flag = "val_dataset" if "val" in entry.key else "dataset"
    keys = ("dataset", "custom_train_dataset_path") if flag == "dataset" else ("val_dataset", "custom_val_dataset_path")
    words = [word for key in keys for word in _datasets(values.get(key))]
    given = [_dataset_word(draft, word) for word in words]
    extra = values.get("self_cognition_sample")
    if flag == "dataset" and isinstance(extra, int) and extra > 0:
        given.append(f"swift/self-cognition#{extra}")
    sample = values.get("train_dataset_sample")
    if flag == "dataset" and isinstance(sample, int) and sample > 0 and len(given) == 1:
        given = [f"{given[0].partition('#')[0]}#{sample}"]
    draft.put(entry, **{flag: given})


def _datasets(value: Any) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [part for item in items if item not in (None, True) for part in str(item).split(",") if part]


def _dataset_word(draft: Draft, word: str) -> str:
    """A dataset of 2.x as 4.6 names it: ``HF::id:subset#100/10``."""
    found = HUB.match(word)
    hub, rest = (found[1], found[2]) if found else ("", word)
    rest, number, rows = rest.partition("#")
    name, colon, subset = rest.partition(":")
    known = _names()["datasets"].get(name)
    if known:
        ids = [known[0] or known[1], known[1] or known[0]]
        name = ids[1 if hub and hub.lower() == "hf" else _modelscope_or_hf(draft)]
        if not colon and len(known) > 2:
            colon, subset = ":", "/".join(known[2])
    rows, slash, held = rows.partition("/")
    if slash:
        draft.warnings.append(
            f"{word}: {held} of its rows were for validation; --val_dataset NAME#{held} names them now"
        )
    count = f"{number}{rows}" if rows and rows != "-1" else ""
    return f"{hub.lower()}::{name}{colon}{subset}{count}" if hub else f"{name}{colon}{subset}{count}"


def _sample(draft: Draft, entry: Entry, values: Values) -> None:
    words = [word for key in ("dataset", "custom_train_dataset_path") for word in _datasets(values.get(key))]
    if not isinstance(entry.value, int) or entry.value < 0:
        draft.leave(entry, DEFAULT, "all rows")
    elif len(words) == 1:
        draft.put(entry, dataset=draft.flags.get("dataset") or [f"{_dataset_word(draft, words[0])}#{entry.value}"])
    else:
        draft.leave(entry, LOST, "of several datasets: NAME#N says how many rows of each")


def _val_sample(draft: Draft, entry: Entry, _: Values) -> None:
    if isinstance(entry.value, int) and entry.value < 0:
        draft.leave(entry, DEFAULT, "all rows")
    elif draft.command in TRAINS:
        draft.leave(entry, LOST, "--val_dataset NAME#N says how many rows are looked at")
    else:
        draft.put(entry, val_dataset_sample=entry.value)


def _self_cognition(draft: Draft, entry: Entry, values: Values) -> None:
    if not isinstance(entry.value, int) or entry.value <= 0:
        draft.leave(entry, DEFAULT, "none")
        return
    word = f"swift/self-cognition#{entry.value}"
    given = draft.flags.get("dataset", [])
    draft.put(entry, dataset=given if word in given or _datasets(values.get("dataset")) else [*given, word])


def _held_out(draft: Draft, entry: Entry, values: Values) -> None:
    if values.get("val_dataset") or values.get("custom_val_dataset_path") or values.get("streaming") is True:
        draft.leave(entry, DEFAULT, "there are rows for validation, or a stream")
    elif draft.command in TRAINS:
        draft.put(entry, split_dataset_ratio=entry.value)
    else:
        draft.leave(entry, DEFAULT, "nothing is trained")


def _loss_scale(draft: Draft, entry: Entry, _: Values) -> None:
    word = REACT.get(str(entry.value).lower())
    if word:
        draft.put(entry, loss_scale=word)
    else:
        draft.leave(entry, DEFAULT, "it is off")


def _loss_scale_file(draft: Draft, entry: Entry, _: Values) -> None:
    word = Path(str(entry.value)).stem.replace("_loss_scale_config", "").replace("-", "_").replace("default", "react")
    known = {"agentflan": "agentflan", "alpha_umi": "alpha_umi", "react": "react"}
    if word in known:
        draft.put(entry, loss_scale=known[word])
    else:
        draft.leave(entry, LOST, "a plugin gives losses weights of its own now: --external_plugins, --loss_scale NAME")


def _length(draft: Draft, entry: Entry, values: Values) -> None:
    if entry.value == -1:
        draft.leave(entry, DEFAULT, "the model's own length, in both")
    elif "max_length" in values or draft.command in TRAINS:
        draft.put(entry, max_length=entry.value)


def _limit(draft: Draft, entry: Entry, _: Values) -> None:
    if entry.value == -1:
        draft.leave(entry, DEFAULT, "all checkpoints are kept, in both")
    else:
        draft.put(entry, save_total_limit=entry.value)


def _model_length(draft: Draft, entry: Entry, _: Values) -> None:
    draft.put(entry, **{"max_model_len" if draft.command in TRAINS else "vllm_max_model_len": entry.value})


def _sft_beta(draft: Draft, entry: Entry, _: Values) -> None:
    kind = "".join(draft.flags.get("rlhf_type", ()))
    flag = {PAIRS: "rpo_alpha", "simpo": "cpo_alpha", "cpo": "cpo_alpha"}.get(kind)
    if flag:
        draft.put(entry, **{flag: entry.value})
    else:
        draft.leave(entry, LOST, f"{kind or draft.command} has no additional loss of the chosen answer")


def _completion_length(draft: Draft, entry: Entry, _: Values) -> None:
    if draft.flags.get("rlhf_type", [""])[0] in GENERATE:
        draft.put(entry, max_completion_length=entry.value)
    else:
        draft.leave(entry, LOST, "ms-swift 4.6 bounds the row alone: --max_length")


GENERATE = tuple(name for name, stage in STAGES.items() if stage.generates)


def _checkpoint(draft: Draft, entry: Entry, values: Values) -> None:
    path = str(entry.value)
    folder = draft.source.folder / path
    whole = (
        values.get("sft_type") == "full"
        or "merged" in path
        or (folder.is_dir() and not (folder / "adapter_config.json").is_file())
    )
    draft.put(entry, **{"model" if whole else "adapters": path})


def _sampling(draft: Draft, entry: Entry, _: Values) -> None:
    if entry.value is False:
        draft.put(entry, temperature=0)
    else:
        draft.leave(entry, DEFAULT, "the temperature says it")


def _temperature(draft: Draft, entry: Entry, values: Values) -> None:
    draft.put(entry, temperature=0 if values.get("do_sample") is False else entry.value)


def _epochs(draft: Draft, entry: Entry, values: Values) -> None:
    steps = values.get("max_steps")
    if "num_train_epochs" in values or not (isinstance(steps, int) and steps > 0):
        draft.put(entry, num_train_epochs=entry.value)


def _warmup(draft: Draft, entry: Entry, values: Values) -> None:
    if values.get("warmup_steps"):
        draft.leave(entry, DEFAULT, "warmup_steps stands above it")
    else:
        draft.put(entry, warmup_ratio=entry.value)


def _rate(draft: Draft, entry: Entry, _: Values) -> None:
    usual = "1e-5" if draft.flags.get("tuner_type") == ["full"] else "1e-4"
    draft.put(entry, learning_rate=entry.value or usual)


def _eval_steps(draft: Draft, entry: Entry, _: Values) -> None:
    draft.put(entry, eval_steps=entry.value or _steps(draft))


def _save_steps(draft: Draft, entry: Entry, values: Values) -> None:
    draft.put(entry, save_steps=entry.value or values.get("eval_steps") or _steps(draft))


def _steps(draft: Draft) -> int:
    return 200 if draft.flags.get("tuner_type") == ["full"] else 50


def _secret(draft: Draft, entry: Entry, _: Values) -> None:
    variable = SECRETS.get(entry.key) or entry.key.upper()
    if entry.key == "hub_token" and _modelscope_or_hf(draft):
        variable = "HF_TOKEN"
    keep_secret(draft, variable)
    draft.leave(Entry(entry.key, "***", entry.line), ELSEWHERE, f"a secret: set {variable}", f"env:{variable}")


def _lark(draft: Draft, entry: Entry, _: Values) -> None:
    draft.put(Entry(entry.key, "***", entry.line), swanlab_notification_method="lark")
    keep_secret(draft, "SWANLAB_WEBHOOK_URL")


def _vllm(draft: Draft, entry: Entry, values: Values) -> None:
    more = {} if entry.value is not True or values.get("vllm_mode") else {"vllm_mode": "colocate"}
    why = "3.x took colocate where nothing was said" if more else ""
    draft.put(entry, why, use_vllm=entry.value, **more)


FUNCTIONS = {
    "model": _model,
    "model_type": _model_type,
    "cached_model": _cached_model,
    "other_type": _other_type,
    "tuning": _tuning,
    "template": _template,
    "eval_batch": _eval_batch,
    "quantization": _quantization,
    "export_bits": _export_bits,
    "targets": _targets,
    "saved_modules": _saved_modules,
    "frozen": _frozen,
    "freeze_vit": _freeze_vit,
    "deepspeed": _deepspeed,
    "dataset": _dataset,
    "sample": _sample,
    "val_sample": _val_sample,
    "self_cognition": _self_cognition,
    "held_out": _held_out,
    "loss_scale": _loss_scale,
    "loss_scale_file": _loss_scale_file,
    "length": _length,
    "limit": _limit,
    "model_length": _model_length,
    "sft_beta": _sft_beta,
    "completion_length": _completion_length,
    "checkpoint": _checkpoint,
    "sampling": _sampling,
    "temperature": _temperature,
    "epochs": _epochs,
    "warmup": _warmup,
    "rate": _rate,
    "eval_steps": _eval_steps,
    "save_steps": _save_steps,
    "secret": _secret,
    "lark": _lark,
    "vllm": _vllm,
}

SWIFT2, SWIFT3 = (
    Dialect(
        name=name,
        title=title,
        rules=_rules(name),
        likeness=partial(_likeness, old=old),
        functions=FUNCTIONS,
        abbreviates=True,
        split=_split,
        begin=partial(_begin, old=old),
        finish=partial(_finish, old=old),
    )
    for name, title, old in (("swift2", "ms-swift 2", True), ("swift3", "ms-swift 3", False))
)
