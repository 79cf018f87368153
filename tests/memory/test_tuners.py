"""What trains is counted as peft and ms-swift's own tuners build it: numbers, bytes, and what is held beside."""

from dataclasses import MISSING, fields
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.memory.estimate import estimate
from tunekit.memory.fields import TUNERS, TunerFields
from tunekit.memory.geometry import Geometry
from tunekit.memory.kinds import REFUSED, SHAPES
from tunekit.memory.spec import Spec, Unknown
from tunekit.memory.tuners import frozen_bytes, grown, trained_matrices, trained_numbers, trained_share

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 512,
    "tie_word_embeddings": False,
}
KINDS = [
    ("lora", {}),
    ("lora", {"use_dora": True}),
    ("lora", {"lora_bias": "all"}),
    ("lora", {"modules_to_save": ("embed_tokens", "lm_head"), "target_modules": ("q_proj",)}),
    ("lora", {"modules_to_save": ("all-norm", "q_proj"), "target_modules": ("v_proj",)}),
    ("lora", {"modules_to_save": ("q_proj",), "target_modules": ("v_proj", "q_proj")}),
    ("lora", {"modules_to_save": ("mlp",)}),
    ("lora", {"modules_to_save": ("norm",)}),
    ("lora", {"modules_to_save": ("all-embedding",)}),
    ("lora", {"target_modules": ("q_proj", "lm_head", "embed_tokens")}),
    ("lora", {"target_modules": ("all-linear", "all-embedding")}),
    ("lora", {"target_regex": ".*layers.[01].*q_proj"}),
    ("lora", {"target_modules": ("layers.1.self_attn.q_proj",)}),
    ("lora", {"lora_dtype": "bfloat16", "use_dora": True}),
    ("lora", {"target_modules": ("lm_head", "embed_tokens"), "use_dora": True}),
    ("lora", {"lora_dropout": 0.0, "target_modules": ("k_proj",), "target_parameters": ("q_proj.weight",)}),
    ("adalora", {}),
    ("adalora", {"adalora_init_r": 20, "modules_to_save": ("lm_head",)}),
    ("llamapro", {"llamapro_num_new_blocks": 2}),
    ("adapter", {}),
    ("adapter", {"adapter_length": 7, "modules_to_save": ("lm_head",)}),
    ("vera", {}),
    ("vera", {"target_modules": ("q_proj", "o_proj"), "vera_rank": 33}),
    ("vera", {"target_modules": ("gate_proj", "up_proj")}),
    ("boft", {}),
    ("boft", {"boft_block_size": 0, "boft_block_num": 4}),
    ("fourierft", {}),
    ("fourierft", {"fourier_n_frequency": 100, "modules_to_save": ("lm_head",)}),
    ("ia3", {}),
    ("full", {}),
    ("full", {"freeze_parameters_ratio": 0.3}),
    ("full", {"freeze_parameters_ratio": 0.5}),
    ("full", {"freeze_parameters_ratio": 0.9}),
    ("full", {"freeze_parameters_ratio": 1, "trainable_parameters": ("model.layers.3.",)}),
    ("full", {"freeze_parameters": ("model.embed", "model.layers.0")}),
    ("full", {"freeze_parameters_regex": "mlp"}),
    ("full", {"freeze_parameters_ratio": 1.0, "trainable_parameters_regex": "norm"}),
]


def spec_of(kind, config=CONFIG, **said):
    """The specification of a kind of adapter, or of full training."""
    return Spec(config=config, **({"tuner": "full"} if kind == "full" else {"adapter": kind}), **said)


def counted(spec):
    """Numbers that train, their bytes, and bytes of what adapters hold beside."""
    geometry = grown(spec, Geometry.from_config(spec.config))
    matrices = trained_matrices(spec, geometry)
    numbers = sum(item.numbers for item in matrices)
    assert numbers == trained_numbers(spec, geometry)
    return numbers, sum(item.numbers * item.width for item in matrices), frozen_bytes(spec, geometry)


@pytest.fixture(scope="module")
def swift():
    """ms-swift's own preparation of a model for training."""
    pytest.importorskip("peft")
    return pytest.importorskip("swift.pipelines.train.tuner", exc_type=ImportError)


