"""The launchers: what may start a plan, on this machine or on several, and what each of them is given.

None of them does distributed work: torchrun, Slurm, SkyPilot and Kubeflow do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tunekit.engine.cloud import KUBEFLOW_KEYS, SKYPILOT_KEYS, render_kubeflow, render_skypilot
from tunekit.engine.cluster import keys_and_values
from tunekit.engine.command import build_command
from tunekit.engine.sbatch import render_sbatch
from tunekit.errors import TunekitError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tunekit.engine.cluster import ClusterJob
    from tunekit.plan.plan import Plan

PORT = "29500"
"""Where torchrun's processes find each other, unless ``--master ADDR:PORT`` says otherwise: torch's own default."""


@dataclass(frozen=True)
class Launcher:
    """One way to start a plan.

    Attributes:
        title: for people.
        render: the text that is handed to it; None where tunekit starts the training itself.
        option: of tunekit that holds what only it takes; empty where nothing is.
        keys: that the option takes; none where any is.
        same_python: whether the machines share this one's files, and so its packages.
        starts: whether ``tunekit sft`` starts it, or keeps its run; else its text is all there is.
    """

    title: str
    render: Callable[[ClusterJob], str] | None
    option: str = ""
    keys: frozenset[str] = frozenset()
    same_python: bool = False
    starts: bool = False


def render_nodes(job: ClusterJob) -> str:
    """The command of every machine, in order."""
    texts = []
    for rank in range(job.nodes):
        plan = plan_of_node(job.plan, rank, job.master)
        command = build_command(plan, job.path / "output")
        texts.append(f"# machine {rank} of {job.nodes}\n{command.shell()}\n")
    return "\n".join(texts)


LAUNCHERS: Mapping[str, Launcher] = {
    "local": Launcher("this machine", None, starts=True),
    "nodes": Launcher("a tunekit on each machine", render_nodes, starts=True),
    "slurm": Launcher("Slurm", render_sbatch, "slurm", starts=True, same_python=True),
    "skypilot": Launcher("SkyPilot", render_skypilot, "cloud", SKYPILOT_KEYS),
    "kubeflow": Launcher("Kubeflow Trainer", render_kubeflow, "cloud", KUBEFLOW_KEYS),
}
"""Every launcher by the word that ``--launch`` takes."""


def launcher_options(name: str, given: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What ``--slurm`` or ``--cloud`` says to a launcher. Raises TunekitError where it is another's."""
    launcher = LAUNCHERS[name]
    for option, words in given.items():
        if words and option != launcher.option:
            owners = " or ".join(name for name, other in LAUNCHERS.items() if other.option == option)
            raise TunekitError(f"--{option} is for --launch {owners}", f"--launch {owners.partition(' ')[0]}")
    return keys_and_values(f"--{launcher.option}", given.get(launcher.option, ()), launcher.keys)


def plan_of_node(plan: Plan, rank: int, master: str) -> Plan:
    """The plan as one of several machines starts it. Raises TunekitError as `node_variables`."""
    where = node_variables(plan.hardware.nodes, rank, master)
    return replace(plan, env={**plan.env, "NPROC_PER_NODE": str(plan.hardware.local_world), **where})


def node_variables(nodes: int, rank: int, master: str) -> dict[str, str]:
    """The variables by which a machine joins the others. Raises TunekitError where none has that number.

    `master` is the address of the first one, with ``:PORT`` where it is not `PORT`.
    """
    if not 0 <= rank < nodes:
        raise TunekitError(f"--node-rank {rank}: of {nodes} machines the last is {nodes - 1}", "--nodes N counts them")
    if not master:
        raise TunekitError(
            "--launch nodes needs --master ADDR", "the address of the first machine, seen from the others"
        )
    address, colon, port = master.rpartition(":")
    if not colon or not port.isdigit():
        address, port = master, PORT
    return {"NNODES": str(nodes), "NODE_RANK": str(rank), "MASTER_ADDR": address, "MASTER_PORT": port}
