"""Shapes are counted as the installed transformers builds them: all parameters, and all linear layers by name."""

from collections import Counter

import pytest

from tunekit.memory.families import FAMILIES
from tunekit.memory.geometry import Geometry

SMALL = {"num_hidden_layers": 3, "n_layer": 3, "n_layers": 3}
EXPERTS = {"n_routed_experts": 8, "n_shared_experts": 2, "moe_intermediate_size": 64, "num_experts_per_tok": 2}
DBRX = {"attn_config": {"kv_n_heads": 8, "rope_theta": 1e4, "clip_qkv": 8}}
DBRX["ffn_config"] = {"ffn_hidden_size": 1000, "moe_num_experts": 4, "moe_top_k": 2}
SAID = {  # what their defaults in transformers leave out
    "dbrx": DBRX,
    "deepseek_v2": EXPERTS,
    "dots1": {**EXPERTS, "first_k_dense_replace": 1},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128, "num_experts": 8, "moe_topk": 2},
    "ministral": {"head_dim": 128},
}
NOT_BUILT = {"hy_dense", "ministral", "qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text", "qwen3_vl_text"}
NOT_BUILT |= {"qwen3_vl_moe_text", "youtu_llm"}
"""Parts of models that see, and names that only a hub's code has."""

CASES = [(kind, {}) for kind, family in FAMILIES.items() if not family.own_code and kind not in NOT_BUILT]
CASES += [
    ("cohere", {"use_qk_norm": True}),
    ("deepseek_v2", {"q_lora_rank": None}),
    ("deepseek_v3", {"attention_bias": True}),
    ("ernie4_5", {"use_bias": True}),
    ("ernie4_5_moe", {"use_bias": True}),
    ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 8}),
    ("falcon", {"multi_query": False, "parallel_attn": False, "bias": True}),
    ("glm4_moe", {"use_qk_norm": True, "attention_bias": True}),
    ("gpt_bigcode", {"multi_query": False}),
    ("gpt_neox", {"attention_bias": False, "tie_word_embeddings": True}),
    ("granitemoeshared", {"shared_intermediate_size": 512}),
    ("llama", {"attention_bias": True, "mlp_bias": True}),
    ("phi", {"num_key_value_heads": 8}),
    ("stablelm", {"use_qkv_bias": True}),
    ("starcoder2", {"use_bias": False}),
]
APART = ("qwen2_moe", "hunyuan_v1_moe", "dbrx", "granitemoeshared")
"""Whose routers are linear layers too, counted with the other weights, or whose shared expert has names of its own."""


def shallow(config):
    """The same with few layers."""
    for name, layers in SMALL.items():
        if hasattr(config, name):
            setattr(config, name, layers)
    for name in ("layer_types", "mlp_layer_types", "indexer_types"):
        if getattr(config, name, None):
            setattr(config, name, getattr(config, name)[:3])
    return config


@pytest.mark.parametrize(("kind", "said"), CASES, ids=lambda case: case if isinstance(case, str) else ",".join(case))
def test_transformers_builds_as_many_parameters(kind, said):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    if kind not in transformers.CONFIG_MAPPING:
        pytest.skip("this transformers does not have it")
    config = shallow(transformers.AutoConfig.for_model(kind, **{**SAID.get(kind, {}), **said}))
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    geometry = Geometry.from_config(config.to_dict())
    assert geometry.parameters == sum(item.numel() for item in model.parameters())
    head = model.get_output_embeddings()
    linear = {name: item for name, item in model.named_modules() if hasattr(item, "weight") and item.weight.dim() == 2}
    kinds = ("Linear", "Conv1D", "FalconLinear")
    found = {name: item for name, item in linear.items() if type(item).__name__ in kinds and item is not head}
    if kind not in APART:
        counted = Counter()
        for name, item in found.items():
            counted[name.rsplit(".", 1)[-1]] += item.weight.numel()
        ours = Counter()
        for item in geometry.linears:
            ours[item.name] += item.weights
        assert ours == counted


def test_codes_of_their_own_are_counted():
    qwen = {"hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32}
    known = {  # as their pages say: Qwen-7B, InternLM2-7B, ChatGLM3-6B, Baichuan2-7B
        7_721_324_544: {"model_type": "qwen", "vocab_size": 151936, "tie_word_embeddings": False, **qwen},
        7_737_708_544: {
            **qwen,
            "model_type": "internlm2",
            "vocab_size": 92544,
            "intermediate_size": 14336,
            "num_key_value_heads": 8,
            "bias": False,
            "tie_word_embeddings": False,
        },
        6_243_584_000: {
            "model_type": "chatglm",
            "hidden_size": 4096,
            "ffn_hidden_size": 13696,
            "num_layers": 28,
            "num_attention_heads": 32,
            "multi_query_attention": True,
            "multi_query_group_num": 2,
            "padded_vocab_size": 65024,
            "kv_channels": 128,
            "add_qkv_bias": True,
            "tie_word_embeddings": False,
        },
        7_505_973_248: {**qwen, "model_type": "baichuan", "vocab_size": 125696, "intermediate_size": 11008},
    }
    for parameters, config in known.items():
        assert Geometry.from_config(config).parameters == parameters, config["model_type"]
