"""Configurations of DeepSpeed and FSDP that a flag names are read before anything starts."""

import json

import pytest

from tunekit.errors import TunekitError
from tunekit.plan.deepspeed import shared_by
from tunekit.plan.settings import COMMAND_LINE, Setting

STAGE_3 = {"zero_optimization": {"stage": 3}, "train_batch_size": "auto"}


def written(folder, document):
    path = folder / "ds.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return str(path)


def test_the_stage_of_a_file_counts(make, tmp_path):
    path = written(tmp_path, STAGE_3)
    plan = make(gpus="8x80GB", preset="7b", deepspeed=path)
    assert plan.zero_stage == 3
    assert plan.peak == make(gpus="8x80GB", preset="7b", deepspeed="zero3").peak
    assert make(gpus="8x80GB", preset="7b", deepspeed=json.dumps(STAGE_3)).zero_stage == 3
    with pytest.raises(TunekitError, match="4-bit weights and DeepSpeed ZeRO-3"):
        make(gpus="8x80GB", preset="7b", deepspeed=path, quant_method="bnb", quant_bits="4")


@pytest.mark.parametrize("stage", [None, "3", 7, True, [3], {}])
def test_a_stage_that_is_none_counts_as_none(make, tmp_path, stage):
    path = written(tmp_path, {"zero_optimization": {"stage": stage}})
    assert make(preset="7b", deepspeed=path).zero_stage == 0
    assert make(preset="7b", deepspeed=written(tmp_path, {"zero_optimization": stage})).zero_stage == 0


@pytest.mark.parametrize(
    ("name", "number", "ours"),
    [
        ("train_micro_batch_size_per_gpu", 4, 8),
        ("gradient_accumulation_steps", 8, 2),
        ("train_batch_size", 16, 32),
        ("train_batch_size", "x" * 900, 32),
    ],
)
@pytest.mark.parametrize("preset", ["7b", "auto"])
def test_numbers_of_the_batch_that_contradict_ours(make, tmp_path, name, number, ours, preset):
    micro = Setting(8, COMMAND_LINE)
    path = written(tmp_path, STAGE_3 | {name: number})
    with pytest.raises(TunekitError, match=f"{name} is ") as refused:
        make(gpus="2x80GB", preset=preset, micro=micro, deepspeed=path)
    assert f"the plan has {ours}" in refused.value.message
    assert len(refused.value.message) < 300
    assert f'"{name}": "auto"' in refused.value.hint
    same = written(tmp_path, STAGE_3 | {name: ours})
    assert make(gpus="2x80GB", preset=preset, micro=micro, deepspeed=same).batch.micro == 8


@pytest.mark.parametrize(
    ("flag", "word", "says", "hint"),
    [
        ("deepspeed", "no/such.json", "there is no such file", "zero3_offload"),
        ("deepspeed", "zero4", "there is no such file", "did you mean"),
        ("deepspeed", "~nobody-here/ds.json", "there is no such file", ""),
        ("deepspeed", "a" * 5000, "there is no such file", ""),
        ("deepspeed", ".", "there is no such file", ""),
        ("deepspeed", "{'a': 1}", "line 1 is not valid JSON", ""),
        ("deepspeed", "{" * 100000, "not valid JSON", ""),
        ("fsdp", "no.json", "there is no such file", "fsdp2"),
        ("fsdp", "fsdp3", "there is no such file", "fsdp2"),
    ],
)
def test_a_configuration_that_is_not_there(make, flag, word, says, hint):
    with pytest.raises(TunekitError, match=f"^--{flag} ") as refused:
        make(gpus="2x80GB", preset="7b", **{flag: word})
    assert says in refused.value.message
    assert len(refused.value.message) < 300
    assert hint in (refused.value.hint or "")


@pytest.mark.parametrize("text", ["[1]", "7", "", "{", "[" * 100000, '{"a": 1' + " " * 1_000_001 + "}"])
def test_a_file_that_is_no_configuration(make, tmp_path, text):
    with pytest.raises(TunekitError, match=r"^--deepspeed .*ds\.json"):
        make(preset="7b", deepspeed=written(tmp_path, text))


def test_fsdp_stands_alone(make):
    plan = make(model="Qwen2.5-72B", gpus="4x80GB", fsdp="fsdp2")
    assert plan.get("deepspeed") is None
    assert plan.sharded == 3
    assert plan.zero_stage == 0
    assert make(model="Qwen2.5-72B", gpus="4x80GB").get("deepspeed") is not None
    with pytest.raises(TunekitError, match="--deepspeed zero2 cannot be kept: ms-swift takes either"):
        make(gpus="2x80GB", preset="7b", fsdp="fsdp2", deepspeed="zero2")


def test_fsdp_shares_what_zero_3_shares(make):
    alone, shared = make(gpus="4x80GB", preset="7b").peak, make(gpus="4x80GB", preset="7b", fsdp="fsdp2").peak
    assert shared.prediction.process_gib < alone.prediction.process_gib


CPU = {"device": "cpu"}
OFF = {"zero_optimization": {"stage": 3, "offload_optimizer": CPU, "offload_param": {"device": "none"}}}


@pytest.mark.parametrize(
    ("deepspeed", "fsdp", "sharding", "offload"),
    [
        ("", None, "none", ()),
        ("zero0", None, "none", ()),
        ("zero2", None, "zero2", ()),
        ("zero2_offload", None, "zero2", ("optimizer",)),
        ("zero3_offload", None, "zero3", ("optimizer", "parameters")),
        (json.dumps(OFF), None, "zero3", ("optimizer",)),
        (json.dumps({"zero_optimization": {"stage": 2, "offload_param": CPU}}), None, "zero2", ()),
        ("no/such.json", None, "none", ()),
        ("", "fsdp2", "fsdp2", ()),
        ("", json.dumps({"fsdp": "full_shard offload"}), "fsdp2", ("optimizer", "parameters")),
        ("", json.dumps({"fsdp_config": {"fsdp_version": 1}}), "fsdp1", ()),
        ("", json.dumps({"fsdp_config": {"activation_cpu_offload": True}}), "fsdp2", ("activations",)),
        ("", "no/such.json", "fsdp2", ()),
    ],
)
def test_what_gpus_share_and_what_leaves_them(deepspeed, fsdp, sharding, offload):
    assert shared_by(deepspeed, fsdp) == (sharding, offload)


def test_offloading_counts_in_the_peak(make):
    plans = [make(gpus="8x80GB", preset="7b", tuner_type="full", deepspeed=name) for name in ("zero3", "zero3_offload")]
    assert plans[1].peak.spec.offload == ("optimizer", "parameters")
    assert plans[1].peak.prediction.allocated_gib < plans[0].peak.prediction.allocated_gib - 10
