"""axolotl: kinds of runs, data with names of its own, absent keys, and what is lost."""

import json
from pathlib import Path

import pytest
from outcomes import said, status

from tunekit.errors import TunekitError
from tunekit.plan.models.catalogue import template_names
from tunekit.recipes.importers.axolotl import AXOLOTL, TEMPLATES
from tunekit.recipes.importers.recognition import import_file
from tunekit.recipes.importers.source import KeyEntry, Origin
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, LOST, TRANSLATED, translate_source
from tunekit.recipes.importers.unsloth import TEMPLATES as UNSLOTHS

EXAMPLES = Path(__file__).with_name("examples")
LEAST = {"base_model": "Qwen/Qwen2.5-0.5B", "datasets": [{"path": "a.jsonl"}], "learning_rate": 1e-5}


def run(folder=EXAMPLES, **values):
    entries = tuple(KeyEntry(key, value, place) for place, (key, value) in enumerate((LEAST | values).items(), start=1))
    (draft,) = translate_source(Origin((), entries, folder), AXOLOTL)
    return draft


def test_a_file():
    dialect, (draft,) = import_file(str(EXAMPLES / "axolotl.yaml"))
    assert dialect.name == "axolotl"
    assert (draft.command, draft.micro, draft.accumulation, draft.world) == ("sft", 4, 8, None)
    assert said(draft, "tuner_type", "quant_method", "quant_bits", "target_modules", "packing", "attn_impl") == {
        "tuner_type": "lora",
        "quant_method": "bnb",
        "quant_bits": "4",
        "target_modules": "all-linear",
        "packing": "true",
        "attn_impl": "flash_attn",
    }
    assert draft.flags["dataset"] == ["loaves.jsonl", "acme/cakes:spring"]
    assert said(draft, "split_dataset_ratio", "eval_steps", "save_steps", "use_hf", "report_to") == {
        "split_dataset_ratio": "0.1",
        "eval_steps": "0.25",
        "save_steps": "0.5",
        "use_hf": "true",
        "report_to": "wandb",
    }
    assert draft.env == {"WANDB_PROJECT": "bakery"}
    assert (status(draft, "special_tokens.pad_token"), status(draft, "xformers_attention")) == (LOST, DEFAULT)


def test_names_of_roles_and_keys_become_an_entry_of_custom_dataset_info():
    _, (draft,) = import_file(str(EXAMPLES / "axolotl.yaml"))
    (info,) = draft.flags["custom_dataset_info"]
    turns = {"role_key": "who", "content_key": "says", "user_role": "guest", "assistant_role": "baker"}
    assert json.loads(info) == [
        {"dataset_path": "loaves.jsonl", "columns": {"talk": "messages"}, "messages": turns},
    ]


def test_what_it_does_by_itself():
    draft = run()
    assert said(draft, "weight_decay", "adam_beta2", "warmup_ratio", "max_length", "save_strategy", "torch_dtype") == {
        "weight_decay": "0.0",
        "adam_beta2": "0.999",
        "warmup_ratio": "0.03",
        "max_length": "512",
        "save_strategy": "epoch",
        "torch_dtype": "bfloat16",
    }
    assert said(draft, "tuner_type", "truncation_strategy", "report_to", "num_train_epochs") == {
        "tuner_type": "full",
        "truncation_strategy": "delete",
        "report_to": "none",
        "num_train_epochs": "1",
    }


