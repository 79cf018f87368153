"""Rewards and formats of the user's in a real GRPO run of ms-swift, and what its preprocessing keeps of rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tunekit.data.rows import arrive

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.e2e, pytest.mark.engine]

REWARDS = """\
from near import SHARE

def by_place(prompts, responses, level, messages, **columns):
    assert prompts == [turns[-1]["content"] for turns in messages]
    return [SHARE + place / 100 * int(number) for place, number in enumerate(level)]
"""
FORMAT = """\
def made(row):
    return {"messages": [{"role": "user", "content": row["q"]}], "level": row["level"]} if row["q"] else None
"""


def environ(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TUNEKIT_", "NPROC", "NNODES"))}
    mine = {"TUNEKIT_CONFIG": f"{folder}/config", "TUNEKIT_CACHE": f"{folder}/cache", "PYTHONPATH": str(ROOT)}
    return {**kept, **mine, "HF_HUB_OFFLINE": "1", "MODELSCOPE_OFFLINE": "1"}


def test_a_reward_of_the_users_scores_a_real_run(tmp_path, tiny_model):
    (tmp_path / "my").mkdir()
    (tmp_path / "my/near.py").write_text("SHARE = 0.5\n")
    (tmp_path / "my/rewards.py").write_text(REWARDS)
    (tmp_path / "my/fmt.py").write_text(FORMAT)
    raw = [{"q": f"What is {number} + 1?", "level": "1"} for number in range(8)] + [{"q": "", "level": "0"}]
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in raw))
    command = [
        *(
            sys.executable,
            "-m",
            "tunekit",
            "rlhf",
            "--rlhf-type",
            "grpo",
            "--model",
            tiny_model,
            "--dataset",
            "raw.jsonl",
        ),
        *("--format", "my/fmt.py:made", "--reward", "my/rewards.py:by_place", "format", "--reward-weights", "2", "1"),
        *("--max_steps", "2", "--max_completion_length", "8", "--report-to", "none", "--name", "it"),
        *("--micro-batch", "8", "--effective-batch", "32", "--num_generations", "8", "--learning-rate", "1e-3"),
    ]
    ended = subprocess.run(command, cwd=tmp_path, env=environ(tmp_path), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "by_place gives 0.5, 0.51, 0.52" in " ".join(ended.stderr.split())
    run = tmp_path / "runs/it"
    assert len((run / "data/raw.jsonl").read_text().splitlines()) == 8
    entries = [json.loads(line) for line in (run / "output/logging.jsonl").read_text().splitlines()]
    steps = [entry for entry in entries if "rewards/by_place/mean" in entry]
    assert len(steps) == 2
    for step in steps:
        # ms-swift scores the completions of a micro-batch or of more at once: 0.5 and the mean of the places / 100
        assert step["rewards/by_place/mean"] > 0.5
        assert step["rewards/by_place/std"] > 0
        assert step["reward"] == pytest.approx(2 * step["rewards/by_place/mean"] + step["rewards/Format/mean"])
        assert step["grad_norm"] > 0


ASKED, SAID = {"role": "user", "content": "7 + 5?"}, {"role": "assistant", "content": "12"}
SHAPES = [
    {"messages": [ASKED], "solution": "12", "level": "1"},
    {"messages": [ASKED, SAID], "answer": "12", "level": "1"},
    {"messages": [ASKED, SAID], "system": "Be brief."},
    {"conversations": [{"from": "human", "value": "7 + 5?"}, {"from": "gpt", "value": "12"}], "id": "a"},
    {"question": "7 + 5?", "answer": "12", "level": "1"},
    {"question": "7 + 5?", "answer": "12", "solution": "x12"},
    {"query": "7 + 5?", "solution": "12", "system": "Be brief."},
    {"Prompt": "7 + 5?", "Target": "12", "level": "1"},
    {"instruction": "Add", "input": "7 + 5", "output": "12", "level": "1"},
    {"instruction": "7 + 5?", "output": "12"},
    {"query": "7 + 5?", "prompt": "other", "response": "12"},
]
PROGRAM = """
import json, sys
from datasets import Dataset
from swift.dataset import AutoPreprocessor
from swift.utils import remove_response
found = []
for row in json.load(sys.stdin):
    made = AutoPreprocessor()(Dataset.from_list([row]), enable_auto_mapping=True, load_from_cache_file=False)
    kept = made[0]
    kept = {name: value for name, value in kept.items() if value is not None and value != []}
    turns = [json.loads(turn) if isinstance(turn, str) else turn for turn in kept.pop("messages")]
    messages = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
    answer = remove_response(messages)
    found.append({"messages": messages, "answer": answer, "columns": kept})
print("\\n" + json.dumps(found))
"""


def test_rows_arrive_as_ms_swift_has_them():
    """What `arrive` says of a row is what the real preprocessing makes of it."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(SHAPES), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    real = json.loads(ended.stdout.splitlines()[-1])
    for row, kept in zip(SHAPES, real, strict=True):
        sample = arrive(row)
        assert sample.columns == kept["columns"], row
        assert sample.messages == kept["messages"], row
        if "solution" not in row:  # it is what `arrive` takes for the answer
            assert sample.answer == (kept["answer"] or ""), row
