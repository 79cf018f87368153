"""Which parts are trained: the table of strategies, names of parameters, learning rates, the size of images."""

import json
import subprocess
import sys

import pytest
from running import make_rows

from tunekit.errors import TunekitError
from tunekit.plan import images
from tunekit.plan.models.find import resolve
from tunekit.plan.models.model import Model
from tunekit.plan.models.parameters import STEMS, Layers, check_prefix, layers_of
from tunekit.plan.parts import ALIGNER, FREEZES, FULL, LLM, RANGES, RATES, VIT, describe_parts, trained_parts
from tunekit.plan.settings import COMMAND_LINE, Source, layer_of
from tunekit.plan.strategies import ADAPTER_FLAGS, SELECTS, STRATEGIES, Tuning, find_strategy

VL = "Qwen2.5-VL-7B-Instruct"
TEXT = "Qwen2.5-7B"
BIG = "8x80GB"
CONFIG = Source("config", "config.toml")
NEEDS = {"freeze": {"trainable_layers": 4}, "partial_llm_full_vit": {"frozen_layers": 3}}
"""What a strategy must be told beside its name."""


def tuned(name, **more):
    return Tuning(name, **(NEEDS.get(name, {}) | more))


def of(plan, *flags):
    return tuple(plan.get(flag) for flag in flags)


# --- the table


def test_the_five_of_the_guide_and_those_for_text():
    five = {"qlora", "lora_llm_full_vit", "partial_llm_full_vit", "vit_only", "full"}
    assert five | {"lora", "freeze"} < STRATEGIES.keys()
    assert {name for name, strategy in STRATEGIES.items() if not strategy.vision_only} == {
        "lora",
        "qlora",
        "full",
        "freeze",
    }
    for strategy in STRATEGIES.values():
        assert strategy.title
        assert strategy.when


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_makes_a_plan_that_says_what_it_trains(name, make):
    plan = make(model=VL, gpus=BIG, tuning=tuned(name))
    source = Source("strategy", name)
    assert plan.settings["tuner_type"].value == STRATEGIES[name].tuner
    assert plan.settings["tuner_type"].source == source
    assert STRATEGIES[name].title in plan.settings["tuner_type"].why
    told = describe_parts(plan)
    for part, (flag, _) in FREEZES.items():
        if STRATEGIES[name].tuner != "lora_llm":
            assert plan.settings[flag].source == source
            assert (part in trained_parts(plan)) == (plan.get(flag) is False)
        assert part in told
    assert not [change for change in plan.changes if change.flag in SELECTS]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("lora", "adapters in the language model at 0.0002; the ViT and the aligner are frozen"),
        ("full", "the language model in full at 2e-05; the ViT and the aligner in full at 0.0001"),
        ("freeze", "the last 4 layers of the language model in full at 2e-05; the ViT and the aligner are frozen"),
        ("lora_all", "adapters in the language model, the ViT and the aligner at 0.0002"),
        (
            "lora_llm_full_vit",
            "adapters in the language model at 0.0001; the ViT and the aligner in full at 0.0002",
        ),
        (
            "partial_llm_full_vit",
            "the language model above its first 3 layers in full at 2e-05; the ViT and the aligner in full at 0.0001",
        ),
        ("vit_only", "the ViT and the aligner in full at 0.0001; the language model is frozen"),
        ("aligner_only", "the aligner in full at 0.0001; the language model and the ViT are frozen"),
    ],
)
def test_in_words(name, told, make):
    plan = make(model=VL, gpus=BIG, tuning=tuned(name), preset="7b")
    assert describe_parts(plan) == told


def test_text_strategies_say_nothing_of_vision(make):
    plan = make(tuning=tuned("freeze"), gpus=BIG)
    assert not {"freeze_llm", "freeze_vit", "freeze_aligner", "vit_lr", "aligner_lr", "max_pixels"} & set(plan.settings)
    assert of(plan, "tuner_type", "freeze_parameters_ratio") == ("full", 1)
    assert plan.get("trainable_parameters") == [f"model.layers.{number}." for number in (24, 25, 26, 27)]
    assert of(make(tuning=tuned("qlora")), "tuner_type", "quant_method", "quant_bits") == ("lora", "bnb", "4")


def test_a_model_that_is_not_listed_may_have_a_vision_part(make):
    plan = make(model=Model("org/unheard-of", 7), gpus=BIG, preset="7b", tuning=tuned("vit_only"))
    assert of(plan, "tuner_type", "freeze_llm", "freeze_vit", "freeze_aligner") == ("full", True, False, False)


