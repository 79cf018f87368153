"""What is imported is what the real ms-swift takes: one file a tool, and its own defaults are as our table has them.

Run as a program, this file is the process that imports ms-swift.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.engine

EXAMPLES = Path(__file__).parents[1] / "recipes" / "importers" / "examples"
CLASSES = {
    "sft": "SftArguments",
    "pt": "PretrainArguments",
    "rlhf": "RLHFArguments",
    "infer": "InferArguments",
    "export": "ExportArguments",
    "deploy": "DeployArguments",
}
LATER = {"beta"}
"""Flags whose defaults ms-swift sets as it starts, by the kind of RLHF."""


def imported():
    from tunekit.recipes.importers.recognition import import_file
    from tunekit.recipes.importers.written import swift_words

    files = sorted(path for path in EXAMPLES.iterdir() if path.is_file())
    return {
        f"{path.name} {place}": swift_words(draft)[1:]
        for path in files
        for place, draft in enumerate(import_file(str(path))[1])
    }


@pytest.fixture(scope="module")
def answers():
    question = json.dumps(imported())
    ended = subprocess.run([sys.executable, __file__], input=question, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout.splitlines()[-1])


def test_every_word_is_taken(answers):
    assert not {name: left for name, left in answers["left"].items() if left}
    assert len(answers["left"]) >= 5


def test_our_table_of_its_defaults_is_right(answers):
    from tunekit.recipes.importers.table import swift_defaults
    from tunekit.recipes.importers.translation import TRAINS

    wrong = []
    for part, table in swift_defaults().items():
        for command in TRAINS if part == "all" else [part]:
            known = answers["defaults"].get(command, {})
            wrong += [
                (command, flag, value, known[flag])
                for flag, value in table.items()
                if command in CLASSES
                and flag not in LATER
                and known.get(flag) != value
                and not (part == "all" and flag in swift_defaults().get(command, {}))
            ]
    assert not wrong


def main() -> None:
    """Parse the commands on stdin with the real ms-swift and print what it leaves, and its defaults."""
    from swift import arguments
    from transformers import HfArgumentParser

    parsers = {name: HfArgumentParser([getattr(arguments, kind)]) for name, kind in CLASSES.items()}
    left = {}
    for name, (command, *words) in json.load(sys.stdin).items():
        parser = parsers[command]
        parser.allow_abbrev = False
        left[name] = parser.parse_known_args(words)[1]
    defaults = {
        name: {action.dest: action.default for action in parser._actions if f"--{action.dest}" in action.option_strings}
        for name, parser in parsers.items()
    }
    print(json.dumps({"left": left, "defaults": defaults}, default=str))


if __name__ == "__main__":
    main()
