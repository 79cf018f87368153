"""How transformers, or a model's own code, builds a decoder of each ``model_type``: what a config.json does not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

QKV, GATE_UP, ALWAYS = "qkv", "gate_up", "always"
Names = tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """What a config.json does not say: how transformers 5 builds the model of this type."""

    qkv_bias: bool | None = None  # whether q, k and v have a bias; None asks the config, see `BIASES`
    out_bias: bool | None = None  # whether the attention's output has one; None asks as well
    mlp_bias: bool | None = None  # ... and the MLP's linear layers
    norms: int = 2  # norms a layer, with `hidden` weights each
    norm_bias: bool = False  # whether norms have biases too: nn.LayerNorm
    mean_norm: bool = False  # whether they are layer norms, one kernel, instead of RMSNorms of several
    plain_norms: bool = False  # norms without weights
    late_norms: bool = False  # attention and MLP are normed after, not before
    embedding_norm: bool = False  # whether the embedding is normed
    qk_norm: str = ""  # "head" (one weight a dimension of a head), "full" (one a dimension of all heads) or none
    qk_field: str = ""  # the field that switches it on; empty: it is always there
    fused: tuple[str, ...] = ()  # "qkv": q, k and v are one linear layer; "gate_up": so are gate and up
    gated: bool = True  # whether the MLP has a gate
    half_width: bool = False  # whether the config says the width of gate and up together
    tied: bool = False  # whether the head is the embedding where the config does not say
    head_biased: str = ""  # the field that gives the head a bias, or `ALWAYS`
    moe: bool = False  # whether layers have experts
    expert_bias: bool = False  # whether experts, and the router, have biases
    corrected: bool = False  # whether the router learns a bias of choice for each expert, as others keep it in a buffer
    shares: bool = False  # whether all tokens go through a dense MLP beside their experts
    fused_experts: bool = False  # whether a layer's experts are one parameter in transformers 4 too
    latent: bool = False  # multi-head latent attention
    indexed: bool = False  # whether an indexer picks the tokens that latent attention sees
    one_key: bool = False  # whether the config may ask for a single head of keys (multi_query)
    positions: str = ""  # the field that says how many positions are embedded, if they are
    filtered: bool = False  # whether two convolutions and a norm come before attention: Yuan's localized filtering
    sinks: bool = False  # one learnt attention sink a head
    capped: bool = False  # attention scores go through a tanh
    names: Names = ()  # of attention's input layers, its output, the MLP's inputs and output; empty: Llama's
    own_code: bool = False  # whether the code is the model's own, which no trace runs


BIASES: Mapping[str, Names] = {
    "qkv": ("attention_bias", "add_qkv_bias", "use_qkv_bias", "use_bias", "bias"),
    "out": ("attention_bias", "use_bias", "bias"),
    "mlp": ("mlp_bias", "use_bias", "bias"),
}
"""Fields that say whether linear layers have biases."""

FIELDS: Mapping[str, Names] = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
    "keys": ("num_key_value_heads", "multi_query_group_num", "num_kv_heads", "n_head_kv", "kv_n_heads"),
    "head": ("head_dim", "attention_head_dim", "kv_channels"),
    "width": ("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim"),
    "vocabulary": ("padded_vocab_size", "vocab_size"),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
    "sent": ("num_experts_per_tok", "experts_per_token", "moe_k", "moe_topk", "moe_top_k"),
    "expert": ("moe_intermediate_size", "intermediate_size", "ffn_hidden_size"),
    "shared": ("n_shared_experts", "moe_num_shared_experts", "num_shared_experts", "num_shared_expert"),
    "dense": ("first_k_dense_replace", "moe_layer_start_index"),
}
"""What a config.json calls a number, the usual name first."""

_GPT = ("c_attn", "c_proj", "c_fc", "c_proj")
_NEOX = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
_BLOCK: dict[str, Any] = {"gated": False, "norm_bias": True, "mean_norm": True}
_NO_BIAS: dict[str, Any] = {"qkv_bias": False, "out_bias": False}

FAMILIES: Mapping[str, Family] = {
    kind: family
    for family, kinds in (
        (Family(), ("llama", "granite", "hy_dense")),
        (Family(tied=True), ("smollm3", "gemma", "ernie4_5")),
        (Family(out_bias=False), ("helium", "seed_oss")),
        (Family(**_NO_BIAS), ("mistral", "ministral", "ministral3")),
        (Family(**_NO_BIAS, moe=True), ("mixtral",)),
        (
            Family(qkv_bias=True, out_bias=False),
            ("qwen2", "qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text"),
        ),
        (Family(qkv_bias=True, out_bias=False, moe=True), ("qwen2_moe",)),
        (Family(qk_norm="head"), ("qwen3", "qwen3_vl_text", "hunyuan_v1_dense")),
        (Family(qk_norm="head", moe=True), ("qwen3_moe", "qwen3_vl_moe_text", "hy_v3")),
        (Family(**_NO_BIAS, qk_norm="head", late_norms=True), ("exaone4",)),
        (Family(**_NO_BIAS, fused=(QKV, GATE_UP)), ("phi3",)),
        (Family(norms=4, tied=True, capped=True), ("gemma2",)),
        (Family(norms=4, qk_norm="head", tied=True), ("gemma3_text",)),
        (Family(plain_norms=True), ("olmo",)),
        (Family(qk_norm="full", late_norms=True), ("olmo2", "olmo3")),
        (Family(qk_norm="full", moe=True), ("olmoe",)),
        (Family(out_bias=False, fused=(GATE_UP,)), ("glm",)),
        (Family(out_bias=False, norms=4, fused=(GATE_UP,)), ("glm4",)),
        (Family(moe=True, fused_experts=True, expert_bias=True, sinks=True), ("gpt_oss",)),
        (Family(moe=True, fused_experts=True), ("granitemoe", "granitemoeshared")),
        (Family(moe=True, norm_bias=True, mean_norm=True), ("phimoe",)),
        (Family(qkv_bias=False, qk_norm="full", moe=True, out_bias=False), ("minimax_m2",)),
        (Family(qk_norm="head", qk_field="use_qk_norm", out_bias=False, moe=True), ("glm4_moe",)),
        (Family(qk_norm="head", out_bias=None, moe=True), ("dots1",)),
        (Family(qk_norm="head", moe=True, mlp_bias=False, shares=True), ("hunyuan_v1_moe",)),
        (Family(tied=True, head_biased="use_bias", moe=True, corrected=True), ("ernie4_5_moe",)),
        (Family(**_NO_BIAS, latent=True, moe=True), ("deepseek_v2", "deepseek_v3", "glm4_moe_lite")),
        (Family(**_NO_BIAS, latent=True, indexed=True, moe=True), ("deepseek_v32", "glm_moe_dsa")),
        (Family(**_NO_BIAS, latent=True, tied=True), ("youtu", "youtu_llm", "minicpm3")),
        # one norm before attention and MLP, which read the same
        (Family(norms=1, mean_norm=True, tied=True, qk_norm="full", qk_field="use_qk_norm"), ("cohere", "cohere2")),
        (
            Family(
                **_BLOCK,
                qkv_bias=True,
                out_bias=True,
                mlp_bias=True,
                norms=1,
                head_biased=ALWAYS,
                names=(*("q_proj", "k_proj", "v_proj"), *("dense", "fc1", "fc2")),
            ),
            ("phi",),
        ),
        (Family(**_BLOCK, norms=1, fused=(QKV,), tied=True, one_key=True, names=_NEOX), ("falcon",)),
        (Family(**_BLOCK, mlp_bias=True, fused=(QKV,), names=_NEOX), ("gpt_neox",)),
        (
            Family(
                **_BLOCK,
                qkv_bias=True,
                out_bias=True,
                mlp_bias=True,
                fused=(QKV,),
                tied=True,
                embedding_norm=True,
                names=_NEOX,
            ),
            ("bloom",),
        ),
        (
            Family(
                **_BLOCK,
                qkv_bias=True,
                out_bias=True,
                mlp_bias=True,
                fused=(QKV,),
                tied=True,
                one_key=True,
                positions="n_positions",
                names=_GPT,
            ),
            ("gpt2", "gpt_bigcode"),
        ),
        (
            Family(**_BLOCK, tied=True, names=("q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj")),
            ("starcoder2",),
        ),
        (Family(norm_bias=True, mean_norm=True, out_bias=False), ("stablelm",)),
        (
            Family(**_NO_BIAS, mean_norm=True, fused=(QKV,), moe=True, fused_experts=True, names=("Wqkv", "out_proj")),
            ("dbrx",),
        ),
        # code of their own; the shapes by their published modeling_*.py
        (Family(own_code=True), ("internlm3", "yi", "xverse", "bluelm", "skywork", "spark", "iquestcoder", "aquila")),
        (Family(own_code=True, out_bias=None), ("internlm",)),
        (Family(own_code=True, norm_bias=True, mean_norm=True, **_NO_BIAS), ("orion",)),
        (Family(own_code=True, **_NO_BIAS, filtered=True), ("yuan",)),
        (Family(own_code=True, tied=True), ("minicpm", "minicpmv")),
        (Family(own_code=True, qkv_bias=True, out_bias=False), ("mimo",)),
        (Family(own_code=True, **_NO_BIAS, fused=(QKV,), names=("wqkv", "wo", "w1", "w3", "w2")), ("internlm2",)),
        (
            Family(
                own_code=True,
                **_NO_BIAS,
                fused=(QKV,),
                names=(*("W_pack", "o_proj"), *("gate_proj", "up_proj", "down_proj")),
            ),
            ("baichuan", "baichuan_m1"),
        ),
        (
            Family(
                own_code=True,
                qkv_bias=True,
                out_bias=False,
                mlp_bias=False,
                fused=(QKV,),
                half_width=True,
                names=(*("c_attn", "c_proj"), *("w1", "w2", "c_proj")),
            ),
            ("qwen",),
        ),
        (Family(own_code=True, out_bias=False, mlp_bias=False, fused=(QKV, GATE_UP), names=_NEOX), ("chatglm",)),
        (
            Family(
                own_code=True,
                qkv_bias=False,
                out_bias=True,
                mlp_bias=None,
                fused=(QKV,),
                tied=True,
                names=(*("query_key_value", "dense"), *("gate_proj", "up_proj", "down_proj")),
            ),
            ("telechat", "telechat2"),
        ),
        (Family(own_code=True, **_NO_BIAS, moe=True), ("deepseek", "xverse_moe")),
        (
            Family(
                own_code=True,
                **_NO_BIAS,
                fused=(QKV,),
                moe=True,
                names=(*("query_key_value", "dense"), *("gate_proj", "up_proj", "down_proj")),
            ),
            ("bailing_moe",),
        ),
    )
    for kind in kinds
}
"""By ``model_type``. Source: the modeling_*.py of transformers 5.19; the tests check the counts of common models."""

UNSUPPORTED: Mapping[str, str] = {
    "kv_lora_rank": "multi-head latent attention",
    "ssm_cfg": "a state space model",
    "state_size": "a state space model",
    "mamba_d_state": "layers of Mamba",
    "linear_num_value_heads": "layers of linear attention",
    "index_topk": "sparse attention by an indexer",
    "zero_expert_num": "layers of two attentions",
    "is_encoder_decoder": "an encoder",
}
"""Fields of a config.json that only shapes have which no formula here describes."""

GATED = ("silu", "swish", "gelu", "gelu_pytorch_tanh", "gelu_new")
"""Activations of a gated MLP; ``relu2`` and ``xielu`` stand in MLPs without a gate."""

KEPT: Mapping[str, int] = {"gelu": 1, "relu": 1, "silu": 1, "gelu_pytorch_tanh": 1, "gelu_new": 4, "gelu_fast": 5}
"""Activations of an MLP without a gate, and how many numbers a unit of width each keeps: ``gelu_new`` and ``gelu_fast``
are several operations (transformers.activations, NewGELUActivation and FastGELUActivation)."""
