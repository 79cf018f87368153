"""Name a failure by the exit status and the end of the log. Only memory is worth another try.

A log holds text of the user too: ms-swift prints the first row, and the rows that it drops. So a failure is looked for
in the lines that end a traceback of Python, at their beginning, and not in what was printed before.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from enum import Enum

from tunekit.engine.logs import ERROR_LINE, printable, rows_in


class Kind(Enum):
    """What went wrong. The value is what ``outcome.json`` holds."""

    GPU_MEMORY = "gpu-memory"
    GPU_MEMORY_EVAL = "gpu-memory-in-evaluation"
    GPU_MEMORY_LOAD = "gpu-memory-at-load"
    HOST_MEMORY = "host-memory"
    SHARED_MEMORY = "shared-memory"
    KILLED = "killed"
    INFERENCE_ENGINE = "vllm-start"
    NCCL = "nccl"
    DISK = "disk"
    NETWORK = "network"
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

    @property
    def remedy(self) -> str:
        """What helps, for people; empty where that is another thing each time."""
        return REMEDIES.get(self, "")


TITLES = {
    Kind.GPU_MEMORY: "Out of GPU memory in training",
    Kind.GPU_MEMORY_EVAL: "Out of GPU memory in evaluation",
    Kind.GPU_MEMORY_LOAD: "Out of GPU memory while the model was loaded",
    Kind.HOST_MEMORY: "Out of host memory (RAM)",
    Kind.SHARED_MEMORY: "Out of shared memory (/dev/shm)",
    Kind.KILLED: "Killed from outside",
    Kind.INFERENCE_ENGINE: "vLLM found too little GPU memory to start",
    Kind.NCCL: "The GPUs lost touch with each other (NCCL)",
    Kind.DISK: "The disk is full",
    Kind.NETWORK: "The network or a hub did not answer",
    Kind.DATA: "The dataset cannot be used",
    Kind.USAGE: "ms-swift refused its arguments",
    Kind.UNKNOWN: "Training failed",
}

REMEDIES = {
    Kind.SHARED_MEMORY: "a larger /dev/shm (docker run --shm-size 16g, or --ipc host), or --dataloader_num_workers 0",
    Kind.KILLED: "nothing is lowered: the kernel ended nothing for want of memory here, so a scheduler, a limit or a "
    "person did; tunekit resume goes on from the last checkpoint",
    Kind.DISK: "make room, then go on with tunekit resume; --save_total_limit 2 keeps fewer checkpoints, "
    "--save_only_model true smaller ones (they cannot be resumed)",
    Kind.NETWORK: "for a model or dataset: --use_hf true (Hugging Face instead of ModelScope), a mirror "
    "(HF_ENDPOINT=https://hf-mirror.com), or a folder on this machine; for a tracker: --report-to none",
}
"""Sources: https://docs.pytorch.org/docs/stable/multiprocessing.html and Docker's ``--shm-size``; ms-swift's
``--use_hf``; huggingface_hub's variable ``HF_ENDPOINT``."""

SIGKILLED = (-9, 137, 247)
"""Statuses of a process ended by SIGKILL: as Python sees it, as a shell does, and as ``swift`` passes on that of
its child (``sys.exit(-9)``). Nothing else is left behind by the kernel's out-of-memory killer."""

SIGNALLED = {
    status: (kind, f"ended by {number.name}, which {what}")
    for number, kind, what in (
        (signal.SIGTERM, Kind.KILLED, "another program or person sent"),
        (signal.SIGBUS, Kind.SHARED_MEMORY, "means shared memory or a mapped file that is not there (/dev/shm full?)"),
    )
    for status in (-number, 128 + number, 256 - number)
}
"""The same for signals that say by themselves what happened."""


@dataclass(frozen=True)
class Pattern:
    """A text at the beginning of a line that means one kind of failure.

    It is looked for in the lines that end the traceback; `anywhere`: in the whole log, which programs that are not
    Python write to. Such a text names the program.
    """

    kind: Kind
    text: re.Pattern[str]
    anywhere: bool = False


ENGINE = r"^(?:\(\w+ pid=\d+\) )?(?:ERROR .*?\] )?"
"""What vLLM puts before the lines of its processes."""
RUNTIME = r"^(?:RuntimeError|torch\.AcceleratorError): (?:CUDA error: )?"
NET = r"^(?:[\w.]+\.)?"

