"""A run folder from elsewhere is data."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from running import a_plan

from tunekit.data.functions.find import Function
from tunekit.errors import TunekitError
from tunekit.plan.settings import Setting, Source
from tunekit.runs.folder import RunFolder, RunState
from tunekit.runs.trust import refuse_foreign, refuse_unknown_flags, unsafe

if TYPE_CHECKING:
    from tunekit.plan.flags import FlagTable


def with_flag(flag: str, value: Any) -> dict[str, Any]:
    plan = a_plan()
    return {"settings": {**plan.settings, flag: Setting(value, Source("preset"))}}


HOSTILE: list[dict[str, Any]] = [
    {"env": {"LD_PRELOAD": "/tmp/x.so"}},
    {"env": {"PYTHONPATH": "/tmp"}},
    {"env": {"BASH_ENV": "x"}},
    {"env": {"A; touch x": "1"}},
    {"env": {"CUDA_VISIBLE_DEVICES": "0\ntouch x"}},
    {"env": {"CUDA_VISIBLE_DEVICES": 3}},
    {"secrets": ("$(touch x)",)},
    {"rewards": (Function("a.py", "f", 'x")\nimport os'),)},
    {"row_format": Function("a.py", "f()", "f")},
    with_flag("x y", 1),
    with_flag("lora_rank", "--external_plugins"),
    with_flag("target_modules", ["q_proj", "--external_plugins", "evil.py"]),
    with_flag("target_modules", [1]),
    with_flag("learning_rate", float("nan")),
    with_flag("learning_rate", {"a": 1}),
]


@pytest.mark.parametrize("changes", HOSTILE)
def test_what_a_run_from_elsewhere_must_not_hold(changes: dict[str, Any], isolated: Path) -> None:
    assert unsafe("try", a_plan()) == ""
    plan = replace(a_plan(), **changes)
    assert unsafe("try", plan)
    folder = RunFolder(isolated / "run")
    folder.save(RunState("try", "failed", plan, "neutral", 5))
    with pytest.raises(TunekitError, match=r"run\.json") as raised:
        folder.load()
    assert "\n" not in raised.value.message


@pytest.mark.parametrize("name", ["../x", "a\nb", ".hidden", "--force"])
def test_a_name_is_a_name(name: str) -> None:
    assert "no name of a run" in unsafe(name, a_plan())


def test_flags_are_checked_again(flags: FlagTable) -> None:
    path = Path("run.json")
    refuse_unknown_flags(path, a_plan(), flags)
    for changes, said in (
        (with_flag("lora_ran", 4), "--lora_ran is not a flag"),
        (with_flag("lora_rank", "many"), "--lora_rank does not take 'many'"),
        (with_flag("lora_rank", True), "--lora_rank does not take True"),
        (with_flag("truncation_strategy", "magic"), "--truncation_strategy does not take 'magic'"),
        (with_flag("target_modules", "q_proj"), "--target_modules does not take"),
        (with_flag("gradient_accumulation_steps", 1), "its batch is 8 × 4"),
    ):
        with pytest.raises(TunekitError) as raised:
            refuse_unknown_flags(path, replace(a_plan(), **changes), flags)
        assert said in raised.value.message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_folder_of_another_user_is_refused(isolated: Path) -> None:
    folder = RunFolder(isolated / "run")
    folder.save(RunState("try", "failed", a_plan(), "neutral", 5))
    refuse_foreign(folder.path)
    os.chown(folder.path / "run.json", 12345, 12345)
    with pytest.raises(TunekitError, match="belongs to another user") as raised:
        refuse_foreign(folder.path)
    assert "--force" in (raised.value.hint or "")
    refuse_foreign(folder.path, force=True)
