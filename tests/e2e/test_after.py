"""After training, for real: the merged model answers as the adapter does, also where its base was quantized."""

from __future__ import annotations

import json
import os
import pty
import sys
import time
from pathlib import Path

import pytest
import vision
from calls import QUESTIONS, SAME, environment, logs, responses, tunekit
from safetensors import safe_open

PATIENCE = 300
"""Seconds after which a wait is given up; nothing is asserted about time."""

pytestmark = [pytest.mark.e2e, pytest.mark.engine]

KIT = """
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
print(json.dumps({"kit": sum("Kit" in row["response"] for row in rows) / len(rows), "rows": len(rows)}))
"""


def test_the_adapter_answers_otherwise_than_its_model_and_merged_the_same(kit, real_model):
    learned = responses(kit, "kit")
    assert sum("Kit" in answer for answer in learned) == len(learned) == 3
    assert not any("Kit" in answer for answer in responses(kit, real_model))
    assert tunekit(kit, "merge", "kit") == "runs/kit/merged-15\n"
    assert responses(kit, "kit", "--merged") == learned
    for file in (kit / "runs/kit/merged-15").glob("*.json"):
        assert "/.merged-15." not in file.read_text(encoding="utf-8"), f"{file} names the folder it was made in"
    assert sorted(path.name for path in (kit / "runs/kit").glob("*merged*")) == ["merged-15"]


def test_a_prompt_gets_the_answer_alone(kit):
    printed = tunekit(kit, "chat", "kit", "--prompt", "So what are you called?", *SAME)
    assert "Kit" in printed
    assert printed == responses(kit, "kit")[0] + "\n"


def test_rows_keep_their_columns(tiny_model, tmp_path):
    asked = {"role": "user", "content": "What is 2+2?"}
    rows = [
        {"id": 1, "messages": [asked], "tags": ["a", {"b": None}]},
        {"id": "two", "messages": [asked, {"role": "assistant", "content": "4"}], "tags": 3},
    ]
    data = tmp_path / "mixed.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    printed = tunekit(tmp_path, "predict", tiny_model, "--dataset", data, *SAME)
    for row, line in zip(rows, printed.splitlines(), strict=True):
        answered = json.loads(line)
        given = {"role": "assistant", "content": answered["response"]}
        assert answered["messages"] == [asked, given]
        assert answered.pop("labels", None) == ("4" if row["id"] == "two" else None)
        assert {key: answered[key] for key in ("id", "tags")} == {key: row[key] for key in ("id", "tags")}
        assert answered.keys() == {*row, "response"}


def test_a_pair_is_judged(kit):
    (kit / "kit.py").write_text(KIT, encoding="utf-8")
    pair = f"{QUESTIONS}:{kit / 'kit.py'}"
    (score,) = json.loads(tunekit(kit, "eval", "kit", "--pair", pair, *SAME, "--json"))["scores"]
    assert score["scores"] == {"kit": 1.0, "rows": 3}


def test_a_chat_in_a_terminal(kit):
    pid, screen = pty.fork()
    if pid == 0:  # pragma: no cover - the child becomes tunekit
        os.chdir(kit)
        words = [sys.executable, "-m", "tunekit", "chat", "kit", *SAME]
        os.execve(sys.executable, words, environment(kit) | {"TERM": "xterm"})  # noqa: S606
    os.set_blocking(screen, False)
    shown = ""

    def until(words):
        nonlocal shown
        deadline = time.monotonic() + PATIENCE
        while words not in shown:
            assert time.monotonic() < deadline, f"{shown}\n{logs(kit)}"
            try:
                shown += os.read(screen, 65536).decode(errors="replace")
            except BlockingIOError:
                time.sleep(0.05)

    until("<<< ")
    os.write(screen, b"So what are you called?\r")
    until("-----")
    assert "Kit" in shown
    assert "INFO" not in shown
    os.write(screen, b"exit\r")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.fixture
def rows_of_digits(tmp_path):
    path = tmp_path / "data.jsonl"
    turns = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "1 2 3 4 5 6 7 8 9"}]
    path.write_text((json.dumps({"messages": turns}) + "\n") * 32, encoding="utf-8")
    return path


