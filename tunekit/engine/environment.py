"""What training requires of an environment, and what of it is here. Nothing heavy is imported into this process."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.engine.flags import flag_table
from tunekit.engine.locate import find_engine, find_package
from tunekit.engine.probe import Import, find_packages, try_imports
from tunekit.errors import TunekitError
from tunekit.files import path_of
from tunekit.hardware import Gpu, detect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.engine.probe import Watch

TOKENS = ("HF_TOKEN", "MODELSCOPE_API_TOKEN", "SWANLAB_API_KEY", "WANDB_API_KEY")
"""What hubs and trackers log in with. Their values are never read, only whether there is one."""

HERE, HUGGING_FACE, MODELSCOPE = "this folder", "the Hugging Face cache", "the ModelScope cache"
"""What fills a disk."""


@dataclass(frozen=True)
class Unmet:
    """A requirement of ms-swift that the environment does not meet: as pip takes it, and what is there."""

    requirement: str
    installed: str | None


@dataclass(frozen=True)
class Disk:
    """A file system: what tunekit and the hubs keep on it, and what is free."""

    holds: tuple[str, ...]
    free_gib: float


@dataclass(frozen=True)
class Environment:
    """What was found in this interpreter and on this machine.

    Attributes:
        engine: the version of ms-swift; None where it is not installed.
        flags: how many of its flags were read; `flags_error` says why they could not be.
        versions: installed distributions, by lower-case name with dashes.
        declared: how many requirements ms-swift declares; 0 where its metadata is missing.
        unmet: those that are not met; None where that could not be compared.
        imports: how the import of each installed package went, by the name that plans know it by.
        driver: whether there is an ``nvidia-smi``; `gpus` is what it shows, after ``CUDA_VISIBLE_DEVICES`` (`visible`).
        scripts: the folder of this interpreter's programs.
        swift: the one on ``PATH``; `swift_is_own` where it is this interpreter's.
        pip: the words that mean the pip of this interpreter.
    """

    python: tuple[int, int, int]
    system: str = "Linux"
    machine: str = "x86_64"
    engine: str | None = None
    flags: int = 0
    flags_error: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    declared: int = 0
    unmet: tuple[Unmet, ...] | None = ()
    imports: Mapping[str, Import] = field(default_factory=dict)
    driver: bool = False
    gpus: tuple[Gpu, ...] = ()
    visible: str | None = None
    scripts: Path = Path("/usr/bin")
    swift: Path | None = None
    swift_is_own: bool = False
    disks: tuple[Disk, ...] = ()
    tokens: frozenset[str] = frozenset()
    pip: str = "pip"


def find_environment(*, deep: bool = False, watch: Watch = lambda _: None) -> Environment:
    """Look at this interpreter and this machine; `deep` imports the packages, in processes of their own: seconds.

    What takes time is done side by side; `watch` is told what is waited for.
    """
    with ThreadPoolExecutor() as pool:
        watch("looking at GPUs and packages")
        asked = pool.submit(detect)
        imports = pool.submit(try_imports, watch) if deep else pool.submit(find_packages)
        found = _look_around()
        gpus = tuple(asked.result())
        return replace(found, gpus=gpus, imports=imports.result())


def _look_around() -> Environment:
    """All but GPUs and packages."""
    engine = find_engine()
    try:
        table = flag_table()
        flags, flags_error = len({name for flags in table.by_command.values() for name in flags}), ""
    except TunekitError as error:
        flags, flags_error = 0, error.message
    versions = installed_versions()
    declared = _declared() if engine else []
    missed = unmet_requirements(declared, versions)
    scripts = Path(sysconfig.get_path("scripts"))
    swift = shutil.which("swift")
    return Environment(
        python=sys.version_info[:3],
        system=platform.system(),
        machine=platform.machine(),
        engine=engine.version if engine else None,
        flags=flags,
        flags_error=flags_error,
        versions=versions,
        declared=len(declared),
        unmet=None if missed is None else tuple(missed),
        driver=shutil.which("nvidia-smi") is not None,
        visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
        scripts=scripts,
        swift=Path(swift) if swift else None,
        swift_is_own=bool(swift) and is_own(Path(str(swift)), scripts, Path(sys.executable)),
        disks=find_disks(os.environ),
        tokens=frozenset(name for name in TOKENS if os.environ.get(name)),
        pip=_pip(scripts),
    )


def installed_versions() -> dict[str, str]:
    """Every installed distribution and its version, by lower-case name with dashes."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        if "Name" in distribution.metadata:  # a folder that a broken uninstall left behind has none
            # The first one on the path is the one that is imported.
            found.setdefault(_normal(distribution.metadata["Name"]), distribution.version)
    return found


def unmet_requirements(requirements: list[str], versions: Mapping[str, str]) -> list[Unmet] | None:
    """Which requirements (as in ``Requires-Dist``) are not met; those of extras and of other platforms are left out.

    None where the package `packaging` is not installed, which alone can compare versions rightly.
    """
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return None
    missed = []
    for text in requirements:
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        installed = versions.get(_normal(wanted.name))
        if installed is None or not wanted.specifier.contains(installed, prereleases=True):
            missed.append(Unmet(f"{wanted.name}{wanted.specifier}", installed))
    return missed


def is_own(program: Path, scripts: Path, python: Path) -> bool:
    """Whether a program belongs to an interpreter: it stands in its folder, or names it in the first line."""
    if program.resolve().parent == scripts.resolve():
        return True
    try:
        with program.open("rb") as file:
            first = file.readline(512)
    except OSError:
        return False
    if not first.startswith(b"#!"):
        return False
    named = Path(os.fsdecode(first[2:].strip()))
    # Two virtual environments share the file their links lead to, and /usr/bin holds several Pythons.
    return named.parent.resolve() == python.parent.resolve() and named.resolve() == python.resolve()


def find_disks(environ: Mapping[str, str]) -> tuple[Disk, ...]:
    """The file systems of the current folder and of the two hubs' caches, each once."""
    home = path_of("~")
    cache = environ.get("XDG_CACHE_HOME") or home / ".cache"
    hugging_face = environ.get("HF_HUB_CACHE") or environ.get("HF_HOME") or Path(cache, "huggingface")
    modelscope = environ.get("MODELSCOPE_CACHE") or home / ".cache" / "modelscope"
    holds: dict[int, list[str]] = {}
    free: dict[int, float] = {}
    for what, folder in ((HERE, Path.cwd()), (HUGGING_FACE, hugging_face), (MODELSCOPE, modelscope)):
        path = path_of(str(folder)).absolute()
        path = next((place for place in (path, *path.parents) if place.exists()), path)
        try:
            device, left = path.stat().st_dev, shutil.disk_usage(path).free / 2**30
        except OSError:  # a folder that may not be looked into says nothing
            continue
        holds.setdefault(device, []).append(what)
        free[device] = left
    return tuple(Disk(tuple(names), free[device]) for device, names in holds.items())


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _declared() -> list[str]:
    try:
        return [text for text in metadata.requires("ms-swift") or [] if "extra ==" not in text]
    except metadata.PackageNotFoundError:
        return []


def _pip(scripts: Path) -> str:
    """The words that mean the pip of this interpreter, not whichever stands first on ``PATH``."""
    found = shutil.which("pip")
    if found and Path(found).parent.resolve() == scripts.resolve():
        return "pip"
    if find_package("pip"):
        return f"{shlex.quote(sys.executable)} -m pip"
    return f"VIRTUAL_ENV={shlex.quote(sys.prefix)} uv pip"  # uv makes environments without pip
