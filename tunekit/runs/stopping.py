"""What a stop saves, and how long that may take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.engine.flags import flag_table
from tunekit.engine.locate import has_callback
from tunekit.plan.settings import Setting, Source
from tunekit.runs.preflight import checkpoint_gib

if TYPE_CHECKING:
    from tunekit.engine.locate import Installation
    from tunekit.plan.plan import Plan

CALLBACK = "graceful_exit"
"""ms-swift's own (callbacks/deepspeed_elastic.py). After every step all processes tell each other whether one of them
was asked to stop, so all save and end at the same step: with DDP, DeepSpeed and FSDP alike, and exactly resumable."""

STOP_FILE = Path("/tmp/stop")  # noqa: S108 - ms-swift's, utils/shutdown_manager.py
"""While this file is there, that callback ends every training after its next step."""

TO_SAVE, A_STEP, WRITES_GIB = 25.0, 2.0, 0.2
"""Seconds in which a trainer that was asked to stop saves; as many steps more, for it ends the one that it is in; and
the GiB that a slow disk takes in a second."""


def saving_plan(plan: Plan, engine: Installation, *, together: bool = True) -> Plan | None:
    """The plan, with what makes a stop save what was learned so far; None where it can save nothing.

    `together`: whether all machines are stopped at once. Where a tunekit each stops them, those that were not asked
    would take the end for a finished training.
    """
    there = "callbacks" in flag_table().by_command[plan.stage.command] and has_callback(engine, CALLBACK)
    whole = plan.get("save_strategy") != "no" and not plan.flag("save_only_model", default=False)
    if not (there and whole) or not together or STOP_FILE.exists():
        return None
    names = dict.fromkeys((*plan.words("callbacks"), CALLBACK))
    why = "a stop saves what was learned since the last checkpoint"
    return plan.with_settings({"callbacks": Setting(list(names), Source("run"), why)})


def seconds_to_save(plan: Plan, seconds_per_step: float | None) -> float:
    """How long a trainer may take from being asked to stop until it has saved and ended."""
    return TO_SAVE + A_STEP * (seconds_per_step or 0) + (checkpoint_gib(plan) or 0) / WRITES_GIB
