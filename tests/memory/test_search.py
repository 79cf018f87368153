"""The prediction asked backwards: what fits, and what helps where nothing does."""

from dataclasses import replace

import pytest

from tunekit.memory.estimate import estimate
from tunekit.memory.search import FITS, NOT, TIGHT, largest_micro_batch, levers, verdict
from tunekit.memory.spec import Prediction, Spec
from tunekit.plan.models.config import config_of
from tunekit.plan.models.find import resolve

CONFIG = config_of(resolve("Qwen2.5-7B"))
SPEC = Spec(CONFIG, micro_batch=8, seq_len=3072, packing=True, attn="flash", loss_share=0.25, expandable_segments=True)


@pytest.mark.parametrize("card", [16, 24, 40, 80])
def test_the_largest_micro_batch_fits_and_one_more_does_not(card):
    found = largest_micro_batch(SPEC, card)
    if found:
        assert verdict(estimate(replace(SPEC, micro_batch=found)), card) == FITS
    assert verdict(estimate(replace(SPEC, micro_batch=found + 1)), card) != FITS


def test_levers_save_what_they_say():
    before = estimate(SPEC).process_gib
    found = levers(SPEC)
    assert found
    for lever in found:
        assert lever.needs_gib == pytest.approx(estimate(lever.spec).process_gib)
        assert lever.saves_gib == pytest.approx(before - lever.needs_gib)
    assert [lever.saves_gib for lever in found] == sorted((lever.saves_gib for lever in found), reverse=True)


def test_tight_is_between_the_tensors_and_the_allocator():
    prediction = Prediction(10.0, 14.0, 14.6, {"weights": 10.0}, "estimate")
    assert verdict(prediction, 14.6) == FITS
    assert verdict(prediction, 14.0) == TIGHT
    assert verdict(prediction, 10.5) == NOT
