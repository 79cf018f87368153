"""Imports go one way, and looking at a plan loads nothing heavy."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import tunekit

PACKAGE = Path(tunekit.__file__).parent
# cli → recipes → runs → engine → plan → errors; the others stand beside. Which rooms each may import, beside itself:
MAY = {
    "errors": set(),
    "console": {"errors"},
    "hardware": {"errors"},
    "paths": {"errors"},
    "toml": {"errors"},
    "data": {"errors", "paths", "toml"},
    "memory": {"errors", "paths"},
    "plan": {"errors", "hardware", "paths", "toml", "memory", "data"},
    "engine": {"errors", "hardware", "paths", "toml", "plan", "data"},
    "runs": {"errors", "console", "hardware", "paths", "toml", "plan", "engine", "data"},
    "recipes": {"errors", "paths", "toml", "plan", "engine", "data", "runs"},
    "cli": {"errors", "console", "hardware", "paths", "toml", "memory", "plan", "engine", "data", "runs", "recipes"},
    "__main__": {"errors", "console", "plan", "cli"},
    "__init__": set(),
}
HEAVY = ("torch", "transformers", "swift", "matplotlib", "huggingface_hub", "modelscope", "psutil", "numpy", "datasets")
FILES = sorted(PACKAGE.rglob("*.py"))
TOKENIZER = PACKAGE / "data" / "lengths_worker.py"
WORKER = {PACKAGE / "memory" / f"trace_{part}.py" for part in ("worker", "follow", "kernels", "model")} | {TOKENIZER}
"""These run in processes of their own: the trace, made of torch, and the tokenizer, made of ms-swift."""


DRAWS = PACKAGE / "cli" / "plot.py"


def room(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path):
    """Every module that a file names in an import, those inside functions and for types only included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide where they lead"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms_imported(path):
    own = {name.split(".")[1] for name in imported(path) if name.startswith("tunekit.")}
    return {name for name in own if name in MAY}  # the others are names such as __version__


def test_every_file_is_looked_at():
    assert len(FILES) > 30
    assert {room(path) for path in FILES} == set(MAY)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_arrow_runs_back(path):
    assert rooms_imported(path) - {room(path)} <= MAY[room(path)]


def test_the_arrows_are_seen():
    """The test above would pass on a walk that finds nothing."""
    found = {(room(path), target) for path in FILES for target in rooms_imported(path)}
    assert {("cli", "runs"), ("runs", "engine"), ("engine", "plan"), ("plan", "errors"), ("plan", "hardware")} <= found


def test_nothing_but_main_imports_the_command_line():
    importers = {room(path) for path in FILES if "cli" in rooms_imported(path)}
    assert importers == {"cli", "__main__"}


def test_nothing_heavy_is_imported_when_a_file_is_loaded():
    """ms-swift and torch run in processes of their own; psutil watches runs, matplotlib draws what was asked for."""
    for path in set(FILES) - WORKER:
        tops = {name.split(".")[0] for name in imported(path)}
        assert tops & set(HEAVY) <= ({"matplotlib"} if path == DRAWS else {"psutil"}), path
        at_the_top = {
            alias.name.split(".")[0]
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert not at_the_top & set(HEAVY), path


def test_the_trace_is_only_reached_as_a_process():
    parts = {f"tunekit.{path.parent.name}.{path.stem}" for path in WORKER}
    for path in set(FILES) - WORKER:
        assert not any(name.startswith(tuple(parts)) for name in imported(path)), path


CALLS = {
    "dry run": ("sft", "--model", "Qwen2.5-7B", "--dataset", "data.jsonl", "--gpus", "2x80GB", "--dry-run"),
    "json": ("rlhf", "--rlhf-type", "dpo", "--model", "Qwen2.5-7B", "--dataset", "d.jsonl", "--gpus", "H100", "--json"),
    "this machine": ("sft", "--model", "Qwen2.5-7B", "--dataset", "data.jsonl", "--dry-run"),
    "presets": ("presets", "list"),
    "fit": ("fit", "--model", "Qwen2.5-7B", "--gpus", "H100"),
    "help": ("--help",),
    "help of a command": ("sft", "--help"),
    "version": ("--version",),
}
PROGRAM = """
import json, sys
from tunekit.__main__ import main
code = None
try:
    main()
except SystemExit as ended:
    code = ended.code
print(json.dumps({"code": int(code or 0), "loaded": sorted(name for name in sys.modules if "." not in name)}),
      file=sys.stderr)
"""


@pytest.mark.parametrize("call", CALLS)
def test_looking_loads_nothing_heavy(call):
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *CALLS[call]], capture_output=True, text=True, encoding="utf-8", check=True
    )
    report = json.loads(ended.stderr.splitlines()[-1])
    assert report["code"] == 0
    assert ended.stdout
    assert "tunekit" in report["loaded"]
    assert not set(HEAVY) & set(report["loaded"])
