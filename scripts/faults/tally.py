"""What faults come to: counted while runs are broken, and printed as a table."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

SAVE_STEPS = 2
ALLOWED = {"stop": 0, "pair": 0, "cut": 2 * SAVE_STEPS}
"""Steps that may have to be repeated; after all else those since the last checkpoint."""


@dataclass
class Tally:
    """What a kind of fault came to."""

    injected: int = 0
    finished: int = 0
    lost: list[int] = field(default_factory=list)
    orphans: int = 0
    wrong: list[str] = field(default_factory=list)


Tallies = dict[str, Tally]


def say(text: str) -> None:
    """A line for people."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def table(tallies: Tallies) -> str:
    """What came of it, a row for each kind of fault."""
    head = ("fault", "injected", "gone on to the end", "steps lost", "allowed", "orphans", "wrong statements")
    rows = [head, tuple("-" * len(word) for word in head)]
    for name, tally in tallies.items():
        lost = ", ".join(map(str, tally.lost)) or "-"
        allowed = str(ALLOWED.get(name, SAVE_STEPS)) if tally.lost else "-"
        numbers = (str(tally.injected), str(tally.finished), lost, allowed, str(tally.orphans), str(len(tally.wrong)))
        rows.append((name, *numbers))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "| " + " | ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join(lines)


def kept_promises(tallies: Tallies) -> bool:
    """Whether every fault was survived, nothing was left, and nothing wrong was said."""
    return all(one.finished == one.injected and not one.orphans and not one.wrong for one in tallies.values())
