"""TRL: which trainer a file is for, what each does by itself, scripts and launchers."""

import json
from pathlib import Path

import pytest
from outcomes import said, status

from tunekit.errors import TunekitError
from tunekit.recipes.importers.recognition import import_file
from tunekit.recipes.importers.source import KeyEntry, Origin
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, LOST, UNKNOWN, translate_source
from tunekit.recipes.importers.trl import TRL
from tunekit.recipes.importers.trl_trainer import trainer_of

EXAMPLES = Path(__file__).with_name("examples")
LEAST = {"model_name_or_path": "Qwen/Qwen2.5-0.5B", "dataset_name": "acme/x"}


def origin(program=(), path=None, launch=None, **values):
    entries = tuple(KeyEntry(key, value, place) for place, (key, value) in enumerate((LEAST | values).items(), start=1))
    return Origin(program, entries, EXAMPLES, path, launch=launch or {})


def run(*program, launch=None, **values):
    (draft,) = translate_source(origin(program, launch=launch, **values), TRL)
    return draft


def test_a_file():
    dialect, (draft,) = import_file(str(EXAMPLES / "trl.yaml"))
    assert (dialect.name, draft.command, draft.micro, draft.accumulation) == ("trl", "rlhf", 2, 16)
    assert draft.flags["dataset"] == ["acme/tastes:sweet"]
    assert said(draft, "rlhf_type", "tuner_type", "beta", "learning_rate", "truncation_strategy", "use_hf") == {
        "rlhf_type": "dpo",
        "tuner_type": "lora",
        "beta": "0.2",
        "learning_rate": "1e-6",
        "truncation_strategy": "right",
        "use_hf": "true",
    }
    assert said(draft, "quant_method", "quant_bits", "bnb_4bit_use_double_quant", "lora_rank", "target_modules") == {
        "quant_method": "bnb",
        "quant_bits": "4",
        "bnb_4bit_use_double_quant": "false",
        "lora_rank": "16",
        "target_modules": "q_proj v_proj",
    }
    assert json.loads(draft.flags["columns"][0]) == {"chosen": "response", "rejected": "rejected_response"}
    assert status(draft, "precompute_ref_log_probs") == LOST


def test_a_secret_is_named_and_no_more():
    _, (draft,) = import_file(str(EXAMPLES / "trl.yaml"))
    assert draft.env == {"WANDB_PROJECT": "tastes"}
    assert draft.secrets == ["HF_TOKEN"]
    assert "hf_abc" not in repr(draft.outcomes)


@pytest.mark.parametrize(
    ("source", "trainer"),
    [
        (origin(("trl", "grpo")), "grpo"),
        (origin(("examples/scripts/sft_vlm.py",)), "sft"),
        (origin(("trl/scripts/reward.py",)), "reward"),
        (origin(("trl.scripts.kto",)), "kto"),
        (origin(reward_funcs=["a.b"], num_generations=4, beta=0.1), "grpo"),
        (origin(desirable_weight=1.0, beta=0.1), "kto"),
        (origin(label_smoothing=0.1), "dpo"),
        (origin(packing=True), "sft"),
        (origin(path=Path("my-kto.yaml")), "kto"),
        (origin(), "sft"),
    ],
)
def test_which_trainer(source, trainer):
    assert trainer_of(source) == trainer


@pytest.mark.parametrize(
    ("trainer", "flags"),
    [
        ("sft", {"rlhf_type": None, "learning_rate": "2e-5", "max_length": "1024"}),
        ("reward", {"rlhf_type": "rm", "learning_rate": "1e-4"}),
        ("grpo", {"rlhf_type": "grpo", "beta": "0.0", "loss_type": "dapo", "temperature": "1.0", "max_length": None}),
        ("rloo", {"rlhf_type": "grpo", "advantage_estimator": "rloo", "beta": "0.05", "num_generations": "2"}),
        ("kto", {"rlhf_type": "kto", "learning_rate": "1e-6", "loss_type": None}),
        ("cpo", {"rlhf_type": "cpo"}),
    ],
)
def test_what_each_does_by_itself(trainer, flags):
    draft = run("trl", trainer)
    assert said(draft, *flags) == flags
    assert said(draft, "tuner_type", "weight_decay", "lr_scheduler_type", "logging_steps") == {
        "tuner_type": "full",
        "weight_decay": "0.0",
        "lr_scheduler_type": "linear",
        "logging_steps": "10",
    }


