"""Ask the prediction backwards: the largest micro-batch that fits, and what would help where nothing does."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tunekit.memory.estimate import estimate
from tunekit.memory.spec import Unknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunekit.memory.spec import Prediction, Spec

LARGEST = 512
"""Micro-batches above this are not looked for."""

FITS, TIGHT, NOT = "fits", "tight", "does not fit"


@dataclass(frozen=True)
class Lever:
    """One way to need less: the configuration with it, and the memory of the process that it saves and then needs."""

    name: str
    spec: Spec
    saves_gib: float
    needs_gib: float


def verdict(prediction: Prediction, card_gib: float) -> str:
    """Whether a prediction fits a card of so many GiB.

    ``tight`` where the tensors fit but not what PyTorch's allocator would like to keep beside them: it then gives
    cached memory back and tries again, which costs time, and may still fail.
    """
    context = prediction.process_gib - prediction.reserved_gib
    if prediction.allocated_gib + context > card_gib:
        return NOT
    return FITS if prediction.process_gib <= card_gib else TIGHT


def largest_micro_batch(spec: Spec, card_gib: float) -> int:
    """The largest micro-batch that fits a card, 0 where even one row does not. The estimate answers."""

    def fits(rows: int) -> bool:
        return verdict(estimate(replace(spec, micro_batch=rows)), card_gib) == FITS

    if not fits(1):
        return 0
    low, high = 1, 2
    while high <= LARGEST and fits(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _quantized(spec: Spec) -> Spec:
    return replace(spec, tuner="qlora", quant_bits=4)


CHANGES: tuple[tuple[str, Callable[[Spec], Spec]], ...] = (
    ("Liger (fused cross-entropy)", lambda spec: replace(spec, liger=True)),
    ("gradient checkpointing", lambda spec: replace(spec, gradient_checkpointing=True)),
    ("gradient checkpointing of the ViT", lambda spec: replace(spec, vit_gradient_checkpointing=True)),
    ("images of half the pixels", lambda spec: replace(spec, pixels=max(1, spec.pixels // 2))),
    ("lora_dropout 0", lambda spec: replace(spec, lora_dropout=0.0) if spec.tuner != "full" else spec),
    ("expandable segments", lambda spec: replace(spec, expandable_segments=True)),
    ("half the micro-batch", lambda spec: replace(spec, micro_batch=max(1, spec.micro_batch // 2))),
    ("micro-batch 1", lambda spec: replace(spec, micro_batch=1)),
    ("LoRA instead of full", lambda spec: replace(spec, tuner="lora") if spec.tuner == "full" else spec),
    ("QLoRA (4-bit weights)", _quantized),
    ("QLoRA and Liger", lambda spec: replace(_quantized(spec), liger=True)),
    ("evaluation batch 1", lambda spec: replace(spec, eval_batch=1)),
    ("no evaluation", lambda spec: replace(spec, evaluates=False)),
    ("half the length of the answers", lambda spec: replace(spec, completion_len=spec.completion_len // 2)),
    ("half the length", lambda spec: replace(spec, seq_len=max(1, spec.seq_len // 2))),
)
"""What can be changed, each alone."""


def levers(spec: Spec) -> list[Lever]:
    """What would help, the largest saving first; what changes nothing is left out."""
    before = estimate(spec).process_gib
    found = []
    for name, change in CHANGES:
        changed = change(spec)
        with contextlib.suppress(Unknown):  # this lever cannot be predicted for this model
            after = estimate(changed).process_gib
            if before - after > 0.005 * before:
                found.append(Lever(name, changed, before - after, after))
    return sorted(found, key=lambda lever: -lever.saves_gib)
