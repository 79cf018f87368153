"""LLaMA-Factory: stages, absent keys, data, methods."""

import json
from pathlib import Path

import pytest

from tunekit.errors import TunekitError
from tunekit.recipes.importers.llamafactory import LLAMAFACTORY
from tunekit.recipes.importers.llamafactory_info import count_rows
from tunekit.recipes.importers.recognition import import_file
from tunekit.recipes.importers.source import KeyEntry, Origin
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, LOST, TRANSLATED, translate_source
from tunekit.recipes.importers.written import swift_words

EXAMPLES = Path(__file__).with_name("examples")
MODEL = {"model_name_or_path": "Qwen/Qwen2.5-0.5B-Instruct", "dataset": "letters"}


@pytest.fixture(autouse=True)
def _beside_the_data(monkeypatch):
    monkeypatch.chdir(EXAMPLES)


def run(program=(), env=None, **values):
    entries = tuple(KeyEntry(key, value, place) for place, (key, value) in enumerate(values.items(), start=1))
    (draft,) = translate_source(Origin(program, entries, EXAMPLES, env=env or {}), LLAMAFACTORY)
    return draft


def train(**values):
    return run(**MODEL | {"do_train": True} | values)


def status(draft, key):
    (found,) = [outcome for outcome in draft.outcomes if outcome.key == key]
    return found.status


@pytest.mark.parametrize(
    ("values", "command", "flags"),
    [
        ({"stage": "sft"}, "sft", {}),
        ({"stage": "pt"}, "pt", {"packing": "true", "truncation_strategy": "split"}),
        ({"stage": "rm"}, "rlhf", {"rlhf_type": "rm"}),
        ({"stage": "kto"}, "rlhf", {"rlhf_type": "kto"}),
        ({"stage": "dpo"}, "rlhf", {"rlhf_type": "dpo"}),
        ({"stage": "dpo", "pref_loss": "ipo"}, "rlhf", {"rlhf_type": "dpo", "loss_type": "ipo"}),
        ({"stage": "dpo", "pref_loss": "orpo"}, "rlhf", {"rlhf_type": "orpo"}),
        (
            {"stage": "dpo", "pref_loss": "simpo"},
            "rlhf",
            {"rlhf_type": "simpo", "beta": "0.1", "simpo_gamma": "0.5", "cpo_alpha": "0.0"},
        ),
    ],
)
def test_stages(values, command, flags):
    draft = train(**values)
    assert draft.command == command
    assert {name: " ".join(draft.flags[name]) for name in flags} == flags


@pytest.mark.parametrize(
    ("program", "values", "command"),
    [
        ((), {"do_predict": True, "eval_dataset": "letters"}, "infer"),
        ((), {"export_dir": "x", "adapter_name_or_path": "y"}, "export"),
        (("llamafactory-cli", "api"), {}, "deploy"),
        (("llamafactory-cli", "chat"), {}, "infer"),
        (("llamafactory-cli", "webchat"), {}, "app"),
    ],
)
def test_what_does_not_train(program, values, command):
    draft = run(program, model_name_or_path="m", **values)
    assert draft.command == command
    assert not {"learning_rate", "per_device_train_batch_size", "weight_decay"} & draft.flags.keys()


def test_absent_keys_are_those_of_the_tool():
    flags = train().flags
    assert {name: flags[name] for name in ("learning_rate", "lr_scheduler_type", "weight_decay", "adam_beta2")} == {
        "learning_rate": ["5e-05"],
        "lr_scheduler_type": ["linear"],
        "weight_decay": ["0.0"],
        "adam_beta2": ["0.999"],
    }
    assert flags["per_device_train_batch_size"] == ["8"]
    assert (flags["max_length"], flags["truncation_strategy"]) == (["2048"], ["right"])
    assert (flags["lora_alpha"], flags["lora_dropout"], flags["use_hf"]) == (["16"], ["0.0"], ["true"])
    assert not {"lora_alpha", "lora_dropout", "target_modules"} & train(finetuning_type="full").flags.keys()


def test_the_hub_of_modelscope():
    assert "use_hf" not in run(env={"USE_MODELSCOPE_HUB": "1"}, **MODEL).flags


