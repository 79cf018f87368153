"""The shape of a decoder, read from its config.json: what its parameters and its activations are counted from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tunekit.memory.spec import MOST, Unknown
from tunekit.memory.towers import language_config, tower_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.memory.towers import Tower


@dataclass(frozen=True)
class Family:
    """What a config.json does not say: how transformers 5 builds the model of this type."""

    qkv_bias: bool | None = None  # whether q, k and v have a bias; None asks attention_bias
    out_bias: bool | None = None  # whether the attention's output has one; None asks attention_bias
    norms: int = 2  # RMSNorms a layer, with `hidden` weights each
    plain_norms: bool = False  # norms without weights
    late_norms: bool = False  # attention and MLP are normed after, not before
    qk_norm: str = ""  # "head" (one weight a dimension of a head), "full" (one a dimension of all heads) or none
    fused: tuple[str, ...] = ()  # "qkv": q, k and v are one linear layer; "gate_up": so are gate and up
    tied: bool = False  # whether the head is the embedding where the config does not say
    moe: bool = False  # whether layers have experts
    expert_bias: bool = False  # whether experts, and the router, have biases
    sinks: bool = False  # one learnt attention sink a head
    capped: bool = False  # attention scores go through a tanh


FAMILIES: Mapping[str, Family] = {
    kind: family
    for family, kinds in {
        Family(): ("llama", "granite"),
        Family(tied=True): ("smollm3", "gemma"),
        Family(out_bias=False): ("helium", "seed_oss"),
        Family(qkv_bias=False, out_bias=False): ("mistral", "ministral", "ministral3"),
        Family(qkv_bias=False, out_bias=False, moe=True): ("mixtral",),
        Family(qkv_bias=True, out_bias=False): ("qwen2", "qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text"),
        Family(qkv_bias=True, out_bias=False, moe=True): ("qwen2_moe",),
        Family(qk_norm="head"): ("qwen3", "qwen3_vl_text"),
        Family(qk_norm="head", moe=True): ("qwen3_moe", "qwen3_vl_moe_text"),
        Family(qkv_bias=False, out_bias=False, qk_norm="head", late_norms=True): ("exaone4",),
        Family(qkv_bias=False, out_bias=False, fused=("qkv", "gate_up")): ("phi3",),
        Family(qkv_bias=False, out_bias=False, fused=("qkv",)): ("internlm2",),
        Family(norms=4, tied=True, capped=True): ("gemma2",),
        Family(norms=4, qk_norm="head", tied=True): ("gemma3_text",),
        Family(plain_norms=True): ("olmo",),
        Family(qk_norm="full", late_norms=True): ("olmo2", "olmo3"),
        Family(qk_norm="full", moe=True): ("olmoe",),
        Family(out_bias=False, fused=("gate_up",)): ("glm",),
        Family(out_bias=False, norms=4, fused=("gate_up",)): ("glm4",),
        Family(moe=True, expert_bias=True, sinks=True): ("gpt_oss",),
    }.items()
    for kind in kinds
}
"""By ``model_type``. Source: the modeling_*.py of transformers 5.19; the tests check the counts of common models."""

UNSUPPORTED: Mapping[str, str] = {
    "kv_lora_rank": "multi-head latent attention",
    "ssm_cfg": "a state space model",
    "state_size": "a state space model",
    "mamba_d_state": "layers of Mamba",
    "linear_num_value_heads": "layers of linear attention",
    "is_encoder_decoder": "an encoder",
}
"""Fields of a config.json that only shapes have which no formula here describes."""

MOST_LAYERS = 10_000
"""They are gone through one by one; the deepest model has some hundreds."""

GATED = ("silu", "swish", "gelu", "gelu_pytorch_tanh", "gelu_new")
"""Activations of a gated MLP; ``relu2`` and ``xielu`` stand in MLPs without a gate."""


@dataclass(frozen=True)
class Linear:
    """One kind of linear layer: its name in target_modules, its features, and how many decoder layers have it.

    Its part says whose activation it reads: ``attention_in``, ``attention_out``, ``mlp_in`` or ``mlp_out``.
    """

    name: str
    inputs: int
    outputs: int
    part: str
    bias: bool
    layers: int

    @property
    def weights(self) -> int:
        """Weights of all layers, without biases."""
        return self.inputs * self.outputs * self.layers


@dataclass(frozen=True)
class Geometry:
    """A decoder's shape."""

    model_type: str
    hidden: int  # width of the residual stream
    intermediate: int  # width of the MLP of the dense layers; of the shared expert where all layers have experts
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int  # rows of the embedding
    tied: bool  # whether the head is the embedding
    experts: int  # of one MoE layer, 0 in a dense model
    experts_per_token: int  # that one token is sent to
    expert_width: int  # `intermediate` of one expert
    moe_layers: int  # layers with experts
    linears: tuple[Linear, ...]  # without the head
    other_parameters: int  # norms, routers and other small weights
    family: Family
    softcap: bool = False  # whether the logits go through a tanh
    vision: bool = False  # whether there is a vision tower
    tower: Tower | None = None  # what is known of it

    @property
    def query(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of all key heads."""
        return self.kv_heads * self.head_dim

    @property
    def embedding_parameters(self) -> int:
        """Of the embedding and, where it has weights of its own, the head."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def linear_parameters(self) -> int:
        """Weights that bitsandbytes quantizes."""
        return sum(linear.weights for linear in self.linears)

    @property
    def expert_parameters(self) -> int:
        """Of the experts: in transformers 5 fused parameters, no linear layers."""
        bias = (2 * self.expert_width + self.hidden) if self.family.expert_bias else 0
        return self.moe_layers * self.experts * (3 * self.hidden * self.expert_width + bias)

    @property
    def parameters(self) -> int:
        """All of the decoder."""
        biases = sum(linear.outputs * linear.layers for linear in self.linears if linear.bias)
        counted = self.embedding_parameters + self.linear_parameters + self.expert_parameters
        return counted + biases + self.other_parameters

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> Geometry:
        """Read a config.json, of a model that also sees its text part.

        Raises Unknown where a field is missing, or the shape is none that is known here.
        """
        text, tied = language_config(config), config.get("tie_word_embeddings")
        if isinstance(tied, bool):
            text = {**text, "tie_word_embeddings": tied}
        model_type = str(text.get("model_type") or "")
        for name, shape in UNSUPPORTED.items():
            if text.get(name):
                raise Unknown(f"{model_type or 'this model'} has {shape} ({name}), which the estimate does not know")
        family = FAMILIES.get(model_type)
        if family is None:
            raise Unknown(f"model_type {model_type or '(missing)'} is not known to the estimate")
        activation = str(text.get("hidden_act") or text.get("hidden_activation") or "silu")
        if activation not in GATED:
            raise Unknown(f"{model_type} with {activation} has no gated MLP, which the estimate needs")
        geometry = _build(text, model_type, family, "text_config" in config or "vision_config" in config)
        return replace(geometry, tower=tower_of(config, geometry.hidden))


def _whole(config: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    """The first of these fields that holds a whole number above 0."""
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST:
            return value
    if default is None:
        raise Unknown(f"config.json lacks {' or '.join(names)}, or it is no whole number from 1 to {MOST:,}")
    return default


def _moe_layers(config: Mapping[str, Any], layers: int) -> int:
    """Layers with experts: every ``decoder_sparse_step``-th one that ``mlp_only_layers`` does not name."""
    step, dense = _whole(config, "decoder_sparse_step", default=1), config.get("mlp_only_layers")
    named = dense if isinstance(dense, list) else []
    return sum(1 for layer in range(layers) if layer not in named and (layer + 1) % step == 0)


def _build(config: Mapping[str, Any], model_type: str, family: Family, vision: bool) -> Geometry:
    hidden, layers = _whole(config, "hidden_size"), _whole(config, "num_hidden_layers")
    if layers > MOST_LAYERS:
        raise Unknown(f"config.json speaks of {layers:,} layers")
    heads, vocab = _whole(config, "num_attention_heads"), _whole(config, "vocab_size")
    kv_heads = _whole(config, "num_key_value_heads", default=heads)
    head_dim = _whole(config, "head_dim", default=hidden // heads)
    experts = per_token = width = moe = 0
    if family.moe:
        experts = _whole(config, "num_local_experts", "num_experts")
        per_token = _whole(config, "num_experts_per_tok", "experts_per_token")
        width = _whole(config, "moe_intermediate_size", "intermediate_size")
        moe = _moe_layers(config, layers)
    shared = _whole(config, "shared_expert_intermediate_size", default=0) if model_type == "qwen2_moe" else 0
    intermediate = _whole(config, "intermediate_size") if moe < layers else shared
    tied = config.get("tie_word_embeddings")
    linears = _attention(config, family, hidden, heads * head_dim, kv_heads * head_dim, layers)
    bias = bool(config.get("mlp_bias"))
    if moe < layers:
        linears += _mlp(family, hidden, intermediate, layers - moe, bias)
    if shared:
        linears += _mlp(family, hidden, shared, moe, bias)
    norms = 0 if family.plain_norms else (family.norms * layers + 1) * hidden
    queries_keys = {"head": 2 * head_dim, "full": (heads + kv_heads) * head_dim}.get(family.qk_norm, 0)
    router = experts * (hidden + (1 if family.expert_bias else 0)) + (hidden if shared else 0)
    small = norms + layers * (queries_keys + (heads if family.sinks else 0)) + moe * router
    return Geometry(
        model_type=model_type,
        hidden=hidden,
        intermediate=intermediate,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=vocab,
        tied=tied if isinstance(tied, bool) else family.tied,
        experts=experts,
        experts_per_token=per_token,
        expert_width=width,
        moe_layers=moe,
        linears=linears,
        other_parameters=small,
        family=family,
        softcap=bool(config.get("final_logit_softcapping")),
        vision=vision,
    )


def _attention(
    config: Mapping[str, Any], family: Family, hidden: int, query: int, keys: int, layers: int
) -> tuple[Linear, ...]:
    said = bool(config.get("attention_bias"))
    bias = said if family.qkv_bias is None else family.qkv_bias
    out = said if family.out_bias is None else family.out_bias
    fused, apart = {"qkv_proj": query + 2 * keys}, {"q_proj": query, "k_proj": keys, "v_proj": keys}
    sizes = fused if "qkv" in family.fused else apart
    inputs = (Linear(name, hidden, size, "attention_in", bias, layers) for name, size in sizes.items())
    return (*inputs, Linear("o_proj", query, hidden, "attention_out", out, layers))


def _mlp(family: Family, hidden: int, width: int, layers: int, bias: bool) -> tuple[Linear, ...]:
    sizes = {"gate_up_proj": 2 * width} if "gate_up" in family.fused else {"gate_proj": width, "up_proj": width}
    inputs = (Linear(name, hidden, size, "mlp_in", bias, layers) for name, size in sizes.items())
    return (*inputs, Linear("down_proj", width, hidden, "mlp_out", bias, layers))
