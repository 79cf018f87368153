"""A model is served to this machine, and nothing of the server is left."""

from __future__ import annotations

import json
import socket

import pytest
from running import call, make_run

from tunekit.errors import Exit, TunekitError
from tunekit.runs.trained.backends import BACKENDS, Service, room_for
from tunekit.runs.trained.job import prepare_job


def serving(**more):
    return Service(prepare_job("serve", "kit", "", {}), "kit", **more)


def adapter(folder, **config):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("rank", "room"), [(1, 1), (4, 8), (16, 16), (20, 32), (129, 256), (512, 512)])
def test_vllm_makes_room_for_the_rank(tmp_path, rank, room):
    assert room_for(adapter(tmp_path / "a", r=rank)) == room


@pytest.mark.parametrize("config", [{"r": 8, "use_dora": True}, {"r": 8, "modules_to_save": ["lm_head"]}, {"r": 1000}])
def test_an_adapter_that_servers_leave_out_is_to_be_merged(tmp_path, config):
    with pytest.raises(TunekitError) as raised:
        room_for(adapter(tmp_path / "a", **config))
    assert "merge it" in raised.value.hint


def test_each_backend_gets_the_trained_model_by_its_name():
    make_run(max_length=3072)
    argv = {name: list(row.command(serving(length=3072)).argv) for name, row in BACKENDS.items()}
    assert argv["swift"][:4] == ["swift", "deploy", "--adapters", "runs/kit/output/checkpoint-15"]
    assert argv["swift"][argv["swift"].index("--verbose") + 1] == "false"
    assert "kit=runs/kit/output/checkpoint-15" in argv["vllm"]
    assert argv["vllm"][2] == "Qwen/Qwen2.5-7B"
    assert argv["vllm"][argv["vllm"].index("--max-model-len") + 1] == "3072"
    assert "--lora-paths" in argv["sglang"]


def test_a_key_is_never_an_argument():
    make_run()
    for row in BACKENDS.values():
        assert not any("key" in word.lower() for word in row.command(serving(key=True)).argv)


def test_what_cannot_be_served_is_said_before_anything_is_loaded(monkeypatch):
    make_run()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        monkeypatch.setattr("tunekit.runs.trained.backends.find_spec", lambda name: name == "swift" or None)
        for words, says in (
            (("--port", port), f"port {port} of 127.0.0.1 cannot be taken"),
            (("--port", "0"), "--port takes a number"),
            (("--host", "192.0.2.1"), "others could ask it"),
            (("--backend", "vllm"), "vllm is not installed here"),
            (("--backend", "vlm"), "--backend takes swift, vllm, sglang"),
            (("--backend", "vllm", "--max_new_tokens", "5"), "is a flag of ms-swift"),
        ):
            ended = call("serve", "kit", *words)
            assert ended.code == Exit.USAGE
            assert says in ended.err
            assert ended.out == ""


def test_commands_for_another_machine_are_printed():
    make_run()
    ended = call("serve", "kit", "--print")
    assert ended.code == 0, ended.err
    assert [line.split()[0] for line in ended.out.splitlines() if not line.startswith(" ")] == [
        "swift",
        "vllm",
        "python",
    ]
