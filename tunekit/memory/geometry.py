"""The shape of a decoder, read from its config.json: what its parameters and its activations are counted from."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tunekit.memory.families import ALWAYS, FAMILIES, FIELDS, GATED, KEPT, UNSUPPORTED
from tunekit.memory.linears import Linear, cut_sides, feed_forward, latent_attention, plain_attention, whole_field
from tunekit.memory.spec import MOST, Unknown
from tunekit.memory.towers import language_config, tower_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.memory.families import Family
    from tunekit.memory.spec import Spec
    from tunekit.memory.towers import Tower


MOST_LAYERS = 10_000
"""They are gone through one by one; the deepest model has some hundreds."""


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
    activation: int = 1  # numbers a unit of width that the activation of an MLP without a gate keeps
    fused: bool = True  # whether the experts of a layer are fused parameters, and no linear layers
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
        """Of the experts, where they are fused parameters and no linear layers."""
        if not self.fused:
            return 0
        bias = (2 * self.expert_width + self.hidden) if self.family.expert_bias else 0
        return self.moe_layers * self.experts * (3 * self.hidden * self.expert_width + bias)

    @property
    def parameters(self) -> int:
        """All of the decoder."""
        biases = sum(linear.outputs * linear.layers for linear in self.linears if linear.bias)
        counted = self.embedding_parameters + self.linear_parameters + self.expert_parameters
        return counted + biases + self.other_parameters

    def built_by(self, spec: Spec) -> Geometry:
        """The same as the transformers of `spec` builds it: before version 5 experts are linear layers."""
        if not self.moe_layers or self.family.fused_experts or spec.fuses_experts:
            return self
        hidden, width, count = self.hidden, self.expert_width, self.moe_layers * self.experts
        names = ("w1", "w3", "w2") if self.model_type == "mixtral" else ("gate_proj", "up_proj", "down_proj")
        sides = ((hidden, width, "expert_in"), (hidden, width, "expert_in"), (width, hidden, "expert_out"))
        linears = (Linear(name, *side, False, count) for name, side in zip(names, sides, strict=True))
        return replace(self, linears=(*self.linears, *linears), fused=False)

    def cut(self, ways: int) -> Geometry:
        """The part of each layer that one of so many GPUs computes: heads and widths are divided, the stream is not."""
        if ways == 1:
            return self
        part = [replace(item, **cut_sides(item, ways)) for item in self.linears]
        return replace(
            self,
            linears=tuple(part),
            heads=max(1, self.heads // ways),
            kv_heads=max(1, self.kv_heads // ways),
            intermediate=math.ceil(self.intermediate / ways),
            expert_width=math.ceil(self.expert_width / ways),
        )

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> Geometry:
        """Read a config.json, of a model that also sees its text part.

        Raises Unknown where a field is missing, or the shape is none that is known here.
        """
        text, tied = language_config(config), config.get("tie_word_embeddings")
        if isinstance(tied, bool):
            text = {**text, "tie_word_embeddings": tied}
        nested = [part for name in ("attn_config", "ffn_config") if isinstance(part := text.get(name), dict)]
        text = {name: value for part in (*nested, text) for name, value in part.items()}  # DBRX's
        model_type = str(text.get("model_type") or "")
        family = FAMILIES.get(model_type)
        for name, shape in UNSUPPORTED.items():
            known = family and {"kv_lora_rank": family.latent, "index_topk": family.indexed}.get(name)
            if text.get(name) and not known:
                raise Unknown(f"{model_type or 'this model'} has {shape} ({name}), which the estimate does not know")
        if family is None:
            raise Unknown(f"model_type {model_type or '(missing)'} is not known to the estimate")
        names = ("hidden_act", "hidden_activation", "activation_function", "activation")
        activation = next((str(text[name]) for name in names if isinstance(text.get(name), str)), "")
        if family.gated and activation not in (*GATED, ""):
            raise Unknown(f"{model_type} with {activation} has no gated MLP, which the estimate needs")
        if not family.gated and activation not in (*KEPT, ""):
            raise Unknown(f"what {activation} of {model_type} keeps is not known to the estimate")
        built = _build(text, model_type, family, "text_config" in config or "vision_config" in config)
        tower = tower_of(config, built.hidden)
        return replace(built, activation=KEPT.get(activation or "gelu", 1), tower=tower)


def _moe_layers(config: Mapping[str, Any], layers: int) -> int:
    """Layers with experts: every ``decoder_sparse_step``-th one that is neither named as dense nor among the first."""
    step, dense = whole_field(config, "decoder_sparse_step", default=1), config.get("mlp_only_layers")
    named = dense if isinstance(dense, list) else []
    kinds = config.get("mlp_layer_types")
    if isinstance(kinds, list):
        return sum(1 for kind in kinds[:layers] if kind != "dense")
    first = _first(config, "dense")
    return sum(1 for layer in range(first, layers) if layer not in named and (layer + 1) % step == 0)


def _first(config: Mapping[str, Any], number: str, default: int = 0) -> int:
    """A number that may be 0 or missing, by its name in `FIELDS`. Some configs hold it once for each layer."""
    for name in FIELDS[number]:
        value = config.get(name)
        value = value[0] if isinstance(value, list) and value else value
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST:
            return value
    return default


def _per_layer(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Numbers that stand once for each layer, by that of the first."""
    each = {name for number in ("experts", "sent", "expert", "shared") for name in FIELDS[number]}
    lists = {name: value[0] for name, value in config.items() if name in each and isinstance(value, list) and value}
    return {**config, **lists}