def test_partial_freezes_the_embedding_and_the_first_layers(make):
    plan = make(model=VL, gpus=BIG, tuning=tuned("partial_llm_full_vit"))
    stem = "model.language_model."
    layers = [f"{stem}layers.{number}." for number in range(3)]
    assert plan.get("freeze_parameters") == [f"{stem}embed_tokens.", *layers]


@pytest.mark.parametrize(
    ("model", "tuning", "says"),
    [
        (TEXT, Tuning("vit_only"), "for models with a vision part"),
        (TEXT, Tuning("lora_all"), "for models with a vision part"),
        (VL, Tuning("vit_onyl"), "there is no tuning strategy vit_onyl"),
        (VL, Tuning("freeze"), "needs --trainable-layers N, from 1 to 27"),
        (VL, Tuning("freeze", trainable_layers=28), "from 1 to 27, not 28"),
        (VL, Tuning("freeze", trainable_layers=0), "from 1 to 27, not 0"),
        (VL, Tuning("partial_llm_full_vit"), "needs --llm-frozen-layers N"),
        (VL, Tuning("partial_llm_full_vit", trainable_layers=2), "--trainable-layers needs --tuning-strategy freeze"),
        (VL, Tuning("full", frozen_layers=2), "--llm-frozen-layers needs --tuning-strategy partial_llm_full_vit"),
        (VL, Tuning(frozen_layers=2), "--llm-frozen-layers needs --tuning-strategy partial_llm_full_vit"),
    ],
)
def test_refused(model, tuning, says, make):
    with pytest.raises(TunekitError) as refused:
        make(model=model, tuning=tuning, gpus=BIG)
    assert says in refused.value.message


def test_closest_name():
    with pytest.raises(TunekitError) as refused:
        find_strategy("vit_onyl")
    assert refused.value.hint == "did you mean vit_only?"


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("full", {"freeze_vit": True}),
        ("full", {"tuner_type": "lora"}),
        ("full", {"freeze_parameters": ["model.visual."]}),
        ("full", {"lora_rank": 4}),
        ("vit_only", {"quant_bits": "4"}),
        ("lora", {"tuner_type": "full"}),
        ("qlora", {"quant_bits": "2"}),
        ("qlora", {"quant_method": "hqq"}),
        ("lora_llm_full_vit", {"freeze_llm": True}),
        ("freeze", {"trainable_parameters": ["model.language_model.layers.2."]}),
    ],
)
def test_what_was_typed_may_not_contradict_it(name, typed, make):
    (flag,) = typed
    with pytest.raises(TunekitError, match=f"^--{flag} .* contradicts --tuning-strategy {name}"):
        make(model=VL, gpus=BIG, tuning=tuned(name), **typed)


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("full", {"freeze_vit": False}),
        ("qlora", {"quant_bits": "8"}),
        ("lora", {"quant_bits": "4"}),
        ("lora_llm_full_vit", {"quant_bits": "4", "lora_rank": 64}),
        ("vit_only", {"learning_rate": 2e-4, "vit_lr": 1e-4}),
    ],
)
def test_what_was_typed_stays_where_it_agrees(name, typed, make):
    plan = make(model=VL, gpus=BIG, tuning=tuned(name), **typed)
    for flag, value in typed.items():
        assert (plan.get(flag), plan.settings[flag].source) == (value, COMMAND_LINE)


def test_a_strategy_is_stronger_than_the_configuration_and_its_rates_are_weaker(make):
    config = layer_of(CONFIG, {"freeze_vit": True, "vit_lr": 3e-5, "freeze_parameters": ["model."]})
    plan = make(model=VL, gpus=BIG, tuning=tuned("full"), layers=[config], overlays=["stable"])
    assert (plan.get("freeze_vit"), plan.settings["freeze_vit"].source) == (False, Source("strategy", "full"))
    assert "freeze_parameters" not in plan.settings, "a strategy decides alone what is frozen"
    assert not {"lora_rank", "lora_alpha", "target_modules"} & set(plan.settings), "there is no adapter"
    assert (plan.get("vit_lr"), plan.settings["vit_lr"].source) == (3e-5, CONFIG)
    assert (plan.get("learning_rate"), plan.settings["learning_rate"].source) == (2e-5, Source("strategy", "full"))


