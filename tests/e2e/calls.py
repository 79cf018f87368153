"""Calls of tunekit with the real ms-swift, and what they print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
QUESTIONS = ROOT / "examples/questions.jsonl"

SAME = ("--temperature", "0", "--max_new_tokens", "24")
"""The same answer each time."""


def environment(folder, *packages):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TUNEKIT_", "NPROC", "NNODES"))}
    own = {"TUNEKIT_CONFIG": str(folder / "config"), "TUNEKIT_CACHE": str(folder / "cache"), "NO_COLOR": "1"}
    own["PYTHONPATH"] = os.pathsep.join(map(str, (*packages, ROOT)))
    return kept | own | {"HF_HUB_OFFLINE": "1", "MODELSCOPE_OFFLINE": "1"}


def tunekit(folder, *words, packages=(), code=0):
    """What tunekit prints on stdout."""
    command = [sys.executable, "-m", "tunekit", *map(str, words)]
    environ = environment(folder, *packages)
    ended = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert ended.returncode == code, f"{ended.stderr}\n{logs(folder)}"
    return ended.stdout


def logs(folder):
    return "\n".join(path.read_text(encoding="utf-8")[-2000:] for path in folder.glob("runs/*/logs/*.log"))


def responses(folder, run, *words, data=QUESTIONS, packages=()):
    printed = tunekit(folder, "predict", run, "--dataset", data, *SAME, *words, packages=packages)
    return [json.loads(line)["response"] for line in printed.splitlines()]
