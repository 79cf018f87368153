"""Flags of ms-swift: exact names and right values only, before anything starts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.engine.flags import SNAPSHOT, flag_table, from_json, read_flags, to_json
from tunekit.engine.locate import Installation
from tunekit.errors import TunekitError
from tunekit.plan.renamed import RENAMED, RENAMED_VALUES, SAME, renamed_hint, renamed_value_hint
from tunekit.plan.settings import Setting, text

COMMANDS = ("sft", "pt", "rlhf")


def refusal(flags, name, words=("1",), command="sft"):
    with pytest.raises(TunekitError) as refused:
        flags.parse(name, words, command)
    return refused.value


def test_only_exact_names_are_taken(flags):
    """argparse takes any unambiguous prefix: ms-swift trains with `--lora_ran 4` without a word."""
    error = refusal(flags, "lora_ran")
    assert error.message == "--lora_ran is not a flag of ms-swift 4.6.0"
    assert error.hint.startswith("did you mean --lora_rank")


def test_no_prefix_of_a_flag_is_taken(flags):
    table = flags.by_command["sft"]
    prefixes = {name[:-1] for name in sorted(table)[::5]} - table.keys()
    assert len(prefixes) > 50
    for prefix in prefixes:
        refusal(flags, prefix)


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("learnig_rate", "--learning_rate"),
        ("LoRA_Rank", "--lora_rank"),
        ("max-length", "--max_length"),
        ("gradient_checkpoint", "--gradient_checkpointing"),
    ],
)
def test_typos_are_answered_with_the_closest_name(flags, typo, meant):
    assert meant in refusal(flags, typo).hint


def test_a_word_that_resembles_nothing_gets_no_guess(flags):
    assert refusal(flags, "zzzzqqq").hint is None


OF_TUNEKIT = (
    *("--micro-batch", "--effective-batch", "--tuning-strategy", "--trainable-layers"),
    *("--learning-rate-aligner", "--learning-rate-vit", "--max-pixels", "--flip", "--out"),
)


OLD_NAMES = sorted({row.name for row in RENAMED})
OLD_VALUES = [(row.name, row.value) for row in RENAMED_VALUES]


@pytest.mark.parametrize("old", OLD_NAMES)
@pytest.mark.parametrize("command", COMMANDS)
def test_old_names_are_answered_with_todays(flags, old, command):
    hint = renamed_hint(old)
    assert hint
    assert refusal(flags, old, command=command).hint == hint


def is_known(flags, name):
    return f"--{name}" in OF_TUNEKIT or name in flags.by_command["sft"]


@pytest.mark.parametrize("old", OLD_NAMES)
def test_todays_names_exist(flags, old):
    """Each `--name` in a hint is a flag of ms-swift or an option of tunekit."""
    named = [word.strip(".,()") for word in renamed_hint(old).split() if word.startswith("--")]
    assert named
    for word in named:
        assert is_known(flags, word[2:])


@pytest.mark.parametrize("row", [*RENAMED, *RENAMED_VALUES], ids=lambda row: f"{row.name}-{row.value}")
def test_what_an_old_option_is_today_can_be_passed_on(flags, row):
    """For imports: the names exist, and ms-swift takes the values."""
    for name, value in row.now.items():
        assert is_known(flags, name)
        if "-" not in name and SAME not in value:
            flags.parse(name, [value], "sft")


def test_the_data_makes_the_hint():
    assert renamed_hint("train_type") == "it is --tuner_type since ms-swift 4.0"
    assert renamed_hint("cutoff_len") == "it is --max_length"
    assert renamed_hint("q_lora") == "it is --tuner_type lora --quant_method bnb --quant_bits 4"
    assert renamed_hint("bits") == "it is --quant_method bnb --quant_bits 4, or 8"
    assert renamed_hint("vision_lr") == "it is --learning-rate-vit (ms-swift: --vit_lr)"
    assert renamed_hint("freeze_trainable_layers") == "it is --tuning-strategy freeze --trainable-layers N"
    assert renamed_value_hint("tuner_type", "freeze") == "it is --tuning-strategy freeze --trainable-layers N"
    assert renamed_hint("target_modules") is None, "a flag of which only a value is gone"


@pytest.mark.parametrize(("flag", "word"), OLD_VALUES)
def test_old_values_are_answered_with_todays(flags, flag, word):
    hint = renamed_value_hint(flag, word)
    assert hint
    assert refusal(flags, flag, [word]).hint == hint


def test_renamed_train_type(flags):
    assert "--tuner_type" in refusal(flags, "train_type", ["lora"]).hint


def test_flags_of_rlhf_are_refused_elsewhere_and_said_to_be_its(flags):
    """An exact name of another command is no typo: it must not be answered with a name that looks like it."""
    only = flags.by_command["rlhf"].keys() - flags.by_command["sft"].keys()
    assert len(only) > 100
    wrong = {name: hint for name in sorted(only) if "tunekit rlhf" not in (hint := refusal(flags, name).hint or "")}
    assert not wrong


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_flags(flags, command):
    assert {"model", "dataset", "learning_rate", "output_dir", "lora_rank"} <= flags.by_command[command].keys()
    assert ("beta" in flags.by_command[command]) == (command == "rlhf")


@pytest.mark.parametrize(
    ("name", "words", "value"),
    [
        ("lora_rank", ["16"], 16),
        ("lora_rank", ["-1"], -1),
        ("max_steps", ["-1"], -1),
        ("learning_rate", ["2e-4"], 2e-4),
        ("learning_rate", ["0.0002"], 2e-4),
        ("num_train_epochs", ["3"], 3),
        ("num_train_epochs", ["0.5"], 0.5),
        ("learning_rate", ["None"], "None"),
        ("packing", ["true"], True),
        ("packing", ["False"], False),
        ("packing", ["1"], True),
        ("packing", ["no"], False),
        ("packing", [], True),
        ("target_modules", ["q_proj", "v_proj"], ["q_proj", "v_proj"]),
        ("target_modules", ["all-linear"], ["all-linear"]),
        ("quant_bits", ["4"], "4"),
        ("torch_dtype", ["float16"], "float16"),
        ("deepspeed", ["zero2"], "zero2"),
        ("system", ["You are 'kind' & $brief"], "You are 'kind' & $brief"),
        ("save_strategy", ["epoch"], "epoch"),
    ],
)
def test_words_become_values_of_the_flags_type(flags, name, words, value):
    parsed = flags.parse(name, words, "sft")
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "words", "says"),
    [
        ("lora_rank", ["eight"], "--lora_rank takes a whole number, not eight"),
        ("lora_rank", ["8.5"], "--lora_rank takes a whole number, not 8.5"),
        ("learning_rate", ["fast"], "--learning_rate takes a number, not fast"),
        ("packing", ["maybe"], "--packing takes true or false, not maybe"),
        ("lora_rank", ["8", "16"], "--lora_rank takes one value, not 2 (8 16)"),
        ("lora_rank", [], "--lora_rank takes one value, not none"),
        ("lora_rank", ["None"], "--lora_rank takes a whole number, not None"),
        ("torch_dtype", ["bf16"], "--torch_dtype takes bfloat16, float16, float32, not bf16"),
        ("save_strategy", ["epochs"], "--save_strategy takes no, steps, epoch, best, not epochs"),
        ("quant_bits", ["5"], "--quant_bits takes 1, 2, 3, 4, 8, float8, not 5"),
    ],
)
def test_words_that_do_not_fit(flags, name, words, says):
    assert refusal(flags, name, words).message == says


def test_a_typo_in_a_choice_is_answered_with_the_closest(flags):
    assert refusal(flags, "optim", ["adamw_trch"]).hint.startswith("did you mean adamw_torch")


def test_every_word_of_a_list_with_choices_is_checked(flags):
    lists = [flag for flag in flags.by_command["rlhf"].values() if flag.kind == "list" and flag.choices]
    for flag in lists:
        assert flags.parse(flag.name, [flag.choices[0]], "rlhf") == [flag.choices[0]]
        refusal(flags, flag.name, [flag.choices[0], "no-such-choice"], "rlhf")
    names = [flag.name for flag in flags.by_command["rlhf"].values() if flag.choices]
    assert len(names) >= 10, "no choices were read from ms-swift"


@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
def test_what_a_setting_renders_is_read_back_the_same(value):
    table = from_json(json.loads(SNAPSHOT.read_text(encoding="utf-8")), installed=False)
    name = {bool: "packing", int: "lora_rank", float: "learning_rate"}[type(value)]
    assert table.parse(name, Setting(value, "test").render(), "sft") == value


def test_text_of_values():
    assert text(True) == "true"
    assert text(["q_proj", "v_proj"]) == "q_proj v_proj"
    assert text(2e-4) == "0.0002"
    assert Setting(["a b", "c"], "test").render() == ["a b", "c"]


def test_json_round_trip(flags):
    again = from_json(json.loads(json.dumps(to_json(flags))), installed=True)
    assert again == flags


SOURCE = {
    "version.py": "__version__ = '4.9.1'\n",
    "cli/main.py": "",
    "arguments/__init__.py": "from .base import BaseArguments\n",
    "arguments/base.py": """
