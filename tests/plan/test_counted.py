"""Every flag of ms-swift is said to move memory or not; those counted do move it, those not counted are named."""

from dataclasses import replace

import pytest

from tunekit.engine.flags import SNAPSHOT, from_json
from tunekit.files import read_json
from tunekit.plan import counted
from tunekit.plan.batch import Batch
from tunekit.plan.counted import COUNTED, STILL_BEGINNINGS, UNCOUNTED, memory_class, uncounted_notes
from tunekit.plan.flags import Flag, FlagTable
from tunekit.plan.predict import peak_of, unpredicted_because
from tunekit.plan.settings import COMMAND_LINE, Setting, Source
from tunekit.stages import STAGES

FLAGS = from_json(read_json(SNAPSHOT), installed=False).by_command
NAMES = sorted({name for flags in FLAGS.values() for name in flags})
QWEN, SMALL = "Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct"

FULL = {"tuner_type": "full"}
FEW = FULL | {"freeze_parameters_ratio": 1, "trainable_parameters": ["lm_head"]}
GALORE = FULL | {"use_galore": True}
KIND = {name: {"tuner_type": name} for name in ("adalora", "adapter", "vera", "boft", "fourierft", "llamapro")}
BNB = {"quant_method": "bnb", "quant_bits": "4"}
WIDE = {"target_modules": ["gate_proj", "up_proj"], "gradient_checkpointing": False}
SHORT = {"max_length": 128}
MOVES = {
    "adalora_init_r": (KIND["adalora"], 64),
    "adapter_length": (KIND["adapter"], 512),
    "attn_impl": ({"packing": False}, "eager"),
    "bnb_4bit_compute_dtype": (BNB | SHORT, "float32"),
    "bnb_4bit_use_double_quant": (BNB, False),
    "boft_block_num": (KIND["boft"] | {"boft_block_size": 0, "boft_block_num": 4}, 8),
    "boft_block_size": (KIND["boft"], 8),
    "boft_dropout": (KIND["boft"], 0.5),
    "boft_n_butterfly_factor": (KIND["boft"], 2),
    "deepspeed": (FULL, "zero3"),
    "fourier_n_frequency": (KIND["fourierft"], 9000),
    "freeze_parameters": (FULL, ["model.layers.0."]),
    "freeze_parameters_ratio": (FULL, 0.5),
    "freeze_parameters_regex": (FULL, "mlp"),
    "fsdp": (FULL, "fsdp2"),
    "galore_proj_type": (GALORE, "right"),
    "galore_quantization": (GALORE, True),
    "galore_rank": (GALORE, 8),
    "galore_target_modules": (GALORE, ["q_proj"]),
    "galore_with_embedding": (GALORE, True),
    "gradient_accumulation_steps": (FULL, 1),
    "gradient_checkpointing": ({}, False),
    "lisa_activated_layers": (FULL, 2),
    "llamapro_num_new_blocks": (KIND["llamapro"], 2),
    "lora_bias": ({}, "all"),
    "lora_dropout": ({"packing": False}, 0.0),
    "lora_dtype": ({}, "bfloat16"),
    "lora_rank": ({}, 64),
    "max_length": ({}, 256),
    "model": ({}, SMALL),
    "modules_to_save": ({}, ["lm_head"]),
    "new_special_tokens": ({}, ["<a>"]),
    "optim": (FULL, "adamw_8bit"),
    "optimizer": (FULL, "muon"),
    "packing": ({"per_device_train_batch_size": 8}, True),
    "packing_length": ({"packing": True}, 512),
    "padding_free": ({"per_device_train_batch_size": 8, "packing": False}, True),
    "per_device_train_batch_size": ({}, 2),
    "quant_bits": (BNB, "8"),
    "quant_method": ({"quant_bits": "4"}, "hqq"),
    "rlhf_type": ({}, "kto"),
    "target_modules": ({}, ["q_proj"]),
    "target_parameters": ({"lora_dropout": 0}, ["q_proj.weight"]),
    "target_regex": ({}, ".*q_proj"),
    "torch_dtype": ({}, "float32"),
    "trainable_parameters": (
        FULL | {"freeze_parameters_ratio": 1, "trainable_parameters": ["lm_head"]},
        ["model.norm"],
    ),
    "trainable_parameters_regex": (FEW, "mlp"),
    "tuner_type": ({}, "full"),
    "use_dora": ({}, True),
    "use_galore": (FULL, True),
    "use_liger_kernel": ({}, True),
    "use_logits_to_keep": ({}, False),
    "use_vllm": ({"vllm_mode": "colocate"}, True),
    "vera_dropout": (KIND["vera"] | WIDE, 0.5),
    "vera_rank": (KIND["vera"], 4096),
    "vllm_gpu_memory_utilization": ({"use_vllm": True, "vllm_mode": "colocate"}, 0.3),
    "vllm_mode": ({"use_vllm": True}, "colocate"),
}
"""For each flag that is counted: what else is set, and a value that must change the answer."""


