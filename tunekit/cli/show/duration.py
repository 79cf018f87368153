"""How long a run will take, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunekit.speed.duration import Duration


def time_lines(made: Duration | None, untold: str = "") -> list[tuple[str, str]]:
    """A line, with its title: ``about 1 h 50 min (1 h 20 to 2 h 55) · 12.4k tokens/s · 1.8 GPU-hours``."""
    if made is None:
        return [("Time", f"not told: {untold}")] if untold else []
    if made.known:
        sure = f"as {made.known} run{'' if made.known == 1 else 's'} on this machine went"
    else:
        sure = "roughly: this machine has run nothing like it yet"
    return [("Time", f"{time_in_words(made)} ({'; '.join((sure, *made.notes))})")]


def time_in_words(made: Duration) -> str:
    """The time and its range, tokens a second, GPU-hours and what they cost."""
    cost = [f"{money(made.cost[0])} ({money(made.cost[1])} to {money(made.cost[2])})"] if made.cost else []
    pace = f"{in_thousands(made.tokens_per_second)} tokens/s"
    return " · ".join([f"about {with_range(made)}", pace, f"{hours(made.gpu_hours)} GPU-hours", *cost])


def with_range(made: Duration) -> str:
    """``1 h 50 min (1 h 20 min to 2 h 55 min)``."""
    low, high = made.bounds
    return f"{roughly(made.seconds)} ({roughly(low)} to {roughly(high)})"


def roughly(seconds: float) -> str:
    """A time with two digits that count: ``40 s``, ``12 min``, ``1 h 50 min``, ``31 h``, ``12 days``."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    minutes = 5 * round(minutes / 5)
    if minutes < 10 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min" if minutes % 60 else f"{minutes // 60} h"
    whole = round(seconds / 3600)
    return f"{whole} h" if whole < 100 else f"{round(whole / 24)} days"


def in_thousands(number: float) -> str:
    """``870``, ``12.4k``."""
    return f"{number / 1000:.1f}k" if number >= 1000 else f"{number:.0f}"


def hours(number: float) -> str:
    """``0.03``, ``1.8``, ``120``."""
    return f"{number:.2g}" if number < 10 else f"{number:,.0f}"


def money(number: float) -> str:
    """An amount without its currency, which only the user knows: ``2.57``."""
    return f"{number:,.2f}"
