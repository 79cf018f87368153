"""The part of a model that sees, read from its config.json: ViT, aligner, and how an image becomes tokens.

Sources: the modeling_*.py of transformers 5.19, and the code that InternVL and MiniCPM-V bring along. The tests build
those of transformers on the meta device and compare the counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunekit.memory.spec import MOST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

VIT, ALIGNER = "vit", "aligner"

MAX_TOKENS = 16_384
"""That an image takes at most where it is not cut into tiles (qwen_vl_utils.vision_process, IMAGE_MAX_TOKEN_NUM)."""

TILES = 12
"""Of an image in ms-swift's template of InternVL, if no MAX_NUM says otherwise; the overview comes on top."""


@dataclass(frozen=True)
class Blocks:
    """How the blocks of a ViT are built, beyond what a vision_config says."""

    norm: int = 2  # vectors of weights a norm: 2 in LayerNorm, 1 in RMSNorm
    gated: bool = False  # whether the MLP has a gate
    patch_bias: bool = True  # of the convolution that reads the patches
    outer_norms: int = 0  # norms before and after all blocks
    class_token: bool = False
    scaled: bool = False  # two learnt scales of what a block adds
    fused: bool = False  # whether queries, keys and values are one linear layer


BLOCKS: Mapping[str, tuple[str, Blocks]] = {
    kind: found
    for found, kinds in {
        ("qwen2_vl", Blocks(patch_bias=False, fused=True)): ("qwen2_vl", "qwen2_vl_vision"),
        ("qwen2_5_vl", Blocks(norm=1, gated=True, patch_bias=False, fused=True)): (
            *("qwen2_5_vl", "qwen2_5_vl_vision"),
        ),
        ("qwen3_vl", Blocks(fused=True)): (*("qwen3_vl", "qwen3_vl_vision", "qwen3_vl_moe", "qwen3_vl_moe_vision"),),
        ("internvl", Blocks(class_token=True, scaled=True)): ("internvl_vision",),
        ("internvl", Blocks(class_token=True, scaled=True, fused=True)): ("intern_vit_6b",),
        ("clip", Blocks(patch_bias=False, outer_norms=2, class_token=True)): ("clip_vision_model",),
        ("siglip", Blocks(outer_norms=1)): ("siglip_vision_model", "siglip", "idefics2"),
    }.items()
    for kind in kinds
}
"""Name and shape of the blocks, by the ``model_type`` of the vision_config, or of the model where it has none."""