def test_the_flags_are_those_of_ms_swift(flags):
    known = flags.by_command["sft"]
    assert {*SELECTS, *ADAPTER_FLAGS, *RATES.values(), images.FLAG} <= known.keys()


# --- learning rates


def test_one_rate_for_all_or_one_for_the_language_model(make):
    asked = {"model": VL, "gpus": BIG, "learning_rate": 3e-5}
    alike = make(tuning=tuned("full"), **asked)
    assert of(alike, "learning_rate", "vit_lr", "aligner_lr") == (3e-5, None, None)
    apart = make(tuning=tuned("full", llm_rate=True), **asked)
    assert of(apart, "learning_rate", "vit_lr", "aligner_lr") == (3e-5, 1e-4, 1e-4)


def test_preferences_keep_the_rate_of_their_stage(make):
    plan = make("dpo", VL, BIG, tuning=tuned("full"))
    assert of(plan, "learning_rate", "vit_lr") == (5e-6, None)


def test_a_rate_for_a_frozen_language_model_is_refused(make):
    with pytest.raises(TunekitError, match="the language model is frozen") as refused:
        make(model=VL, gpus=BIG, tuning=tuned("vit_only", llm_rate=True), learning_rate=1e-4)
    assert "the ViT and the aligner" in refused.value.hint


@pytest.mark.parametrize("row", RANGES, ids=lambda row: f"{row.part} {row.how} {row.vision}")
def test_the_guides_ranges(row, make):
    model = VL if row.vision else TEXT
    name = ("full" if row.how == FULL else "lora_all") if row.vision else "full" if row.how == FULL else "lora"
    flag = RATES[row.part]

    def warned(rate):
        plan = make(model=model, gpus=BIG, tuning=tuned(name, llm_rate=True), **{flag: rate})
        return [warning for warning in plan.warnings if f"the {row.part}" in warning and row.source in warning]

    assert warned(row.low) == warned(row.high) == []
    for rate in (row.low / 2, row.high * 2):
        (warning,) = warned(rate)
        assert f"{row.low:g} to {row.high:g}" in warning


def test_a_tiny_model_on_a_cpu_may_learn_fast(make):
    assert not [warning for warning in make(gpus="cpu", preset="cpu").warnings if "learning rate" in warning]


# --- what is trained


@pytest.mark.parametrize(
    ("typed", "trains"),
    [
        ({}, {LLM}),
        ({"freeze_vit": False}, {LLM, VIT}),
        ({"tuner_type": "full"}, {LLM}),
        ({"tuner_type": "full", "freeze_llm": True, "freeze_aligner": False}, {ALIGNER}),
        ({"tuner_type": "lora_llm"}, {LLM, VIT, ALIGNER}),
        ({"target_modules": ["q_proj", "gate_proj"]}, {LLM, VIT, ALIGNER}),
        ({"tuner_type": "full", "freeze_llm": True, "trainable_parameters": ["lm_head."]}, {LLM}),
    ],
)
def test_what_trains_by_flags_alone(typed, trains, make):
    assert trained_parts(make(model=VL, gpus=BIG, **typed)).keys() == trains


def test_layers_that_are_frozen_are_counted(make):
    """Full training of 7B does not fit one card; the last layers of it do."""
    assert make(preset="7b", gpus="40GB", tuner_type="full").peak.verdict == "does not fit"
    peak = make(preset="7b", gpus="40GB", tuning=tuned("freeze")).peak
    assert peak.fits
    assert 0 < peak.prediction.breakdown["gradients"] < peak.prediction.breakdown["weights"] / 4


def test_frozen_parts_of_a_vision_model_are_counted_as_frozen(make):
    alone, all_of_it = (
        make(model=VL, preset="7b", gpus="192GB", tuning=tuned(name)).peak.prediction.breakdown
        for name in ("vit_only", "full")
    )
    assert alone["optimizer"] < all_of_it["optimizer"] / 5
    assert alone["weights"] == all_of_it["weights"]


# --- names of parameters


