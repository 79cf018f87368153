"""How large a picture may be: every model that sees gets a bound, so that one image cannot fill a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.plan.predict import DEFAULT_LENGTH
from tunekit.plan.settings import TUNEKIT, Setting

if TYPE_CHECKING:
    from tunekit.plan.models.model import Model
    from tunekit.plan.plan import Plan

FLAG = "max_pixels"

BUDGET = 1280
"""Tokens that an image may cost: Qwen's own advice for training (1280 × 28 × 28 pixels,
https://github.com/QwenLM/Qwen2.5-VL). Left alone, qwen_vl_utils lets an image take 16,384."""

SHARE = 2
"""An image takes at most one part in so many of a row: the question and the answer need room too."""

SIDES = {
    28: ("qwen2_vl", "qwen2_5_vl", "qwen2_5_omni", "qvq"),
    32: ("qwen3_vl", "qwen3_vl_moe", "qwen3_vl_emb", "qwen3_vl_reranker", "qwen3_5", "qwen3_5_moe", "qwen3_omni_moe"),
}
"""The side of the square of pixels that becomes a token (patch_size × merge size), and the families of ms-swift."""


def side_of(model: Model) -> int | None:
    """The side in `SIDES` of a model; None where the processor decides otherwise."""
    return next((side for side, families in SIDES.items() if model.family in families), None)


def tokens_of(model: Model, pixels: int) -> int | None:
    """About how many tokens an image of so many pixels costs; None where that is not known."""
    side = side_of(model)
    return pixels // side**2 if side else None


def bound_images(plan: Plan) -> Plan:
    """The plan with a bound for the images of a model that sees, where nothing set one.

    Raises TunekitError where the bound that was set lets one image fill a row, which ms-swift would then drop.
    """
    if not plan.model.multimodal:
        return plan
    length = plan.whole("max_length", DEFAULT_LENGTH)
    side = side_of(plan.model) or min(SIDES)
    pixels = plan.whole(FLAG)
    if pixels is None:
        tokens = min(BUDGET, length // SHARE)
        why = f"{tokens:,} tokens of {side} × {side} pixels: larger images are scaled down, so that none fills a row"
        return plan.with_settings({FLAG: Setting(tokens * side**2, TUNEKIT, why)})
    if pixels < side**2:
        raise TunekitError(f"--max_pixels {pixels} is less than one token's {side} × {side} pixels")
    costs = tokens_of(plan.model, pixels)
    if costs is not None and costs >= length:
        raise TunekitError(
            f"--max_pixels {pixels} lets one image take {costs:,} tokens, and a row has {length:,}",
            f"{length // SHARE * side**2} leaves half of the row for text, or raise --max-length",
        )
    return plan


def describe_images(pixels: int, model: Model) -> str:
    """One line for people: ``larger ones are scaled down to 1,003,520 pixels, about 1,280 tokens``."""
    tokens = tokens_of(model, pixels)
    words = "; how many tokens that is, the processor decides" if tokens is None else f", about {tokens:,} tokens"
    return f"larger ones are scaled down to {pixels:,} pixels{words}"
