"""Is this machine ready to train? Each of `CHECKS` turns the `Environment` into lines, with what mends a fault."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from tunekit.engine.environment import HERE, HUGGING_FACE, MODELSCOPE, TOKENS, Environment
from tunekit.engine.locate import RESTORES_BATCH_BELOW, release_of
from tunekit.engine.probe import TIME_LIMIT, Import
from tunekit.errors import counted
from tunekit.hardware import Hardware
from tunekit.plan.configuration import FLASH_PACKAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Level = Literal["ok", "warning", "problem"]

OLDEST_PYTHON = (3, 10)
OLDEST_ENGINE, NEXT_ENGINE = (4, 6), (5,)
ROOTS = ("torch", "torchvision")
"""Packages that take the imports of others down with them."""
ROOMY, FULL = 20.0, 2.0
"""GiB free. A 7B model alone is 15 to download."""

TRAIN = 'pip install "tunekit[train]"'
MEND_ENGINE = 'pip install "ms-swift>=4.6,<5"'
MEND_TORCH = "pip uninstall torch && pip install torch"
AGAIN = "tunekit doctor --deep  # once more: the second import is faster"
PYTORCH = "https://pytorch.org/get-started/locally"

MOVES = {
    HERE: "cd to a larger disk",
    HUGGING_FACE: "export HF_HOME=/larger/disk",
    MODELSCOPE: "export MODELSCOPE_CACHE=/larger/disk",
}
"""How to put elsewhere what fills a disk."""


@dataclass(frozen=True)
class Check:
    """One line of the answer: ``problem`` where training fails, ``warning`` where something is lost.

    `fix` is the command that mends it; empty where all is well.
    """

    name: str
    level: Level
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Package:
    """A package that is imported to see whether it works.

    Where it is not installed, the line is `missing` at `level`, and `install` the fix (empty where that is a matter of
    taste). Where its import fails, it is `broken` and the reason, which may be one of the `roots`; `mend` makes it
    again (empty where pip alone does it).
    """

    name: str
    module: str
    missing: str = "not installed"
    install: str = ""
    level: Level = "ok"
    mend: str = ""
    broken: str = "but the import fails"
    roots: tuple[str, ...] = ROOTS


TORCH = Package("torch", "torch", install=TRAIN, level="problem", mend=MEND_TORCH, roots=())
TORCHVISION = Package(
    *("torchvision", "torchvision"),
    mend="pip uninstall torchvision",
    broken="but the import fails, and with it that of transformers, for text too",
    roots=(),
)
ENGINE = Package("ms-swift", "swift", mend=MEND_ENGINE, broken="but it cannot start")

FLASH_MENDS = {
    # It imports torch while it is built. A cached wheel is what no longer fits after torch was changed.
    "flash_attn": "pip install --no-build-isolation --no-cache-dir --no-deps --force-reinstall flash-attn",
    "flash_attn_3": f"# flash-attn-3 is {FLASH_PACKAGES['flash_attn_3'].install}",
    "flash_attn_4": f"{FLASH_PACKAGES['flash_attn_4'].install} --force-reinstall",
}
FLASHES = tuple(Package(FLASH_PACKAGES[name].distribution, name, mend=mend) for name, mend in FLASH_MENDS.items())
NO_FLASH = "not installed: no packing, slower attention (sdpa instead)"
QLORA = "not installed: no QLoRA (4-bit base models)"
COMPANIONS = (
    Package("bitsandbytes", "bitsandbytes", QLORA, 'pip install "tunekit[qlora]"', "warning"),
    Package("deepspeed", "deepspeed", "not installed, optional (ZeRO over several GPUs)"),
    Package("liger-kernel", "liger_kernel", "not installed, optional (less memory for the loss)"),
    Package(
        *("swanlab", "swanlab", "not installed, optional (tracking)"),
        mend='pip install --force-reinstall "swanlab[dashboard]"',
        roots=(),  # alone among these, it does not import torch
    ),
)
"""Packages that ms-swift uses where they are there."""


def check_environment(here: Environment) -> list[Check]:
    """Every line, in the order of `CHECKS`; the fixes name the pip of this interpreter."""
    checks = [check for look in CHECKS for check in look(here)]
    return [replace(check, fix=re.sub(r"\bpip (?=install|uninstall)", f"{here.pip} ", check.fix)) for check in checks]


def _first(name: str, *cases: tuple[object, Level, str, str]) -> Check:
    """The line of the first case that holds: of a condition, a level, what there is and what mends it."""
    return next(Check(name, level, found, fix) for holds, level, found, fix in cases if holds)


def _fault(here: Environment, package: Package) -> Check | None:
    """The line of a package that is missing, slow or broken; None where it works."""
    name, state, version = package.name, here.imports.get(package.module), _version(here, package.name)
    if state is None:
        return Check(name, package.level, package.missing, package.install)
    if state.status == "slow":
        found = f"{version}; its import was ended after {TIME_LIMIT:.0f} s, so nothing is known"
        return Check(name, "warning", found, AGAIN)
    if state.status in ("works", "untried"):
        return None
    found = f"{version}, {package.broken}"
    for root in package.roots:  # where one of them fails, that one has the line to act on
        status = here.imports[root].status if root in here.imports else "missing"
        if status == "broken" or (root, status) == ("torch", "missing"):
            return Check(
                name, "warning", f"{found}: {root} is {status}", f"tunekit doctor --deep  # once {root} is mended"
            )
    mend = package.mend or f"pip install --no-deps --force-reinstall {name}"
    return Check(name, "problem", f"{found}: {state.line}", mend)


def _line(here: Environment, package: Package) -> Check:
    return _fault(here, package) or Check(package.name, "ok", _version(here, package.name))


def _machine(here: Environment) -> Iterator[Check]:
    version, found = ".".join(map(str, here.python)), f"{here.system} {here.machine}"
    old = Check("Python", "problem", f"{version}: tunekit needs 3.10", "uv venv --python 3.12")
    yield Check("Python", "ok", version) if here.python >= OLDEST_PYTHON else old
    other = Check("platform", "warning", f"{found}: runs are supervised and tested on Linux", "use Linux, or WSL 2")
    yield Check("platform", "ok", found) if here.system == "Linux" else other


def _gpus(here: Environment) -> Iterator[Check]:
    seen = _seen_by_torch(here)
    hidden = f"none that CUDA_VISIBLE_DEVICES={here.visible!r} lets through"
    unknown = f"torch sees {counted(seen, 'GPU')}, but nvidia-smi does not: tunekit would plan for a CPU"
    container = "in a container: NVIDIA_DRIVER_CAPABILITIES=compute,utility"
    elsewhere = "tunekit sft … --gpus 24GB --dry-run  # plans for another machine"
    yield _first(
        "GPU",
        (here.gpus, "ok", Hardware(here.gpus).summary(), ""),
        (seen, "warning", unknown, container),
        (here.driver and here.visible is not None, "warning", hidden, "unset CUDA_VISIBLE_DEVICES"),
        (here.driver, "warning", "none: nvidia-smi is there, but names no GPU", "nvidia-smi  # says why"),
        (True, "warning", "none: training on a CPU is only for tests", elsewhere),
    )


def _torch(here: Environment) -> Iterator[Check]:
    yield _fault(here, TORCH) or _torch_build(here)


def _torch_build(here: Environment) -> Check:
    torch, seen = here.imports["torch"].found, _seen_by_torch(here)
    tried = here.imports["torch"].status == "works"
    cuda, hip, error = torch.get("cuda"), torch.get("hip"), str(torch.get("gpu_error", ""))
    build = f"built for CUDA {cuda}" if cuda else f"built for ROCm {hip}" if hip else "CPU build"
    found = f"{_version(here, 'torch')}, {build}"
    update = f"update the NVIDIA driver, or take a torch for its CUDA version: {PYTORCH}"
    full = f"{found}; no memory is free on {error.partition(':')[0]}"
    other = f"take a torch made for this GPU: {PYTORCH}"
    return _first(
        "torch",
        (here.gpus and not cuda, "problem", f"{found}: it cannot use the GPU of this machine", MEND_TORCH),
        (
            here.gpus and tried and not seen,
            "problem",
            f"{found}, but it sees no GPU: the driver is too old for it",
            update,
        ),
        ("OutOfMemory" in error, "warning", full, "nvidia-smi"),
        (error, "problem", f"{found}, but it does not compute on {error}", other),
        (seen, "ok", f"{found}, computes on {counted(seen, 'GPU')}", ""),
        (True, "ok", found, ""),
    )


def _torchvision(here: Environment) -> Iterator[Check]:
    if TORCHVISION.module not in here.imports:  # only models that see need it
        return
    line = _line(here, TORCHVISION)
    if "operator torchvision::nms does not exist" in here.imports[TORCHVISION.module].error:
        found = f"{_version(here, 'torchvision')} is made for another torch; it breaks transformers, for text too"
        line = replace(line, found=found)
    yield line


def _engine(here: Environment) -> Iterator[Check]:
    if here.engine is None:
        found = f"not installed: dry runs only, on {here.flags} flags of a snapshot"
        yield Check("ms-swift", "problem", found, TRAIN)
    elif not OLDEST_ENGINE <= release_of(here.engine) < NEXT_ENGINE:
        yield Check("ms-swift", "problem", f"{here.engine}: tunekit is made for 4.6 and later 4.x", MEND_ENGINE)
    elif here.flags_error:
        yield Check("ms-swift", "problem", here.flags_error, MEND_ENGINE)
    else:
        tried = here.imports.get(ENGINE.module, Import("untried")).status == "works"
        found = f"{here.engine}, {'starts, ' if tried else ''}{here.flags} flags read from it"
        yield _fault(here, ENGINE) or Check("ms-swift", "ok", found)


def _requirements(here: Environment) -> Iterator[Check]:
    if here.engine is None:
        return
    if not here.unmet:
        source = "not compared: this ms-swift has no metadata (a source folder on the path?)"
        yield _first(
            "requirements",
            (not here.declared, "warning", source, MEND_ENGINE),
            (here.unmet is None, "warning", "not compared: that needs packaging", "pip install packaging"),
            (True, "ok", f"all {here.declared} that ms-swift declares are met", ""),
        )
    for missed in here.unmet or ():
        there = f"{missed.installed} is installed" if missed.installed else "not installed"
        found = f"ms-swift needs {missed.requirement}: {there}"
        yield Check("requirements", "problem", found, f'pip install "{missed.requirement}"')


def _companions(here: Environment) -> Iterator[Check]:
    if version := here.versions.get("transformers"):  # a missing one is said among the requirements of ms-swift
        resume = f"{version} restores the old batch on resume; tunekit resumes from a copied checkpoint instead"
        old = Check("transformers", "warning", resume, 'pip install -U "transformers>=5.2"')
        yield Check("transformers", "ok", version) if release_of(version) >= RESTORES_BATCH_BELOW else old
    if here.engine is not None:  # else msgspec comes with the extra that the line of ms-swift names
        missing = "not installed: GRPO and GKD import it, and ms-swift does not declare it"
        found = here.versions.get("msgspec")
        yield Check("msgspec", "ok", found) if found else Check("msgspec", "warning", missing, "pip install msgspec")
    for package in COMPANIONS:
        yield _line(here, package)


def _flash(here: Environment) -> Iterator[Check]:
    """Each flash attention that is here, and whether it is for these GPUs; else which one to get."""
    capability = Hardware(here.gpus).capability
    fit = [name for name, package in FLASH_PACKAGES.items() if here.gpus and package.runs_on(capability)]
    for package in FLASHES:
        if package.module not in here.imports:
            continue
        line = _line(here, package)
        if line.level == "ok" and here.gpus and package.module not in fit:
            major, minor = capability or (0, 0)
            found = f"{line.found} is not made for this GPU (compute capability {major}.{minor}) and is not used"
            line = replace(line, found=found)
        yield line
    usable, installed = here.imports.keys() & set(fit), here.imports.keys() & FLASH_PACKAGES.keys()
    if fit and not usable:
        best = "flash_attn_4" if capability and "flash_attn_4" in fit else "flash_attn"
        yield Check("flash-attn", "warning", NO_FLASH, FLASH_PACKAGES[best].install)
    elif not installed:
        yield Check(
            "flash-attn", "ok", f"not installed, and of no use {'on this GPU' if here.gpus else 'without a GPU'}"
        )


def _swift_on_path(here: Environment) -> Iterator[Check]:
    if here.swift is None and here.engine is None:
        return
    fix = f'export PATH={shlex.quote(str(here.scripts))}:"$PATH"'
    absent = "not on PATH: tunekit does not need it, commands copied from a dry run do"
    other = f"{here.swift} is another one: tunekit never uses it, commands copied from a dry run would"
    yield _first(
        "swift",
        (here.swift is None, "warning", absent, fix),
        (here.swift_is_own, "ok", str(here.swift), ""),
        (True, "warning", other, fix),
    )


def _disks(here: Environment) -> Iterator[Check]:
    for disk in here.disks:
        level: Level = "problem" if disk.free_gib < FULL else "warning" if disk.free_gib < ROOMY else "ok"
        moves = [MOVES[what] for what in disk.holds] if level != "ok" else []
        found = f"{disk.free_gib:.{1 if disk.free_gib < ROOMY else 0}f} GiB free for {', '.join(disk.holds)}"
        yield Check("disk", level, found, "; ".join(moves))


def _tokens(here: Environment) -> Iterator[Check]:
    yield Check("tokens", "ok", ", ".join(f"{name} {'' if name in here.tokens else 'not '}set" for name in TOKENS))


CHECKS: tuple[Callable[[Environment], Iterator[Check]], ...] = (
    _machine,
    _gpus,
    _torch,
    _torchvision,
    _engine,
    _requirements,
    _flash,
    _companions,
    _swift_on_path,
    _disks,
    _tokens,
)


def _seen_by_torch(here: Environment) -> int:
    """How many GPUs torch sees; 0 where it cannot be imported."""
    return int(here.imports["torch"].found.get("gpus", 0)) if "torch" in here.imports else 0


def _version(here: Environment, name: str) -> str:
    return (here.engine if name == ENGINE.name else here.versions.get(name)) or "version unknown"
