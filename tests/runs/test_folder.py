"""The folder of a run: written whole, by one, and read with suspicion."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from running import REPOSITORY, a_plan, read_json

from tunekit.errors import TunekitError
from tunekit.files import write_atomically
from tunekit.plan.batch import Batch
from tunekit.plan.models.model import Model
from tunekit.plan.settings import Source
from tunekit.runs.folder import Attempt, RunFolder, RunState

ATTEMPT = Attempt(1, "gpu-memory", 8, 4, None, 3, 1, "CUDA out of memory", "micro-batch 8 → 4", 12.5, 38.0)


def a_state(**changes: Any) -> RunState:
    plan = a_plan(Batch(4, 4, 2), gpus=2, target_modules=["q_proj", "v_proj"], packing=True, learning_rate=2e-4)
    plan = plan.changed({"packing": None}, Source("rule", "x"), "because", Batch(2, 8, 2))
    plan = replace(plan, model=Model("x", 7.5, undecided=(("template", "unknown"),)), secrets=("HF_TOKEN",))
    return replace(RunState("try", "running", plan, "neutral", 5, [ATTEMPT], created="2026-11-21T09:30:00Z"), **changes)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "runs" / "try")


def test_a_state_is_read_as_it_was_written(folder: RunFolder) -> None:
    state = a_state(fresh=True)
    folder.save(state)
    loaded = folder.load()
    assert loaded == state
    assert type(loaded.plan.settings["learning_rate"].value) is float
    assert loaded.plan.hardware.capability == (8, 0)


def test_run_json_says_what_a_reader_needs(folder: RunFolder) -> None:
    folder.save(a_state())
    document = read_json(folder.path / "run.json")
    assert document["schema"] == 2
    assert (document["name"], document["status"], document["oom_retry"]) == ("try", "running", "neutral")
    assert document["attempts"][0]["evidence"] == "CUDA out of memory"
    assert document["plan"]["batch"] == {"micro": 2, "accumulation": 8, "data_parallel": 2}


def test_a_write_that_fails_leaves_the_old_content(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.save(a_state())

    def fail(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        folder.save(a_state(status="done"))
    monkeypatch.undo()
    assert folder.load().status == "running"
    assert [path.name for path in folder.path.iterdir()] == ["run.json"], "a half-written file is left"


def test_a_kill_in_the_middle_of_a_write_leaves_the_old_content(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.save(a_state())

    def die(_: int) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(KeyboardInterrupt):
        folder.save(a_state(status="done"))
    monkeypatch.undo()
    assert folder.load().status == "running"


def _broken(**changes: Any) -> str:
    plan = json.loads(json.dumps(a_plan().to_json()))
    document: dict[str, Any] = {
        "schema": 2,
        "tunekit": "0.0.1",
        "name": "try",
        "status": "running",
        "created": "",
        "cwd": "",
        "oom_retry": "off",
        "max_attempts": 5,
        "fresh": False,
        "attempts": [],
        "plan": plan,
    }
    for key, value in changes.items():
        (plan if key in plan else document)[key] = value
    return json.dumps(document)


def test_the_unbroken_document_is_read(folder: RunFolder) -> None:
    """The next test changes one thing at a time in this one."""
    folder.path.mkdir(parents=True)
    (folder.path / "run.json").write_text(_broken(), encoding="utf-8")
    assert folder.load().name == "try"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "3",
        "[]",
        '"text"',
        "{}",
        '{"schema": 3, "tunekit": "9.0"}',
        '{"schema": 1}',
        '{"schema": 2}',
        _broken(schema=3),
        _broken(schema=1),
        _broken(schema=0),
        _broken(schema=-1),
        _broken(schema="2"),
        _broken(schema=None),
        _broken(schema=1.5),
        _broken(attempts=3),
        _broken(attempts=[{"number": 1}]),
        _broken(attempts=[[1, 2]]),
        _broken(plan={}),
        _broken(plan=None),
        _broken(plan=[]),
        _broken(settings=[]),
        _broken(settings={"model": "x"}),
        _broken(batch={"micro": 2}),
        _broken(model=None),
        _broken(hardware={"gpus": [{}]}),
        _broken(hardware={"gpus": [{"name": "x", "total_gib": 1, "capability": [8]}]}),
        _broken(unheard_of=1, env=None).replace('"env"', '"unknown_field"'),
    ],
)
def test_a_damaged_or_foreign_run_is_one_line(folder: RunFolder, text: str) -> None:
    folder.path.mkdir(parents=True)
    (folder.path / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(TunekitError) as raised:
        folder.load()
    assert "run.json" in raised.value.message
    assert "\n" not in raised.value.message


def test_a_run_json_that_is_no_text(folder: RunFolder) -> None:
    folder.path.mkdir(parents=True)
    (folder.path / "run.json").write_bytes(b"\xff\x00\x80")
    with pytest.raises(TunekitError, match="cannot be read"):
        folder.load()


def test_a_folder_without_a_run(folder: RunFolder) -> None:
    with pytest.raises(TunekitError, match="not a run"):
        folder.load()


ACQUIRE = """
import sys
from pathlib import Path
from tunekit.errors import TunekitError
from tunekit.runs.folder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
try:
    folder.acquire()
