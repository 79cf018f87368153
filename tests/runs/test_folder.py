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
from running import REPOSITORY, a_plan, make_checkpoint, read_json

from tunekit.errors import Exit, TunekitError
from tunekit.files import write_atomically
from tunekit.plan.batch import Batch
from tunekit.plan.models.find import Model
from tunekit.plan.settings import Source
from tunekit.runs.folder import RUNS, Attempt, Run, RunFolder, RunState, checkpoint_named, claim, find_run, new_place

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


def test_default_names_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for wanted in ("qwen-sft", "qwen-sft-2", "qwen-sft-3"):
        name, path = new_place("", "", "qwen-sft")
        assert (name, path) == (wanted, RUNS / wanted)
        path.mkdir(parents=True)


def test_a_name_that_is_taken_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert new_place("mine", "", "x") == ("mine", Path("runs/mine"))
    RunFolder(RUNS / "mine").save(a_state())
    with pytest.raises(TunekitError, match="exists already") as raised:
        new_place("mine", "", "x")
    assert "tunekit resume" in (raised.value.hint or "")
    (RUNS / "other").mkdir()
    with pytest.raises(TunekitError) as raised:
        new_place("other", "", "x")
    assert "resume" not in (raised.value.hint or "")


@pytest.mark.parametrize("name", ["a/b", "../x", "..", ".", ".hidden", "/abs", "x" * 300, "--dry-run"])
def test_names_that_cannot_be_folders(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TunekitError) as raised:
        new_place(name, "", "x")
    assert raised.value.code == Exit.USAGE


def test_an_output_folder(tmp_path: Path) -> None:
    target = tmp_path / "there"
    assert new_place("", str(target), "x") == ("there", target)
    assert new_place("named", str(target), "x") == ("named", target)
    target.mkdir()
    assert new_place("", str(target), "x") == ("there", target), "an empty folder is free"
    (target / "file").write_text("x", encoding="utf-8")
    with pytest.raises(TunekitError, match="not empty"):
        new_place("", str(target), "x")
    with pytest.raises(TunekitError):
        new_place("", str(target / "file"), "x")


def test_an_output_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    folder = RunFolder(tmp_path / "file" / "run")
    with pytest.raises(TunekitError):
        folder.acquire()


def test_runs_are_found_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TunekitError, match="no run try") as raised:
        find_run("try")
    assert "no run is in" in (raised.value.hint or "")
    for path in (RUNS / "try", RUNS / "old", tmp_path / "elsewhere"):
        RunFolder(path).save(a_state())
    assert find_run("try").path == Path("runs/try")
    assert find_run("runs/try").path.resolve() == (tmp_path / "runs" / "try")
    assert find_run(str(tmp_path / "elsewhere")).path == tmp_path / "elsewhere"
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert find_run(".").load().name == "try"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TunekitError) as raised:
        find_run("tr")
    assert raised.value.hint == "runs here: old, try"


def test_the_run_of_a_recipe_is_no_single_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stage = tmp_path / "runs/mine/sft"
    stage.mkdir(parents=True)
    (stage / "run.json").write_text("{}", encoding="utf-8")
    (stage.parent / "recipe.json").write_text("{}", encoding="utf-8")
    with pytest.raises(TunekitError, match="is a recipe's run") as refused:
        find_run("mine")
    assert refused.value.hint
    assert "runs/mine/sft" in refused.value.hint


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


def test_a_run_that_was_stopped_before_it_began_blocks_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with RunFolder(RUNS / "mine"):
        (RUNS / "mine/.run.json.0a1b").write_text("{", encoding="utf-8")
    assert new_place("mine", "", "x") == ("mine", Path("runs/mine"))
    assert new_place("", "runs/mine", "x") == ("mine", Path("runs/mine"))
    (RUNS / "mine/notes.txt").write_text("x", encoding="utf-8")
    for place in (("mine", ""), ("", "runs/mine")):
        with pytest.raises(TunekitError):
            new_place(*place, "x")


def test_names_that_tunekit_chose_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both were planned before either began."""
    monkeypatch.chdir(tmp_path)
    runs = [Run(a_plan(), "kit", RUNS / "kit", "neutral", 5, None, "kit") for _ in range(3)]
    assert [claim(run).path for run in runs] == [RUNS / "kit", RUNS / "kit-2", RUNS / "kit-3"]
    named = replace(runs[0], chosen="")
    assert claim(named) is named


def test_a_run_is_found_by_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = RunFolder(RUNS / "try")
    folder.save(a_state())
    make_checkpoint(folder.output / "checkpoint-4")
    for name in ("runs/try/output/checkpoint-4", "runs/try/output"):
        assert find_run(name).path == folder.path
    assert checkpoint_named("runs/try/output/checkpoint-4", folder) == "checkpoint-4"
    assert checkpoint_named("try", folder) == checkpoint_named("runs/try/output", folder) == ""
