"""Which model a name means, how large it is, and what ms-swift must be told about it."""

import json

import pytest

from tunekit.errors import TunekitError
from tunekit.memory.geometry import Geometry
from tunekit.plan.models.catalogue import read_catalogue, template_names, type_names
from tunekit.plan.models.config import CONFIGS, _configs, cached_model, config_of
from tunekit.plan.models.find import as_type, chat_template, resolve
from tunekit.plan.models.model import parameters
from tunekit.plan.planner import default_name
from tunekit.plan.settings import Source

LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16"}
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
PARAMETERS = {  # of the published safetensors; of the text part where a model sees
    134_515_008: "SmolLM2-135M",
    268_098_176: "gemma-3-270m",
    361_821_120: "SmolLM2-360M",
    494_032_768: "Qwen2-0.5B Qwen2.5-0.5B Qwen2.5-Coder-0.5B",
    596_049_920: "Qwen3-0.6B",
    999_885_952: "gemma-3-1b",
    1_100_048_384: "TinyLlama-1.1B",
    1_235_814_400: "Llama-3.2-1B",
    1_346_471_936: "deepseek-coder-1.3b",
    1_543_714_304: "Qwen2-1.5B Qwen2-VL-2B Qwen2.5-1.5B Qwen2.5-Coder-1.5B Qwen2.5-Math-1.5B",
    1_711_376_384: "SmolLM2-1.7B",
    1_720_574_976: "Qwen3-1.7B Qwen3-VL-2B",
    1_777_088_000: "DeepSeek-R1-Distill-Qwen-1.5B",
    2_506_172_416: "gemma-2b",
    2_614_341_888: "gemma-2-2b",
    3_075_098_624: "SmolLM3-3B",
    3_085_938_688: "Qwen2.5-3B Qwen2.5-Coder-3B Qwen2.5-VL-3B",
    3_212_749_824: "Llama-3.2-3B",
    3_821_079_552: "Phi-3-mini-128k Phi-3-mini-4k Phi-3.5-mini",
    3_836_021_760: "Phi-4-mini",
    3_880_263_168: "gemma-3-4b",
    4_022_468_096: "Qwen3-4B Qwen3-VL-4B",
    6_061_035_520: "Yi-1.5-6B Yi-6B",
    6_738_415_616: "Llama-2-7b",
    6_738_939_904: "llava-1.5-7b-hf",
    6_740_512_768: "deepseek-coder-6.7b",
    6_910_365_696: "deepseek-llm-7b",
    7_241_732_096: "Mistral-7B-Instruct-v0.1 Mistral-7B-Instruct-v0.2 Mistral-7B-v0.1",
    7_248_023_552: "Mistral-7B-Instruct-v0.3 Mistral-7B-v0.3",
    7_298_617_344: "OLMo-2-1124-7B",
    7_612_763_648: "MiniCPM-V-2_6",
    7_612_820_992: "InternVL3-8B",
    7_615_616_512: "DeepSeek-R1-Distill-Qwen-7B Qwen2-7B Qwen2-VL-7B Qwen2.5-7B Qwen2.5-Coder-7B Qwen2.5-Math-7B "
    "Qwen2.5-VL-7B",
    8_019_808_256: "Ministral-8B-Instruct-2410",
    8_030_261_248: "DeepSeek-R1-Distill-Llama-8B Llama-3-8B Llama-3.1-8B MiniCPM-Llama3-V-2_5",
    8_170_848_256: "granite-3.1-8b",
    8_190_735_360: "DeepSeek-R1-0528-Qwen3-8B Qwen3-8B Qwen3-VL-8B",
    8_537_680_896: "gemma-7b",
    8_829_407_232: "Yi-1.5-9B Yi-9B Yi-Coder-9B",
    9_241_705_984: "gemma-2-9b",
    9_399_951_360: "glm-4-9b-chat-hf",
    9_400_279_040: "GLM-4-9B-0414 GLM-Z1-9B-0414",
    11_766_034_176: "gemma-3-12b",
    12_247_782_400: "Mistral-Nemo-Base-2407 Mistral-Nemo-Instruct-2407",
    13_015_864_320: "Llama-2-13b",
    13_716_198_400: "OLMo-2-1124-13B",
    13_960_238_080: "Phi-3-medium-128k Phi-3-medium-4k",
    14_315_784_192: "Qwen1.5-MoE-A2.7B",
    14_659_507_200: "phi-4",
    14_768_307_200: "Qwen3-14B",
    14_770_033_664: "DeepSeek-R1-Distill-Qwen-14B Qwen2.5-14B Qwen2.5-Coder-14B",
    20_914_757_184: "gpt-oss-20b",
    22_247_282_688: "Mistral-Small-Instruct-2409",
    23_572_403_200: "Mistral-Small-24B-Base-2501 Mistral-Small-24B-Instruct-2501",
    27_009_346_304: "gemma-3-27b",
    27_227_128_320: "gemma-2-27b",
    30_532_122_624: "Qwen3-30B-A3B Qwen3-Coder-30B-A3B Qwen3-VL-30B-A3B",
    32_566_081_536: "GLM-4-32B-0414 GLM-Z1-32B-0414",
    32_762_123_264: "Qwen3-32B Qwen3-VL-32B",
    32_763_876_352: "DeepSeek-R1-Distill-Qwen-32B Qwen2.5-32B Qwen2.5-Coder-32B Qwen2.5-VL-32B QwQ-32B",
    33_342_991_360: "deepseek-coder-33b",
    34_388_917_248: "Yi-1.5-34B Yi-34B",
    46_702_792_704: "Mixtral-8x7B",
    68_976_648_192: "Llama-2-70b",
    70_553_706_496: "DeepSeek-R1-Distill-Llama-70B Llama-3-70B Llama-3.1-70B Llama-3.3-70B",
    72_706_203_648: "Qwen2-72B Qwen2-VL-72B Qwen2.5-72B Qwen2.5-Math-72B Qwen2.5-VL-72B",
    116_829_156_672: "gpt-oss-120b",
    140_630_071_296: "Mixtral-8x22B",
    235_093_634_560: "Qwen3-235B-A22B",
    405_853_388_800: "Llama-3.1-405B",
}
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
    ids = [row[0] or row[1] for row in read_catalogue()["models"]]
    assert len(ids) > 1000
    assert sum(parameters(hub_id) is not None for hub_id in ids) > 0.8 * len(ids)


