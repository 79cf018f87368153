"""Where a model comes from: a folder, a cache, a hub, a mirror; nobody is asked."""

import json

import pytest

from tunekit.plan.models.find import resolve
from tunekit.plan.models.model import Model
from tunekit.plan.models.source import FOLDER, HUGGING_FACE, MODELSCOPE, source_of

QWEN = resolve("Qwen2.5-7B")
LLAMA = Model("meta-llama/Llama-3.1-8B", 8, "llama3_1")


@pytest.fixture(autouse=True)
def _no_cache(tmp_path, monkeypatch):
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "MODELSCOPE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def weights(folder, *names, size=2_000_000):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    for name in names:
        (folder / name).write_bytes(b"\0" * size)
    return folder


def test_a_model_that_is_nowhere_here_says_how_much_there_is_to_fetch():
    found = source_of(QWEN, {}, use_hf=False)
    assert (found.hub, found.folder, found.note) == (MODELSCOPE, "", "")
    assert found.gigabytes == pytest.approx(15.2, abs=0.1), "7.6 billion weights of 2 bytes"
    assert found.in_words() == "ModelScope, about 15.2 GB to fetch"
    assert source_of(resolve("Qwen2.5-7B-Instruct-AWQ"), {}, use_hf=False).gigabytes == pytest.approx(3.8, abs=0.1)
    assert source_of(QWEN, {}, use_hf=True).in_words() == "Hugging Face, about 15.2 GB to fetch"


def test_how_much_is_not_known_of_a_name_that_says_no_size():
    found = source_of(Model("org/stranger"), {}, use_hf=False)
    assert found.gigabytes is None
    assert "nobody knows how much" in found.in_words()
    assert "in no list of ms-swift" in found.note


@pytest.mark.parametrize(
    ("use_hf", "place"),
    [
        (True, ".cache/huggingface/hub/models--Qwen--Qwen2.5-7B/snapshots/abc"),
        (False, ".cache/modelscope/models/Qwen--Qwen2.5-7B/snapshots/master"),
        (False, ".cache/modelscope/hub/models/Qwen/Qwen2___5-7B"),
    ],
)
def test_a_model_in_the_cache_of_its_hub_is_not_fetched(tmp_path, use_hf, place):
    folder = weights(tmp_path / place, "model.safetensors")
    found = source_of(QWEN, {}, use_hf=use_hf)
    assert found.folder == str(folder)
    assert found.gigabytes == pytest.approx(0.002)
    assert "in its cache here, whole" in found.in_words()
    other = source_of(QWEN, {}, use_hf=not use_hf)
    assert other.folder == ""
    assert f"it is in the other hub's cache: --model {folder}, or --use_hf {str(use_hf).lower()}" in other.note


def test_half_a_download_counts_as_none(tmp_path):
    folder = weights(tmp_path / ".cache/modelscope/models/Qwen/Qwen2___5-7B", "model-1-of-2.safetensors")
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert source_of(QWEN, {}, use_hf=False).folder == ""
    (folder / "model-2-of-2.safetensors").write_bytes(b"")
    assert source_of(QWEN, {}, use_hf=False).folder == str(folder)


def test_a_folder_of_the_users(tmp_path):
    found = source_of(Model(str(weights(tmp_path / "mine", "model.safetensors")), local=True), {}, use_hf=False)
    assert (found.hub, found.note) == (FOLDER, "")
    assert found.in_words() == f"the folder {tmp_path / 'mine'}, 2 MB of weights"
    empty = source_of(Model(str(weights(tmp_path / "empty")), local=True), {}, use_hf=False)
    assert empty.note == "there are no weights in it"


def test_a_mirror_is_named_without_what_is_secret_in_its_address():
    found = source_of(QWEN, {"HF_ENDPOINT": "https://me:hunter2@hf-mirror.com/x"}, use_hf=True)
    assert found.mirror == "hf-mirror.com"
    assert "hunter2" not in found.in_words()
    assert found.in_words().startswith("Hugging Face by way of hf-mirror.com, ")
    assert source_of(QWEN, {"MODELSCOPE_DOMAIN": "ms.example"}, use_hf=False).mirror == "ms.example"
    assert source_of(QWEN, {"HF_ENDPOINT": "https://huggingface.co"}, use_hf=True).mirror == ""
    assert source_of(QWEN, {"HF_ENDPOINT": "http://[oops"}, use_hf=True).mirror == "an address that is none"
    unused = source_of(QWEN, {"HF_ENDPOINT": "https://hf-mirror.com"}, use_hf=False)
    assert (unused.mirror, unused.note) == ("", "HF_ENDPOINT is for --use_hf true")


def test_what_is_gated_says_so_where_it_is(tmp_path):
    assert "HF_TOKEN is not set" in source_of(LLAMA, {}, use_hf=True).note
    assert source_of(LLAMA, {}, use_hf=False).note == "", "ModelScope asks for no consent"
    assert source_of(LLAMA, {"HF_TOKEN": "x"}, use_hf=True).note == "gated: its terms must be accepted on its page"
    (tmp_path / "token").write_text("x")
    logged_in = source_of(LLAMA, {"HF_TOKEN_PATH": str(tmp_path / "token")}, use_hf=True)
    assert "not set" not in logged_in.note
    assert source_of(QWEN, {}, use_hf=True).note == ""


def test_without_a_network_what_is_not_here_is_not_found():
    assert (
        "HF_HUB_OFFLINE is set, so a start would not find it"
        in source_of(QWEN, {"HF_HUB_OFFLINE": "1"}, use_hf=True).note
    )
    assert source_of(QWEN, {"HF_HUB_OFFLINE": "0"}, use_hf=True).note == ""
    assert source_of(QWEN, {"HF_HUB_OFFLINE": "1"}, use_hf=False).hub != HUGGING_FACE
