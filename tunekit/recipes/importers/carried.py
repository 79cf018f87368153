"""What every dialect carries over alike: variables, secrets, the number of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.plan.secrets import is_secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tunekit.recipes.importers.translation import Draft

LAUNCH = {
    "NNODES": ("nnodes", "num_nodes", "num_machines"),
    "NODE_RANK": ("node_rank", "machine_rank"),
    "MASTER_ADDR": ("master_addr", "main_process_ip"),
    "MASTER_PORT": ("master_port", "main_process_port"),
}
"""Variables that ms-swift reads to start its processes, with the options of launchers that say the same."""


def carry_environment(draft: Draft, skip: Sequence[str] = ()) -> None:
    """Set the variables that the source sets, secrets by name alone, and start as many processes as it did."""
    for name, value in draft.source.env.items():
        if name in skip or name in draft.env:
            continue
        if is_secret(name):
            keep_secret(draft, name)
        else:
            draft.env[name] = value
    said = draft.source.launch
    for variable, options in LAUNCH.items():
        value = next((said[option] for option in options if option in said), None)
        if value and (variable, value) != ("NNODES", "1"):
            draft.env.setdefault(variable, value)
    world = draft.world or draft.source.world
    if world and world > 1 and "NPROC_PER_NODE" not in draft.env:
        nodes = draft.env.get("NNODES", "1")
        each = world // int(nodes) if nodes.isdigit() and int(nodes) and not world % int(nodes) else world
        draft.env["NPROC_PER_NODE"] = str(each)


def keep_secret(draft: Draft, variable: str) -> None:
    """Name a variable that must be set for the run; its value is written nowhere."""
    if variable not in draft.secrets:
        draft.secrets.append(variable)
