"""Scripts judge the answers to their data, and ms-swift its benchmarks."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from running import KNOWN, Started, environment, fake_engine, make_rows, make_run, read_json, tensors, tunekit, until

from tunekit.errors import Exit

ACCURACY = """
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
print("looking at", len(rows), "rows")
right = sum(row["response"].endswith(row.get("labels", "?")) for row in rows)
print(json.dumps({"accuracy": right / len(rows), "rows": len(rows)}))
"""
SCRIPTS = {"acc.py": ACCURACY, "broken.py": "raise KeyError('labels')", "talks.py": "print('fine,', 'I think')"}


@pytest.fixture
def judged(tmp_path) -> Path:
    make_run()
    rows = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text}]} for text in ("a", "b")
    ]
    make_rows(Path("same.jsonl"), *rows)
    make_rows(Path("sums.jsonl"), KNOWN)
    for name, text in SCRIPTS.items():
        Path(name).write_text(text, encoding="utf-8")
    return tmp_path


def test_every_pair_is_judged_and_one_that_fails_stops_no_other(judged):
    pairs = ("--pair", "same.jsonl:acc.py,broken.py", "sums.jsonl:acc.py", "same.jsonl:talks.py")
    ended = tunekit(judged, "eval", "kit", *pairs)
    assert ended.code == Exit.TRAINING_FAILED
    table = [line.split() for line in ended.out.splitlines()]
    assert table == [
        ["DATA", "BY", "SCORE", "VALUE"],
        ["same.jsonl", "acc.py", "accuracy", "1"],
        ["same.jsonl", "acc.py", "rows", "2"],
        ["same.jsonl", "broken.py", "failed", "(exit", "status", "1)"],
        ["same.jsonl", "talks.py", "said", "fine,", "I", "think"],
        ["sums.jsonl", "acc.py", "accuracy", "0"],
        ["sums.jsonl", "acc.py", "rows", "1"],
    ]
    assert "KeyError: 'labels'" in ended.err
    kept = read_json(Path("runs/kit/eval/scores.json"))["scores"]
    assert len(kept) == 4
    assert kept[0]["scores"] == {"accuracy": 1.0, "rows": 2}
    assert kept[0]["checkpoint"] == "checkpoint-15"
    assert Path(kept[0]["predictions"]).is_file()


def test_answers_are_made_once_for_the_same_weights_and_rows(judged):
    typed = ("eval", "kit", "--pair", "same.jsonl:acc.py")
    answered = "answering same.jsonl"
    assert answered in tunekit(judged, *typed).err
    again = tunekit(judged, *typed)
    assert answered not in again.err
    assert "was answered before" in again.err
    assert answered in tunekit(judged, *typed, "--anew").err
    assert answered in tunekit(judged, *typed, "--max_new_tokens", "9").err
    assert answered in tunekit(judged, *typed, "--checkpoint", "5").err
    make_rows(Path("same.jsonl"), KNOWN)
    assert answered in tunekit(judged, *typed).err
    (Path("runs/kit/output/checkpoint-15") / "adapter_model.safetensors").write_bytes(tensors("other"))
    assert answered in tunekit(judged, *typed).err
    kept = read_json(Path("runs/kit/eval/scores.json"))["scores"]
    assert [(score["checkpoint"], score["rows"]) for score in kept] == [("checkpoint-5", 2), ("checkpoint-15", 1)]


def test_scores_for_programs(judged):
    ended = tunekit(judged, "eval", "kit", "--pair", "same.jsonl:acc.py", "--json")
    assert ended.code == 0
    (score,) = json.loads(ended.out)["scores"]
    assert (score["data"], score["script"], score["scores"]["accuracy"]) == ("same.jsonl", "acc.py", 1.0)


def test_a_script_that_is_stopped_leaves_no_process(judged):
    Path("slow.py").write_text("import time; print('x', flush=True); time.sleep(600)", encoding="utf-8")
    with Started(judged, "eval", "kit", "--pair", "same.jsonl:slow.py") as started:
        until(lambda: list(Path("runs/kit/eval").glob("same-*.jsonl")), "the answers are there")
        until(lambda: len(started.alive()) == 2, "the script runs")
        started.signal(signal.SIGINT)
        assert started.end().code == Exit.INTERRUPTED
        assert started.alive() == []


def test_benchmarks_are_ms_swifts(judged, tmp_path):
    packages = tmp_path / "packages"
    for name in ("evalscope", "opencompass"):
        (packages / name).mkdir(parents=True)
        (packages / name / "__init__.py").write_text("", encoding="utf-8")
    env = {"PYTHONPATH": f"{packages}{os.pathsep}{environment()['PYTHONPATH']}"}
    typed = ("eval", "kit", "--eval_dataset", "gsm8k", "arc", "--eval_limit", "5", "--pair", "same.jsonl:acc.py")
    ended = tunekit(judged, *typed, env=env)
    assert ended.code == 0, ended.err
    assert [line.split() for line in ended.out.splitlines()[3:]] == [
        ["gsm8k", "ms-swift", "mean_acc", "0.25"],
        ["arc", "ms-swift", "mean_acc", "0.25"],
    ]
    assert len(read_json(Path("runs/kit/eval/scores.json"))["scores"]) == 3
    swift = packages / "swift"
    shutil.copytree(fake_engine() / "swift", swift)
    (swift / "pipelines/eval").mkdir(parents=True)
    (swift / "pipelines/eval/eval.py").write_text("eval_type=EvalType.SERVICE", encoding="utf-8")
    (packages / "evalscope/constants.py").write_text("class EvalType:\n    OTHER = 1\n", encoding="utf-8")
    new = tunekit(judged, *typed[:4], env=env)
    assert new.code == Exit.USAGE
    assert "this evalscope is too new for ms-swift" in new.err
    assert '"evalscope<1.11"' in new.err
    shutil.rmtree(swift)
    silent = tunekit(judged, *typed[:4], env=env, fake={"silent": True})
    assert silent.code == Exit.TRAINING_FAILED
    assert "ms-swift wrote no scores" in silent.err
