"""What the trackers ask of a plan; tests/plan/test_planner.py has their names and keys."""

from pathlib import Path

import pytest

from tunekit.engine.command import build_command
from tunekit.errors import TunekitError
from tunekit.plan.settings import COMMAND_LINE, TUNEKIT, Setting, Source

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


WANDB = {"report_to": ["wandb"]}


def said(**words):
    return {name: Setting(word, COMMAND_LINE) for name, word in words.items()}


def test_project_group_and_entity_are_what_each_tracker_calls_them(make):
    tracked = said(project="p", group="g", entity="e")
    plan = make(preset="7b", tracked=tracked, **WANDB)
    assert {name: plan.env[name] for name in plan.env if name.startswith("WANDB")} == {
        "WANDB_PROJECT": "p",
        "WANDB_RUN_GROUP": "g",
        "WANDB_ENTITY": "e",
    }
    assert plan.get("project") is None, "which transformers passes to trackio alone"
    plan = make(preset="7b", tracked=tracked, **SWANLAB)
    assert (plan.get("swanlab_project"), plan.get("swanlab_workspace")) == ("p", "e")
    assert plan.env["SWANLAB_GROUP"] == "g"
    assert make(preset="7b", tracked=said(project="p"), report_to=["trackio"]).get("project") == "p"
    both = make(preset="7b", tracked=said(project="p"), report_to=["wandb", "swanlab"])
    assert (both.env["WANDB_PROJECT"], both.get("swanlab_project")) == ("p", "p")


@pytest.mark.parametrize(
    ("name", "report_to", "way"),
    [
        ("project", [], "--report-to wandb or --report-to swanlab or --report-to trackio"),
        ("group", ["trackio"], "--report-to wandb or --report-to swanlab"),
        ("entity", ["tensorboard"], "--report-to wandb"),
    ],
)
def test_what_no_tracker_takes_is_refused_with_the_way_out(make, name, report_to, way):
    with pytest.raises(TunekitError, match=f"^--{name} does nothing here") as refused:
        make(preset="7b", tracked=said(**{name: "x"}), report_to=report_to)
    assert refused.value.hint.startswith(f"add {way}")
    for_all = {name: Setting("x", Source("config", "config.toml"))}
    assert make(preset="7b", tracked=for_all, report_to=report_to).env == make(preset="7b").env


def test_one_project_said_twice_must_be_one(make):
    with pytest.raises(TunekitError, match="--project and --swanlab_project are the same"):
        make(preset="7b", tracked=said(project="p"), swanlab_project="q", **SWANLAB)
    environ = {"SWANLAB_PROJECT": "env", "WANDB_PROJECT": "env"}
    plan = make(preset="7b", tracked=said(project="p"), environ=environ, report_to=["swanlab", "wandb"])
    assert (plan.get("swanlab_project"), plan.env["WANDB_PROJECT"]) == ("p", "p")
    for_all = {"project": Setting("all", Source("config", "config.toml"))}
    assert make(preset="7b", tracked=for_all, environ=environ, **WANDB).env["WANDB_PROJECT"] == "env"
    assert make(preset="7b", tracked=for_all, **WANDB).env["WANDB_PROJECT"] == "all"


def test_the_variables_of_wandb_stand_in_the_command_and_its_key_does_not(make):
    environ = {"WANDB_PROJECT": "mine", "WANDB_MODE": "offline", "WANDB_API_KEY": "planted-key", "WANDB_TAGS": ""}
    environ |= {"WANDB_BASE_URL": "https://me:hunter2@wandb.example"}
    plan = make(preset="7b", environ=environ, **WANDB)
    command = build_command(plan, Path("out")).shell()
    assert "WANDB_PROJECT=mine" in command
    assert "WANDB_MODE=offline" in command
    assert 'WANDB_API_KEY="$WANDB_API_KEY"' in command
    assert "planted-key" not in command
    assert "WANDB_TAGS" not in command
    assert "hunter2" not in command, "an address with a password is inherited, and not written down"
    assert not any(name.startswith("WANDB") for name in make(preset="7b", environ=environ).env)


