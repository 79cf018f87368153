"""Whether a tracker knows who sends to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from running import a_plan, make_rows

from tunekit.errors import Exit, TunekitError
from tunekit.runs.folder import Run
from tunekit.runs.logins import check_logins
from tunekit.runs.preflight import check_launch, problems_of


@pytest.fixture(autouse=True)
def home(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which nobody is logged in to anything."""
    for name in ("WANDB_MODE", "WANDB_BASE_URL", "WANDB_CONFIG_DIR", "WANDB_DIR", "NETRC", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("SWANLAB_ROOT", "SWANLAB_SAVE_DIR", "SWANLAB_CONFIG_DIR", "SWANLAB_SECRETS_DIR"):
        monkeypatch.delenv(name, raising=False)
    folder = isolated / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.mark.parametrize("tracker", ["wandb", "swanlab"])
def test_a_tracker_without_a_key_is_refused_with_two_ways_out(tracker: str) -> None:
    with pytest.raises(TunekitError, match=f"--report_to {tracker} has no key: {tracker.upper()}_API_KEY") as raised:
        check_logins(a_plan(report_to=[tracker]))
    assert raised.value.code == Exit.USAGE
    assert f"{tracker} login" in (raised.value.hint or "")


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow", "trackio", "none"])
def test_others_need_none(tracker: str) -> None:
    check_logins(a_plan(report_to=[tracker]))


@pytest.mark.parametrize(
    ("tracker", "variable", "value"),
    [
        ("wandb", "WANDB_API_KEY", "k"),
        ("wandb", "WANDB_MODE", "offline"),
        ("wandb", "WANDB_IDENTITY_TOKEN_FILE", "token"),
        ("swanlab", "SWANLAB_API_KEY", "k"),
        ("swanlab", "SWANLAB_TOKEN", "k"),
    ],
)
def test_what_the_shell_says_is_enough(
    tracker: str, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    check_logins(a_plan(report_to=[tracker]))


def test_swanlab_local_needs_no_key() -> None:
    check_logins(a_plan(report_to=["swanlab"], swanlab_mode="local"))


@pytest.mark.parametrize(
    ("tracker", "file", "text"),
    [
        ("wandb", ".netrc", "machine api.wandb.ai login user password k\n"),
        ("wandb", ".config/wandb/settings", "[default]\napi_key = k\n"),
        ("wandb", ".config/wandb/settings", "[default]\nmode = offline\n"),
        ("swanlab", ".swanlab/.netrc", "machine api.swanlab.cn login x password k\n"),
    ],
)
def test_a_login_of_before_counts(tracker: str, file: str, text: str, home: Path) -> None:
    path = home / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    check_logins(a_plan(report_to=[tracker]))


def test_a_login_to_another_server_does_not_count(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / ".netrc"
    path.write_text("machine api.wandb.ai login user password k\n", encoding="utf-8")
    path.chmod(0o600)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example:8080")
    with pytest.raises(TunekitError):
        check_logins(a_plan(report_to=["wandb"]))
    path.write_text("machine wandb.example:8080 login user password k\n", encoding="utf-8")
    check_logins(a_plan(report_to=["wandb"]))


def test_settings_that_cannot_be_read_are_none(home: Path) -> None:
    path = home / ".config/wandb/settings"
    path.parent.mkdir(parents=True)
    path.write_text("no section\n", encoding="utf-8")
    with pytest.raises(TunekitError):
        check_logins(a_plan(report_to=["wandb"]))


def test_a_dry_run_says_it_and_a_start_refuses(isolated: Path) -> None:
    """The command may be for another machine."""
    plan = a_plan(dataset=[str(make_rows(isolated / "rows.jsonl"))], report_to=["wandb"])
    run = Run(plan, "try", Path("runs/try"), "off", 3)
    (problem,) = problems_of(run)
    assert "WANDB_API_KEY" in problem
    assert "wandb login" in problem
    with pytest.raises(TunekitError, match="WANDB_API_KEY"):
        check_launch(plan, run.path)
    elsewhere = replace(plan, hardware=replace(plan.hardware, described=True))
    assert problems_of(replace(run, plan=elsewhere)) == []