def test_freezing():
    draft = train(finetuning_type="freeze", freeze_trainable_layers=2, freeze_extra_modules="norm")
    assert draft.flags["trainable_parameters"] == ["model.layers.22.", "model.layers.23.", "model.norm"]
    assert draft.flags["freeze_parameters_ratio"] == ["1"]
    first = train(finetuning_type="freeze", freeze_trainable_layers=-1, freeze_trainable_modules="mlp")
    assert first.flags["trainable_parameters"] == ["model.layers.0.mlp"]
    pro = train(finetuning_type="freeze", freeze_trainable_layers=3, use_llama_pro=True)
    assert pro.flags["trainable_parameters"] == ["model.layers.7.", "model.layers.15.", "model.layers.23."]
    assert train(finetuning_type="freeze", model_name_or_path="nobody/knows").refused


def test_what_cannot_be_had_is_refused():
    with pytest.raises(TunekitError, match="finetuning_type"):
        train(finetuning_type="oft")
    assert train(use_badam=True).refused
    assert train(stage="ppo", reward_model="x").refused
    assert not train(stage="ppo", reward_model="x", reward_model_type="full").refused


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        ({"quantization_bit": 4}, {"quant_method": "bnb", "quant_bits": "4"}),
        ({"quantization_bit": 8, "quantization_method": "hqq"}, {"quant_method": "hqq", "hqq_axis": "0"}),
        ({"use_galore": True}, {"galore_rank": "16", "galore_update_proj_gap": "200", "galore_scale": "2.0"}),
        ({"use_galore": True, "galore_rank": 5}, {"galore_rank": "5"}),
        ({"use_muon": True}, {"optimizer": "muon"}),
        ({"use_apollo": True, "apollo_rank": 4}, {"optim": "apollo_adamw", "optim_target_modules": "all-linear"}),
        ({"pissa_init": True}, {"init_weights": "pissa_niter_16"}),
        ({"pissa_init": True, "pissa_iter": -1}, {"init_weights": "pissa"}),
        ({"packing": True}, {"packing": "true", "attn_impl": "flash_attention_2"}),
        ({"flash_attn": "disabled"}, {"attn_impl": "eager"}),
        ({"train_on_prompt": True}, {"loss_scale": "all"}),
        ({"disable_gradient_checkpointing": True}, {"gradient_checkpointing": "false"}),
        ({"deepspeed": "examples/deepspeed/ds_z2_offload_config.json"}, {"deepspeed": "zero2_offload"}),
        ({"deepspeed": "mine.json"}, {"deepspeed": "mine.json"}),
        ({"warmup_ratio": 0.1, "warmup_steps": 9}, {"warmup_steps": "9"}),
        ({"rope_scaling": "yarn", "cutoff_len": 9}, {"rope_scaling": "yarn", "max_model_len": "9"}),
        ({"stage": "dpo", "pref_ftx": 0.5}, {"rpo_alpha": "0.5"}),
        ({"stage": "dpo", "pref_bco_weight": 1}, {"loss_type": "sigmoid bco_pair", "loss_weights": "0.5 0.5"}),
        (
            {"mix_strategy": "interleave_over", "dataset": "letters,calls"},
            {"stopping_strategy": "all_exhausted", "interleave_prob": "0.5 0.5"},
        ),
        ({"template": "qwen3"}, {"disable_ignore_empty_think": "true"}),
        ({"eval_strategy": False}, {"eval_strategy": "no"}),
        ({"val_size": 0.25}, {"split_dataset_ratio": "0.25"}),
        ({"val_size": 2, "dataset": "letters"}, {"split_dataset_ratio": "0.666667"}),
    ],
)
def test_keys(values, flags):
    draft = train(**values)
    assert {name: " ".join(draft.flags.get(name, ["?"])) for name in flags} == flags
    assert all(status(draft, key) in (TRANSLATED, DEFAULT) for key in values)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"quantization_bit": 5, "quantization_method": "hqq"}, "quantization_bit"),
        ({"stage": "kto", "pref_ftx": 0.1}, "pref_ftx"),
        ({"stage": "dpo", "pref_loss": "kto_pair"}, "pref_loss"),
        ({"stage": "dpo", "ref_model": "x"}, "ref_model"),
        ({"upcast_layernorm": True}, "upcast_layernorm"),
        ({"template": "alpaca"}, "template"),
        ({"dataset": "nobody"}, "dataset"),
        ({"dataset": "tests"}, "dataset"),
        ({"val_size": 50, "streaming": True}, "val_size"),
        ({"mix_strategy": "interleave_once"}, "mix_strategy"),
    ],
)
def test_lost(values, key):
    assert status(train(**values), key) == LOST


def test_the_template_of_the_model_is_left_to_ms_swift():
    assert "template" not in train(template="qwen").flags
    other = train(template="llama3")
    assert other.flags["template"] == ["llama3"]
    assert any("qwen2_5" in warning for warning in other.warnings)
    assert train(template="llama3", model_name_or_path="LLM-Research/Llama-3.2-1B-Instruct").flags["template"] == [
        "llama3"
    ]