def test_every_model_of_the_catalogue_is_found_by_its_own_ids():
    for modelscope, hugging_face, family, _ in read_catalogue()["models"]:
        for hub_id in filter(None, (modelscope, hugging_face)):
            model = resolve(hub_id)
            assert family in read_catalogue()["types"]
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
    assert plan.settings["template"].source == Source("model")


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
    from tunekit.plan.presets.shelf import Library

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
        assert template in {row[3] for row in read_catalogue()["models"]}


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


def test_what_a_run_is_called(tmp_path, make):
    assert default_name(make("sft", "Qwen2.5-7B")) == "qwen2.5-7b-sft"
    path = folder(tmp_path / "My Model", LLAMA, CHATML)
    assert default_name(make("dpo", f"{path}/")) == "my model-dpo"


@pytest.mark.parametrize("here", [".", "./"])
def test_a_run_of_the_model_in_this_folder_has_a_name(tmp_path, monkeypatch, make, here):
    monkeypatch.chdir(folder(tmp_path / "tiny", LLAMA, CHATML))
    assert default_name(make("sft", here)) == "tiny-sft"


def test_every_shipped_shape_has_the_parameters_that_were_published():
    published = {name: count for count, names in PARAMETERS.items() for name in names.split()}
    shipped = {name.split("/")[-1]: config for name, config in json.loads(CONFIGS.read_text(encoding="utf-8")).items()}
    assert {name: Geometry.from_config(config).parameters for name, config in shipped.items()} == published


