"""Predict memory by running the real model on tensors without content.

A worker in the engine's interpreter builds the model with transformers and peft, trains it for two steps on fake
tensors and writes down every allocation; a model of PyTorch's allocator turns them into reserved memory. No weights
are read, no GPU is touched. Answers are kept, since a question has only one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunekit.memory.spec import GIB, Prediction, Spec, Unknown
from tunekit.paths import cache_folder, write_atomically

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
"""Distributions that decide what a model allocates."""

SOURCES = ("allocator.py", "spec.py", "trace_follow.py", "trace_kernels.py", "trace_model.py", "trace_worker.py")

CONTEXT = 141 * 2**20
"""Bytes of a CUDA context beside the allocator: 140.875 MiB on a Tesla T4 with PyTorch 2.9
(fitcheck-llm 0.3.1, data/measurements). Newer cards load more kernels: up to some 600 MiB."""

STAGES = ("pt", "sft", "dpo")


def trace(spec: Spec, time_limit: float = 60, *, loop: str = "swift") -> Prediction:
    """The memory of `spec`, traced.

    Args:
        spec: what is trained.
        time_limit: seconds the worker may take.
        loop: ``swift``, or ``plain`` for a bare PyTorch loop without autocast and accelerate, on a GPU without flash
            attention, as published measurements were often made.

    Raises:
        Unknown: the trace cannot tell; the message says why.
    """
    refuse(spec)
    for library in ("torch", "transformers", *needed(spec)):
        if find_spec(library) is None:
            raise Unknown(f"the trace needs {library}, which is not installed here")
    question = json.dumps({"spec": asdict(spec), "loop": loop}, sort_keys=True)
    place = cache_folder() / "memory" / f"{fingerprint(question)}.json"
    answer = _read(place)
    if answer is None:
        answer = ask(question, time_limit)
        with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to withhold the answer
            write_atomically(place, json.dumps(answer))
    return prediction(answer, spec)


def refuse(spec: Spec) -> None:
    """Say no to what the worker does not model.

    Raises:
        Unknown: with the reason.
    """
    config = spec.config
    if "auto_map" in config:
        raise Unknown("the model brings code of its own, which is not run to predict memory")
    if "quantization_config" in config:
        raise Unknown("the weights come quantized, in a format that the trace does not know")
    if spec.stage not in STAGES:
        raise Unknown(f"the trace knows the stages {', '.join(STAGES)}, not {spec.stage}")
    if spec.zero_stage:
        raise Unknown("the trace does not know DeepSpeed's shards and buckets")
    if spec.bits == 8:
        raise Unknown("the trace knows 4-bit weights, not 8-bit ones")
    if spec.packing and spec.attn != "flash":
        raise Unknown("ms-swift packs rows only with flash attention")


def needed(spec: Spec) -> tuple[str, ...]:
    """The packages beside torch and transformers."""
    if spec.tuner == "full":
        return ()
    return ("peft", "bitsandbytes") if spec.bits else ("peft",)


def fingerprint(question: str) -> str:
    """A name for the question, the installed libraries and the worker's own source."""
    digest = hashlib.sha256(question.encode())
    for library in LIBRARIES:
        try:
            digest.update(f"{library} {metadata.version(library)}\n".encode())
        except metadata.PackageNotFoundError:
            digest.update(f"{library} -\n".encode())
    for name in SOURCES:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()


def ask(question: str, time_limit: float) -> dict[str, Any]:
    """What the worker answers.

    Raises:
        Unknown: it took too long, or died.
    """
    here = str(Path(__file__).parents[2])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    quiet = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "USE_TF": "0"}
    environment = {**os.environ, **quiet, "PYTHONPATH": os.pathsep.join(paths)}
    # -m puts the current folder on the path, and a torch.py there is not torch: the worker starts in tunekit's folder
    command = [sys.executable, "-m", "tunekit.memory.trace_worker"]
    try:
        done = subprocess.run(
            command,
            input=question,
            capture_output=True,
            text=True,
            timeout=time_limit,
            env=environment,
            cwd=here,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unknown(f"the trace did not end within {time_limit:g} s") from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.strip().splitlines()
        raise Unknown(f"the trace failed: {lines[-1] if lines else f'status {done.returncode}'}") from None
    if not isinstance(answer, dict):
        raise Unknown("the trace failed: its worker answered no object")
    return answer


def prediction(answer: dict[str, Any], spec: Spec) -> Prediction:
    """The answer of the worker in GiB.

    Raises:
        Unknown: the worker could not tell.
    """
    if "unknown" in answer:
        raise Unknown(str(answer["unknown"]))
    notes = [f"context of {CONTEXT / 2**20:.0f} MiB as on a Tesla T4"]
    if spec.stage == "dpo":
        notes.append("the DPO step is traced roughly")
    if spec.gpus > 1:
        notes.append("DDP: gradients are held twice, in buckets")
    return Prediction(
        allocated_gib=answer["allocated"] / GIB,
        reserved_gib=answer["reserved"] / GIB,
        process_gib=(answer["reserved"] + CONTEXT) / GIB,
        breakdown={kind: size / GIB for kind, size in answer["breakdown"].items()},
        method="trace",
        peak_at=f"{answer['phase']}, in {answer['op'].removeprefix('aten.').removesuffix('.default')}",
        notes=tuple(notes),
    )


def _read(place: Path) -> dict[str, Any] | None:
    """A kept answer; None where there is none, or it is damaged."""
    try:
        answer = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None
