"""``tunekit runs``: what it prints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import SFT, Started, at_step, call, make_run, make_workplace, until

STEPS = [{"global_step/max_steps": f"{step}/20", "loss": 2.0 / step, "grad_norm": 1.0} for step in range(1, 21)]


@pytest.fixture(autouse=True)
def place(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(isolated)
    return isolated


def ran(name: str, **more: object) -> None:
    folder = make_run(Path(name).name, where=Path("runs", name).parent, **more)
    text = "".join(json.dumps(entry) + "\n" for entry in STEPS)
    (folder.output / "logging.jsonl").write_text(text, encoding="utf-8")


def test_the_list_fits_80_columns_and_names_the_damaged() -> None:
    ran("a-run-with-quite-a-long-name-that-does-not-end-so-soon")
    ran("two/sft")
    Path("runs/two/recipe.json").write_text("{}", encoding="utf-8")
    Path("runs/bad").mkdir()
    Path("runs/bad/run.json").write_text("[]", encoding="utf-8")
    result = call("runs")
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0].split()[:3] == ["NAME", "STAGE", "MODEL"]
    assert max(map(len, lines)) <= 80
    assert "\ntwo\n  sft " in result.out
    assert result.err.count("left out: runs/bad/run.json") == 1
    found = json.loads(call("runs", "list", "--json").out)
    assert [run["name"] for run in found["runs"]] == [
        "a-run-with-quite-a-long-name-that-does-not-end-so-soon",
        "two/sft",
    ]
    assert len(found["damaged"]) == 1


def test_no_run_yet() -> None:
    assert call("runs").out.startswith("no run yet")


def test_one_run_with_its_settings_sources_and_curves() -> None:
    ran("kit", learning_rate=1e-4)
    result = call("runs", "show", "kit")
    assert result.code == 0
    assert "0.0001" in result.out
    assert "preset 7b" in result.out
    assert "2 → 0.1" in result.out
    found = json.loads(call("runs", "show", "kit", "--json").out)
    assert found["settings"]["learning_rate"] == {"value": 1e-4, "source": "preset 7b", "why": ""}
    assert found["result"]["value"] == found["curves"]["loss"]["20"] == 0.1


def test_comparison_shows_what_differs_alone() -> None:
    ran("a", learning_rate=1e-4)
    ran("b", learning_rate=2e-4)
    out = call("runs", "compare", "a", "b").out
    assert "learning_rate  0.0001  0.0002" in out
    assert "tuner_type" not in out
    assert "loss 0.1 to 2, up to step 20" in out
    found = json.loads(call("runs", "compare", "a", "b", "--json").out)
    assert found["settings"] == {"learning_rate": ["0.0001", "0.0002"]}
    assert call("runs", "compare", "a").code == 2


def test_the_curves_of_a_comparison_can_be_drawn() -> None:
    pytest.importorskip("matplotlib")
    ran("a")
    ran("b")
    assert call("runs", "compare", "a", "b", "--plot", "both.svg").code == 0
    assert "<svg" in Path("both.svg").read_text(encoding="utf-8")


def test_a_log_is_printed_and_a_missing_attempt_is_named() -> None:
    ran("kit")
    assert "has no log" in call("runs", "logs", "kit").err
    log = Path("runs/kit/attempts/1/train.log")
    log.parent.mkdir(parents=True)
    log.write_text("one\ntwo\x1b]0;title\x07\n", encoding="utf-8")
    assert call("runs", "logs", "kit").out == "one\ntwo\\x1b]0;title\\x07\n"
    assert call("runs", "logs", "kit", "-f").out.startswith("one\n")
    assert "it has 1" in call("runs", "logs", "kit", "--attempt", "3").err


def test_rm_asks_and_takes_yes() -> None:
    ran("kit")
    refused = call("runs", "rm", "kit")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert Path("runs/kit/run.json").is_file()
    assert call("runs", "rm", "kit", "--yes").code == 0
    assert not Path("runs/kit").exists()


def test_stop_waits_for_the_end_and_a_log_is_followed_to_it(place: Path) -> None:
    make_workplace(place)
    with Started(place, *SFT, fake={"steps": 5000, "pace": 0.02}) as started:
        until(lambda: at_step(place / "runs/try", 2), "step 2")
        with Started(place, "runs", "logs", "try", "-f") as follower:
            assert call("runs", "rm", "try", "--yes").code == 2
            stopped = call("runs", "stop", "try")
            assert stopped.code == 0
            assert f"pid {started.process.pid}" in stopped.err
            assert started.end().code == 130
            assert follower.end().code == 0
    assert "try is not running" in call("runs", "stop", "try").err.replace("runs/", "")