@dataclass(frozen=True)
class Cut:
    """How an image is cut: into tiles that are each scaled to one size, or just into tokens.

    Attributes:
        area: pixels of a piece.
        patches: that the ViT computes of a piece.
        tokens: that a piece takes in the text.
        most: pieces of an image at most.
        overview: whether the whole image comes as one more piece where it is cut.
        variable: of the environment, by which ms-swift lets that most be set.
    """

    area: int
    patches: int
    tokens: int
    most: int
    overview: bool = False
    variable: str = ""

    def pieces(self, pixels: int) -> int:
        """Of an image of so many pixels; the most that a form of it can make."""
        cut = min(self.most, max(1, -(-pixels // self.area)))
        return cut + (1 if self.overview and cut > 1 else 0)


@dataclass(frozen=True)
class TowerMatrix:
    """A linear layer of ViT or aligner: its features, and how many there are."""

    part: str
    inputs: int
    outputs: int
    count: int = 1


@dataclass(frozen=True)
class Tower:
    """ViT and aligner of a model.

    Attributes:
        blocks: a name of `BLOCKS`.
        hidden, width, heads, depth: of the ViT's blocks; `width` is that of their MLP.
        vit: parameters of the ViT, without the aligner.
        aligner: parameters of what makes tokens of the ViT's patches.
        matrices: linear layers, which get an adapter where their part is trained by one.
        patch_numbers: numbers of one patch, as they come from the processor.
        text: width of the language model.
        inside: whether the aligner is a part of the ViT, so that gradients of the one pass through the other.
        by_forward: whether the model's own forward computes it, under autocast, and not ms-swift's hook before it.
        every_layer: whether the outputs of all blocks are held (LLaVA takes one that is not the last).
        stacked: further aligners, whose outputs are added to layers of the language model (Qwen3-VL's deepstack).
    """

    blocks: str
    hidden: int
    width: int
    heads: int
    depth: int
    vit: int
    aligner: int
    matrices: tuple[TowerMatrix, ...]
    patch_numbers: int
    text: int
    cut: Cut
    inside: bool = False
    by_forward: bool = False
    every_layer: bool = False
    stacked: int = 0


def language_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config.json that says the shape of the language model; all of it for a model of text."""
    for name in ("text_config", "llm_config"):
        inner = config.get(name)
        if isinstance(inner, dict):
            return inner
    if config.get("model_type") == "minicpmv":
        return {**config, "model_type": MINICPMV.get(str(config.get("version")), "llama")}
    return config


MINICPMV: Mapping[str, str] = {"2.6": "qwen2", "4.5": "qwen3"}
"""The language model of MiniCPM-V by the ``version`` of its config.json; Llama's shape before 2.6 and in 4.0."""


def tower_of(config: Mapping[str, Any], text: int) -> Tower | None:
    """The tower of a config.json whose language model is `text` wide; None where it is none that is known here."""
    vision, kind = config.get("vision_config"), str(config.get("model_type") or "")
    if not isinstance(vision, dict) or not vision:
        return None
    found = BLOCKS.get(str(vision.get("model_type") or kind)) or (BLOCKS["siglip"] if kind == "minicpmv" else None)
    if found is None:
        return None
    reader = ALIGNERS.get(found[0] if found[0].startswith("qwen") else kind)
    if reader is None:
        return None
    try:
        tower = reader(config, _vit(vision, *found), text)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None  # a field is missing, or is no number: then the tower is as unknown as another family's
    cut = tower.cut
    return tower if min(tower.width, cut.area, cut.patches, cut.tokens, cut.most) > 0 else None


@dataclass(frozen=True)
class _Vit:
    """What `_vit` reads of a vision_config."""

    config: Mapping[str, Any]
    blocks: str
    hidden: int
    width: int
    heads: int
    depth: int
    patch: int  # side of a patch
    parameters: int
    numbers: int  # of one patch
    matrices: tuple[TowerMatrix, ...]

    def side(self, default: int) -> int:
        """Of a tile, in pixels."""
        return _number(self.config, "image_size", default=default)

    def tower(self, aligner: int, matrices: tuple[TowerMatrix, ...], text: int, cut: Cut, **more: Any) -> Tower:
        """With an aligner of so many parameters."""
        shape = (self.blocks, self.hidden, self.width, self.heads, self.depth, self.parameters)
        return Tower(*shape, aligner, (*self.matrices, *matrices), self.numbers, text, cut, **more)


def _number(config: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    """The first of these fields; of a list, its first item. Raises KeyError or ValueError where there is none."""
    for name in names:
        value = config.get(name)
        value = value[0] if isinstance(value, (list, tuple)) and value else value
        if isinstance(value, int) and not isinstance(value, bool):
            if not 0 < value <= MOST:
                raise ValueError(name)
            return value
    if default is None:
        raise KeyError(names[0])
    return default


def _vit(config: Mapping[str, Any], name: str, blocks: Blocks) -> _Vit:
    hidden = _number(config, *(("embed_dim",) if name == "qwen2_vl" else ()), "hidden_size")
    depth, heads = _number(config, "depth", "num_hidden_layers"), _number(config, "num_heads", "num_attention_heads")
    width = _number(config, "intermediate_size", default=int(float(config.get("mlp_ratio", 4)) * hidden))
    patch, channels = (
        _number(config, "patch_size", default=14),
        _number(config, "in_channels", "num_channels", default=3),
    )
    numbers = channels * patch**2 * (_number(config, "temporal_patch_size", default=2) if "qwen" in name else 1)
    attention = (
        [(hidden, 3 * hidden, depth), (hidden, hidden, depth)] if blocks.fused else [(hidden, hidden, 4 * depth)]
    )
    matrices = [*attention, (hidden, width, (2 if blocks.gated else 1) * depth), (width, hidden, depth)]
    linear = sum(inputs * outputs * count for inputs, outputs, count in matrices)
    bias = config.get("qkv_bias", config.get("attention_bias", False)) if name == "internvl" else True
    norms = 1 if config.get("norm_type") == "rms_norm" else blocks.norm
    normed = bool(config.get("qk_normalization", config.get("use_qk_norm", False)))
    vectors = 2 * norms + (4 if bias else 1) + 1 + (2 if blocks.scaled else 0) + (2 if normed else 0)
    small = depth * (vectors * hidden + (2 if blocks.gated else 1) * width)
    first = numbers * hidden + (hidden if blocks.patch_bias else 0) + 2 * blocks.outer_norms * hidden
    positions = 0 if name in ("qwen2_vl", "qwen2_5_vl") else _positions(config, name, patch)
    first += (positions + (2 if blocks.class_token else 0)) * hidden  # the token, and its position
    kept = tuple(TowerMatrix(VIT, *matrix) for matrix in matrices)
    return _Vit(config, name, hidden, width, heads, depth, patch, linear + small + first, numbers, kept)


def _positions(config: Mapping[str, Any], name: str, patch: int) -> int:
    """Learnt positions of patches."""
    if name == "qwen3_vl":
        return _number(config, "num_position_embeddings", default=2304)
    return (_number(config, "image_size", default=448 if name == "internvl" else 336) // patch) ** 2


def _two_layers(first: int, second: int, third: int, bias: bool = True) -> tuple[int, tuple[TowerMatrix, ...]]:
    """An MLP with one layer between: its parameters and matrices."""
    sizes = (first, second), (second, third)
    parameters = sum(inputs * outputs + (outputs if bias else 0) for inputs, outputs in sizes)
    return parameters, tuple(TowerMatrix(ALIGNER, inputs, outputs) for inputs, outputs in sizes)


def _merged(_config: Mapping[str, Any], vit: _Vit, text: int) -> Tower:
    """Qwen's: the patches of a square become one token."""
    merge = _number(vit.config, "spatial_merge_size", default=2)
    joined = merge**2 * vit.hidden
    parameters, matrices = _two_layers(joined, joined, text)
    norm = (1 if vit.blocks == "qwen2_5_vl" else 2) * vit.hidden
    levels = vit.config.get("deepstack_visual_indexes")
    stacked = len(levels) if isinstance(levels, list) else 0  # each has a norm over what is joined
    total = norm + parameters + stacked * (2 * joined + parameters)
    cut = Cut((vit.patch * merge) ** 2, merge**2, 1, MAX_TOKENS, variable="IMAGE_MAX_TOKEN_NUM")
    forward = vit.blocks == "qwen3_vl"
    return vit.tower(total, matrices * (1 + stacked), text, cut, inside=True, by_forward=forward, stacked=stacked)


def _shuffled(config: Mapping[str, Any], vit: _Vit, text: int) -> Tower:
    """InternVL's: tiles of one size, four patches of which become one token."""
    side = _number(config, "force_image_size", default=vit.side(448))
    fewer = round(1 / float(config.get("downsample_ratio", 0.5))) ** 2
    parameters, matrices = _two_layers(fewer * vit.hidden, text, text)
    patches = (side // vit.patch) ** 2
    # a form is taken where the image has more than half of its pixels (ms-swift's template/vision_utils.py)
    cut = Cut(side**2 // 2, patches, patches // fewer, TILES, overview=True, variable="MAX_NUM")
    return vit.tower(2 * fewer * vit.hidden + parameters, matrices, text, cut)


def _projected(config: Mapping[str, Any], vit: _Vit, text: int) -> Tower:
    """LLaVA's: an MLP. From 1.6 on an image is cut into tiles, by forms that the config.json lists."""
    levels = config.get("vision_feature_layer", -2)
    inputs = vit.hidden * (len(levels) if isinstance(levels, list) else 1)
    bias = config.get("multimodal_projector_bias") is not False
    parameters, matrices = _two_layers(inputs, text, text, bias)
    side, forms = vit.side(336), config.get("image_grid_pinpoints")
    newline = 0 if config.get("model_type") == "llava" else text
    tiles = max((high * wide // side**2 for high, wide in forms), default=1) if isinstance(forms, list) else 1
    patches = (side // vit.patch) ** 2
    cut = Cut(side**2, patches, patches, tiles, overview=True)
    return vit.tower(parameters + newline, matrices, text, cut, by_forward=True, every_layer=True)


def _resampled(config: Mapping[str, Any], vit: _Vit, text: int) -> Tower:
    """MiniCPM-V's: slices of about one size, which a fixed number of queries reads."""
    queries, slices = _number(config, "query_num", default=64), config.get("slice_config")
    sliced = slices if isinstance(slices, dict) else config
    side = _number(sliced, "scale_resolution", default=448)
    attention, norms = 4 * text**2 + 4 * text, 6 * text
    parameters = queries * text + vit.hidden * text + attention + norms + text**2
    matrices = (TowerMatrix(ALIGNER, vit.hidden, text), TowerMatrix(ALIGNER, text, text))
    most = _number(sliced, "max_slice_nums", default=9)
    cut = Cut(side**2, (side // vit.patch) ** 2, queries, most, overview=True, variable="MAX_SLICE_NUMS")
    return vit.tower(parameters, matrices, text, cut)


def _averaged(config: Mapping[str, Any], vit: _Vit, text: int) -> Tower:
    """Gemma 3's: one square of fixed size, whose patches are averaged and projected by one matrix."""
    tokens = _number(config, "mm_tokens_per_image", default=256)
    side = vit.side(896)
    cut = Cut(side**2, (side // vit.patch) ** 2, tokens, 1)
    return vit.tower(vit.hidden * text + vit.hidden, (), text, cut, by_forward=True)


ALIGNERS: Mapping[str, Callable[[Mapping[str, Any], _Vit, int], Tower]] = {
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl"), _merged),
    **dict.fromkeys(("internvl_chat", "internvl"), _shuffled),
    **dict.fromkeys(("llava", "llava_next", "llava_onevision"), _projected),
    "minicpmv": _resampled,
    **dict.fromkeys(("gemma3", "gemma3_text"), _averaged),
}
"""How the aligner is read, by the ``model_type`` of the model; Qwen's by the name of its blocks."""
