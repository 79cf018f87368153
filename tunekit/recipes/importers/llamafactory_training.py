"""LLaMA-Factory: LoRA's numbers, optimizers and what belongs to the trainer; keys that switch something on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tunekit.recipes.importers.carried import keep_secret
from tunekit.recipes.importers.launchers import count_of
from tunekit.recipes.importers.source import KeyEntry
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, LOST, TRAINS, strategy_word

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.translation import Draft

    Values = Mapping[str, Any]

SECRETS = {
    "swanlab_api_key": "SWANLAB_API_KEY",
    "swanlab_lark_secret": "SWANLAB_LARK_SECRET",
    "ms_hub_token": "MODELSCOPE_API_TOKEN",
}
TOKEN = "HF_TOKEN"  # noqa: S105 - the variable's name
LARK = "the secret of a webhook would stand in the command: let SwanLab's own configuration hold it"
APOLLO = {
    "apollo_rank": ("rank", 16),
    "apollo_proj": ("proj", "random"),
    "apollo_update_interval": ("update_proj_gap", 200),
    "apollo_scale": ("scale", 32.0),
    "apollo_proj_type": ("proj_type", "std"),
    "apollo_scale_type": ("scale_type", "channel"),
}
"""Keys of APOLLO, with their names among the ``optim_args`` of transformers and what LLaMA-Factory takes by itself."""
GALORE = {"galore_rank": 16, "galore_update_proj_gap": 200, "galore_scale": 2.0}
ZERO = re.compile(r"(?:^|/)ds_z(0|2|3)(?:_(offload))?_config\.json$")
OFF = "it is off"
SWITCHES: Mapping[str, tuple[dict[str, Any], str]] = {
    "use_unsloth": ({"tuner_backend": "unsloth"}, OFF),
    "use_muon": ({"optimizer": "muon"}, OFF),
    "adafactor": ({"optim": "adafactor"}, OFF),
    "disable_gradient_checkpointing": ({"gradient_checkpointing": False}, "on in both"),
    "disable_shuffling": (
        {"train_dataloader_shuffle": False, "dataset_shuffle": False},
        "rows are shuffled in both",
    ),
    "train_on_prompt": ({"loss_scale": "all"}, OFF),
    "mask_history": ({"loss_scale": "last_round"}, OFF),
}
"""Keys that are true or false: the flags where one is true, and why it needs none where it is not."""
NOT_HERE = "it is not this command's"


def visible_gpus(env: Mapping[str, str]) -> int | None:
    """The processes that LLaMA-Factory starts by itself: one a GPU that is named; None where none is."""
    found = re.fullmatch(r"\d+(,\d+)*,?", env.get("CUDA_VISIBLE_DEVICES", ""))
    nodes = count_of(env.get("NNODES", "1"))
    return len([word for word in found[0].split(",") if word]) * nodes if found and nodes else None


def finish_training(draft: Draft) -> None:
    """Settle what hangs on several keys of a training."""
    if "warmup_ratio" in draft.flags and "warmup_steps" in draft.flags:
        steps = draft.flags["warmup_steps"]
        del draft.flags["warmup_ratio" if steps != ["0"] else "warmup_steps"]


def _lora_alpha(draft: Draft, entry: KeyEntry, values: Values) -> None:
    alpha = entry.value or 2 * _whole(values.get("lora_rank"), 8)
    draft.put(entry, "" if entry.value else "twice the rank", lora_alpha=alpha)


def _switch(draft: Draft, entry: KeyEntry, _: Values) -> None:
    flags, otherwise = SWITCHES[entry.key]
    if entry.value is True:
        draft.put(entry, **flags)
    else:
        draft.leave(entry, DEFAULT, otherwise)


def _whole(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


def listed(value: Any) -> list[str]:
    """The names in a list, or in a text with commas between them."""
    parts = value if isinstance(value, list) else str(value).split(",")
    return [str(part).strip() for part in parts if str(part).strip()]


def _modules(draft: Draft, entry: KeyEntry, _: Values) -> None:
    names = listed(entry.value)
    draft.put(entry, target_modules=["all-linear"] if names == ["all"] else names)


def _saved_modules(draft: Draft, entry: KeyEntry, _: Values) -> None:
    draft.put(entry, modules_to_save=listed(entry.value))


def _pissa(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if not values.get("pissa_init"):
        draft.leave(entry, DEFAULT, "PiSSA is off")
        return
    rounds = _whole(values.get("pissa_iter"), 16)
    draft.put(entry, init_weights="pissa" if rounds < 0 else f"pissa_niter_{rounds}")


def _galore(draft: Draft, entry: KeyEntry, values: Values) -> None:
    own = {"galore_update_proj_gap": "galore_update_interval"}
    more = {flag: value for flag, value in GALORE.items() if own.get(flag, flag) not in values}
    draft.put(entry, use_galore=entry.value, **(more if entry.value is True else {}))


def _galore_part(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if entry.key == "galore_layerwise":
        draft.put(entry, galore_optim_per_parameter=entry.value)
    elif listed(entry.value) == ["all"]:
        draft.leave(entry, DEFAULT, "all layers in both")
    else:
        draft.put(entry, galore_target_modules=listed(entry.value))


def _apollo(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if entry.value is not True:
        draft.leave(entry, DEFAULT, OFF)
        return
    modules = listed(values.get("apollo_target") or "all")
    draft.put(
        entry,
        "the APOLLO of transformers",
        optim="apollo_adamw_layerwise" if values.get("apollo_layerwise") is True else "apollo_adamw",
        optim_args=_apollo_words(values),
        optim_target_modules="all-linear" if modules == ["all"] else modules,
    )


def _apollo_part(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if values.get("use_apollo") is not True:
        draft.leave(entry, DEFAULT, "APOLLO is off")
    elif entry.key in APOLLO:
        draft.put(entry, optim_args=_apollo_words(values))
    elif entry.key == "apollo_target":
        modules = listed(entry.value)
        draft.put(entry, optim_target_modules="all-linear" if modules == ["all"] else modules)
    else:
        draft.put(entry, optim="apollo_adamw_layerwise" if entry.value is True else "apollo_adamw")


def _apollo_words(values: Values) -> str:
    return ",".join(f"{name}={values.get(key, usual)}" for key, (name, usual) in APOLLO.items())


def _refused_optimizer(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if entry.value is not True:
        draft.leave(entry, DEFAULT, OFF)
        return
    why = "ms-swift has no BAdam: whole weights would take the memory of all optimizer states; see tunekit fit"
    draft.leave(entry, LOST, why)
    draft.refused.append(f"{entry.key}: {why}")


def _warmup(draft: Draft, entry: KeyEntry, values: Values) -> None:
    steps = values.get("warmup_steps")
    if isinstance(steps, (int, float)) and steps > 0:
        draft.leave(entry, DEFAULT, "warmup_steps stands above it")
    else:
        draft.put(entry, warmup_ratio=entry.value)


def _evaluation(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if strategy_word(entry.value) == "no" and values.get("val_size"):
        draft.leave(entry, LOST, "ms-swift would train on the rows that are held out: it evaluates every save_steps")
    elif draft.command not in TRAINS:
        draft.leave(entry, DEFAULT, NOT_HERE)
    else:
        draft.put(entry, eval_strategy=strategy_word(entry.value))


def _eval_batch(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if draft.command in TRAINS:
        draft.put(entry, per_device_eval_batch_size=entry.value)
    elif draft.command == "infer" and values.get("do_predict"):
        draft.put(entry, max_batch_size=entry.value)
    else:
        draft.leave(entry, DEFAULT, NOT_HERE)


def _output(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if draft.command in TRAINS:
        draft.put(entry, output_dir=entry.value)
    elif draft.command == "infer" and values.get("do_predict"):
        draft.put(entry, result_path=f"{str(entry.value).rstrip('/')}/generated_predictions.jsonl")
    else:
        draft.leave(entry, DEFAULT, NOT_HERE)


def _swanlab(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if entry.value is not True:
        draft.leave(entry, DEFAULT, OFF)
        return
    others = [name for name in listed(values.get("report_to") or "none") if name not in {"none", "swanlab"}]
    more = {} if "swanlab_project" in values else {"swanlab_project": "llamafactory"}
    draft.put(entry, report_to=[*others, "swanlab"], **more)


def _trackers(draft: Draft, entry: KeyEntry, values: Values) -> None:
    names = listed(entry.value)
    if values.get("use_swanlab") is True:
        names = [*(name for name in names if name not in {"none", "swanlab"}), "swanlab"]
    if draft.command in TRAINS:
        draft.put(entry, report_to=names)
    else:
        draft.leave(entry, DEFAULT, NOT_HERE)


def _secret(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if not entry.value:
        draft.leave(entry, DEFAULT, "not set")
        return
    variable = SECRETS.get(entry.key, TOKEN)
    keep_secret(draft, variable)
    hidden = KeyEntry(entry.key, "***", entry.line)
    why = LARK if entry.key == "swanlab_lark_secret" else f"a secret: set {variable}"
    draft.leave(hidden, ELSEWHERE, why, f"env:{variable}")


def _lark(draft: Draft, entry: KeyEntry, _: Values) -> None:
    keep_secret(draft, "SWANLAB_WEBHOOK_URL")
    draft.leave(KeyEntry(entry.key, "***", entry.line), ELSEWHERE, LARK, "SwanLab's configuration")


def _deepspeed(draft: Draft, entry: KeyEntry, _: Values) -> None:
    found = ZERO.search(str(entry.value))
    if isinstance(entry.value, str) and found:
        draft.put(entry, "LLaMA-Factory's example file", deepspeed=f"zero{found[1]}" + ("_offload" if found[2] else ""))
    else:
        draft.put(entry, deepspeed=entry.value)


def _fsdp(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if entry.value:
        draft.put(entry, "ms-swift shards with FSDP2; what the file says beyond that is not carried", fsdp="fsdp2")
    else:
        draft.leave(entry, DEFAULT, OFF)


def _resume(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if entry.value in (None, False, "false"):
        draft.leave(entry, DEFAULT, OFF)
    else:
        why = (
            "ms-swift cannot go on with a checkpoint of another tool; its weights can be given as --adapters or --model"
        )
        draft.leave(entry, LOST, why)


def _ray(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if isinstance(entry.value, int) and entry.value > 1 and draft.world is None:
        draft.world = entry.value
    draft.leave(entry, ELSEWHERE, "ms-swift starts its processes by itself: NPROC_PER_NODE", "NPROC_PER_NODE")


def _master(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if entry.value:
        draft.put_env(entry, **{entry.key.upper(): str(entry.value)})


FUNCTIONS = {
    "switch": _switch,
    "lora_alpha": _lora_alpha,
    "modules": _modules,
    "saved_modules": _saved_modules,
    "pissa": _pissa,
    "galore": _galore,
    "galore_part": _galore_part,
    "apollo": _apollo,
    "apollo_part": _apollo_part,
    "refused_optimizer": _refused_optimizer,
    "warmup": _warmup,
    "evaluation": _evaluation,
    "eval_batch": _eval_batch,
    "output": _output,
    "swanlab": _swanlab,
    "trackers": _trackers,
    "secret": _secret,
    "lark": _lark,
    "deepspeed": _deepspeed,
    "fsdp": _fsdp,
    "resume": _resume,
    "ray": _ray,
    "master": _master,
}
