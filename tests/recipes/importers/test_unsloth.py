"""unsloth: scripts are read and never run; what is computed in them is said to be lost."""

from pathlib import Path

import pytest
from outcomes import said, status

from tunekit.errors import TunekitError
from tunekit.recipes.importers.recognition import import_file
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, LOST
from tunekit.recipes.importers.unsloth_script import entries_of

SCRIPT = """
from unsloth import FastLanguageModel, is_bfloat16_supported
from trl import SFTTrainer, SFTConfig
from datasets import load_dataset
import os
open("it-ran", "w").close()
length = 1024
rank = 2 * 8
model, tokenizer = FastLanguageModel.from_pretrained("acme/small", max_seq_length=length, load_in_4bit=True)
model = FastLanguageModel.get_peft_model(
    model, r=rank, lora_alpha=32, target_modules=["q_proj", "v_proj"], use_gradient_checkpointing="unsloth",
    random_state=3407,
)
rows = load_dataset("acme/rows", "tiny", split="train")
rows = rows.map(lambda row: row)
trainer = SFTTrainer(
    model=model, tokenizer=tokenizer, train_dataset=rows, packing=False, formatting_func=written,
    args=SFTConfig(
        per_device_train_batch_size=2, gradient_accumulation_steps=4, learning_rate=2e-4,
        max_steps=int(os.environ["N"]),
        bf16=is_bfloat16_supported(), fp16=not is_bfloat16_supported(), optim="adamw_8bit", output_dir=f"out/{length}",
    ),
)
trainer.train()
"""


def imported(tmp_path, text):
    path = tmp_path / "train.py"
    path.write_text(text)
    dialect, (draft,) = import_file(str(path))
    assert dialect.name == "unsloth"
    return draft


@pytest.fixture
def draft(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return imported(tmp_path, SCRIPT)


def test_nothing_of_it_is_run(draft):
    assert not Path("it-ran").exists()


def test_literals_and_names_that_are_bound_once(draft):
    assert (draft.command, draft.micro, draft.accumulation) == ("sft", 2, 4)
    assert said(draft, "model", "max_length", "lora_rank", "lora_alpha", "target_modules", "dataset", "output_dir") == {
        "model": "acme/small",
        "max_length": "1024",
        "lora_rank": "16",
        "lora_alpha": "32",
        "target_modules": "q_proj v_proj",
        "dataset": "acme/rows:tiny",
        "output_dir": "out/1024",
    }
    assert said(draft, "tuner_type", "quant_bits", "torch_dtype", "optim", "learning_rate", "truncation_strategy") == {
        "tuner_type": "lora",
        "quant_bits": "4",
        "torch_dtype": "bfloat16",
        "optim": "adamw_8bit",
        "learning_rate": "0.0002",
        "truncation_strategy": "right",
    }


def test_where_the_rest_ends(draft):
    assert status(draft, "get_peft_model.use_gradient_checkpointing") == LOST
    assert status(draft, "get_peft_model.random_state") == DEFAULT
    assert status(draft, "trainer.formatting_func") == ELSEWHERE
    assert status(draft, "unread.config.max_steps") == LOST
    assert "max_steps" not in draft.flags
    assert any("map" in warning for warning in draft.warnings)


def test_a_name_that_is_bound_twice_is_not_known():
    entries, _ = entries_of("from unsloth import *\nn = 1\nn = 2\nm = FastModel.from_pretrained(n, load_in_4bit=-1)\n")
    assert [(entry.key, entry.value) for entry in entries] == [
        ("unread.from_pretrained.model_name", "n"),
        ("from_pretrained.load_in_4bit", -1),
    ]


@pytest.mark.parametrize(
    ("lines", "flags"),
    [
        ('FastModel.from_pretrained("a/b", full_finetuning=True)', {"tuner_type": "full"}),
        ('FastModel.from_pretrained("a/b-bnb-4bit", load_in_4bit=True)', {"quant_bits": None}),
        (
            'FastVisionModel.from_pretrained("a/b")\nFastVisionModel.get_peft_model(m, finetune_vision_layers=True)',
            {"freeze_vit": "false", "freeze_aligner": "false", "tuner_type": "lora"},
        ),
        (
            'FastModel.from_pretrained("a/b")\nGRPOTrainer(reward_funcs=[short], args=GRPOConfig(num_generations=4))',
            {"rlhf_type": "grpo", "num_generations": "4", "beta": "0.0"},
        ),
        ('FastModel.from_pretrained("a/b")\nDPOTrainer(model, beta=0.3)', {"rlhf_type": "dpo", "beta": "0.3"}),
    ],
)
def test_kinds_of_scripts(tmp_path, lines, flags):
    assert said(imported(tmp_path, f"import unsloth\n{lines}\n"), *flags) == flags


def test_a_token_is_named_and_no_more(tmp_path):
    draft = imported(tmp_path, 'import unsloth\nFastModel.from_pretrained("a/b", token="hf_abcdefghijk")\n')
    assert draft.secrets == ["HF_TOKEN"]
    assert "hf_abc" not in repr(draft.outcomes)


def test_no_python(tmp_path):
    path = tmp_path / "train.py"
    path.write_text("import unsloth\nx = = 1\n")
    with pytest.raises(TunekitError, match="line 2"):
        import_file(str(path))