PATTERNS = tuple(
    Pattern(kind, re.compile(text), anywhere)
    for kind, anywhere, text in (
        # vLLM sizes its cache before training starts: a smaller micro-batch does not help, so these come first.
        (Kind.INFERENCE_ENGINE, True, rf"{ENGINE}\w+Error: No available memory for the cache blocks"),
        (
            Kind.INFERENCE_ENGINE,
            True,
            rf"{ENGINE}\w+Error: Free memory on device .* on startup is less than desired GPU memory utilization",
        ),
        (Kind.INFERENCE_ENGINE, True, r"^CUDA Error: out of memory at .*cumem_allocator"),
        (Kind.GPU_MEMORY, False, r"^(?:torch\.(?:cuda\.)?)?OutOfMemoryError: .*"),
        (Kind.GPU_MEMORY, False, r"^(?:RuntimeError: )?(?:CUDA|HIP|XPU) out of memory\..*"),
        (Kind.GPU_MEMORY, False, rf"{RUNTIME}out of memory"),
        (Kind.GPU_MEMORY, False, rf"{RUNTIME}CUBLAS_STATUS_ALLOC_FAILED"),
        (Kind.GPU_MEMORY, False, r"^RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        # PyTorch shares tensors between processes by files in /dev/shm, and says that the "device" is full.
        (
            Kind.SHARED_MEMORY,
            False,
            r"^(?:RuntimeError|OSError): (?:unable to \w+ (?:to file|shared memory object|file) </?torch_).*",
        ),
        (Kind.SHARED_MEMORY, False, r"^RuntimeError: DataLoader worker .* is killed by signal: Bus error.*"),
        (Kind.SHARED_MEMORY, True, r"^.*Error while creating shared memory segment /dev/shm/.*"),
        (Kind.SHARED_MEMORY, True, r"^\s*exitcode\s*: -7 \(pid: \d+\)"),
        (Kind.HOST_MEMORY, False, r"^RuntimeError: .*DefaultCPUAllocator: (?:can't|not enough memory).*"),
        (Kind.HOST_MEMORY, False, r"^(?:numpy[\w.]*Array|pyarrow[\w.]*Arrow)?MemoryError\b.*"),
        (
            Kind.HOST_MEMORY,
            False,
            r"^(?:OSError|BlockingIOError): \[Errno 1[12]\] (?:Cannot allocate memory|Resource).*",
        ),
        (Kind.HOST_MEMORY, True, r"^terminate called after throwing an instance of 'std::bad_alloc'"),
        # Whether it was the kernel that killed for want of memory, only its counter says.
        (Kind.KILLED, False, r"^RuntimeError: DataLoader worker .* is killed by signal: Killed.*"),
        (Kind.KILLED, True, r"^\s*exitcode\s*: -9 \(pid: \d+\)"),
        (Kind.KILLED, True, r"^\s*traceback\s*: Signal 9 \(SIGKILL\) received by PID \d+"),
        (Kind.NCCL, True, r"^(?:ncclInternalError|ncclSystemError|ncclUnhandledCudaError|ncclRemoteError).*"),
        (Kind.NCCL, True, r"^(?:\[rank\d+\]:)?\[.*ProcessGroupNCCL.*Watchdog caught collective operation timeout.*"),
        (Kind.DISK, False, r"^OSError: (?:\[Errno (?:28|122)\]|Not enough disk space).*"),
        (Kind.DISK, False, r"^(?:[\w.]+\.)?SafetensorError: .*(?:os error (?:28|122)\)|StorageFull).*"),
        # torch.save on a full disk: https://github.com/pytorch/pytorch/issues/31620
        (Kind.DISK, False, r"^RuntimeError: .*(?:PytorchStreamWriter failed writing file|unexpected pos \d+ vs \d+).*"),
        (Kind.USAGE, False, r"^ValueError: remaining_argv: .*"),
        (Kind.USAGE, False, r"^\S+: error: argument --.*"),
        (
            Kind.NETWORK,
            False,
            rf"{NET}(?:ConnectionError|ConnectTimeout|ReadTimeout|ConnectError|ProxyError|SSLError|MaxRetryError"
            r"|NameResolutionError|NewConnectionError|NetworkError|gaierror)\b.*",
        ),
        (
            Kind.NETWORK,
            False,
            rf"{NET}(?:LocalEntryNotFoundError|OfflineModeIsEnabled|RepositoryNotFoundError|GatedRepoError"
            r"|HfHubHTTPError|NotExistError)\b.*",
        ),
        (Kind.NETWORK, False, r"^OSError: (?:We couldn't connect to 'https?://|\[Errno (?:101|-[23])\]).*"),
        (Kind.NETWORK, False, r"^[\w.]+: (?:.* )?\[E1\d{3}\].*"),
        # A name that is no file is looked for in the hub; of a file that cannot be read the same line is all.
        (Kind.DATA, True, r"^(?:\[ERROR:swift\] )?Dataset .* load failed.*"),
        (Kind.DATA, False, r"^(?:[\w.]+\.)?DatasetGenerationError.*"),
        (Kind.DATA, False, r"^ValueError: The local path does not exist, dataset_id: .*"),
        (Kind.DATA, False, r"^ValueError: Column '\w+' doesn't exist\..*"),
        (Kind.DATA, False, r"^ValueError: Failed to retrieve the dataset\. .*"),
    )
)
"""The first one that the log holds names the failure. Sources: PyTorch's allocators (CUDACachingAllocator.cpp,
alloc_cpu.cpp), torch elastic's report of killed workers, vLLM issues 13941 and others, ms-swift 4.6 base.py."""

EVALUATION = re.compile(r"in (?:evaluation_loop|evaluate|prediction_step|_evaluate)\b")
"""Frames of a traceback that stand in the evaluation."""

LOADING = re.compile(r"in (?:from_pretrained|get_model_processor|load_state_dict|_load_pretrained_model)\b")
"""Frames of a traceback that stand in the loading of a model."""

NO_ROWS = re.compile(
    r'File ".*swift/(?:dataset|pipelines/train)/.*", line \d+, in (?:_show_dataset|sample_dataset|load)'
)
"""Frames of ms-swift that fail where no row is left, with an error that speaks of something else."""
NO_ROWS_ERRORS = ("TypeError: 'NoneType'", "ZeroDivisionError", "StopIteration", "IndexError")

SAMPLE = re.compile(r"^\[INFO:swift\] \[(?:\w+_)?(?:INPUT|LABELS)(?:_IDS)?\]")
"""Where ms-swift prints the first row (template/base.py, print_inputs)."""
SAID = re.compile(r"^\[(?:INFO|WARNING):swift\] ")
"""Where it says the next thing."""
CAUGHT = "[INFO:swift] Traceback (most recent call last)"
"""A row that is dropped: its traceback ends with a warning (dataset/preprocessor/core.py)."""

RANK = re.compile(r"^\[rank\d+\]: ?")
TRACEBACK = "Traceback (most recent call last)"
PASSED_OVER = ("Exception ignored", "Exception in thread")
"""What stands before a traceback that ended nothing."""
LAUNCHER = "ChildFailedError"
"""What torchrun raises."""
CHAINED = ("During handling of the above exception", "The above exception was the direct cause")


@dataclass(frozen=True)
class Failure:
    """Why an attempt ended: `evidence` is the line of the log that shows it, or what the exit status means."""

    kind: Kind
    evidence: str
    status: int


def classify(status: int, log: str, *, oom_kills: int | None = None) -> Failure:
    """Name a failure by the exit status of ms-swift (negative for a signal) and the end of its output.

    `oom_kills` are the processes that the kernel's out-of-memory killer ended meanwhile; None where it does not say.
    """
    lines = [line for line in re.split(r"[\r\n]+", log) if line.strip()]
    ours = without_samples(lines)
    ended = last_traceback(ours)
    errors = error_lines(ended) or ([] if ended else ours)
    for pattern in PATTERNS:
        pool = [*ours, *errors] if pattern.anywhere else errors
        line = next((line for line in reversed(pool) if pattern.text.search(line)), None)
        if line is not None:
            kind, evidence = _settled(pattern.kind, ended, line.strip(), oom_kills)
            return Failure(kind, printable(evidence, LONGEST_EVIDENCE), status)
    if status in SIGKILLED:
        kind, evidence = _settled(Kind.KILLED, ended, "", oom_kills)
        return Failure(kind, evidence, status)
    if status in SIGNALLED and not ended:
        return Failure(*SIGNALLED[status], status)
    shown = next((line for line in reversed(errors) if ERROR_LINE.match(line)), None)
    evidence = (shown or (lines[-1] if lines else "it printed nothing")).strip()
    lost = _no_rows(lines, ended, evidence)
    kind = Kind.DATA if lost else Kind.UNKNOWN
    return Failure(kind, printable(lost or evidence, LONGEST_EVIDENCE), status)


LONGEST_EVIDENCE = 200


def without_samples(lines: list[str]) -> list[str]:
    """The lines of a log without the rows of the user that ms-swift prints."""
    kept, inside = [], ""
    for line in lines:
        if inside == CAUGHT:
            inside = "" if line.startswith("[WARNING:swift]") else inside
        elif CAUGHT in line:
            inside = CAUGHT
        elif SAMPLE.match(line):
            inside = "sample"
        elif not inside or SAID.match(line):
            inside = ""
            kept.append(line)
    return kept


def last_traceback(lines: list[str]) -> list[str]:
    """A log from the traceback on that ended the program; empty where there is none.

    Where one error led to another, from the first of them; under torchrun from the first rank's. The launcher's own
    says nothing, nor do those of what was only cleaned up.
    """
    starts = [at for at, line in enumerate(lines) if RANK.sub("", line).startswith(TRACEBACK)]
    pieces = list(zip(starts, [*starts[1:], len(lines)], strict=False))
    pieces = [piece for piece in pieces if not _says_nothing(lines, *piece)]
    if not pieces:
        return []
    first = next((place for place, (at, _) in enumerate(pieces) if RANK.match(lines[at])), None)
    if first is None:
        first = len(pieces) - 1
        while first and lines[pieces[first][0] - 1].startswith(CHAINED):
            first -= 1
    return [line for at, end in pieces[first:] for line in lines[at:end]]


def _says_nothing(lines: list[str], start: int, end: int) -> bool:
    """Whether a traceback is the launcher's, or of what was only cleaned up."""
    error = next((line for line in lines[start:end] if ERROR_LINE.match(line)), "")
    return LAUNCHER in error or lines[max(0, start - 1)].startswith(PASSED_OVER)


def error_lines(ended: list[str]) -> list[str]:
    """The line behind the frames of each traceback: the error, and the beginning of what it says."""
    found, inside = [], set[str]()
    for line in ended:
        mark = RANK.match(line)
        rank, said = (mark[0], line[mark.end() :]) if mark else ("", line)
        if said.startswith(TRACEBACK):
            inside.add(rank)
        elif rank in inside and not said.startswith(" ") and "%|" not in said:  # frames, progress bars
            inside.discard(rank)
            found += [] if LAUNCHER in said else [said]
    return found


def _settled(kind: Kind, ended: list[str], evidence: str, oom_kills: int | None) -> tuple[Kind, str]:
    """What a text means: where memory ran out is told by the frames, who killed by the kernel's counter."""
    if kind is Kind.GPU_MEMORY:
        return _where(ended, evidence), evidence
    if kind is not Kind.KILLED:
        return kind, evidence
    if oom_kills == 0:
        return kind, evidence or "killed by SIGKILL, while the kernel's out-of-memory killer ended nothing"
    guess = "killed by SIGKILL, as the kernel does when host memory runs out"
    return Kind.HOST_MEMORY, evidence or ("the kernel's out-of-memory killer ended it" if oom_kills else guess)


def _where(ended: list[str], evidence: str) -> Kind:
    """Whether GPU memory ran out in training, evaluation or loading, by the frames above the line that says so."""
    place = next((at for at, line in enumerate(ended) if evidence in line), len(ended))
    starts = [at for at, line in enumerate(ended[:place]) if TRACEBACK in line]
    frames = "\n".join(ended[starts[-1] if starts else 0 : place])
    if EVALUATION.search(frames):
        return Kind.GPU_MEMORY_EVAL
    return Kind.GPU_MEMORY_LOAD if LOADING.search(frames) else Kind.GPU_MEMORY


def _no_rows(lines: list[str], ended: list[str], evidence: str) -> str:
    """Why no row was left to train on, in ms-swift's words; empty where that is not what happened."""
    dropped = rows_in(lines).dropped
    if dropped and not dropped[-1].kept:
        return dropped[-1].line()
    frames = [line for line in ended if NO_ROWS.search(line)]
    if frames and evidence.startswith(NO_ROWS_ERRORS):
        return f"no row of the dataset can be used ({evidence})"
    return ""


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
