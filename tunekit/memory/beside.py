"""What kinds of adapter hold of a layer beside what LoRA does.

Read off traces, as the numbers of `tunekit.memory.activations`; where they come from are peft's tuners/*/layer.py and
tuners/lora/dora.py. Two moments that cannot be at the same time are added up where it is little: then it is too much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.memory.kinds import adapter_width, has_dora
from tunekit.memory.targets import parametrized, targeted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tunekit.memory.geometry import Geometry
    from tunekit.memory.spec import Spec

# Of each output: what the frozen layer and what the adapter gave (2 + 2), which the magnitude multiplies
OUTPUTS = 4
# Of a weight: a copy in 16 bits, that the second product with a dropped-out input keeps
COPY = 2
# Of the largest weight, in the adapter's type, while its norm is computed: the weight, the adapter's product, that
# scaled, and their sum
NORM_COPIES = 4
# Of the square of the widest input: the identity that the adapter's product is made from, and its 16-bit copy
EYE_CAST = 2
# Going backward, of the widest output: its gradient and products in float32
BACKWARD = 5


# Of a weight: FourierFT makes its whole change in float32, which stays until the layer has gone backward, out of
# complex numbers
DELTA, SPECTRUM = 4, 12
# Of a token, while FourierFT makes the largest of them: what LoRA holds at its worst and FourierFT does not, of the MLP
UNUSED = 3
# Of a token under IA3: copies in float32 of what it multiplies, of the MLP and of the model's width
SCALED, SCALED_HIDDEN = 6, 1
# Of a fused parameter with an adapter: its change and its sum with the weight, of the same type; about one more of the
# largest while it goes backward
PARAMETRIZED, CHANGE = 4, 1
# Of BOFT, of the square of a layer's inputs and of its weights, in float32: the rotation, and the rotated weight
ROTATION, ROTATED = 8, 8
# ms-swift's adapter behind the MLP: its input and its output, and inside it both sides of the activation
ADAPTER_HIDDEN, ADAPTER_INNER = 6, 8


@dataclass(frozen=True)
class BesideBytes:
    """Bytes that one layer holds beside what LoRA does: for backward, and at its worst moment more than LoRA's."""

    kept: float = 0.0
    passing: float = 0.0


def beside_bytes(spec: Spec, geometry: Geometry, tokens: int) -> BesideBytes:
    """Of one layer with all its adapters."""
    if spec.tuner == "full":
        return BesideBytes()
    kind = KINDS.get(spec.adapter)
    found = kind(spec, geometry, tokens) if kind else BesideBytes()
    if has_dora(spec) and targeted(spec, geometry):
        found = _dora(spec, geometry, tokens)
    hit = parametrized(spec, geometry)
    if hit:
        most = max(item.numbers for item in hit)
        per_layer = sum(item.numbers for item in hit) / geometry.layers
        found = BesideBytes(found.kept + PARAMETRIZED * per_layer, found.passing + CHANGE * most)
    return found


def _dora(spec: Spec, geometry: Geometry, tokens: int) -> BesideBytes:
    linears, width = targeted(spec, geometry), adapter_width(spec)
    hidden, inner = geometry.hidden, max(item.outputs for item in linears)
    dropped = spec.dropout > 0
    copied = dropped and (width > COPY or bool(spec.bits))
    kept = OUTPUTS * tokens * sum(item.outputs for item in linears)
    kept += COPY * _weights(spec, geometry) if copied else 0
    widest = max(item.inputs for item in linears)
    eye = (width + (EYE_CAST if width > EYE_CAST else 0)) * widest**2
    norm = NORM_COPIES * width * _largest(spec, geometry)
    norm += tokens * max(0, 2 * inner + (4 if dropped else -2) * hidden)
    return BesideBytes(kept, max(norm, eye, BACKWARD * inner * tokens))


def _weights(spec: Spec, geometry: Geometry) -> int:
    return sum(item.inputs * item.outputs for item in targeted(spec, geometry))


def _largest(spec: Spec, geometry: Geometry) -> int:
    return max(item.inputs * item.outputs for item in targeted(spec, geometry))


def _fourierft(spec: Spec, geometry: Geometry, tokens: int) -> BesideBytes:
    passing = SPECTRUM * _largest(spec, geometry) - UNUSED * geometry.intermediate * tokens
    return BesideBytes(DELTA * _weights(spec, geometry), max(0, passing))


def _ia3(_: Spec, geometry: Geometry, tokens: int) -> BesideBytes:
    return BesideBytes(0, tokens * (SCALED * geometry.intermediate + SCALED_HIDDEN * geometry.hidden))


def _boft(spec: Spec, geometry: Geometry, _: int) -> BesideBytes:
    squares = sum(item.inputs**2 for item in targeted(spec, geometry))
    return BesideBytes(ROTATION * squares + ROTATED * _weights(spec, geometry))


def _adapter(spec: Spec, geometry: Geometry, tokens: int) -> BesideBytes:
    return BesideBytes(tokens * (ADAPTER_HIDDEN * geometry.hidden + ADAPTER_INNER * spec.adapter_length))


KINDS: Mapping[str, Callable[[Spec, Geometry, int], BesideBytes]] = {
    "fourierft": _fourierft,
    "ia3": _ia3,
    "boft": _boft,
    "adapter": _adapter,
}
"""By kind of adapter. BOFT and ms-swift's own adapter were not traced: their numbers are read from source."""
