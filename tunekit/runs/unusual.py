"""Whether a run goes at the pace that was said; where it is far slower, what on this machine may be the reason."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tunekit.engine.logs import Progress

AFTER = 20
"""Steps of an attempt until its pace says something: the first ones compile kernels and fill caches."""

USUAL_REASONS = (
    "Usual reasons: another program on the GPU, a power limit or heat (nvidia-smi -q -d PERFORMANCE), a slow host with "
    "short rows, rows far longer than the sample."
)

SLOWED = {
    "hw_thermal_slowdown": "is too hot and has slowed down: look at its cooling",
    "sw_thermal_slowdown": "is too hot and has slowed down: look at its cooling",
    "hw_power_brake_slowdown": "is slowed down by its power supply",
    "sw_power_cap": "runs at its power limit",
}
"""What nvidia-smi calls the reasons for a slower clock, and what they mean.
https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html"""

IDLE = 50
"""Percent below which a GPU mostly waits for the host."""
PRESSED = 10.0
"""Percent of the last minute in which a program waited for memory: beyond it the machine swaps."""


@dataclass(frozen=True)
class CardState:
    """What nvidia-smi says of one GPU now.

    Attributes:
        busy: percent of the time in which it computed.
        limit: its power limit ÷ what it is built for.
        slowed: names of `SLOWED` that hold.
        programs: that compute on it.
    """

    index: str
    busy: float
    limit: float
    slowed: tuple[str, ...]
    programs: int


class PaceWatch:
    """Looks once, when enough steps were seen, whether a step takes longer than the most that was said.

    Args:
        said: how long the run was to take, as `Duration.said` has it; empty: nothing was said.
        cards: the GPUs that the run uses, as nvidia-smi numbers them.
    """

    def __init__(self, said: Mapping[str, float], cards: Iterable[str]) -> None:
        self._said, self._cards = said, tuple(cards)
        self._first: int | None = None
        self.reasons: tuple[str, ...] = ()

    def look(self, progress: Progress) -> list[str]:
        """What to tell now; mostly nothing."""
        self._first = progress.step if self._first is None else self._first
        if not self._said or not progress.seconds_per_step or progress.step - self._first < AFTER:
            return []
        said, self._said = self._said, {}
        most = said["step"] * said["high"] / said["seconds"]
        if progress.seconds_per_step <= most:
            return []
        self.reasons = tuple(reasons_to_be_slow(card_states(self._cards)))
        head = f"Slower than said: {progress.seconds_per_step:.1f} s a step, at most {most:.1f} s were said."
        return [head, *(f"  {reason}" for reason in self.reasons or (USUAL_REASONS,))]


def reasons_to_be_slow(cards: Iterable[CardState], proc: Path = Path("/proc")) -> list[str]:
    """What may slow a run down, as far as the GPUs and the host show it; nothing where all looks well."""
    found = []
    for card in cards:
        name = f"GPU {card.index}"
        if card.programs > 1:
            found.append(f"{name} is shared: {card.programs} programs compute on it (nvidia-smi)")
        if card.limit < 0.95:
            found.append(f"{name} may take only {100 * card.limit:.0f} % of its power: nvidia-smi -pl raises the limit")
        found += dict.fromkeys(
            f"{name} {SLOWED[one]}" for one in card.slowed if one != "sw_power_cap" or card.limit < 0.95
        )
        if card.busy < IDLE:
            found.append(
                f"{name} computes only {card.busy:.0f} % of the time and waits for the host: longer micro-batches or "
                "packing, more --dataloader_num_workers"
            )
    return found + _host(proc)


def _host(proc: Path) -> list[str]:
    """What the host shows."""
    found = []
    pressure = _first_line(proc / "pressure/memory")
    waiting = next((word.partition("=")[2] for word in pressure.split() if word.startswith("avg60=")), "")
    if waiting and float(waiting) > PRESSED:
        found.append("the host is short of memory and swaps (free -h)")
    load = _first_line(proc / "loadavg").split()
    cores = os.cpu_count() or 1
    if load and float(load[0]) > 2 * cores:
        found.append(f"{load[0]} processes want the host's {cores} CPUs (top)")
    return found


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").split("\n")[0]
    except OSError:  # no Linux, or a kernel that does not count it
        return ""


def card_states(cards: tuple[str, ...]) -> list[CardState]:
    """The state of these GPUs now; nothing where nvidia-smi does not answer."""
    if not cards:
        return []
    query = ["index", "uuid", "utilization.gpu", "power.limit", "power.default_limit"]
    query += [f"clocks_throttle_reasons.{name}" for name in SLOWED]
    lines = _asked("-i", ",".join(cards), f"--query-gpu={','.join(query)}")
    programs = [line[0] for line in _asked("--query-compute-apps=gpu_uuid")]
    found = []
    for index, uuid, busy, limit, built, *slowed in lines:
        found.append(
            CardState(
                index=index,
                busy=_number(busy, 100.0),
                limit=_number(limit, 1.0) / _number(built, _number(limit, 1.0)),
                slowed=tuple(name for name, state in zip(SLOWED, slowed, strict=False) if state == "Active"),
                programs=programs.count(uuid),
            )
        )
    return found


def _number(word: str, otherwise: float) -> float:
    try:
        return float(word)
    except ValueError:  # [N/A]: not told of this card
        return otherwise


def _asked(*words: str) -> list[list[str]]:
    command = ["nvidia-smi", *words, "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):  # a reason is looked for, nothing depends on it
        return []
    return [[field.strip() for field in line.split(",")] for line in answer.splitlines() if line.strip()]
