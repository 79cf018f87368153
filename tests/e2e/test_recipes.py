"""The shipped recipes, small, through the real command line and the real ms-swift: every stage trains."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import vision
from safetensors import safe_open

from tunekit.runs.folder import MERGED, RESULT

ROOT = Path(__file__).parents[2]
RECIPES = Path(__file__).parent / "recipes"
PATIENCE = 300
"""Seconds after which a wait is given up; nothing is asserted about time."""

pytestmark = [pytest.mark.e2e, pytest.mark.engine]


@pytest.fixture
def place(tiny_model, tmp_path):
    (tmp_path / "tiny").symlink_to(tiny_model)
    for name, row in ROWS.items():
        lines = [json.dumps(row(number)) for number in range(32)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def question(number):
    return {"role": "user", "content": f"What is {number} + 1?"}


def answered(number):
    return {"messages": [question(number), {"role": "assistant", "content": f"It is {number + 1}."}]}


ROWS = {
    "texts": lambda number: {"text": f"The number {number} stands before {number + 1}. " * 3},
    "sft": answered,
    "pairs": lambda number: answered(number) | {"rejected_response": "I do not know."},
    "prompts": lambda number: {"messages": [question(number)], "solution": str(number + 1)},
}


def environment(folder, packages=None):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TUNEKIT_", "NPROC", "NNODES"))}
    own = {
        "TUNEKIT_CONFIG": str(folder / "config"),
        "TUNEKIT_CACHE": str(folder / "cache"),
    }
    own["PYTHONPATH"] = os.pathsep.join(map(str, filter(None, (ROOT, packages))))
    return kept | own | {"HF_HUB_OFFLINE": "1", "MODELSCOPE_OFFLINE": "1"}


def words(recipe, *more):
    return [sys.executable, "-m", "tunekit", "run", str(RECIPES / f"{recipe}.toml"), *more]


def run(recipe, folder, *more, packages=None):
    environ = environment(folder, packages)
    done = subprocess.run(words(recipe, *more), cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def logged(stage):
    lines = (stage / "output/logging.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry for entry in map(json.loads, lines) if "global_step/max_steps" in entry]


def attempts(stage):
    return json.loads((stage / "run.json").read_text(encoding="utf-8"))["attempts"]


def tensors(file):
    with safe_open(file, "pt") as weights:
        return {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118 - it is no mapping


def test_a_stopped_stage_goes_on_and_dpo_is_compared_with_sft(place):
    folder = place / "runs/sft-dpo"
    more = ("--sft.max_steps", "12", "--sft.save_steps", "2")
    process = subprocess.Popen(
        words("sft-dpo", *more), cwd=place, env=environment(place), stderr=subprocess.PIPE, text=True
    )
    saved = folder / "sft/output/checkpoint-2/trainer_state.json"
    deadline = time.monotonic() + PATIENCE
    while not saved.is_file():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Go on    tunekit run" in told
    assert not (folder / "dpo").exists()
    again = run("sft-dpo", place, *more)
    assert "1/2 sft · goes on from its newest checkpoint" in again.stderr
    assert [attempt["outcome"] for attempt in attempts(folder / "sft")] == ["interrupted", "done"]
    assert attempts(folder / "sft")[1]["resumed_from"]
    assert (folder / "sft" / RESULT).resolve().name == "checkpoint-12"
    # Against its own start no answer is preferred yet: the loss is ln 2. Against the model below the adapter it is not.
    first = logged(folder / "dpo")[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-4)
    trained = tensors(folder / "dpo" / RESULT / "adapter_model.safetensors")
    before = tensors(folder / "sft" / RESULT / "adapter_model.safetensors")
    assert trained.keys() == before.keys()
    assert any(not trained[name].equal(before[name]) for name in trained)
    assert "1/2 sft · done\n  2/2 dpo · done" in run("sft-dpo", place, *more).stderr


def test_a_reward_model_is_merged_with_its_head_and_ppo_follows_it(place):
    told = run("sft-rm-ppo", place).stderr
    folder = place / "runs/sft-rm-ppo"
    assert "Done: sft, rm, ppo." in told
    (adapter,) = (
        value
        for name, value in tensors(folder / "rm" / RESULT / "adapter_model.safetensors").items()
        if "score" in name
    )
    assert tensors(folder / "rm" / MERGED / "model.safetensors")["score.weight"].float().equal(adapter.float())
    config = json.loads((folder / "rm" / MERGED / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    script = (folder / "ppo/attempts/1/command.sh").read_text(encoding="utf-8")
    assert "--model runs/sft-rm-ppo/sft/merged" in script
    assert "--reward_model runs/sft-rm-ppo/rm/merged" in script
    assert "objective/scores" in (folder / "ppo/attempts/1/train.log").read_text(encoding="utf-8")
    assert (folder / "ppo" / RESULT / "adapter_model.safetensors").is_file()


def test_four_stages_in_a_row(place):
    told = run("pt-sft-dpo-grpo", place).stderr
    folder = place / "runs/pt-sft-dpo-grpo"
    assert "Done: pt, sft, dpo, grpo." in told
    assert (folder / "pt" / MERGED / "model.safetensors").is_file()
    assert not (folder / "sft" / MERGED).exists()
    assert logged(folder / "dpo")[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    # One that starts from another model than it is compared with would be far away from the first step on.
    assert logged(folder / "grpo")[0]["kl"] == pytest.approx(0, abs=0.01)
    saved = json.loads((folder / "grpo" / RESULT / "adapter_config.json").read_text(encoding="utf-8"))
    assert saved["base_model_name_or_path"] == str(folder / "pt" / MERGED)


def test_a_model_that_sees(tiny_vl, swift_cases, tmp_path):
    """The commands of a dry run, one by one: the packages for pictures are in the process of `swift_cases` alone."""
    (tmp_path / "tiny-vl").symlink_to(tiny_vl)
    rows = [json.loads(line) for line in (tiny_vl / "data.jsonl").read_text(encoding="utf-8").splitlines()]
    pairs = [row | {"rejected_response": "I cannot see it."} for row in rows]
    for name, lines in (("pictures", rows), ("picture-pairs", pairs)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")
    stages = json.loads(run("vlm-sft-dpo", tmp_path, "--json", packages=vision.folder()).stdout)["stages"]
    for stage in stages:
        folder = tmp_path / "runs/vlm-sft-dpo" / stage["stage"]
        assert not stage["merges"]
        ended = swift_cases.run(stage["plan"]["argv"], tmp_path, env=stage["plan"]["env"], watch=True)
        assert ended.code == 0, ended.log[-3000:]
        assert ended.pixels, "it has seen pictures"
        assert all("language_model" in name for name in ended.trains)
        (folder / RESULT).symlink_to("output/last-checkpoint")
    assert logged(folder)[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
