"""Flags of ms-swift: exact names and right values only, before anything starts."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.engine.command import build_command
from tunekit.engine.flags import SNAPSHOT, from_json
from tunekit.errors import TunekitError
from tunekit.plan.settings import TUNEKIT, Setting, text


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


def test_flags_of_rlhf_are_refused_elsewhere_and_said_to_be_its(flags):
    """An exact name of another command is no typo: it must not be answered with a name that looks like it."""
    only = flags.by_command["rlhf"].keys() - flags.by_command["sft"].keys()
    assert len(only) > 100
    wrong = {name: hint for name in sorted(only) if "tunekit rlhf" not in (hint := refusal(flags, name).hint or "")}
    assert not wrong


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


@given(st.one_of(st.integers(-(2**63) + 1, 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
def test_what_a_setting_renders_is_read_back_the_same(value):
    table = from_json(json.loads(SNAPSHOT.read_text(encoding="utf-8")), installed=False)
    name = {bool: "packing", int: "lora_rank", float: "learning_rate"}[type(value)]
    assert table.parse(name, Setting(value, TUNEKIT).render(), "sft") == value


def test_text_of_values():
    assert text(True) == "true"
    assert text(["q_proj", "v_proj"]) == "q_proj v_proj"
    assert text(2e-4) == "0.0002"
    assert Setting(["a b", "c"], TUNEKIT).render() == ["a b", "c"]


@pytest.mark.parametrize("word", ["--gradient_accumulation_steps", "--external_plugins=x.py", "--", "-h"])
@pytest.mark.parametrize("flag", ["modules_to_save", "system", "report_to", "model_type"])
def test_no_value_is_a_flag(flags, flag, word):
    assert "would read that as a flag" in refusal(flags, flag, [word]).message


@pytest.mark.parametrize("place", ["preset", "config", "environment", "recipe"])
def test_no_file_puts_a_flag_into_a_value(tunekit, monkeypatch, tmp_path, place):
    """A list in a preset could set the accumulation, and break the promise of the batch."""
    words = ["sft", "--model", "Qwen2.5-7B", "--dataset", "a/b", "--gpus", "24GB"]
    line = 'modules_to_save = ["lm_head", "--gradient_accumulation_steps", "1"]\n'
    if place == "preset":
        (tmp_path / "p.toml").write_text(f'extends = "cpu"\n[train]\n{line}', encoding="utf-8")
        words += ["--preset", "p.toml"]
    elif place == "config":
        (tmp_path / "config").mkdir()
        (tmp_path / "config/config.toml").write_text(f"[defaults]\n{line}", encoding="utf-8")
    elif place == "environment":
        monkeypatch.setenv("TUNEKIT_MODULES_TO_SAVE", "lm_head --gradient_accumulation_steps 1")
    else:
        text = f'[[stage]]\ntype = "sft"\nmodel = "Qwen2.5-7B"\ndataset = "a/b"\ngpus = "24GB"\n{line}'
        (tmp_path / "r.toml").write_text(text, encoding="utf-8")
        words = ["run", "r.toml"]
    ended = tunekit(*words, "--dry-run")
    assert (ended.code, ended.out) == (2, "")
    assert ("holds a flag" if place == "recipe" else "would read that as a flag") in ended.err


def test_the_command_is_the_last_gate(make):
    """What a plan holds may come from a run's folder, or a model's."""
    with pytest.raises(TunekitError, match="would read that as a flag"):
        build_command(make(template="--external_plugins"), Path("out"))


@pytest.mark.parametrize("word", ["nan", "inf", "1e400", "9" * 5000])
def test_numbers_that_cannot_be_computed_with(flags, word):
    error = refusal(flags, "learning_rate", [word])
    assert "takes a number" in error.message
    assert len(error.message) < 200
