"""Evaluations: their own batch, whole logits, and which of training and evaluation is the peak."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import CONFIGS

from tunekit.memory.estimate import estimate
from tunekit.memory.evaluation import evaluation_moments
from tunekit.memory.geometry import Geometry
from tunekit.memory.search import levers
from tunekit.memory.spec import CHOICES, GIB, Spec
from tunekit.stages import STAGES

QWEN = CONFIGS["Qwen/Qwen2.5-7B"]
LIGER = Spec(config=QWEN, liger=True, evaluates=True, eval_batch=4, micro_batch=4, expandable_segments=True)

evaluated = st.builds(
    Spec,
    config=st.sampled_from(list(CONFIGS.values())),
    stage=st.sampled_from(list(STAGES)),
    tuner=st.sampled_from(CHOICES["tuner"]),
    micro_batch=st.integers(1, 16),
    seq_len=st.integers(1, 8000),
    loss_share=st.floats(0, 1),
    liger=st.booleans(),
    packing=st.booleans(),
    attn=st.sampled_from(CHOICES["attn"]),
    evaluates=st.just(True),
    eval_batch=st.integers(1, 64),
    eval_generates=st.booleans(),
    eval_logits=st.booleans(),
    completion_len=st.sampled_from([0, 64, 2000]),
    expandable_segments=st.booleans(),
)


def test_liger_makes_the_logits_when_it_evaluates():
    found = estimate(LIGER)
    assert found.peak_at == "evaluation, whole logits"
    assert found.breakdown["logits"] == pytest.approx((10 * 152_064 + 4 * 3584) * 4 * 2048 / GIB)
    assert found.breakdown["gradients"] == 0, "they are dropped after a step"
    assert (
        estimate(replace(LIGER, eval_logits=False)).allocated_gib
        == estimate(replace(LIGER, evaluates=False)).allocated_gib
    )


def test_an_evaluation_of_the_training_batch_needs_no_more_where_training_makes_logits():
    spec = replace(LIGER, liger=False)
    assert estimate(spec) == replace(estimate(replace(spec, evaluates=False)), notes=estimate(spec).notes)


def test_its_own_batch_counts():
    spec = replace(LIGER, liger=False, micro_batch=1, eval_batch=64)
    assert estimate(spec).peak_at.startswith("evaluation")
    assert {"no evaluation", "evaluation batch 1"} <= {lever.name for lever in levers(spec)}


def test_answers_are_written_instead_of_logits():
    spec = replace(LIGER, eval_generates=True, completion_len=64)
    found = evaluation_moments(spec, Geometry.from_config(QWEN))
    assert found["evaluation, writing answers"]["cache"] == 2 * 2 * 28 * 512 * 4 * (2048 + 64)
    assert "evaluation, whole logits" not in found


def test_a_pair_is_two_rows():
    whole = {"loss_share": 1.0, "eval_batch": 1}
    one, two = (
        evaluation_moments(replace(LIGER, stage=stage, **whole), Geometry.from_config(QWEN)) for stage in ("kto", "dpo")
    )
    name = "evaluation, a layer"
    assert two[name]["layer"] > 1.9 * one[name]["layer"]


def test_without_expandable_segments_the_logits_find_no_block():
    """ms-swift's agent example (docs/memory.md): with an evaluation it was traced to 29.7, 33.2 and 39.0 GiB."""
    config = CONFIGS["Qwen/Qwen2.5-3B"]
    spec = replace(LIGER, config=config, tuner="full", seq_len=8192, micro_batch=1, eval_batch=1, packing=True)
    spec = replace(spec, attn="flash", expandable_segments=False)
    for share, traced in ((0.25, 29.7), (0.5, 33.2), (1.0, 39.0)):
        assert estimate(replace(spec, loss_share=share)).reserved_gib == pytest.approx(traced, rel=0.06)


@given(evaluated)
def test_the_peak_is_the_larger_of_both(spec):
    found, training = estimate(spec), estimate(replace(spec, evaluates=False))
    assert found.allocated_gib >= training.allocated_gib
    assert sum(found.breakdown.values()) == pytest.approx(found.allocated_gib)
    if found.allocated_gib > training.allocated_gib * (1 + 1e-9):
        assert found.peak_at.startswith("evaluation, ")


@given(evaluated, st.integers(1, 64))
def test_more_rows_need_no_less(spec, more):
    larger = estimate(replace(spec, eval_batch=spec.eval_batch + more))
    assert larger.process_gib >= estimate(spec).process_gib * (1 - 1e-9)
