"""Plan → memory of models that see: what learns, how large images are, what is computed again."""

from dataclasses import replace

import pytest

from tunekit.memory.spec import PIXELS, Spec
from tunekit.plan.models.config import config_of
from tunekit.plan.predict import image_pixels, peak_of, spec_of
from tunekit.plan.strategies import Tuning

SEES, TEXT = "Qwen2.5-VL-7B-Instruct", "Qwen2.5-7B"


@pytest.mark.parametrize(
    ("strategy", "tuner", "trains", "vit_tuner"),
    [
        ("lora", "lora", ("llm",), None),
        ("qlora", "qlora", ("llm",), None),
        ("full", "full", ("llm", "vit", "aligner"), None),
        ("lora_all", "lora", ("llm", "vit", "aligner"), None),
        ("lora_llm_full_vit", "lora", ("llm", "vit", "aligner"), "full"),
        ("llm_only", "full", ("llm",), None),
        ("vit_only", "full", ("vit", "aligner"), None),
        ("vit_frozen_aligner", "full", ("vit",), None),
        ("aligner_only", "full", ("aligner",), None),
    ],
)
def test_a_strategy_says_what_learns(make, strategy, tuner, trains, vit_tuner):
    plan = make(model=SEES, gpus="8x80GB", tuning=Tuning(strategy))
    spec = spec_of(plan, config_of(plan.model))
    assert (spec.tuner, spec.trains, spec.vit_tuner) == (tuner, trains, vit_tuner)
    assert peak_of(plan).prediction.breakdown["vision"] > 0


def test_less_that_learns_takes_less(make):
    takes = [
        peak_of(make(model=SEES, gpus="8x80GB", preset="7b", tuning=Tuning(strategy))).prediction.process_gib
        for strategy in ("full", "llm_only", "vit_only", "aligner_only")
    ]
    assert takes == sorted(takes, reverse=True)
    assert takes[1] > 1.5 * takes[2]  # before, a frozen language model was counted as one that learns


def test_a_text_model_says_nothing_of_images(make):
    plan = make(model=TEXT)
    spec = spec_of(plan, config_of(plan.model))
    assert (spec.trains, spec.images, spec.pixels) == (("llm",), 1, Spec(config={}).pixels)
    assert "vision" not in peak_of(plan).prediction.breakdown


def test_images_are_as_large_as_the_flag_and_the_variables_let_them_be(make):
    plan = make(model=SEES)
    config = config_of(plan.model)
    assert image_pixels(plan, config) == PIXELS  # tunekit's own bound
    assert image_pixels(make(model=SEES, max_pixels=400_000), config) == 400_000
    for name, value, pixels in (
        ("MAX_PIXELS", "200704", 200_704),
        ("IMAGE_MAX_TOKEN_NUM", "100", 100 * 28**2),
        ("IMAGE_MAX_TOKEN_NUM", "1000000", PIXELS),
        ("MAX_NUM", "1", PIXELS),  # InternVL's
        ("MAX_PIXELS", "many", PIXELS),
    ):
        assert image_pixels(replace(plan, env={**plan.env, name: value}), config) == pixels
    both = replace(plan, env={"MAX_PIXELS": "200704", "IMAGE_MAX_TOKEN_NUM": "512"})
    assert image_pixels(both, config) == 512 * 28**2


def test_checkpoints_of_the_tower_are_asked_for(make):
    for said in (True, False):
        plan = make(model=SEES, vit_gradient_checkpointing=said)
        assert spec_of(plan, config_of(plan.model)).vit_gradient_checkpointing is said
    plan = make(model=SEES)
    assert spec_of(plan, config_of(plan.model)).vit_gradient_checkpointing is None


def test_a_packed_row_holds_an_image_for_each_sample(make):
    plan = make(model=SEES)
    assert spec_of(plan, config_of(plan.model), samples_per_row=3.4).images == 4
    assert spec_of(plan, config_of(plan.model)).images == 1
