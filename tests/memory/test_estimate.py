"""The closed form agrees with traces, and moves the way memory does."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import CONFIGS

from tunekit.memory.card import MIB, cublas_workspace, cuda_context
from tunekit.memory.estimate import estimate
from tunekit.memory.geometry import Geometry
from tunekit.memory.optimizers import OPTIMIZERS
from tunekit.memory.spec import CHOICES, GIB, LOOPS, ZERO_STAGES, Spec, Unknown, loss_tokens
from tunekit.memory.targets import targeted
from tunekit.stages import PAIRS, STAGES, Stage

QWEN, LLAMA, QWEN3 = "Qwen/Qwen2.5-7B", "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-8B"
GPT, DENSE = "openai/gpt-oss-20b", "dense-20b"
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")

# Traces of the whole model (rank 8, all linear layers, dropout 0.05, checkpointing): allocated GiB.
# Loss share None: Liger.
PACKED = [
    (QWEN, "lora", 8, 1.0, 61.20),
    (QWEN, "lora", 8, 0.5, 40.32),
    (QWEN, "lora", 8, 0.25, 30.52),
    (QWEN, "lora", 8, None, 28.99),
    (QWEN, "qlora", 8, 1.0, 52.19),
    (QWEN, "qlora", 8, 0.25, 21.51),
    (QWEN, "qlora", 8, None, 19.98),
    (LLAMA, "lora", 6, 1.0, 46.50),
    (LLAMA, "lora", 6, 0.25, 27.22),
    (LLAMA, "lora", 6, None, 26.16),
    (QWEN3, "lora", 6, 1.0, 52.25),
    (QWEN3, "lora", 6, 0.25, 28.77),
    (QWEN3, "lora", 6, None, 26.62),
    (GPT, "lora", 2, 1.0, 53.71),
    (GPT, "lora", 2, 0.25, 43.35),
    (GPT, "lora", 2, None, 41.71),
    (DENSE, "lora", 2, 1.0, 44.97),
    (DENSE, "lora", 2, 0.25, 41.08),
    (DENSE, "lora", 2, None, 40.61),
    (DENSE, "qlora", 2, 1.0, 21.25),
    (DENSE, "qlora", 2, 0.25, 17.36),
]
SINGLE = [(QWEN, "lora", 18.39), (LLAMA, "lora", 18.75), (QWEN3, "lora", 19.67), (GPT, "lora", 43.93)]
SINGLE += [(DENSE, "lora", 38.22), (DENSE, "qlora", 14.50)]

# Measured on a T4 by the authors of fitcheck-llm: a plain loop in float16, rank 32 on attention, no dropout.
T4 = [
    ("HuggingFaceTB/SmolLM2-1.7B", "lora", 1, 2048, 4.8603),
    ("HuggingFaceTB/SmolLM2-1.7B", "lora", 4, 1024, 6.3757),
    ("HuggingFaceTB/SmolLM2-1.7B", "qlora", 1, 2048, 3.2673),
    ("HuggingFaceTB/SmolLM2-1.7B", "qlora", 4, 1024, 5.1575),
    ("HuggingFaceTB/SmolLM2-135M", "qlora", 1, 4096, 3.4929),
    ("Qwen/Qwen2.5-1.5B", "lora", 2, 1024, 7.2283),
    ("Qwen/Qwen2.5-1.5B", "qlora", 1, 2048, 6.6711),
]

specs = st.builds(
    Spec,
    config=st.sampled_from(list(CONFIGS.values())),
    tuner=st.sampled_from(["lora", "qlora", "full"]),
    kbit_prepare=st.booleans(),
    double_quant=st.booleans(),
    lora_rank=st.integers(1, 256),
    target_modules=st.sampled_from([("all-linear",), ("o_proj",), ("o_proj", "down_proj")]),
    lora_dropout=st.sampled_from([0.0, 0.05]),
    lora_dtype=st.sampled_from(CHOICES["lora_dtype"]),
    micro_batch=st.integers(1, 64),
    seq_len=st.integers(1, 40000),
    loss_share=st.floats(0, 1),
    packing=st.booleans(),
    gradient_checkpointing=st.booleans(),
    attn=st.sampled_from(CHOICES["attn"]),
    optimizer=st.sampled_from(list(OPTIMIZERS)),
    precision=st.sampled_from(CHOICES["precision"]),
    liger=st.booleans(),
    stage=st.sampled_from(list(STAGES)),
    gpus=st.integers(1, 16),
    sharding=st.sampled_from(CHOICES["sharding"]),
    expandable_segments=st.booleans(),
    outputs_kept=st.booleans(),
    accumulates=st.booleans(),
    capability=st.sampled_from([None, (7, 5), (9, 0)]),
)


def of(name, **settings):
    return Spec(config=CONFIGS[name], **settings)


@pytest.mark.parametrize(("name", "tuner", "micro", "share", "traced"), PACKED)
def test_packed_rows_agree_with_the_trace(name, tuner, micro, share, traced):
    spec = of(name, tuner=tuner, micro_batch=micro, seq_len=3072, packing=True, attn="flash")
    spec = replace(spec, liger=share is None, loss_share=share or 1.0)
    assert estimate(spec).allocated_gib == pytest.approx(traced, rel=0.002)


@pytest.mark.parametrize(("name", "tuner", "traced"), SINGLE)
def test_single_rows_agree_with_the_trace(name, tuner, traced):
    assert estimate(of(name, tuner=tuner)).allocated_gib == pytest.approx(traced, rel=0.002)


@pytest.mark.parametrize(("name", "tuner", "micro", "length", "measured"), T4)
def test_a_t4_allocates_as_much(name, tuner, micro, length, measured):
    spec = of(name, tuner=tuner, micro_batch=micro, seq_len=length, lora_rank=32, target_modules=ATTENTION)
    kbit = tuner == "qlora"
    spec = replace(spec, loop="plain", **LOOPS["plain"], precision="fp16", kbit_prepare=kbit, capability=(7, 5))
    assert estimate(spec).allocated_gib == pytest.approx(measured, rel=0.005)


@given(specs)
def test_the_parts_sum_up(spec):
    guess = estimate(spec)
    assert sum(guess.breakdown.values()) == pytest.approx(guess.allocated_gib)
    assert all(part >= 0 for part in guess.breakdown.values())
    assert guess.allocated_gib <= guess.reserved_gib < guess.process_gib
    assert guess.peak_at
    assert set(guess.breakdown) - {"vision"} == {
        *("weights", "adapter", "gradients", "optimizer", "checkpoints", "layer", "logits", "other")
    }
    assert ("vision" in guess.breakdown) == ("vision_config" in spec.config)


@given(specs, st.sampled_from(["micro_batch", "seq_len", "lora_rank"]), st.integers(1, 64))
def test_more_needs_no_less(spec, name, more):
    larger = replace(spec, **{name: getattr(spec, name) + more})
    assert estimate(larger).allocated_gib >= estimate(spec).allocated_gib * (1 - 1e-9)
    assert estimate(larger).reserved_gib >= estimate(spec).reserved_gib * (1 - 1e-9)


@given(specs, st.floats(0, 1))
def test_more_loss_needs_no_less(spec, share):
    low, high = sorted((spec.loss_share, share))
    assert estimate(replace(spec, loss_share=low)).allocated_gib <= estimate(
        replace(spec, loss_share=high)
    ).allocated_gib * (1 + 1e-9)


@given(specs)
def test_liger_never_needs_more(spec):
    plain = estimate(replace(spec, liger=False)).allocated_gib
    assert estimate(replace(spec, liger=True)).allocated_gib <= plain * (1 + 1e-9)


@given(specs)
def test_checkpoints_never_need_more(spec):
    without = estimate(replace(spec, gradient_checkpointing=False)).allocated_gib
    assert estimate(replace(spec, gradient_checkpointing=True)).allocated_gib <= without * (1 + 1e-9)


@given(specs)
def test_expandable_segments_never_need_more(spec):
    plain = estimate(replace(spec, expandable_segments=False)).reserved_gib
    assert estimate(replace(spec, expandable_segments=True)).reserved_gib <= plain * (1 + 1e-9)


def test_zero_shares_more_with_each_stage():
    parts = [estimate(of(QWEN, tuner="full", gpus=8, sharding=stage)).breakdown for stage in ZERO_STAGES]
    assert parts[1]["optimizer"] == pytest.approx(12 / 8 * 7.0925, rel=1e-3)
    assert parts[1]["gradients"] > 7 * parts[2]["gradients"]
    assert parts[2]["weights"] == pytest.approx(8 * parts[3]["weights"])


def test_states_of_optimizers_in_full_training():
    held = {name: estimate(of(QWEN, tuner="full", optimizer=name)).breakdown["optimizer"] for name in OPTIMIZERS}
    weights = estimate(of(QWEN, tuner="full")).breakdown["weights"]
    assert held["adamw_torch_fused"] == held["adamw_torch"] == pytest.approx(2 * weights)
    assert held["adamw_8bit"] == pytest.approx(weights, rel=0.02)
    assert held["sgd"] == 0
    assert held["adafactor"] < weights / 50
    assert estimate(of(QWEN, tuner="full", optimizer="adamw_torch")).allocated_gib > 10 * 7.09


def test_paged_states_stay_where_they_are_small():
    lora = of(QWEN, lora_rank=8, target_modules=ATTENTION)
    held = {name: estimate(replace(lora, optimizer=name)).breakdown["optimizer"] for name in OPTIMIZERS}
    assert held["paged_adamw_32bit"] == held["adamw_torch_fused"]  # no matrix of rank 8 has 100 000 numbers
    assert held["paged_adamw_8bit"] == held["adamw_8bit"]
    large = estimate(replace(lora, optimizer="paged_adamw_32bit", lora_rank=64)).breakdown["optimizer"]
    assert large < held["paged_adamw_32bit"]  # of rank 64, those on keys and values alone stay


def test_buckets_of_deepspeed():
    parts = [
        estimate(of(QWEN, gpus=2, sharding=stage, optimizer="sgd", seq_len=64)).breakdown["other"]
        for stage in ("none", "zero2")
    ]
    assert (parts[1] - parts[0]) * GIB == pytest.approx(2 * 2e8, rel=0.01)
    one = estimate(of(QWEN, tuner="full", gpus=2, sharding="zero2", seq_len=64))
    assert one.peak_at == "optimizer step"
    assert one.breakdown["other"] * GIB > 4 * 7.6e9 / 2  # gradients in float32


def test_one_micro_batch_a_step_has_no_gradients_yet():
    spec = of(QWEN, tuner="full", seq_len=16384)
    several, one = estimate(spec), estimate(replace(spec, accumulates=False))
    assert one.breakdown["gradients"] == 0
    assert several.allocated_gib - one.allocated_gib == pytest.approx(several.breakdown["weights"])
    short = estimate(replace(spec, accumulates=False, seq_len=256))
    assert short.breakdown["gradients"] == pytest.approx(short.breakdown["weights"])  # at the end they are all there
    lora = replace(spec, tuner="lora")
    assert estimate(replace(lora, accumulates=False)).allocated_gib == pytest.approx(
        estimate(lora).allocated_gib, rel=0.01
    )


def test_a_tied_head_waits_for_the_embedding():
    spec = of("Qwen/Qwen2.5-3B", tuner="full", liger=True, seq_len=1024)
    tied = estimate(spec)
    assert tied.peak_at == "gradient of the embedding"
    table = 2 * 151_936 * 2048 / GIB
    assert tied.breakdown["gradients"] - tied.breakdown["weights"] == pytest.approx(3 * table, rel=1e-3)


def test_the_card():
    parts = [estimate(of(QWEN, capability=capability)) for capability in (None, (7, 5), (8, 0), (9, 0))]
    beside = [round((part.process_gib - part.reserved_gib) * 1024, 3) for part in parts]
    assert beside == [600, 140.875, 600, 758]
    assert parts[3].allocated_gib - parts[2].allocated_gib == pytest.approx(2 * (32 - 8.125) / 1024)
    assert (cuda_context((7, 5)), cublas_workspace((9, 0))) == (140.875 * MIB, 32 * MIB)
    assert "assumption" in parts[0].notes[0]
    assert "measured" in parts[1].notes[0]


def test_the_longest_length_counts():
    several = estimate(of(QWEN, seq_len=512, lengths=(1024, 4096, 2048)))
    assert several.allocated_gib == estimate(of(QWEN, seq_len=4096)).allocated_gib
    assert "the longest of the lengths" in several.notes


def test_stages_without_dropout_keep_no_copies():
    layers = {"loss_share": 0.01, "seq_len": 4096}
    dropped = estimate(of(QWEN, stage="orpo", **layers)).breakdown["layer"]
    assert dropped == estimate(of(QWEN, stage="orpo", lora_dropout=0.0, **layers)).breakdown["layer"]
    assert estimate(of(QWEN, **layers)).breakdown["layer"] * 2 > dropped


def test_liger_makes_no_logits_only_where_it_computes_the_loss():
    assert estimate(of(QWEN, liger=True, stage="dpo")).breakdown["logits"] > 1
    assert estimate(of(QWEN, liger=True)).breakdown["logits"] < 0.2


def test_quantized_weights():
    linear, rest = 6_525_288_448, 2 * 152_064 * 3584
    four = estimate(of(QWEN, tuner="qlora")).breakdown["weights"] * 2**30
    assert four == pytest.approx(linear * (0.5 + 1 / 64 + 4 / 16384) + 2 * rest, rel=1e-3)
    once = estimate(of(QWEN, tuner="qlora", double_quant=False)).breakdown["weights"] * 2**30
    assert once == pytest.approx(linear * 0.5625 + 2 * rest, rel=1e-3)
    wide = estimate(of(QWEN, tuner="qlora", kbit_prepare=True)).breakdown["weights"] * 2**30
    assert wide - four == pytest.approx(2 * rest, rel=1e-3)
    eight = estimate(of(QWEN, tuner="qlora", quant_bits=8)).breakdown["weights"] * 2**30
    assert eight == pytest.approx(linear + 2 * rest, rel=2e-3)


def test_experts_are_not_quantized():
    lora, qlora = (estimate(of(GPT, tuner=tuner)).breakdown["weights"] for tuner in ("lora", "qlora"))
    assert 0.9 * lora < qlora < lora
    assert any("fuses experts" in note for note in estimate(of(GPT, tuner="qlora")).notes)


def test_pairs_are_two_rows_and_hold_more():
    sft = estimate(of(QWEN, micro_batch=2, packing=True, attn="flash")).allocated_gib
    dpo = estimate(of(QWEN, micro_batch=1, packing=True, attn="flash", stage="dpo")).allocated_gib
    assert (sft, dpo) == (pytest.approx(22.2, rel=0.01), pytest.approx(24.5, rel=0.01))
    copies = [estimate(of(QWEN, tuner="full", stage=stage)).breakdown["weights"] for stage in ("sft", "dpo", "ppo")]
    assert copies[1:] == [pytest.approx(2 * copies[0]), pytest.approx(4 * copies[0])]


def test_eager_attention_grows_with_the_square():
    short, long = (estimate(of(LLAMA, attn="eager", seq_len=length)) for length in (8192, 16384))
    assert long.breakdown["layer"] > 3.5 * short.breakdown["layer"]
    assert long.peak_at == "backward of attention"


def test_tokens_that_get_logits():
    one = of(QWEN, loss_share=0.25, seq_len=1000)
    assert loss_tokens(one, 1) == 250
    assert loss_tokens(replace(one, packing=True), 8) == 2000
    assert 2000 < loss_tokens(one, 8) < 8000
    assert loss_tokens(replace(one, loss_share=0.0), 1) == 1


def test_adapters_on_named_modules():
    geometry = Geometry.from_config(CONFIGS[QWEN])
    named = targeted(of(QWEN, target_modules=("model.layers.0.self_attn.q_proj", "v_proj")), geometry)
    assert [linear.name for linear in named] == ["q_proj", "v_proj"]


@pytest.mark.parametrize(
    ("change", "word"), [({"target_modules": ("c_attn",)}, "c_attn"), ({"optimizer": "shampoo"}, "shampoo")]
)
def test_what_is_not_known_is_named(change, word):
    with pytest.raises(Unknown, match=word):
        estimate(of(QWEN, **change))


def test_a_new_stage_is_a_row(monkeypatch):
    dream = Stage("dream", "sft", "To dream.", rows=PAIRS, reference=True, teacher=True, drops_out=True)
    monkeypatch.setitem(STAGES, "dream", dream)
    spec = Spec.from_json({"config": CONFIGS[QWEN], "stage": "dream", "tuner": "full"})
    found, sft = estimate(spec), estimate(replace(spec, stage="sft"))
    assert found.breakdown["weights"] == 2 * sft.breakdown["weights"], "the model of before stands beside it"
    assert found.breakdown["checkpoints"] == 2 * sft.breakdown["checkpoints"], "a row is two texts"
    assert {"dream was not traced: rough", "the teacher's weights are not counted"} <= set(found.notes)
