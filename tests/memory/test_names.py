"""Parameters have the names, sizes and order of the models that transformers builds."""

import pytest

from tunekit.memory.families import FAMILIES
from tunekit.memory.geometry import Geometry
from tunekit.memory.names import NAMED, ends_as, is_named, linear_names, parameters_of
from tunekit.memory.spec import Unknown

BASE = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 128,
    "vocab_size": 512,
    "pad_token_id": 0,
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
WIDTHS = {"moe_intermediate_size": 32}
SHARED = {"qwen2_moe": {"shared_expert_intermediate_size": 48}}
SHARED_WIDTH = ("mixtral", "olmoe", "gpt_oss")
"""Their experts are as wide as intermediate_size says."""


def config_for(kind):
    if not FAMILIES[kind].moe:
        return BASE
    return BASE | EXPERTS | ({} if kind in SHARED_WIDTH else WIDTHS) | SHARED.get(kind, {})


@pytest.mark.engine
@pytest.mark.parametrize("kind", sorted(kind for kind in NAMED if not kind.endswith("_text") or kind == "gemma3_text"))
def test_the_model_has_these_parameters_in_this_order(kind):
    torch, transformers = (pytest.importorskip(name) for name in ("torch", "transformers"))
    config = transformers.AutoConfig.for_model(kind, **config_for(kind))
    if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        pytest.skip("no language model by itself")
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    told = [(item.name, item.numbers) for item in parameters_of(Geometry.from_config(config.to_dict()))]
    assert told == [(name, item.numel()) for name, item in model.named_parameters()]


def test_other_names_are_not_guessed():
    assert FAMILIES.keys() > NAMED
    config = {"model_type": "stablelm", **BASE}
    with pytest.raises(Unknown, match="parameters of stablelm are called"):
        parameters_of(Geometry.from_config(config))


def test_beside_a_vision_tower_names_begin_otherwise():
    config = {"model_type": "qwen2_vl", "vision_config": {}, **BASE}
    assert parameters_of(Geometry.from_config(config))[0].name == "model.language_model.embed_tokens.weight"


def test_linear_layers_by_name():
    geometry = Geometry.from_config({"model_type": "llama", **BASE})
    down = next(item for item in geometry.linears if item.name == "down_proj")
    assert linear_names(geometry, down) == [f"model.layers.{number}.mlp.down_proj" for number in (0, 1)]


@pytest.mark.parametrize(
    ("name", "target", "matches"),
    [("a.q_proj", "q_proj", True), ("q_proj", "q_proj", True), ("a.bq_proj", "q_proj", False), ("a.b.c", "b.c", True)],
)
def test_peft_compares_whole_parts_of_names(name, target, matches):
    assert ends_as(name, (target,)) is matches


def test_ms_swift_compares_beginnings_and_searches_patterns():
    assert is_named("model.layers.12.x", ("model.layers.1",), "")
    assert not is_named("model.layers.12.x", ("layers.1",), "")
    assert is_named("model.layers.12.x", (), r"layers\.1\d")
    assert not is_named("model.layers.2.x", (), "")
