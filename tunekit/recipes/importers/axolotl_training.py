"""What axolotl says of the training: batch, optimizer, rate, evaluation, checkpoints, curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.recipes.importers import trainer
from tunekit.recipes.importers.trainer import named
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, LOST, strategy_word

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import Entry
    from tunekit.recipes.importers.trainer import Functions
    from tunekit.recipes.importers.translation import Draft

CUSTOM_OPTIMIZERS = frozenset(
    {
        "optimi_adamw",
        "ao_adamw_fp8",
        "adopt_adamw",
        "adamc",
        "came_pytorch",
        "dion",
        "sinkgd",
        "polora",
        "flash_adamw",
        "flash_adam",
        "flash_sgd",
        "flash_sgdw",
        "flash_lion",
    }
)
"""Optimizers that only axolotl has."""
OWN_SCHEDULERS = ("one_cycle", "rex", "jagged_restart")
TRACKERS = {
    "use_wandb": "wandb",
    "use_tensorboard": "tensorboard",
    "use_mlflow": "mlflow",
    "use_comet": "comet_ml",
    "use_trackio": "trackio",
    "use_swanlab": "swanlab",
}
SECRETS = {"swanlab_lark_webhook_url": "SWANLAB_WEBHOOK_URL", "swanlab_lark_secret": "SWANLAB_SECRET"}
"""Keys that hold a secret whose variable has another name."""


def _accumulation(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """Where only batch_size stands, it is that over the micro-batch."""
    if values.get("gradient_accumulation_steps") is None and values.get("batch_size"):
        return
    draft.put(entry, gradient_accumulation_steps=entry.value)


def _batch_size(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """Its batch_size is micro-batch times accumulation, of one GPU."""
    micro = int(values.get("micro_batch_size") or 1)
    if values.get("gradient_accumulation_steps"):
        draft.leave(entry, DEFAULT, "gradient_accumulation_steps counts where both stand")
    elif entry.value:
        draft.put(entry, f"batch_size over a micro-batch of {micro}", gradient_accumulation_steps=entry.value // micro)


def _eval_batch(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """As large as the micro-batch where it is not written."""
    draft.put(entry, per_device_eval_batch_size=entry.value or values.get("micro_batch_size") or 1)


def _optimizer(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """Optimizers of transformers are `--optim`; a few are plugins of ms-swift; axolotl's own are lost."""
    word = str(entry.value)
    if word == "muon":
        draft.put(entry, optimizer="muon")
    elif word == "q_galore_adamw8bit":
        draft.put(entry, use_galore=True, galore_quantization=True, optim="adamw_8bit")
    elif word.startswith("ao_adamw_") and word != "ao_adamw_fp8":
        why = "bitsandbytes' 8 bits instead of torchao's"
        draft.put(entry, why, optim="adamw_8bit") if word.endswith("8bit") else draft.put(
            entry, optim="adamw_torch_4bit"
        )
    elif word in CUSTOM_OPTIMIZERS:
        draft.leave(entry, LOST, f"ms-swift has no {word}; adamw_torch_fused runs instead")
        draft.warnings.append(
            f"the optimizer {word} is lost: adamw_torch_fused takes more or other memory: tunekit fit"
        )
    else:
        draft.put(entry, optim=word)


