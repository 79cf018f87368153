"""A pass without gradients, against traces of it: two layers of a 7B model's widths, bytes a token."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import CONFIGS

from tunekit.memory.forward import forward_bytes
from tunekit.memory.geometry import Geometry
from tunekit.memory.spec import Spec

WIDE = {
    "model_type": "mistral",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 3,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 512,
    "tie_word_embeddings": False,
}
NARROW = {**WIDE, "intermediate_size": 256, "num_attention_heads": 64}


@pytest.mark.parametrize(
    ("config", "asked", "traced"),
    [  # bytes a token of 4096 in one row, flash attention, torch 2.13, transformers 5.19, peft 0.20
        (WIDE, {"tuner": "full"}, 65_800),
        (WIDE, {"tuner": "lora"}, 90_852),
        (WIDE, {"tuner": "lora", "lora_dtype": "bfloat16"}, 82_184),
        (WIDE, {"tuner": "lora", "target_modules": ("q_proj", "v_proj")}, 65_878),
        (WIDE, {"tuner": "qlora"}, 90_852),
        (NARROW, {"tuner": "full"}, 47_368),
        (NARROW, {"tuner": "lora"}, 59_922),
        (NARROW, {"tuner": "lora", "lora_dtype": "bfloat16"}, 47_368),
    ],
)
def test_as_traced(config, asked, traced):
    spec = Spec(config=config, seq_len=4096, attn="flash", **asked)
    found = forward_bytes(spec, Geometry.from_config(config), 1, 4096) / 4096
    assert found == pytest.approx(traced, rel=0.15)
    assert found > traced * 0.99, "rather a little too much"


def test_scores_grow_with_the_square():
    spec = Spec(config=WIDE, tuner="full", attn="eager")
    short, long = (forward_bytes(spec, Geometry.from_config(WIDE), 2, length) for length in (2048, 4096))
    assert long > 3.5 * short


@given(
    st.sampled_from(list(CONFIGS.values())),
    st.sampled_from(["full", "lora", "qlora"]),
    st.sampled_from(["eager", "sdpa", "flash"]),
    st.integers(1, 64),
    st.integers(1, 9000),
    st.integers(1, 64),
)
def test_more_tokens_need_no_less(config, tuner, attn, rows, length, more):
    spec, shape = Spec(config=config, tuner=tuner, attn=attn), Geometry.from_config(config)
    found = forward_bytes(spec, shape, rows, length)
    assert 0 < found <= forward_bytes(spec, shape, rows + more, length)
    assert found <= forward_bytes(spec, shape, rows, length + more)
    assert forward_bytes(replace(spec, tuner="full"), shape, rows, length) <= found or tuner == "full"
