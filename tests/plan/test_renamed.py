"""Names of other tools are answered with today's."""

import re

import pytest

from tunekit.cli.app import COMMANDS
from tunekit.errors import TunekitError
from tunekit.plan.options import OPTIONS
from tunekit.plan.renamed import RENAMED, RENAMED_VALUES, SAME, renamed_hint, renamed_value_hint

COMMANDS_OF_SWIFT = ("sft", "pt", "rlhf")


def refusal(flags, name, words=("1",), command="sft"):
    with pytest.raises(TunekitError) as refused:
        flags.parse(name, words, command)
    return refused.value


OF_OTHER_COMMANDS = ("--flip", "--out")
"""Options of ``tunekit augment`` and ``merge`` that hints name."""


OLD_NAMES = sorted({row.name for row in RENAMED})


OLD_VALUES = [(row.name, row.value) for row in RENAMED_VALUES]


@pytest.mark.parametrize("old", OLD_NAMES)
@pytest.mark.parametrize("command", COMMANDS_OF_SWIFT)
def test_old_names_are_answered_with_todays(flags, old, command):
    hint = renamed_hint(old)
    assert hint
    assert refusal(flags, old, command=command).hint == hint


def is_known(flags, name):
    spelled = f"--{name}"
    own = {option.spelled for option in OPTIONS.values()}
    return spelled in own or spelled in OF_OTHER_COMMANDS or name in flags.by_command["rlhf"]


@pytest.mark.parametrize("old", OLD_NAMES)
def test_todays_names_exist(flags, old):
    """A hint names a flag of ms-swift, an option or a command of tunekit, or a variable; all that it names exist."""
    hint = renamed_hint(old)
    named = [word.strip(".,:;()") for word in re.split(r"[\s/]+", hint) if word.startswith("--")]
    commands = re.findall(r"tunekit (\w+)", hint)
    assert named or commands or re.search(r"\b[A-Z]+_[A-Z_]+\b", hint)
    assert set(commands) <= COMMANDS.keys()
    for word in named:
        assert is_known(flags, word[2:]), word


@pytest.mark.parametrize("row", [*RENAMED, *RENAMED_VALUES], ids=lambda row: f"{row.name}-{row.value}")
def test_what_an_old_option_is_today_can_be_passed_on(flags, row):
    """For imports: the names exist, and ms-swift takes the values."""
    for name, value in row.now.items():
        assert is_known(flags, name)
        if "-" not in name and SAME not in value:
            flags.parse(name, [value], "rlhf")


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


OF_THE_SEEDS = {
    "val_size": "--split_dataset_ratio",
    "train_split_ratio": "--split_dataset_ratio",
    "max_samples": "#N",
    "data_ratio": "#N",
    "image_root": "ROOT_IMAGE_DIR",
    "use_wandb": "--report_to wandb",
    "wandb_project": "WANDB_PROJECT",
    "wandb_entity": "WANDB_ENTITY",
    "project_name": "WANDB_PROJECT",
    "group_name": "WANDB_RUN_GROUP",
    "score_margin": "--simpo_gamma",
    "dataset_names": "--dataset",
    "dataset_config_path": "--custom_dataset_info",
    "plot_loss": "images",
    "lr": "--learning_rate",
    "qlora": "--tuning-strategy qlora",
    "full": "--tuner_type full",
    "nnodes": "NNODES",
    "gpu": "CUDA_VISIBLE_DEVICES",
    "overwrite_output_dir": "--name",
}


@pytest.mark.parametrize(("name", "said"), OF_THE_SEEDS.items())
@pytest.mark.parametrize("command", COMMANDS_OF_SWIFT)
def test_names_of_the_guides_are_answered_by_what_they_mean(flags, name, said, command):
    """They had no hint, or the nearest spelling of something else."""
    hint = refusal(flags, name, command=command).hint
    assert said in hint
    assert "did you mean" not in hint


def test_renamed_train_type(flags):
    assert "--tuner_type" in refusal(flags, "train_type", ["lora"]).hint
