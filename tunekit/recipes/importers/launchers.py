"""Programs that start another one: torchrun, accelerate, deepspeed, ``python -m``, nohup, … and what they say of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PLAIN = (
    "nohup",
    "time",
    "exec",
    "sudo",
    "command",
    "eval",
    "unbuffer",
    "bash",
    "sh",
    "uv",
    "poetry",
    "conda",
    "pipenv",
)
"""Taken off; their own options with them, where they have any."""
RUNS = ("run",)
"""The word behind uv, poetry and their like."""

ALONE = {
    "torchrun": ("standalone", "no_python", "m", "module", "run_path", "use_env", "nproc_per_node_auto"),
    "accelerate": (
        *(
            "multi_gpu",
            "use_deepspeed",
            "use_fsdp",
            "use_megatron_lm",
            "cpu",
            "tpu",
            "use_mps_device",
            "debug",
            "quiet",
            "q",
        ),
        *("m", "module", "no_python", "same_network", "use_cpu", "use_xpu", "downcast_bf16", "tpu_cluster"),
    ),
    "deepspeed": (
        *("no_ssh", "no_ssh_check", "no_local_rank", "no_python", "module", "m", "force_multi", "save_pid"),
        *("bind_cores_to_rank", "elastic_training"),
    ),
    "srun": ("exclusive", "overcommit", "l", "label", "unbuffered", "u", "kill_on_bad_exit"),
    "python": ("m", "u", "O", "B", "I", "s", "E"),
}
"""Options of a launcher that take no value."""
OWN_OPTIONS = {
    "accelerate": "accelerate",
    "torchrun": "torchrun",
    "deepspeed": "deepspeed",
    "srun": "srun",
    "torch.distributed.run": "torchrun",
    "torch.distributed.launch": "torchrun",
    "accelerate.commands.launch": "accelerate",
    "deepspeed.launcher.runner": "deepspeed",
}
"""Programs, and modules that are run, with options of their own in front of what they start."""


@dataclass
class Launched:
    """What is started, without its launchers, and what they said."""

    words: list[tuple[str, int]]
    world: int | None = None
    options: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)


def take_off_launchers(words: Sequence[tuple[str, int]], env: Mapping[str, str]) -> Launched:
    """The program that is started in the end, and the number of processes where a launcher or `env` says one."""
    launched = Launched(list(words))
    while launched.words and _taken_off(launched):
        pass
    launched.world = _world(launched.options, dict(env) | launched.env)
    return launched


def _taken_off(launched: Launched) -> bool:
    """Take the first program off, where it is one that starts another."""
    name = _name(launched.words[0][0])
    rest = launched.words[1:]
    if name in OWN_OPTIONS and (name != "accelerate" or (rest and rest[0][0] == "launch")):
        launcher = OWN_OPTIONS[name]
        _take_options(launched, launcher, rest[name == "accelerate" :])
        return True
    if name == "python":
        inner = _module(rest) or _script(rest)
    elif name == "env":
        inner = _behind_variables(launched, rest)
    elif name in PLAIN:
        inner = _behind_options(name, rest)
    else:
        return False
    launched.words = inner or launched.words
    return bool(inner)


def _behind_variables(launched: Launched, rest: list[tuple[str, int]]) -> list[tuple[str, int]]:
    while rest and "=" in rest[0][0]:
        variable, _, value = rest[0][0].partition("=")
        launched.env[variable] = value
        rest = rest[1:]
    return rest


def _behind_options(name: str, rest: list[tuple[str, int]]) -> list[tuple[str, int]]:
    while rest and (rest[0][0].startswith("-") or rest[0][0] in RUNS):
        rest = rest[1:]
    return [] if name in ("bash", "sh") and rest and not _starts(rest[0][0]) else rest


def _name(word: str) -> str:
    base = word.rpartition("/")[2]
    return "python" if re.fullmatch(r"(python|pypy)[0-9.]*", base) else base


def _starts(word: str) -> bool:
    return _name(word) in (*ALONE, "swift", "llamafactory-cli") or word.endswith(".py")


def _module(rest: list[tuple[str, int]]) -> list[tuple[str, int]]:
    for place, (word, _) in enumerate(rest):
        if word == "-m":
            return rest[place + 1 :]
        if not word.startswith("-"):
            break
    return []


def _script(rest: list[tuple[str, int]]) -> list[tuple[str, int]]:
    while rest and rest[0][0].startswith("-") and rest[0][0] != "-c":
        rest = rest[1:]
    return [] if not rest or rest[0][0] == "-c" else rest


def _take_options(launched: Launched, launcher: str, rest: list[tuple[str, int]]) -> None:
    """Take the launcher's own options off, up to the script or module that it starts."""
    while rest and rest[0][0].startswith("-"):
        name, equals, value = rest[0][0].lstrip("-").partition("=")
        name = name.replace("-", "_")
        rest = rest[1:]
        if not equals and name not in ALONE[launcher] and rest:
            value, rest = rest[0][0], rest[1:]
        launched.options[name] = value or "true"
    launched.words = rest


def _world(options: Mapping[str, str], env: Mapping[str, str]) -> int | None:
    """Processes in all, of the launcher's options, else of ``NPROC_PER_NODE`` and ``NNODES``."""
    if "num_processes" in options:  # accelerate counts all of them
        return count_of(options["num_processes"])
    nodes = next((options[name] for name in ("nnodes", "num_nodes", "num_machines") if name in options), None)
    nodes = nodes or env.get("NNODES") or "1"
    if "include" in options:
        hosts = options["include"].split("@")
        return sum(len(host.rpartition(":")[2].split(",")) for host in hosts) if ":" in options["include"] else None
    for name in ("nproc_per_node", "num_gpus", "nproc"):
        if name in options:
            return _product(options[name], nodes)
    if "NPROC_PER_NODE" in env:
        return _product(env["NPROC_PER_NODE"], nodes)
    return None


def _product(processes: str, nodes: str) -> int | None:
    each, hosts = count_of(processes), count_of(nodes.partition(":")[0])
    return None if each is None or hosts is None else each * hosts


def count_of(word: str) -> int | None:
    """The number of processes or machines that a word is; None where it is none."""
    return int(word) if re.fullmatch(r"[1-9][0-9]{0,4}", word) else None
