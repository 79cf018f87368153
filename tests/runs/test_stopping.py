"""What makes a stop save, where it can."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from running import a_plan, fake_engine

from tunekit.engine.locate import Installation
from tunekit.plan.models.model import Model
from tunekit.runs.stopping import saving_plan, seconds_to_save

if TYPE_CHECKING:
    from pathlib import Path

    from tunekit.plan.plan import Plan


@pytest.fixture
def engine() -> Installation:
    return Installation(sys.executable, fake_engine() / "swift", "4.6.0")


def callbacks(plan: Plan | None) -> Any:
    return plan.get("callbacks") if plan else None


@pytest.mark.parametrize("gpus", [1, 8])
def test_one_process_and_several_save(gpus: int, engine: Installation) -> None:
    assert callbacks(saving_plan(a_plan(gpus=gpus, deepspeed="zero3"), engine)) == ["graceful_exit"]


def test_callbacks_of_the_user_stay(engine: Installation) -> None:
    assert callbacks(saving_plan(a_plan(callbacks=["lisa"]), engine)) == ["lisa", "graceful_exit"]
    assert callbacks(saving_plan(a_plan(callbacks=["graceful_exit"]), engine)) == ["graceful_exit"]


@pytest.mark.parametrize("flags", [{"save_strategy": "no"}, {"save_only_model": True}])
def test_where_nothing_can_be_resumed_nothing_is_saved(flags: dict[str, Any], engine: Installation) -> None:
    assert saving_plan(a_plan(**flags), engine) is None


def test_machines_that_are_stopped_one_by_one_do_not_save(engine: Installation) -> None:
    plan = a_plan(gpus=8)
    assert saving_plan(replace(plan, hardware=replace(plan.hardware, nodes=2)), engine, together=False) is None


def test_machines_that_are_stopped_at_once_save(engine: Installation) -> None:
    plan = a_plan(gpus=8)
    assert saving_plan(replace(plan, hardware=replace(plan.hardware, nodes=2)), engine, together=True)


def test_another_ms_swift_may_not_know_the_callback(tmp_path: Path) -> None:
    assert saving_plan(a_plan(), Installation(sys.executable, tmp_path, "4.5.0")) is None


def test_the_file_that_stops_every_training_at_once(
    tmp_path: Path, engine: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunekit.runs.stopping.STOP_FILE", tmp_path)
    assert saving_plan(a_plan(), engine) is None


def test_a_large_checkpoint_is_given_its_time() -> None:
    small, large = a_plan(model=Model("m", 0.1, "qwen2")), a_plan(model=Model("m", 32.0, "qwen2"), tuner_type="full")
    assert seconds_to_save(small, None) < seconds_to_save(small, 60) < seconds_to_save(large, 60)
    assert seconds_to_save(large, None) > 600