@pytest.mark.parametrize(
    ("values", "dataset", "more"),
    [
        ({}, ["data/letters.jsonl"], {}),
        ({"max_samples": 2}, ["data/letters.jsonl#2"], {"dataset_shuffle": ["false"]}),
        ({"max_samples": 9}, ["data/letters.jsonl"], {}),
        ({"dataset": "far"}, ["acme/far:en#9"], {}),
        ({"dataset": "a/b,c/d", "dataset_dir": "ONLINE"}, ["a/b", "c/d"], {}),
    ],
)
def test_datasets(values, dataset, more):
    draft = train(**values)
    assert draft.flags["dataset"] == dataset
    assert {name: draft.flags[name] for name in more} == more


@pytest.mark.parametrize(
    ("values", "columns"),
    [
        ({"stage": "dpo", "dataset": "pairs"}, {"ask": "query", "better": "response", "worse": "rejected_response"}),
        ({"stage": "kto", "dataset": "marks"}, {"ask": "query", "reply": "response", "fine": "label"}),
    ],
)
def test_columns(values, columns):
    assert json.loads(train(**values).flags["columns"][0]) == columns


def test_two_shapes_of_rows_need_a_file():
    draft = train(dataset="letters,calls")
    (name,) = draft.flags["custom_dataset_info"]
    (row,) = json.loads(draft.files[name])
    assert row["messages"] == {
        "role_key": "speaker",
        "content_key": "text",
        "user_role": "caller",
        "assistant_role": "desk",
        "system_role": "system",
    }


def test_pairs_of_objects_are_converted_first():
    draft = train(stage="dpo", dataset="turns")
    assert draft.before[0][:4] == ["tunekit", "data", "convert", "data/turns.jsonl"]
    assert draft.flags["dataset"] == [draft.before[0][-1]]


def test_adapters():
    one = train(adapter_name_or_path="a", stage="dpo")
    assert one.flags["adapters"] == ["a"]
    assert "ref_adapters" not in one.flags
    two = train(adapter_name_or_path="a,b")
    assert (two.flags["model"], two.flags["adapters"], len(two.before)) == (["a-merged"], ["b"], 1)
    new = train(adapter_name_or_path="a,b", create_new_adapter=True)
    assert (new.flags["model"], len(new.before)) == (["b-merged"], 2)
    assert "adapters" not in new.flags


def test_no_secret_is_written():
    draft = train(swanlab_api_key="sesame-open", hub_token="sesame-open", use_swanlab=True)
    text = json.dumps([swift_words(draft), draft.env, [str(outcome) for outcome in draft.outcomes]])
    assert "sesame-open" not in text
    assert draft.secrets == ["SWANLAB_API_KEY", "HF_TOKEN"]
    assert status(draft, "hub_token") == ELSEWHERE


def test_processes_are_one_a_visible_gpu():
    draft = run(env={"CUDA_VISIBLE_DEVICES": "0,1,2", "NNODES": "2"}, **MODEL)
    assert (draft.world, draft.env["NPROC_PER_NODE"]) == (6, "3")


def test_rows_are_counted():
    assert count_rows(EXAMPLES / "data/letters.jsonl") == 3
    assert count_rows(EXAMPLES / "none.jsonl") is None


def test_a_call_whose_file_is_not_there_is_refused(tmp_path):
    path = tmp_path / "a.sh"
    path.write_text("llamafactory-cli train gone.yaml learning_rate=1e-5\n", encoding="utf-8")
    _, (draft,) = import_file(str(path))
    assert "gone.yaml: cannot be read" in draft.refused[0]


def test_vllm_of_a_server_is_spread_over_the_gpus():
    draft = run(
        ("llamafactory-cli", "api"), {"CUDA_VISIBLE_DEVICES": "0,1"}, model_name_or_path="m", infer_backend="vllm"
    )
    assert draft.flags["vllm_tensor_parallel_size"] == ["2"]
    assert "NPROC_PER_NODE" not in draft.env


def test_what_accelerate_says_of_sharding():
    entries = tuple(KeyEntry(key, value) for key, value in {**MODEL, "do_train": True}.items())
    origin = Origin(("src/train.py",), entries, EXAMPLES, launch={"config_file": "examples/fsdp_config.yaml"})
    (draft,) = translate_source(origin, LLAMAFACTORY)
    assert draft.flags["fsdp"] == ["fsdp2"]
