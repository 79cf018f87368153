"""On which GPUs a trained model is loaded, and how the programs that use it are supervised."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest
from running import ASKED, SECRET_KEY, Started, make_rows, make_run, tunekit, until

from tunekit.engine.after import FOLLOWUPS
from tunekit.errors import Exit
from tunekit.hardware import Gpu, Hardware
from tunekit.plan.models.model import Model
from tunekit.runs.trained.job import Job
from tunekit.runs.trained.targets import find_target
from tunekit.runs.trained.use import devices_for

HERE = [Gpu("A", 39.4, 39.0, (8, 0), "2"), Gpu("A", 39.4, 39.0, (8, 0), "3")]


def test_a_merged_model_takes_more_than_the_quantized_one_below_its_adapter(monkeypatch):
    monkeypatch.setattr("tunekit.hardware.detect", lambda: HERE)
    make_run(on_cpu=False, model=Model("m", 32.0), quant_method="bnb", quant_bits="4")
    target = find_target("kit")
    assert devices_for(target) == ("2",)
    assert devices_for(replace(target, weights=replace(target.weights, adapter=False, quantized=False))) == ("2", "3")


@pytest.mark.parametrize(
    ("here", "gpus", "params_b", "taken"),
    [
        (HERE, ("3",), 7.0, ("3",)),
        (HERE, ("0", "1"), 7.0, ("2",)),  # the GPUs of another machine
        (HERE, ("2", "3"), 32.0, ("2", "3")),  # 60 GiB of weights are spread over both
        (HERE, (), 7.0, ()),  # trained on a CPU
        ([], ("0",), 7.0, ()),  # no GPU here
    ],
)
def test_a_model_is_loaded_on_one_gpu_or_on_all_where_one_cannot_hold_it(here, gpus, params_b, taken, monkeypatch):
    monkeypatch.setattr("tunekit.hardware.detect", lambda: here)
    make_run(on_cpu=False, model=Model("m", params_b))
    target = find_target("kit")
    hardware = Hardware(tuple(Gpu("A", 39.4, 39.0, (8, 0), name) for name in gpus))
    target = replace(target, plan=replace(target.plan, hardware=hardware))
    assert devices_for(target) == taken
    assert Job(FOLLOWUPS["chat"], target, taken, {}).to_talk().env == (
        {"CUDA_VISIBLE_DEVICES": ",".join(taken)} if taken else {}
    )


def test_secrets_are_struck_out_of_the_log(tmp_path):
    make_run()
    make_rows(Path("data.jsonl"), ASKED)
    fake = {"show": ["SWANLAB_API_KEY"]}
    env = {"SWANLAB_API_KEY": SECRET_KEY}
    ended = tunekit(tmp_path, "predict", "kit", "--dataset", "data.jsonl", fake=fake, env=env)
    log = Path("runs/kit/logs/predict-checkpoint-15.log").read_text(encoding="utf-8")
    assert "the value of SWANLAB_API_KEY is ***" in log
    assert SECRET_KEY not in ended.out + ended.err


def test_one_process_answers_whatever_the_shell_says_of_a_launcher(tmp_path):
    make_run()
    make_rows(Path("data.jsonl"), ASKED)
    launcher = {"NPROC_PER_NODE": "4", "NNODES": "2", "NODE_RANK": "1"}
    ended = tunekit(tmp_path, "predict", "kit", "--dataset", "data.jsonl", fake={"show": list(launcher)}, env=launcher)
    assert ended.code == 0, ended.err
    log = Path("runs/kit/logs/predict-checkpoint-15.log").read_text(encoding="utf-8")
    assert all(f"the value of {name} is None" in log for name in launcher)


def test_a_signal_ends_it_and_leaves_no_process(tmp_path):
    make_run()
    make_rows(Path("data.jsonl"), ASKED)
    with Started(tmp_path, "predict", "kit", "--dataset", "data.jsonl", fake={"wait": True}) as started:
        until(lambda: len(started.alive()) > 2, "ms-swift has started")
        started.signal(signal.SIGTERM)
        ended = started.end()
        assert (ended.code, ended.out) == (Exit.INTERRUPTED, "")
        assert "Traceback" not in ended.err
        assert started.alive() == []