@pytest.mark.parametrize("mode", ["local", "offline", "disabled"])
def test_swanlab_stays_here_where_the_shell_says_so(make, mode):
    """ms-swift would pass cloud over it."""
    plan = make(preset="7b", environ={"SWANLAB_MODE": mode}, **SWANLAB)
    assert plan.get("swanlab_mode") == "local"
    assert str(plan.settings["swanlab_mode"].source) == "environment SWANLAB_MODE"
    assert not any("is not set" in line for line in plan.warnings)
    assert make(preset="7b", environ={"SWANLAB_MODE": mode}, swanlab_mode="cloud", **SWANLAB).get("swanlab_mode") == (
        "cloud"
    )
    assert make(preset="7b", environ={"SWANLAB_MODE": "online"}, **SWANLAB).get("swanlab_mode") is None


@pytest.mark.parametrize("mode", ["offline", "dryrun", "disabled"])
def test_wandb_needs_no_key_where_it_sends_nothing(make, mode):
    assert not any("is not set" in line for line in make(preset="7b", environ={"WANDB_MODE": mode}, **WANDB).warnings)
    online = make(preset="7b", environ={"WANDB_MODE": "online"}, **WANDB)
    assert any("WANDB_API_KEY is not set" in line for line in online.warnings)


def test_mlflow_gets_a_project_and_a_name_and_keeps_the_address_of_the_shell(make):
    environ = {"MLFLOW_TRACKING_URI": "http://mlflow.example", "MLFLOW_TRACKING_PASSWORD": "planted-key"}
    plan = make(preset="7b", tracked=said(project="p"), environ=environ, report_to=["mlflow"])
    assert plan.get("run_name") == "qwen2.5-7b-sft"
    assert (plan.env["MLFLOW_EXPERIMENT_NAME"], plan.env["MLFLOW_TRACKING_URI"]) == ("p", "http://mlflow.example")
    assert "planted-key" not in str(plan)
    for_all = {"project": Setting("all", Source("config", "config.toml"))}
    near = make(preset="7b", tracked=for_all, environ={"MLFLOW_EXPERIMENT_NAME": "mine"}, report_to=["mlflow"])
    assert near.env["MLFLOW_EXPERIMENT_NAME"] == "mine"


@pytest.mark.parametrize("tracker", ["wandb", "mlflow", "trackio", "comet_ml"])
def test_a_run_has_its_name_in_every_tracker(make, tracker):
    assert make(preset="7b", report_to=[tracker]).get("run_name") == "qwen2.5-7b-sft"


def test_the_files_of_swanlab_stand_in_the_folder_of_the_run(make):
    plan = make(preset="7b", swanlab_mode="local", **SWANLAB)
    assert build_command(plan, Path("runs/try/output")).env["SWANLAB_LOG_DIR"] == "runs/try/swanlog"
    for variable in ("SWANLAB_LOG_DIR", "SWANLAB_LOGDIR"):
        chosen = build_command(make(preset="7b", environ={variable: "logs"}, **SWANLAB), Path("runs/try/output")).env
        assert {name: chosen[name] for name in chosen if "LOG" in name} == {variable: "logs"}
    assert "SWANLAB_LOG_DIR" not in build_command(make(preset="7b", **WANDB), Path("runs/try/output")).env


def test_the_group_of_the_shell_is_nearer_than_that_of_a_sweep(make):
    sweep = {"group": Setting("s", TUNEKIT)}
    assert make(preset="7b", tracked=sweep, **SWANLAB).env["SWANLAB_GROUP"] == "s"
    assert make(preset="7b", tracked=sweep, environ={"SWANLAB_GROUP": "mine"}, **SWANLAB).env["SWANLAB_GROUP"] == "mine"
    assert make(preset="7b", tracked=sweep, report_to=["tensorboard"]).env == make(preset="7b").env
