"""Parameter counts are exact, and what is unknown is said."""

import pytest
from shapes import CONFIGS

from tunekit.memory.geometry import Geometry
from tunekit.memory.spec import Unknown

QWEN = CONFIGS["Qwen/Qwen2.5-7B"]
COUNTS = {  # of the published safetensors, or of the model that transformers 5 builds from the config
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen2.5-72B": 72_706_203_648,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-2-7b": 6_738_415_616,
    "mistralai/Mistral-7B-v0.3": 7_248_023_552,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
    "deepseek-ai/deepseek-coder-1.3b": 1_346_471_936,
    "microsoft/Phi-3-mini-4k": 3_821_079_552,
    "google/gemma-2-2b": 2_614_341_888,
    "google/gemma-3-1b": 999_885_952,
    "allenai/OLMo-2-1124-7B": 7_298_617_344,
    "openai/gpt-oss-20b": 20_914_757_184,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "Qwen/Qwen1.5-MoE-A2.7B": 14_315_784_192,
    "mistralai/Mixtral-8x7B": 46_702_792_704,
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_parameters_are_exact(name):
    assert Geometry.from_config(CONFIGS[name]).parameters == COUNTS[name]


def test_a_config_of_a_model_that_sees():
    text = {name: value for name, value in QWEN.items() if name != "tie_word_embeddings"}
    document = {"model_type": "qwen2_5_vl", "text_config": text, "vision_config": {}, "tie_word_embeddings": False}
    geometry = Geometry.from_config(document)
    assert geometry.parameters == COUNTS["Qwen/Qwen2.5-7B"]
    assert geometry.vision
    assert not Geometry.from_config(QWEN).vision


def test_dense_layers_between_experts():
    config = CONFIGS["Qwen/Qwen3-30B-A3B"]
    geometry = Geometry.from_config({**config, "mlp_only_layers": [0, 1]})
    assert geometry.moe_layers == config["num_hidden_layers"] - 2
    assert geometry.intermediate == config["intermediate_size"]
    assert Geometry.from_config({**config, "decoder_sparse_step": 2}).moe_layers == 24


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"num_hidden_layers": "28"}, "num_hidden_layers"),
        ({"intermediate_size": True}, "intermediate_size"),
        ({"model_type": None}, "missing"),
        ({"model_type": "mamba2"}, "mamba2"),
        ({"hidden_act": "relu2"}, "gated"),
        ({"kv_lora_rank": 512}, "latent"),
        ({"is_encoder_decoder": True}, "encoder"),
    ],
)
def test_what_is_not_known_is_named(change, word):
    with pytest.raises(Unknown, match=word):
        Geometry.from_config({**QWEN, **change})


@pytest.mark.parametrize("field", ["num_local_experts", "num_experts_per_tok"])
def test_experts_must_be_told(field):
    config = dict(CONFIGS["openai/gpt-oss-20b"])
    del config[field]
    with pytest.raises(Unknown, match="experts"):
        Geometry.from_config(config)
