"""Several GPUs: what they share, what each holds beside it, and what leaves them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import CONFIGS

from tunekit.errors import TunekitError
from tunekit.memory.estimate import estimate
from tunekit.memory.geometry import Geometry
from tunekit.memory.sharding import among, first_fsdp, held_back, off_gpu
from tunekit.memory.spec import CHOICES, GIB, LOOPS, OFFLOADED_BY, OFFLOADS, Spec

QWEN, LLAMA, MIXTRAL = "Qwen/Qwen2.5-7B", "meta-llama/Llama-3.1-8B", "mistralai/Mixtral-8x7B"
SHARED = ("zero1", "zero2", "zero3", "fsdp1", "fsdp2")

sharded = st.builds(
    Spec,
    config=st.sampled_from([config for config in CONFIGS.values() if config.get("hidden_size", 0) > 1024]),
    tuner=st.sampled_from(["lora", "qlora", "full"]),
    lora_rank=st.integers(1, 64),
    micro_batch=st.integers(1, 8),
    seq_len=st.integers(16, 20000),
    loss_share=st.floats(0, 1),
    gradient_checkpointing=st.booleans(),
    optimizer=st.sampled_from(["adamw_torch", "adamw_torch_fused", "sgd"]),
    liger=st.booleans(),
    sharding=st.sampled_from(SHARED),
    gpus=st.sampled_from([2, 4, 8, 16]),
    accumulates=st.booleans(),
    autocast=st.booleans(),
    transformers=st.sampled_from([None, "4.48", "5.2"]),
)


def of(name, **settings):
    return Spec(config=CONFIGS[name], **settings)


# Measured with accelerate's first FSDP on A100s (fms-acceleration): Llama-3-8B, packed rows of 4096, rank 16 on
# attention, dropout 0.1, one micro-batch a step, the loss of Liger and its norms: allocated GiB.
FSDP = [
    ("full", 4, 2, 74.804),
    ("full", 8, 4, 41.035),
    ("full", 16, 4, 56.165),
    ("lora", 4, 2, 21.778),
    ("lora", 16, 2, 57.228),
    ("lora", 8, 4, 29.806),
    ("qlora", 4, 2, 16.624),
    ("qlora", 16, 4, 50.393),
]


@pytest.mark.parametrize(("tuner", "micro", "gpus", "measured"), FSDP)
def test_the_first_fsdp_allocates_as_much_as_was_measured(tuner, micro, gpus, measured):
    spec = of(LLAMA, tuner=tuner, micro_batch=micro, gpus=gpus, sharding="fsdp2", transformers="4.48", seq_len=4096)
    spec = replace(spec, packing=True, attn="flash", lora_rank=16, lora_dropout=0.1, optimizer="adamw_torch")
    spec = replace(spec, target_modules=("q_proj", "k_proj", "v_proj", "o_proj"), liger=True, liger_mlp=False)
    assert estimate(replace(spec, accumulates=False)).allocated_gib == pytest.approx(measured, rel=0.025)


@given(sharded)
def test_more_gpus_never_need_more(spec):
    more = replace(spec, gpus=2 * spec.gpus)
    assert estimate(more).allocated_gib <= estimate(spec).allocated_gib * (1 + 1e-9)


@given(sharded.filter(lambda spec: spec.sharding in ("zero1", "zero2") and spec.tuner == "full"))
def test_a_higher_stage_of_zero_never_needs_more(spec):
    higher = replace(spec, sharding={"zero1": "zero2", "zero2": "zero3"}[spec.sharding])
    assert estimate(higher).allocated_gib <= estimate(spec).allocated_gib * (1 + 1e-9)


@given(sharded)
def test_the_second_fsdp_never_needs_more_than_the_first(spec):
    first, second = (replace(spec, sharding="fsdp2", transformers=version) for version in ("4.50.1", "4.51.0"))
    if spec.tuner != "full":  # a trained head is reduced apart, which takes a copy of its gradient
        assert estimate(second).allocated_gib <= estimate(first).allocated_gib * (1 + 1e-9)
    assert (first_fsdp(first), first_fsdp(second)) == (True, False)


@given(sharded, st.sampled_from(OFFLOADS))
def test_what_is_offloaded_never_needs_more(spec, part):
    if spec.sharding in OFFLOADED_BY.get(part, SHARED):
        gone = replace(spec, offload=(part,))
        gone.check()
        assert estimate(gone).allocated_gib <= estimate(spec).allocated_gib * (1 + 1e-9)


@given(sharded, st.sampled_from(["sequence_parallel", "tensor_parallel"]))
def test_divided_rows_and_layers_never_need_more(spec, way):
    divided = replace(spec, sharding="none", **{way: 2})
    assert estimate(divided).allocated_gib <= estimate(replace(spec, sharding="none")).allocated_gib * (1 + 1e-9)


@given(sharded, st.sampled_from(["micro_batch", "seq_len", "lora_rank"]), st.integers(1, 64))
def test_more_needs_no_less(spec, name, more):
    larger = replace(spec, **{name: getattr(spec, name) + more})
    assert estimate(larger).allocated_gib >= estimate(spec).allocated_gib * (1 - 1e-9)


@given(sharded, st.sets(st.sampled_from(OFFLOADS)), st.sampled_from(CHOICES["device_map"]))
def test_the_parts_sum_up(spec, offload, device_map):
    spec = replace(spec, offload=tuple(sorted(offload)), device_map=device_map)
    found = estimate(spec)
    assert sum(found.breakdown.values()) == pytest.approx(found.allocated_gib)
    assert all(part >= 0 for part in found.breakdown.values())
    assert found.allocated_gib <= found.reserved_gib < found.process_gib


def test_fsdp_keeps_trained_weights_in_float32_under_mixed_precision():
    spec = of(QWEN, tuner="full", gpus=4, sharding="fsdp2", transformers="5.2")
    mixed, plain = estimate(spec).breakdown, estimate(replace(spec, autocast=False)).breakdown
    numbers = Geometry.from_config(CONFIGS[QWEN]).parameters
    assert mixed["weights"] * GIB == pytest.approx(4 * numbers / 4)
    assert plain["weights"] * GIB == pytest.approx(2 * numbers / 4)
    assert (mixed["optimizer"], plain["optimizer"]) == (2 * mixed["weights"], 2 * plain["weights"])


def test_only_the_first_fsdp_holds_inputs_of_frozen_layers():
    first = of(LLAMA, gpus=2, sharding="fsdp1")
    assert held_back(first, 10, 32) == 300
    for other in (replace(first, sharding="zero3"), replace(first, tuner="full"), replace(first, gpus=1)):
        assert held_back(other, 10, 32) == 0
    unsaid = replace(first, sharding="fsdp2")
    assert first_fsdp(unsaid), "a version that is not known is taken to need more"
    assert not first_fsdp(replace(unsaid, transformers="5.0.0"))


def test_four_bit_weights_are_divided_only_where_they_are_stored_as_floats():
    spec = of(QWEN, tuner="qlora", gpus=4, sharding="fsdp2", transformers="5.2")
    shared, whole = (estimate(replace(spec, quant_shared=able)).breakdown["weights"] for able in (True, False))
    assert whole == pytest.approx(4 * shared)


def test_what_leaves_the_gpu():
    full = of(QWEN, tuner="full", gpus=8, sharding="zero3", seq_len=1024)
    here, states, all_gone = (
        estimate(replace(full, offload=parts)).breakdown for parts in ((), OFFLOADS[:1], OFFLOADS[:2])
    )
    assert here["optimizer"] > 0 == states["optimizer"] == states["gradients"]
    assert states["weights"] == here["weights"] > 0 == all_gone["weights"]
    together = replace(full, sharding="fsdp2", offload=("optimizer",))
    assert off_gpu(together, "parameters"), "FSDP offloads both or none"
    assert not off_gpu(together, "activations")
    kept = estimate(replace(full, offload=("activations",), seq_len=32000)).breakdown["checkpoints"]
    assert kept == pytest.approx(2 * 2 * 3584 * 32000 / GIB)


def test_one_model_over_several_gpus():
    one, four = (estimate(of(QWEN, gpus=gpus, device_map="auto")) for gpus in (1, 4))
    assert four.breakdown["weights"] == pytest.approx(one.breakdown["weights"] / 4)
    assert four.breakdown["logits"] == one.breakdown["logits"]
    assert among(of(QWEN, gpus=8, tensor_parallel=4)) == 2


def test_experts_of_transformers_4_are_quantized():
    old, new = (estimate(of(MIXTRAL, tuner="qlora", transformers=version)) for version in ("4.48", "5.1"))
    assert 3 * old.breakdown["weights"] < new.breakdown["weights"]
    assert old.breakdown["weights"] == pytest.approx(22.8, rel=0.01), "46.7 billion numbers, of half a byte"
    assert old.breakdown["adapter"] > 8 * new.breakdown["adapter"], "each expert has adapters"
    assert any("one by one" in note for note in old.notes)
    gpt = of("openai/gpt-oss-20b", tuner="qlora")
    fused = [estimate(replace(gpt, transformers=version)).breakdown["weights"] for version in ("4.57", "5.1")]
    assert fused[0] == fused[1], "gpt-oss has always had them in one parameter"


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_stage_of_zero_is_a_sharding(stage):
    spec = Spec.from_json({"config": CONFIGS[QWEN], "zero_stage": stage, "gpus": 2})
    assert (spec.sharding, spec.zero_stage) == (("none", "zero1", "zero2", "zero3")[stage], stage)


def test_what_a_loop_sets_is_overridden_by_what_is_said():
    plain = Spec.from_json({"config": CONFIGS[QWEN], "loop": "plain"})
    assert {name: getattr(plain, name) for name in LOOPS["plain"]} == LOOPS["plain"]
    said = Spec.from_json({"config": CONFIGS[QWEN], "loop": "plain", "lora_dropout": 0.1, "accumulates": True})
    assert (said.lora_dropout, said.accumulates, said.autocast) == (0.1, True, False)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"zero_stage": 2, "sharding": "fsdp2"}, "contradict"),
        ({"zero_stage": True}, "zero_stage"),
        ({"zero_stage": 4}, "zero_stage"),
        ({"sharding": "fsdp"}, "sharding"),
        ({"offload": ["disk"]}, "offload"),
        ({"offload": "optimizer"}, "offload"),
        ({"offload": ["parameters"], "sharding": "zero2"}, "zero3"),
        ({"offload": ["optimizer"]}, "zero1"),
        ({"loop": "mine"}, "loop"),
        ({"loop": ["plain"]}, "loop"),
        ({"transformers": "new"}, "4.48"),
        ({"transformers": 4.48}, "4.48"),
        ({"gpus": 3, "sequence_parallel": 2}, "multiple"),
        ({"device_map": "auto", "sharding": "zero2", "gpus": 2}, "device_map"),
    ],
)
def test_impossible_words_are_named(change, word):
    with pytest.raises(TunekitError, match=word):
        Spec.from_json({"config": CONFIGS[QWEN], **change})