except TunekitError as error:
    print("refused", error.message, flush=True)
else:
    print("taken", flush=True)
    sys.stdin.read()
"""


def other_process(path: Path, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ACQUIRE, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": os.environ["PATH"]},
        **options,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


def test_only_one_process_writes(folder: RunFolder) -> None:
    folder.acquire()
    with other_process(folder.path) as other:
        said = first_line(other)
        assert said.startswith("refused")
        assert f"pid {os.getpid()}" in said
    folder.release()
    with other_process(folder.path) as other:
        assert first_line(other) == "taken\n"
        with pytest.raises(TunekitError, match=f"pid {other.pid}"):
            RunFolder(folder.path).acquire()
        other.send_signal(signal.SIGKILL)
    again = RunFolder(folder.path)
    again.acquire()
    again.release()


def test_what_inherited_the_lock_holds_it(folder: RunFolder) -> None:
    folder.acquire()
    program = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, pass_fds=(folder.lock_fd,)) as child:
        folder.release()
        with pytest.raises(TunekitError, match="in use"):
            RunFolder(folder.path).acquire()
        assert child.stdin
        child.stdin.close()
    again = RunFolder(folder.path)
    again.acquire()
    again.release()


def test_the_lock_is_held_in_a_block_and_never_beyond_it(folder: RunFolder) -> None:
    with folder, pytest.raises(TunekitError, match="in use"):
        RunFolder(folder.path).acquire()
    with pytest.raises(KeyError), folder:
        raise KeyError
    with RunFolder(folder.path) as again:
        assert again.lock_fd


def test_the_descriptor_of_a_lock_that_is_not_held(folder: RunFolder) -> None:
    with pytest.raises(RuntimeError):
        _ = folder.lock_fd
    folder.acquire()
    folder.release()
    folder.release()
    with pytest.raises(RuntimeError):
        _ = folder.lock_fd


def test_an_output_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    folder = RunFolder(tmp_path / "file" / "run")
    with pytest.raises(TunekitError):
        folder.acquire()


def test_the_process_that_holds_a_lock_is_one_that_lives(folder: RunFolder) -> None:
    """tunekit was killed, and what it had started trains on: the pid in the lock is no process any more."""
    folder.acquire()
    program = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, pass_fds=(folder.lock_fd,)) as child:
        os.pwrite(folder.lock_fd, b"999999999 ", 0)
        folder.release()
        with pytest.raises(TunekitError, match=f"pid {child.pid}: .*sys.stdin.*left by tunekit"):
            RunFolder(folder.path).acquire()
        child.communicate()


@pytest.mark.parametrize("how", ["symbolic", "hard"])
def test_a_lock_that_is_a_link_is_not_followed(folder: RunFolder, how: str) -> None:
    precious = folder.path.parent / "precious.txt"
    folder.path.mkdir(parents=True)
    precious.write_text("mine", encoding="utf-8")
    lock = folder.path / ".lock"
    lock.symlink_to(precious) if how == "symbolic" else lock.hardlink_to(precious)
    with pytest.raises(TunekitError, match="link"):
        folder.acquire()
    assert precious.read_text(encoding="utf-8") == "mine"


def test_a_full_disk_still_takes_run_json(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock has reserved the place for it."""
    written = write_atomically

    def full(path: Path, content: str) -> None:
        if (path.parent / ".lock").stat().st_size > 1000:
            raise OSError(28, "No space left on device")
        written(path, content)

    monkeypatch.setattr("tunekit.runs.folder.write_atomically", full)
    with folder:
        folder.save(a_state(status="failed"))
        assert folder.load().status == "failed"
        with pytest.raises(TunekitError, match=f"pid {os.getpid()}"):
            RunFolder(folder.path).acquire()


def test_a_damaged_run_names_its_command(folder: RunFolder) -> None:
    folder.path.mkdir(parents=True)
    for name, text in (("run.json", "{"), ("command.sh", "swift sft")):
        (folder.path / name).write_text(text, encoding="utf-8")
    with pytest.raises(TunekitError) as raised:
        folder.load()
    assert f"bash {folder.path}/command.sh" in (raised.value.hint or "")
