"""The programs that serve a model: one row each, with the command that starts it and what it cannot serve."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tunekit.engine.command import Command
from tunekit.errors import TunekitError
from tunekit.files import read_object

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tunekit.runs.trained.job import Job

LOOPBACK = ("127.0.0.1", "localhost", "::1")

KEY = "TUNEKIT_SERVE_KEY"
"""The variable that holds the key of a server."""

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM makes room for (``--max-lora-rank``); another one is rounded up."""


@dataclass(frozen=True)
class Service:
    """One server.

    Attributes:
        name: by which a request names the model.
        key: whether one is asked for; it travels in the environment.
        length: tokens of a conversation at the most; None leaves it to the model.
    """

    job: Job
    name: str
    host: str = "127.0.0.1"
    port: int = 8000
    key: bool = False
    length: int | None = None

    @property
    def url(self) -> str:
        """Where clients of OpenAI's API find it."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/v1"


@dataclass(frozen=True)
class Backend:
    """One program that serves.

    Attributes:
        package: what must be installed.
        get: the command that installs it.
        command: of a service.
        model: what requests call the model where that is not the service's name; ``{base}`` and ``{name}`` stand in it.
        key_variable: in which it reads the key; empty where it takes one only on its command line.
    """

    name: str
    package: str
    get: str
    command: Callable[[Service], Command]
    key_variable: str = ""
    model: str = "{name}"

    @property
    def here(self) -> bool:
        """Whether it is installed in this environment."""
        return find_spec(self.package) is not None


def _swift(service: Service) -> Command:
    flags = {
        **service.job.load_flags(),
        "host": service.host,
        "port": service.port,
        "served_model_name": service.name,
        "verbose": False,  # else each prompt and answer would stand in the log
        **({"max_length": service.length} if service.length else {}),
    }
    return service.job.command(flags)


def _vllm(service: Service) -> Command:
    target = service.job.target
    words = ["vllm", "serve", base_of(service.job) if target.weights.adapter else str(target.weights.folder)]
    if target.weights.adapter:
        words += ["--enable-lora", "--lora-modules", f"{service.name}={target.weights.folder}"]
        words += ["--max-lora-rank", str(room_for(target.weights.folder))]
    else:
        words += ["--served-model-name", service.name]
    words += ["--host", service.host, "--port", str(service.port), "--generation-config", "vllm"]
    words += ["--max-model-len", str(service.length)] if service.length else []
    return Command(tuple(words), {}, ("VLLM_API_KEY",) if service.key else ())


def _sglang(service: Service) -> Command:
    target = service.job.target
    folder = base_of(service.job) if target.weights.adapter else str(target.weights.folder)
    words = ["python", "-m", "sglang.launch_server", "--model-path", folder]
    if target.weights.adapter:
        words += ["--enable-lora", "--lora-paths", f"{service.name}={target.weights.folder}"]
        words += ["--max-lora-rank", str(room_for(target.weights.folder)), "--lora-target-modules", "all"]
    else:
        words += ["--served-model-name", service.name]
    words += ["--host", service.host, "--port", str(service.port)]
    words += ["--context-length", str(service.length)] if service.length else []
    return Command(tuple(words), {})


BACKENDS: Mapping[str, Backend] = {
    row.name: row
    for row in (
        Backend("swift", "swift", "pip install 'tunekit[train]'", _swift, key_variable=KEY),
        Backend("vllm", "vllm", "pip install vllm, in an environment of its own", _vllm, key_variable="VLLM_API_KEY"),
        Backend("sglang", "sglang", "pip install sglang, in an environment of its own", _sglang, model="{base}:{name}"),
    )
}
"""By the names that ``--backend`` takes.

From the documentation of vLLM 0.33 (LoRA adapters, ``vllm serve``) and SGLang 0.5.23; neither was run here.
"""


def base_of(job: Job) -> str:
    """The model below an adapter: its id on a hub, or its folder. Raises TunekitError where nothing says."""
    target = job.target
    flagged = target.weights.flags.get("model")
    if flagged:
        return str(flagged)
    if target.plan:
        return target.plan.model.id
    trained = read_object(target.weights.folder / "args.json")
    said = trained.get("model") or read_object(target.weights.folder / "adapter_config.json").get(
        "base_model_name_or_path"
    )
    if not said:
        raise TunekitError(f"{target.name}: nothing says which model is below it", "merge it, and serve what comes out")
    return str(said)


def room_for(adapter: Path) -> int:
    """The rank that vLLM must make room for. Raises TunekitError for an adapter that it cannot serve."""
    config = read_object(adapter / "adapter_config.json")
    merge = "merge it, and serve what comes out: tunekit export RUN --to merged"
    for key, what in (("use_dora", "DoRA"), ("modules_to_save", "whole modules beside LoRA (modules_to_save)")):
        if config.get(key):
            raise TunekitError(f"{adapter.name} holds {what}, which servers of adapters leave out", merge)
    rank = config.get("r")
    rank = rank if isinstance(rank, int) else RANKS[0]
    if rank > RANKS[-1]:
        raise TunekitError(f"an adapter of rank {rank} is more than {RANKS[-1]}, the largest that vLLM takes", merge)
    return next(room for room in RANKS if room >= rank)