def test_a_shape_agrees_with_the_size_in_the_name():
    """Names round, mostly down, and leave out large embeddings: Gemma-2-2B has 2.6 billion."""
    for name, config in _configs().items():
        said = parameters(name)
        # of Qwen1.5-MoE the name counts what is active; of a model that sees, the vision tower too
        if said and "vision_config" not in config and name != "qwen1.5-moe-a2.7b":
            assert 0.93 * said < Geometry.from_config(config).parameters / 1e9 < 1.31 * said, name


def test_what_sees_is_said_to_see():
    for name in ("Qwen2.5-VL-7B-Instruct", "gemma-3-4b-it"):
        assert Geometry.from_config(config_of(resolve(name))).vision
    assert not Geometry.from_config(config_of(resolve("gemma-3-1b-it"))).vision


@pytest.mark.parametrize(
    "name",
    [
        "Llama-3.1-8B-Omni",  # hears
        "Phi-4-multimodal-instruct",
        "Mixtral-8x7b-AQLM-2Bit-1x16-hf",
    ],
)
def test_the_shape_of_another_model_is_not_borrowed(name):
    with pytest.raises(TunekitError, match="not known here") as refused:
        config_of(resolve(name))
    assert "--model ./folder" in refused.value.hint


STRANGER = "someone/New-Model-3B"
SHAPE = {"model_type": "qwen3", "hidden_size": 8}


