"""One curve of a run as inline SVG: it grows with the page, and its letters do not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from tunekit.runs.curves import FEW, digits_of, drawn

if TYPE_CHECKING:
    from collections.abc import Mapping

TOP, BOTTOM, BIG, SMALL = 10, 20, 190, 96
"""Pixels above and below a plot, and its height."""

ZERO = ("learning_rate", "grad_norm", "train_speed(s/it)", "memory(GiB)")
"""Curves whose axis begins at 0."""

DOTS = 40
"""Points up to which each has a dot."""


@dataclass(frozen=True)
class Figure:
    """A curve to be drawn.

    Attributes:
        points: by step; `evaluated` is drawn beside them, dashed.
        last: the step at which the axis ends.
        marks: steps with a word each, where memory ran out.
        repeated: steps that were trained twice, from and to.
    """

    key: str
    title: str
    points: Mapping[int, float]
    last: int
    evaluated: Mapping[int, float]
    marks: tuple[tuple[int, str], ...] = ()
    repeated: tuple[tuple[int, int], ...] = ()
    step_word: str = "step"

    def svg(self, about: str, *, big: bool) -> str:
        """The figure with its caption; `about` says the same to those who cannot see it."""
        height = BIG if big else SMALL
        curve = drawn(self.key, self.points)
        ticks = _ticks(self._lowest(), self._highest(), 4 if big else 2)
        end = digits_of(list(curve.values())[-1])
        parts = [f'<svg width="100%" height="{TOP + height + BOTTOM}" role="img"><title>{escape(about)}</title>']
        parts += [self._grid(ticks, height), self._steps(height, 4 if big else 3)]
        for begin, until in self.repeated:
            width = 100 * (until - begin) / self.last
            x = 100 * begin / self.last
            parts.append(f'<rect class="rep" x="{x:.2f}%" width="{width:.2f}%" y="{TOP}" height="{height}"/>')
        box = f'viewBox="0 0 1000 {4 * height}" preserveAspectRatio="none"'
        parts.append(f'<svg y="{TOP}" width="100%" height="{height}" {box}>')
        for points, kind in ((self.points, "a"), (self.evaluated, "b")):
            parts.append(self._line(points, kind, ticks, height))
        parts.append("</svg>")
        parts += [self._mark(step, words, height) for step, words in self.marks]
        parts += [self._beyond(step, value) for step, value in self.points.items() if value > ticks[-1]]
        kind = " class=big" if big else ""
        caption = f"<figcaption><b>{escape(self.title)}</b><span class=read data-end>{end}</span></figcaption>"
        return f"<figure{kind}>{caption}<div class=plot>{''.join(parts)}</svg></div></figure>"

    def _lowest(self) -> float:
        low = min([*self.points.values(), *self.evaluated.values()])
        return min(0.0, low) if self.key in ZERO else low

    def _highest(self) -> float:
        """The top of the axis: a lone spike above three times what nearly all stay below is cut off."""
        values = sorted([*self.points.values(), *self.evaluated.values()])
        usual = values[int(0.98 * (len(values) - 1))]
        lone = len(values) > DOTS and values[0] >= 0 and values[-1] > 3 * usual > 0
        return 1.25 * usual if lone else values[-1]

    def _line(self, points: Mapping[int, float], kind: str, ticks: list[float], height: int) -> str:
        if not points:
            return ""
        key = self.key if kind == "a" else f"eval_{self.key}"
        curve = drawn(key, points)
        paths = [(curve, f"l {kind}")]
        if len(points) > FEW and curve != points:
            paths.insert(0, (dict(points), f"l raw {kind}"))
        low, high = ticks[0], ticks[-1]

        def place(step: int, value: float) -> str:
            share = (min(max(value, low), high) - low) / (high - low)
            return f"{1000 * step / self.last:.0f} {4 * height * (1 - share):.0f}"

        drawn_paths = [
            f'<path class="{name}" d="M{"L".join(place(*point) for point in line.items())}"/>' for line, name in paths
        ]
        if len(points) <= DOTS:
            dots = "".join(f"M{place(*point)}h0" for point in points.items())
            drawn_paths.append(f'<path class="l dot {kind}" d="{dots}"/>')
        return "".join(drawn_paths)

    def _grid(self, ticks: list[float], height: int) -> str:
        lines = []
        for tick in ticks:
            y = TOP + height * (1 - (tick - ticks[0]) / (ticks[-1] - ticks[0]))
            kind = "grid base" if tick == ticks[0] else "grid"
            lines.append(f'<line class="{kind}" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
            lines.append(f'<text x="-8" y="{y + 3.5:.1f}" text-anchor="end">{digits_of(tick)}</text>')
        return "".join(lines)

    def _steps(self, height: int, count: int) -> str:
        y = TOP + height + 15
        words = [f'<text x="0" y="{y}">{escape(self.step_word)}</text>']
        for tick in _ticks(0, self.last, count):
            if 0.12 * self.last < tick <= self.last and tick == int(tick):
                at = 100 * tick / self.last
                anchor = "end" if at > 97 else "middle"
                words.append(f'<text x="{at:.1f}%" y="{y}" text-anchor="{anchor}">{tick:,.0f}</text>')
        return "".join(words)

    def _beyond(self, step: int, value: float) -> str:
        """Where a spike is cut off: a sign, and its number."""
        at = 100 * step / self.last
        anchor = "end" if at > 80 else "start"
        return f'<text class="ev" x="{at:.2f}%" y="8" text-anchor="{anchor}">▲ {digits_of(value)}</text>'

    def _mark(self, step: int, words: str, height: int) -> str:
        at = 100 * min(step, self.last) / self.last
        anchor, aside = ("end", -7) if at > 55 else ("start", 7)
        line = f'<line class="ev" x1="{at:.2f}%" x2="{at:.2f}%" y1="2" y2="{TOP + height}"/>'
        told = (
            f'<text class="ev" x="{at:.2f}%" dx="{aside}" y="{TOP + 12}" text-anchor="{anchor}">{escape(words)}</text>'
        )
        return line + told


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers that hold a range, about so many: 1, 2, 2.5 and 5 times a power of ten."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / count))
    unit = power * next((some for some in (1, 2, 2.5, 5) if span / (power * some) <= count), 10)
    first, last = math.floor(low / unit + 1e-9), math.ceil(high / unit - 1e-9)
    return [unit * at for at in range(first, max(last, first + 1) + 1)]
