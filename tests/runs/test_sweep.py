"""A sweep from its first call to its last, with the fake ms-swift."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from running import Started, at_step, make_run, read_json, tunekit, until

from tunekit.errors import TunekitError
from tunekit.runs import preflight
from tunekit.runs.preflight import check_disk_of_all
from tunekit.runs.sweep import Sweep, Trial
from tunekit.runs.sweep_run import ranked

if TYPE_CHECKING:
    from running import Result

WORDS = ("sweep", "sft", "--model", "tiny", "--dataset", "data.jsonl", "--save_steps", "2")
RATES = (*WORDS, "--learning-rate", "1e-4,2e-4", "--name", "s")


def looked(place: Path, *words: str) -> Any:
    result = tunekit(place, *words, "--json")
    assert result.code == 0, result.err
    return json.loads(result.out)


def attempts(place: Path, name: str) -> list[str]:
    return [attempt["outcome"] for attempt in read_json(place / "runs" / name / "run.json")["attempts"]]


def test_every_combination_is_trained_and_a_second_call_keeps_it(place: Path) -> None:
    words = (*RATES, "--lora-rank", "8,16")
    result = tunekit(place, *words, fake={"steps": 4})
    assert result.code == 0, result.err
    settings = [read_json(place / f"runs/s-{number}/run.json")["plan"]["settings"] for number in (1, 2, 3, 4)]
    got = {(str(each["learning_rate"]["value"]), each["lora_rank"]["value"]) for each in settings}
    assert got == {("0.0001", 8), ("0.0001", 16), ("0.0002", 8), ("0.0002", 16)}
    table = [line.split()[0] for line in result.out.splitlines() if line]
    assert table == ["RUN", "s-1", "s-2", "s-3", "s-4"]
    assert "tunekit runs compare s-1" in result.err
    known = read_json(place / "runs/s/sweep.json")
    assert [run["name"] for run in known["runs"]] == ["s-1", "s-2", "s-3", "s-4"]
    assert known["over"] == ["learning_rate", "lora_rank"]
    again = tunekit(place, *words)
    assert again.code == 0
    assert attempts(place, "s-1") == ["done"]
    assert again.out == result.out
    found = looked(place, *words)
    assert [run["state"] for run in found["runs"]] == ["done"] * 4
    assert found["seconds_left"]["about"] == 0
    assert {run["result"]["status"] for run in found["runs"]} == {"done"}
    assert "is a sweep, not a single run" in tunekit(place, "resume", "s").err


def test_a_failed_run_does_not_end_it_and_is_tried_again(place: Path) -> None:
    result = tunekit(place, *RATES, fake={"die": "crash", "die_at": 3})
    assert result.code == 1
    assert [attempts(place, name) for name in ("s-1", "s-2")] == [["unknown"], ["unknown"]]
    assert "failed" in result.out
    assert "Go on" in result.err
    after = tunekit(place, *RATES, fake={"steps": 6})
    assert after.code == 0, after.err
    assert [attempts(place, name)[-1] for name in ("s-1", "s-2")] == ["done", "done"]
    assert read_json(place / "runs/s-1/run.json")["attempts"][-1]["resumed_from"] == "checkpoint-2"


def test_that_a_run_diverges_is_a_result(place: Path) -> None:
    result = tunekit(place, *RATES, fake={"steps": 6, "nan_at": 6})
    assert result.code == 0
    assert "diverged" in result.out
    assert "Best" not in result.err
    assert "Go on" not in result.err


def test_out_of_memory_is_retried_within_its_run(place: Path) -> None:
    result = tunekit(place, *RATES, fake={"steps": 4, "oom_above": 4, "oom_at": 2})
    assert result.code == 0, result.err
    assert [attempts(place, name) for name in ("s-1", "s-2")] == [["gpu-memory", "done"]] * 2


def test_rows_that_will_not_do_end_it(place: Path) -> None:
    said = {"say": ["[INFO:swift] Traceback", "ValueError: bad row"], "die": "crash"}
    Path(place, "data.jsonl").write_text('{"question": "7?"}\n', encoding="utf-8")
    result = tunekit(place, *RATES, fake=said)
    assert result.code == 4
    assert not (place / "runs/s-1/run.json").exists()


def test_a_stop_ends_it_and_the_same_call_goes_on(place: Path) -> None:
    with Started(place, *RATES, fake={"steps": 5000, "pace": 0.02}) as started:
        until(lambda: at_step(place / "runs/s-1", 4), "step 4")
        started.signal(signal.SIGINT)
        result = started.end()
        assert started.alive() == []
    assert result.code == 130
    assert "not begun" in result.out
    assert not (place / "runs/s-2").exists()
    found = looked(place, *RATES)
    assert [run["state"] for run in found["runs"]] == ["goes on", "new"]
    after = tunekit(place, *RATES, fake={"steps": 6})
    assert after.code == 0, after.err
    assert attempts(place, "s-1") == ["interrupted", "done"]
    assert attempts(place, "s-2") == ["done"]


def test_more_values_are_more_runs_and_other_words_another_sweep(place: Path) -> None:
    tunekit(place, *RATES, fake={"steps": 2})
    more = (*WORDS, "--name", "s", "--learning-rate", "5e-5,0.0002,1e-4")
    found = looked(place, *more)
    assert [(run["name"], run["state"]) for run in found["runs"]] == [("s-3", "new"), ("s-2", "done"), ("s-1", "done")]
    for words, problem in {
        (*RATES, "--epochs", "3"): "without --epochs, and this is with --epochs 3",
        (*RATES, "--lora-rank", "4,8"): "over learning_rate, and this is over",
        ("sweep", "pt", *RATES[2:]): "was begun as tunekit sweep sft, and this is pt",
    }.items():
        refused = tunekit(place, *words, "--dry-run")
        assert refused.code == 2
        assert problem in refused.err
        assert "take another --name" in refused.err


def test_a_name_that_tunekit_chooses_is_found_again_or_left_to_the_other(place: Path) -> None:
    rates = (*WORDS, "--learning-rate", "1e-4,2e-4")
    tunekit(place, *rates, fake={"steps": 2})
    assert looked(place, *rates)["sweep"] == "tiny-sft-sweep"
    assert looked(place, *rates, "--epochs", "3")["sweep"] == "tiny-sft-sweep2"


def test_a_folder_of_something_else_is_no_sweep(place: Path) -> None:
    make_run("s", where=place / "runs")
    assert "is no sweep's" in tunekit(place, *RATES, "--dry-run").err
    (place / "runs/f").write_text("", encoding="utf-8")
    assert "runs/f is there already" in tunekit(place, *RATES[:-1], "f", "--dry-run").err
    make_run("t-1", where=place / "runs")
    assert "runs/t-1 is there already" in tunekit(place, *RATES[:-1], "t", "--dry-run").err
    file = place / "runs/u/sweep.json"
    file.parent.mkdir()
    file.write_text("{}", encoding="utf-8")
    assert "sweep.json is not one that this version" in tunekit(place, *RATES[:-1], "u", "--dry-run").err


def test_a_dry_run_prints_every_command_and_writes_nothing(place: Path) -> None:
    before = sorted(place.rglob("*"))
    result = tunekit(place, *RATES, "--dry-run")
    assert result.code == 0
    assert result.out.count("swift sft") == 2
    assert [line for line in result.out.splitlines() if line.startswith("# ")] == [
        "# s-1: learning_rate 1e-4",
        "# s-2: learning_rate 2e-4",
    ]
    assert sorted(place.rglob("*")) == before


def large(place: Path, *more: str) -> Result:
    model = ("--model", "Qwen2.5-7B", "--dataset", "data.jsonl", "--gpus", "24GB", "--micro-batch", "2")
    return tunekit(place, "sweep", "sft", *model, "--max-length", "512,65536", "--preset", "7b", "--name", "s", *more)


def test_a_run_that_does_not_fit_is_named_and_nothing_starts(place: Path) -> None:
    for more in ((), ("--dry-run",)):
        result = large(place, *more)
        assert result.code == 3
        assert "s-2 (max_length 65536): 7b would take" in result.err
        assert "swift sft" not in result.out
    assert not (place / "runs").exists()
    assert large(place, "--dry-run", "--force").out.count("swift sft") == 2


def test_the_time_of_all_is_told_beforehand(place: Path) -> None:
    model = ("--model", "Qwen2.5-7B", "--dataset", "data.jsonl", "--gpus", "H100")
    words = ("sweep", "sft", *model, "--lora-rank", "8,16")
    found = looked(place, *words)
    each = [run["plan"]["time"]["seconds"] for run in found["runs"]]
    assert found["seconds_left"]["about"] == pytest.approx(sum(each))
    assert "for all that is left, one run after another" in tunekit(place, *words, "--dry-run").err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("sweep",), "needs a stage first"),
        (("sweep", "sfft"), "sfft is no stage"),
        ((*RATES, "--launch", "slurm"), "--launch is not for a sweep"),
        ((*RATES, "--explain"), "--explain is not for a sweep"),
        ((*RATES, "--resume", "auto"), "--resume is not for a sweep"),
        ((*RATES[:-1], "a/b"), "cannot be a folder's name"),
    ],
)
def test_what_a_sweep_does_not_take(place: Path, words: tuple[str, ...], problem: str) -> None:
    result = tunekit(place, *words)
    assert result.code == 2
    assert problem in result.err
    assert "hint:" in result.err


# --- which is best


def came_to(name: str, stage: str = "sft", **last: float) -> None:
    folder = make_run(name, stage=stage)
    rows = [{"global_step/max_steps": f"{step}/2", "grad_norm": 1.0, "loss": 1.0, **last} for step in (1, 2)]
    (folder.output / "logging.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def a_sweep(*names: str) -> Sweep:
    return Sweep("sft", Path("runs/s"), (), {}, (), tuple(Trial(name, {"lora_rank": name}) for name in names))


def names_of(sweep: Sweep) -> tuple[list[str], str | None]:
    trials, best = ranked(sweep)
    return [trial.name for trial in trials], best and best.name


def test_the_lowest_evaluation_is_best_and_what_has_none_comes_last(isolated: Path) -> None:
    came_to("a", eval_loss=0.9)
    came_to("b", eval_loss=0.5)
    came_to("c", loss=0.1)
    assert names_of(a_sweep("c", "a", "b", "not-begun")) == (["b", "a", "c", "not-begun"], "b")


@pytest.mark.parametrize(("stage", "key"), [("grpo", "reward"), ("dpo", "eval_rewards/accuracies")])
def test_the_highest_reward_is_best(isolated: Path, stage: str, key: str) -> None:
    came_to("a", stage, **{key: 0.2})
    came_to("b", stage, **{key: 0.7})
    assert names_of(a_sweep("a", "b")) == (["b", "a"], "b")


def test_what_diverged_or_learned_nothing_is_never_best(isolated: Path) -> None:
    came_to("a", loss=0.0, grad_norm=0.0)
    came_to("b", loss=0.5)
    came_to("c", loss=0.6)
    assert names_of(a_sweep("a", "b", "c")) == (["b", "c", "a"], "b")


def test_one_alone_and_two_that_are_even_have_no_best(isolated: Path) -> None:
    came_to("a", loss=0.5)
    came_to("b", loss=0.5)
    assert names_of(a_sweep("a"))[1] is None
    assert names_of(a_sweep("a", "b"))[1] is None


def test_the_disk_holds_all_of_them(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_run("a").load().plan
    free = preflight.checkpoint_gib(plan) or 0
    monkeypatch.setattr(preflight, "LARGE_GIB", 0.0)
    monkeypatch.setattr(preflight, "free_disk", lambda path: (path, free * 12))
    check_disk_of_all([(plan, Path("runs/b"))])
    with pytest.raises(TunekitError, match="the checkpoints of 2 runs take about"):
        check_disk_of_all([(plan, Path("runs/b")), (plan, Path("runs/c"))])
