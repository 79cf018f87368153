"""The dry run of every preset, overlay and stage, in files that a reviewer can read.

They are the same on every machine: GPUs are described, and flags come from the shipped table. To write them
anew after a wanted change: ``UPDATE_GOLDEN=1 python -m pytest tests/test_golden.py``, then look at the diff.
"""

import json
import os
import shlex
from pathlib import Path

import pytest

from tunekit.stages import STAGES

GOLDEN = Path(__file__).with_name("golden")
SFT = ("sft", "--dataset", "data.jsonl")
NUMBERS = (1, 2, 4, 8)

# The model that each preset is meant for.
PRESETS = {
    "7b": "Qwen2.5-7B",
    "8b": "Qwen3-8B",
    "8b-tight": "Qwen3-8B",
    "20b": "Qwen2.5-14B",
    "20b-moe": "Qwen3-30B-A3B",
    "low-memory": "Qwen2.5-32B",
    "cpu": "Qwen2.5-0.5B",
    "none": "Qwen2.5-0.5B",
}
OVERLAYS = ("fast", "fast-converge", "long-context", "long-run", "save-often", "short-context", "stable")
CARDS = ("T4", "1x4090", "A100-40GB", "8xH100", "cpu")


def dry(*words, gpus):
    return (*words, "--gpus", gpus, "--dry-run")


STAGE_WORDS = {
    "ppo": ("--reward_model", "Qwen/Qwen2.5-7B"),
    "grpo": ("--reward", "accuracy", "format", "--num_generations", "6"),
    "gkd": ("--teacher_model", "Qwen/Qwen2.5-14B"),
}


def stage(name, preset, gpus):
    words = ("--dataset", f"{name}.jsonl", "--model", PRESETS[preset], *STAGE_WORDS.get(name, ()))
    return dry(name, *words, "--preset", preset, gpus=gpus)


CALLS = {
    **{
        f"preset-{name}": [dry(*SFT, "--model", model, "--preset", name, gpus=f"{count}x80GB") for count in NUMBERS]
        for name, model in PRESETS.items()
    },
    **{f"overlay-{name}": [dry(*SFT, "--model", "Qwen2.5-7B", "--with", name, gpus="2x80GB")] for name in OVERLAYS},
    "auto": [dry(*SFT, "--model", model, gpus=card) for model in ("Qwen2.5-7B", "gpt-oss-20b") for card in CARDS],
    **{
        f"stage-{name}": [stage(name, preset, "cpu" if preset == "cpu" else "2x80GB") for preset in PRESETS]
        for name in STAGES
    },
    "typed": [
        dry(
            *(*SFT, "--model", "Qwen2.5-7B", "--micro-batch", "4", "--effective-batch", "64", "--epochs", "3"),
            *("--lora_rank", "16", "--target_modules", "q_proj", "v_proj", "--save_strategy", "epoch"),
            *("--system", "It's $brief", "--report-to", "swanlab", "--name", "mine"),
            gpus="2x80GB",
        ),
        dry(*SFT, "--model", "Qwen2.5-7B", "--quant_bits", "4", "--quant_method", "bnb", gpus="24GB"),
        dry(*SFT, "--model", "Qwen2.5-7B", "--warmup_steps", "50", gpus="24GB"),
    ],
}


MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
DATA = {
    "data": {"messages": MESSAGES},
    **{name: {"messages": MESSAGES} for name in ("sft", "gkd")},
    **{name: {"messages": MESSAGES, "rejected_response": "No"} for name in ("rm", "dpo", "orpo", "simpo", "cpo")},
    **{name: {"messages": MESSAGES[:1], "solution": "4"} for name in ("ppo", "grpo")},
    "kto": {"messages": MESSAGES, "label": True},
    "pt": {"text": "Hello"},
}
OTHER = {"kto": {"messages": MESSAGES, "label": False}}
"""Every second row, where rows of one kind would be told."""


@pytest.fixture(autouse=True)
def surroundings(isolated, monkeypatch):
    """Data that is right for each command, a key for the tracker, and what rewards of ms-swift import."""
    monkeypatch.setattr("tunekit.runs.functions.find_package", lambda _: isolated)
    monkeypatch.setenv("SWANLAB_API_KEY", "planted-in-a-test")
    for name, row in DATA.items():
        pair = f"{json.dumps(row)}\n{json.dumps(OTHER.get(name, row))}\n"
        (isolated / f"{name}.jsonl").write_text(pair * 320, encoding="utf-8")


def shown(tunekit, call):
    """A call, the plan that it shows people, and the command that it prints."""
    ended = tunekit(*call, "--force")  # what does not fit has a command all the same
    assert ended.code == 0, ended.err
    lines = [f"$ tunekit {shlex.join(call)}", *ended.err.splitlines(), *ended.out.splitlines()]
    return "\n".join(line.rstrip() for line in lines) + "\n"


@pytest.mark.parametrize("name", CALLS)
def test_dry_run(tunekit, name):
    path = GOLDEN / f"{name}.txt"
    text = "\n\n".join(shown(tunekit, call) for call in CALLS[name])
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.is_file(), "UPDATE_GOLDEN=1 writes it"
    assert text == path.read_text(encoding="utf-8"), "if that is wanted, UPDATE_GOLDEN=1 writes it anew"


def test_every_preset_and_overlay_has_its_file(library):
    assert set(PRESETS) == set(library.names())
    assert set(OVERLAYS) == set(library.overlay_names())
    assert (len(PRESETS), len(OVERLAYS), len(CALLS)) == (8, 7, 28)
    assert {path.stem for path in GOLDEN.iterdir()} == set(CALLS), "a file that no test writes"


def test_every_file_holds_its_commands():
    for name, calls in CALLS.items():
        text = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
        assert text.count("\n  --gradient_accumulation_steps ") == text.count("\n  --add_version false\n") == len(calls)
        assert text.count("$ tunekit ") == len(calls)
