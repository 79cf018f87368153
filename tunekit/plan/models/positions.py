"""How many tokens of a row a model can tell apart."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.plan.models.config import config_of, kept_config

if TYPE_CHECKING:
    from tunekit.plan.models.model import Model

# fmt: off
KNOWN: tuple[tuple[tuple[str, ...], str, int], ...] = (
    (("qwen2.5-",), "-1m", 1_010_000), (("qwen2.5-math-",), "", 4096), (("qwen2.5-vl-",), "", 128_000),
    (("qwen2.5-",), "-instruct", 32_768), (("qwen2.5-",), "", 131_072),
    (("qwen2-vl-",), "", 32_768), (("qwen2-0", "qwen2-1", "qwen2-5", "qwen2-7", "qwq-32b"), "", 131_072),
    (("qwen3-",), "-2507", 262_144), (("qwen3-coder-", "qwen3-vl-"), "", 262_144),
    (("qwen3-0", "qwen3-1", "qwen3-2", "qwen3-3", "qwen3-4b", "qwen3-8b"), "", 40_960),
    (("llama-3.1-", "llama-3.2-", "llama-3.3-"), "", 131_072), (("llama-3-8b", "llama-3-70b"), "", 8192),
    (("llama-2-",), "", 4096), (("codellama-",), "", 16_384), (("tinyllama-",), "", 2048),
    (("smollm2-",), "", 8192), (("smollm3-",), "", 65_536), (("smollm-",), "", 2048),
    (("mistral-7b-", "mixtral-8x7b-", "mistral-small-24b-"), "", 32_768), (("mixtral-8x22b-",), "", 65_536),
    (("phi-3-",), "-4k", 4096), (("phi-3-", "phi-3.5-"), "-128k", 131_072), (("phi-3.5-", "phi-4-mini"), "", 131_072),
    (("gemma-2-", "gemma-2b", "gemma-7b"), "", 8192), (("gemma-3-1b",), "", 32_768), (("gemma-3-",), "", 131_072),
    (("gpt-oss-",), "", 131_072), (("yi-1.5-",), "-16k", 16_384), (("yi-1.5-",), "-32k", 32_768),
    (("yi-1.5-", "olmo-2-", "deepseek-llm-"), "", 4096),
    (("glm-4-9b-0414", "glm-4-32b-0414", "glm-z1-9b", "glm-z1-32b"), "", 32_768),
    (("deepseek-r1-distill-",), "", 131_072),
    (("deepseek-coder-1", "deepseek-coder-6", "deepseek-coder-33"), "", 16_384),
)
# fmt: on
"""``max_position_embeddings`` of common models: by the beginning of the lower-case name and what else is in it; the
first that holds counts.

As their config.json says it. Where the sizes of a family differ, the largest number stands for all.
"""

OWN_LENGTH = re.compile(r"\d{2,}k\b|-\d+m\b")
"""A name that says a length of its own is of a model that was made for another one than its family."""


def _by_name(name: str) -> int | None:
    said = OWN_LENGTH.search(name)
    for begins, holds, number in KNOWN:
        if name.startswith(begins) and (holds in name if holds else not said):
            return number
    return None


def positions_of(model: Model) -> int | None:
    """How many tokens of a row a model can tell apart, by its config.json; None where that is not known.

    Of a hub's model whose file is not here, `KNOWN` says it.
    """
    try:
        config = config_of(model) if model.local else kept_config(model) or config_of(model)
    except TunekitError:
        config = {}
    text = config.get("text_config")
    text = text if isinstance(text, dict) else config
    most = text.get("max_position_embeddings") or config.get("max_position_embeddings")
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        name = model.id.rsplit("/", maxsplit=1)[-1].lower().removeprefix("meta-")
        return None if model.local else _by_name(name)
    scaling = text.get("rope_scaling") or text.get("rope_parameters") or config.get("rope_scaling")
    scaling = scaling if isinstance(scaling, dict) else {}
    factor, original = scaling.get("factor"), scaling.get("original_max_position_embeddings")
    stretched = [number for number in (factor, original) if isinstance(number, (int, float)) and 0 < number < 1e9]
    return max(most, int(math.prod(stretched))) if len(stretched) == 2 else most
