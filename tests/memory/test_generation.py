"""Answers that are written, scored and taught: what is there meanwhile, counted by hand."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import CONFIGS

from tunekit.memory.estimate import estimate
from tunekit.memory.generation import PROBABILITIES, READ, WRITTEN, rollout_moments
from tunekit.memory.geometry import Geometry
from tunekit.memory.spec import CHOICES, GIB, Spec, loss_tokens
from tunekit.stages import STAGES

QWEN, SMALL = CONFIGS["Qwen/Qwen2.5-7B"], CONFIGS["Qwen/Qwen2.5-3B"]
GRPO = Spec(config=QWEN, stage="grpo", micro_batch=8, seq_len=512, completion_len=512, generations=32)
WRITERS = [name for name, stage in STAGES.items() if stage.generates]

writers = st.builds(
    Spec,
    config=st.sampled_from([QWEN, SMALL, CONFIGS["openai/gpt-oss-20b"]]),
    stage=st.sampled_from(WRITERS),
    tuner=st.sampled_from(CHOICES["tuner"]),
    micro_batch=st.integers(1, 16),
    seq_len=st.integers(1, 8000),
    completion_len=st.integers(1, 8000),
    generations=st.integers(0, 256),
    local_rollout_forward_batch_size=st.integers(1, 64),
    beta=st.sampled_from([None, 0, 0.04, 1]),
    attn=st.sampled_from(CHOICES["attn"]),
    liger=st.booleans(),
    packing=st.booleans(),
    gpus=st.integers(1, 8),
    vllm_mode=st.sampled_from(CHOICES["vllm_mode"]),
    vllm_gib=st.sampled_from([0.0, 20.0]),
    sleep_level=st.sampled_from(CHOICES["sleep_level"]),
    teacher=st.sampled_from([None, SMALL]),
    teacher_offload=st.booleans(),
    rewards=st.sampled_from([(), (SMALL,), (SMALL, QWEN)]),
    evaluates=st.booleans(),
    eval_batch=st.integers(1, 64),
    expandable_segments=st.booleans(),
)


def moments(spec):
    whole = replace(spec, seq_len=spec.longest)
    return rollout_moments(whole, Geometry.from_config(spec.config))


def test_a_longer_answer_needs_its_logits():
    short, long = (estimate(replace(GRPO, completion_len=length)) for length in (512, 2048))
    assert long.peak_at == "backward of the loss"
    logits = 16 * 152_064 * 8 * (2048 - 512) / GIB
    assert long.breakdown["logits"] - short.breakdown["logits"] == pytest.approx(logits, rel=0.02)


def test_the_cache_is_of_all_answers_at_once():
    found = moments(GRPO)
    layers, keys, length = 28, 4 * 128, 1024
    assert found[WRITTEN]["cache"] == 2 * 2 * layers * keys * 32 * length
    assert found[READ]["cache"] == found[WRITTEN]["cache"] / 2
    assert moments(replace(GRPO, generations=0))[WRITTEN]["cache"] == found[WRITTEN]["cache"] / 4
    short = estimate(replace(GRPO, completion_len=16))
    assert short.peak_at == READ
    assert short.breakdown["cache"] > 0


def test_liger_spares_no_logits_of_the_model_before():
    spec = replace(GRPO, completion_len=8192, liger=True)
    found = estimate(spec)
    assert found.peak_at == PROBABILITIES
    assert found.breakdown["logits"] == pytest.approx(6 * 152_064 * 8 * 8193 / GIB, rel=0.02)


def test_vllm_writes_elsewhere_or_on_the_same_gpu():
    away = estimate(replace(GRPO, vllm_mode="server"))
    assert not {READ, WRITTEN} & moments(replace(GRPO, vllm_mode="server")).keys()
    here = estimate(replace(GRPO, vllm_mode="colocate", vllm_gib=30))
    assert here.process_gib == pytest.approx(away.process_gib + 30)
    asleep = estimate(replace(GRPO, vllm_mode="colocate", vllm_gib=30, sleep_level=1))
    assert away.process_gib < asleep.process_gib < here.process_gib
    assert asleep.reserved_gib == away.reserved_gib
    assert estimate(replace(GRPO, vllm_mode="colocate", vllm_gib=1, sleep_level=1)).process_gib == away.process_gib


def test_ppo_keeps_the_logits_of_every_answer():
    spec = replace(GRPO, stage="ppo", micro_batch=1, local_rollout_forward_batch_size=8)
    logits = 4 * 152_064 * 512 * 32
    assert moments(spec)[PROBABILITIES]["logits"] == logits + 2 * 152_064 * 8 * 1024
    assert "ms-swift leaves gradient checkpointing off here" in estimate(spec).notes
    off = replace(spec, gradient_checkpointing=False)
    assert estimate(off).allocated_gib == estimate(spec).allocated_gib


def test_tokens_of_answers_get_logits():
    whole = replace(GRPO, seq_len=GRPO.longest)
    assert loss_tokens(whole, 8) == 8 * 513
    assert loss_tokens(replace(whole, packing=True), 8) == 8 * 1024 - 512
    assert loss_tokens(replace(whole, stage="ppo"), 8) == 8 * 1024
    assert loss_tokens(replace(whole, stage="gkd", loss_share=1), 1) == 513


@given(writers)
def test_the_parts_sum_up(spec):
    found = estimate(spec)
    assert sum(found.breakdown.values()) == pytest.approx(found.allocated_gib)
    assert all(part >= 0 for part in found.breakdown.values())
    assert found.allocated_gib <= found.reserved_gib < found.process_gib


@given(
    writers,
    st.sampled_from(["completion_len", "generations", "eval_batch", "micro_batch", "seq_len", "vllm_gib"]),
    st.integers(1, 64),
)
def test_more_needs_no_less(spec, name, more):
    found, larger = estimate(spec), estimate(replace(spec, **{name: getattr(spec, name) + more}))
    assert larger.allocated_gib >= found.allocated_gib * (1 - 1e-9)
    assert larger.process_gib >= found.process_gib * (1 - 1e-9)


@given(writers)
def test_one_more_scorer_needs_no_less(spec):
    more = replace(spec, rewards=(*spec.rewards, SMALL)) if spec.rewards or spec.stage != "ppo" else spec
    assert estimate(more).process_gib >= estimate(spec).process_gib * (1 - 1e-9)


@given(writers)
def test_sleep_never_needs_more(spec):
    awake = estimate(replace(spec, sleep_level=0))
    assert estimate(replace(spec, sleep_level=1)).process_gib <= awake.process_gib * (1 + 1e-9)
