"""Name a failure by the exit status and the end of the log. Only memory is worth another try."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What went wrong. The value is what ``outcome.json`` holds."""

    GPU_MEMORY = "gpu-memory"
    GPU_MEMORY_EVAL = "gpu-memory-in-evaluation"
    GPU_MEMORY_LOAD = "gpu-memory-at-load"
    HOST_MEMORY = "host-memory"
    INFERENCE_ENGINE = "vllm-start"
    NCCL = "nccl"
    DISK = "disk"
    DATA = "data"
    USAGE = "usage"
    UNKNOWN = "unknown"

    @property
    def is_memory(self) -> bool:
        """Whether a smaller configuration may get through."""
        return self in (Kind.GPU_MEMORY, Kind.GPU_MEMORY_EVAL, Kind.GPU_MEMORY_LOAD, Kind.HOST_MEMORY)

    @property
    def title(self) -> str:
        """What people read."""
        return TITLES[self]


TITLES = {
    Kind.GPU_MEMORY: "Out of GPU memory in training",
    Kind.GPU_MEMORY_EVAL: "Out of GPU memory in evaluation",
    Kind.GPU_MEMORY_LOAD: "Out of GPU memory while the model was loaded",
    Kind.HOST_MEMORY: "Out of host memory (RAM)",
    Kind.INFERENCE_ENGINE: "vLLM found too little GPU memory to start",
    Kind.NCCL: "The GPUs lost touch with each other (NCCL)",
    Kind.DISK: "The disk is full",
    Kind.DATA: "The dataset cannot be used",
    Kind.USAGE: "ms-swift refused its arguments",
    Kind.UNKNOWN: "Training failed",
}

SIGKILLED = (-9, 137, 247)
"""Statuses of a process ended by SIGKILL: as Python sees it, as a shell does, and as ``swift`` passes on that of
its child (``sys.exit(-9)``). Nothing else is left behind by the kernel's out-of-memory killer."""


@dataclass(frozen=True)
class Pattern:
    """A text in a log that means one kind of failure."""

    kind: Kind
    text: re.Pattern[str]


PATTERNS = tuple(
    Pattern(kind, re.compile(text))
    for kind, text in (
        # vLLM sizes its cache before training starts: a smaller micro-batch does not help, so these come first.
        (Kind.INFERENCE_ENGINE, r"No available memory for the cache blocks"),
        (Kind.INFERENCE_ENGINE, r"Free memory on device .* on startup is less than desired GPU memory utilization"),
        (Kind.INFERENCE_ENGINE, r"CUDA Error: out of memory at .*cumem_allocator"),
        (Kind.GPU_MEMORY, r"(?:torch\.(?:cuda\.)?)?OutOfMemoryError: .*"),
        (Kind.GPU_MEMORY, r"(?:CUDA|HIP|XPU) out of memory\..*"),
        (Kind.GPU_MEMORY, r"CUDA error: out of memory"),
        (Kind.GPU_MEMORY, r"CUBLAS_STATUS_ALLOC_FAILED"),
        (Kind.GPU_MEMORY, r"CUDNN_STATUS_ALLOC_FAILED"),
        (Kind.HOST_MEMORY, r"DefaultCPUAllocator: (?:can't|not enough memory).*"),
        (Kind.HOST_MEMORY, r"^(?:\[rank\d+\]: )?MemoryError\b.*"),
        (Kind.HOST_MEMORY, r"Cannot allocate memory"),
        (Kind.HOST_MEMORY, r"DataLoader worker .* is killed by signal: (?:Killed|Bus error).*"),
        (Kind.HOST_MEMORY, r"exitcode\s*: -9 \(pid: \d+\)"),
        (Kind.HOST_MEMORY, r"Signal 9 \(SIGKILL\) received by PID \d+"),
        (Kind.NCCL, r"(?:ncclInternalError|ncclSystemError|ncclUnhandledCudaError|ncclRemoteError).*"),
        (Kind.NCCL, r"Watchdog caught collective operation timeout.*"),
        (Kind.DISK, r"No space left on device"),
        (Kind.DISK, r"Disk quota exceeded"),
        (Kind.USAGE, r"remaining_argv: .*"),
        (Kind.USAGE, r"error: argument --.*"),
        (Kind.DATA, r"Dataset .* load failed.*"),
        (Kind.DATA, r"DatasetGenerationError.*"),
    )
)
"""The first one that the log holds names the failure. Sources: PyTorch's allocators (CUDACachingAllocator.cpp,
alloc_cpu.cpp), torch elastic's report of killed workers, vLLM issues 13941 and others, ms-swift 4.6 base.py."""

