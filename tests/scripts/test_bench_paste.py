"""The measure of pasted commands reads scripts without running them, counts, and says why one is refused."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SCRIPT = """\
# swift sft --model not/this --dataset a/b
nproc=4
SYSTEM="You are
kind"
half=$((nproc + 4))
touch ran
CUDA_VISIBLE_DEVICES=0,1 \\
NPROC_PER_NODE=$nproc \\
swift sft \\
    --model Qwen/Qwen2.5-7B-Instruct \\
    # --model not/this
    --dataset 'a/b#500' \\
    --system "$SYSTEM" \\
    --learning_rate ${rate:-1e-4} \\
    --swanlab_token abcdefgh \\
    --per_device_train_batch_size 1 \\
    --max_length $half \\
    --gradient_accumulation_steps $(expr 16 / $nproc) > log.txt 2>&1 &
swift infer --model x
swift rlhf --rlhf_type dpo --model Qwen/Qwen2.5-7B-Instruct --dataset a/b --lora_rnak 8 --val_size 0.1
swift pt config.yaml
"""


def test_scripts_are_read_and_each_command_is_planned(tmp_path):
    folder = tmp_path / "examples"
    folder.mkdir()
    (folder / "a.sh").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "config.yaml").write_text("model: Qwen/Qwen2.5-7B\ndataset: a/b\n", encoding="utf-8")
    environ = {**os.environ, "TUNEKIT_PYTHON": sys.executable, "TUNEKIT_CACHE": str(tmp_path / "cache")}
    ended = subprocess.run(
        [ROOT / "scripts/bench-paste", "examples"],
        capture_output=True,
        text=True,
        check=False,
        env=environ,
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "2 of 3 commands give a plan: 66.7%"
    assert "did you mean --lora_rank" in ended.stdout
    assert "--split_dataset_ratio" in ended.stdout
    assert "a.sh:20" in ended.stdout
    assert not (tmp_path / "ran").exists()


def test_a_folder_without_commands_is_told(tmp_path):
    environ = {**os.environ, "TUNEKIT_PYTHON": sys.executable}
    command = [ROOT / "scripts/bench-paste", tmp_path]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert ended.returncode == 1
    assert "no swift sft" in ended.stderr
