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
import tempfile
import threading
from dataclasses import asdict
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.files import cache_folder, write_atomically
from tunekit.memory.card import context, context_note
from tunekit.memory.spec import GIB, Prediction, Spec, Unknown

if TYPE_CHECKING:
    from types import TracebackType

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
"""Distributions that decide what a model allocates."""

SOURCES = ("allocator", "follow", "kernels", "model", "worker", "../card", "../spec")
"""Modules that decide what the worker answers, as seen from here."""

STAGES = ("pt", "sft", "dpo")


class Worker:
    """The process that traces: it starts at the first question and answers any number of them.

    Leave it by ``with``: it ends when no more questions can come.
    """

    def __init__(self) -> None:
        """No process yet."""
        self._process: subprocess.Popen[str] | None = None
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()  # it holds nothing that would have to be put away
            self._process.communicate()
        self._errors.close()

    def ask(self, question: str, time_limit: float) -> dict[str, Any]:
        """The answer to one line of JSON.

        Raises:
            Unknown: it took too long, or died.
        """
        if self._process is None:
            self._process = self._start()
        process = self._process
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        clock = threading.Timer(time_limit, end)
        clock.start()
        try:
            with contextlib.suppress(BrokenPipeError):  # then there is no answer either
                process.stdin.write(question + "\n")
                process.stdin.flush()
            line = process.stdout.readline()
        finally:
            clock.cancel()
        try:
            answer = json.loads(line)
        except ValueError:
            if line:  # it lives, and says what cannot be read
                process.kill()
            status = process.wait()
            self._process = None  # the next question gets a new one
            if late.is_set():
                raise Unknown(f"the trace did not end within {time_limit:g} s") from None
            self._errors.seek(0)
            lines = self._errors.read().strip().splitlines()
            raise Unknown(f"the trace failed: {lines[-1] if lines else f'status {status}'}") from None
        if not isinstance(answer, dict):
            raise Unknown("the trace failed: its worker answered no object")
        return answer

    def _start(self) -> subprocess.Popen[str]:
        here = str(Path(__file__).parents[3])
        paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
        quiet = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "USE_TF": "0"}
        return subprocess.Popen(
            # -m puts the current folder on the path, and a torch.py there is not torch: it starts in tunekit's folder
            [sys.executable, "-m", "tunekit.memory.trace.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **quiet, "PYTHONPATH": os.pathsep.join(paths)},
            cwd=here,
        )


def trace(spec: Spec, time_limit: float = 60, *, loop: str = "swift", worker: Worker | None = None) -> Prediction:
    """The memory of `spec`, traced.

    Args:
        spec: what is trained.
        time_limit: seconds that the worker may take.
        loop: ``swift``, or ``plain`` for a bare PyTorch loop without autocast and accelerate, on a GPU without flash
            attention, as published measurements were often made.
        worker: to ask; None starts one. With many questions one worker saves its start, some seconds each.

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
        if worker is None:
            with Worker() as own:
                answer = own.ask(question, time_limit)
        else:
            answer = worker.ask(question, time_limit)
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
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    return digest.hexdigest()


def prediction(answer: dict[str, Any], spec: Spec) -> Prediction:
    """The answer of the worker in GiB.

    Raises:
        Unknown: the worker could not tell.
    """
    if "unknown" in answer:
        raise Unknown(str(answer["unknown"]))
    notes = [context_note(spec.capability)]
    if spec.stage == "dpo":
        notes.append("the DPO step is traced roughly")
    if spec.gpus > 1:
        notes.append("DDP: gradients are held twice, in buckets")
    return Prediction(
        allocated_gib=answer["allocated"] / GIB,
        reserved_gib=answer["reserved"] / GIB,
        process_gib=(answer["reserved"] + context(spec.capability)) / GIB,
        breakdown={kind: size / GIB for kind, size in answer["breakdown"].items()},
        method="trace",
        peak_at=f"{answer['phase']}, in {answer['op'].removeprefix('aten.').removesuffix('.default')}",
        notes=tuple(notes),
        gets_through=answer.get("gets_through"),
        retries=answer.get("retries", 0),
    )


def _read(place: Path) -> dict[str, Any] | None:
    """A kept answer; None where there is none, or it is damaged."""
    try:
        answer = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None
