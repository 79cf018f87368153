"""Curves of one or several runs as inline SVG: the figure grows with the page, and its letters do not.

What the cursor reads off stands in the figure as text that was made here: a script only finds the place.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from tunekit.runs.curves import digits_of, drawn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TOP, BOTTOM, BIG, SMALL = 10, 20, 190, 96
"""Pixels above and below a plot, and its height."""

ZERO = ("learning_rate", "grad_norm", "train_speed(s/it)", "memory(GiB)")
"""Curves whose axis begins at 0."""

DOTS = 40
"""Points up to which each has a dot."""

MOST = 300
"""Points of a curve that are drawn as they are; of more, the lowest and the highest of every few."""

LOOKS = "abcdef"
"""How the series of a figure are told apart, in this order: classes of the style sheet."""


@dataclass(frozen=True)
class Series:
    """One curve of a figure.

    Attributes:
        key: ms-swift's name of the number, which says whether it is smoothed.
        points: by step.
        name: beside its value; empty where the figure has one curve.
        spread: of `points`, by step, drawn as a band.
    """

    key: str
    points: Mapping[int, float]
    name: str = ""
    spread: Mapping[int, float] | None = None

    def curve(self) -> dict[int, float]:
        """The curve as it is read off."""
        return drawn(self.key, self.points)

    def band(self) -> list[tuple[int, float, float]]:
        """Step, lower and upper edge of the band."""
        if not self.spread:
            return []
        middle, spread = self.curve(), drawn(self.key, self.spread)
        return [(step, middle[step] - wide, middle[step] + wide) for step, wide in spread.items() if step in middle]

    def values(self) -> Iterator[float]:
        """All that must be seen."""
        yield from self.points.values()
        for _, low, high in self.band():
            yield from (low, high)


@dataclass(frozen=True)
class Figure:
    """Curves to be drawn on one axis.

    Attributes:
        series: with points, all of them.
        last: the step at which the axis ends.
        marks: steps with a word each, where memory ran out.
        repeated: steps that were trained twice, from and to.
    """

    title: str
    series: tuple[Series, ...]
    last: int
    marks: tuple[tuple[int, str], ...] = ()
    repeated: tuple[tuple[int, int], ...] = ()
    step_word: str = "step"

    def svg(self, about: str, *, big: bool) -> str:
        """The figure with its caption; `about` says the same to those who cannot see it."""
        height = BIG if big else SMALL
        ticks = _ticks(self._lowest(), self._highest(), 4 if big else 2)
        labels = _labels(ticks)
        parts = [f'<svg width="100%" height="{TOP + height + BOTTOM}" role="img"><title>{escape(about)}</title>']
        parts += [_grid(ticks, labels, height), self._steps(height, 4 if big else 3)]
        for begin, until in self.repeated:
            width = 100 * (until - begin) / self.last
            x = 100 * begin / self.last
            parts.append(f'<rect class="rep" x="{x:.2f}%" width="{width:.2f}%" y="{TOP}" height="{height}"/>')
        box = f'viewBox="0 0 1000 {4 * height}" preserveAspectRatio="none"'
        parts.append(f'<svg y="{TOP}" width="100%" height="{height}" {box}>')
        place = _Place(self.last, ticks[0], ticks[-1], 4 * height)
        for one, look in zip(self.series, LOOKS, strict=False):
            parts.append(_drawn_series(one, look, place))
        parts.append("</svg>")
        parts += [self._mark(step, words, height) for step, words in self.marks]
        parts += [self._beyond(*point) for point in self.series[0].points.items() if point[1] > ticks[-1]]
        kind = " class=big" if big else ""
        axis = f'data-from="{ticks[0]:.6g}" data-to="{ticks[-1]:.6g}" data-last="{self.last}"'
        box = f'data-top="{TOP}" data-high="{height}" data-step="{escape(self.step_word)}"'
        gutter = f"g{min(9, max(map(len, labels)))}"
        plot = f'<div class="plot {gutter}" {axis} {box}>{"".join(parts)}</svg></div>'
        return f"<figure{kind}>{self._caption()}{plot}</figure>"

    def _caption(self) -> str:
        read = "".join(_readout(one, look) for one, look in zip(self.series, LOOKS, strict=False))
        return f'<figcaption><b>{escape(self.title)}</b><span class=read><i class="at"></i>{read}</span></figcaption>'

    def _lowest(self) -> float:
        low = min(value for one in self.series for value in one.values())
        return min(0.0, low) if self.series[0].key in ZERO else low

    def _highest(self) -> float:
        """The top of the axis: a lone spike above three times what nearly all stay below is cut off."""
        values = sorted(value for one in self.series for value in one.values())
        usual = values[int(0.98 * (len(values) - 1))]
        lone = len(values) > DOTS and values[0] >= 0 and values[-1] > 3 * usual > 0
        return 1.25 * usual if lone else values[-1]

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


@dataclass(frozen=True)
class _Place:
    """Where a value stands in the box of the curves, 1000 wide."""

    last: int
    low: float
    high: float
    height: int

    def __call__(self, step: int, value: float) -> tuple[int, int]:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(1000 * step / self.last), round(self.height * (1 - share))

    def path(self, points: Mapping[int, float]) -> str:
        """A line through points; each is told from the one before, which takes a third of the letters."""
        return self.line([*points.items()])

    def line(self, points: list[tuple[int, float]]) -> str:
        """The same for points that may stand above each other."""
        places = [self(*point) for point in points]
        (x, y), words = places[0], []
        for right, down in places[1:]:
            words.append(f"{right - x} {down - y}")
            x, y = right, down
        return f"M{places[0][0]} {places[0][1]}" + (f"l{' '.join(words)}" if words else "")


def _drawn_series(one: Series, look: str, place: _Place) -> str:
    curve, found = one.curve(), []
    band = one.band()
    if band:
        around = [(step, high) for step, _, high in band] + [(step, low) for step, low, _ in reversed(band)]
        found.append(f'<path class="band {look}" d="{place.line(around)}z"/>')
    if curve != one.points:
        found.append(f'<path class="l raw {look}" d="{place.path(with_extremes(one.points))}"/>')
        curve = thinned(curve)
    else:
        curve = with_extremes(curve)
    found.append(f'<path class="l {look}" d="{place.path(curve)}"/>')
    if len(one.points) <= DOTS:
        dots = "".join(f"M{x} {y}h0" for x, y in (place(*point) for point in one.points.items()))
        found.append(f'<path class="l dot {look}" d="{dots}"/>')
    return "".join(found)


def _readout(one: Series, look: str) -> str:
    """The value at the end, and those on which the cursor may stand."""
    curve = thinned(one.curve())
    sign = f'<svg class="sign" aria-hidden="true"><path class="l {look}" d="M0 4h16"/></svg>' if one.name else ""
    values = [digits_of(value) for value in curve.values()]
    data = f'data-x="{_steps_in_words(list(curve))}" data-v="{" ".join(values)}" data-look="{look}"'
    named = f"{sign}{escape(one.name)} " if one.name else ""
    return f"<i>{named}<b data-end {data}>{values[-1]}</b></i>"


def _steps_in_words(steps: list[int]) -> str:
    """Steps as the script reads them: ``20:20:640``, from, by, to, where they are evenly apart."""
    apart = {after - before for before, after in itertools.pairwise(steps)}
    if len(apart) == 1:
        return f"{steps[0]}:{apart.pop()}:{steps[-1]}"
    return " ".join(map(str, steps))


def thinned(points: Mapping[int, float]) -> dict[int, float]:
    """At most `MOST` points of a curve, evenly, the first and the last among them."""
    each = -(-len(points) // MOST)
    last = len(points) - 1
    return {step: value for at, (step, value) in enumerate(points.items()) if at in (0, last) or not (last - at) % each}


def with_extremes(points: Mapping[int, float]) -> dict[int, float]:
    """About `MOST` points of a curve, the lowest and the highest of every few: no spike is lost."""
    if len(points) <= MOST:
        return dict(points)
    each = -(-2 * len(points) // MOST)
    steps = list(points)
    kept = {steps[0], steps[-1]}
    for begin in range(0, len(steps), each):
        some = steps[begin : begin + each]
        kept |= {min(some, key=points.__getitem__), max(some, key=points.__getitem__)}
    return {step: points[step] for step in sorted(kept)}


def _grid(ticks: list[float], labels: list[str], height: int) -> str:
    lines = []
    for tick, label in zip(ticks, labels, strict=True):
        y = TOP + height * (1 - (tick - ticks[0]) / (ticks[-1] - ticks[0]))
        kind = "grid base" if tick == ticks[0] else "grid"
        lines.append(f'<line class="{kind}" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text x="-8" y="{y + 3.5:.1f}" text-anchor="end">{label}</text>')
    return "".join(lines)


def _labels(ticks: list[float]) -> list[str]:
    """The numbers beside an axis, with as many decimals each as the distance between them needs."""
    unit = ticks[1] - ticks[0]
    if unit < 0.001 or max(map(abs, ticks)) >= 100_000:
        return [digits_of(tick) for tick in ticks]
    decimals = next((some for some in range(5) if math.isclose(unit, round(unit, some), rel_tol=1e-6)), 4)
    return [f"{tick + 0.0:,.{decimals}f}".replace("-", "−") for tick in ticks]


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers that hold a range, about so many: 1, 2, 2.5 and 5 times a power of ten."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / count))
    unit = power * next((some for some in (1, 2, 2.5, 5) if span / (power * some) <= count), 10)
    first, last = math.floor(low / unit + 1e-9), math.ceil(high / unit - 1e-9)
    return [unit * at for at in range(first, max(last, first + 1) + 1)]
