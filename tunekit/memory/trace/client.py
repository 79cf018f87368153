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
from typing import TYPE_CHECKING, Any

from tunekit.files import cache_folder, keep_answer, read_object
from tunekit.memory.card import context_note, cuda_context
from tunekit.memory.estimate import estimate
from tunekit.memory.evaluation import EVALUATION
from tunekit.memory.quantized import quantized_by
from tunekit.memory.sharding import sharding_of
from tunekit.memory.spec import GIB, Prediction, Spec, Unknown
from tunekit.stages import STAGES
from tunekit.worker import Worker, WorkerFailed

if TYPE_CHECKING:
    from collections.abc import Callable

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
"""Distributions that decide what a model allocates."""

SOURCES = (
    *("allocator", "follow", "kernels", "model", "worker", "../card", "../spec", "../fields", "../geometry"),
    *("../families", "../linears", "../names", "../kinds", "../targets", "../stage_fields", "../../stages"),
)
"""Modules that decide what the worker answers, as seen from here."""

TRACED_ADAPTERS = ("lora", "adalora", "vera", "fourierft", "ia3")
"""BOFT looks at numbers as it computes, which fake tensors have not; the others are ms-swift's own."""

PARTIAL = (
    *("freeze_parameters", "freeze_parameters_ratio", "freeze_parameters_regex", "lisa_activated_layers"),
    *("use_galore", "new_special_tokens"),
)
"""Fields under full training that the worker does not follow."""

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


def trace(spec: Spec, time_limit: float = LIMIT, *, worker: Worker | None = None) -> Prediction:
    """The memory of `spec`, traced within so many seconds. Raises Unknown, with the reason, where it cannot be.

    A `trace_worker` for many questions saves some seconds each.
    """
    check_traceable(spec)
    for library in ("torch", "transformers", *needed(spec)):
        if find_spec(library) is None:
            raise Unknown(f"the trace needs {library}, which is not installed here")
    question = {"spec": asdict(spec)}
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


def estimate_or_trace(spec: Spec, traced: Callable[[Spec], Prediction] | None = None) -> Prediction:
    """The estimate; where it has no formula, the trace, with a note. Raises Unknown, with both reasons."""
    try:
        return estimate(spec)
    except Unknown as unknown:
        try:
            found = (traced or trace)(spec)
        except Unknown as error:
            raise Unknown(f"{unknown.message}; {error.message}") from None
        return replace(found, notes=(f"{unknown.message}: this is the trace", *found.notes))


def check_traceable(spec: Spec) -> None:
    """Raise Unknown, with the reason, for what the worker does not model."""
    traced = ", ".join(name for name, stage in STAGES.items() if stage.traced)
    installed = metadata.version("transformers") if find_spec("transformers") else "nothing"
    said = spec.transformers or installed
    experts = any("expert" in name for name in spec.config)
    adapters = ", ".join(TRACED_ADAPTERS)
    reasons = {
        "the model brings code of its own, which is not run to predict memory": "auto_map" in spec.config,
        "the weights come quantized, in a format that the trace does not know": "quantization_config" in spec.config,
        f"the trace knows the stages {traced}, not {spec.stage}": not spec.kind.traced,
        "the trace does not know DeepSpeed's and FSDP's shards and buckets": bool(sharding_of(spec).by),
        "the trace does not know a model that lies on several GPUs": bool(spec.device_map),
        "the trace does not know rows or layers that are divided among GPUs": spec.gpus > 1
        and spec.sequence_parallel * spec.tensor_parallel > 1,
        f"the trace builds experts as transformers {installed} does": experts
        and said.split(".")[0] != installed.split(".")[0],
        "the trace does not know what leaves the GPU": bool(spec.offload),
        "the trace knows 4-bit weights of bitsandbytes, no others": bool(spec.bits)
        and (spec.bits, quantized_by(spec)) != (4, "bnb"),
        f"the trace knows the adapters {adapters}, not {spec.adapter}": spec.tuner != "full"
        and spec.adapter not in TRACED_ADAPTERS,
        "the trace trains a whole model, and leaves nothing frozen": spec.tuner == "full"
        and any(getattr(spec, name) for name in PARTIAL),
        "ms-swift packs rows only with flash attention": spec.packing and spec.attn != "flash",
    }
    for reason, holds in reasons.items():
        if holds:
            raise Unknown(reason)


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