@pytest.mark.parametrize("name", NAMES)
def test_every_flag_has_been_looked_at(name):
    assert memory_class(name)


def test_no_name_is_in_two_places_or_of_no_flag():
    listed = [*COUNTED, *counted.SAID, *UNCOUNTED, *counted.STILL, *counted.BESIDE]
    assert len(listed) == len({*listed})
    assert not {*listed} - {*NAMES}
    assert {*counted.ONLY} == {*counted.ONLY_WHY} <= {*counted.STILL}
    rest = [name for name in NAMES if name not in listed]
    assert all(any(name.startswith(word) for name in rest) for word in STILL_BEGINNINGS)


def answer(make, said):
    """The peak, the card that it is held against and why there is none: of a plan with these flags, rules apart."""
    said = {"packing": False, **said}
    stage = said.pop("rlhf_type", "sft")
    plan = replace(make("sft", said.pop("model", QWEN), "2x80GB", preset="none"), stage=STAGES[stage])
    micro, accumulation = said.pop("per_device_train_batch_size", 1), said.pop("gradient_accumulation_steps", 4)
    plan = replace(plan, batch=Batch(micro, accumulation, 2))
    plan = plan.with_settings({name: Setting(value, COMMAND_LINE) for name, value in said.items()})
    peak = peak_of(plan)
    return (peak.prediction, peak.card_gib) if peak else unpredicted_because(plan)


@pytest.mark.parametrize("name", COUNTED)
def test_what_is_counted_moves_the_answer(name, make):
    besides, value = MOVES[name]
    before, after = answer(make, besides), answer(make, besides | {name: value})
    assert before != after
    assert not isinstance(before, str)


def test_all_cases_are_of_counted_flags():
    assert {*MOVES} == {*COUNTED}


def notes(plan):
    return [line for line in plan.warnings if "memory" in line]


def test_what_is_not_counted_is_named_once(make):
    assert notes(make(neftune_noise_alpha=5.0, torch_compile=True)) == [
        "--neftune_noise_alpha is not in the memory estimate: noise as large as the embedded rows",
        "--torch_compile is not in the memory estimate: what the compiler saves and copies",
    ]
    one = "--torch_compile and --torch_compile_mode are not in the memory estimate: what the compiler saves and copies"
    assert notes(make(torch_compile=True, torch_compile_mode="default")) == [one]


def test_nothing_is_said_of_defaults_of_what_is_counted_and_of_what_moves_nothing(make):
    said = {"torch_compile": False, "num_beams": 1, "use_dora": True, "seed": 1, "torch_compile_mode": "None"}
    assert not notes(make(**said))
    assert not notes(make(label_smoothing_factor=0))
    assert not notes(make(preset="8b"))


def test_nothing_is_said_without_a_gpu(make):
    assert not notes(make(gpus="none", torch_compile=True))


def test_evaluations_are_named_where_there_are_any(make):
    named = "--per_device_eval_batch_size is not in the memory estimate: what an evaluation holds"
    assert named not in notes(make(per_device_eval_batch_size=2))
    assert named in notes(make(per_device_eval_batch_size=2, split_dataset_ratio=0.1))


def test_some_values_alone_are_named(make):
    named = "--init_weights is not in the memory estimate: gradients of all weights as it begins"
    assert notes(make(init_weights="lora-ga")) == [named]
    assert not notes(make(init_weights="pissa"))


def test_a_flag_of_a_newer_ms_swift_is_named_where_it_was_typed(make, flags):
    plan = make()
    newer = {**flags.by_command["sft"], "use_warp": Flag("use_warp", "bool")}
    table = FlagTable("9.0.0", True, {**flags.by_command, "sft": newer})
    for source, said in ((COMMAND_LINE, 1), (Source("preset", "mine"), 0)):
        lines = uncounted_notes(plan.with_settings({"use_warp": Setting(True, source)}), table)
        assert lines == ["--use_warp is not in the memory estimate: nobody has looked at what it does"][:said]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"optim": "lomo"}, "the optimizer lomo are not known"),
        ({"tuner_type": "reft"}, "reft cannot be predicted"),
        ({"target_regex": "nothing"}, "no linear layer of qwen2 is called nothing"),
    ],
)
def test_why_nothing_is_predicted_is_said(make, said, why):
    plan = make(preset="none", **said)
    assert plan.peak is None
    (line,) = notes(plan)
    assert line.startswith("the memory is not predicted: ")
    assert why in line
