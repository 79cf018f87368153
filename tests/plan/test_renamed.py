"""Names of other tools are answered with today's."""

import pytest

from tunekit.errors import TunekitError
from tunekit.plan.renamed import RENAMED, RENAMED_VALUES, SAME, renamed_hint, renamed_value_hint

COMMANDS = ("sft", "pt", "rlhf")


def refusal(flags, name, words=("1",), command="sft"):
    with pytest.raises(TunekitError) as refused:
        flags.parse(name, words, command)
    return refused.value


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
