"""What a trained model can be exported to: one row each, with what it needs and how near it must stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Gate:
    """How near an export must be to the trained model on the answers of the latter.

    Attributes:
        top1: least share of tokens that both would give first.
        kl: largest mean Kullback-Leibler divergence from the trained model, in nats a token.
        fails: an export that is farther away fails; else it is warned of.
    """

    top1: float
    kl: float
    fails: bool


WHOLE, EIGHT, FOUR = Gate(0.97, 5e-3, fails=True), Gate(0.93, 0.05, fails=False), Gate(0.85, 0.3, fails=False)
"""For 16 bits and more, 8 bits, and 4 bits.

Measured on SmolLM2-135M with a LoRA of rank 8, 24 prompts: merged in bf16 99.0 % and 6e-4, GGUF q8_0 1e-3, FP8 94.6 %
and 0.04, 4 bits 86.6 % and 0.21, the untrained model 72.8 % and 0.75. Larger models lose less.
"""

LOST = 0.5
"""An export whose divergence is this share of the untrained model's, or more, has lost the training."""

TOLD = 0.01
"""Divergence of the untrained model below which it cannot be said whether the training was lost."""


@dataclass(frozen=True)
class Quantization:
    """Weights of a GGUF file.

    Attributes:
        name: as people type it.
        outtype: what the converter is asked for.
        gate: how near it must be to the trained model.
        width: bytes a parameter, about.
        quantized: what llama-quantize is asked for then; empty where the converter makes it by itself.
    """

    name: str
    outtype: str
    gate: Gate
    width: float
    quantized: str = ""


QUANTIZATIONS: Mapping[str, Quantization] = {
    row.name: row
    for row in (
        Quantization("f16", "f16", WHOLE, 2),
        Quantization("bf16", "bf16", WHOLE, 2),
        Quantization("q8_0", "q8_0", EIGHT, 1.07),
        Quantization("q6_k", "f16", EIGHT, 0.82, "Q6_K"),
        Quantization("q5_k_m", "f16", FOUR, 0.71, "Q5_K_M"),
        Quantization("q4_k_m", "f16", FOUR, 0.61, "Q4_K_M"),
    )
}
"""By their names."""


@dataclass(frozen=True)
class Format:
    """One thing that ``--to`` takes.

    Attributes:
        what: for the help and for people.
        gguf: it holds a GGUF file, of the quantization that ``--quant`` names.
        modelfile: it holds a Modelfile for Ollama.
        hub: it goes to a hub when it is whole.
        instead: why it cannot be made here, and how it is made; empty where it can.
    """

    name: str
    what: str
    gguf: bool = False
    modelfile: bool = False
    hub: bool = False
    fp8: bool = False
    instead: str = ""


BY_HAND = (
    "its tools need a GPU and packages that ms-swift's environment does not bear: merge first (tunekit export RUN --to "
    "merged --out DIR), then in an environment with llm-compressor: a recipe with {scheme} on DIR, which vLLM reads"
)

FORMATS: Mapping[str, Format] = {
    row.name: row
    for row in (
        Format("merged", "a whole model in a folder of its own (transformers, vLLM, SGLang)"),
        Format("gguf", "a GGUF file for llama.cpp", gguf=True),
        Format("ollama", "a GGUF file and a Modelfile", gguf=True, modelfile=True),
        Format("fp8", "weights in 8 bits, by llm-compressor (vLLM, SGLang)", fp8=True),
        Format("hub", "a whole model on Hugging Face or ModelScope", hub=True),
        Format("awq", "weights in 4 bits", instead=BY_HAND.format(scheme="AWQModifier, scheme W4A16")),
        Format("gptq", "weights in 4 bits", instead=BY_HAND.format(scheme="GPTQModifier, scheme W4A16")),
    )
}
"""By the names that ``--to`` takes."""
