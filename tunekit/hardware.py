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
    "p40": ("Tesla P40", 24, (6, 1)),
    "p100": ("Tesla P100", 16, (6, 0)),
    "v100": ("V100", 32, (7, 0)),
    "v100-16gb": ("V100", 16, (7, 0)),
    "v100-32gb": ("V100", 32, (7, 0)),
    "titanrtx": ("Titan RTX", 24, (7, 5)),
    "2080ti": ("RTX 2080 Ti", 11, (7, 5)),
    "a2": ("A2", 16, (8, 6)),
    "a10": ("A10", 24, (8, 6)),
    "a10g": ("A10G", 24, (8, 6)),
    "a16": ("A16", 16, (8, 6)),
    "a30": ("A30", 24, (8, 0)),
    "a40": ("A40", 48, (8, 6)),
    "a100": ("A100-80GB", 80, (8, 0)),
    "a100-40gb": ("A100-40GB", 40, (8, 0)),
    "a100-80gb": ("A100-80GB", 80, (8, 0)),
    "a800": ("A800", 80, (8, 0)),
    "a800-40gb": ("A800-40GB", 40, (8, 0)),
    "a800-80gb": ("A800", 80, (8, 0)),
    "a4000": ("RTX A4000", 16, (8, 6)),
    "a4500": ("RTX A4500", 20, (8, 6)),
    "a5000": ("RTX A5000", 24, (8, 6)),
    "a5500": ("RTX A5500", 24, (8, 6)),
    "a6000": ("RTX A6000", 48, (8, 6)),
    "3060": ("RTX 3060", 12, (8, 6)),
    "3080": ("RTX 3080", 10, (8, 6)),
    "3080ti": ("RTX 3080 Ti", 12, (8, 6)),
    "3090": ("RTX 3090", 24, (8, 6)),
    "3090ti": ("RTX 3090 Ti", 24, (8, 6)),
    "4060ti-16gb": ("RTX 4060 Ti", 16, (8, 9)),
    "4070": ("RTX 4070", 12, (8, 9)),
    "4070ti": ("RTX 4070 Ti", 12, (8, 9)),
    "4080": ("RTX 4080", 16, (8, 9)),
    "4090": ("RTX 4090", 24, (8, 9)),
    "4090d": ("RTX 4090 D", 24, (8, 9)),
    "4090-48gb": ("RTX 4090", 48, (8, 9)),
    "4000ada": ("RTX 4000 Ada", 20, (8, 9)),
    "5000ada": ("RTX 5000 Ada", 32, (8, 9)),
    "6000ada": ("RTX 6000 Ada", 48, (8, 9)),
    "a6000ada": ("RTX 6000 Ada", 48, (8, 9)),
    "5060ti-16gb": ("RTX 5060 Ti", 16, (12, 0)),
    "5070": ("RTX 5070", 12, (12, 0)),
    "5070ti": ("RTX 5070 Ti", 16, (12, 0)),
    "5080": ("RTX 5080", 16, (12, 0)),
    "5090": ("RTX 5090", 32, (12, 0)),
    "5090d": ("RTX 5090 D", 32, (12, 0)),
    "pro6000": ("RTX PRO 6000 Blackwell", 96, (12, 0)),
    "l4": ("L4", 24, (8, 9)),
    "l20": ("L20", 48, (8, 9)),
    "l40": ("L40", 48, (8, 9)),
    "l40s": ("L40S", 48, (8, 9)),
    "h20": ("H20", 96, (9, 0)),
    "h20-141gb": ("H20", 141, (9, 0)),
    "h100": ("H100", 80, (9, 0)),
    "h100-80gb": ("H100", 80, (9, 0)),
    "h100nvl": ("H100 NVL", 94, (9, 0)),
    "h800": ("H800", 80, (9, 0)),
    "h200": ("H200", 141, (9, 0)),
    "gh200": ("GH200", 96, (9, 0)),
    "b200": ("B200", 180, (10, 0)),
    "gb200": ("GB200", 186, (10, 0)),
    "b300": ("B300", 288, (10, 3)),
}
"""What ``--gpus`` knows: name, memory in GB as sold, compute capability (https://developer.nvidia.com/cuda-gpus)."""