def built(swift, kind, said):
    """The same numbers of the model that ms-swift prepares."""
    import torch
    import transformers
    from swift.arguments.tuner_args import TunerArguments
    from swift.model.model_arch import get_model_arch

    values = {
        item.name: item.default if item.default is not MISSING else item.default_factory()
        for item in fields(TunerArguments)
        if item.default is not MISSING or item.default_factory is not MISSING
    }
    values |= {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}
    values |= {name: values[name] or None for name in ("freeze_parameters_regex", "trainable_parameters_regex")}
    values |= {"tuner_type": kind, "is_adapter": kind != "full", "init_weights": True, "task_type": "causal_lm"}
    values |= {"use_swift_lora": False, "tuner_backend": "peft", "training_args": SimpleNamespace(max_steps=100)}
    values |= {"adapters": [], "resume_from_checkpoint": None, "use_liger_kernel": False, "use_galore": False}
    if values.get("target_regex"):
        values["target_modules"] = values["target_regex"]
    config = {name: value for name, value in CONFIG.items() if name != "model_type"}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config)).to(torch.bfloat16)
    model.model_meta = SimpleNamespace(is_multimodal=False, model_arch=get_model_arch("llama"))
    model = swift.TunerMixin.prepare_model(SimpleNamespace(**values), model)
    trained = [item for item in model.parameters() if item.requires_grad]
    beside = [item for name, item in model.named_buffers() if "inv_freq" not in name]
    numbers = sum(item.numel() for item in trained)
    return numbers, sum(item.nbytes for item in trained), sum(item.nbytes for item in beside)


@pytest.mark.engine
@pytest.mark.parametrize(("kind", "said"), [pytest.param(*case, id=f"{case[0]} {case[1]}") for case in KINDS])
def test_as_many_train_as_in_the_model_that_ms_swift_prepares(swift, monkeypatch, kind, said):
    monkeypatch.setattr(swift, "calculate_max_steps", lambda *_: 100)
    numbers, size, beside = built(swift, kind, said)
    told = counted(spec_of(kind, **said))
    assert told[:2] == (numbers, size)
    if kind != "adalora":  # its scores are made as it trains
        assert told[2] == beside


def test_adalora_keeps_three_scores_of_each_number():
    numbers, _, beside = counted(spec_of("adalora"))
    assert beside == 3 * 4 * numbers


@pytest.mark.parametrize("kind", TUNERS)
def test_every_kind_has_a_count_or_a_reason(kind):
    config = CONFIG | {"num_hidden_layers": 4}
    if kind in REFUSED:
        with pytest.raises(Unknown, match=f"{kind} cannot be predicted: "):
            estimate(spec_of(kind, config))
    else:
        assert estimate(spec_of(kind, config)).breakdown["adapter"] > 0


@pytest.mark.parametrize(
    ("kind", "said", "why"),
    [
        ("lora", {"target_modules": ("nope",)}, "no linear layer of llama is called nope"),
        ("lora", {"target_regex": "nope"}, "no linear layer of llama is called nope"),
        ("lora", {"target_parameters": ("experts.up",)}, "no parameter of llama is called experts.up"),
        ("adalora", {"use_dora": True}, "AdaLoRA does not take DoRA"),
        ("llamapro", {"llamapro_num_new_blocks": 3}, "3 equal groups of 4 layers"),
        ("vera", {"target_modules": ("q_proj", "k_proj")}, "layers of one size"),
        ("boft", {"boft_block_num": 4}, "0 for the other"),
        ("boft", {"boft_block_size": 7}, "do not divide the 64 inputs"),
        ("fourierft", {"fourier_n_frequency": 10_000}, "more frequencies than"),
        ("full", {"freeze_parameters_ratio": 1}, "nothing trains"),
    ],
)
def test_what_cannot_be_is_refused(kind, said, why):
    with pytest.raises(Unknown, match=why):
        counted(spec_of(kind, **said))


def test_flags_of_other_kinds_do_nothing():
    assert counted(spec_of("vera", use_dora=True)) == counted(spec_of("vera"))
    assert counted(spec_of("ia3", modules_to_save=("lm_head",))) == counted(spec_of("ia3"))
    assert counted(spec_of("full", modules_to_save=("lm_head",))) == counted(spec_of("full"))


