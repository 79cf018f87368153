"""The kinds of adapter: what each trains of a linear layer, which fields it takes, how wide its numbers are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.memory.spec import Unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tunekit.memory.geometry import Linear
    from tunekit.memory.spec import Spec

REFUSED: Mapping[str, str] = {
    "longlora": "its attention in groups is not counted",
    "reft": "pyreft's interventions are not counted",
    "bone": "the peft that ms-swift 4.6 installs has no Bone",
    "dummy": "what a plugin trains is not known",
}
"""Kinds of adapter without a count, and why."""

LORA = ("lora", "lora_llm")
TAKES: Mapping[str, tuple[str, ...]] = {
    "use_dora": ("lora",),
    "target_parameters": ("lora",),
    "lora_bias": ("lora", "adalora"),
    "modules_to_save": ("lora", "adalora", "vera", "boft", "fourierft"),
}
"""Fields that only some kinds of adapter take; ms-swift passes over them elsewhere (pipelines/train/tuner.py)."""


def stream_width(spec: Spec) -> int:
    """Bytes of a number of the model's own weights."""
    return 4 if spec.precision == "fp32" else 2


def adapter_width(spec: Spec) -> int:
    """Bytes of a number of the adapter: peft keeps it in float32, unless lora_dtype says otherwise.

    ms-swift turns what trains in float16 to float32 (pipelines/train/tuner.py), a loop of one's own need not.
    """
    short = spec.lora_dtype == "bfloat16" or (spec.lora_dtype == "float16" and spec.outputs_kept)
    return 2 if short and spec.adapter in LORA else 4


def saved_width(spec: Spec) -> int:
    """Bytes of a number of a module's trained copy: as the module has it; float16 becomes float32 in ms-swift."""
    return 4 if spec.precision == "fp16" and not spec.outputs_kept else stream_width(spec)


def inner_rank(spec: Spec) -> int:
    """Numbers that an adapter makes of a token on its way, in 16 bits."""
    return {"adalora": spec.adalora_init_r, "vera": spec.vera_rank}.get(spec.adapter, spec.lora_rank)


def check_trainable(spec: Spec) -> None:
    """Raise Unknown, with the reason, for what has no count."""
    if spec.tuner == "full":
        return
    if spec.adapter in REFUSED:
        raise Unknown(f"{spec.adapter} cannot be predicted: {REFUSED[spec.adapter]}")
    if spec.adapter == "adalora" and spec.use_dora:
        raise Unknown("AdaLoRA does not take DoRA")


def taken(spec: Spec, name: str) -> Any:
    """The value of a field, or nothing where this kind of adapter does not take it."""
    return getattr(spec, name) if spec.tuner != "full" and spec.adapter in TAKES[name] else ()


def has_dora(spec: Spec) -> bool:
    """Whether adapters have magnitudes, and compute norms of whole weights."""
    return bool(taken(spec, "use_dora"))


def _lora(spec: Spec, linear: Linear) -> list[tuple[int, int]]:
    rank = spec.lora_rank
    magnitude = [(linear.outputs, 1)] if has_dora(spec) else []
    return [(rank, linear.inputs), (linear.outputs, rank), *magnitude]


def _adalora(spec: Spec, linear: Linear) -> list[tuple[int, int]]:
    rank = spec.adalora_init_r
    return [(rank, linear.inputs), (linear.outputs, rank), (rank, 1)]


def _vera(spec: Spec, linear: Linear) -> list[tuple[int, int]]:
    return [(linear.outputs, 1), (spec.vera_rank, 1)]


def boft_blocks(spec: Spec, linear: Linear) -> tuple[int, int]:
    """Blocks of a layer's rotation, and the width of one. Raises Unknown where they do not divide the layer."""
    number, size = spec.boft_block_num, spec.boft_block_size
    if bool(number) == bool(size):
        raise Unknown("BOFT takes boft_block_size or boft_block_num, and 0 for the other")
    if linear.inputs % (number or size):
        raise Unknown(f"BOFT's blocks do not divide the {linear.inputs} inputs of {linear.name}")
    return (number, linear.inputs // number) if number else (linear.inputs // size, size)


def _boft(spec: Spec, linear: Linear) -> list[tuple[int, int]]:
    blocks, size = boft_blocks(spec, linear)
    return [(spec.boft_n_butterfly_factor * blocks * size, size), (linear.outputs, 1)]


def _fourierft(spec: Spec, linear: Linear) -> list[tuple[int, int]]:
    if spec.fourier_n_frequency > linear.inputs * linear.outputs:
        raise Unknown(f"FourierFT has more frequencies than {linear.name} has weights")
    return [(spec.fourier_n_frequency, 1)]


def _ia3(_: Spec, linear: Linear) -> list[tuple[int, int]]:
    return [(1, linear.inputs) if linear.part.startswith("mlp") else (linear.outputs, 1)]


SHAPES: Mapping[str, Callable[[Spec, Linear], list[tuple[int, int]]]] = {
    **dict.fromkeys(LORA, _lora),
    "adalora": _adalora,
    "vera": _vera,
    "boft": _boft,
    "fourierft": _fourierft,
    "ia3": _ia3,
}
"""Of the kinds that sit on linear layers: the shapes of what one layer trains."""
