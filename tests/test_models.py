"""Which model a name means, how large it is, and what ms-swift must be told about it."""

import json

import pytest

from tunekit.errors import TunekitError
from tunekit.plan.models import _catalogue, chat_template, parameters, resolve
from tunekit.plan.planner import default_name

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16"}
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"


def folder(path, config, template="", **files):
    path.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if template:
        (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}), encoding="utf-8")
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "hub_id", "size", "family"),
    [
        ("Qwen2.5-7B", "Qwen/Qwen2.5-7B", 7, "qwen2"),
        ("qwen2.5-7b-instruct", "Qwen/Qwen2.5-7B-Instruct", 7, "qwen2"),
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B", 8, "qwen3"),
        ("qwen/qwen3-8b", "Qwen/Qwen3-8B", 8, "qwen3"),
        ("Meta-Llama-3-8B", "LLM-Research/Meta-Llama-3-8B", 8, "llama"),
    ],
)
def test_names_of_known_models(name, hub_id, size, family):
    model = resolve(name)
    assert (model.id, model.params_b, model.family) == (hub_id, size, family)
    assert not any((model.local, model.moe, model.multimodal, model.undecided, model.note))
    assert (model.model_type, model.template) == (None, None), "ms-swift finds these itself by the id"


def test_a_multimodal_model_and_mixtures_of_experts():
    assert resolve("Qwen2.5-VL-7B-Instruct").multimodal
    for name, size in (("Qwen3-30B-A3B", 30), ("gpt-oss-20b", 20), ("Mixtral-8x7B-Instruct-v0.1", 46.5)):
        model = resolve(name)
        assert model.moe
        assert model.params_b == size


@pytest.mark.parametrize("name", ["Llama-4-Scout-17B-16E", "Llama-4-Maverick-17B-128E-Instruct"])
def test_active_parameters_are_not_taken_for_all(name):
    """Scout has 109 billion parameters, 17 of them active: planned as a dense 17B model it cannot fit."""
    model = resolve(name)
    assert model.moe
    assert model.params_b is None or model.params_b > 100


def test_an_id_that_only_hugging_face_has():
    model = resolve("MiniMind2-Small")
    assert model.id == "jingyaogong/MiniMind2-Small"
    assert model.hugging_face
    assert not resolve("MiniMind2-Small", use_hf=True).hugging_face


def test_use_hf_decides_between_two_ids():
    assert resolve("Yi-1.5-6B").id == "01ai/Yi-1.5-6B"
    assert resolve("Yi-1.5-6B", use_hf=True).id == "01-ai/Yi-1.5-6B"
    typed = resolve("01-ai/Yi-1.5-6B")
    assert typed.id == "01-ai/Yi-1.5-6B"
    assert typed.hugging_face
    assert not resolve("01ai/Yi-1.5-6B").hugging_face


def test_a_short_name_that_two_models_bear():
    with pytest.raises(TunekitError, match="several models are called Qwen3-32B-AWQ") as refused:
        resolve("Qwen3-32B-AWQ")
    assert refused.value.hint == "name one in full: Qwen/Qwen3-32B-AWQ, swift/Qwen3-32B-AWQ"
    for hub_id in ("Qwen/Qwen3-32B-AWQ", "swift/Qwen3-32B-AWQ"):
        assert resolve(hub_id).id == hub_id


@pytest.mark.parametrize(
    ("name", "candidates"),
    [
        ("Qwen2.5-7", ["Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B-Instruct"]),
        ("Qwen2.5-7B-Instrct", ["Qwen/Qwen2.5-7B-Instruct"]),
    ],
)
def test_an_unknown_name_gets_candidates(name, candidates):
    with pytest.raises(TunekitError, match=f"no model is called {name}") as refused:
        resolve(name)
    for candidate in candidates:
        assert candidate in refused.value.hint


def test_a_name_like_no_other():
    with pytest.raises(TunekitError, match="no model is called zzzzqqq") as refused:
        resolve("zzzzqqq")
    assert refused.value.hint == "give the hub id in full (organisation/name) or a folder"


@pytest.mark.parametrize("path", ["/nope/x", "./nope", "~/nope-nope", "a/b/c"])
def test_a_folder_that_is_not_there(path):
    with pytest.raises(TunekitError, match="does not exist"):
        resolve(path)