def _shared_width(config: Mapping[str, Any], width: int) -> int:
    """Width of the MLP that all tokens go through beside their experts, 0 where there is none."""
    own = ("shared_expert_intermediate_size", "shared_intermediate_size", "moe_shared_expert_intermediate_size")
    told = next((config[name] for name in own if isinstance(config.get(name), int)), None)
    return _first(config, "shared") * width if told is None else int(told)


def _build(config: Mapping[str, Any], model_type: str, family: Family, vision: bool) -> Geometry:
    config = _per_layer(config)
    hidden, layers = whole_field(config, *FIELDS["hidden"]), whole_field(config, *FIELDS["layers"])
    if layers > MOST_LAYERS:
        raise Unknown(f"config.json speaks of {layers:,} layers")
    heads, vocab = whole_field(config, *FIELDS["heads"]), whole_field(config, *FIELDS["vocabulary"])
    kv_heads = _key_heads(config, family, heads)
    head_dim = whole_field(config, *FIELDS["head"], default=max(1, hidden // heads))
    experts = per_token = width = moe = 0
    if family.moe:
        experts = whole_field(config, *FIELDS["experts"])
        per_token = whole_field(config, *FIELDS["sent"])
        width = whole_field(config, *FIELDS["expert"])
        moe = _moe_layers(config, layers)
    shared = (whole_field(config, *FIELDS["width"]) if family.shares else _shared_width(config, width)) if moe else 0
    default = None if family.gated else 4 * hidden
    intermediate = whole_field(config, *FIELDS["width"], default=default) if moe < layers else shared
    intermediate //= 2 if family.half_width else 1
    if family.latent:
        linears, small, head_dim = latent_attention(config, family, hidden, heads, layers)
        kv_heads = heads
    else:
        linears, small = plain_attention(config, family, hidden, heads * head_dim, kv_heads * head_dim, layers), 0
    if moe < layers:
        linears += feed_forward(config, family, hidden, intermediate, layers - moe)
    if shared:
        linears += feed_forward(config, family, hidden, shared, moe)
    tied = config.get("tie_word_embeddings")
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
        other_parameters=small
        + layers * _head_weights(config, family, heads, kv_heads, head_dim)
        + moe * _router(family, model_type, hidden, experts, shared)
        + _norm_weights(config, family, hidden, layers)
        + _beside_embedding(config, family, hidden, vocab),
        family=family,
        softcap=bool(config.get("final_logit_softcapping")),
        vision=vision,
    )


def _head_weights(config: Mapping[str, Any], family: Family, heads: int, kv_heads: int, head_dim: int) -> int:
    """Of one layer: norms of queries and keys, and attention sinks."""
    norms = {"head": 2 * head_dim, "full": (heads + kv_heads) * head_dim}.get(family.qk_norm, 0)
    if family.qk_field and not config.get(family.qk_field):
        norms = 0
    return norms + (heads if family.sinks else 0)


def _beside_embedding(config: Mapping[str, Any], family: Family, hidden: int, vocab: int) -> int:
    """Of the model: the head's bias, and embedded positions."""
    bias = vocab if family.head_biased == ALWAYS or config.get(family.head_biased) else 0
    positions = whole_field(config, family.positions, "max_position_embeddings") if family.positions else 0
    return bias + hidden * positions


def _key_heads(config: Mapping[str, Any], family: Family, heads: int) -> int:
    """Heads of keys. Falcon's and GPT-BigCode's are one unless a switch says otherwise; ChatGLM has its own."""
    if family.one_key:
        if config.get("new_decoder_architecture"):
            return whole_field(config, "num_kv_heads", "n_head_kv", default=heads)
        return 1 if config.get("multi_query", family.names[0] != "c_attn") else heads
    if config.get("multi_query_attention") is False:
        return heads
    return whole_field(config, *FIELDS["keys"], default=heads)


def _norm_weights(config: Mapping[str, Any], family: Family, hidden: int, layers: int) -> int:
    if family.plain_norms:
        return 0
    norms = family.norms
    if config.get("new_decoder_architecture") and config.get("num_ln_in_parallel_attn") != 1:
        norms = 2  # the larger Falcons
    elif family.norms == 1 and family.one_key and config.get("parallel_attn") is False:
        norms = 2
    count = norms * layers + 1 + family.embedding_norm
    # from a width to its half and back, over two tokens each, and a norm
    filters = layers * (2 * hidden * hidden + hidden // 2 + 2 * hidden) if family.filtered else 0
    return count * hidden * (2 if family.norm_bias else 1) + filters


def _router(family: Family, model_type: str, hidden: int, experts: int, shared: int) -> int:
    """Of one MoE layer: a row for each expert, a bias where there is one, and Qwen2's gate of the shared expert."""
    gate = hidden if shared and model_type == "qwen2_moe" else 0
    return experts * (hidden + family.expert_bias + family.corrected) + gate