from dataclasses import dataclass
from typing import Dict, List, Literal, Optional, Union
from .kinds import Speed

@dataclass
class Shared:
    model: Optional[str] = None
    output_dir: str = 'x'
    overridden: int = 1

@dataclass
class BaseArguments(Shared):
    names: List[str] = None
    maybe: 'int | None' = None
    either: Union[int, str] = 1
    method: Literal['a', 'b', None] = None
    table: Optional[Union[dict, str]] = None
    speed: Union[Speed, str] = Speed.FAST
    ratio: float = 0.5
    one_word: 'None | str | list[str]' = None
    any_word: 'str | None | Literal[False]' = None
    yes: Union[str, bool] = False
    not_a_flag = 3

    def method_is_not_a_flag(self) -> int: ...
""",
    "arguments/kinds.py": "from enum import Enum\n\nclass Speed(Enum):\n    FAST = 'fast'\n    SLOW = 'slow'\n",
    "arguments/sft_args.py": """
from . import BaseArguments
from abc import ABC

class SftArguments(BaseArguments, ABC):
    overridden: bool = True
""",
    "arguments/pretrain_args.py": "from .sft_args import SftArguments as S\n\nclass PretrainArguments(S): ...\n",
    "arguments/rlhf_args.py": "from .sft_args import *\nfrom .base import BaseArguments\n\n"
    "class RLHFArguments(BaseArguments):\n    beta: Optional[float] = None\n",
}


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A package `swift` whose arguments are declared in the ways that ms-swift declares its own."""
    from tunekit.engine import flags as reader

    root = tmp_path / "site" / "swift"
    for name, content in SOURCE.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    monkeypatch.setattr(reader, "find_package", lambda name: root if name == "swift" else None)
    monkeypatch.setattr(reader, "find_engine", lambda: Installation("python", root, "4.9.1"))
    caches = (reader._module, reader._class, reader._stand_in)
    for cache in caches:
        cache.cache_clear()
    yield root
    for cache in caches:
        cache.cache_clear()