OTHERS = (
    (re.compile(r"mi\d{2,3}[a-z]?|instinct.*|radeon.*|rx\d{4}[a-z]*|amd.*|w7900"), "AMD"),
    (re.compile(r"(ascend)?(910|310)[a-z]?\d?|ascend.*|npu|huawei.*"), "Huawei"),
    (re.compile(r"gaudi\d?|hpu|arc.*|[ab]\d{3}m?intel|xpu|max1[15]50|intel.*"), "Intel"),
    (re.compile(r"m[1-5](pro|max|ultra)?|mps|apple.*"), "Apple"),
    (re.compile(r"(tpu)?v[2-7][ep]?(litepod)?\d*|tpu.*|google.*"), "Google"),
    (re.compile(r"trainium\d?|trn\d.*|inf\d.*|inferentia\d?"), "Amazon"),
    (re.compile(r"mtts\d+|mthreads.*|mlu\d*.*|dcu.*|k100(ai)?|biv?1\d0|c500|kunlun.*"), "another vendor"),
)
"""Names of accelerators that are no GPUs of NVIDIA's, and who makes them."""

AROUND = re.compile(r"^(?:(?:nvidia|geforce|tesla|quadro|rtx)-?)+|-(?:sxm\d?|pcie|hbm\d?e?|laptop|gpu)\b")
"""Words around a card's name that change nothing: ``NVIDIA A100-SXM4-80GB`` is an A100-80GB."""

MOST = 16
"""GPUs in one machine at the most; more stand in several machines, of `FEWEST` to 8."""
FEWEST = 4
MOST_GPUS = 1024
LONGEST = 60
"""Characters of a description that are looked at."""
LEAST_GB, MOST_GB = 1, 1024
"""What one card is thought to hold."""


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
        nodes: machines that train together (``--nodes``, ``NNODES``).
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


def choose_hardware(spec: str | None, machines: int | None = None) -> Hardware:
    """The hardware that ``--gpus spec``, ``--nodes machines`` and the environment mean.

    None takes every visible GPU, a bare number that many of them, ``cpu`` none; ``24GB``, ``2x24GB``, ``H100``,
    ``2x4090`` describe another machine, and so does ``24``, a number of GB that cards have, and of GPUs that no machine
    has; ``2x8xH100`` describes two machines. ``NPROC_PER_NODE`` and ``NNODES``, which ms-swift's launcher reads, are
    honoured as a number of processes and of machines. Raises TunekitError where there are not so many GPUs, a
    description cannot be read, or two of them give another number of machines.
    """
    asked, (spec, nodes) = _positive("NPROC_PER_NODE"), _machines(spec, machines)
    cpu = Hardware(processes=asked or 1, nodes=nodes)
    if spec is not None and spec.lower() in ("cpu", "none"):
        return cpu
    number = _whole(spec) if spec else None
    sizes = {gigabytes for _, gigabytes, _ in CARDS.values() if gigabytes > MOST}
    if spec and (number is None or spec in CARDS or number in sizes):
        return _in_machines(spec, _described(spec, nodes), nodes)
    found = detect()
    if number is not None and not 0 < number <= len(found):
        raise TunekitError(
            f"--gpus {spec}: this machine shows {counted(len(found), 'GPU')}",
            "describe another machine as in --gpus 2x24GB, or say --gpus cpu",
        )
    return Hardware(tuple(found[: asked if number is None else number]), nodes=nodes) if found else cpu


def _machines(spec: str | None, typed: int | None) -> tuple[str | None, int]:
    """What one machine has, and how many there are: one number, whoever says it."""
    several = re.fullmatch(r"([0-9]{1,9})\s*[x×*]\s*([0-9]{1,9}\s*[x×*].+)", (spec or "").strip(), re.IGNORECASE)
    said = {"--nodes": typed, "--gpus": int(several[1]) if several else None, "NNODES": _positive("NNODES")}
    known = {name: number for name, number in said.items() if number is not None}
    if len(set(known.values())) > 1:
        told = " and ".join(f"{name} says {number}" for name, number in known.items())
        raise TunekitError(f"how many machines train together? {told}", "say it once")
    number = next(iter(known.values()), 1)
    if not 1 <= number <= MOST_GPUS:
        raise TunekitError(f"{next(iter(known))} takes 1 to {MOST_GPUS:,} machines, not {number}")
    return several[2] if several else spec, number


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


