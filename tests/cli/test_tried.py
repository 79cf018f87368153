"""Commands that people try are answered with commands that exist."""

import re

import pytest

from tunekit.cli.app import COMMANDS
from tunekit.cli.tried import TRIED, refuse_command
from tunekit.errors import TunekitError

GROUPS = {"recipes", "presets"}


def hint(name, commands=COMMANDS):
    with pytest.raises(TunekitError, match=f"no command {name}") as refused:
        refuse_command(name, commands)
    return refused.value.hint


@pytest.mark.parametrize("name", sorted(TRIED.keys() - COMMANDS.keys()))
def test_an_answer_names_commands_that_exist(name):
    named = re.findall(r"tunekit ([a-z]+)", hint(name))
    assert set(named) <= COMMANDS.keys() | {"has"}
    assert "did you mean" not in hint(name)


def test_a_command_that_comes_later_is_named_as_soon_as_it_is_there():
    assert "tunekit merge" in hint("gguf", ["sft", "merge"])
    assert "tunekit export" in hint("gguf", ["sft", "merge", "export"])
    assert "ls runs" in hint("ls", ["sft"])
    assert "tunekit runs" in hint("ls", ["sft", "runs"])
