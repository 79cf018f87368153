"""The one file that a model hub is asked for: when, which hub first, and what is kept of the answer."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import ClassVar

import pytest

from tunekit.errors import TunekitError
from tunekit.plan.models.config import config_of
from tunekit.plan.models.find import resolve
from tunekit.runs.fetch import find_config

STRANGER = "someone/New-Model-3B"
SHAPE = {"model_type": "qwen3", "hidden_size": 8}


@pytest.fixture
def _no_hub(tmp_path, monkeypatch):
    """A home without caches, and hubs that nobody answers for."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MODELSCOPE_CACHE", "MODELSCOPE_DOMAIN", "USE_HF"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("HF_ENDPOINT", "MODELSCOPE_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


class Hub(BaseHTTPRequestHandler):
    """A hub: a table of answers, and what it was asked."""

    answers: ClassVar[dict[str, tuple[int, str, dict[str, str]]]] = {}
    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self):
        self.asked.append((self.path, self.headers.get("Authorization")))
        status, body, headers = self.answers.get(self.path, (404, "{}", {}))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        """Nothing: pytest would print it."""


@pytest.fixture
def hub(_no_hub, monkeypatch):
    Hub.answers, Hub.asked = {}, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    for name in ("HF_ENDPOINT", "MODELSCOPE_ENDPOINT"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
    yield Hub
    server.shutdown()
    thread.join()
    server.server_close()


ON_MODELSCOPE = "/models/someone/New-Model-3B/resolve/master/config.json"
ON_HUGGING_FACE = "/someone/New-Model-3B/resolve/main/config.json"


def test_a_hub_is_asked_once_and_only_when_allowed(hub):
    hub.answers[ON_MODELSCOPE] = (200, json.dumps(SHAPE), {})
    with pytest.raises(TunekitError, match="not known here"):
        config_of(resolve(STRANGER))
    assert not hub.asked
    assert find_config(resolve(STRANGER)) == SHAPE
    assert find_config(resolve(STRANGER)) == SHAPE
    assert config_of(resolve(STRANGER)) == SHAPE, "a dry run knows what was asked before"
    assert hub.asked == [(ON_MODELSCOPE, None)]


def test_the_other_hub_is_asked_next_and_gets_the_token_alone(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    hub.answers[ON_HUGGING_FACE] = (200, json.dumps(SHAPE), {})
    assert find_config(resolve(STRANGER)) == SHAPE
    assert hub.asked == [(ON_MODELSCOPE, None), (ON_HUGGING_FACE, "Bearer hf_planted")]


def test_a_redirect_does_not_carry_the_token_on(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    monkeypatch.setenv("USE_HF", "1")
    hub.answers[ON_HUGGING_FACE] = (302, "", {"Location": "/elsewhere"})
    hub.answers["/elsewhere"] = (200, json.dumps(SHAPE), {})
    assert find_config(resolve(STRANGER)) == SHAPE
    assert hub.asked == [(ON_HUGGING_FACE, "Bearer hf_planted"), ("/elsewhere", None)]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, "{}", {}), "401"),
        ((200, "<html>", {}), "127.0.0.1"),
        ((200, "[]", {}), "no config.json"),
        ((200, '{"error": "gone"}', {}), "no config.json"),
    ],
)
def test_a_hub_without_an_answer_is_one_line(hub, monkeypatch, answer, said):
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    hub.answers[ON_MODELSCOPE] = hub.answers[ON_HUGGING_FACE] = answer
    with pytest.raises(TunekitError, match="not known here") as refused:
        find_config(resolve(STRANGER))
    assert said in refused.value.message
    assert "\n" not in refused.value.message
    assert "hf_planted" not in refused.value.message
    assert len(hub.asked) == 2


def test_offline_means_that_nobody_is_asked(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(TunekitError, match="HF_HUB_OFFLINE is set"):
        find_config(resolve(STRANGER))
    assert not hub.asked


@pytest.mark.usefixtures("_no_hub")
def test_no_network_is_one_line(monkeypatch):
    with pytest.raises(TunekitError, match=r"127\.0\.0\.1:9"):
        find_config(resolve(STRANGER))
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    with pytest.raises(TunekitError, match="is no address of a hub"):
        find_config(resolve(STRANGER))


def test_what_is_here_is_asked_of_nobody(hub, tmp_path):
    """A folder, a shipped shape, a model that a hub's client has downloaded."""
    (tmp_path / "m").mkdir()
    place = tmp_path / "home/.cache/huggingface/hub/models--someone--New-Model-3B/snapshots/a"
    place.mkdir(parents=True)
    for folder in (tmp_path / "m", place):
        (folder / "config.json").write_text(json.dumps(SHAPE), encoding="utf-8")
    for name in (str(tmp_path / "m"), "Qwen2.5-7B", STRANGER):
        assert find_config(resolve(name)) == config_of(resolve(name))
    assert not hub.asked


def test_weights_that_come_quantized_are_known_once_their_config_is_here(hub):
    hub.answers[ON_MODELSCOPE] = (200, json.dumps(SHAPE | {"quantization_config": {"bits": 4}}), {})
    with pytest.raises(TunekitError, match="come quantized"):
        find_config(resolve(STRANGER))
    model = resolve(STRANGER)
    assert (model.quantized, model.bits) == ("quantized", 4)
    assert config_of(model)["quantization_config"] == {"bits": 4}
