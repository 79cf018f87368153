"""A row with a picture, as the template of a model that sees renders it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import vision

pytestmark = [pytest.mark.engine, pytest.mark.e2e]

HERE = Path(__file__).parent
PROGRAM = """
import json, os, sys
sys.path[:0] = json.loads(os.environ["FIRST"])
import vision
kept = vision.declare_missing_operators()
from tunekit.data.preview_worker import render_row
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
print(json.dumps(render_row(json.loads(sys.argv[1]))), file=answers)
"""


def test_a_picture_has_its_size_and_its_tokens(tiny_vl: Path, tmp_path: Path) -> None:
    row = json.loads((tiny_vl / "data.jsonl").read_text(encoding="utf-8").splitlines()[0])
    question = {
        "model": str(tiny_vl),
        "flags": {"model_type": "qwen2_5_vl", "template": "qwen2_5_vl"},
        "template_mode": "train",
        "answered": True,
        "row": row,
        "scratch": str(tmp_path),
    }
    packages = vision.folder()
    first = [str(HERE), str(HERE.parents[1]), *([str(packages)] if packages else [])]
    words = [sys.executable, "-W", "ignore", "-c", PROGRAM, json.dumps(question)]
    environ = {"FIRST": json.dumps(first), "PATH": "", "HOME": str(tmp_path), "MODELSCOPE_CACHE": str(tmp_path)}
    ended = subprocess.run(words, capture_output=True, text=True, env=environ, check=False)
    assert ended.returncode == 0, ended.stderr
    answer = json.loads(ended.stdout)
    assert "texts" in answer, answer
    ((path, width, height, tokens),) = answer["pictures"]
    assert path == row["images"][0]
    pieces = answer["texts"][0]["pieces"]
    assert [count for _, count, learned, medium in pieces if medium] == [tokens]
    assert (width > 0, height > 0, tokens > 0) == (True, True, True)
    assert sum(count for _, count, learned, _ in pieces if learned) > 0
