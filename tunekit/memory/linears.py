"""The linear layers of a decoder, counted from its config.json."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunekit.memory.families import BIASES, GATE_UP, QKV
from tunekit.memory.spec import MOST, Unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.memory.families import Family


@dataclass(frozen=True)
class Linear:
    """One kind of linear layer: its name in target_modules, its features, and how many decoder layers have it.

    Its part says whose activation it reads: ``attention_in``, ``attention_out``, ``mlp_in``, ``mlp_out``,
    ``expert_in``, ``expert_out``, or ``latent`` for the narrow one of latent attention. All experts count as layers.
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


def cut_sides(linear: Linear, ways: int) -> dict[str, Any]:
    """What reads the stream is cut by its outputs, what writes to it by its inputs (deepspeed.module_inject)."""
    side = "outputs" if linear.part.endswith("_in") else "inputs"
    return {side: math.ceil(getattr(linear, side) / ways)}


def whole_field(config: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    """The first of these fields that holds a whole number above 0."""
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST:
            return value
    if default is None:
        raise Unknown(f"config.json lacks {' or '.join(names)}, or it is no whole number from 1 to {MOST:,}")
    return default


def switched_on(config: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    """The first of these fields that is there, as a switch."""
    return bool(next((config[name] for name in names if config.get(name) is not None), False))


def latent_attention(
    config: Mapping[str, Any], family: Family, hidden: int, heads: int, layers: int
) -> tuple[tuple[Linear, ...], int, int]:
    """DeepSeek's attention: its linear layers, the weights of its two norms, and the width of a head's query."""
    inner, rope = whole_field(config, "kv_lora_rank"), whole_field(config, "qk_rope_head_dim")
    plain, value = whole_field(config, "qk_nope_head_dim"), whole_field(config, "v_head_dim")
    rank, head = whole_field(config, "q_lora_rank", default=MOST), plain + rope
    bias = switched_on(config, BIASES["out"])
    sizes: list[tuple[str, int, int, str, bool]] = [
        ("kv_a_proj_with_mqa", hidden, inner + rope, "attention_in", bias),
        ("kv_b_proj", inner, heads * (plain + value), "latent", False),
        ("o_proj", heads * value, hidden, "attention_out", bias),
    ]
    if rank == MOST:
        sizes.append(("q_proj", hidden, heads * head, "attention_in", False))
    else:
        sizes.append(("q_a_proj", hidden, rank, "attention_in", bias))
        sizes.append(("q_b_proj", rank, heads * head, "latent", False))
    norms = inner + (0 if rank == MOST else rank)
    if family.indexed:
        seers, width = whole_field(config, "index_n_heads"), whole_field(config, "index_head_dim")
        sizes.append(("wq_b", rank, seers * width, "latent", False))
        sizes += [("wk", hidden, width, "attention_in", False), ("weights_proj", hidden, seers, "attention_in", False)]
        norms += 2 * width
    return tuple(Linear(*size, layers) for size in sizes), norms * layers, head


def plain_attention(
    config: Mapping[str, Any], family: Family, hidden: int, query: int, keys: int, layers: int
) -> tuple[Linear, ...]:
    """Of attention whose queries and keys are so wide, in so many layers."""
    bias = switched_on(config, BIASES["qkv"]) if family.qkv_bias is None else family.qkv_bias
    out = switched_on(config, BIASES["out"]) if family.out_bias is None else family.out_bias
    sizes = (query + 2 * keys,) if QKV in family.fused else (query, keys, keys)
    usual = ("qkv_proj",) if QKV in family.fused else ("q_proj", "k_proj", "v_proj")
    names = family.names or (*usual, "o_proj")
    inputs = (
        Linear(name, hidden, size, "attention_in", bias, layers) for name, size in zip(names, sizes, strict=False)
    )
    return (*inputs, Linear(names[len(sizes)], query, hidden, "attention_out", out, layers))


def feed_forward(config: Mapping[str, Any], family: Family, hidden: int, width: int, layers: int) -> tuple[Linear, ...]:
    """Of an MLP of this width, with a gate or without, in so many layers."""
    bias = switched_on(config, BIASES["mlp"]) if family.mlp_bias is None else family.mlp_bias
    sizes = (2 * width,) if GATE_UP in family.fused else (width, width) if family.gated else (width,)
    usual = ("gate_up_proj",) if GATE_UP in family.fused else ("gate_proj", "up_proj")
    names = family.names[-len(sizes) - 1 :] or (*usual, "down_proj")
    inputs = (Linear(name, hidden, size, "mlp_in", bias, layers) for name, size in zip(names, sizes, strict=False))
    return (*inputs, Linear(names[len(sizes)], width, hidden, "mlp_out", bias, layers))
