"""What DoRA adds to a layer: both halves of its outputs, a copy of each weight, and norms of weights as they come.

Read off traces, as the numbers of `tunekit.memory.activations`; where they come from is peft's tuners/lora/dora.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.memory.tuners import adapter_width, targeted

if TYPE_CHECKING:
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


@dataclass(frozen=True)
class DoraBytes:
    """Bytes that one layer holds beside what LoRA does: for backward, and at its worst moment more than LoRA's."""

    kept: float = 0.0
    passing: float = 0.0


def dora_bytes(spec: Spec, geometry: Geometry, tokens: int) -> DoraBytes:
    """Of one layer with all its adapters."""
    linears, width = targeted(spec, geometry), adapter_width(spec)
    hidden, inner = geometry.hidden, max(item.outputs for item in linears)
    dropped = spec.dropout > 0
    copied = dropped and (width > 2 or bool(spec.bits))
    kept = OUTPUTS * tokens * sum(item.outputs for item in linears)
    kept += COPY * sum(item.inputs * item.outputs for item in linears) if copied else 0
    largest = max(item.inputs * item.outputs for item in linears)
    widest = max(item.inputs for item in linears)
    eye = (width + (EYE_CAST if width > EYE_CAST else 0)) * widest**2
    norm = NORM_COPIES * width * largest + tokens * max(0, 2 * inner + (4 if dropped else -2) * hidden)
    return DoraBytes(kept, max(norm, eye, BACKWARD * inner * tokens))