@pytest.mark.parametrize(
    ("prefix", "wrong"),
    [
        ("model.layers.1.", ""),
        ("model.layers.27.", ""),
        ("model.layers.0", ""),
        ("model.layers.3", ""),
        ("model.layers.2.self_attn.", ""),
        ("model.embed_tokens", ""),
        ("model.norm.weight", ""),
        ("lm_head", ""),
        ("model.", ""),
        ("model.layers.1", "it means layers 10 to 19 too: write model.layers.1."),
        ("model.layers.2", "it means layers 20 to 29 too: write model.layers.2."),
        ("model.layers.28.", "there are 28 layers, counted from 0"),
        ("layers.1.", "no parameter begins with it"),
        ("model.language_model.layers.1.", "no parameter begins with it"),
        ("model.visual.", "no parameter begins with it"),
    ],
)
def test_prefixes(prefix, wrong):
    told = check_prefix(prefix, Layers("model.", 28), multimodal=False)
    assert told.startswith(wrong)
    assert bool(told) == bool(wrong)


def test_prefixes_of_a_vision_model():
    layers = layers_of(resolve(VL))
    assert layers == Layers("model.language_model.", 28)
    assert check_prefix("model.visual.blocks.1.", layers, multimodal=True) == ""
    assert check_prefix("model.layers.1.", layers, multimodal=True)


def test_a_prefix_that_was_typed_is_checked(make):
    with pytest.raises(TunekitError, match=r"--trainable_parameters model\.layers\.1: it means layers 10 to 19 too"):
        make(gpus=BIG, tuner_type="full", freeze_parameters_ratio=1, trainable_parameters=["model.layers.1"])
    unknown = Model("org/unheard-of", 7)
    assert make(model=unknown, gpus=BIG, tuner_type="full", freeze_parameters=["h.1"]).get("freeze_parameters")


def test_a_model_whose_layers_are_not_known(tmp_path, make):
    config = {"architectures": ["NewForCausalLM"], "model_type": "new", "num_hidden_layers": 4}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(TunekitError, match=r"what the layers of .* are called is not known"):
        make(model=str(tmp_path), gpus=BIG, tuning=tuned("freeze"))


NAMES = """
import json, sys
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText

def small(config):
    for part in (config, getattr(config, "text_config", None), getattr(config, "vision_config", None)):
        for name in ("num_hidden_layers", "depth"):
            if part is not None and hasattr(part, name):
                setattr(part, name, 2)
        if part is not None and getattr(part, "layer_types", None):
            part.layer_types = part.layer_types[:2]
    return config

found = {}
for stem, kinds in json.loads(sys.argv[1]).items():
    auto = AutoModelForCausalLM if stem == "model." else AutoModelForImageTextToText
    for kind in kinds:
        with torch.device("meta"):
            model = auto.from_config(small(CONFIG_MAPPING[kind]()))
        found[kind] = [name for name, _ in model.named_parameters()]
print(json.dumps(found))
"""


@pytest.mark.engine
def test_parameters_are_called_so_in_transformers():
    """Every model type of the table, built without weights from the installed transformers."""
    ended = subprocess.run(
        [sys.executable, "-c", NAMES, json.dumps(STEMS)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    for stem, kinds in STEMS.items():
        layers = Layers(stem, 2)
        for kind in kinds:
            names = found[kind]
            assert (
                len({prefix for prefix in layers.prefixes(range(2)) for name in names if name.startswith(prefix)}) == 2
            )
            assert any(name.startswith(layers.embedding) for name in names), kind
            odd = [name for name in names if check_prefix(name, layers, multimodal=stem != "model.")]
            assert not odd, (kind, odd[:3])


# --- images


@pytest.mark.parametrize(
    ("model", "length", "tokens", "pixels"),
    [
        (VL, 3072, 1280, 1_003_520),
        (VL, 2048, 1024, 802_816),
        (VL, 512, 256, 200_704),
        ("Qwen3-VL-8B-Instruct", 3072, 1280, 1_310_720),
    ],
)
def test_an_image_is_bounded(model, length, tokens, pixels, make):
    plan = make(model=model, gpus=BIG, max_length=length)
    assert plan.get("max_pixels") == pixels
    assert images.tokens_of(plan.model, pixels) == tokens
    assert f"{tokens:,} tokens" in plan.settings["max_pixels"].why
    assert f"{tokens:,} tokens" in images.describe_images(pixels, plan.model)


def test_a_bound_that_was_set_stays(make):
    assert make(model=VL, gpus=BIG, max_pixels=100_000).settings["max_pixels"].explicit
    config = layer_of(CONFIG, {"max_pixels": 200_000})
    assert make(model=VL, gpus=BIG, layers=[config]).get("max_pixels") == 200_000


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (3072 * 28 * 28, "lets one image take 3,072 tokens, and a row has 3,072"),
        (700, "less than one token's 28 × 28 pixels"),
    ],
)
def test_a_bound_that_cannot_be(pixels, says, make):
    with pytest.raises(TunekitError, match=says):
        make(model=VL, gpus=BIG, max_length=3072, max_pixels=pixels)