@pytest.mark.parametrize(
    ("values", "command", "flags"),
    [
        ({"rl": "ipo"}, "rlhf", {"rlhf_type": "dpo", "loss_type": "ipo"}),
        ({"rl": "simpo"}, "rlhf", {"rlhf_type": "simpo", "beta": "0.1", "simpo_gamma": "0.5"}),
        ({"rl": "orpo", "orpo_alpha": 0.3}, "rlhf", {"rlhf_type": "orpo", "beta": "0.3"}),
        ({"rl": "kto", "kto_desirable_weight": 2}, "rlhf", {"rlhf_type": "kto", "desirable_weight": "2"}),
        ({"rl": "grpo", "trl": {"beta": 0.1, "top_k": 0}}, "rlhf", {"beta": "0.1", "loss_type": "dapo", "top_k": "-1"}),
        ({"reward_model": True}, "rlhf", {"rlhf_type": "rm"}),
        ({"datasets": [{"path": "a.txt", "type": "completion"}]}, "pt", {"truncation_strategy": "split"}),
        ({"pretraining_dataset": "acme/web", "datasets": None}, "pt", {"streaming": "true", "dataset": "acme/web"}),
    ],
)
def test_kinds_of_runs(values, command, flags):
    draft = run(**values)
    assert draft.command == command
    assert said(draft, *flags) == flags


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        ({"optimizer": "muon"}, {"optimizer": "muon", "optim": None}),
        ({"optimizer": "lion_8bit"}, {"optim": "lion_8bit"}),
        ({"batch_size": 32, "micro_batch_size": 4}, {"gradient_accumulation_steps": "8"}),
        (
            {"cosine_min_lr_ratio": 0.1, "lr_scheduler": "cosine"},
            {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": '{"min_lr_rate": 0.1}'},
        ),
        ({"warmup_steps": 10, "warmup_ratio": 0.5}, {"warmup_steps": "10", "warmup_ratio": None}),
        ({"fp16": True}, {"torch_dtype": "float16"}),
        ({"bf16": False}, {"torch_dtype": "float32", "fp16": "false"}),
        ({"save_strategy": False}, {"save_strategy": "no"}),
        (
            {"fsdp": ["full_shard"], "fsdp_config": {"fsdp_version": 2}},
            {"fsdp": "fsdp2", "gradient_checkpointing": None},
        ),
        ({"deepspeed": "deepspeed_configs/zero3_bf16_cpuoffload_all.json"}, {"deepspeed": "zero3_offload"}),
        ({"deepspeed": "axolotl.yaml"}, {"deepspeed": "axolotl.yaml"}),  # a file that is there stays
        ({"plugins": ["axolotl.integrations.liger.LigerPlugin"]}, {"use_liger_kernel": "true"}),
        (
            {"unfrozen_parameters": ["^lm_head.weight$", "layers.1[0-9]+.mlp"]},
            {"freeze_parameters_ratio": "1", "trainable_parameters_regex": r"^lm_head\.weight$|layers\.1[0-9]+\.mlp"},
        ),
        ({"attn_implementation": "kernels-community/flash-attn3"}, {"attn_impl": "flash_attention_3"}),
        ({"train_on_inputs": True}, {"loss_scale": "all"}),
        ({"load_in_8bit": True, "adapter": "lora"}, {"quant_bits": "8"}),
    ],
)
def test_keys_that_mean_another_thing_here(values, flags):
    assert said(run(**values), *flags) == flags


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"optimizer": "came_pytorch"}, "optimizer"),
        ({"lr_scheduler": "rex"}, "lr_scheduler"),
        ({"plugins": ["axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin"]}, "plugins.0"),
        ({"lora_mlp_kernel": True}, "lora_mlp_kernel"),
        ({"fsdp_config": {"offload_params": True}}, "fsdp_config.offload_params"),
        ({"xformers_attention": True}, "xformers_attention"),
        ({"datasets": [{"path": "a", "split": "train[:5%]"}]}, "datasets.0.split"),
        ({"gradient_checkpointing": "offload"}, "gradient_checkpointing"),
        ({"val_set_size": 100}, "val_set_size"),
        ({"special_tokens": {"eos_token": "x"}}, "special_tokens.eos_token"),
    ],
)
def test_what_is_lost_is_said(values, key):
    assert status(run(**values), key) == LOST


def test_what_is_off_or_empty_loses_nothing():
    draft = run(lora_mlp_kernel=False, wandb_project=None, special_tokens=None, relora=False, fsdp=None)
    assert {status(draft, key) for key in ("lora_mlp_kernel", "wandb_project", "special_tokens", "relora")} == {DEFAULT}


def test_a_number_of_rows_for_evaluation_is_counted_where_the_file_is_here(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"query": "1", "response": "2"}\n' * 40)
    draft = run(tmp_path, val_set_size=10)
    assert draft.flags["split_dataset_ratio"] == ["0.25"]
    assert status(draft, "val_set_size") == TRANSLATED


def test_pairs_get_their_columns():
    draft = run(rl="dpo", datasets=[{"path": "acme/p", "type": "llama3.argilla_chat"}])
    assert json.loads(draft.flags["columns"][0]) == {"chosen": "messages", "rejected": "rejected_messages"}


def test_a_reward_in_python_is_named():
    draft = run(rl="grpo", trl={"reward_funcs": ["shop.rewards.short"]})
    (outcome,) = [it for it in draft.outcomes if it.key == "trl.reward_funcs"]
    assert (outcome.status, outcome.where) == (ELSEWHERE, "tunekit --reward shop/rewards.py:short")


@pytest.mark.parametrize("values", [{"rl": "ebft"}, {"process_reward_model": True}, {"adapter": "oft"}])
def test_what_cannot_be_had_is_refused(values):
    with pytest.raises(TunekitError):
        run(**values)


def test_a_script_is_what_it_trains(tmp_path):
    path = tmp_path / "run.sh"
    (tmp_path / "a.yaml").write_text((EXAMPLES / "axolotl.yaml").read_text())
    path.write_text(
        "axolotl preprocess a.yaml\naccelerate launch --num_processes 4 -m axolotl.cli.train a.yaml --seed 3\n"
    )
    _, (draft,) = import_file(str(path))
    assert (draft.flags["seed"], draft.world, draft.env["NPROC_PER_NODE"]) == (["3"], 4, "4")
    assert any("axolotl preprocess" in warning for warning in draft.warnings)


def test_templates_are_of_ms_swift():
    assert {*TEMPLATES.values(), *UNSLOTHS.values()} <= template_names()


def test_a_value_of_a_wrong_kind_is_named_with_its_line():
    with pytest.raises(TunekitError, match="line 4: batch_size: "):
        run(batch_size=["many"])


@pytest.mark.parametrize(
    ("more", "mode"),
    [
        ({}, "colocate"),
        ({"vllm_server_host": "a"}, "server"),
        ({"vllm_server_port": 1, "vllm_mode": "colocate"}, "colocate"),
    ],
)
def test_vllm_is_told_where_it_runs(more, mode):
    assert run(rl="grpo", trl={"use_vllm": True, **more}).flags["vllm_mode"] == [mode]