@pytest.mark.parametrize(
    ("program", "values", "flags"),
    [
        (("trl", "cpo"), {"loss_type": "simpo"}, {"rlhf_type": "simpo", "simpo_gamma": "0.5", "beta": "0.1"}),
        (("trl", "sft"), {"loss_type": "dft"}, {"enable_dft_loss": "true"}),
        (("trl", "sft"), {"completion_only_loss": False}, {"loss_scale": "all"}),
        (("trl", "sft"), {"packing": True}, {"packing": "true", "attn_impl": "flash_attn"}),
        (("trl", "sft"), {"dtype": "float32", "bf16": False}, {"torch_dtype": "float32", "fp16": "false"}),
        (("trl", "sft"), {"warmup_ratio": 0.1, "warmup_steps": 5}, {"warmup_steps": "5", "warmup_ratio": None}),
        (("trl", "sft"), {"warmup_steps": 0.1}, {"warmup_ratio": "0.1", "warmup_steps": None}),
        (("trl", "sft"), {"accelerate_config": "zero2"}, {"deepspeed": "zero2"}),
        (("trl", "sft"), {"accelerate_config": "fsdp2"}, {"fsdp": "fsdp2"}),
        (("trl", "sft"), {"use_peft": True, "lora_target_modules": "all-linear"}, {"target_modules": "all-linear"}),
        (("trl", "grpo"), {"scale_rewards": False}, {"scale_rewards": "none"}),
        (("trl", "grpo"), {"use_vllm": True}, {"vllm_mode": "colocate", "vllm_gpu_memory_utilization": "0.3"}),
        (("trl", "grpo"), {"reward_funcs": ["accuracy_reward", "acme/rm"]}, {"reward_funcs": "accuracy"}),
        (("trl", "dpo"), {"truncation_mode": "keep_end"}, {"truncation_strategy": "left"}),
        (("trl", "sft"), {"datasets": [{"path": "a", "name": "b"}, {"path": "c"}]}, {"dataset": "acme/x a:b c"}),
    ],
)
def test_keys_that_mean_another_thing_here(program, values, flags):
    assert said(run(*program, **values), *flags) == flags


@pytest.mark.parametrize(
    ("values", "key", "found"),
    [
        ({"dataset_train_split": "test"}, "dataset_train_split", LOST),
        ({"dataset_train_split": "train"}, "dataset_train_split", DEFAULT),
        ({"dataset_test_split": "test"}, "dataset_test_split", LOST),
        ({"eos_token": "x"}, "eos_token", LOST),
        ({"chat_template_path": "x"}, "chat_template_path", LOST),
        ({"assistant_only_loss": True}, "assistant_only_loss", DEFAULT),
        ({"lora_r": 4}, "lora_r", DEFAULT),
        ({"resume_from_checkpoint": True}, "resume_from_checkpoint", ELSEWHERE),
        ({"use_ipex": False}, "use_ipex", DEFAULT),
        ({"no_such": 1}, "no_such", UNKNOWN),
    ],
)
def test_where_a_key_ends(values, key, found):
    assert status(run("trl", "sft", **values), key) == found


def test_an_unknown_secret_is_not_repeated():
    draft = run("trl", "sft", my_api_key="abcdefghijk", hub_token="hf_abcdefghijk")
    assert "abcdefghijk" not in repr(draft.outcomes)
    assert draft.secrets == ["HF_TOKEN"]


def test_accelerate_says_how_it_is_spread(tmp_path):
    path = tmp_path / "a.yaml"
    zero = "deepspeed_config:\n  zero_stage: 3\n  offload_optimizer_device: cpu\n"
    path.write_text(f"distributed_type: DEEPSPEED\nnum_processes: 4\nmixed_precision: bf16\n{zero}")
    draft = run("trl/scripts/sft.py", launch={"config_file": str(path), "main_process_port": "29600"})
    assert said(draft, "deepspeed", "torch_dtype") == {"deepspeed": "zero3_offload", "torch_dtype": "bfloat16"}
    assert draft.env == {"NPROC_PER_NODE": "4", "MASTER_PORT": "29600"}
    assert draft.world == 4


def test_what_cannot_be_had_is_refused():
    with pytest.raises(TunekitError, match="online_dpo"):
        run("trl", "online_dpo")


def test_a_server_beside_a_training_is_passed_over(tmp_path):
    path = tmp_path / "a.sh"
    path.write_text("trl vllm-serve --model m &\ntrl grpo --model_name_or_path m --dataset_name d\n", encoding="utf-8")
    _, (draft,) = import_file(str(path))
    assert draft.flags["rlhf_type"] == ["grpo"]
    assert any("trl vllm-serve" in warning for warning in draft.warnings)


def test_rewards_keep_their_order_and_are_called_by_tunekit():
    draft = run("trl", "grpo", reward_funcs=["accuracy_reward", "shop.rewards.short"])
    assert draft.own == {"reward": ["accuracy", "shop/rewards.py:short"]}
    assert draft.flags["reward_funcs"] == ["accuracy"]
    assert not any("GRPO needs a reward" in warning for warning in draft.warnings)
