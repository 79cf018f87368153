"""What is seen is counted: by pixels and images, by what learns, and as transformers' own ViTs hold it."""

import importlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapes import CONFIGS

from tunekit.memory.estimate import estimate
from tunekit.memory.geometry import Geometry
from tunekit.memory.search import CHANGES, levers
from tunekit.memory.spec import GIB, PARTS_OF_MODEL, Spec, Unknown
from tunekit.memory.vision import COSTS, LEARNING, SEEING, language_spec, sight_of

SEEING_MODELS = sorted(name for name, config in CONFIGS.items() if "vision_config" in config)
QWEN, TEXT = CONFIGS["Qwen/Qwen2.5-VL-7B"], CONFIGS["Qwen/Qwen2.5-7B"]
TOWER = Geometry.from_config(QWEN).tower

specs = st.builds(
    Spec,
    config=st.sampled_from([CONFIGS[name] for name in SEEING_MODELS]),
    tuner=st.sampled_from(["lora", "qlora", "full"]),
    vit_tuner=st.sampled_from([None, "full"]),
    trains=st.sets(st.sampled_from(PARTS_OF_MODEL), min_size=1).map(lambda parts: tuple(sorted(parts))),
    micro_batch=st.integers(1, 8),
    seq_len=st.integers(64, 8192),
    images=st.integers(0, 8),
    pixels=st.integers(1, 10**8),
    attn=st.sampled_from(["flash", "eager"]),
    gradient_checkpointing=st.booleans(),
    vit_gradient_checkpointing=st.sampled_from([None, True, False]),
    sharding=st.sampled_from(["none", "zero2", "zero3"]),
    gpus=st.sampled_from([1, 8]),
    accumulates=st.booleans(),
)


def of(**more):
    return Spec(config=QWEN, seq_len=4096, loss_share=0.25, **more)


@given(specs)
def test_the_parts_sum_up(spec):
    found = estimate(spec)
    assert sum(found.breakdown.values()) == pytest.approx(found.allocated_gib)
    assert all(part >= 0 for part in found.breakdown.values())
    assert "vision" in found.breakdown


@given(specs, st.sampled_from(["images", "pixels", "micro_batch", "seq_len"]), st.integers(1, 1000))
def test_more_to_see_needs_no_less(spec, name, more):
    larger = replace(spec, **{name: getattr(spec, name) + (more if name == "pixels" else 1 + more % 8)})
    assert estimate(larger).allocated_gib >= estimate(spec).allocated_gib * (1 - 1e-9)


@given(specs, st.sampled_from(["vit", "aligner"]))
def test_more_that_learns_needs_no_less(spec, part):
    learning = replace(spec, trains=tuple({*spec.trains, part}))
    assert estimate(learning).allocated_gib >= estimate(spec).allocated_gib * (1 - 1e-9)


@given(specs)
def test_a_model_that_sees_needs_more_than_its_language_model(spec):
    blind = {name: value for name, value in spec.config.items() if name != "vision_config"}
    alone = replace(language_spec(spec), config=blind, trains=("llm",))
    seen, unseen = estimate(spec), estimate(replace(alone, target_modules=spec.target_modules or ("all-linear",)))
    if "llm" in spec.trains:
        assert seen.allocated_gib > unseen.allocated_gib
        assert seen.breakdown["weights"] > unseen.breakdown["weights"]


@given(specs)
def test_checkpoints_of_the_tower_save_memory(spec):
    with_them, without = (replace(spec, vit_gradient_checkpointing=said) for said in (True, False))
    assert estimate(with_them).allocated_gib <= estimate(without).allocated_gib or "vit" not in spec.trains


def test_weights_states_and_gradients_are_those_of_what_learns():
    frozen, learning = estimate(of()).breakdown, estimate(of(trains=PARTS_OF_MODEL, vit_tuner="full")).breakdown
    tower = TOWER.vit + TOWER.aligner
    assert frozen["weights"] == pytest.approx(2 * (Geometry.from_config(QWEN).parameters + tower) / GIB)
    assert learning["weights"] == frozen["weights"]
    assert learning["gradients"] - frozen["gradients"] == pytest.approx(2 * tower / GIB)
    assert learning["optimizer"] - frozen["optimizer"] == pytest.approx(4 * tower / GIB)
    assert learning["adapter"] == frozen["adapter"]


