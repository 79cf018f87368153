"""The contract with ms-swift for what is done after training: the commands, read by its own argument classes.

Run as a program, this file is the process that imports the real ms-swift.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tunekit.engine.after import (
    CARRIED,
    CPU,
    FOLLOWUPS,
    PATHS,
    Weights,
    after_command,
    answer_flags,
    load_flags,
    merge_flags,
)
from tunekit.runs.trained.answers import ROW

pytestmark = pytest.mark.engine

CLASSES = {
    "infer": "InferArguments",
    "export": "ExportArguments",
    "eval": "EvalArguments",
    "deploy": "DeployArguments",
}

FOLDER = Path("runs/x y/output/checkpoint-9")
CARRIED_OVER = {
    "use_hf": True,
    "local_repo_path": "repo",
    "model_kwargs": '{"a": 1}',
    "max_pixels": 1003520,
    "enable_thinking": False,
    "external_plugins": ["a b.py", "c.py"],
    "custom_register_path": ["d.py"],
    "model": "base model",
}
PLAIN = Weights(FOLDER, adapter=True)
MODELS = {
    "adapter": PLAIN,
    "adapter with all that is told again": replace(PLAIN, flags=CARRIED_OVER, quantized=True, flash=True),
    "whole": Weights(FOLDER, adapter=False, flags={"model_type": "llama", "template": "chatml"}),
}
TYPED = {"max_new_tokens": 40, "temperature": 0.0, "max_batch_size": 4, "system": "It's a $system: -- be brief"}


def commands():
    """Every command that is made of weights, by a name for people: the class that reads it, and its flags."""
    made = {}
    for name, weights in MODELS.items():
        for cpu in (False, True):
            where = f"{name} {'cpu' if cpu else 'gpu'}"
            loaded = load_flags(weights, cpu=cpu)
            made[f"chat {where}"] = ("chat", {**loaded, **TYPED})
            rows = answer_flags(weights, ["a b.jsonl", "c.jsonl#9"], Path("o.jsonl"), cpu=cpu, at_once=4)
            made[f"predict {where}"] = ("predict", {**rows, "columns": '{"a": "query"}', **TYPED})
            benchmarks = {"eval_output_dir": "e f", "eval_dataset": ["gsm8k", "arc"], "eval_limit": 5}
            made[f"eval {where}"] = ("eval", {**loaded, **benchmarks})
        if weights.adapter:
            made[f"merge {name}"] = ("merge", merge_flags(weights, Path("new place")))
    return made


@pytest.fixture(scope="module")
def parsed():
    asked = {
        name: [FOLLOWUPS[line].table, after_command(FOLLOWUPS[line], flags, {}).argv[2:]]
        for name, (line, flags) in commands().items()
    }
    ended = subprocess.run(
        [sys.executable, __file__], input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout.splitlines()[-1])


def test_every_command_is_parsed_to_the_last_word(parsed):
    assert not {name: answer["left"] for name, answer in parsed["answers"].items() if answer["left"]}
    assert len(parsed["answers"]) == 6 * 3 + 2


def test_every_value_arrives_as_it_was_meant(parsed):
    wrong = [
        (name, flag, value, parsed["answers"][name]["values"][flag])
        for name, (_, flags) in commands().items()
        for flag, value in flags.items()
        if parsed["answers"][name]["values"][flag] != value
    ]
    assert not wrong


def test_ms_swift_has_each_command(parsed):
    assert {line.swift for line in FOLLOWUPS.values()} <= set(parsed["routes"])
    assert {line.table for line in FOLLOWUPS.values()} <= set(CLASSES)
    assert Path(parsed["chat"]).name == "infer.py"


@pytest.mark.parametrize("name", CLASSES)
def test_the_table_of_flags_is_the_parsers(parsed, name):
    from parsers import disagreements

    from tunekit.engine.flags import AFTER_CLASSES, read_flags
    from tunekit.engine.locate import find_engine

    table = read_flags(find_engine(), AFTER_CLASSES).by_command[name]
    parser = parsed["flags"][name]
    assert len(parser) > 100
    assert sorted(table) == sorted(parser)
    assert not disagreements(table, parser)


def test_what_is_told_again_is_what_ms_swift_does_not_take_from_a_checkpoint(parsed):
    """The day it does, the flag is no longer needed; the day it has another name, it is wrong."""
    assert not set(CARRIED) & set(parsed["loaded"])
    assert set(CPU) <= parsed["flags"]["infer"].keys()
    assert {*CARRIED, *PATHS, "attn_impl"} <= parsed["flags"]["infer"].keys() & parsed["flags"]["export"].keys()
    assert {"quant_method", "quant_bits", "torch_dtype", "template", "model"} <= set(parsed["loaded"])


def test_the_number_of_a_row_stands_in_a_column_that_is_kept(parsed):
    assert ROW in parsed["kept"]


def main() -> None:
    """Parse the commands on stdin with the real ms-swift and print what became of them."""
    import inspect

    from swift import arguments
    from swift.cli.main import ROUTE_MAPPING
    from swift.dataset import RowPreprocessor
    from transformers import HfArgumentParser

    parsers = {}
    for name, kind in CLASSES.items():
        parsers[name] = HfArgumentParser(getattr(arguments, kind))
        parsers[name].allow_abbrev = False
    answers_ = {}
    for name, (table, words) in json.load(sys.stdin).items():
        values, left = parsers[table].parse_known_args(words)
        answers_[name] = {"left": left, "values": vars(values)}
    flags = {
        name: {
            action.dest: (
                action.nargs in ("+", "*"),
                [str(choice) for choice in action.choices or []],
                getattr(action.type, "__name__", ""),
            )
            for action in parser._actions
            if action.dest != "help" and not action.option_strings[0].startswith("--no_")
        }
        for name, parser in parsers.items()
    }
    source = inspect.getsource(arguments.BaseArguments.load_args_from_ckpt)
    loaded = [word for word in source.split("'") if word.isidentifier()]
    infer = Path(inspect.getsourcefile(arguments) or "").parents[1] / "cli" / "infer.py"
    report = {
        "answers": answers_,
        "flags": flags,
        "routes": list(ROUTE_MAPPING),
        "loaded": loaded,
        "kept": RowPreprocessor.standard_keys,
        "chat": str(infer.resolve(strict=True)),
    }
    print(json.dumps(report, default=str))


if __name__ == "__main__":
    main()