def test_of_other_families_the_tokens_are_not_known(make):
    plan = make(model="google/gemma-3-4b-it", gpus=BIG)
    assert plan.get("max_pixels") == 1_003_520
    assert "the processor decides" in images.describe_images(1_003_520, plan.model)


def test_text_models_get_none(make):
    assert make().get("max_pixels") is None


# --- on the command line


def test_the_command_line(tunekit, isolated):
    make_rows(isolated / "data.jsonl")
    same = ("sft", "--model", VL, "--dataset", "data.jsonl", "--gpus", BIG, "--preset", "7b")
    words = ("--tuning-strategy", "partial_llm_full_vit", "--llm-frozen-layers", "2", "--learning-rate-vit", "2e-4")
    plan = tunekit(*same, *words, "--max-pixels", "401408", "--json").json
    assert plan["settings"]["vit_lr"] == {"value": 2e-4, "source": "command line", "why": ""}
    assert plan["settings"]["max_pixels"]["value"] == 401_408
    assert len(plan["settings"]["freeze_parameters"]["value"]) == 3
    told = " ".join(tunekit(*same, *words, "--dry-run").err.split())
    assert "Trains the language model above its first 2 layers in full at 2e-05; the ViT in full at 0.0002" in told
    assert "Images larger ones are scaled down to 1,003,520 pixels, about 1,280 tokens" in told
    both = tunekit(*same, "--learning-rate", "1e-4", "--learning-rate-llm", "1e-4", "--dry-run")
    assert (both.code, "exclude each other" in both.err) == (2, True)


def test_a_strategy_for_all_runs(tunekit, isolated, monkeypatch):
    monkeypatch.setenv("TUNEKIT_TUNING_STRATEGY", "qlora")
    same = ("sft", "--model", TEXT, "--dataset", "data.jsonl", "--gpus", BIG, "--json")
    assert tunekit(*same).json["settings"]["quant_bits"]["source"] == "strategy qlora"
    assert "quant_bits" not in tunekit(*same, "--tuning-strategy", "lora").json["settings"]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--target_modules", "q_proj,v_proj"), "write --target_modules q_proj v_proj"),
        (("--modules_to_save", "embed_tokens,lm_head"), "write --modules_to_save embed_tokens lm_head"),
        (("--finetuning_type", "freeze"), "--tuning-strategy freeze needs --trainable-layers N"),
        (("--lora_bias", "lora_only"), "none and all"),
        (("--init_weights", "loftq"), "pissa and olora"),
    ],
)
def test_words_of_other_guides(words, hint, tunekit):
    ended = tunekit("sft", "--model", TEXT, "--dataset", "data.jsonl", "--gpus", BIG, "--dry-run", *words)
    assert ended.code == 2
    assert hint in ended.err


# --- warnings of the rules


@pytest.mark.parametrize(
    ("model", "typed", "says"),
    [
        (VL, {"target_modules": ["gate_proj"]}, "reaches into ViT and aligner"),
        (VL, {"target_modules": ["gate_proj"], "freeze_vit": False}, ""),
        (VL, {"target_modules": ["all-linear"]}, ""),
        (TEXT, {"target_modules": ["gate_proj"]}, ""),
        (TEXT, {"tuner_type": "full", "freeze_parameters_ratio": 0.5}, "may cut a layer in two"),
        (TEXT, {"tuner_type": "full", "freeze_parameters_ratio": 1, "trainable_parameters": ["lm_head."]}, ""),
    ],
)
def test_warnings(model, typed, says, make):
    warnings = [
        warning
        for warning in make(model=model, gpus=BIG, **typed).warnings
        if "--target" in warning or "ratio" in warning
    ]
    assert len(warnings) == bool(says)
    assert all(says in warning for warning in warnings)


def test_a_shorter_row_takes_smaller_images(make):
    """A retry that may change what is learned shortens rows: an image that fills one would be dropped."""
    from tunekit.runs.ladder import _shorter

    plan = make(model=VL, gpus=BIG, preset="7b")
    assert _shorter(plan, frozenset()) == {"max_length": 2048, "max_pixels": 1_003_520 * 2048 // 3072}