def test_an_id_that_ms_swift_does_not_list():
    model = resolve("someone/New-Model-3B-A1B")
    assert (model.id, model.params_b, model.moe, model.family) == ("someone/New-Model-3B-A1B", 3, True, None)
    assert "is not in the list" in model.note


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen2.5-7B", 7),
        ("Qwen/Qwen2.5-0.5B-Instruct", 0.5),
        ("SmolLM2-135M-Instruct", 0.135),
        ("Yi-1.5-34B-Chat-16K", 34),
        ("Qwen3-235B-A22B", 235),
        ("Qwen3-Next-80B-A3B-Instruct", 80),
        ("Mixtral-8x7B-v0.1", 46.5),
        ("mixtral-8x22b", 146.1),
        ("MiniCPM-2B-sft-bf16", 2),
        ("Llama-2-7b-hf", 7),
        ("some-1T-model", 1000),
        ("internlm2_5-1_8b-chat", 1.8),
        ("Qwen/Qwen-1_8B", 1.8),
        ("GRM_Llama3.1_8B_rewardmodel-ft", 8),
        ("phi-4", None),
        ("gemma-3n-E4B-it", None),
        ("Hunyuan-A13B", None),
        ("7B/plain", None),
        ("GLM-4.5-Air", None),
    ],
)
def test_parameters_by_name(name, billions):
    found = parameters(name)
    assert found == (billions if billions is None else pytest.approx(billions, rel=0.01))


def test_most_of_the_catalogue_tells_its_size():
    ids = [row[0] or row[1] for row in _catalogue()["models"]]
    assert len(ids) > 1000
    assert sum(parameters(hub_id) is not None for hub_id in ids) > 0.8 * len(ids)


def test_every_model_of_the_catalogue_is_found_by_its_own_ids():
    for modelscope, hugging_face, family, _ in _catalogue()["models"]:
        for hub_id in filter(None, (modelscope, hugging_face)):
            model = resolve(hub_id)
            assert family in _catalogue()["types"]
            assert model.id.lower() in {str(modelscope).lower(), str(hugging_face).lower()}
            assert model.family


def test_a_llama_folder_needs_its_type_and_template(tmp_path):
    """ms-swift: `Multiple possible types found: codefuse_codellama, llama, openbuddy_llama, yi`."""
    model = resolve(str(folder(tmp_path / "tiny", LLAMA, CHATML)))
    assert (model.model_type, model.template, model.undecided) == ("llama", "chatml", ())
    assert model.local
    assert model.id == str(tmp_path / "tiny")


def test_a_llama_folder_in_the_command(tmp_path, make):
    plan = make(model=str(folder(tmp_path / "tiny-1B", LLAMA, CHATML)))
    assert plan.get("model_type") == "llama"
    assert plan.get("template") == "chatml"
    assert plan.settings["template"].source == "model"


def test_qwen2_shares_its_architecture_too(tmp_path):
    model = resolve(str(folder(tmp_path / "m", QWEN2, "You are Qwen, created by Alibaba Cloud <|im_start|>")))
    assert (model.family, model.model_type, model.template) == ("qwen2", "qwen2", "qwen2_5")


def test_an_architecture_of_one_type_needs_no_type(tmp_path):
    model = resolve(str(folder(tmp_path / "m", {"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2"})))
    assert (model.family, model.model_type, model.template) == ("gemma2", None, None)


def test_a_type_that_config_json_does_not_tell(tmp_path):
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "something"}
    model = resolve(str(folder(tmp_path / "m", config, CHATML)))
    ((flag, reason),) = model.undecided
    assert flag == "model_type"
    assert "codefuse_codellama, llama, openbuddy_llama, yi" in reason


def test_a_chat_template_that_nobody_knows(tmp_path, make):
    model = resolve(str(folder(tmp_path / "m-1B", LLAMA, "{{ messages }}")))
    assert [flag for flag, _ in model.undecided] == ["template"]
    with pytest.raises(TunekitError, match="its chat template is none") as refused:
        make(model=model)
    assert refused.value.hint == "say which with --template"
    assert make(model=model, template="llama3").get("template") == "llama3"


def test_a_template_in_a_preset_is_stronger_than_a_guess(tmp_path, make, flags, library):
    """Somebody wrote it down; the marks in a chat template are a guess."""
    from tunekit.plan.presets import Library

    own = tmp_path / "own"
    own.mkdir()
    (own / "mine.toml").write_text('extends = "7b"\n[train]\ntemplate = "yi_coder"\n', encoding="utf-8")
    shelf = Library(library.load("7b").path.parent, own, flags)
    model = resolve(str(folder(tmp_path / "m-1B", LLAMA, CHATML)))
    assert make(model=model, preset="mine", shelf=shelf).get("template") == "yi_coder"


