"""The parameters of a decoder by name and shape, in the order of the model: for what is trained or frozen by name."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from tunekit.memory.spec import Unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunekit.memory.geometry import Geometry
    from tunekit.memory.linears import Linear

ENDS = EMBEDDING_NAME, HEAD_NAME = "embed_tokens", "lm_head"
STEMS = {False: "model.", True: "model.language_model."}
"""What the names of a decoder begin with; of one with a vision tower beside it, the other."""

NORM_NAMES = {
    "usual": ("input_layernorm", "post_attention_layernorm"),
    "late": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "gemma": (
        *("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"),
    ),
    "glm": ("input_layernorm", "post_attention_layernorm", "post_self_attn_layernorm", "post_mlp_layernorm"),
}
"""A layer's norms, in the order of transformers 5.19's classes."""


@dataclass(frozen=True)
class Parameter:
    """One parameter: name, rows (a linear layer's outputs) and columns (its inputs; 1 of a vector).

    Attributes:
        expert: whether it is the fused weight of all experts of a layer, which no linear layer holds.
    """

    name: str
    rows: int
    columns: int = 1
    expert: bool = False

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return self.rows * self.columns

    @property
    def module(self) -> str:
        """The name of the module that holds it."""
        return self.name.rpartition(".")[0]


NAMED = frozenset(
    (
        *(
            "llama",
            "granite",
            "smollm3",
            "gemma",
            "ernie4_5",
            "helium",
            "seed_oss",
            "mistral",
            "ministral",
            "ministral3",
        ),
        *("mixtral", "qwen2", "qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text", "qwen2_moe", "qwen3"),
        *(
            "qwen3_vl_text",
            "qwen3_moe",
            "qwen3_vl_moe_text",
            "exaone4",
            "phi3",
            "gemma2",
            "gemma3_text",
            "olmo",
            "olmo2",
        ),
        *("olmo3", "olmoe", "glm", "glm4", "gpt_oss"),
    )
)
"""Types of models whose parameters are called as here."""


@lru_cache(maxsize=64)
def parameters_of(geometry: Geometry) -> tuple[Parameter, ...]:
    """All parameters of a decoder, in order. Raises Unknown where its names are not known here."""
    _check_named(geometry, geometry.model_type in NAMED)
    stem = STEMS[geometry.vision]
    found = [Parameter(f"{stem}{EMBEDDING_NAME}.weight", geometry.vocab, geometry.hidden)]
    layer = tuple(_layer(geometry))
    for number in range(geometry.layers):
        found += [replace(item, name=f"{stem}layers.{number}.{item.name}") for item in layer]
    if not geometry.family.plain_norms:
        found.append(Parameter(f"{stem}norm.weight", geometry.hidden))
    if not geometry.tied:
        found.append(Parameter(f"{HEAD_NAME}.weight", geometry.vocab, geometry.hidden))
    _check_named(geometry, sum(item.numbers for item in found) == geometry.parameters)
    return tuple(found)


def _check_named(geometry: Geometry, known: bool) -> None:
    if not known:
        raise Unknown(f"what the parameters of {geometry.model_type} are called is not known to the estimate")


def linear_names(geometry: Geometry, linear: Linear) -> list[str]:
    """The names of all linear layers of one kind. Raises Unknown as `parameters_of` does."""
    _check_named(geometry, geometry.model_type in NAMED)
    part, stem = _place(linear, geometry), STEMS[geometry.vision]
    return [f"{stem}layers.{number}.{part}{linear.name}" for number in range(linear.layers)]


def ends_as(name: str, targets: tuple[str, ...]) -> bool:
    """Whether peft takes the module of that name for one of `targets` (tuners_utils.check_target_module_exists)."""
    return any(name == target or name.endswith(f".{target}") for target in targets)


def is_named(name: str, beginnings: tuple[str, ...], pattern: str) -> bool:
    """Whether ms-swift freezes, or trains, the parameter of that name (utils/transformers_utils.py)."""
    return any(name.startswith(word) for word in beginnings) or bool(pattern and re.search(pattern, name))


def _place(linear: Linear, geometry: Geometry) -> str:
    if linear.part.startswith("attention"):
        return "self_attn."
    shared = geometry.moe_layers == geometry.layers
    return "mlp.shared_expert." if shared else "mlp."


def _layer(geometry: Geometry) -> Iterator[Parameter]:
    """The parameters of one layer, without the layer's own name before theirs."""
    family, hidden = geometry.family, geometry.hidden
    linears = list(geometry.linears)
    if "qkv" in family.fused:  # Phi-3 makes the output before the input
        linears.sort(key=lambda item: (item.part[:3] == "mlp", item.part != "attention_out"))
    if family.sinks:
        yield Parameter("self_attn.sinks", geometry.heads)
    yield from _linear_parameters(geometry, [item for item in linears if item.part.startswith("attention")])
    if family.qk_norm:
        head = family.qk_norm == "head"
        yield Parameter("self_attn.q_norm.weight", geometry.head_dim if head else geometry.query)
        yield Parameter("self_attn.k_norm.weight", geometry.head_dim if head else geometry.keys)
    mlp = [item for item in linears if item.part.startswith("mlp")]
    if geometry.moe_layers:
        yield from _moe(geometry, mlp if geometry.moe_layers == geometry.layers else [])
    else:
        yield from _linear_parameters(geometry, mlp)
    if not family.plain_norms:
        kind = "late" if family.late_norms else "usual"
        if family.norms == 4:
            kind = "glm" if "gate_up" in family.fused else "gemma"
        yield from (Parameter(f"{name}.weight", hidden) for name in NORM_NAMES[kind])


def _linear_parameters(geometry: Geometry, linears: list[Linear]) -> Iterator[Parameter]:
    for item in linears:
        name = _place(item, geometry) + item.name
        yield Parameter(f"{name}.weight", item.outputs, item.inputs)
        if item.bias:
            yield Parameter(f"{name}.bias", item.outputs)


def _moe(geometry: Geometry, shared: list[Linear]) -> Iterator[Parameter]:
    family, hidden, width, experts = geometry.family, geometry.hidden, geometry.expert_width, geometry.experts
    bias = family.expert_bias
    gate = "router" if family.sinks else "gate"
    router = [Parameter(f"mlp.{gate}.weight", experts, hidden)]
    router += [Parameter(f"mlp.{gate}.bias", experts)] if bias else []
    held = []
    for name, inputs, outputs in (("gate_up_proj", hidden, 2 * width), ("down_proj", width, hidden)):
        held.append(Parameter(f"mlp.experts.{name}", experts * outputs, inputs, expert=True))
        held += [Parameter(f"mlp.experts.{name}_bias", experts, outputs)] if bias else []
    first = (held, router) if family.qk_norm == "head" else (router, held)  # Qwen3's experts come before its router
    yield from (*first[0], *first[1])
    yield from _linear_parameters(geometry, shared)
    if shared:
        yield Parameter("mlp.shared_expert_gate.weight", 1, hidden)
