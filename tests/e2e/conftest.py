"""What the tests that really train share: small models, and a process that has ms-swift imported already."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import vision
from calls import tunekit
from forkrun import Cases

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def made(program: str, *words: str | Path) -> str:
    """What a program of the repository prints."""
    ended = subprocess.run([sys.executable, ROOT / program, *words], capture_output=True, text=True, check=True)
    return ended.stdout.strip()


@pytest.fixture(scope="session")
def real_model() -> str:
    """The folder of SmolLM2-135M-Instruct."""
    return os.environ.get("TUNEKIT_TEST_MODEL") or made("scripts/demo_model.py")


@pytest.fixture(scope="session")
def tiny_model(real_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a random Llama of two layers."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    made("tests/e2e/make_tiny.py", real_model, folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_vl(real_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random Qwen2.5-VL of four layers and two blocks, with ``data.jsonl``."""
    folder = tmp_path_factory.mktemp("model") / "tiny-vl"
    made("tests/e2e/make_tiny_vl.py", real_model, folder)
    return folder


@pytest.fixture(scope="session")
def swift_cases() -> Iterator[Cases]:
    """Runs of ms-swift that cost a second or two each, text and vision: ``swift_cases.run(argv, folder)``."""
    cases = Cases(vision.folder())
    yield cases
    cases.close()


@pytest.fixture(scope="session")
def kit(real_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run `kit`: a real chat model that has learned to sign its answers."""
    folder = tmp_path_factory.mktemp("after")
    words = ("--epochs", "3", "--max-length", "128", "--learning-rate", "2e-3", "--lora_alpha", "16")
    data = ROOT / "examples/identity.jsonl"
    tunekit(folder, "sft", "--model", real_model, "--dataset", data, "--name", "kit", "--report-to", "none", *words)
    return folder
