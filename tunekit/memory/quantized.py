"""Bytes of a base model whose weights are quantized, by how they are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.memory.kinds import has_dora
from tunekit.memory.spec import Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tunekit.memory.geometry import Geometry, Linear
    from tunekit.memory.spec import Spec

# Of a 4-bit weight's share of the scales: float32 a block of 64; with double quantization 8 bits, and float32 a 256 of
# those (see quantize_4bit in bitsandbytes.functional)
SCALE, SCALE_TWICE = 4 / 64, 1 / 64 + 4 / (64 * 256)
# Bytes of a weight that HQQ packs (hqq.core.bitpack: ten of 3 bits in an int32)
HQQ_PACKED: Mapping[int, float] = {1: 1 / 8, 2: 1 / 4, 3: 4 / 10, 4: 1 / 2, 8: 1}
# Weights that share a scale where nothing says how many: transformers' HqqConfig, optimum-quanto's and the usual of
# AWQ and GPTQ
GROUPS: Mapping[str, int] = {"hqq": 64, "quanto": 128, "awq": 128, "gptq": 128}

BITS_OF: Mapping[str, tuple[int, ...]] = {
    "bnb": (4, 8),
    "hqq": (1, 2, 3, 4, 8),
    "eetq": (8,),
    "quanto": (2, 4, 8),
    "awq": (4,),
    "gptq": (2, 3, 4, 8),
    "aqlm": (1, 2, 3, 4, 8),
}
"""Bits that each way takes (ms-swift's quant_args.py); ``fp8`` has none, for it cannot be trained on."""

NAMES: Mapping[str, str] = {"bitsandbytes": "bnb", "gptq_v2": "gptq", "gptqmodel": "gptq"}
"""What a config.json calls some ways."""


def quantized_by(spec: Spec) -> str:
    """How the weights are kept: as the config.json says of a model that comes quantized, else as `spec` says."""
    said = _said(spec).get("quant_method")
    return NAMES.get(said, said) if isinstance(said, str) else spec.quant_method


def quantized_bits(spec: Spec) -> int:
    """Bits of a weight. Raises Unknown for a way of keeping them that has no count, or not with so many bits."""
    method, bits = quantized_by(spec), spec.bits or 4
    if method == "fp8":
        raise Unknown("transformers trains nothing on fine-grained FP8 weights")
    if bits not in BITS_OF.get(method, ()):
        raise Unknown(f"weights in {bits} bits of {method} are not known to the estimate")
    if has_dora(spec) and method != "bnb":
        raise Unknown(f"DoRA on weights of {method} has not been counted")
    return bits


def linear_bytes(spec: Spec, geometry: Geometry) -> float:
    """Bytes of all quantized linear layers, scales included."""
    bits = quantized_bits(spec)
    of_layer = FORMATS[quantized_by(spec)]
    return sum(item.layers * of_layer(spec, item, bits) for item in geometry.linears)


def dequantized_width(spec: Spec) -> int:
    """Bytes of a number of the copy that a product with a quantized weight makes of it."""
    if quantized_by(spec) != "bnb":
        return 2
    return 4 if spec.bnb_4bit_compute_dtype == "float32" or spec.precision == "fp32" else 2


def _said(spec: Spec) -> Mapping[str, Any]:
    said = spec.config.get("quantization_config")
    return said if isinstance(said, dict) else {}


def _group(spec: Spec, linear: Linear) -> int:
    """Weights that share a scale; a group of all inputs, where the config.json says -1."""
    said = spec.quant_group or _said(spec).get("group_size") or _said(spec).get("q_group_size")
    if isinstance(said, int) and said > 0:
        return said
    return linear.inputs if said == -1 else GROUPS.get(quantized_by(spec), linear.inputs)


def _bnb(spec: Spec, linear: Linear, bits: int) -> float:
    weights = linear.inputs * linear.outputs
    if bits == 8:  # float32 a row
        return weights + 4 * linear.outputs
    return weights * (0.5 + (SCALE_TWICE if spec.double_quant else SCALE))


def _hqq(spec: Spec, linear: Linear, bits: int) -> float:
    """A scale and a zero a group, in 16 bits."""
    return linear.inputs * linear.outputs * (HQQ_PACKED[bits] + 4 / _group(spec, linear))


def _eetq(_: Spec, linear: Linear, bits: int) -> float:
    """A scale of 16 bits a row."""
    return linear.inputs * linear.outputs * bits / 8 + 2 * linear.outputs


def _quanto(spec: Spec, linear: Linear, bits: int) -> float:
    """Below 8 bits a scale and a shift a group."""
    if bits == 8:
        return _eetq(spec, linear, bits)
    return linear.inputs * linear.outputs * (bits / 8 + 4 / _group(spec, linear))


def _awq(spec: Spec, linear: Linear, bits: int) -> float:
    """A scale of 16 bits and a zero as wide as a weight a group."""
    return linear.inputs * linear.outputs * (bits / 8 + (2 + bits / 8) / _group(spec, linear))


def _gptq(spec: Spec, linear: Linear, bits: int) -> float:
    """The same, and the group of each input (int32)."""
    return _awq(spec, linear, bits) + 4 * linear.inputs


def _aqlm(spec: Spec, linear: Linear, _: int) -> float:
    """Codes, the codebooks of 16-bit numbers that they point into, and a scale a row."""
    said = _said(spec)
    names = ("num_codebooks", "nbits_per_codebook", "in_group_size", "out_group_size")
    numbers = [said.get(name, 1 if name == "out_group_size" else None) for name in names]
    if not all(isinstance(number, int) and 0 < number <= 64 for number in numbers):
        raise Unknown("config.json does not say the codebooks of AQLM")
    books, bits, inputs, outputs = (int(number or 1) for number in numbers)
    codes = linear.inputs * linear.outputs / (inputs * outputs) * books * (1 if bits <= 8 else 2)
    return codes + 2 * books * float(2 ** min(bits, 16)) * inputs * outputs + 2 * linear.outputs


FORMATS: Mapping[str, Callable[[Spec, Linear, int], float]] = {
    "bnb": _bnb,
    "hqq": _hqq,
    "eetq": _eetq,
    "quanto": _quanto,
    "awq": _awq,
    "gptq": _gptq,
    "aqlm": _aqlm,
}
"""Bytes of one layer's quantized weight, by the way it is kept. All but bitsandbytes' are read from source."""