def test_a_tied_head_that_is_saved_is_a_copy_of_its_own():
    tied = CONFIG | {"tie_word_embeddings": True}
    table = 512 * 64
    plain = counted(spec_of("lora", tied))[0]
    assert counted(spec_of("lora", tied, modules_to_save=("lm_head",)))[0] == plain + table
    assert counted(spec_of("lora", tied, modules_to_save=("lm_head", "embed_tokens")))[0] == plain + 2 * table


def test_float16_trains_in_float32():
    spec = spec_of("lora", modules_to_save=("lm_head",), target_modules=("q_proj",), precision="fp16")
    numbers, size, _ = counted(spec)
    assert size == 4 * numbers


def test_new_tokens_are_rows_of_both_tables():
    base, more = (estimate(spec_of("lora", new_special_tokens=count)).breakdown["weights"] for count in (0, 3))
    assert (more - base) * 2**30 == pytest.approx(2 * 2 * 128 * 64)


def test_lisa_has_gradients_of_some_layers_and_states_of_all():
    full, lisa = (spec_of("full", lisa_activated_layers=active) for active in (0, 1))
    geometry = Geometry.from_config(CONFIG)
    layers = geometry.parameters - 2 * 512 * 64 - 64
    assert trained_share(lisa, geometry) == pytest.approx((geometry.parameters - 3 / 4 * layers) / geometry.parameters)
    parts = [estimate(spec).breakdown for spec in (full, lisa)]
    assert parts[0]["optimizer"] == parts[1]["optimizer"]
    assert parts[0]["gradients"] > parts[1]["gradients"]


SAVED = ("lm_head", "embed_tokens", "norm", "mlp", "q_proj")
lengths = st.integers(1, 4096)


@given(st.sets(st.sampled_from(SAVED)), st.sampled_from(SAVED), st.sampled_from(["lora", "adalora", "vera"]), lengths)
def test_more_saved_modules_never_need_less(saved, more, kind, length):
    targets = ("k_proj", "v_proj")  # of an adapter on a saved module nothing stays
    fewer, several = (
        estimate(spec_of(kind, modules_to_save=tuple(sorted(names)), target_modules=targets, seq_len=length))
        for names in (saved, saved | {more})
    )
    assert several.allocated_gib >= fewer.allocated_gib * (1 - 1e-9)


@given(st.floats(0, 0.99), st.floats(0, 0.99), lengths, st.booleans())
def test_more_frozen_never_needs_more(one, other, length, accumulates):
    low, high = sorted((one, other))
    less, more = (
        estimate(spec_of("full", freeze_parameters_ratio=share, seq_len=length, accumulates=accumulates))
        for share in (low, high)
    )
    assert more.allocated_gib <= less.allocated_gib * (1 + 1e-9)
    assert more.allocated_gib <= estimate(spec_of("full", seq_len=length, accumulates=accumulates)).allocated_gib


RANKS = {"lora": "lora_rank", "adalora": "adalora_init_r", "vera": "vera_rank", "adapter": "adapter_length"}


@given(st.sampled_from(sorted(RANKS)), st.integers(1, 64), st.integers(0, 64), lengths, st.booleans())
def test_more_rank_never_needs_less(kind, rank, more, length, dora):
    small, large = (
        estimate(spec_of(kind, seq_len=length, use_dora=dora and kind == "lora", **{RANKS[kind]: value}))
        for value in (rank, rank + more)
    )
    assert large.allocated_gib >= small.allocated_gib * (1 - 1e-9)


@given(st.sampled_from(sorted({*SHAPES, "adapter", "llamapro", "full"})), lengths, st.booleans(), st.booleans())
def test_the_parts_are_the_whole(kind, length, checkpoints, liger):
    guess = estimate(spec_of(kind, seq_len=length, gradient_checkpointing=checkpoints, liger=liger))
    assert sum(guess.breakdown.values()) == pytest.approx(guess.allocated_gib)
    assert all(part >= 0 for part in guess.breakdown.values())


def test_fields_change_nothing_where_they_are_not_said():
    plain = Spec(config=CONFIG)
    said = {item.name: item.default for item in fields(TunerFields)}
    assert estimate(Spec(config=CONFIG, **said)) == estimate(plain)