EVALUATION = re.compile(r"in (?:evaluation_loop|evaluate|prediction_step|_evaluate)\b")
"""Frames of a traceback that stand in the evaluation."""

LOADING = re.compile(r"in (?:from_pretrained|get_model_processor|load_state_dict|_load_pretrained_model)\b")
"""Frames of a traceback that stand in the loading of a model."""

ERROR_LINE = re.compile(r"^(?:\[rank\d+\]: )?(?:[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Iteration)\b.*)$")
"""The last line of a Python traceback."""


@dataclass(frozen=True)
class Failure:
    """Why an attempt ended: `evidence` is the line of the log that shows it, or what the exit status means."""

    kind: Kind
    evidence: str
    status: int


def classify(status: int, log: str, *, oom_kills: int = 0) -> Failure:
    """Name a failure by the exit status of ms-swift (negative for a signal) and the end of its output.

    `oom_kills` are the processes that the kernel's out-of-memory killer ended meanwhile on this machine.
    """
    lines = [line.strip() for line in re.split(r"[\r\n]+", log) if line.strip()]
    for pattern in PATTERNS:
        line = next((line for line in reversed(lines) if pattern.text.search(line)), None)
        if line is not None:
            return Failure(_where(pattern.kind, log[: log.rfind(line)]), _shorten(line), status)
    if status in SIGKILLED:
        killed = "killed by SIGKILL, as the kernel does when host memory runs out"
        proof = "the kernel's out-of-memory killer ended it" if oom_kills else killed
        return Failure(Kind.HOST_MEMORY, proof, status)
    errors = [line for line in lines if ERROR_LINE.match(line)]
    error = next((line for line in reversed(errors) if "ChildFailedError" not in line), None)
    return Failure(Kind.UNKNOWN, _shorten(error or (lines[-1] if lines else "it printed nothing")), status)


def _where(kind: Kind, log: str) -> Kind:
    """Whether GPU memory ran out in training, evaluation or loading, by the frames of the last traceback."""
    traceback = log[log.rfind("Traceback (most recent call last)") :]
    if kind is Kind.GPU_MEMORY and EVALUATION.search(traceback):
        return Kind.GPU_MEMORY_EVAL
    if kind is Kind.GPU_MEMORY and LOADING.search(traceback):
        return Kind.GPU_MEMORY_LOAD
    return kind


def _shorten(line: str, limit: int = 200) -> str:
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def memory_sizes(evidence: str) -> str:
    """The sizes in PyTorch's out-of-memory line, for people: ``tried 2.32 GiB, 1.10 GiB free of 39.14 GiB``."""
    parts = []
    if tried := re.search(r"[Tt]ried to allocate ([\d.]+ [KMG]iB|\d+ bytes)", evidence):
        number, unit = tried[1].split()
        parts.append(f"tried {int(number) / 2**30:.2f} GiB" if unit == "bytes" else f"tried {tried[1]}")
    total = re.search(r"total capacity of ([\d.]+ [KMG]iB)", evidence)
    free = re.search(r"of which ([\d.]+ [KMG]iB) is free", evidence)
    if free and total:
        parts.append(f"{free[1]} free of {total[1]}")
    return ", ".join(parts)
