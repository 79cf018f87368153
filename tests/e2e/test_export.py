"""What is exported and served answers as what was trained, with the real converter, llama.cpp and server."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import llama
import pytest
from calls import QUESTIONS, environment, logs, responses, tunekit

pytestmark = [pytest.mark.e2e, pytest.mark.engine]

PATIENCE = 300
"""Seconds after which a wait is given up; nothing is asserted about time."""

KEY = "planted-5f2c7d9a"


@pytest.mark.skipif(not llama.USABLE, reason="llama.cpp is fetched for Linux on x86_64 alone")
def test_a_gguf_file_answers_in_llama_cpp_as_the_adapter_does(kit):
    tools = llama.folder()
    tunekit(kit, "export", "kit", "--to", "gguf", "--quant", "f16", "--llama-cpp", tools, "--out", "gguf")
    record = json.loads((kit / "gguf/export.json").read_text(encoding="utf-8"))
    assert record["prompt_as_trained"] is True  # the folder's own template adds a system prompt, which was mended
    assert record["parity"]["top1"] > 0.97
    assert record["parity"]["kl"] < 0.1 * record["parity"]["base"]
    conversations = [json.loads(line)["messages"] for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    given = json.dumps({"file": str(kit / "gguf/gguf-f16.gguf"), "conversations": conversations})
    environ = environment(kit, tools)
    asked = [sys.executable, "-c", llama.ASK]
    said = subprocess.run(asked, input=given, env=environ, capture_output=True, text=True, check=True).stdout
    (line,) = (line for line in said.splitlines() if line.startswith("ANSWERS"))
    answers, learned = json.loads(line.removeprefix("ANSWERS")), responses(kit, "kit")
    assert [answer.strip() for answer in answers] == [answer.strip() for answer in learned]
    assert str(kit) not in "".join(path.read_text(encoding="utf-8") for path in (kit / "gguf").glob("*.[jm][sd]*"))


def test_a_served_model_answers_by_openais_api_and_nothing_of_it_is_left(kit):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "tunekit", "serve", "kit", "--port", str(port)]
    environ = environment(kit) | {"TUNEKIT_SERVE_KEY": KEY}
    process = subprocess.Popen(words, cwd=kit, env=environ, stderr=subprocess.PIPE, text=True)
    try:
        while not (line := process.stderr.readline()).startswith("ready: "):
            assert line, f"it ended: {logs(kit)}"
        assert f"http://127.0.0.1:{port}/v1 · model kit" in line
        question = json.loads(QUESTIONS.read_text(encoding="utf-8").splitlines()[0])["messages"]
        assert ask(port, question, KEY)["choices"][0]["message"]["content"] == responses(kit, "kit")[0]
        with pytest.raises(urllib.error.HTTPError):
            ask(port, question, "another")
        everything = subprocess.run(["ps", "-wweo", "args"], capture_output=True, text=True, check=True).stdout
        assert KEY not in everything
    finally:
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0, said
    assert "stopped" in said
    assert KEY not in said + logs(kit)
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))


def ask(port, messages, key):
    body = json.dumps({"model": "kit", "messages": messages, "temperature": 0, "max_tokens": 24}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body, headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
        return json.load(answer)