@pytest.fixture
def _no_cache(tmp_path, monkeypatch):
    """A home without caches."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "MODELSCOPE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.mark.usefixtures("_no_cache")
class TestCaches:
    @pytest.mark.parametrize(
        ("variable", "root", "place"),
        [
            (None, "home/.cache/huggingface/hub", "models--someone--New-Model-3B/snapshots/abc"),
            ("HF_HOME", "hf", "hub/models--someone--New-Model-3B/snapshots/abc"),
            ("HF_HUB_CACHE", "hub", "models--someone--New-Model-3B/snapshots/abc"),
            (None, "home/.cache/modelscope", "hub/models/someone/New-Model-3B"),
            ("MODELSCOPE_CACHE", "ms", "models/someone/New-Model-3B"),
            ("MODELSCOPE_CACHE", "ms", "models/someone--New-Model-3B/snapshots/master"),
        ],
    )
    def test_a_downloaded_model_is_found(self, tmp_path, monkeypatch, variable, root, place):
        if variable:
            monkeypatch.setenv(variable, str(tmp_path / root))
        with pytest.raises(TunekitError, match="not known here"):
            config_of(resolve(STRANGER))
        path = folder(tmp_path / root / place, SHAPE)
        assert config_of(resolve(STRANGER)) == SHAPE
        assert cached_model(resolve(STRANGER)) == path

    def test_the_dots_of_modelscope(self, tmp_path):
        folder(tmp_path / "home/.cache/modelscope/models/Qwen/Qwen3-8B-v1___5", SHAPE)
        assert config_of(resolve("Qwen/Qwen3-8B-v1.5"))["model_type"] == "qwen3"
        assert cached_model(resolve("Qwen/Qwen3-8B-v1.5"))

    def test_the_branch_decides_among_snapshots(self, tmp_path):
        hub = tmp_path / "home/.cache/huggingface/hub/models--someone--New-Model-3B"
        folder(hub / "snapshots/new", SHAPE | {"hidden_size": 16})
        folder(hub / "snapshots/old", SHAPE)
        (hub / "refs").mkdir()
        (hub / "refs/main").write_text("old\n", encoding="utf-8")
        assert config_of(resolve(STRANGER)) == SHAPE

    def test_both_ids_of_a_model_count(self, tmp_path):
        folder(tmp_path / "home/.cache/huggingface/hub/models--01-ai--Yi-VL-6B/snapshots/a", SHAPE)
        assert config_of(resolve("01ai/Yi-VL-6B")) == SHAPE

    def test_weights_that_come_quantized_are_said(self, tmp_path):
        config = SHAPE | {"quantization_config": {"bits": 3}}
        folder(tmp_path / "home/.cache/huggingface/hub/models--Qwen--Qwen3-8B-AWQ/snapshots/a", config)
        with pytest.raises(TunekitError, match="come quantized"):
            config_of(resolve("Qwen3-8B-AWQ"))

    def test_a_hubs_config_says_how_the_weights_come(self, tmp_path):
        config = SHAPE | {"quantization_config": {"quant_method": "gptq", "bits": 4}}
        folder(tmp_path / "home/.cache/huggingface/hub/models--someone--New-Model-3B/snapshots/a", config)
        assert (resolve(STRANGER).quantized, resolve(STRANGER).bits) == ("gptq", 4)
        assert config_of(resolve(STRANGER)) == config


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("Qwen2.5-7B-Instruct-AWQ", "Qwen2.5-7B"),
        ("Qwen2.5-7B-Instruct-GPTQ-Int8", "Qwen2.5-7B"),
        ("Yi-6B-Chat-4bits", "Yi-6B"),
    ],
)
def test_weights_in_4_or_8_bits_have_the_shape_of_their_base(make, name, base):
    assert config_of(resolve(name)) == config_of(resolve(base))
    bits, whole = (make(model=model, preset="7b").peak.prediction.process_gib for model in (name, base))
    assert bits < whole - 4


@pytest.mark.parametrize(
    ("name", "quantized", "bits"),
    [
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "awq", 4),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "gptq", 4),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", "gptq", 8),
        ("Qwen/Qwen3-8B-FP8", "fp8", 8),
        ("unsloth/Llama-3.2-3B-Instruct-bnb-4bit", "bnb", 4),
        ("neuralmagic/Model-7B-quantized.w4a16", "w4a16", 4),
        ("some/Model-7B-GGUF", "gguf", None),
        ("Qwen/Qwen2.5-7B-Instruct", "", None),
        ("openai/gpt-oss-20b", "", None),
    ],
)
def test_a_name_says_how_the_weights_come(name, quantized, bits):
    model = resolve(name)
    assert (bool(model.quantized), model.bits) == (bool(quantized), bits)
    assert not quantized or quantized in name.lower()


@pytest.mark.parametrize(
    ("said", "quantized", "bits"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq", 4),
        ({"quant_method": "awq", "w_bit": 4}, "awq", 4),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes", 4),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes", 8),
        ({"load_in_4bit": True}, "bitsandbytes", 4),
        ({"quant_method": "fp8"}, "fp8", 8),
        ({"quant_method": "compressed-tensors", "bits": "4"}, "compressed-tensors", None),
        ({"quant_method": ["gptq"], "bits": [4]}, "['gptq']", None),
        ({"quant_method": "mxfp4"}, "", None),
        (None, "", None),
        ([4], "", None),
    ],
)
def test_a_folder_says_how_its_weights_come(tmp_path, said, quantized, bits):
    path = tmp_path / "my-model-AWQ"  # a name says nothing where the files do
    folder(path, LLAMA | {"quantization_config": said})
    model = resolve(str(path))
    assert (model.quantized, model.bits) == (quantized, bits)


def test_weights_that_come_quantized_cannot_be_trained_in_full_nor_quantized_again(make):
    model = "Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4"
    with pytest.raises(TunekitError, match="cannot be trained in full"):
        make(model=model, preset="7b", tuner_type="full")
    with pytest.raises(TunekitError, match="cannot be quantized once more"):
        make(model=model, preset="7b", quant_bits="4", quant_method="bnb")
    with pytest.raises(TunekitError, match="trains nothing, adapters included"):
        make(model="Qwen/Qwen3-8B-FP8", preset="8b")
    assert make(model=model, gpus="1x16GB").get("quant_method") is None
    assert make(model=model, preset="7b").weights_gib < 5


def test_the_memory_of_quantized_weights_is_that_of_their_bits(make, tmp_path):
    shape = config_of(resolve("Qwen2.5-7B"))
    plain, bits = tmp_path / "Qwen2.5-7B", tmp_path / "quantized" / "Qwen2.5-7B"
    bits.parent.mkdir()
    folder(plain, shape | {"architectures": ["Qwen2ForCausalLM"]})
    said = {"quant_method": "gptq", "bits": 4}
    folder(bits, shape | {"architectures": ["Qwen2ForCausalLM"], "quantization_config": said})
    whole, four = (make(model=str(path), preset="7b").peak.prediction.process_gib for path in (plain, bits))
    qlora = make(model=str(plain), preset="7b", quant_bits="4").peak.prediction.process_gib
    assert whole - four > 8
    assert abs(four - qlora) < 1


@pytest.mark.parametrize("name", ["org/New-VL-7B", "org/omni-3b", "org/llava-next-9", "org/Gemma-Vision", "org/m-VL2"])
def test_a_name_that_is_in_no_list_and_seems_to_see(make, name):
    with pytest.raises(TunekitError, match="sees or hears") as refused:
        make(model=name, preset="7b")
    assert "--model_type" in refused.value.hint
    said = as_type(resolve(name), "qwen2_5_vl")
    assert (said.multimodal, said.family, said.undecided, said.note) == (True, "qwen2_5_vl", (), "")
    assert make(model=said, preset="7b", model_type="qwen2_5_vl").whole("max_pixels")


def test_a_type_changes_nothing_of_a_model_that_is_known():
    known = resolve("Qwen2.5-7B")
    assert as_type(known, "qwen2_5_vl") is known
    assert as_type(resolve("org/new-7b"), "none-such") == resolve("org/new-7b")
    assert as_type(resolve("org/new-7b"), "qwen3_moe").moe


@pytest.mark.parametrize("name", ["org/new-7b", "org/evlang-7b", "org/revision-7b", "org/imagenet-gpt"])
def test_a_name_that_is_in_no_list_and_reads(name):
    note = resolve(name).note
    assert "is not in the list" in note
    assert "sees" not in note


def test_names_of_templates_and_types():
    assert {"qwen2_5", "llama3_2", "chatml", "deepseek_coder"} <= template_names()
    assert {"qwen2", "llama"} <= type_names()


@pytest.mark.parametrize(("flag", "word"), [("template", "qwen25"), ("template", "none-such"), ("model_type", "lama")])
def test_a_template_that_ms_swift_does_not_have(make, flag, word):
    with pytest.raises(TunekitError, match=f"^--{flag} {word}: ms-swift has none of that name"):
        make(preset="7b", **{flag: word})
    assert make(preset="7b", external_plugins=["my.py"], **{flag: word}).get(flag) == word


@pytest.mark.parametrize("name", ["~nobody-here/x", "a" * 300, "~nobody-here"])
def test_a_name_that_no_folder_can_have(name):
    with pytest.raises(TunekitError) as refused:
        resolve(name)
    assert len(refused.value.message) < 120


@pytest.mark.parametrize("odd", [{"architectures": {"a": 1}}, {"architectures": [{}]}, {"text_config": [1]}])
def test_fields_of_another_kind(tmp_path, odd):
    folder(tmp_path / "Qwen2.5-7B", odd)
    folder(tmp_path / "mine", odd)
    assert resolve(str(tmp_path / "Qwen2.5-7B")).params_b == 7
    assert resolve(str(tmp_path / "mine")).note


def test_a_config_without_end(tmp_path):
    (tmp_path / "config.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(TunekitError, match="cannot be read as JSON"):
        resolve(str(tmp_path))
