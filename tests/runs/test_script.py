"""The command of a run as a script: its head, what stands beside it, and what it may write over."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from running import a_plan, make_rows

from tunekit.data.functions.find import Function
from tunekit.engine.plugin import Files
from tunekit.errors import TunekitError
from tunekit.plan.batch import Batch
from tunekit.plan.settings import Source
from tunekit.runs.folder import Run
from tunekit.runs.script import command_for, write_own_script, write_script

FORMAT = """\
def made(row):
    return {"messages": [{"role": "user", "content": row["q"]}, {"role": "assistant", "content": "%s"}]}
"""
MADE = Function("fmt.py", "made", "made")
REWARD = Function("my/rewards.py", "right", "right")


def a_run(**changes: Any) -> Run:
    plan = replace(a_plan(dataset=["raw.jsonl"], **changes.pop("flags", {})), **changes)
    return Run(plan, "try", Path("runs/try"), "neutral", 5)


@pytest.fixture(autouse=True)
def place(isolated: Path) -> Path:
    make_rows(isolated / "raw.jsonl", *[{"q": "7?"}] * 8)
    (isolated / "fmt.py").write_text(FORMAT % "a", encoding="utf-8")
    return isolated


def head(script: Path) -> list[str]:
    return [line for line in script.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]


def test_the_script_of_a_run_stands_in_its_folder() -> None:
    run = a_run()
    run.path.mkdir(parents=True)
    write_own_script(run)
    script = run.path / "command.sh"
    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").endswith(f"\n\n{command_for(run).shell()}\n")
    assert "--output_dir runs/try/output" in script.read_text(encoding="utf-8")
    assert [path.name for path in run.path.iterdir()] == ["command.sh"]


def test_the_head_says_what_was_decided_and_changed() -> None:
    run = a_run()
    plan = run.plan.changed({"packing": None}, Source("rule", "x"), "a reason")
    plan = plan.changed({"check_model": False}, Source("rule", "y"), "not worth a line", quiet=True)
    run = replace(run, plan=plan.changed({}, Source("retry", "2"), "less memory", Batch(4, 8)))
    assert write_script(run, Path("go.sh")) == []
    assert [line.partition(" for ms-swift ")[2] or line for line in head(Path("go.sh"))] == [
        "4.6.0.",
        "# Preset 7b + stable; batch 4 × 8 accumulation × 1 GPU = 32.",
        "# Changed: packing → dropped: a reason",
        "# Changed: per_device_train_batch_size 8 → 4, gradient_accumulation_steps 4 → 8: less memory",
    ]
    assert not Path("runs").exists()


def test_what_a_script_needs_is_where_the_script_is(place: Path) -> None:
    run = a_run(rewards=(REWARD, replace(REWARD, name="short", alias="short")), row_format=MADE)
    Path("deep").mkdir()
    lines = write_script(run, Path("deep/go.sh"))
    assert lines == [("Rows", "deep/go.rows/raw.jsonl: 8 rows by fmt.py:made")]
    assert head(Path("deep/go.sh"))[-2:] == [
        "# Needs deep/go.plugin.py and my/rewards.py: the rewards.",
        "# Needs deep/go.rows: the rows that fmt.py:made made.",
    ]
    command = command_for(run, Files.beside(Path("deep/go.sh"))).shell()
    assert Path("deep/go.sh").read_text(encoding="utf-8").endswith(f"\n\n{command}\n")
    assert "--external_plugins deep/go.plugin.py" in command
    assert "--dataset deep/go.rows/raw.jsonl" in command
    assert {path.name for path in place.iterdir()} == {"raw.jsonl", "fmt.py", "deep"}


def test_the_command_for_people_names_the_files_of_the_run() -> None:
    """They are there once the run begins; nothing is written for it."""
    shell = command_for(a_run(rewards=(REWARD,), row_format=MADE)).shell()
    assert "--external_plugins runs/try/plugin.py" in shell
    assert "--dataset runs/try/data/raw.jsonl" in shell
    assert not Path("runs").exists()


def test_a_script_that_is_written_again_has_rows_of_now() -> None:
    run = a_run(row_format=MADE)
    for answer in ("a", "b"):
        Path("fmt.py").write_text(FORMAT % answer, encoding="utf-8")
        write_script(run, Path("go.sh"))
        first = Path("go.rows/raw.jsonl").read_text(encoding="utf-8").splitlines()[0]
        assert f'"content": "{answer}"' in first


@pytest.mark.parametrize(
    ("taken", "more"),
    [
        ("go.sh", {}),
        ("go.plugin.py", {"rewards": (REWARD,)}),
        ("go.rows", {"row_format": MADE}),
    ],
)
def test_what_is_not_tunekits_stays(taken: str, more: dict[str, Any]) -> None:
    Path(taken).write_text("mine", encoding="utf-8")
    with pytest.raises(TunekitError, match=f"{taken} exists already, and tunekit did not write it"):
        write_script(a_run(**more), Path("go.sh"))
    assert Path(taken).read_text(encoding="utf-8") == "mine"
    assert {path.name for path in Path.cwd().glob("go.*")} == {taken}


def test_what_a_script_does_not_need_is_not_asked_about() -> None:
    for name in ("go.plugin.py", "go.rows"):
        Path(name).write_text("mine", encoding="utf-8")
    assert write_script(a_run(), Path("go.sh")) == []


@pytest.mark.parametrize("own", [True, False])
def test_a_script_that_cannot_be_written_is_one_line(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    run = a_run()
    run.path.mkdir(parents=True)
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(TunekitError, match=r"\.sh cannot be written: No space left on device"):
        write_own_script(run) if own else write_script(run, Path("go.sh"))


def test_a_folder_is_not_made_for_a_script() -> None:
    with pytest.raises(TunekitError, match="the folder deep does not exist"):
        write_script(a_run(), Path("deep/go.sh"))
    assert not Path("deep").exists()


def test_secrets_are_named_and_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWANLAB_API_KEY", "planted")
    write_script(a_run(secrets=("SWANLAB_API_KEY",)), Path("go.sh"))
    text = Path("go.sh").read_text(encoding="utf-8")
    assert 'SWANLAB_API_KEY="$SWANLAB_API_KEY"' in text
    assert "planted" not in text
