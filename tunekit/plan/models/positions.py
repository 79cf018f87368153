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
KNOWN: tuple[tuple[str, int], ...] = (
    (r"qwen2\.5-.*-1m", 1_010_000), (r"qwen2\.5-math-", 4096), (r"qwen2\.5-vl-", 128_000),
    (r"qwen2\.5-(coder-)?[\d.]+b-instruct", 32_768), (r"qwen2\.5-", 131_072),
    (r"qwen2-vl-", 32_768), (r"qwen2-[\d.]+b", 131_072), (r"qwq-32b", 131_072),
    (r"qwen3-.*2507", 262_144), (r"qwen3-(coder|vl)-", 262_144), (r"qwen3-[\d.]+b(-base|-a\d+b|$)", 40_960),
    (r"(meta-)?llama-3\.[123]-", 131_072), (r"(meta-)?llama-3-", 8192), (r"llama-2-", 4096), (r"codellama-", 16_384),
    (r"tinyllama-", 2048), (r"smollm2-", 8192), (r"smollm3-", 65_536), (r"smollm-", 2048),
    (r"mistral-7b-", 32_768), (r"mixtral-8x7b-", 32_768), (r"mixtral-8x22b-", 65_536), (r"mistral-small-24b-", 32_768),
    (r"phi-3(\.5)?-.*-4k", 4096), (r"phi-3-.*-128k|phi-3\.5-|phi-4-mini", 131_072), (r"phi-4$", 16_384),
    (r"gemma-2-", 8192), (r"gemma-\db", 8192), (r"gemma-3-1b", 32_768), (r"gemma-3-", 131_072),
    (r"gpt-oss-", 131_072), (r"yi-1\.5-.*-16k", 16_384), (r"yi-1\.5-.*-32k", 32_768), (r"yi-1\.5-", 4096),
    (r"olmo-2-", 4096), (r"glm-4-(9b|32b)-0414|glm-z1-", 32_768), (r"deepseek-r1-distill-", 131_072),
    (r"deepseek-coder-[\d.]+b-", 16_384), (r"deepseek-llm-", 4096),
)
# fmt: on
"""``max_position_embeddings`` of common models, by the beginning of the lower-case name; the first match counts.

As their config.json says it. Where the sizes of a family differ, the largest number stands for all.
"""


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
        name = "" if model.local else model.id.rsplit("/", maxsplit=1)[-1].lower()
        return next((number for pattern, number in KNOWN if re.match(pattern, name)), None)
    scaling = text.get("rope_scaling") or text.get("rope_parameters") or config.get("rope_scaling")
    scaling = scaling if isinstance(scaling, dict) else {}
    factor, original = scaling.get("factor"), scaling.get("original_max_position_embeddings")
    stretched = [number for number in (factor, original) if isinstance(number, (int, float)) and 0 < number < 1e9]
    return max(most, int(math.prod(stretched))) if len(stretched) == 2 else most
