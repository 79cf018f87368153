"""The kinds of failure: what people are told of each, and the texts and statuses by which it is known."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from enum import Enum


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
    PORT = "port"
    NETWORK = "network"
    DATA = "data"
    PACKAGE = "package"
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
    Kind.PORT: "The port where the processes meet was taken",
    Kind.NETWORK: "The network or a hub did not answer",
    Kind.DATA: "The dataset cannot be used",
    Kind.PACKAGE: "A package is missing, or does not fit the others",
    Kind.USAGE: "ms-swift refused its arguments",
    Kind.UNKNOWN: "Training failed",
}

REMEDIES = {
    Kind.SHARED_MEMORY: "a larger /dev/shm (docker run --shm-size 16g, or --ipc host), or --dataloader_num_workers 0",
    Kind.KILLED: "nothing is lowered: the kernel ended nothing for want of memory here, so a scheduler, a limit or a "
    "person did; tunekit resume goes on from the last checkpoint",
    Kind.DISK: "make room, then go on with tunekit resume; --save_total_limit 2 keeps fewer checkpoints, "
    '--save_only_model true smaller ones (they cannot be resumed). "File too large" is a limit of the shell: ulimit -f',
    Kind.PORT: "another program has it: try again, or give another one with MASTER_PORT",
    Kind.PACKAGE: "install it into the environment that ms-swift is in; tunekit doctor --deep tries each package; "
    "where flash attention is the broken one, --attn_impl sdpa --packing false does without",
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
        # What Slurm says where it limits memory by control groups.
        (Kind.HOST_MEMORY, True, r"^slurmstepd: error: Detected \d+ oom[_-]kill event.*"),
        (Kind.HOST_MEMORY, True, r"^srun: error: \S+: task \d+: Out Of Memory"),
        # Whether it was the kernel that killed for want of memory, only its counter says.
        (Kind.KILLED, False, r"^RuntimeError: DataLoader worker .* is killed by signal: Killed.*"),
        (Kind.KILLED, True, r"^\s*exitcode\s*: -9 \(pid: \d+\)"),
        (Kind.KILLED, True, r"^\s*traceback\s*: Signal 9 \(SIGKILL\) received by PID \d+"),
        (Kind.NCCL, True, r"^(?:ncclInternalError|ncclSystemError|ncclUnhandledCudaError|ncclRemoteError).*"),
        (Kind.NCCL, True, r"^(?:\[rank\d+\]:)?\[.*ProcessGroupNCCL.*Watchdog caught collective operation timeout.*"),
        (Kind.DISK, False, r"^OSError: (?:\[Errno (?:27|28|122)\]|Not enough disk space).*"),
        (Kind.DISK, False, r"^(?:[\w.]+\.)?SafetensorError: .*(?:os error (?:27|28|122)\)|StorageFull).*"),
        # torch.save on a full disk: https://github.com/pytorch/pytorch/issues/31620
        (Kind.DISK, False, r"^RuntimeError: .*(?:PytorchStreamWriter failed writing file|unexpected pos \d+ vs \d+).*"),
        (
            Kind.PORT,
            False,
            rf"{NET}(?:DistNetworkError|RuntimeError|OSError): .*(?:EADDRINUSE|[Aa]ddress already in use)",
        ),
        (Kind.PACKAGE, False, r"^(?:ModuleNotFoundError: No module named|ImportError:) .*"),
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
