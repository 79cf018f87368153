"""Old names that mean one thing are put in today's; what would be a guess is left to a hint."""

import pytest

from tunekit.errors import TunekitError
from tunekit.plan.pasted import in_todays_names
from tunekit.plan.said import Said, gather_words
from tunekit.plan.settings import COMMAND_LINE, Source


def line(*said):
    return gather_words(COMMAND_LINE, [Said(name, tuple(words.split())) for name, words in said])


def now(flags, *said):
    made = in_todays_names(line(*said), flags)
    return {one.name: " ".join(one.words) for one in made.said.values()}


QLORA = {"tuner_type": "lora", "quant_method": "bnb", "quant_bits": "4"}


@pytest.mark.parametrize(
    ("name", "words", "made"),
    [
        ("train_type", "lora", {"tuner_type": "lora"}),
        ("train_type", "qlora", QLORA),
        ("tuner_type", "qlora", QLORA),
        ("sft_type", "full", {"tuner_type": "full"}),
        ("batch_size", "4", {"micro_batch": "4"}),
        ("cutoff_len", "2048", {"max_length": "2048"}),
        ("model_name_or_path", "Qwen/Qwen2.5-7B", {"model": "Qwen/Qwen2.5-7B"}),
        ("model_id_or_path", "m", {"model": "m"}),
        ("lora_target", "all", {"target_modules": "all-linear"}),
        ("lora_target", "q_proj,v_proj", {"target_modules": "q_proj v_proj"}),
        ("lora_target_modules", "ALL", {"target_modules": "all-linear"}),
        ("dtype", "bf16", {"torch_dtype": "bfloat16"}),
        ("dtype", "bfloat16", {"torch_dtype": "bfloat16"}),
        ("load_in_4bit", "True", {"quant_method": "bnb", "quant_bits": "4"}),
        ("load_in_4bit", "", {"quant_method": "bnb", "quant_bits": "4"}),
        ("load_in_4bit", "false", {}),
        ("use_flash_attn", "false", {"attn_impl": "sdpa"}),
        ("use_lora", "False", {"tuner_type": "full"}),
        ("bits", "8", {"quant_method": "bnb", "quant_bits": "8"}),
        ("qlora", "", {"tuning_strategy": "qlora"}),
        ("use_wandb", "", {"report_to": "wandb"}),
        ("deepspeed", "default-zero3", {"deepspeed": "zero3"}),
        ("truncation_strategy", "truncation_left", {"truncation_strategy": "left"}),
        ("adapter", "qlora", QLORA),
        ("freeze_trainable_layers", "2", {"tuning_strategy": "freeze", "trainable_layers": "2"}),
        # a guess, or nothing of the kind: left as it is
        ("val_size", "0.1", {"val_size": "0.1"}),
        ("max_samples", "100", {"max_samples": "100"}),
        ("bits", "3", {"bits": "3"}),
        ("lora_bias", "lora_only", {"lora_bias": "lora_only"}),
        ("lora_rnak", "8", {"lora_rnak": "8"}),
        ("lora_rank", "8", {"lora_rank": "8"}),
    ],
)
def test_what_an_old_name_is_today(flags, name, words, made):
    assert now(flags, (name, words)) == made


def test_a_note_says_what_was_made_of_it(flags):
    made = in_todays_names(line(("train_type", "lora"), ("batch_size", "4"), ("load_in_8bit", "no")), flags)
    (note,) = made.notes
    assert "--train_type lora → --tuner_type lora" in note
    assert "--batch_size 4 → --micro-batch 4" in note
    assert "--load_in_8bit no → left out" in note
    assert in_todays_names(line(("lora_rank", "8")), flags).notes == ()


def test_two_names_of_the_same(flags):
    said = ("use_lora", "true"), ("q_lora", "true"), ("tuner_type", "lora")
    assert now(flags, *said) == QLORA
    with pytest.raises(TunekitError, match="--cutoff_len 512 and --max-length 1024 exclude each other"):
        now(flags, ("cutoff_len", "512"), ("max_length", "1024"))


def test_the_command_line_is_stronger_than_a_file(flags):
    file = Said("cutoff_len", ("512",), "c.yaml line 1", Source("file", "c.yaml"))
    words = gather_words(COMMAND_LINE, [file, Said("max_length", ("1024",))])
    assert in_todays_names(words, flags).said["max_length"].words == ("1024",)
