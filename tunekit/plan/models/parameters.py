"""How models call their parameters, for what is frozen and trained by name.

ms-swift takes prefixes and compares them as they are: ``layers.1`` means layers 10 to 19 too, and a prefix that no
parameter begins with is passed over in silence. So every prefix that tunekit writes ends with a dot, and those that
users write are checked here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.plan.models.config import config_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tunekit.plan.models.model import Model

STEMS = {
    "model.": (
        *("llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next", "gemma", "gemma2"),
        *("gemma3_text", "phi3", "olmo2", "olmo3", "granite", "glm", "glm4", "glm4_moe", "smollm3", "gpt_oss"),
        *("cohere", "cohere2", "starcoder2", "deepseek_v2", "deepseek_v3", "ernie4_5", "seed_oss", "exaone4"),
    ),
    "model.language_model.": (
        *("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "gemma3", "mistral3"),
        *("llava", "llava_next", "llava_onevision", "glm4v", "glm4v_moe", "internvl", "paligemma"),
    ),
}
"""What the names of a language model's parameters begin with, by the ``model_type`` of transformers 5.2 and newer.
A test compares them with the models of the installed transformers."""

VISION = ("model.visual.", "model.vision_tower.", "model.multi_modal_projector.", "model.image_newline")
"""What the names of the other parameters of such models begin with."""

PARTS = ("embed_tokens.", "layers.", "norm.")
"""Below a stem; ``lm_head.`` stands beside it, where it is not the embedding used again."""


@dataclass(frozen=True)
class Layers:
    """The layers of a language model, the names of whose parameters begin with `stem`: ``model.``."""

    stem: str
    count: int

    @property
    def embedding(self) -> str:
        """The prefix of the input embedding."""
        return f"{self.stem}embed_tokens."

    def prefixes(self, numbers: Iterable[int]) -> list[str]:
        """The prefixes of the layers of these numbers, counted from 0."""
        return [f"{self.stem}layers.{number}." for number in numbers]


def layers_of(model: Model) -> Layers:
    """The layers of a model. Raises TunekitError where its shape, or what its layers are called, is not known."""
    config = config_of(model)
    kind = str(config.get("model_type") or "")
    if model.multimodal:  # the shipped shapes of vision models are those of their language model
        kind = kind.removesuffix("_text")
    count = (config.get("text_config") or config).get("num_hidden_layers")
    stem = next((stem for stem, kinds in STEMS.items() if kind in kinds), None)
    if stem is None or not isinstance(count, int):
        raise TunekitError(
            f"what the layers of {model.id} ({kind or 'no model_type'}) are called is not known here",
            "name them yourself: --tuner_type full --freeze_parameters PREFIX. …",
        )
    return Layers(stem, count)


def check_prefix(prefix: str, layers: Layers, *, multimodal: bool) -> str:
    """What is wrong with a prefix of ``--freeze_parameters`` or ``--trainable_parameters``; empty if nothing."""
    number = re.search(r"(\blayers\.)(\d+)(.?)", prefix)
    if number and prefix.startswith(layers.stem):
        if int(number[2]) >= layers.count:
            return f"there are {layers.count} layers, counted from 0"
        if not number[3] and 0 < int(number[2]) * 10 < layers.count:
            return f"it means layers {number[2]}0 to {number[2]}9 too: write {prefix}."
    known = [*(layers.stem + part for part in PARTS), "lm_head.", *(VISION if multimodal else ())]
    if any(prefix.startswith(name) or name.startswith(prefix) for name in known):
        return ""
    return f"no parameter begins with it; there are {', '.join(known[:4])}"
