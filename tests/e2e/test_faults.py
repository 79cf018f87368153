"""What people report of fine-tuning, and what breaks runs, with the real ms-swift on this machine's CPU.

Many more faults, at random moments, are what ./scripts/bench-faults injects.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tunekit.engine.logs import read_lost_rows

ROOT = Path(__file__).parents[2]
PATIENCE = 300
USER, ANSWER = {"role": "user", "content": "How high is it?"}, {"role": "assistant", "content": "8,849 m"}
CHAT, ASKED = {"messages": [USER, ANSWER]}, {"messages": [USER]}
SHORT = ("--micro-batch", "8", "--max-length", "128", "--report-to", "none", "--gpus", "cpu", "--name", "it")

pytestmark = [pytest.mark.e2e, pytest.mark.engine]


@pytest.fixture
def environ(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TUNEKIT_", "NPROC", "NNODES"))}
    mine = {"HF_HUB_OFFLINE": "1", "MODELSCOPE_OFFLINE": "1", "TUNEKIT_CONFIG": str(tmp_path / "config")}
    return kept | mine | {"TUNEKIT_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}


def rows(path, found):
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return str(path)


def tunekit(*words):
    return [sys.executable, "-m", "tunekit", *words]


def asked(words, folder, environ):
    done = subprocess.run(tunekit(*words), cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def trained(swift_cases, words, folder, environ):
    """What ms-swift makes of the command that tunekit plans, and what it logged."""
    plan = json.loads(asked((*words, "--json"), folder, environ).stdout)
    ended = swift_cases.run(plan["argv"], folder, env=plan["env"])
    assert ended.code == 0, ended.log[-3000:]
    return ended, [json.loads(line) for line in (folder / "runs/it/output/logging.jsonl").read_text().splitlines()]


def test_a_classifier_trains(tiny_model, swift_cases, tmp_path, environ):
    data = rows(tmp_path / "data.jsonl", [{**ASKED, "label": number % 2} for number in range(32)])
    words = ("sft", "--model", tiny_model, "--dataset", data, "--task_type", "seq_cls", "--num_labels", "2")
    _, logged = trained(swift_cases, (*words, "--max_steps", "1", *SHORT), tmp_path, environ)
    assert any("loss" in line for line in logged)


def test_grpo_evaluates(tiny_model, swift_cases, tmp_path, environ):
    data = rows(tmp_path / "data.jsonl", [{**ASKED, "solution": "8,849"}] * 32)
    few = rows(tmp_path / "few.jsonl", [{**ASKED, "solution": "8,849"}] * 8)
    words = ("grpo", "--model", tiny_model, "--dataset", data, "--val_dataset", few, "--reward", "repetition")
    words += ("--eval_steps", "1", "--num_generations", "4", "--max_completion_length", "8", "--max_steps", "1")
    _, logged = trained(swift_cases, (*words, *SHORT), tmp_path, environ)
    assert any("eval_reward" in line or "eval_loss" in line for line in logged)


def test_rows_that_ms_swift_leaves_out_are_counted(tiny_model, swift_cases, tmp_path, environ):
    """What it says of them is read: here rows that are longer than they may be, which no look at them can tell."""
    long = {"messages": [USER, {"role": "assistant", "content": "8849 " * 300}]}
    data = rows(tmp_path / "data.jsonl", [CHAT] * 40 + [long] * 24)
    words = ("sft", "--model", tiny_model, "--dataset", data, "--max_steps", "1")
    trained(swift_cases, (*words, *SHORT), tmp_path, environ)
    assert any("24 of 64 rows" in line for line in read_lost_rows([tmp_path / "swift.log"]).lines())


def at_step(run, step):
    try:
        return f'"{step}/' in (run / "output/logging.jsonl").read_text()
    except OSError:
        return False


def until(condition, process):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, "the run ended before what was waited for"
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_stop_loses_no_step(processes, tiny_model, tmp_path, environ):
    """Several processes must agree on the step at which they save; nothing would be saved by --save_steps here."""
    data, run = rows(tmp_path / "data.jsonl", [CHAT] * 64), tmp_path / "runs/it"
    if processes > 1:
        environ |= {"NPROC_PER_NODE": str(processes), "OMP_NUM_THREADS": "1", "MASTER_PORT": "29731"}
    words = ("sft", "--model", tiny_model, "--dataset", data, "--save_steps", "500", "--max_steps", "400", *SHORT)
    process = subprocess.Popen(tunekit(*words), cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True)
    until(lambda: at_step(run, 3), process)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    (kept,) = run.glob("output/checkpoint-*")
    last = json.loads((run / "run.json").read_text())["attempts"][-1]
    assert kept.name == f"checkpoint-{last['last_step']}"
    assert f"(from {kept.name})" in told, "and no step after it is lost"
    step = last["last_step"]
    asked(("resume", "it", "--max-steps", str(step + 1)), tmp_path, environ)
    assert json.loads((run / "run.json").read_text())["attempts"][-1]["resumed_from"] == kept.name
