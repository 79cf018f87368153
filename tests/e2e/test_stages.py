"""Every stage really trains, with the command that tunekit writes for it, in one process that holds ms-swift.

`test_e2e` takes the same way through the real command line; here it is asked what the optimizer is given.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tunekit.stages import STAGES

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.e2e, pytest.mark.engine]

QUESTION = {"role": "user", "content": "What is 2 + 2?"}
ANSWER = {"role": "assistant", "content": "It is 4, as everybody knows."}
CHAT = {"messages": [QUESTION, ANSWER]}
PAIR = CHAT | {"rejected_response": "It is 5."}
PROMPT = {"messages": [QUESTION], "solution": "4"}
ROWS = {
    "pt": {"text": "Two and two is four, and four and four is eight. " * 3},
    **dict.fromkeys(("sft", "gkd"), CHAT),
    **dict.fromkeys(("rm", "dpo", "orpo", "simpo", "cpo"), PAIR),
    "kto": CHAT | {"label": True},
    **dict.fromkeys(("ppo", "grpo"), PROMPT),
}


@pytest.fixture(scope="module")
def reward_model(tiny_model, swift_cases, tmp_path_factory) -> str:
    """A reward model, trained in full as PPO needs it."""
    folder = tmp_path_factory.mktemp("rm")
    trained(swift_cases, folder, "rm", tiny_model, "--tuner_type", "full")
    return str(folder / "runs/it/output/checkpoint-1")


def planned(folder, stage, tiny_model, *words):
    """The words and variables that tunekit would start ms-swift with."""
    data = folder / "data.jsonl"
    row = json.dumps(ROWS[stage])
    # KTO pairs each question with the answer of another row, which must not be the same.
    rows = [json.loads(row.replace("It is 4", f"It is {number}")) for number in range(32)]
    if stage == "kto":
        rows = [row | {"label": number % 2 == 0} for number, row in enumerate(rows)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [
        *(sys.executable, "-m", "tunekit", stage, "--model", tiny_model, "--dataset", str(data), "--name", "it"),
        *("--max-length", "128", "--micro-batch", "8", "--report-to", "none", "--gpus", "cpu", *words),
    ]
    if stage != "ppo":
        command += ["--max_steps", "1"]
    environ = os.environ | {"PYTHONPATH": str(ROOT), "TUNEKIT_CONFIG": f"{folder}/config"}
    ended = subprocess.run([*command, "--json"], cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    plan = json.loads(ended.stdout)
    assert plan["batch"]["effective"] == 32
    return plan


def trained(swift_cases, folder, stage, tiny_model, *words):
    """Run a stage and return what it trained and what it logged."""
    plan = planned(folder, stage, tiny_model, *words)
    ended = swift_cases.run(plan["argv"], folder, env=plan["env"], watch=stage != "ppo")
    assert ended.code == 0, ended.log[-3000:]
    lines = (folder / "runs/it/output/logging.jsonl").read_text().splitlines()
    return ended, [json.loads(line) for line in lines]


WORDS = {
    "ppo": ("--max_completion_length", "8", "--num_sample_generations", "0"),
    "grpo": ("--max_completion_length", "8", "--num_generations", "8", "--reward", "repetition", "format"),
    "gkd": ("--max_completion_length", "8"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_an_adapter(stage, tiny_model, swift_cases, reward_model, tmp_path):
    words = WORDS.get(stage, ())
    if stage == "ppo":
        words += ("--reward_model", reward_model)
    if stage == "gkd":
        words += ("--teacher_model", tiny_model)
    ended, logged = trained(swift_cases, tmp_path, stage, tiny_model, *words)
    assert any(path.suffix == ".safetensors" for path in (tmp_path / "runs/it/output/checkpoint-1").iterdir())
    losses = [float(line["loss"]) for line in logged if "loss" in line]
    if stage != "ppo":
        assert losses
        assert all("lora_" in name or "score" in name for name in ended.trains)
        assert any("lora_B" in name for name in ended.trains)
    if stage == "grpo":
        assert {"reward", "rewards/Repetition/mean"} & set().union(*logged)


def test_the_reference_of_a_stacked_adapter_is_that_adapter(tiny_model, swift_cases, tmp_path):
    """DPO's first loss is log 2 exactly where policy and reference are the same model, and only there."""
    sft = tmp_path / "sft"
    sft.mkdir()
    trained(swift_cases, sft, "sft", tiny_model, "--learning-rate", "0.05", "--warmup_ratio", "0")
    adapter = str(sft / "runs/it/output/checkpoint-1")
    for name in ("dpo", "wrong"):
        (tmp_path / name).mkdir()
    _, logged = trained(swift_cases, tmp_path / "dpo", "dpo", tiny_model, "--adapters", adapter, "--lora_dropout", "0")
    assert float(logged[0]["loss"]) == pytest.approx(0.6931, abs=1e-3)
    plan = planned(tmp_path / "wrong", "dpo", tiny_model, "--adapters", adapter, "--lora_dropout", "0")
    assert plan["settings"]["ref_adapters"] == {
        "value": [adapter],
        "source": "rule:reference-adapter",
        "why": plan["settings"]["ref_adapters"]["why"],
    }
    at = plan["argv"].index("--ref_adapters")
    words = [*plan["argv"][:at], *plan["argv"][at + 2 :]]
    wrong = swift_cases.run(words, tmp_path / "wrong", env=plan["env"])
    assert wrong.code == 0, wrong.log[-2000:]
    first = json.loads((tmp_path / "wrong/runs/it/output/logging.jsonl").read_text().splitlines()[0])
    assert float(first["loss"]) != pytest.approx(0.6931, abs=1e-3)
