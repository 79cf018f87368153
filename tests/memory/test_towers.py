"""ViT and aligner are counted exactly, and an image becomes as many tokens as the model's processor makes of it."""

import json

import pytest
from shapes import CONFIGS

from tunekit.memory.geometry import Geometry
from tunekit.memory.spec import PIXELS
from tunekit.memory.towers import Cut, language_config, tower_of

# Parameters of the published weights: language model, ViT and aligner. Those of InternVL and MiniCPM-V, whose code is
# their own, are what the formula gave, and could not be looked up.
WHOLE = {
    "Qwen/Qwen2-VL-2B": 2_208_985_600,
    "Qwen/Qwen2-VL-7B": 8_291_375_616,
    "Qwen/Qwen2.5-VL-3B": 3_754_622_976,
    "Qwen/Qwen2.5-VL-7B": 8_292_166_656,
    "Qwen/Qwen2.5-VL-72B": 73_410_777_344,
    "Qwen/Qwen3-VL-8B": 8_767_123_696,
    "OpenGVLab/InternVL3-8B": 7_944_373_760,
    "openbmb/MiniCPM-V-2_6": 8_099_175_152,
    "openbmb/MiniCPM-Llama3-V-2_5": 8_537_092_336,
    "llava-hf/llava-1.5-7b-hf": 7_063_427_072,
    "google/gemma-3-4b": 4_300_079_472,
    "google/gemma-3-27b": 27_432_406_640,
}
INTERNLM = {"model_type": "internlm2", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
INTERNLM |= {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 92553, "tie_word_embeddings": False}
TEXT = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "vocab_size": 1000}
TEXT |= {"num_attention_heads": 4, "num_key_value_heads": 2}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
QWEN = {"depth": 4, "hidden_size": 64, "num_heads": 4, "intermediate_size": 96, "out_hidden_size": 256}
QWEN2 = {"depth": 4, "embed_dim": 64, "num_heads": 4, "mlp_ratio": 4, "hidden_size": 256}
DEEP = {**QWEN, "deepstack_visual_indexes": [1, 2]}
VIT = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "patch_size": 14}
CLIP = {**VIT, "model_type": "clip_vision_model", "image_size": 336}
SIGLIP = {**VIT, "model_type": "siglip_vision_model", "image_size": 384, "vision_use_head": False}
TILED = {**VIT, "image_size": [448, 448], "patch_size": [14, 14], "attention_bias": True}
NORMED = {**TILED, "attention_bias": False, "use_qk_norm": True, "norm_type": "rms_norm"}
PROJECTOR, NEWLINE = "model.multi_modal_projector", "model.image_newline"
BUILT = [
    ("Qwen2VLConfig", TEXT, QWEN2, "model.visual", ["model.visual.merger"]),
    ("Qwen2_5_VLConfig", TEXT, QWEN, "model.visual", ["model.visual.merger"]),
    ("Qwen3VLConfig", TEXT, DEEP, "model.visual", ["model.visual.merger", "model.visual.deepstack_merger_list"]),
    (
        *("Qwen3VLMoeConfig", {**TEXT, **EXPERTS}, DEEP, "model.visual"),
        ["model.visual.merger", "model.visual.deepstack_merger_list"],
    ),
    ("InternVLConfig", {**TEXT, "model_type": "qwen2"}, TILED, "model.vision_tower", [PROJECTOR]),
    ("InternVLConfig", {**TEXT, "model_type": "qwen2"}, NORMED, "model.vision_tower", [PROJECTOR]),
    ("LlavaConfig", {**TEXT, "model_type": "llama"}, CLIP, "model.vision_tower", [PROJECTOR]),
    ("LlavaNextConfig", {**TEXT, "model_type": "llama"}, CLIP, "model.vision_tower", [PROJECTOR, NEWLINE]),
    ("LlavaOnevisionConfig", {**TEXT, "model_type": "qwen2"}, SIGLIP, "model.vision_tower", [PROJECTOR, NEWLINE]),
    ("Gemma3Config", TEXT, SIGLIP, "model.vision_tower", [PROJECTOR]),
]


@pytest.mark.parametrize("name", WHOLE)
def test_the_parameters_are_those_of_the_published_weights(name):
    geometry = Geometry.from_config(CONFIGS[name])
    assert geometry.parameters + geometry.tower.vit + geometry.tower.aligner == WHOLE[name]


