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
from dataclasses import asdict, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunekit.files import cache_folder, keep_answer, read_object
from tunekit.memory.card import context_note, cuda_context
from tunekit.memory.estimate import estimate
from tunekit.memory.evaluation import EVALUATION
from tunekit.memory.spec import GIB, Prediction, Spec, Unknown
from tunekit.stages import STAGES
from tunekit.worker import Worker, WorkerFailed

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
"""Distributions that decide what a model allocates."""

SOURCES = ("allocator", "follow", "kernels", "model", "worker", "../card", "../spec", "../stage_fields", "../../stages")
"""Modules that decide what the worker answers, as seen from here."""

QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "USE_TF": "0",
    "OMP_NUM_THREADS": "1",
}
"""Variables of the worker: nothing is computed, so that threads would only be in the way."""


def trace_worker() -> Worker:
    """The process that traces, for any number of questions; leave it by ``with``."""
    return Worker("tunekit.memory.trace.worker:answer_trace", {**os.environ, **QUIET})


LIMIT = 60
"""Seconds that a trace may take where nobody says otherwise."""


def trace(spec: Spec, time_limit: float = LIMIT, *, loop: str = "swift", worker: Worker | None = None) -> Prediction:
    """The memory of `spec`, traced within so many seconds. Raises Unknown, with the reason, where it cannot be.

    The loop is ms-swift's, or ``plain``: a bare PyTorch loop without autocast and accelerate, on a GPU without flash
    attention, as published measurements were often made. A `trace_worker` for many questions saves some seconds each.
    """
    check_traceable(spec)
    for library in ("torch", "transformers", *needed(spec)):
        if find_spec(library) is None:
            raise Unknown(f"the trace needs {library}, which is not installed here")
    question = {"spec": asdict(spec), "loop": loop}
    place = cache_folder() / "memory" / f"{trace_fingerprint(question)}.json"
    answer = read_object(place)
    if not answer:
        try:
            with contextlib.nullcontext(worker) if worker else trace_worker() as asked:
                answer = asked.ask(question, time_limit)
        except WorkerFailed as failed:
            more = f"did not end within {time_limit:g} s; --trace-limit gives it more"
            reason = more if failed.late else f"failed: {failed}"
            raise Unknown(f"the trace {reason}") from None
        keep_answer(place, answer)
    return with_evaluation(prediction_of(answer, spec), spec)


def with_evaluation(prediction: Prediction, spec: Spec) -> Prediction:
    """A traced prediction with what is known of an evaluation beside it. Raises Unknown where that is the peak."""
    if not spec.evaluates:
        return prediction
    found = estimate(spec)
    if found.peak_at.startswith(EVALUATION) and found.process_gib > prediction.process_gib:
        raise Unknown(f"the peak is at {found.peak_at}, and evaluations are not traced")
    return replace(prediction, notes=(*prediction.notes, "the evaluation is not traced; by the estimate it takes less"))


def check_traceable(spec: Spec) -> None:
    """Raise Unknown, with the reason, for what the worker does not model."""
    config = spec.config
    if "auto_map" in config:
        raise Unknown("the model brings code of its own, which is not run to predict memory")
    if "quantization_config" in config:
        raise Unknown("the weights come quantized, in a format that the trace does not know")
    if not spec.kind.traced:
        traced = ", ".join(name for name, stage in STAGES.items() if stage.traced)
        raise Unknown(f"the trace knows the stages {traced}, not {spec.stage}")
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


def trace_fingerprint(question: dict[str, Any]) -> str:
    """A name for the question, the installed libraries and the worker's own source."""
    digest = hashlib.sha256(json.dumps(question, sort_keys=True).encode())
    for library in LIBRARIES:
        version = "-"
        with contextlib.suppress(metadata.PackageNotFoundError):
            version = metadata.version(library)
        digest.update(f"{library} {version}\n".encode())
    for name in SOURCES:
        digest.update((Path(__file__).parent / f"{name}.py").read_bytes())
    return digest.hexdigest()


def prediction_of(answer: dict[str, Any], spec: Spec) -> Prediction:
    """The answer of the worker in GiB. Raises Unknown where it says why there is none."""
    if "unknown" in answer:
        raise Unknown(str(answer["unknown"]))
    notes = [context_note(spec.capability)]
    if spec.kind.rows.pairs:
        notes.append(f"the {spec.stage.upper()} step is traced roughly")
    if spec.gpus > 1:
        notes.append("DDP: gradients are held twice, in buckets")
    return Prediction(
        allocated_gib=answer["allocated"] / GIB,
        reserved_gib=answer["reserved"] / GIB,
        process_gib=(answer["reserved"] + cuda_context(spec.capability)) / GIB,
        breakdown={kind: size / GIB for kind, size in answer["breakdown"].items()},
        method="trace",
        peak_at=f"{answer['phase']}, in {answer['op'].removeprefix('aten.').removesuffix('.default')}",
        notes=tuple(notes),
        gets_through=answer.get("gets_through"),
        retries=answer.get("retries", 0),
    )
