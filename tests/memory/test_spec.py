"""A specification is read from JSON, and what is impossible is named."""

import pytest

from tunekit.errors import TunekitError
from tunekit.memory.spec import Spec

CONFIG = {"model_type": "llama"}


def test_everything_is_read():
    asked = {"accumulates": False, "capability": [9, 0], "lengths": [512, 1024], "cap_gib": 23.5, "quant_bits": None}
    spec = Spec.from_json({"config": CONFIG, **asked, "target_modules": "q_proj"})
    assert (spec.accumulates, spec.capability, spec.lengths, spec.cap_gib) == (False, (9, 0), (512, 1024), 23.5)
    assert spec.target_modules == ("q_proj",)
    assert spec.longest == 1024


def test_what_is_seen_is_read():
    asked = {"trains": ["llm", "vit"], "vit_tuner": "full", "vit_gradient_checkpointing": False, "images": 0}
    spec = Spec.from_json({"config": CONFIG, **asked, "pixels": 784})
    assert (spec.trains, spec.vit_tuner, spec.vit_gradient_checkpointing) == (("llm", "vit"), "full", False)
    assert (spec.images, spec.pixels) == (0, 784)


def test_what_is_not_said_is_as_in_ms_swift():
    spec = Spec.from_json({"config": CONFIG, "capability": None, "cap_gib": None})
    assert spec == Spec(config=CONFIG)
    assert (spec.accumulates, spec.capability, spec.lengths, spec.cap_gib) == (True, None, (), None)
    assert spec.longest == spec.seq_len


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("accumulates", "yes", "true or false"),
        ("liger", 1, "true or false"),
        ("capability", [9], r"as in \[8, 0\]"),
        ("capability", "9.0", r"as in \[8, 0\]"),
        ("capability", [9, True], r"as in \[8, 0\]"),
        ("lengths", [512, 0], "above 0"),
        ("lengths", [512, 1.5], "above 0"),
        ("lengths", 512, "above 0"),
        ("cap_gib", 0, "more than 0"),
        ("cap_gib", True, "more than 0"),
        ("seq_len", 1.5, "whole number"),
        ("lora_dropout", 2, "1 or less"),
        ("stage", "sftt", "one of pt"),
        ("trains", ["llm", "ears"], "llm, vit, aligner"),
        ("trains", [], "llm, vit, aligner"),
        ("trains", "vit", "llm, vit, aligner"),
        ("vit_tuner", "qlora", "one of null, lora, full"),
        ("vit_gradient_checkpointing", 1, "true, false or null"),
        ("images", -1, "from 0"),
        ("images", True, "from 0"),
        ("pixels", 0, "1 or more"),
    ],
)
def test_what_is_impossible_is_named(name, value, words):
    with pytest.raises(TunekitError, match=rf"{name} must be .*{words}"):
        Spec.from_json({"config": CONFIG, name: value})


def test_dropout_is_off_where_the_stage_switches_it_off():
    assert Spec(config=CONFIG).dropout == 0.05
    assert Spec(config=CONFIG, stage="dpo").dropout == 0


def test_what_a_stage_holds_is_read():
    asked = {"completion_len": 512, "generations": 32, "rewards": [CONFIG], "teacher": CONFIG, "vllm_mode": "server"}
    spec = Spec.from_json({"config": CONFIG, "stage": "grpo", "seq_len": 100, **asked, "unknown_models": ["acme/7B"]})
    assert (spec.longest, spec.rewards, spec.teacher, spec.unknown_models) == (612, (CONFIG,), CONFIG, ("acme/7B",))
    assert Spec(config=CONFIG, seq_len=100, completion_len=512).longest == 100, "its evaluations alone write"


def test_another_word_for_an_optimizer():
    assert Spec.from_json({"config": CONFIG, "optimizer": "adamw"}).optimizer == "adamw_torch"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("completion_len", -1, "whole number"),
        ("eval_batch", 0, "1 or more"),
        ("evaluates", 1, "true or false"),
        ("vllm_gib", -1, "0 or more"),
        ("vllm_mode", "both", "one of null, colocate"),
        ("teacher", "Qwen", "as an object"),
        ("rewards", [1], "list of objects"),
        ("unknown_models", "Qwen", "list of names"),
        ("beta", "much", "0 or more"),
    ],
)
def test_what_is_impossible_of_a_stage_is_named(name, value, words):
    with pytest.raises(TunekitError, match=rf"{name} must be .*{words}"):
        Spec.from_json({"config": CONFIG, name: value})