@pytest.mark.parametrize(
    ("written", "template"),
    [
        ("<|im_start|>system\nYou are Qwen, created by Alibaba Cloud.", "qwen2_5"),
        ("<|im_start|>", "chatml"),
        ("<|start_header_id|>", "llama3_2"),
        ("<start_of_turn>", "gemma"),
        ("[gMASK]<sop><|user|>", "chatglm4"),
        ("<|user|>", "zephyr"),
        ("<<SYS>> [INST]", "llama"),
        ("[INST]", "llama"),
        ("nothing known", None),
    ],
)
@pytest.mark.parametrize("file", ["chat_template.jinja", "tokenizer_config.json", "chat_template.json"])
def test_chat_templates_by_their_marks(tmp_path, written, template, file):
    content = written if file.endswith("jinja") else json.dumps({"chat_template": written})
    (tmp_path / file).write_text(content, encoding="utf-8")
    assert chat_template(tmp_path) == template
    if template:
        assert template in {row[3] for row in _catalogue()["models"]}


def test_an_adapter_is_not_a_model(tmp_path):
    path = folder(tmp_path / "checkpoint-20", None, adapter_config={"r": 8})
    with pytest.raises(TunekitError, match=r"holds no model: there is no config\.json") as refused:
        resolve(str(path))
    assert "--adapters" in refused.value.hint


def test_an_empty_folder(tmp_path):
    with pytest.raises(TunekitError, match="holds no model") as refused:
        resolve(str(tmp_path))
    assert refused.value.hint is None


def test_broken_json(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": [', encoding="utf-8")
    with pytest.raises(TunekitError, match=r"config\.json: cannot be read as JSON") as refused:
        resolve(str(tmp_path))
    assert "\n" not in refused.value.message


@pytest.mark.parametrize("config", [{"architectures": ["BrandNewForCausalLM"]}, {"architectures": None}, {}])
def test_an_unknown_architecture_is_tried_with_a_note(tmp_path, config):
    model = resolve(str(folder(tmp_path / "m", config)))
    assert "a template that adds nothing" in model.note
    assert not model.undecided


def test_what_an_earlier_run_noted_is_used(tmp_path):
    """`args.json` lies beside the weights that ms-swift trained in full."""
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    path = folder(tmp_path / "checkpoint-9", config, args={"model_type": "yi", "template": "chatml"})
    model = resolve(str(path))
    assert (model.model_type, model.template, model.undecided) == ("yi", "chatml", ())


def test_a_folder_that_bears_a_known_name(tmp_path):
    """ms-swift goes by the name: neither type nor template are needed."""
    model = resolve(str(folder(tmp_path / "Qwen2.5-7B-Instruct", QWEN2, CHATML)))
    assert (model.family, model.params_b, model.model_type, model.template) == ("qwen2", 7, None, None)
    assert model.local
    assert not model.hugging_face


@pytest.mark.parametrize(
    "path",
    [
        "hub/models--Qwen--Qwen2.5-7B/snapshots/abc",
        "models/Qwen/Qwen2___5-7B",
        "modelscope/hub/models/Qwen/Qwen2.5-7B",
    ],
)
def test_folders_of_hub_caches(tmp_path, path):
    model = resolve(str(folder(tmp_path / path, QWEN2)))
    assert (model.family, model.model_type, model.undecided) == ("qwen2", None, ())


def test_size_by_the_weights(tmp_path):
    path = folder(tmp_path / "my-7B", LLAMA, CHATML)
    (path / "model-1.safetensors").write_bytes(b"0" * 3_000_000)
    (path / "model-2.safetensors").write_bytes(b"0" * 1_000_000)
    assert resolve(str(path)).params_b == pytest.approx(0.002)
    folder(path, LLAMA | {"torch_dtype": "float32"})
    assert resolve(str(path)).params_b == pytest.approx(0.001)
    folder(path, LLAMA | {"quantization_config": {"bits": 4}})
    assert resolve(str(path)).params_b == 7, "the files of a quantized model do not tell: the name does"


@pytest.mark.parametrize(
    ("config", "moe", "multimodal"),
    [
        ({"num_local_experts": 8}, True, False),
        ({"text_config": {"num_experts": 128}, "vision_config": {}}, True, True),
        ({"vision_config": {}}, False, True),
        ({"num_experts": None}, False, False),
        ({"text_config": None}, False, False),
    ],
)
def test_experts_and_eyes_by_config(tmp_path, config, moe, multimodal):
    model = resolve(str(folder(tmp_path / "m", {"architectures": ["BrandNew"]} | config)))
    assert (model.moe, model.multimodal) == (moe, multimodal)


def test_what_a_run_is_called(tmp_path, monkeypatch):
    assert default_name(resolve("Qwen2.5-7B"), "sft") == "qwen2.5-7b-sft"
    path = folder(tmp_path / "My Model", LLAMA, CHATML)
    assert default_name(resolve(f"{path}/"), "dpo") == "my model-dpo"


@pytest.mark.parametrize("here", [".", "./"])
def test_a_run_of_the_model_in_this_folder_has_a_name(tmp_path, monkeypatch, here):
    monkeypatch.chdir(folder(tmp_path / "tiny", LLAMA, CHATML))
    assert default_name(resolve(here), "sft") == "tiny-sft"
