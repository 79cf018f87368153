"""Runs of before, as their folders tell them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import SFT, Started, at_step, make_run, make_workplace, tunekit, until

from tunekit.errors import TunekitError
from tunekit.runs.comparison import facts_of, not_comparable, settings_apart
from tunekit.runs.curves import drawn, reached_by, read_logged, smoothed
from tunekit.runs.discard import discard_run
from tunekit.runs.history import DIED, DONE, RUNNING, STOPPED, past_run, read_history
from tunekit.runs.living import ask_to_stop, living
from tunekit.stages import STAGES


@pytest.fixture(autouse=True)
def place(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(isolated)
    return isolated


def log(path: Path, *entries: dict[str, object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


def line(step: int, total: int = 10, **numbers: object) -> dict[str, object]:
    return {"global_step/max_steps": f"{step}/{total}", **numbers}


# --- curves


def test_a_step_that_was_repeated_counts_once_as_it_came_out_last() -> None:
    path = log(Path("log.jsonl"), line(1, loss=3.0), line(2, loss=2.5), line(2, loss=2.0), line(3, loss=1.0))
    assert read_logged(path).of("loss") == {1: 3.0, 2: 2.0, 3: 1.0}


def test_what_is_no_number_is_told_apart() -> None:
    path = log(Path("log.jsonl"), line(1, loss=3.0), line(2, loss=float("nan")), line(3, loss="x", time="3s"))
    found = read_logged(path)
    assert (found.of("loss"), found.odd) == ({1: 3.0}, {"loss": {2}})
    assert (found.step, found.total) == (3, 10)


def test_a_spike_does_not_lift_a_smoothed_curve_and_few_points_stay_as_they_are() -> None:
    flat = dict.fromkeys(range(200), 1.0) | {100: 50.0}
    assert set(drawn("loss", flat).values()) == {1.0}
    assert drawn("learning_rate", flat) == flat
    few = {1: 1.0, 2: 9.0}
    assert drawn("loss", few) == few
    assert smoothed([5.0]) == [5.0]


def test_a_result_is_the_best_evaluation_else_the_stages_own_number() -> None:
    entries = [line(1, loss=3.0), line(2, loss=2.0, eval_loss=1.5), line(3, loss=1.0, eval_loss=1.8)]
    result = reached_by(STAGES["sft"], read_logged(log(Path("a.jsonl"), *entries)))
    assert result
    assert (result.word, result.value, result.step) == ("eval", 1.5, 2)
    plain = reached_by(STAGES["sft"], read_logged(log(Path("b.jsonl"), entries[0], line(2, loss=2.0))))
    assert plain
    assert (plain.word, plain.value, plain.first) == ("loss", 2.0, 3.0)
    assert reached_by(STAGES["sft"], read_logged(Path("none.jsonl"))) is None


# --- runs in their folders


def test_runs_are_listed_newest_first_with_the_stages_of_a_recipe_together() -> None:
    for name, created in (
        ("old", "2026-01-01"),
        ("two/sft", "2026-01-02"),
        ("mid", "2026-01-03"),
        ("two/dpo", "2026-01-04"),
    ):
        place = Path("runs", name)
        folder = make_run(place.name, where=place.parent)
        state = folder.load()
        state.created = f"{created}T00:00:00Z"
        folder.save(state)
    Path("runs/two/recipe.json").write_text("{}", encoding="utf-8")
    found = read_history()
    assert [run.name for run in found.runs] == ["two/sft", "two/dpo", "mid", "old"]
    assert [name for name, _ in found.recipes()] == ["two", "", ""]


def test_a_damaged_run_is_one_line_and_the_others_are_listed() -> None:
    make_run("good")
    folder = make_run("bad")
    (folder.path / "run.json").write_text("{", encoding="utf-8")
    found = read_history()
    assert [run.name for run in found.runs] == ["good"]
    (error,) = found.damaged
    assert str(folder.path / "run.json") in error.message
    assert "\n" not in error.message


def test_what_a_run_is_comes_from_its_lock_and_not_from_its_file_alone() -> None:
    folder = make_run("kit", status="running")
    assert past_run("kit").status == DIED
    with folder:
        found = past_run("kit")
        # this process holds the lock and is asked by itself: only the lock tells
        assert found.status == RUNNING
    assert past_run("kit").status == DIED
    assert (make_run("a", status="interrupted") and past_run("a").status) == STOPPED
    assert (make_run("b") and past_run("b").status) == DONE


def test_settings_that_differ_and_nothing_else() -> None:
    make_run("a", learning_rate=1e-4, dataset=["a.jsonl"])
    make_run("b", learning_rate=2e-4, dataset=["b.jsonl"], packing=True)
    runs = [past_run("a"), past_run("b")]
    assert settings_apart(runs) == {"learning_rate": ["0.0001", "0.0002"], "packing": [None, "true"]}
    assert not_comparable(runs) == ["data"]
    assert facts_of(runs[0])["batch"] == "8 × 4 × 1"


# --- a run that lives


def test_a_living_run_is_running_can_be_stopped_and_not_be_deleted(place: Path) -> None:
    make_workplace(place)
    with Started(place, *SFT, fake={"steps": 5000, "pace": 0.02}) as started:
        until(lambda: at_step(place / "runs/try", 3), "step 3")
        found = past_run("try")
        assert found.status == RUNNING
        assert found.alive
        assert found.alive.supervisor == started.process.pid
        assert found.alive.others
        with pytest.raises(TunekitError, match="try is running"):
            discard_run(found)
        ask_to_stop(found.folder.path)
        assert started.end().code == 130
        assert living(found.folder.path) is None
        assert started.alive() == []
    assert past_run("try").status == STOPPED
    discard_run(past_run("try"))
    assert not Path("runs/try").exists()


def test_what_is_left_of_a_training_gets_no_signal() -> None:
    folder = make_run("kit", status="running")
    with folder:
        words = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        child = subprocess.Popen(words, stdin=subprocess.PIPE, pass_fds=(folder.lock_fd,))
    (folder.path / ".lock").write_text(f"{os.getpid()} {os.uname().nodename}\n", encoding="utf-8")
    try:
        with pytest.raises(TunekitError, match=f"is gone; of its training is left: {child.pid}") as refused:
            ask_to_stop(folder.path)
        assert refused.value.hint == f"kill {child.pid}"
        assert past_run("kit").status == RUNNING
        with pytest.raises(TunekitError, match="kit is running"):
            discard_run(past_run("kit"))
    finally:
        child.communicate(b"")
    assert child.returncode == 0
    assert past_run("kit").status == DIED


def test_a_number_that_another_process_has_got_is_not_meant(place: Path) -> None:
    folder = make_run("kit", status="running")
    (folder.path / ".lock").write_text(f"{os.getppid()} {os.uname().nodename}\n", encoding="utf-8")
    with pytest.raises(TunekitError, match="is not running"):
        ask_to_stop(folder.path)


def test_a_run_that_ended_is_done_with_its_numbers(place: Path) -> None:
    make_workplace(place)
    assert tunekit(place, *SFT, fake={"steps": 4}).code == 0
    found = past_run("try")
    assert (found.status, found.told, found.logged.step) == (DONE, DONE, 4)
    assert found.seconds == sum(attempt.seconds for attempt in found.state.attempts)
    assert found.result
    assert found.result.value == found.logged.of("loss")[4]
