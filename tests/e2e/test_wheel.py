"""The wheel, installed into an empty environment, plans and shows its presets: nothing of ms-swift is needed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.e2e]


def test_a_wheel_in_an_empty_environment(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True, capture_output=True)
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}

    def tunekit(*words: str) -> subprocess.CompletedProcess:
        command = [tmp_path / "env/bin/tunekit", *words]
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=True)

    listed = json.loads(tunekit("presets", "list", "--json").stdout)
    assert [preset["name"] for preset in listed["presets"]] == [
        "20b", "20b-moe", "7b", "8b", "8b-tight", "cpu", "low-memory", "none",
    ]  # fmt: skip
    assert len(listed["overlays"]) == 7
    assert "sft-rm-ppo" in tunekit("recipes", "list").stdout
    assert "6 divides 36" in tunekit("presets", "show", "8b-tight").stdout
    dry = tunekit("sft", "--model", "Qwen2.5-7B", "--preset", "8b-tight", "--gpus", "1x40GB", "--dry-run")
    assert "--per_device_train_batch_size 6" in dry.stdout
    assert "checked against the snapshot of 4.6.0" in dry.stderr