def _optim_args(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """A table, or words with commas."""
    table = entry.value
    draft.put(entry, optim_args=",".join(f"{k}={v}" for k, v in table.items()) if isinstance(table, dict) else table)


def _scheduler(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """Schedulers of transformers; a cosine with a floor is another one there."""
    word = str(entry.value)
    if word in OWN_SCHEDULERS:
        draft.leave(entry, LOST, f"ms-swift has no {word}; its cosine runs instead")
        draft.warnings.append(f"the scheduler {word} is lost: a cosine runs instead")
    elif word == "cosine" and values.get("cosine_min_lr_ratio"):
        draft.leave(entry, DEFAULT, "cosine_min_lr_ratio says which cosine")
    else:
        draft.put(entry, lr_scheduler_type=word)


def _min_lr(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """The floor of a cosine, as a part of the rate."""
    if str(values.get("lr_scheduler") or "cosine") != "cosine":
        draft.leave(entry, DEFAULT, "of a cosine only")
    elif entry.value:
        draft.put(entry, lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs={"min_lr_rate": entry.value})


def _warmup_ratio(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """3 % where nothing is written; steps win."""
    if values.get("warmup_steps") is not None:
        if entry.value is not None and values.get("warmup_ratio") is not None:
            draft.leave(entry, DEFAULT, "warmup_steps counts where both stand")
        return
    draft.put(entry, "at most 100 steps there" if values.get("warmup_ratio") is None else "", warmup_ratio=entry.value)


def _world(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """A number of processes."""
    if isinstance(entry.value, int) and entry.value > 0:
        draft.world = entry.value
        draft.leave(entry, ELSEWHERE, "the number of GPUs", "env:NPROC_PER_NODE")


def _strategy(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """When it is saved or evaluated; steps win, and axolotl saves after each epoch where nothing is said."""
    kind = "save" if entry.key.startswith("save") else "eval"
    other = "saves_per_epoch" if kind == "save" else "evals_per_epoch"
    if values.get(f"{kind}_steps") or values.get(other):
        draft.leave(entry, DEFAULT, f"{kind}_steps and {other} count where they stand")
    else:
        draft.put(entry, **{f"{kind}_strategy": strategy_word(entry.value)})


def _steps(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """Every so many steps, or a part of all where it is below 1."""
    kind = entry.key.partition("_")[0]
    if entry.value and values.get(f"{kind}s_per_epoch"):
        draft.leave(entry, DEFAULT, f"{kind}s_per_epoch counts where both stand")
    elif entry.value:
        draft.put(entry, **{f"{kind}_strategy": "steps", entry.key: entry.value})


def _per_epoch(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """So many times an epoch: ms-swift takes steps below 1 as a part of the whole run."""
    if not entry.value:
        return
    kind = entry.key.partition("s_")[0]
    epochs = float(values.get("num_epochs") or 1)
    part = 1 / (float(entry.value) * epochs)
    if part < 1:
        draft.put(entry, "a part of the whole run", **{f"{kind}_strategy": "steps", f"{kind}_steps": f"{part:.10g}"})
    else:
        draft.put(entry, "once, at the end", **{f"{kind}_strategy": "epoch"})


def _tracker(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """One key for each place that curves go to."""
    if entry.value:
        draft.put(entry, report_to=_with(draft, TRACKERS[entry.key]))


def _with(draft: Draft, name: str) -> list[str]:
    named = [word for word in draft.flags.get("report_to", []) if word != "none"]
    return list(dict.fromkeys([*named, name]))


def _wandb(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """A project alone turns W&B on; it reads all of this from the environment."""
    if entry.value:
        draft.put_env(entry, **{entry.key.upper(): str(entry.value)})
        if values.get("use_wandb") is not False:
            draft.flags["report_to"] = _with(draft, "wandb")


def _variable(draft: Draft, entry: Entry, values: Mapping[str, Any]) -> None:
    """MLflow and Comet read their settings from the environment."""
    if entry.value:
        draft.put_env(entry, **{entry.key.upper(): str(entry.value)})
        if entry.key.startswith("mlflow") and values.get("use_mlflow") is not False:
            draft.flags["report_to"] = _with(draft, "mlflow")


def _secret(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """A key stays out of the command."""
    trainer.put_secret(draft, entry, SECRETS.get(entry.key, entry.key.upper()))


def _hub(draft: Draft, entry: Entry, _values: Mapping[str, Any]) -> None:
    """A name alone turns the upload on, to a private place."""
    if entry.value:
        why = "axolotl makes it private"
        draft.put(entry, why, push_to_hub=True, hub_model_id=entry.value, hub_private_repo=True)


FUNCTIONS: Functions = named(
    _accumulation,
    _batch_size,
    _eval_batch,
    _optimizer,
    _optim_args,
    _scheduler,
    _min_lr,
    _warmup_ratio,
    _world,
    _strategy,
    _steps,
    _per_epoch,
    _tracker,
    _wandb,
    _variable,
    _secret,
    _hub,
)