def test_adapters_of_the_tower_are_counted_by_its_linear_layers():
    both, alone = (estimate(of(trains=trains)).breakdown["adapter"] for trains in (PARTS_OF_MODEL, ("llm",)))
    numbers = sum(8 * (item.inputs + item.outputs) * item.count for item in TOWER.matrices)
    assert both - alone == pytest.approx(4 * numbers / GIB)


def test_bitsandbytes_leaves_the_tower_as_it_is():
    blind = {name: value for name, value in QWEN.items() if name != "vision_config"}
    whole, text = (estimate(Spec(config=config, tuner="qlora")) for config in (QWEN, blind))
    more = whole.breakdown["weights"] - text.breakdown["weights"]
    assert more == pytest.approx(2 * (TOWER.vit + TOWER.aligner) / GIB)


def test_a_frozen_language_model_has_neither_states_nor_gradients():
    found = estimate(of(tuner="full", trains=("aligner",))).breakdown
    assert found["optimizer"] == pytest.approx(4 * TOWER.aligner / GIB)
    assert found["gradients"] == pytest.approx(2 * TOWER.aligner / GIB)
    assert found["adapter"] == 0
    assert estimate(of(tuner="full", trains=("vit", "aligner"))).process_gib < estimate(of(tuner="full")).process_gib


def test_a_reference_model_is_a_copy_of_frozen_parts_too():
    once = estimate(of()).breakdown["weights"]
    for trains in (("llm",), ("aligner",), PARTS_OF_MODEL):
        twice = estimate(of(stage="dpo", tuner="full", trains=trains)).breakdown["weights"]
        assert twice == pytest.approx(2 * once)
    adapted = of(stage="dpo", trains=PARTS_OF_MODEL, vit_tuner="full")
    assert estimate(adapted).breakdown["weights"] == pytest.approx(once)


def test_a_frozen_tower_keeps_nothing_of_its_blocks():
    many = of(images=3, pixels=1000 * 28 * 28)
    patches = 3 * 1000 * 4
    frozen, learning = (
        sight_of(replace(many, trains=trains), Geometry.from_config(QWEN)).held for trains in (("llm",), ("llm", "vit"))
    )
    assert frozen == patches * 1176 * 4 + 2 * 3000 * 3584
    checkpoints = 2 * 1280 * 32 * patches
    assert learning - frozen == pytest.approx(checkpoints, rel=0.1)  # and what lies between the aligner's layers


def test_an_aligner_inside_the_tower_lets_its_gradients_through():
    """Its blocks are computed again though they are frozen; InternVL's stands outside."""
    for name, through in (("Qwen/Qwen2.5-VL-7B", True), ("OpenGVLab/InternVL3-8B", False)):
        geometry = Geometry.from_config(CONFIGS[name])
        spec = Spec(config=CONFIGS[name], trains=("aligner",), tuner="full", seq_len=4096)
        sight, without = (sight_of(item, geometry) for item in (spec, replace(spec, vit_gradient_checkpointing=False)))
        assert (sight.backward > 0) == through
        assert without.backward == 0


def test_images_that_do_not_fit_their_row_are_not_counted():
    many = of(images=100)
    assert estimate(many).breakdown["vision"] == estimate(of(images=4)).breakdown["vision"]
    assert any("more than the row" in note for note in estimate(many).notes)
    assert not any("more than the row" in note for note in estimate(of()).notes)


def test_the_peak_can_be_the_tower():
    seen = of(images=16, pixels=12_000_000)
    wide = replace(seen, seq_len=400_000, loss_share=0.0, liger=True)
    assert estimate(replace(wide, tuner="full", trains=("aligner",), images=0)).peak_at not in (SEEING, LEARNING)
    learning = replace(of(images=3), trains=PARTS_OF_MODEL, attn="eager", pixels=1000 * 28 * 28, liger=True)
    assert estimate(learning).peak_at == LEARNING


def test_what_is_not_known_is_said():
    unknown = Spec(config={**TEXT, "vision_config": {"model_type": "pixtral"}})
    assert any("not counted: this kind of tower" in note for note in estimate(unknown).notes)
    assert any("(vit)" in note for note in estimate(replace(unknown, trains=("llm", "vit"))).notes)
    with pytest.raises(Unknown, match="vit"):
        estimate(replace(unknown, trains=("vit",)))
    assert any("1,280 tokens each; video and audio" in note for note in estimate(of()).notes)