def test_internvl_before_3_has_a_language_model_of_its_own():
    """The parameters of InternVL2_5-8B."""
    config = {**CONFIGS["OpenGVLab/InternVL3-8B"], "llm_config": INTERNLM}
    geometry = Geometry.from_config(config)
    assert geometry.parameters + geometry.tower.vit + geometry.tower.aligner == 8_075_365_376


@pytest.mark.engine
@pytest.mark.parametrize(("kind", "text", "vision", "vit", "aligner"), BUILT)
def test_the_parameters_are_those_that_transformers_builds(kind, text, vision, vit, aligner):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = getattr(transformers, kind)(text_config=text, vision_config=vision)
    with torch.device("meta"):
        model = transformers.AutoModelForImageTextToText.from_config(config)
    sizes = {name: item.numel() for name, item in model.named_parameters()}
    aligned = sum(size for name, size in sizes.items() if name.startswith(tuple(aligner)))
    seen = sum(size for name, size in sizes.items() if name.startswith(vit) and not name.startswith(tuple(aligner)))
    tower = tower_of(json.loads(json.dumps(config.to_dict())), text["hidden_size"])
    assert (tower.vit, tower.aligner) == (seen, aligned)


@pytest.mark.parametrize(
    ("name", "pixels", "tokens"),
    [
        ("Qwen/Qwen2.5-VL-7B", PIXELS, 1280),
        ("Qwen/Qwen2.5-VL-7B", 10**9, 16_384),  # more than qwen_vl_utils lets through
        ("Qwen/Qwen3-VL-8B", 1024 * 32 * 32, 1024),
        ("OpenGVLab/InternVL3-8B", 448 * 448 // 2, 256),
        ("OpenGVLab/InternVL3-8B", 10**9, 13 * 256),  # 12 tiles and the overview
        ("openbmb/MiniCPM-V-2_6", 448 * 448, 64),
        ("openbmb/MiniCPM-V-2_6", 10**9, 10 * 64),
        ("llava-hf/llava-1.5-7b-hf", 10**9, 576),
        ("google/gemma-3-4b", 10**9, 256),
    ],
)
def test_tokens_of_an_image(name, pixels, tokens):
    cut = Geometry.from_config(CONFIGS[name]).tower.cut
    assert cut.pieces(pixels) * cut.tokens == tokens


def test_llava_cuts_by_its_forms():
    config = {"model_type": "llava_next", "text_config": TEXT, "vision_config": CLIP}
    assert tower_of({**config, "image_grid_pinpoints": [[336, 672], [672, 672]]}, 256).cut.pieces(10**9) == 5
    assert tower_of(config, 256).cut.pieces(10**9) == 1


def test_pieces_are_at_least_one_and_an_overview_comes_with_several():
    cut = Cut(area=100, patches=4, tokens=1, most=3, overview=True)
    assert [cut.pieces(pixels) for pixels in (1, 100, 101, 301, 10**6)] == [1, 1, 3, 4, 4]


def test_the_language_model_is_found_wherever_it_is_said():
    assert language_config({"llm_config": {"model_type": "qwen3"}}) == {"model_type": "qwen3"}
    assert language_config({"model_type": "minicpmv", "version": "4.5"})["model_type"] == "qwen3"
    assert language_config({"model_type": "minicpmv", "version": 2.6})["model_type"] == "qwen2"
    assert language_config({"model_type": "minicpmv"})["model_type"] == "llama"


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama"},
        {"model_type": "llava", "vision_config": {}},
        {"model_type": "llava", "vision_config": {"model_type": "pixtral"}},
        {"model_type": "unheard", "vision_config": CLIP},
        {"model_type": "llava", "vision_config": {**CLIP, "hidden_size": "wide"}},
        {"model_type": "llava", "vision_config": {**CLIP, "num_hidden_layers": -1}},
        {
            "model_type": "internvl_chat",
            "vision_config": {**TILED, "model_type": "intern_vit_6b"},
            "downsample_ratio": 0,
        },
        {"model_type": "llava", "vision_config": {**CLIP, "image_size": 7}},
        {"model_type": "llava", "vision_config": CLIP, "image_grid_pinpoints": [[1, 1]]},
        {"model_type": "llava", "vision_config": CLIP, "image_grid_pinpoints": [336, 672]},
        {"model_type": "qwen2_vl", "vision_config": {**QWEN2, "mlp_ratio": "inf"}},
        {"model_type": "qwen2_vl", "vision_config": {**QWEN2, "mlp_ratio": -4}},
    ],
)
def test_a_tower_that_is_not_known_is_none(config):
    assert tower_of(config, 256) is None
