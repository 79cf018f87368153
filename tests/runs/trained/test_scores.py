"""What scripts print, which pairs are meant, where answers are kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from running import make_rows, make_run

from tunekit.runs.trained.scores import pairs_of, predictions_place, scores_in
from tunekit.runs.trained.targets import find_target


@pytest.mark.parametrize(
    ("printed", "scores"),
    [
        ('{"a": 1}', {"a": 1}),
        ('{\n "a": 1\n}', {"a": 1}),
        ('words\n{"a": 0.5}', {"a": 0.5}),
        ("0.75", {"score": 0.75}),
        ("true", {}),
        ("[1]", {}),
        ("fine", {}),
        ("", {}),
    ],
)
def test_scores_are_read_from_what_a_script_prints(printed, scores):
    assert scores_in(printed) == scores


def test_pairs_of_the_same_data_become_one(tmp_path):
    for name in ("a.py", "b.py", "d.jsonl"):
        Path(name).write_text("{}", encoding="utf-8")
    found = pairs_of(["d.jsonl:a.py", "d.jsonl:b.py,a.py", "d.jsonl#5:a.py"])
    assert [(pair.data, [script.name for script in pair.scripts]) for pair in found] == [
        ("d.jsonl", ["a.py", "b.py"]),
        ("d.jsonl#5", ["a.py"]),
    ]


def test_weights_too_large_to_be_read_are_told_by_size_and_time(monkeypatch, tmp_path):
    make_run()
    make_rows(Path("data.jsonl"))
    monkeypatch.setattr("tunekit.runs.trained.scores.BY_CONTENT", 10)
    target = find_target("kit")
    first = predictions_place(target, "data.jsonl", {}, "4.6.0")
    assert predictions_place(target, "data.jsonl", {}, "4.6.0") == first
    assert predictions_place(target, "data.jsonl", {}, "4.7.0") != first
    weights = target.weights.folder / "adapter_model.safetensors"
    there = weights.stat()
    os.utime(weights, ns=(there.st_atime_ns, there.st_mtime_ns + 1))
    assert predictions_place(target, "data.jsonl", {}, "4.6.0") != first