def test_a_model_of_text_is_told_as_before():
    found = estimate(Spec(config=TEXT))
    assert found == estimate(Spec(config=TEXT, images=9, pixels=10**8))
    assert "vision" not in found.breakdown
    assert not any("image" in note for note in found.notes)


def test_blocks_of_another_model_are_counted_as_where_they_were_read_off():
    siglip = CONFIGS["google/gemma-3-4b"]["vision_config"]
    strange = {**CONFIGS["OpenGVLab/InternVL3-8B"], "vision_config": {**siglip, "model_type": "clip_vision_model"}}
    assert estimate(Spec(config=strange, trains=PARTS_OF_MODEL)).breakdown["vision"] > 0


def test_every_tower_has_its_costs():
    for name in SEEING_MODELS:
        tower = Geometry.from_config(CONFIGS[name]).tower
        assert (tower.blocks, tower.by_forward) in COSTS
        for _, change in CHANGES:
            assert estimate(change(Spec(config=CONFIGS[name], trains=PARTS_OF_MODEL))).allocated_gib > 0


def test_fewer_pixels_and_checkpoints_are_ways_to_need_less():
    helps = {lever.name for lever in levers(of(images=3, trains=PARTS_OF_MODEL, vit_gradient_checkpointing=False))}
    assert {"gradient checkpointing of the ViT", "images of half the pixels"} <= helps
    assert not {"gradient checkpointing of the ViT", "images of half the pixels"} & {
        lever.name for lever in levers(Spec(config=TEXT))
    }


SQUARE, HIDDEN, WIDTH, HEADS = 16, 64, 256, 4
QWEN_VIT = {"num_heads": HEADS, "patch_size": 14}
PLAIN_VIT = {"hidden_size": HIDDEN, "intermediate_size": WIDTH, "num_attention_heads": HEADS, "patch_size": 14}
SIDE = 14 * SQUARE
BUILT = {  # class in transformers, its configuration, and the name of its depth
    "qwen2_vl": ("qwen2_vl", "Qwen2VisionTransformerPretrainedModel", {**QWEN_VIT, "embed_dim": HIDDEN}, "depth"),
    "qwen2_5_vl": (
        *("qwen2_5_vl", "Qwen2_5_VisionTransformerPretrainedModel"),
        *({**QWEN_VIT, "hidden_size": HIDDEN, "intermediate_size": WIDTH}, "depth"),
    ),
    "siglip": (
        *("siglip", "SiglipVisionModel"),
        *({**PLAIN_VIT, "image_size": SIDE, "vision_use_head": False}, "num_hidden_layers"),
    ),
    "internvl": ("internvl", "InternVLVisionModel", {**PLAIN_VIT, "image_size": [SIDE, SIDE]}, "num_hidden_layers"),
}


def kept_of(torch, family, depth, trained):
    """Bytes of the tensors that transformers' own ViT saves for backward, parameters left out."""
    folder, name, shape, deep = BUILT[family]
    module = importlib.import_module(f"transformers.models.{folder}.modeling_{folder}")
    config = getattr(module, name).config_class(**shape, **{deep: depth})
    config._attn_implementation = "sdpa"
    model = getattr(module, name)(config).to(torch.bfloat16).train().requires_grad_(trained)
    if family.startswith("qwen"):
        pixels = torch.zeros(SQUARE**2, 3 * 2 * 14 * 14, dtype=torch.bfloat16, requires_grad=True)
        inputs = (pixels, torch.tensor([[1, SQUARE, SQUARE]]))
    else:
        inputs = (torch.zeros(1, 3, SIDE, SIDE, dtype=torch.bfloat16, requires_grad=True),)
    saved, own = {}, {item.untyped_storage().data_ptr() for item in model.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(*inputs)
    assert output is not None  # held, so that no storage takes the place of another
    return sum(size for place, size in saved.items() if place not in own)


@pytest.mark.engine
@pytest.mark.parametrize("family", BUILT)
@pytest.mark.parametrize("trained", [True, False])
def test_a_block_keeps_what_transformers_saves(family, trained):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    patches = SQUARE**2 + (1 if family == "internvl" else 0)  # the class token
    hidden, width = COSTS[family, False].full if trained else COSTS[family, False].through
    statistics = 8  # a float32 mean and scale of each norm, which are not counted
    block = kept_of(torch, family, 3, trained) - kept_of(torch, family, 2, trained)
    assert block == patches * (hidden * HIDDEN + width * WIDTH + 4 * HEADS + statistics)
