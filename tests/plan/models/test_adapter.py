"""An adapter that training goes on from is of the model that is trained."""

import json

import pytest

from tunekit.errors import TunekitError
from tunekit.plan.models.adapter import Adapter, adapter_in, check_base, other_base
from tunekit.plan.models.model import Model

QWEN = Model("Qwen/Qwen2.5-7B-Instruct", 7.0, "qwen2")
OWN = Model("/data/my-model", 7.0, "qwen2", local=True)


def adapter(folder, text=None, **config):
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(text or json.dumps(config), encoding="utf-8")
    return str(folder)


def test_what_it_says(tmp_path):
    name = adapter(tmp_path / "a", base_model_name_or_path="x/y", r=16, lora_alpha=32)
    assert adapter_in(name) == Adapter("x/y", 16, 32)


@pytest.mark.parametrize("text", ["[]", "{", "7", "[" * 100_000, '{"a": "' + "x" * 1_000_001 + '"}'])
def test_a_file_that_says_nothing(tmp_path, text):
    assert adapter_in(adapter(tmp_path / "a", text)) is None


@pytest.mark.parametrize("name", ["no/such", "~nobody-here/a", "a" * 5000, "org/adapter"])
def test_a_folder_that_is_not_here(name):
    assert adapter_in(name) is None


def test_numbers_that_are_none(tmp_path):
    odd = adapter(tmp_path / "a", base_model_name_or_path=["x"], r="8", lora_alpha=True)
    assert adapter_in(odd) == Adapter("", None, None)


@pytest.mark.parametrize(
    "base",
    [
        "Qwen/Qwen2.5-7B-Instruct",
        "unsloth/Qwen2.5-7B-Instruct",
        "/models/Qwen2.5-7B-Instruct/",
        "C:\\models\\Qwen2.5-7B-Instruct",
        "/c/models--Qwen--Qwen2.5-7B-Instruct/snapshots/0a1b2c",
        "/c/models/Qwen/Qwen2___5-7B-Instruct",
        "",
    ],
)
def test_the_same_base_by_another_path(base):
    assert not other_base(Adapter(base, 8, 16), QWEN)


def test_the_same_folder(tmp_path):
    model = Model(str(tmp_path), 7.0, local=True)
    assert not other_base(Adapter(f"{tmp_path}/../{tmp_path.name}", 8, 16), model)


@pytest.mark.parametrize(
    ("base", "model"),
    [
        ("Qwen/Qwen2.5-14B-Instruct", QWEN),
        ("/models/Qwen2.5-0.5B", OWN),
        ("my/own-14b", OWN),
        ("Qwen/Qwen2.5-7B", QWEN),
        ("Qwen/Qwen2.5-Coder-7B-Instruct", QWEN),
    ],
)
def test_another_base_is_refused(tmp_path, base, model):
    name = adapter(tmp_path / "checkpoint-2", base_model_name_or_path=base, r=8)
    with pytest.raises(TunekitError, match="was trained on another model") as refused:
        check_base("adapters", name, model)
    assert base in refused.value.message
    assert model.id in refused.value.message


@pytest.mark.parametrize(
    ("base", "model"),
    [
        ("/old/place/renamed", OWN),
        ("my/own-7b", QWEN),
        ("my/own-7.6b", QWEN),
        ("Qwen/Qwen2.5-7B-Instruct", OWN),
        ("Qwen/Qwen2.5-7B-Instruct", QWEN),
    ],
)
def test_a_base_that_may_be_the_same_is_not_refused(tmp_path, base, model):
    check_base("adapters", adapter(tmp_path / "a", base_model_name_or_path=base, r=8), model)


@pytest.mark.parametrize("flag", ["adapters", "ref_adapters"])
def test_a_plan_refuses_it(make, tmp_path, flag):
    name = adapter(tmp_path / "a", base_model_name_or_path="Qwen/Qwen2.5-14B", r=8)
    with pytest.raises(TunekitError, match=f"^--{flag} .*base model is Qwen/Qwen2.5-14B"):
        make("dpo", preset="7b", **{flag: [name]})


def test_a_plan_has_the_rank_of_the_adapter(make, tmp_path):
    name = adapter(tmp_path / "a", base_model_name_or_path="Qwen/Qwen2.5-7B", r=64, lora_alpha=128)
    plan = make(preset="7b", adapters=[name])
    assert (plan.rank, plan.get("lora_alpha")) == (64, 128)
    assert plan.peak.spec.lora_rank == 64
    with pytest.raises(TunekitError, match="--lora_rank 16 cannot be kept: the adapter that training goes on from"):
        make(preset="7b", adapters=[name], lora_rank=16)