def _whole(word: str) -> int | None:
    """The number that a word of plain digits means; None for any other word, and for absurd ones."""
    return int(word) if re.fullmatch(r"[0-9]{1,9}", word) else None


def _described(spec: str, nodes: int) -> tuple[Gpu, ...]:
    """The GPUs of a description: how many, of which kind."""
    spec = spec if len(spec) <= LONGEST else f"{spec[:LONGEST]}…"
    parts = re.fullmatch(r"(?:([0-9]{1,9})\s*[x×*]\s*)?(.+)", spec.strip(), re.IGNORECASE)
    count = int(parts[1] or 1) if parts else 0
    card = _card(spec, parts[2] if parts else "")
    if count < 1:
        raise TunekitError(f"--gpus {spec}: there must be at least one GPU", "--gpus cpu plans for a CPU")
    if count * nodes > MOST_GPUS:
        raise TunekitError(f"--gpus {spec}: more than {MOST_GPUS:,} GPUs are not planned for")
    return tuple(replace(card, device=str(index)) for index in range(count))


def _in_machines(spec: str, gpus: tuple[Gpu, ...], nodes: int) -> Hardware:
    """Described GPUs, shared among machines of up to 8 where no machine holds so many."""
    count = len(gpus)
    if count <= MOST:
        return Hardware(gpus, described=True, nodes=nodes)
    each = next(number for number in range(8, 0, -1) if count % number == 0)
    if nodes > 1 or each < FEWEST:
        why = "--gpus is what one machine has, and --nodes counts machines" if nodes > 1 else "machines have 4 to 8"
        raise TunekitError(f"--gpus {spec}: no machine holds {count:,} GPUs", f"{why}: --gpus 4x8xH100")
    return Hardware(gpus[:each], described=True, nodes=count // each)


def _card(spec: str, word: str) -> Gpu:
    """The card that a word means: a size of memory, or a name that the table knows."""
    what = AROUND.sub("", re.sub(r"[\s_]+", "-", word.strip().lower()))
    memory = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(-?gi?b?)?", what)
    if memory and what not in CARDS:
        if not LEAST_GB <= float(memory[1]) <= MOST_GB:
            raise TunekitError(
                f"--gpus {spec}: a card has {LEAST_GB} to {MOST_GB:,} GB", "write 2x24GB for two of 24 GB"
            )
        return Gpu(f"{memory[1]} GB GPU", float(memory[1]) * GIB_PER_GB)
    by_name = {name.replace("-", ""): name for name in CARDS}
    names, sized = [what], re.fullmatch(r"(.+?)-?([0-9]{1,4})-?gi?b?", what)
    if sized:
        names.append(f"{sized[1]}{sized[2]}gb")
        plain = by_name.get(sized[1].replace("-", ""))
        names += [plain] if plain and CARDS[plain][1] == float(sized[2]) else []  # RTX4090-24G says nothing new
    name = next((by_name[bare] for bare in (name.replace("-", "") for name in names) if bare in by_name), None)
    if name:
        called, gigabytes, capability = CARDS[name]
        return Gpu(called, gigabytes * GIB_PER_GB, capability=capability)
    vendor = next((vendor for pattern, vendor in OTHERS if pattern.fullmatch(what.replace("-", ""))), None)
    if vendor:
        raise TunekitError(
            f"--gpus {spec}: that is made by {vendor}, and tunekit plans for NVIDIA's GPUs alone",
            "only the CUDA path of ms-swift is planned: --gpus 80GB plans for a card with as much memory",
        )
    raise TunekitError(
        f"--gpus {spec}: not a number, a memory size or a known card",
        did_you_mean(what, CARDS) or f"write 2x24GB, or one of {', '.join(CARDS)}",
    )


def _positive(variable: str) -> int | None:
    """The number above 0 in an environment variable; None where it is not set."""
    word = os.environ.get(variable)
    if not word:
        return None
    number = _whole(word)
    if not number:
        raise TunekitError(f"the environment variable {variable} must be a number above 0, not {word}")
    if number > MOST_GPUS:
        raise TunekitError(
            f"the environment variable {variable} is {word}: more than {MOST_GPUS:,} are not planned for"
        )
    return number
