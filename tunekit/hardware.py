"""Which GPUs a run may use: found with nvidia-smi, or described with ``--gpus`` to plan for another machine."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace

from tunekit.errors import TunekitError, counted, did_you_mean

GIB_PER_GB = 0.985
"""A card sold with 24 GB gives about 23.6 GiB: the driver keeps some, and the CUDA context comes out of the rest."""

CARDS: dict[str, tuple[str, float, tuple[int, int]]] = {
    "t4": ("Tesla T4", 16, (7, 5)),
    "v100": ("V100", 32, (7, 0)),
    "v100-16gb": ("V100", 16, (7, 0)),
    "2080ti": ("RTX 2080 Ti", 11, (7, 5)),
    "a10": ("A10", 24, (8, 6)),
    "a10g": ("A10G", 24, (8, 6)),
    "a30": ("A30", 24, (8, 0)),
    "a40": ("A40", 48, (8, 6)),
    "a100": ("A100-80GB", 80, (8, 0)),
    "a100-40gb": ("A100-40GB", 40, (8, 0)),
    "a100-80gb": ("A100-80GB", 80, (8, 0)),
    "a800": ("A800", 80, (8, 0)),
    "a5000": ("RTX A5000", 24, (8, 6)),
    "a6000": ("RTX A6000", 48, (8, 6)),
    "3090": ("RTX 3090", 24, (8, 6)),
    "4090": ("RTX 4090", 24, (8, 9)),
    "5090": ("RTX 5090", 32, (12, 0)),
    "l4": ("L4", 24, (8, 9)),
    "l20": ("L20", 48, (8, 9)),
    "l40": ("L40", 48, (8, 9)),
    "l40s": ("L40S", 48, (8, 9)),
    "h20": ("H20", 96, (9, 0)),
    "h100": ("H100", 80, (9, 0)),
    "h800": ("H800", 80, (9, 0)),
    "h200": ("H200", 141, (9, 0)),
    "b200": ("B200", 180, (10, 0)),
}
"""What ``--gpus`` knows: name, memory in GB as sold, compute capability (https://developer.nvidia.com/cuda-gpus)."""


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU.

    Attributes:
        name: as the driver gives it.
        total_gib: its memory.
        free_gib: right now; None for a described one.
        capability: CUDA compute capability, as in ``(8, 0)``; None where unknown.
        device: what ``CUDA_VISIBLE_DEVICES`` calls it: an index or a UUID.
    """

    name: str
    total_gib: float
    free_gib: float | None = None
    capability: tuple[int, int] | None = None
    device: str = "0"


@dataclass(frozen=True)
class Hardware:
    """The GPUs of a run; none means the CPU.

    Attributes:
        described: given with ``--gpus``, so not necessarily in this machine.
        processes: training processes asked for on a CPU (``NPROC_PER_NODE``).
        nodes: machines that train together (``NNODES``).
    """

    gpus: tuple[Gpu, ...] = ()
    described: bool = False
    processes: int = 1
    nodes: int = 1

    @property
    def device(self) -> str:
        """``GPU`` or ``CPU``, for people."""
        return "GPU" if self.gpus else "CPU"

    @property
    def local_world(self) -> int:
        """Training processes on this machine: one a GPU."""
        return len(self.gpus) or self.processes

    @property
    def world(self) -> int:
        """Training processes on all machines."""
        return self.local_world * self.nodes

    @property
    def gpu_gib(self) -> float:
        """Memory of the smallest GPU: the one that decides what fits; 0 on a CPU."""
        return min((gpu.total_gib for gpu in self.gpus), default=0.0)

    @property
    def capability(self) -> tuple[int, int] | None:
        """The lowest compute capability among the GPUs, None where unknown or on a CPU."""
        known = [gpu.capability for gpu in self.gpus if gpu.capability]
        return min(known) if known else None

    def summary(self) -> str:
        """One line for people: ``2 × A100-SXM4-40GB, 39.1 of 39.4 GiB free``."""
        if not self.gpus:
            return f"none: CPU{f', {self.processes} processes' if self.processes > 1 else ''}"
        free = [gpu.free_gib for gpu in self.gpus if gpu.free_gib is not None]
        memory = f"{min(free):.1f} of {self.gpu_gib:.1f} GiB free" if free else f"{self.gpu_gib:.1f} GiB, as described"
        nodes = f" on each of {self.nodes} machines" if self.nodes > 1 else ""
        return f"{len(self.gpus)} × {self.gpus[0].name}, {memory}{nodes}"


def choose_hardware(spec: str | None) -> Hardware:
    """The hardware that ``--gpus spec`` and the environment mean.

    None takes every visible GPU, a bare number that many of them, ``cpu`` none; ``24GB``, ``2x24GB``, ``H100``,
    ``2x4090`` describe another machine. ``NPROC_PER_NODE`` and ``NNODES``, which ms-swift's launcher reads, are
    honoured as a number of processes and of machines. Raises TunekitError where there are not so many GPUs, or a
    description cannot be read.
    """
    asked, nodes = _positive("NPROC_PER_NODE"), _positive("NNODES") or 1
    cpu = Hardware(processes=asked or 1, nodes=nodes)
    if spec is not None and spec.lower() in ("cpu", "none"):
        return cpu
    if spec is not None and (not re.fullmatch("[0-9]{1,9}", spec) or spec in CARDS):
        return Hardware(_describe(spec), described=True, nodes=nodes)
    found = detect()
    if spec and not 0 < int(spec) <= len(found):
        raise TunekitError(
            f"--gpus {spec}: this machine shows {counted(len(found), 'GPU')}",
            "describe another machine as in --gpus 2x24GB, or say --gpus cpu",
        )
    return Hardware(tuple(found[: int(spec) if spec else asked]), nodes=nodes) if found else cpu


def detect() -> list[Gpu]:
    """The NVIDIA GPUs of this machine that ``CUDA_VISIBLE_DEVICES`` lets programs see; empty without a driver."""
    import shutil
    import subprocess

    if not shutil.which("nvidia-smi"):
        return []
    query = "index,uuid,name,memory.total,memory.free,compute_cap"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):  # a driver that does not answer cannot train either
        return []
    return visible(parse_nvidia_smi(answer.stdout), os.environ.get("CUDA_VISIBLE_DEVICES"))


def parse_nvidia_smi(csv: str) -> list[tuple[str, Gpu]]:
    """UUID and GPU for each line that nvidia-smi printed; lines that do not name a memory size are left out."""
    found = []
    for line in csv.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 6 or not fields[3].isdigit():
            continue
        index, uuid, name, total, free, capability = fields
        free_gib = int(free) / 1024 if free.isdigit() else None
        numbers = re.fullmatch(r"(\d+)\.(\d+)", capability)
        level = (int(numbers[1]), int(numbers[2])) if numbers else None
        found.append((uuid, Gpu(name, int(total) / 1024, free_gib, level, index)))
    return found


def visible(found: list[tuple[str, Gpu]], setting: str | None) -> list[Gpu]:
    """The GPUs that ``CUDA_VISIBLE_DEVICES = setting`` shows, in its order.

    As CUDA reads it: indices or (beginnings of) UUIDs; the first one that does not exist ends the list.
    https://docs.nvidia.com/cuda/cuda-c-programming-guide/#cuda-environment-variables
    """
    if setting is None:
        return [gpu for _, gpu in found]
    shown = []
    for name in (part.strip() for part in setting.split(",")):
        match = [(uuid, gpu) for uuid, gpu in found if name and (gpu.device == name or uuid.startswith(name))]
        if len(match) != 1:
            break
        shown.append(replace(match[0][1], device=name))
    return shown


def _describe(spec: str) -> tuple[Gpu, ...]:
    parts = re.fullmatch(r"(?:([0-9]{1,6})\s*[x×*]\s*)?(.+)", spec.strip(), re.IGNORECASE)
    count = int(parts[1] or 1) if parts else 0
    what = parts[2].strip().lower().replace(" ", "").replace("rtx", "") if parts else ""
    memory = re.fullmatch(r"(\d+(?:\.\d+)?)(?:gi?b?)", what)
    if memory and float(memory[1]) > 0:
        card = Gpu(f"{memory[1]} GB GPU", float(memory[1]) * GIB_PER_GB)
    elif what in CARDS:
        name, gigabytes, capability = CARDS[what]
        card = Gpu(name, gigabytes * GIB_PER_GB, capability=capability)
    else:
        raise TunekitError(
            f"--gpus {spec}: not a number, a memory size or a known card",
            did_you_mean(what, CARDS) or f"write 2x24GB, or one of {', '.join(CARDS)}",
        )
    if count < 1:
        raise TunekitError(f"--gpus {spec}: there must be at least one GPU", "--gpus cpu plans for a CPU")
    return tuple(replace(card, device=str(index)) for index in range(count))


def _positive(variable: str) -> int | None:
    """The number above 0 in an environment variable; None where it is not set."""
    word = os.environ.get(variable)
    if not word:
        return None
    if not re.fullmatch("[0-9]{1,9}", word) or int(word) < 1:
        raise TunekitError(f"the environment variable {variable} must be a number above 0, not {word}")
    return int(word)
