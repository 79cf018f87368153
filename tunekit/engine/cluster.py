"""What every launcher of several machines is told, and the values that it takes as ``KEY=VALUE``."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import tunekit
from tunekit.errors import TunekitError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from tunekit.plan.plan import Plan

KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")

UNSAFE = re.compile(r"[\"`$\\]|[^\S ]")
"""What a value may not hold: it stands between double quotes, on one line, in a file that a shell reads."""


@dataclass(frozen=True)
class ClusterJob:
    """A run as launchers render it.

    Attributes:
        path: the run's folder, from the root.
        python: the interpreter that trains, where the machines share this one's files.
        words: of the command line that plans the run anew on another machine, without its place and its launcher.
        options: what ``--slurm`` or ``--cloud`` says; a switch has an empty value.
        master: the address of the first machine, where the user gave it.
        notice: seconds that a stop needs to save what was learned.
    """

    plan: Plan
    name: str
    path: Path
    python: str
    words: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    master: str = ""
    notice: int = 120

    @property
    def nodes(self) -> int:
        """Machines that train together."""
        return self.plan.hardware.nodes

    def comments(self) -> list[str]:
        """What the head of a rendered file says of the plan."""
        plan = self.plan
        peak = plan.peak
        memory = f"; {peak.prediction.process_gib:.1f} of {peak.card_gib:.1f} GiB a GPU" if peak else ""
        return [
            f"Written by tunekit {tunekit.__version__} for ms-swift {plan.engine}.",
            f"Preset {' + '.join((plan.preset, *plan.overlays))}; batch {plan.batch.equation(plan.hardware.device)}"
            f"{memory}.",
            "Secrets are no part of this file: they travel in the environment of whoever starts it.",
        ]

    def trains_anew(self, place: str, rank: str = "", master: str = "") -> str:
        """The shell command that trains, or goes on, on one machine; `rank` and `master` are words of that shell."""
        words = ["tunekit", self.plan.stage.name, *self.words, "--output-dir", place, "--resume", "auto"]
        text = shlex.join(words)
        if self.nodes > 1:
            text += f' --launch nodes --nodes {self.nodes} --node-rank "{rank}" --master "{master}"'
        return text


def keys_and_values(option: str, words: Sequence[str], known: Collection[str] = ()) -> dict[str, str]:
    """``KEY=VALUE`` and ``KEY`` as a table; `known` are the keys there are, none where any may be said.

    Raises TunekitError for another word, a key that is unknown or given twice, and a value that needs quoting.
    """
    found: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        key = name.removeprefix("--").replace("_", "-")
        if not KEY.fullmatch(key):
            raise TunekitError(f"{option} takes KEY=VALUE, not {word[:60]}", f"as in {option} time=24:00:00")
        if known and key not in known:
            near = did_you_mean(key, known)
            raise TunekitError(f"{option} has no {key}", near or f"there are {', '.join(sorted(known))}")
        if key in found:
            raise TunekitError(f"{option} {key} is given twice", "drop one of them")
        if UNSAFE.search(value):
            raise TunekitError(f"{option} {key}: quotes, $, \\, ` and line breaks cannot stand in {value[:60]!r}")
        found[key] = value
    return found
