"""ms-swift before 4: batch, rates, steps, losses of RLHF, trackers and secrets; how answers are made."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tunekit.recipes.importers.carried import keep_secret
from tunekit.recipes.importers.source import KeyEntry
from tunekit.recipes.importers.swift_before_model import hub_column
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, LOST, TRAINS
from tunekit.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.translation import Draft

    Values = Mapping[str, Any]

SECRETS = {"hub_token": "MODELSCOPE_API_TOKEN", "api_key": "", "swanlab_token": "SWANLAB_API_KEY"}
PAIRS = "dpo"


def _eval_batch(draft: Draft, entry: KeyEntry, values: Values) -> None:
    rows = entry.value or values.get("batch_size") or 1
    draft.put(entry, **{"per_device_eval_batch_size" if draft.command in TRAINS else "max_batch_size": rows})


def _deepspeed(draft: Draft, entry: KeyEntry, _: Values) -> None:
    found = re.fullmatch(r"(?:default-)?zero([0-3])(?:[-_](offload))?", str(entry.value))
    if found:
        draft.put(entry, deepspeed=f"zero{found[1]}" + ("_offload" if found[2] else ""))
    else:
        draft.put(entry, deepspeed=entry.value)


def _limit(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if entry.value == -1:
        draft.leave(entry, DEFAULT, "all checkpoints are kept, in both")
    else:
        draft.put(entry, save_total_limit=entry.value)


def _sft_beta(draft: Draft, entry: KeyEntry, _: Values) -> None:
    kind = "".join(draft.flags.get("rlhf_type", ()))
    flag = {PAIRS: "rpo_alpha", "simpo": "cpo_alpha", "cpo": "cpo_alpha"}.get(kind)
    if flag:
        draft.put(entry, **{flag: entry.value})
    else:
        draft.leave(entry, LOST, f"{kind or draft.command} has no additional loss of the chosen answer")


def _completion_length(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if draft.flags.get("rlhf_type", [""])[0] in GENERATE:
        draft.put(entry, max_completion_length=entry.value)
    else:
        draft.leave(entry, LOST, "ms-swift 4.6 bounds the row alone: --max_length")


GENERATE = tuple(name for name, stage in STAGES.items() if stage.generates)


def _sampling(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if entry.value is False:
        draft.put(entry, temperature=0)
    else:
        draft.leave(entry, DEFAULT, "the temperature says it")


def _temperature(draft: Draft, entry: KeyEntry, values: Values) -> None:
    draft.put(entry, temperature=0 if values.get("do_sample") is False else entry.value)


def _epochs(draft: Draft, entry: KeyEntry, values: Values) -> None:
    steps = values.get("max_steps")
    if "num_train_epochs" in values or not (isinstance(steps, int) and steps > 0):
        draft.put(entry, num_train_epochs=entry.value)


def _warmup(draft: Draft, entry: KeyEntry, values: Values) -> None:
    if values.get("warmup_steps"):
        draft.leave(entry, DEFAULT, "warmup_steps stands above it")
    else:
        draft.put(entry, warmup_ratio=entry.value)


def _rate(draft: Draft, entry: KeyEntry, _: Values) -> None:
    usual = "1e-5" if draft.flags.get("tuner_type") == ["full"] else "1e-4"
    draft.put(entry, learning_rate=entry.value or usual)


def _eval_steps(draft: Draft, entry: KeyEntry, _: Values) -> None:
    draft.put(entry, eval_steps=entry.value or _steps(draft))


def _save_steps(draft: Draft, entry: KeyEntry, values: Values) -> None:
    draft.put(entry, save_steps=entry.value or values.get("eval_steps") or _steps(draft))


def _steps(draft: Draft) -> int:
    return 200 if draft.flags.get("tuner_type") == ["full"] else 50


def _plugins(draft: Draft, entry: KeyEntry, _: Values) -> None:
    files = entry.value if isinstance(entry.value, list) else [entry.value]
    draft.put(entry, external_plugins=[*draft.flags.get("external_plugins", ()), *files])


def _secret(draft: Draft, entry: KeyEntry, _: Values) -> None:
    variable = SECRETS.get(entry.key) or entry.key.upper()
    if entry.key == "hub_token" and hub_column(draft):
        variable = "HF_TOKEN"
    keep_secret(draft, variable)
    draft.leave(KeyEntry(entry.key, "***", entry.line), ELSEWHERE, f"a secret: set {variable}", f"env:{variable}")


def _lark(draft: Draft, entry: KeyEntry, _: Values) -> None:
    draft.put(KeyEntry(entry.key, "***", entry.line), swanlab_notification_method="lark")
    keep_secret(draft, "SWANLAB_WEBHOOK_URL")


def _vllm(draft: Draft, entry: KeyEntry, values: Values) -> None:
    more = {} if entry.value is not True or values.get("vllm_mode") else {"vllm_mode": "colocate"}
    why = "3.x took colocate where nothing was said" if more else ""
    draft.put(entry, why, use_vllm=entry.value, **more)


FUNCTIONS = {
    "eval_batch": _eval_batch,
    "deepspeed": _deepspeed,
    "limit": _limit,
    "sft_beta": _sft_beta,
    "completion_length": _completion_length,
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
    "plugins": _plugins,
}
