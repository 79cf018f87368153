"""Switches that do nothing in ms-swift: refused where they were typed, with what does it instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.plan.rules.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunekit.plan.configuration import Configuration

SWANLAB = (
    *("swanlab_project", "swanlab_workspace", "swanlab_exp_name", "swanlab_mode", "swanlab_receiver_email"),
    *("swanlab_sender_email", "swanlab_smtp_server", "swanlab_smtp_port", "swanlab_notification_method"),
)
OF_ADAPTERS = (
    *("lora_rank", "lora_alpha", "lora_dropout", "lora_bias", "lora_dtype", "lorap_lr_ratio", "target_modules"),
    *("target_regex", "target_parameters", "modules_to_save", "use_rslora", "use_dora", "init_weights"),
)


def _typed(plan: Configuration, *flags: str) -> bool:
    return any(plan.typed(flag) for flag in flags)


# fmt: off
_TABLE: tuple[tuple[str, Callable[[Configuration], bool], str, str], ...] = (
    ("do-train", lambda plan: plan.get("do_train") is False,
     "--do_train false does nothing: this command trains",
     "tunekit eval and tunekit predict look at a model without training it"),
    ("do-predict", lambda plan: plan.flag("do_predict"),
     "--do_predict does nothing: ms-swift answers no questions while it trains",
     "tunekit predict RUN answers them when it is done"),
    ("swanlab-unused", lambda plan: _typed(plan, *SWANLAB) and not {"swanlab", "all"} & {*plan.trackers},
     "flags of SwanLab do nothing without it",
     "add --report-to swanlab"),
    ("adapter-flags-full", lambda plan: plan.full and _typed(plan, *OF_ADAPTERS),
     "full training has no adapter, so a flag about one (--lora_rank, --target_modules, …) does nothing",
     "drop it, or train an adapter: --tuner_type lora"),
)
# fmt: on

IDLE_RULES = tuple(
    Rule(
        f"idle-{name}",
        when=when,
        refuse=True,
        why=why,
        hint=hint,
        source="ms-swift 4.6 sft_args.py, tuner.py; transformers 5 training_args.py, integration_utils.py",
    )
    for name, when, why, hint in _TABLE
)
"""Spliced into `tunekit.plan.rules.table.RULES`."""