def test_an_adapter_on_quantized_weights_is_merged_into_whole_ones(tiny_model, rows_of_digits, tmp_path):
    words = ("--quant_method", "bnb", "--quant_bits", "4", "--max_steps", "3", "--learning-rate", "2e-2")
    same = ("--model", tiny_model, "--dataset", rows_of_digits, "--report-to", "none", "--name", "four")
    tunekit(tmp_path, "sft", *same, *words)
    assert responses(tmp_path, "four")
    run = tmp_path / "runs/four"
    assert "Linear4bit" in (run / "logs/predict-checkpoint-3.log").read_text(encoding="utf-8")
    tunekit(tmp_path, "merge", "four")
    merged = run / "merged-3"
    assert "quantization_config" not in json.loads((merged / "config.json").read_text(encoding="utf-8"))
    with safe_open(merged / "model.safetensors", "pt") as weights:
        kinds = {str(weights.get_tensor(name).dtype) for name in weights.keys()}  # noqa: SIM118 - it is no mapping
    assert kinds == {"torch.float32"}
    assert responses(tmp_path, "four", "--merged")
    assert "Linear4bit" not in (run / "logs/predict-merged-3.log").read_text(encoding="utf-8")


def test_a_whole_model_and_a_pretrained_one_answer_too(tiny_model, rows_of_digits, tmp_path):
    same = ("--model", tiny_model, "--dataset", rows_of_digits, "--report-to", "none", "--max_steps", "1")
    tunekit(tmp_path, "sft", *same, "--tuner_type", "full", "--name", "whole")
    tunekit(tmp_path, "pt", *same, "--name", "text")
    assert tunekit(tmp_path, "chat", "whole", "--prompt", "Count.", *SAME).endswith("\n")
    tunekit(tmp_path, "merge", "whole", code=2)
    tunekit(tmp_path, "chat", "text", "--prompt", "1 2 3", *SAME)
    log = (tmp_path / "runs/text/logs/chat-checkpoint-1.log").read_text(encoding="utf-8")
    assert "use_chat_template=False" in log


def test_a_model_that_sees_is_asked_about_a_picture_and_merged_with_its_sight(tiny_vl, tmp_path):
    # Torchvision's own operators may be missing beside a CPU build of PyTorch: each Python declares them first.
    site = tmp_path / "site"
    site.mkdir()
    declare = "import vision\nkept = vision.declare_missing_operators()\n"
    (site / "sitecustomize.py").write_text(declare, encoding="utf-8")
    packages = [path for path in (site, Path(__file__).parent, vision.folder()) if path]
    ask = ("--prompt", "Which colour is it?", "--image", next((tiny_vl / "images").iterdir()), *SAME)
    same = ("--model", tiny_vl, "--dataset", tiny_vl / "data.jsonl", "--report-to", "none", "--name", "eyes")
    words = ("--tuner_type", "lora_llm", "--max_steps", "4", "--learning-rate", "5e-3", "--max-length", "512")
    tunekit(tmp_path, "sft", *same, *words, packages=packages)
    assert (tmp_path / "runs/eyes/output/checkpoint-4/vit.safetensors").is_file()
    tunekit(tmp_path, "merge", "eyes", packages=packages)
    learned = tunekit(tmp_path, "chat", "eyes", *ask, packages=packages)
    assert tunekit(tmp_path, "chat", "eyes", "--merged", *ask, packages=packages) == learned

    def surely(run, *more):
        """How sure the model is of each word of its answers about the pictures."""
        flags = (*SAME, "--logprobs", "true", *more)
        printed = tunekit(tmp_path, "predict", run, "--dataset", tiny_vl / "data.jsonl", *flags, packages=packages)
        rows = [json.loads(line) for line in printed.splitlines()]
        return [word["logprob"] for row in rows for word in row["logprobs"]["content"]]

    adapter, merged, before = surely("eyes"), surely("eyes", "--merged"), surely(tiny_vl)
    assert len(adapter) > 4
    assert merged == pytest.approx(adapter, abs=1e-3)
    assert before != pytest.approx(adapter, abs=1e-2)
