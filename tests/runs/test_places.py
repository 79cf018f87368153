"""Where a run is: new places that nobody has, and runs that are found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from running import a_plan, make_checkpoint

from tunekit.errors import Exit, TunekitError
from tunekit.runs.folder import RUNS, Run, RunFolder, RunState
from tunekit.runs.places import checkpoint_named, claim, find_run, new_place


def a_state() -> RunState:
    return Run(a_plan(), "try", RUNS / "try", "neutral", 5).begun()


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
