"""What the trackers ask of a plan; tests/plan/test_planner.py has their names and keys."""

import pytest

SWANLAB = {"report_to": ["swanlab"]}


def test_the_project_of_swanlab_becomes_a_flag(make):
    plan = make(preset="7b", environ={"SWANLAB_PROJECT": "mine", "SWANLAB_API_KEY": "planted-key"}, **SWANLAB)
    assert plan.get("swanlab_project") == "mine"
    assert str(plan.settings["swanlab_project"].source) == "environment SWANLAB_PROJECT"
    (note,) = [line for line in plan.warnings if "SWANLAB" in line]
    assert "unset it where you run the command yourself" in note
    typed = make(preset="7b", environ={"SWANLAB_PROJECT": "mine"}, swanlab_project="other", **SWANLAB)
    assert typed.get("swanlab_project") == "other"
    assert make(preset="7b", environ={"SWANLAB_PROJECT": "mine"}).get("swanlab_project") is None


def test_the_token_of_swanlab_is_its_key(make):
    plan = make(preset="7b", environ={"SWANLAB_TOKEN": "planted-token"}, **SWANLAB)
    assert plan.secrets == ("SWANLAB_API_KEY",)
    notes = [line for line in plan.warnings if "SWANLAB" in line]
    assert not any("is not set" in note for note in notes)
    assert any("passed on as SWANLAB_API_KEY" in note for note in notes)
    assert "planted-token" not in str(plan)


@pytest.mark.parametrize("environ", [{}, {"SWANLAB_TOKEN": ""}])
def test_a_missing_key_is_said(make, environ):
    plan = make(preset="7b", environ=environ, **SWANLAB)
    assert any("SWANLAB_API_KEY is not set" in line for line in plan.warnings)
