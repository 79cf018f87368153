"""A model as the plan needs it, and what its name says of its size."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

SMALLEST_B = 0.1
"""Billions of parameters below which they are counted in millions."""


@dataclass(frozen=True)
class Model:
    """A model as the plan needs it.

    Attributes:
        id: what ``--model`` gets: a hub id or a folder.
        params_b: billions of parameters, None where neither name nor files say.
        family: ms-swift's model type where it is known.
        model_type: to pass as ``--model_type``; None where ms-swift finds it itself.
        template: to pass as ``--template``; None likewise.
        multimodal: takes images, video or sound.
        moe: a mixture of experts.
        local: a folder on this machine.
        hugging_face: the id exists on Hugging Face only; ms-swift asks ModelScope by default.
        quantized: how its weights come quantized (``gptq``), and `bits` of them; empty where they do not.
        note: a warning for the user, empty where there is none.
        undecided: flags that the user must give, each with the reason.
    """

    id: str
    params_b: float | None = None
    family: str | None = None
    model_type: str | None = None
    template: str | None = None
    multimodal: bool = False
    moe: bool = False
    local: bool = False
    hugging_face: bool = False
    quantized: str = ""
    bits: int | None = None
    note: str = ""
    undecided: tuple[tuple[str, str], ...] = ()

    @property
    def short(self) -> str:
        """The name without its organisation, in lower case: what a run is called after."""
        return (Path(self.id).resolve() if self.local else Path(self.id)).name.lower()

    @property
    def shown(self) -> str:
        """For people: the id at a hub, the name of a folder."""
        return (Path(self.id).resolve().name or self.id) if self.local else self.id

    @property
    def size(self) -> str:
        """For people: ``7B``, ``3.2M``, or that it is not known."""
        if not self.params_b:
            return "size unknown"
        return f"{self.params_b:.3g}B" if self.params_b >= SMALLEST_B else f"{1000 * self.params_b:.2g}M"

    @property
    def named(self) -> str:
        """Name and size for people, where the name does not say the size."""
        told = self.params_b and f"{self.params_b:g}b" in self.shown.lower()
        return self.shown if told else f"{self.shown} · {self.size}"


def parameters(name: str) -> float | None:
    """Billions of parameters that a model's name says: 7 for ``Qwen2.5-7B``, 0.135 for ``SmolLM2-135M``.

    ``8x7B`` counts 0.83 of the product, since only the feed-forward layers are multiplied: Mixtral-8x7B has
    46.7 billion (https://arxiv.org/abs/2401.04088). Active parameters (``A3B``) are not counted.
    """
    short = name.rsplit("/", maxsplit=1)[-1]
    experts = re.search(r"(\d+)x(\d+(?:\.\d+)?)b", short, re.IGNORECASE)
    if experts:
        return round(int(experts[1]) * float(experts[2]) * 0.83, 1)
    if re.search(r"\d+b-\d+e\b", short, re.IGNORECASE):  # Llama-4-Scout-17B-16E: 17 billion of 109 are active
        return None
    size = re.search(r"(?<![a-z0-9.])((?:(?<!_)\d_)?\d+(?:\.\d+)?)([bmt])(?![a-z0-9])", short, re.IGNORECASE)
    return float(size[1].replace("_", ".")) * {"m": 0.001, "b": 1, "t": 1000}[size[2].lower()] if size else None


def is_moe(name: str, family: str) -> bool:
    """Whether a model is a mixture of experts, by its name or its family."""
    marked = re.search(r"-a\d+(\.\d+)?b|\d+b-\d+e\b|\d+x\d+(\.\d+)?b|moe", name.lower())
    return bool(marked) or family in ("gpt_oss", "mixtral") or "moe" in family
