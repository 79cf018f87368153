"""Adapters, other models and files that a plan names are looked for before a launch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from running import a_plan, make_model

from tunekit.data.files import NotHere
from tunekit.errors import TunekitError
from tunekit.plan.deepspeed import check_configurations
from tunekit.plan.settings import COMMAND_LINE, Setting
from tunekit.runs.models import FILES, check_adapters, check_files, check_models

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("flag", FILES)
def test_a_file_that_a_flag_names_must_be_there(flag: str, tmp_path: Path) -> None:
    with pytest.raises(NotHere, match=f"^--{flag} .*gone.py does not exist"):
        check_files(a_plan(**{flag: [str(tmp_path / "gone.py")]}))
    (tmp_path / "here.py").write_text("")
    check_files(a_plan(**{flag: [str(tmp_path / "here.py")]}))


def test_what_is_no_file_is_left_alone() -> None:
    check_files(a_plan(custom_dataset_info=['[{"ms_dataset_id": "x"}]'], cached_dataset=["org/on-a-hub"]))


@pytest.mark.parametrize("flag", ["adapters", "ref_adapters", "reward_adapters", "teacher_adapters"])
def test_an_adapter_must_be_one(flag: str, tmp_path: Path) -> None:
    make_model(tmp_path / "whole")
    with pytest.raises(TunekitError, match="holds no adapter") as refused:
        check_adapters(a_plan(**{flag: [str(tmp_path / "whole")]}))
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("it is a whole model: --")
    for name in ("nope", "./nope", "/a/b/c"):
        with pytest.raises(NotHere, match="does not exist"):
            check_adapters(a_plan(**{flag: [name]}))
    (tmp_path / "kind" / "default").mkdir(parents=True)
    (tmp_path / "kind" / "default" / "adapter_config.json").write_text("{}")
    check_adapters(a_plan(**{flag: [str(tmp_path / "kind")]}))
    check_adapters(a_plan(**{flag: ["org/on-a-hub"]}))


def test_what_an_earlier_stage_of_a_recipe_will_leave_is_not_looked_for_yet() -> None:
    check_adapters(a_plan(adapters=["runs/two/sft/result"]))
    check_models(a_plan(stage="ppo", reward_model=["runs/two/rm/merged"]))
    with pytest.raises(NotHere):
        check_models(a_plan(stage="ppo", reward_model=["runs/two/rm/other"]))


def test_the_configuration_of_a_teacher_is_read(tmp_path: Path) -> None:
    def check(word: str) -> None:
        check_configurations({"teacher_deepspeed": Setting(word, COMMAND_LINE)})

    check("zero3")
    (tmp_path / "ds.json").write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    check(str(tmp_path / "ds.json"))
    with pytest.raises(TunekitError, match=r"--teacher_deepspeed nope.json: there is no such file"):
        check("nope.json")
