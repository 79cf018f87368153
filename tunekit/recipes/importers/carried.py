"""What every dialect carries over alike: variables, secrets, the number of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.plan.secrets import is_secret
from tunekit.recipes.importers.launchers import count_of

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
        word = next((said[option] for option in options if option in said), "")
        if word and (variable, word) != ("NNODES", "1"):
            draft.env.setdefault(variable, word)
    world = draft.world or draft.source.world
    if world and world > 1 and "NPROC_PER_NODE" not in draft.env:
        nodes = count_of(draft.env.get("NNODES", "1")) or 1
        draft.env["NPROC_PER_NODE"] = str(world if world % nodes else world // nodes)


def keep_secret(draft: Draft, variable: str) -> None:
    """Name a variable that must be set for the run; its value is written nowhere."""
    if variable not in draft.secrets:
        draft.secrets.append(variable)
