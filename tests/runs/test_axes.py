"""What a sweep goes over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tunekit.cli.words import read_words
from tunekit.errors import TunekitError
from tunekit.plan.options import TRAIN
from tunekit.runs.axes import axes_of, combinations, trial_words

if TYPE_CHECKING:
    from tunekit.plan.flags import FlagTable

BASE = ("--model", "Qwen2.5-7B", "--dataset", "data.jsonl")


def swept(flags: FlagTable, *words: str, command: str = "sft") -> dict[str, tuple[str, ...]]:
    _, axes = axes_of(command, read_words(TRAIN, [*BASE, *words])[0], flags)
    return {axis.key: axis.values for axis in axes}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--learning-rate", "1e-4,2e-4"), {"learning_rate": ("1e-4", "2e-4")}),
        (("--lora_rank=8, 16",), {"lora_rank": ("8", "16")}),
        (
            ("--epochs", "1,2", "--weight_decay", "0,0.1"),
            {"num_train_epochs": ("1", "2"), "weight_decay": ("0", "0.1")},
        ),
        (("--tuner_type", "lora,full"), {"tuner_type": ("lora", "full")}),
        (("--packing", "true,false"), {"packing": ("true", "false")}),
        (("--preset", "7b,8b-tight"), {"preset": ("7b", "8b-tight")}),
        (("--effective-batch", "32,64"), {"effective_batch": ("32", "64")}),
        (("--micro-batch", "2,4"), {"per_device_train_batch_size": ("2", "4")}),
    ],
)
def test_what_takes_one_value_is_swept(
    flags: FlagTable, words: tuple[str, ...], found: dict[str, tuple[str, ...]]
) -> None:
    assert swept(flags, *words) == found


@pytest.mark.parametrize(
    "words",
    [
        ("--with", "stable,long-context"),
        ("--system", "You are kind, and short."),
        ("--lr_scheduler_kwargs", '{"a":1,"b":2}'),
        ("--target_regex", "(q|k){1,2}"),
        ("--price", "H100=2.49,4090=0.4"),
        ("--project", "one,two"),
        ("--special_tokens", '["a","b"]'),
    ],
)
def test_commas_that_are_part_of_a_value_sweep_nothing(flags: FlagTable, words: tuple[str, ...]) -> None:
    assert swept(flags, *words, "--lora-rank", "8,16") == {"lora_rank": ("8", "16")}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "nothing is swept"),
        (("--with", "stable,long-context"), "nothing is swept"),
        (("--lora-rank", "8"), "nothing is swept"),
        (("--target_modules", "q_proj,k_proj", "--lora-rank", "8,16"), "--target_modules takes a list"),
        (("--lora-rank", "8,8"), "the same value twice"),
        (("--learning-rate", "1e-4,0.0001"), "the same value twice"),
        (("--lora-rank", "8,,16"), "an empty value"),
        (("--learning-rate", "1e-4,fast"), "takes a number, not fast"),
        (("--quant_method", "bnb,bmb"), "not bmb"),
    ],
)
def test_what_will_not_do_is_named(flags: FlagTable, words: tuple[str, ...], problem: str) -> None:
    with pytest.raises(TunekitError, match=problem) as raised:
        swept(flags, *words)
    assert raised.value.hint


def test_old_names_are_swept_by_todays(flags: FlagTable) -> None:
    assert swept(flags, "--train_type", "lora,full") == {"tuner_type": ("lora", "full")}


def test_every_combination_is_a_run_with_its_own_words(flags: FlagTable) -> None:
    words, _ = read_words(TRAIN, [*BASE, "--learning-rate", "1e-4,2e-4", "--lora-rank", "8,16,32", "--epochs", "2"])
    words, axes = axes_of("sft", words, flags)
    every = combinations(axes)
    assert len(every) == len({tuple(values.items()) for values in every}) == 6
    for values in every:
        said = {key: one.words for key, one in trial_words(words, axes, values).said.items()}
        assert said == {
            "model": ("Qwen2.5-7B",),
            "dataset": ("data.jsonl",),
            "num_train_epochs": ("2",),
            "learning_rate": (values["learning_rate"],),
            "lora_rank": (values["lora_rank"],),
        }