def test_flags_are_read_from_source(sources):
    table = read_flags(Installation("python", sources, "4.9.1"))
    sft = table.by_command["sft"]
    assert {name: flag.kind for name, flag in sft.items()} == {
        "model": "str",
        "output_dir": "str",
        "overridden": "bool",
        "names": "list",
        "maybe": "int",
        "method": "str",
        "table": "str",
        "speed": "str",
        "ratio": "float",
        # Beside one other type, transformers' parser forgets the text; among more it takes a text.
        "either": "int",
        "yes": "bool",
        "one_word": "str",
        "any_word": "str",
    }
    assert {name for name, flag in sft.items() if flag.choices} == {"method", "speed"}
    assert sft["method"].choices == ("a", "b")
    assert sft["speed"].choices == ("fast", "slow")
    assert {name for name, flag in sft.items() if flag.optional} == {"model", "maybe", "table", "one_word", "any_word"}
    assert table.by_command["pt"].keys() == sft.keys()
    assert table.by_command["rlhf"].keys() == sft.keys() | {"beta"}
    assert table.by_command["rlhf"]["overridden"].kind == "int"


def test_the_table_of_the_installed_engine_is_cached(sources, tmp_path):
    first = flag_table()
    (kept,) = (tmp_path / "cache").iterdir()
    (sources / "arguments/base.py").unlink()
    assert flag_table() == first
    kept.write_text("{not json", encoding="utf-8")
    with pytest.raises(TunekitError, match=r"flags of ms-swift 4\.9\.1 could not be read"):
        _uncached()


def _uncached():
    from tunekit.engine import flags as reader

    for cache in (reader._module, reader._class, reader._stand_in):
        cache.cache_clear()
    return flag_table()


def test_the_file_of_a_table_is_read_once_until_it_changes(sources, tmp_path):
    assert flag_table() == flag_table()
    assert flag_table() is flag_table()
    (kept,) = (tmp_path / "cache").iterdir()
    document = json.loads(kept.read_text(encoding="utf-8"))
    kept.write_text(json.dumps(document | {"version": "4.9.1.post1"}), encoding="utf-8")
    assert flag_table().version == "4.9.1.post1"


def test_a_cache_that_cannot_be_written_costs_nothing_else(sources, monkeypatch, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be", encoding="utf-8")
    monkeypatch.setenv("TUNEKIT_CACHE", str(blocked))
    assert flag_table().version == "4.9.1"


def test_without_ms_swift_the_snapshot_is_used(monkeypatch, flags):
    monkeypatch.setattr("tunekit.engine.flags.find_engine", lambda: None)
    table = flag_table()
    assert not table.installed
    assert table.by_command == flags.by_command
