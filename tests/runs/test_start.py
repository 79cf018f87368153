"""How a run begins and how it is gone on with."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from running import REPOSITORY, a_plan, fake_engine, make_rows, read_json

from tunekit.data.functions.find import Function
from tunekit.engine.locate import Installation
from tunekit.errors import Exit, TunekitError
from tunekit.files import write_atomically
from tunekit.hardware import Hardware, choose_hardware
from tunekit.plan.request import Request
from tunekit.plan.settings import COMMAND_LINE, Setting
from tunekit.runs.folder import Run, RunFolder, RunState
from tunekit.runs.start import Onward, begin_run, check_run, done_lines, resume_run, run_to_resume, start_run
from tunekit.stages import STAGES

if TYPE_CHECKING:
    from tunekit.engine.logs import Progress
    from tunekit.plan.plan import Plan

FORMAT = """\
def made(row):
    return {"messages": [{"role": "user", "content": row["q"]}, {"role": "assistant", "content": row["a"]}]}
"""
MADE = Function("fmt.py", "made", "made")
REWARD = Function("my/rewards.py", "right", "right")


class Silent:
    """A screen that remembers which attempts it was told of."""

    def __init__(self) -> None:
        self.attempts: list[str | None] = []
        self.said: list[str] = []

    def attempt(self, _number: int, _most: int, _plan: Plan, resumed: str | None) -> None:
        self.attempts.append(resumed)

    def progress(self, progress: Progress, log: Path) -> None: ...

    def pause(self) -> None: ...

    def say(self, lines: list[str]) -> None:
        self.said += lines


@pytest.fixture(autouse=True)
def place(isolated: Path) -> Path:
    make_rows(isolated / "data.jsonl")
    make_rows(isolated / "raw.jsonl", *[{"q": "7?", "a": "7"}] * 8)
    (isolated / "fmt.py").write_text(FORMAT, encoding="utf-8")
    return isolated


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake ms-swift, on a machine without a GPU."""
    found = Installation(sys.executable, fake_engine() / "swift", "4.6.0")
    monkeypatch.setattr("tunekit.runs.attempts.find_engine", lambda: found)
    monkeypatch.setenv("PYTHONPATH", f"{fake_engine()}{os.pathsep}{REPOSITORY}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("FAKE_SWIFT", "{}")


def a_run(dataset: str = "data.jsonl", **changes: Any) -> Run:
    plan = a_plan(dataset=[dataset], save_steps=2)
    return Run(replace(plan, **{"hardware": Hardware(), "env": {}, **changes}), "try", Path("runs/try"), "off", 3)


def begun(run: Run, told: list[tuple[str, str]] | None = None, **more: Any) -> RunState:
    with RunFolder(run.path) as folder:
        return begin_run(folder, run, (told if told is not None else []).extend, **more)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# --- to begin


def test_a_run_that_begins_has_all_that_it_needs(place: Path) -> None:
    told: list[tuple[str, str]] = []
    run = a_run("raw.jsonl", rewards=(REWARD,), row_format=MADE)
    state = begun(run, told)
    assert told == [("Rows", "runs/try/data/raw.jsonl: 8 rows by fmt.py:made")]
    assert files(run.path) == {".lock", "run.json", "command.sh", "plugin.py", "data/raw.jsonl"}
    assert RunFolder(run.path).load() == state
    assert (state.name, state.status, state.plan) == ("try", "interrupted", run.plan)
    assert (state.oom_retry, state.max_attempts, state.attempts) == ("off", 3, [])
    assert (state.fresh, state.cwd) == (False, str(place))
    assert state.created.endswith("Z")


def test_keep_is_called_before_the_run_has_begun() -> None:
    run = a_run("raw.jsonl", rewards=(REWARD,), row_format=MADE)
    seen: list[set[str]] = []
    begun(run, keep=lambda: seen.append(files(run.path)))
    (before,) = seen
    assert {"plugin.py", "data/raw.jsonl"} <= before
    assert "run.json" not in before


def test_run_json_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run(rewards=(REWARD,))
    seen: list[set[str]] = []
    save = RunFolder.save

    def saved(folder: RunFolder, state: RunState) -> None:
        seen.append(files(run.path))
        save(folder, state)

    monkeypatch.setattr(RunFolder, "save", saved)
    begun(run)
    assert seen == [files(run.path) - {"run.json"}]


@pytest.mark.parametrize("what", ["keep", "script"])
def test_what_fails_before_run_json_leaves_a_run_that_has_not_begun(what: str) -> None:
    def fail() -> NoReturn:
        raise TunekitError("no")

    run = a_run()
    if what == "script":
        (run.path / "command.sh").mkdir(parents=True)
    with pytest.raises(TunekitError, match="no" if what == "keep" else "command.sh cannot be written"):
        begun(run, keep=fail if what == "keep" else lambda: None)
    assert not (run.path / "run.json").exists()


@pytest.mark.parametrize("left", [(), ("mine.txt",)])
def test_a_run_whose_files_cannot_be_made_leaves_nothing(left: tuple[str, ...]) -> None:
    """But for what was the user's before."""
    run = a_run("raw.jsonl", rewards=(REWARD,), row_format=MADE)
    make_rows(Path("raw.jsonl"), *[{"q": "7?", "a": "7"}] * 30, {"q": "no answer"})
    for name in left:
        run.path.mkdir(parents=True)
        (run.path / name).touch()
    kept: list[None] = []
    with pytest.raises(TunekitError, match=r"KeyError: 'a', row 31 of raw\.jsonl"):
        begun(run, keep=lambda: kept.append(None))
    assert not kept
    assert run.path.exists() is bool(left)
    assert files(Path("runs")) == {f"try/{name}" for name in left}


# --- to check


def test_without_ms_swift_nothing_is_checked_and_nothing_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunekit.runs.attempts.find_engine", lambda: None)
    with pytest.raises(TunekitError, match="ms-swift is not installed"):
        check_run(a_run("absent.jsonl"), pytest.fail)
    assert not Path("runs").exists()


@pytest.mark.usefixtures("engine")
def test_a_plan_for_another_machine_does_not_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunekit.runs.preflight.detect", list)
    with pytest.raises(TunekitError, match="which this machine does not have") as raised:
        check_run(a_run(hardware=choose_hardware("2x24GB")), pytest.fail)
    assert "--dry-run" in (raised.value.hint or "")
    monkeypatch.setattr("tunekit.runs.preflight.detect", lambda: list(choose_hardware("2x24GB").gpus))
    check_run(a_run(hardware=choose_hardware("2x24GB")), lambda _: None)


@pytest.mark.usefixtures("engine")
def test_the_data_are_checked_and_functions_tried() -> None:
    told: list[tuple[str, str]] = []
    check_run(a_run("raw.jsonl", row_format=MADE), told.extend)
    assert told == [("Rows", "fmt.py:made works on raw.jsonl: messages")]
    with pytest.raises(TunekitError) as raised:
        check_run(a_run("raw.jsonl"), pytest.fail)
    assert raised.value.code == Exit.DATA
    assert not Path("runs").exists()


# --- to train, and to go on


@pytest.mark.usefixtures("engine")
def test_a_run_is_started_resumed_and_then_done(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    run, screen, again = a_run(), Silent(), Silent()
    monkeypatch.setenv("FAKE_SWIFT", '{"die": "crash", "die_at": 5}')
    assert start_run(run, lambda _: None, screen).status == "failed"
    monkeypatch.setenv("FAKE_SWIFT", "{}")
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    folder = RunFolder(place / run.path)
    report = resume_run(folder, lambda _: None, lambda name: {"try": again}[name], Onward("lossy", 7))
    assert report
    assert report.status == "done"
    assert (screen.attempts, again.attempts) == ([None], ["checkpoint-4"])
    document = read_json(folder.path / "run.json")
    assert [attempt["outcome"] for attempt in document["attempts"]] == ["unknown", "done"]
    assert (document["oom_retry"], document["max_attempts"]) == ("lossy", 7)
    assert Path.cwd() == place, "relative paths begin where the run was started"
    before = (folder.path / "run.json").read_bytes()
    assert resume_run(folder, pytest.fail, pytest.fail, Onward("off")) is None
    assert (folder.path / "run.json").read_bytes() == before
    with RunFolder(folder.path):  # the lock is free again
        pass


@pytest.mark.usefixtures("engine")
def test_what_ms_swift_stopped_by_itself_is_not_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its callback ends every training once a certain file is there, with exit status 0."""
    stop, run, screen = tmp_path / "stop", a_run(), Silent()
    monkeypatch.setattr("tunekit.runs.attempts.STOP_FILE", stop)
    monkeypatch.setattr("tunekit.runs.stopping.STOP_FILE", stop)
    monkeypatch.setenv("FAKE_SWIFT", json.dumps({"halt": str(stop), "halt_at": 6}))
    report = start_run(run, lambda _: None, screen)
    assert (report.status, report.progress.step) == ("interrupted", 6)
    assert f"ms-swift stopped it because the file {stop} is there: delete it to go on." in screen.said
    again = resume_run(RunFolder(run.path), lambda _: None, lambda _: Silent())
    assert again
    assert again.status == "done", "while the file is there a stop saves nothing, and the training goes on"


@pytest.mark.usefixtures("engine")
def test_a_run_that_does_not_begin_is_not_held() -> None:
    run = a_run("raw.jsonl", row_format=MADE)
    make_rows(Path("raw.jsonl"), {"q": "no answer"})
    with pytest.raises(TunekitError, match="KeyError"):
        start_run(run, pytest.fail, Silent())
    assert not run.path.exists()
    with RunFolder(run.path):
        pass


@pytest.mark.parametrize(
    ("policy", "most", "said"), [("bogus", None, "bogus"), ("", 0, "max-attempts"), ("", -1, "max-attempts")]
)
def test_what_cannot_be_asked_of_a_resume(policy: str, most: int | None, said: str) -> None:
    run = a_run()
    begun(run)
    before = (run.path / "run.json").read_bytes()
    with pytest.raises(TunekitError, match=said):
        resume_run(RunFolder(run.path), pytest.fail, pytest.fail, Onward(policy, most))
    assert (run.path / "run.json").read_bytes() == before


def test_a_run_that_is_in_use_is_not_resumed() -> None:
    run = a_run()
    begun(run)
    with RunFolder(run.path), pytest.raises(TunekitError, match="in use"):
        resume_run(RunFolder(run.path), pytest.fail, pytest.fail)


def test_a_resume_checks_the_data_first() -> None:
    run = a_run()
    begun(run)
    Path("data.jsonl").unlink()
    with pytest.raises(TunekitError, match=r"data\.jsonl does not exist"):
        resume_run(RunFolder(run.path), pytest.fail, pytest.fail)
    with RunFolder(run.path):
        pass


def test_a_resume_makes_what_is_gone_and_keeps_what_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    run = a_run("raw.jsonl", row_format=MADE)
    begun(run)
    rows = run.path / "data/raw.jsonl"
    before = rows.read_bytes()
    Path("raw.jsonl").unlink()
    Path("fmt.py").unlink()
    monkeypatch.setattr("tunekit.runs.start.run_attempts", lambda *_: "trained")
    told: list[tuple[str, str]] = []
    assert resume_run(RunFolder(run.path), told.extend, lambda _: Silent()) == "trained"
    assert told == [("Rows", "runs/try/data/raw.jsonl, as it was made")]
    assert rows.read_bytes() == before


def finished(monkeypatch: pytest.MonkeyPatch, steps: int = 4) -> RunFolder:
    """A run that is done."""
    monkeypatch.setenv("FAKE_SWIFT", f'{{"steps": {steps}}}')
    run = a_run()
    assert start_run(run, lambda _: None, Silent()).status == "done"
    return RunFolder(run.path)


@pytest.mark.usefixtures("engine")
def test_a_finished_run_trains_further(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, screen, told = finished(monkeypatch), Silent(), list[tuple[str, str]]()
    assert resume_run(folder, told.extend, lambda _: screen) is None
    assert "--epochs N, or --max-steps N" in done_lines(folder)[0]
    assert "--model runs/try/output/checkpoint-4 --name OTHER" in done_lines(folder)[1]
    with pytest.raises(TunekitError, match="--max-steps 4 is no further than try is, at 4"):
        resume_run(folder, told.extend, lambda _: screen, Onward(max_steps=4))
    assert folder.load().status == "done"
    monkeypatch.setenv("FAKE_SWIFT", '{"steps": 8}')
    report = resume_run(folder, told.extend, lambda _: screen, Onward(max_steps=8))
    assert report
    assert (report.status, report.progress.step) == ("done", 8)
    assert screen.attempts == ["checkpoint-4"]
    assert report.state.plan.get("max_steps") == 8
    assert told[0][1].startswith("to max-steps 8; the learning rate follows")


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("word", ["0", "-1", "nan", "inf", "many", "9" * 400])
def test_epochs_that_are_none(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    folder = finished(monkeypatch)
    with pytest.raises(TunekitError, match="--epochs takes a number above 0"):
        resume_run(folder, pytest.fail, pytest.fail, Onward(epochs=word))


@pytest.mark.usefixtures("engine")
def test_data_that_were_changed_are_said_before_a_resume(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setenv("FAKE_SWIFT", '{"die": "crash", "die_at": 5}')
    run, told = a_run(), list[tuple[str, str]]()
    start_run(run, lambda _: None, Silent())
    make_rows(place / "data.jsonl", *[{"messages": [{"role": "user", "content": "x"}] * 2}] * 2)
    monkeypatch.setattr("tunekit.runs.preflight.check_launch", lambda *_: None)
    with pytest.raises(TunekitError, match=r"data\.jsonl was changed since the run began: 4 lines") as raised:
        resume_run(RunFolder(run.path), told.extend, lambda _: Silent())
    assert raised.value.code == Exit.DATA
    monkeypatch.setenv("FAKE_SWIFT", "{}")
    report = resume_run(RunFolder(run.path), told.extend, lambda _: Silent(), Onward(force=True))
    assert report
    assert report.status == "done"
    assert [title for title, _ in told] == ["Changed"]


@pytest.mark.usefixtures("engine")
def test_a_run_goes_on_from_the_checkpoint_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SWIFT", '{"die": "crash", "die_at": 7}')
    run, screen, told = a_run(), Silent(), list[tuple[str, str]]()
    start_run(run, lambda _: None, Silent())
    monkeypatch.setenv("FAKE_SWIFT", "{}")
    folder = RunFolder(run.path)
    with pytest.raises(TunekitError, match="checkpoint-3 is not whole"):
        resume_run(folder, told.extend, lambda _: screen, Onward(checkpoint="checkpoint-3"))
    assert resume_run(folder, told.extend, lambda _: screen, Onward(checkpoint="checkpoint-2"))
    assert screen.attempts == ["checkpoint-2"]
    assert told == [("Kept", "what was learned after checkpoint-2 is in runs/try/set-aside/1")]
    assert sorted(path.name for path in Path("runs/try/set-aside/1").iterdir()) == ["checkpoint-4", "checkpoint-6"]


def asked(**more: Any) -> Request:
    known = {"name": "try", "typed": {"save_steps": Setting(2, COMMAND_LINE)}, **more}
    return Request(STAGES["sft"], "Qwen2.5-7B", **known)


def test_resume_auto_goes_on_with_what_is_there() -> None:
    assert run_to_resume(asked(), "") is None
    assert run_to_resume(asked(), "auto") is None
    begun(a_run())
    found = run_to_resume(asked(), "auto")
    assert found
    assert found.path == Path("runs/try").resolve()
    assert run_to_resume(asked(name="", output_dir="runs/try"), "auto")
    other = asked(typed={"save_steps": Setting(3, COMMAND_LINE)})
    with pytest.raises(TunekitError, match="was begun with 2, and now says --save_steps 3"):
        run_to_resume(other, "auto")
    with pytest.raises(TunekitError, match=r"was begun with Qwen/Qwen2\.5-7B, and now says --model Qwen3-8B"):
        run_to_resume(replace(asked(), model="Qwen3-8B"), "auto")
    with pytest.raises(TunekitError, match="needs to know the run"):
        run_to_resume(asked(name=""), "auto")
    with pytest.raises(TunekitError, match="--resume takes auto"):
        run_to_resume(asked(), "always")


@pytest.mark.parametrize("error", [28, 27, 122])
def test_a_disk_that_is_full_as_a_run_begins_is_one_line(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("tunekit.runs.folder.write_atomically", full)
    with pytest.raises(TunekitError, match="the disk is full: runs/try cannot be written"):
        begun(a_run())


@pytest.mark.usefixtures("engine")
def test_a_disk_that_fills_up_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run, written = a_run(), write_atomically

    def full(path: Path, content: str, mode: int = 0o666) -> None:
        if path.parent.name == "1":
            raise OSError(28, os.strerror(28))
        written(path, content, mode)

    monkeypatch.setattr("tunekit.runs.attempts.write_atomically", full)
    with pytest.raises(TunekitError, match="the disk is full: runs/try") as raised:
        start_run(run, lambda _: None, Silent())
    assert raised.value.code == Exit.TRAINING_FAILED
    assert "tunekit resume runs/try" in (raised.value.hint or "")
    assert RunFolder(run.path).load().status == "failed"
    monkeypatch.setattr("tunekit.runs.attempts.write_atomically", written)
    report = resume_run(RunFolder(run.path), lambda _: None, lambda _: Silent())
    assert report
    assert report.status == "done"


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_stop_before_the_first_attempt_leaves_no_running_run(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    run, save = a_run(), RunFolder.save

    def saved(folder: RunFolder, state: RunState) -> None:
        save(folder, state)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(RunFolder, "save", saved)
    with pytest.raises(KeyboardInterrupt):
        start_run(run, lambda _: None, Silent())
    assert RunFolder(run.path).load().status == "interrupted"
