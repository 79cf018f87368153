"""The contract with ms-swift: what tunekit writes, the real argument classes read, word for word.

One process imports the real ms-swift, builds its parsers and parses every command; abbreviations are switched off,
which ms-swift itself would take silently. Run as a program, this file is that process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tunekit.stages import STAGES

pytestmark = pytest.mark.engine

GPUS = ("1x80GB", "8x80GB", "T4", "cpu")
NEEDS = {
    "ppo": {"reward_model": ["Qwen/Qwen2.5-7B"]},
    "grpo": {"reward_funcs": ["accuracy"]},
    "gkd": {"teacher_model": "Qwen/Qwen2.5-14B"},
}
"""What a stage cannot be planned without."""
CLASSES = {"sft": "SftArguments", "pt": "PretrainArguments", "rlhf": "RLHFArguments"}
EXTRA = {
    "several of everything": {
        "target_modules": ["q_proj", "v_proj"],
        "report_to": ["swanlab", "tensorboard"],
        "val_dataset": ["a.jsonl", "b.jsonl#100"],
        "system": "It's a $system: -- be brief",
        "deepspeed": "zero2",
        "weight_decay": 0.05,
        "save_strategy": "epoch",
        "eval_strategy": "steps",
        "seed": -1,
    },
    "4 bits": {"quant_bits": "4", "quant_method": "bnb", "bnb_4bit_compute_dtype": "bfloat16"},
    "whole model": {"tuner_type": "full", "learning_rate": 1e-5, "deepspeed": "zero3"},
    "frozen layers": {"tuner_type": "full", "freeze_parameters": ["model.embed_tokens", "model.layers.0."]},
    "streaming": {"streaming": True, "max_steps": 100},
}


def test_every_command_is_parsed_to_the_last_word(parsed):
    left = {name: answer["left"] for name, answer in parsed["answers"].items() if answer["left"]}
    assert not left
    assert len(parsed["answers"]) > 500


def test_every_value_arrives_as_it_was_planned(parsed, planned):
    """As the type that ms-swift gives it: `true` as True, `2e-4` as a float, several words as a list."""
    wrong = []
    checked = set()
    for name, plan in planned.items():
        values = parsed["answers"][name]["values"]
        for flag, setting in plan.settings.items():
            checked.add(type(setting.value))
            # A choice such as `4` of --quant_bits is a word to tunekit and may be a number to ms-swift.
            if setting.value not in (values[flag], str(values[flag])):
                wrong.append((name, flag, setting.value, values[flag]))
        assert values["output_dir"] == "runs/x y/output"
        assert values["add_version"] is False
    assert not wrong
    assert checked == {str, int, float, bool, list}


@pytest.mark.parametrize("command", CLASSES)
def test_the_table_of_flags_is_the_parsers(parsed, command):
    """Read from the source without an import, against what ms-swift builds from its classes."""
    from parsers import disagreements

    from tunekit.engine.flags import read_flags
    from tunekit.engine.locate import find_engine

    table = read_flags(find_engine()).by_command[command]
    parser = parsed["flags"][command]
    assert len(parser) > 300
    assert sorted(table) == sorted(parser)
    assert not disagreements(table, parser)


def test_an_unknown_flag_would_be_seen(parsed):
    """The parser of this test does not take abbreviations and leaves unknown words over."""
    assert parsed["bad"] == ["--lora_ran", "4", "--lora_rnak", "4"]


@pytest.fixture(scope="module")
def planned(make, library):
    """Every command that tunekit writes by itself, by a name for people."""
    plans = {}
    for gpus in GPUS:
        for preset in library.names():
            for stage in STAGES.values():
                plan = make(stage.name, gpus=gpus, preset=preset, **NEEDS.get(stage.name, {}))
                plans[f"{stage.name} {preset} {gpus}"] = plan
            for overlay in library.overlay_names():
                plans[f"sft {preset} {overlay} {gpus}"] = make(gpus=gpus, preset=preset, overlays=[overlay])
    for name, typed in EXTRA.items():
        plans[name] = make(gpus="2x80GB", preset="7b", **typed)
    return plans


@pytest.fixture(scope="module")
def parsed(planned):
    from tunekit.engine.command import build_command

    commands = {
        name: [plan.stage.command, list(build_command(plan, Path("runs/x y/output")).argv[2:])]
        for name, plan in planned.items()
    }
    ended = subprocess.run(
        [sys.executable, __file__], input=json.dumps(commands), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout.splitlines()[-1])


def main() -> None:
    """Parse the commands on stdin with the real ms-swift and print what became of them."""
    from swift import arguments
    from transformers import HfArgumentParser

    parsers = {}
    for command, name in CLASSES.items():
        parsers[command] = HfArgumentParser(getattr(arguments, name))
        parsers[command].allow_abbrev = False
    answers = {}
    for name, (command, words) in json.load(sys.stdin).items():
        values, left = parsers[command].parse_known_args(words)
        answers[name] = {"left": left, "values": vars(values)}
    flags = {
        command: {
            action.dest: (
                action.nargs in ("+", "*"),
                [str(choice) for choice in action.choices or []],
                getattr(action.type, "__name__", ""),
            )
            for action in parser._actions
            if action.dest != "help" and not action.option_strings[0].startswith("--no_")
        }
        for command, parser in parsers.items()
    }
    _, bad = parsers["sft"].parse_known_args(["--lora_ran", "4", "--lora_rnak", "4", "--lora_rank", "4"])
    print(json.dumps({"answers": answers, "flags": flags, "bad": bad}, default=str))


if __name__ == "__main__":
    main()
