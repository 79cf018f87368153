"""``tunekit flags``: look a parameter up."""

import pytest


def test_a_flag_with_all_that_is_known_of_it(tunekit):
    shown = tunekit("flags", "--lora-rank", "--json").json
    assert (shown["name"], shown["kind"], shown["default"]) == ("lora_rank", "int", "8")
    assert shown["commands"] == ["sft", "pt", "rlhf"]
    assert "--lora-rank" in shown["options"]
    assert shown["elsewhere"]["lora_r"] == ["TRL", "axolotl", "Resonance"]
    uses = {use["where"]: use for use in shown["uses"]}
    (preset,) = [where for where in uses if where.startswith("preset")]
    assert "7b" in preset
    assert uses[preset]["value"] == "8"
    assert uses[preset]["why"]


def test_the_same_for_people(tunekit):
    shown = tunekit("flags", "lora_rank").out
    for part in ("--lora_rank", "whole number", "lora_r", "axolotl", "What tunekit makes of it", "rank 8 is enough"):
        assert part in shown


@pytest.mark.parametrize(
    ("word", "name"),
    [("cutoff_len", "max_length"), ("lr", "learning_rate"), ("gpus", "gpus"), ("effective-batch", "effective_batch")],
)
def test_another_name_finds_the_flag(tunekit, word, name):
    assert tunekit("flags", word, "--json").json["name"] == name


def test_a_flag_that_is_tunekits_to_set_says_why(tunekit):
    assert "folder of its own" in tunekit("flags", "add_version", "--json").json["reserved"]
    assert "tunekit's" in tunekit("flags", "add_version").out


def test_rules_stand_with_what_they_change(tunekit):
    uses = tunekit("flags", "packing", "--json").json["uses"]
    assert any(use["where"] == "rule packing-needs-flash" and use["value"] == "false" for use in uses)
    assert "rule packing-needs-flash" in tunekit("flags", "packing").out


def test_choices(tunekit):
    assert tunekit("flags", "quant_bits", "--json").json["choices"] == ["1", "2", "3", "4", "8", "float8"]


def test_a_part_of_a_name_lists_what_holds_it(tunekit, flags):
    found = tunekit("flags", "vllm", "--json").json["flags"]
    assert [row["name"] for row in found] == sorted(name for name in flags.by_command["rlhf"] if "vllm" in name)
    assert "vllm_gpu_memory_utilization" in tunekit("flags", "vllm").out


def test_without_a_word_all_names(tunekit, flags):
    names = tunekit("flags").out.split()
    assert set(flags.by_command["rlhf"]) <= set(names)
    assert names == tunekit("flags", "--json").json["flags"]


@pytest.mark.parametrize(("word", "hint"), [("lora_rnak", "--lora_rank"), ("overwrite_output_dir", "--name NAME")])
def test_a_name_of_nothing(tunekit, word, hint):
    ended = tunekit("flags", word)
    assert (ended.code, ended.out) == (2, "")
    assert hint in ended.err
