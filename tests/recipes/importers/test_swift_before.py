"""Scripts of ms-swift 2 and 3."""

from pathlib import Path

import pytest

from tunekit.recipes.importers.reader import read_sources
from tunekit.recipes.importers.recognition import import_file, likeliest
from tunekit.recipes.importers.translation import DEFAULT, LOST

EXAMPLES = Path(__file__).with_name("examples")


@pytest.fixture
def run(tmp_path):
    def write(text, name=""):
        path = tmp_path / "a.sh"
        path.write_text(text, encoding="utf-8")
        _, (draft, *_) = import_file(str(path), name)
        return draft

    return write


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("swift sft --sft_type lora --model_id_or_path x", "swift2"),
        ("swift dpo --model_type qwen-7b --beta 0.1", "swift2"),
        ("torchrun --nproc_per_node 2 llm_sft.py --dataset x", "swift2"),
        ("swift sft --train_type lora --model x", "swift3"),
        ("swift sft --model x --dataset y", "swift3"),
        ("python -m swift.cli.sft --model x", "swift3"),
        ("python swift/cli/rlhf.py --model x --rlhf_type kto", "swift3"),
    ],
)
def test_which_it_is(tmp_path, text, name):
    (tmp_path / "a.sh").write_text(text, encoding="utf-8")
    (origin,) = read_sources(str(tmp_path / "a.sh"))
    assert likeliest(origin).name == name


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("--model_type qwen2_5-7b-instruct", {"model": "Qwen/Qwen2.5-7B-Instruct"}),
        ("--model_id_or_path qwen/Qwen2-7B --model_type x", {"model": "Qwen/Qwen2-7B"}),
        ("--dtype AUTO --batch_size 3", {"per_device_train_batch_size": "3", "torch_dtype": "?"}),
        ("--quantization_bit 4", {"quant_method": "bnb", "quant_bits": "4"}),
        ("--quantization_bit 3", {"quant_method": "hqq", "quant_bits": "3"}),
        ("--lora_target_modules ALL", {"target_modules": "all-linear"}),
        ("--model_type internlm2-7b", {"target_modules": "wqkv"}),
        ("--model_type qwen-7b", {"target_modules": "c_attn"}),
        ("--model_type llama3-8b", {"target_modules": "q_proj k_proj v_proj"}),
        ("--dataset alpaca-zh,HF::a/b:c#9/1", {"dataset": "AI-ModelScope/alpaca-gpt4-data-zh hf::a/b:c#9"}),
        ("--dataset alpaca-zh --train_dataset_sample 7", {"dataset": "AI-ModelScope/alpaca-gpt4-data-zh#7"}),
        ("--dataset a --self_cognition_sample 5", {"dataset": "a swift/self-cognition#5"}),
        ("--eval_steps 7", {"eval_steps": "7", "save_steps": "7"}),
        ("--sft_type full", {"learning_rate": "1e-5", "save_steps": "200", "target_modules": "?"}),
        ("--max_length -1 --save_total_limit -1", {"max_length": "?", "save_total_limit": "?"}),
        ("--deepspeed default-zero3", {"deepspeed": "zero3"}),
        ("--deepspeed zero2-offload", {"deepspeed": "zero2_offload"}),
        ("--use_loss_scale true", {"loss_scale": "react"}),
        ("--template_type default-generation", {"use_chat_template": "false"}),
        ("--dataset_test_ratio 0 --val_dataset b", {"split_dataset_ratio": "?", "val_dataset": "b"}),
        ("--warmup_steps 4", {"warmup_ratio": "?", "warmup_steps": "4"}),
        ("--use_flash_attn true", {"attn_impl": "flash_attn"}),
        ("--lora_ran 4", {"lora_rank": "4"}),
        ("--batch_size 4", {"per_device_eval_batch_size": "4"}),
    ],
)
def test_2(run, text, flags):
    draft = run(f"swift sft {text}", "swift2")
    assert {name: " ".join(draft.flags.get(name, ["?"])) for name in flags} == flags


def test_what_2_did_by_itself():
    _, (draft,) = import_file(str(EXAMPLES / "swift2.sh"))
    assert (
        draft.flags
        | {
            "num_train_epochs": ["1"],
            "max_length": ["2048"],
            "warmup_ratio": ["0.05"],
            "split_dataset_ratio": ["0.01"],
            "save_total_limit": ["2"],
            "eval_steps": ["50"],
            "save_steps": ["50"],
            "gradient_accumulation_steps": ["4"],
        }
        == draft.flags
    )
    assert draft.world == 2


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("sft --train_type full", {"tuner_type": "full", "learning_rate": "1e-5"}),
        ("infer --infer_backend pt", {"infer_backend": "transformers"}),
        (
            "rlhf --rlhf_type grpo --scale_rewards true --use_vllm true",
            {"scale_rewards": "group", "vllm_mode": "colocate"},
        ),
        ("infer --ckpt_dir out/checkpoint-1", {"adapters": "out/checkpoint-1"}),
        ("infer --ckpt_dir out/checkpoint-1-merged", {"model": "out/checkpoint-1-merged"}),
        (
            "deploy --gpu_memory_utilization 0.5 --max_model_len 9",
            {"vllm_gpu_memory_utilization": "0.5", "vllm_max_model_len": "9"},
        ),
    ],
)
def test_3(run, text, flags):
    draft = run(f"swift {text}", "swift3")
    assert {name: " ".join(draft.flags.get(name, ["?"])) for name in flags} == flags


def test_3_does_not_say_which_3_it_is(run):
    warnings = " ".join(run("swift rlhf --rlhf_type dpo --model x --train_type lora --dataset a").warnings)
    assert "3.2.2" in warnings
    assert "3.6" in warnings
    assert "3.8" in warnings


def test_what_a_launcher_says_becomes_variables(run):
    text = "torchrun --nproc_per_node 2 --nnodes 2 --node_rank 1 --master_addr a --master_port 9 llm_sft.py --dataset x"
    draft = run(text)
    assert draft.world == 4
    assert draft.env == {
        "NNODES": "2",
        "NODE_RANK": "1",
        "MASTER_ADDR": "a",
        "MASTER_PORT": "9",
        "NPROC_PER_NODE": "2",
    }


def test_an_old_merge(run):
    draft = run("swift merge-lora --ckpt_dir out/checkpoint-1")
    assert (draft.command, draft.flags) == ("export", {"merge_lora": ["true"], "adapters": ["out/checkpoint-1"]})


def test_places_to_fill_in_and_models_that_are_spread(run):
    draft = run("CUDA_VISIBLE_DEVICES=0,1 swift sft --train_type lora --model <MODEL_ID> --dataset x")
    warnings = " ".join(draft.warnings)
    assert "<MODEL_ID>: put in what is yours" in warnings
    assert "one process for 2 GPUs" in warnings


def test_what_is_gone_is_lost(run):
    draft = run("swift rlhf --rlhf_type grpo --train_type lora --vllm_device auto --gc_collect_after_offload false")
    assert {it.key: it.status for it in draft.outcomes if it.key in ("vllm_device", "gc_collect_after_offload")} == {
        "vllm_device": LOST,
        "gc_collect_after_offload": DEFAULT,
    }


def test_its_own_yaml(tmp_path):
    (tmp_path / "a.yaml").write_text("ENV:\n  A: 1\nmodel: x\ntrain_type: lora\n", encoding="utf-8")
    dialect, (draft,) = import_file(str(tmp_path / "a.yaml"))
    assert (dialect.name, draft.env, draft.flags["tuner_type"]) == ("swift3", {"A": "1"}, ["lora"])
