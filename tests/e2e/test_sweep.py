"""A sweep with the real ms-swift: two learning rates on a tiny model, and what the table says of them."""

import json

import pytest
from calls import ROOT, tunekit

pytestmark = [pytest.mark.e2e, pytest.mark.engine]


def test_two_rates_are_trained_and_compared(tiny_model, tmp_path):
    rows = (ROOT / "examples/identity.jsonl").read_text(encoding="utf-8").splitlines()[:64]
    (tmp_path / "data.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    words = ("sweep", "sft", "--model", tiny_model, "--dataset", "data.jsonl", "--val-split", "0.25", "--gpus", "cpu")
    words += ("--learning-rate", "1e-6,1e-2", "--max_steps", "4", "--eval_steps", "2", "--max-length", "128")
    words += ("--report-to", "none", "--name", "rates")
    table = tunekit(tmp_path, *words).splitlines()
    assert [line.split()[0] for line in table if line] == ["RUN", "rates-2", "rates-1"], "the rate that learns is best"

    found = json.loads(tunekit(tmp_path, *words, "--json"))
    assert found["best"] == "rates-2"
    results = {run["values"]["learning_rate"]: run["result"] for run in found["runs"]}
    assert results["1e-2"]["eval_loss"] < results["1e-6"]["eval_loss"]
    for run in found["runs"]:
        logged = [json.loads(line) for line in (tmp_path / "runs" / run["name"] / "output/logging.jsonl").open()]
        assert run["result"]["eval_loss"] == [line["eval_loss"] for line in logged if "eval_loss" in line][-1]
        assert run["result"]["step"] == 4

    begun = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/rates-*/run.json")}
    assert tunekit(tmp_path, *words).splitlines() == table, "what is done is kept"
    assert {path: path.stat().st_mtime_ns for path in begun} == begun
    compared = json.loads(tunekit(tmp_path, "runs", "compare", "rates-1", "rates-2", "--json"))
    assert compared["settings"] == {"learning_rate": ["1e-06", "0.01"]}
