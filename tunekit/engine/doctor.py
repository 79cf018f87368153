"""Is this machine ready to train? `judge` says of each fact what it means, and what mends it.

It is pure: every check is a small function from `Facts` to its lines, and `CHECKS` is their order.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from tunekit.engine.environment import HERE, HUGGING_FACE, MODELSCOPE, TOKENS, Facts
from tunekit.engine.probe import TIME_LIMIT, Import
from tunekit.hardware import Hardware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Level = Literal["ok", "warning", "problem"]

OLDEST_PYTHON = (3, 10)
OLDEST_ENGINE, NEXT_ENGINE = (4, 6), (5,)
CALM_RESUME = (5, 2)
"""The first transformers that does not restore the micro-batch of a checkpoint (see `runs.checkpoints`)."""
ROOTS = ("torch", "torchvision")
"""Packages that take the imports of others down with them."""
ROOMY, FULL = 20.0, 2.0
"""GiB free. A 7B model alone is 15 to download."""

TRAIN = 'pip install "tunekit[train]"'
ENGINE = 'pip install "ms-swift>=4.6,<5"'
AGAIN = "tunekit doctor  # once more: the second import is faster"
PYTORCH = "https://pytorch.org/get-started/locally"


@dataclass(frozen=True)
class Check:
    """One line of the answer.

    Attributes:
        name: what was looked at.
        level: ``problem`` where training fails, ``warning`` where something is lost.
        found: what there is.
        fix: the command that mends it; empty where all is well.
    """

    name: str
    level: Level
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Companion:
    """A package that ms-swift uses where it is there.

    Attributes:
        name: of the distribution.
        package: its import name.
        install: how it comes here.
        mend: how a broken one is made again.
        use: what it is for.
        without: what is lost without it; empty where that is a matter of taste.
        gpu_only: of no use without a GPU.
        needs_torch: cannot be imported where torch cannot.
    """

    name: str
    package: str
    install: str
    mend: str
    use: str
    without: str = ""
    gpu_only: bool = False
    needs_torch: bool = True


MOVES = {
    HERE: "cd to a larger disk",
    HUGGING_FACE: "export HF_HOME=/larger/disk",
    MODELSCOPE: "export MODELSCOPE_CACHE=/larger/disk",
}
"""How to put elsewhere what fills a disk."""

COMPANIONS = (
    Companion(
        "flash-attn",
        "flash_attn",
        # It imports torch while it is built. A cached wheel is what no longer fits after torch was changed.
        'pip install --no-build-isolation "tunekit[flash]"',
        "pip install --no-build-isolation --no-cache-dir --no-deps --force-reinstall flash-attn",
        "fast attention",
        "no packing, slower attention (sdpa instead)",
        gpu_only=True,
    ),
    Companion(
        "bitsandbytes",
        "bitsandbytes",
        'pip install "tunekit[qlora]"',
        "pip install --no-deps --force-reinstall bitsandbytes",
        "4-bit models",
        "no QLoRA (4-bit base models)",
    ),
    Companion(
        "deepspeed",
        "deepspeed",
        'pip install "tunekit[deepspeed]"',
        "pip install --no-deps --force-reinstall deepspeed",
        "ZeRO over several GPUs",
    ),
    Companion(
        "liger-kernel",
        "liger_kernel",
        'pip install "tunekit[liger]"',
        "pip install --no-deps --force-reinstall liger-kernel",
        "less memory for the loss",
    ),
    Companion(
        "swanlab",
        "swanlab",
        'pip install "tunekit[swanlab]"',
        'pip install --force-reinstall "swanlab[dashboard]"',
        "tracking",
        needs_torch=False,
    ),
)


def judge(facts: Facts) -> list[Check]:
    """Every line, in the order of `CHECKS`."""
    checks = [check for look in CHECKS for check in look(facts)]
    return [replace(check, fix=re.sub(r"\bpip (?=install|uninstall)", f"{facts.pip} ", check.fix)) for check in checks]


def _python(facts: Facts) -> Iterator[Check]:
    version = ".".join(str(number) for number in facts.python)
    if facts.python < OLDEST_PYTHON:
        yield Check("Python", "problem", f"{version}: tunekit needs 3.10", "uv venv --python 3.12")
    else:
        yield Check("Python", "ok", version)


def _platform(facts: Facts) -> Iterator[Check]:
    found = f"{facts.system} {facts.machine}"
    if facts.system == "Linux":
        yield Check("platform", "ok", found)
    else:
        yield Check("platform", "warning", f"{found}: runs are supervised and tested on Linux", "use Linux, or WSL 2")


def _engine(facts: Facts) -> Iterator[Check]:
    if facts.engine is None:
        yield Check(
            "ms-swift",
            "problem",
            f"not installed: dry runs only, on {facts.flags} flags of a snapshot",
            TRAIN,
        )
        return
    release = _release(facts.engine)
    state = facts.imports.get("swift")
    if not OLDEST_ENGINE <= release < NEXT_ENGINE:
        yield Check("ms-swift", "problem", f"{facts.engine}: tunekit is made for 4.6 and later 4.x", ENGINE)
    elif facts.flags_error:
        yield Check("ms-swift", "problem", facts.flags_error, ENGINE)
    elif state and state.status == "broken":
        yield _broken(facts, "ms-swift", f"{facts.engine}, but it cannot start", state, ENGINE)
    elif state and state.status == "slow":
        yield _slow("ms-swift", facts.engine)
    else:
        yield Check("ms-swift", "ok", f"{facts.engine}, starts, {facts.flags} flags read from it")


def _requirements(facts: Facts) -> Iterator[Check]:
    if facts.engine is None:
        return
    if not facts.declared:
        found = "not compared: this ms-swift has no metadata (a source folder on the path?)"
        yield Check("requirements", "warning", found, ENGINE)
    elif facts.unmet is None:
        yield Check("requirements", "warning", "not compared: that needs packaging", "pip install packaging")
    elif not facts.unmet:
        yield Check("requirements", "ok", f"all {facts.declared} that ms-swift declares are met")
    for missed in facts.unmet or ():
        there = f"{missed.installed} is installed" if missed.installed else "not installed"
        found = f"ms-swift needs {missed.requirement}: {there}"
        yield Check("requirements", "problem", found, f'pip install "{missed.requirement}"')


def _msgspec(facts: Facts) -> Iterator[Check]:
    if facts.engine is None:  # it comes with the extra that the line of ms-swift names
        return
    if "msgspec" in facts.versions:
        yield Check("msgspec", "ok", facts.versions["msgspec"])
    else:
        found = "not installed: GRPO and GKD import it, and ms-swift does not declare it"
        yield Check("msgspec", "warning", found, "pip install msgspec")


def _transformers(facts: Facts) -> Iterator[Check]:
    version = facts.versions.get("transformers")
    if version is None:  # a requirement of ms-swift, and told as such
        return
    if _release(version) < CALM_RESUME:
        found = f"{version} restores the old batch on resume; tunekit resumes from a copied checkpoint instead"
        yield Check("transformers", "warning", found, 'pip install -U "transformers>=5.2"')
    else:
        yield Check("transformers", "ok", version)


def _torch(facts: Facts) -> Iterator[Check]:
    version = facts.versions.get("torch", "version unknown")
    state = facts.imports.get("torch")
    if state is None:
        yield Check("torch", "problem", "not installed", TRAIN)
        return
    if state.status == "slow":
        yield _slow("torch", version)
        return
    reinstall = "pip uninstall torch && pip install torch"
    if state.status == "broken":
        yield Check("torch", "problem", f"{version}, but the import fails: {state.line}", reinstall)
        return
    cuda, hip, seen = state.found.get("cuda"), state.found.get("hip"), int(state.found.get("gpus", 0))
    build = f"built for CUDA {cuda}" if cuda else f"built for ROCm {hip}" if hip else "CPU build"
    found = f"{version}, {build}"
    error = str(state.found.get("gpu_error", ""))
    if facts.gpus and not cuda:
        yield Check("torch", "problem", f"{found}: it cannot use the GPU of this machine", reinstall)
    elif facts.gpus and not seen:
        fix = f"update the NVIDIA driver, or take a torch for its CUDA version: {PYTORCH}"
        yield Check("torch", "problem", f"{found}, but it sees no GPU: the driver is too old for it", fix)
    elif "OutOfMemory" in error:
        yield Check("torch", "warning", f"{found}; no memory is free on {error.partition(':')[0]}", "nvidia-smi")
    elif error:
        fix = f"take a torch made for this GPU: {PYTORCH}"
        yield Check("torch", "problem", f"{found}, but it does not compute on {error}", fix)
    else:
        yield Check("torch", "ok", f"{found}, computes on {_count(seen, 'GPU')}" if seen else found)


def _gpus(facts: Facts) -> Iterator[Check]:
    torch = facts.imports.get("torch")
    seen = int(torch.found.get("gpus", 0)) if torch else 0
    if facts.gpus:
        yield Check("GPU", "ok", Hardware(facts.gpus).summary())
    elif seen:
        found = f"torch sees {_count(seen, 'GPU')}, but nvidia-smi does not: tunekit would plan for a CPU"
        yield Check("GPU", "warning", found, "in a container: NVIDIA_DRIVER_CAPABILITIES=compute,utility")
    elif facts.driver and facts.visible is not None:
        found = f"none that CUDA_VISIBLE_DEVICES={facts.visible!r} lets through"
        yield Check("GPU", "warning", found, "unset CUDA_VISIBLE_DEVICES")
    elif facts.driver:
        yield Check("GPU", "warning", "none: nvidia-smi is there, but names no GPU", "nvidia-smi  # says why")
    else:
        found = "none: training on a CPU is only for tests"
        yield Check("GPU", "warning", found, "tunekit sft … --gpus 24GB --dry-run  # plans for another machine")


def _torchvision(facts: Facts) -> Iterator[Check]:
    state = facts.imports.get("torchvision")
    if state is None:  # only models that see need it
        return
    version = facts.versions.get("torchvision", "version unknown")
    if state.status == "slow":
        yield _slow("torchvision", version)
    elif state.status == "broken":
        found = f"{version}, but the import fails, and with it that of transformers, for text too: {state.line}"
        if "operator torchvision::nms does not exist" in state.error:
            found = f"{version} is made for another torch; it breaks transformers, for text too"
        yield Check("torchvision", "problem", found, "pip uninstall torchvision")
    else:
        yield Check("torchvision", "ok", version)


def _companions(facts: Facts) -> Iterator[Check]:
    for companion in COMPANIONS:
        yield _companion(facts, companion)


def _companion(facts: Facts, companion: Companion) -> Check:
    name, state = companion.name, facts.imports.get(companion.package)
    version = facts.versions.get(name, "version unknown")
    if state is None:
        if companion.gpu_only and not facts.gpus:
            return Check(name, "ok", "not installed, and of no use without a GPU")
        if companion.without:
            return Check(name, "warning", f"not installed: {companion.without}", companion.install)
        return Check(name, "ok", f"not installed, optional ({companion.use})")
    if state.status == "slow":
        return _slow(name, version)
    if state.status == "broken":
        roots = ROOTS if companion.needs_torch else ()
        return _broken(facts, name, f"{version}, but the import fails", state, companion.mend, roots)
    return Check(name, "ok", version)


def _swift_on_path(facts: Facts) -> Iterator[Check]:
    fix = f'export PATH={shlex.quote(str(facts.scripts))}:"$PATH"'
    if facts.swift is None:
        if facts.engine is not None:
            found = "not on PATH: tunekit does not need it, commands copied from a dry run do"
            yield Check("swift", "warning", found, fix)
    elif facts.swift_is_own:
        yield Check("swift", "ok", str(facts.swift))
    else:
        found = f"{facts.swift} is another one: tunekit never uses it, commands copied from a dry run would"
        yield Check("swift", "warning", found, fix)


def _disks(facts: Facts) -> Iterator[Check]:
    for disk in facts.disks:
        level: Level = "problem" if disk.free_gib < FULL else "warning" if disk.free_gib < ROOMY else "ok"
        moves = [MOVES[what] for what in disk.holds] if level != "ok" else []
        found = f"{disk.free_gib:.{1 if disk.free_gib < ROOMY else 0}f} GiB free for {', '.join(disk.holds)}"
        yield Check("disk", level, found, "; ".join(moves))


def _tokens(facts: Facts) -> Iterator[Check]:
    found = ", ".join(f"{name} {'set' if name in facts.tokens else 'not set'}" for name in TOKENS)
    yield Check("tokens", "ok", found)


CHECKS: tuple[Callable[[Facts], Iterator[Check]], ...] = (
    _python,
    _platform,
    _gpus,
    _torch,
    _torchvision,
    _engine,
    _requirements,
    _transformers,
    _msgspec,
    _companions,
    _swift_on_path,
    _disks,
    _tokens,
)


def _broken(facts: Facts, name: str, found: str, state: Import, fix: str, roots: tuple[str, ...] = ROOTS) -> Check:
    """A failed import. Where a root of it fails too, that one has the line to act on."""
    states = {root: facts.imports[root].status if root in facts.imports else "missing" for root in roots}
    for root, status in states.items():
        if status == "broken" or (root, status) == ("torch", "missing"):
            again = f"tunekit doctor  # once {root} is mended"
            return Check(name, "warning", f"{found}: {root} is {status}", again)
    return Check(name, "problem", f"{found}: {state.line}", fix)


def _slow(name: str, version: str) -> Check:
    found = f"{version}; its import was ended after {TIME_LIMIT:.0f} s, so nothing is known"
    return Check(name, "warning", found, AGAIN)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _release(version: str) -> tuple[int, ...]:
    """The release numbers of a version, as in ``(5, 19, 0)``."""
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+", maxsplit=1)[0])[:3])
