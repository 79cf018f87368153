"""What a terminal of 80 columns shows, which pipes do not."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from typing import TYPE_CHECKING

import pytest
from running import environment, make_workplace

from tunekit.plan.models.model import Model

if TYPE_CHECKING:
    from pathlib import Path

WIDE = 80


def on_screen(*words: str, **variables: str) -> tuple[int, str]:
    """The exit code of a real tunekit, and what it wrote to a terminal of 80 columns."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDE, 0, 0))
    env = environment(None, TERM="xterm", **variables)
    process = subprocess.Popen(
        [sys.executable, "-m", "tunekit", *words], stdin=terminal, stdout=terminal, stderr=terminal, env=env
    )
    os.close(terminal)
    text = b""
    while True:
        try:
            new = os.read(screen, 65536)
        except OSError:  # the other end was closed
            break
        if not new:
            break
        text += new
    os.close(screen)
    return process.wait(), text.decode().replace("\r\n", "\n")


def bare(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return make_workplace(tmp_path)


PLAN = ("sft", "--model", "Qwen2.5-7B", "--preset", "7b", "--dataset", "data.jsonl", "--gpus", "80GB")


def test_in_a_terminal_the_plan_comes_last() -> None:
    code, text = on_screen(*PLAN, "--dry-run")
    assert code == 0
    assert 0 < text.index("swift sft") < text.index("Memory") < text.index("Run ")
    assert text.strip().splitlines()[-1].strip().startswith("Run ")
    _, settings = on_screen(*PLAN, "--explain")
    assert 0 < settings.index("learning_rate") < settings.index("Memory")


def test_in_a_pipe_the_plan_comes_first() -> None:
    words = [sys.executable, "-m", "tunekit", *PLAN, "--dry-run"]
    piped = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(None), check=True)
    assert 0 < piped.stdout.index(b"Memory") < piped.stdout.index(b"swift sft")


@pytest.mark.parametrize(
    "words",
    [
        (*PLAN, "--explain"),
        ("presets", "list"),
        ("presets", "show", "7b"),
        ("fit", "--model", "Qwen2.5-7B", "--preset", "7b", "--gpus", "24GB"),
        ("sft", "--model", "Qwen2.5-7B", "--dataset", "data.jsonl", "--packing", "true", "--attn_impl", "sdpa"),
    ],
    ids=["explain", "presets list", "presets show", "fit", "an error with a hint"],
)
def test_nothing_is_wider_than_the_terminal(words: tuple[str, ...]) -> None:
    _, text = on_screen(*words)
    assert [line for line in bare(text).splitlines() if len(line) > WIDE] == []


def test_what_fits_is_green_and_what_does_not_is_red() -> None:
    code, text = on_screen("fit", "--model", "Qwen2.5-7B", "--preset", "7b", "--gpus", "24GB")
    assert code == 3
    assert "\x1b[31m\x1b[1mdoes not fit\x1b[0m 23.6 GiB" in text
    assert "\x1b[32m\x1b[1m← fits\x1b[0m" in text
    assert "\x1b[32m\x1b[1m  Memory" in on_screen(*PLAN, "--dry-run")[1]
    plain = on_screen("fit", "--model", "Qwen2.5-7B", "--preset", "7b", "--gpus", "24GB", NO_COLOR="1")[1]
    assert "\x1b" not in plain


def test_a_folder_is_shown_by_its_name_and_size(tmp_path: Path) -> None:
    text = bare(on_screen("sft", "--model", str(tmp_path / "tiny"), *PLAN[3:], "--dry-run")[1])
    assert re.search(r"^  tiny · size unknown · LoRA", text, re.MULTILINE)
    assert f"--model {tmp_path / 'tiny'}" in text
    assert Model(str(tmp_path / "tiny"), 0.00322, local=True).named == "tiny · 3.2M"
    assert Model("Qwen/Qwen2.5-7B", 7).named == "Qwen/Qwen2.5-7B"
    assert Model("Qwen/Qwen2.5-7B", 7.6).named == "Qwen/Qwen2.5-7B · 7.6B"
