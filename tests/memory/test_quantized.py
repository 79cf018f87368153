"""Bytes of quantized bases: bitsandbytes' against its own layers, the others by hand; what cannot be is refused."""

import pytest

from tunekit.memory.estimate import estimate
from tunekit.memory.fields import METHODS
from tunekit.memory.geometry import Geometry
from tunekit.memory.quantized import BITS_OF, FORMATS, linear_bytes, quantized_by
from tunekit.memory.spec import Spec, Unknown

CONFIG = {
    "model_type": "llama",
    "hidden_size": 512,
    "num_hidden_layers": 1,
    "num_attention_heads": 8,
    "intermediate_size": 1024,
    "vocab_size": 512,
    "tie_word_embeddings": False,
}
GEOMETRY = Geometry.from_config(CONFIG)
NUMBERS = GEOMETRY.linear_parameters
ROWS = 4 * 512 + 2 * 1024 + 512
COLUMNS = 6 * 512 + 1024
AQLM = {
    "quant_method": "aqlm",
    "num_codebooks": 1,
    "nbits_per_codebook": 16,
    "in_group_size": 8,
    "out_group_size": 1,
}


def held(config=CONFIG, **said):
    return linear_bytes(Spec(config=config, tuner="qlora", **said), GEOMETRY)


@pytest.mark.parametrize(
    ("method", "bits", "size"),
    [
        ("hqq", 4, NUMBERS * (0.5 + 4 / 64)),
        ("hqq", 3, NUMBERS * (0.4 + 4 / 64)),
        ("hqq", 1, NUMBERS * (0.125 + 4 / 64)),
        ("eetq", 8, NUMBERS + 2 * ROWS),
        ("quanto", 8, NUMBERS + 2 * ROWS),
        ("quanto", 2, NUMBERS * (0.25 + 4 / 128)),
        ("awq", 4, NUMBERS * (0.5 + 2.5 / 128)),
        ("gptq", 4, NUMBERS * (0.5 + 2.5 / 128) + 4 * COLUMNS),
        ("bnb", 8, NUMBERS + 4 * ROWS),
    ],
)
def test_weights_with_their_scales(method, bits, size):
    assert held(quant_method=method, quant_bits=bits) == pytest.approx(size)


def test_groups_are_as_the_config_says():
    said = CONFIG | {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 32}}
    assert held(said, quant_bits=4) == pytest.approx(NUMBERS * (0.5 + 2.5 / 32) + 4 * COLUMNS)
    whole = CONFIG | {"quantization_config": {"quant_method": "awq", "group_size": -1}}
    assert held(whole, quant_bits=4) == pytest.approx(NUMBERS * 0.5 + 2.5 * ROWS)
    assert held(quant_method="hqq", quant_group=128) == pytest.approx(NUMBERS * (0.5 + 4 / 128))


def test_aqlm_has_codebooks():
    size = held(CONFIG | {"quantization_config": AQLM}, quant_bits=2)
    assert size == pytest.approx(NUMBERS / 8 * 2 + 7 * 2 * 2**16 * 8 + 2 * ROWS)
    with pytest.raises(Unknown, match="codebooks"):
        held(CONFIG | {"quantization_config": {"quant_method": "aqlm"}}, quant_bits=2)


@pytest.mark.engine
@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_bitsandbytes_keeps_so_much(double, kind):
    torch, bnb = pytest.importorskip("torch"), pytest.importorskip("bitsandbytes")
    packed, state = bnb.functional.quantize_4bit(
        torch.rand(512, 1024), blocksize=64, compress_statistics=double, quant_type=kind
    )
    scales = state.absmax.nbytes + (state.state2.absmax.nbytes if double else 0)
    each = (packed.nbytes + scales) / (512 * 1024)
    assert held(double_quant=double) == pytest.approx(each * NUMBERS)


def test_the_config_says_how_a_model_comes():
    said = CONFIG | {"quantization_config": {"quant_method": "bitsandbytes"}}
    assert quantized_by(Spec(config=said, tuner="qlora", quant_method="hqq")) == "bnb"
    assert quantized_by(Spec(config=CONFIG, tuner="qlora", quant_method="hqq")) == "hqq"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"quant_method": "fp8"}, "trains nothing on fine-grained FP8"),
        ({"quant_method": "bnb", "quant_bits": 3}, "3 bits of bnb"),
        ({"quant_method": "eetq", "quant_bits": 4}, "4 bits of eetq"),
        ({"quant_method": "hqq", "use_dora": True}, "DoRA on weights of hqq"),
    ],
)
def test_what_cannot_be_is_refused(said, why):
    with pytest.raises(Unknown, match=why):
        estimate(Spec(config=CONFIG, tuner="qlora", **said))


def test_every_way_has_a_format_or_is_refused():
    assert {*FORMATS} == {*BITS_OF} == {*METHODS} - {"fp8"}


def test_a_wide_copy_of_the_weight_needs_more():
    spec = {"tuner": "qlora", "seq_len": 64, "loss_share": 0.01}
    short, wide = (
        estimate(Spec(config=CONFIG, bnb_4bit_compute_dtype=dtype, **spec)).allocated_gib
        for dtype in ("bfloat16", "float32")
    )
    assert wide > short
