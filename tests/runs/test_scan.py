"""A scan reads what has changed, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from running import make_run

from tunekit.runs import scan as scans
from tunekit.runs.history import STOPPED
from tunekit.runs.scan import Scan, log_end, seconds_to_go

if TYPE_CHECKING:
    from tunekit.runs.folder import RunFolder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scans, "FRESH", 0)
    return tmp_path


def log(folder: RunFolder, steps: int, total: int = 20) -> None:
    entries = [
        {"global_step/max_steps": f"{step}/{total}", "loss": 2.0 / step, "train_speed(s/it)": 3.0}
        for step in range(1, steps + 1)
    ]
    path = folder.output / "logging.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")


def test_what_has_not_changed_is_not_read_again() -> None:
    first, second = make_run("first"), make_run("second")
    scan = Scan()
    before = scan.history()
    assert {run.name for run in before.runs} == {"first", "second"}
    with mock.patch.object(scans, "read_past", side_effect=AssertionError("read again")):
        assert scan.history() == before
    log(first, 3)
    with mock.patch.object(scans, "read_past", wraps=scans.read_past) as read:
        found = scan.named("first")
    assert [call.args for call in read.call_args_list] == [(first.path,)]
    assert found
    assert found.logged.step == 3
    assert scan.named("second") is next(run for run in before.runs if run.folder.path == second.path)


def test_runs_come_and_go_and_a_damaged_one_is_told_once_it_is_whole() -> None:
    scan = Scan()
    assert scan.history().runs == ()
    folder = make_run("kit")
    text = (folder.path / "run.json").read_text(encoding="utf-8")
    (folder.path / "run.json").write_text("[]", encoding="utf-8")
    assert len(scan.history().damaged) == 1
    assert scan.named("kit") is None
    (folder.path / "run.json").write_text(text, encoding="utf-8")
    assert scan.named("kit")
    (folder.path / "run.json").unlink()
    assert scan.history().runs == ()


def test_who_works_on_a_run_is_asked_each_time() -> None:
    folder = make_run("kit", status="running")
    log(folder, 5)
    scan = Scan()
    assert scan.named("kit").alive is None
    with folder:
        # The lock of this process is not seen by itself with one descriptor; another is what an observer has.
        other = os.open(folder.path / ".lock", os.O_RDONLY)
        try:
            run = scan.named("kit")
            assert run.alive
            assert run.told == "step 5/20"
            assert seconds_to_go(run) == 45.0
            assert scan.named("kit") is run
        finally:
            os.close(other)
    assert scan.named("kit").status != "running"
    assert seconds_to_go(scan.named("kit")) is None


def test_nothing_outside_the_folder_has_a_name() -> None:
    make_run("kit")
    make_run("secret", where=Path("elsewhere"))
    scan = Scan()
    for key in ("../elsewhere/secret", "/etc", "kit/../kit", "", ".", str(Path("runs/kit").resolve())):
        assert scan.named(key) is None


def test_the_end_of_a_log() -> None:
    folder = make_run("kit", status="interrupted")
    run = Scan().named("kit")
    assert run.status == STOPPED
    assert log_end(run, 3) == []
    path = folder.attempt(2) / "train.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 20_000 + b"\nfirst\n\n 10%|#\r 20%|##\r\nlast\xff\n")
    assert log_end(run, 3) == ["first", " 20%|##", "last\ufffd"]
    assert log_end(run, 1) == ["last\ufffd"]
