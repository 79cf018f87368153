"""Pictures of ``tunekit fit --plot FILE``: what a run takes of a card, and what would take less."""

from __future__ import annotations

import io
import math
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.files import write_atomically
from tunekit.memory.estimate import estimate
from tunekit.memory.search import FITS, NOT, TIGHT, levers, verdict
from tunekit.memory.spec import Prediction, Spec, Unknown
from tunekit.memory.trace.client import trace, trace_worker
from tunekit.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Look:
    """How a part of the memory is drawn.

    Attributes:
        label: for the legend.
        color: of the Okabe-Ito palette, which colour-blind people can tell apart.
        hatch: tells neighbours apart in greyscale.
        edge: color of the hatch and the frame.
    """

    label: str
    color: str
    hatch: str = ""
    edge: str = "white"


PARTS: Mapping[str, Look] = {
    "weights": Look("weights", "#2b3a55"),
    "adapter": Look("adapter", "#e69f00", "..."),
    "gradients": Look("gradients", "#56b4e9"),
    "optimizer": Look("optimizer", "#117755", "xxx"),
    "checkpoints": Look("kept activations", "#f0e442"),
    "layer": Look("one layer, recomputed", "#0072b2", "\\\\\\"),
    "logits": Look("logits and loss", "#d55e00", "///"),
    "other": Look("other", "#cc79a7", "---"),
    "fragmentation": Look("fragmentation", "#bdbdbd", "..."),
    "context": Look("CUDA context", "#ffffff", "|||", "#808080"),
}
"""Parts of a prediction's breakdown, and what PyTorch and CUDA take beside it, from left to right."""

VERDICTS: Mapping[str, str] = {FITS: "#11704f", TIGHT: "#8a5a00", NOT: "#b3261e"}
"""Ink of a verdict; the word stands beside it."""

DUST = 0.004
"""Share of the picture's width below which a part is drawn as ``other``: it could not be seen."""

LEGIBLE = 0.055
"""Share of the picture's width above which a part's number is written into it."""

CJK = ("Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "Microsoft YaHei", "PingFang SC")
"""Fonts for Chinese names of folders, where one is installed."""


@dataclass(frozen=True)
class Bar:
    """One configuration in the picture."""

    name: str
    prediction: Prediction


def check(path: Path, *, many: bool = False) -> None:
    """Whether a picture can be written there, before anything is computed.

    Args:
        path: as the user named it.
        many: whether many configurations were asked for.

    Raises:
        TunekitError: an ending that is not known, no such folder, no matplotlib, or many configurations.
    """
    if many:
        raise TunekitError("--plot draws one configuration, --spec answers many", "leave one of them out")
    if path.suffix.lower() not in FORMATS:
        named = path.suffix or "no ending"
        hint = f"the file's ending says its kind: {', '.join(FORMATS)}"
        raise TunekitError(f"--plot {path}: {named} is not a kind of picture that tunekit draws", hint)
    if not path.parent.is_dir():
        raise TunekitError(f"--plot {path}: the folder {path.parent} does not exist", f"mkdir -p {path.parent}")
    if path.is_dir():
        raise TunekitError(f"--plot {path} is a folder", f"name a file in it: {path / 'fit.png'}")
    if find_spec("matplotlib") is None:
        raise TunekitError("--plot needs matplotlib, which is not installed", 'pip install "tunekit[plot]"')


def draw_prediction(
    path: Path, title: str, subtitle: str, asked: Spec, prediction: Prediction, card_gib: float
) -> None:
    """What a configuration takes of a card, and below it what would take less, by the same method.

    Args:
        path: of the picture; `check` has passed.
        title: in large letters.
        subtitle: below it.
        asked: the configuration.
        prediction: for it.
        card_gib: what the card has.

    Raises:
        TunekitError: the file cannot be written.
    """
    bars = [Bar("as asked", prediction)]
    seen = [asked]
    with trace_worker() as worker:
        for lever in sorted(levers(asked), key=lambda lever: -lever.needs_gib):
            if lever.spec in seen:
                continue  # half of micro-batch 2 is micro-batch 1
            seen.append(lever.spec)
            bars.append(_bar(lever.name, lever.spec, worker if prediction.method == "trace" else None))
    plot_bars(path, title, subtitle, bars, card_gib)


def _bar(name: str, spec: Spec, worker: Worker | None) -> Bar:
    if worker is not None:
        try:
            return Bar(name, trace(spec, worker=worker))
        except Unknown:
            name = f"{name}, estimated"
    return Bar(name, estimate(spec))


def plot_bars(path: Path, title: str, subtitle: str, bars: Sequence[Bar], card_gib: float) -> None:
    """Stacked bars, from top to bottom, against a card's memory."""
    with _drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 1.9 + 0.52 * len(bars)), layout="constrained")
        axes = figure.subplots()
        widest = max(card_gib, *(bar.prediction.process_gib for bar in bars))
        stacks = [_stack(bar.prediction, DUST * widest) for bar in bars]
        for row, (bar, stack) in enumerate(zip(bars, stacks, strict=True)):
            left = 0.0
            for part, gib in stack.items():
                _segment(axes, row, (left, gib), PARTS[part], _number_at(left, gib, card_gib, LEGIBLE * widest))
                left += gib
            judged = verdict(bar.prediction, card_gib)
            axes.annotate(
                f"{bar.prediction.process_gib:5.1f} GiB  {judged}",
                (1.0, row),
                xycoords=("axes fraction", "data"),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                color=VERDICTS[judged],
                fontweight="bold" if row == 0 else "normal",
            )
        axes.axvspan(card_gib, 2 * widest, color="#f4f1ee", zorder=0)
        axes.axvline(card_gib, color="white", linewidth=3.2, zorder=2.5)  # seen on dark bars too
        axes.axvline(card_gib, color="black", linewidth=1.6, linestyle=(0, (5, 2)), zorder=3)
        axes.annotate(
            f"this card: {card_gib:.1f} GiB",
            (card_gib, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            va="bottom",
        )
        axes.set_yticks(range(len(bars)), [bar.name for bar in bars])
        axes.get_yticklabels()[0].set_fontweight("bold")
        axes.set_ylim(len(bars) - 0.45, -0.55)
        axes.set_xlim(0, widest * 1.03)
        axes.set_xlabel("memory of one GPU, GiB")
        _plain(axes)
        _headings(axes, title, subtitle, 20)
        drawn = [part for part in PARTS if any(part in stack for stack in stacks)]
        _legend(figure, [PARTS[part] for part in drawn])
        _save(figure, path)


def draw_what_if(
    path: Path, title: str, subtitle: str, columns: Sequence[str], rows: Sequence[str], cells: Sequence[Sequence[int]]
) -> None:
    """A heat table of largest micro-batches; 0 means that not even one row fits.

    Raises:
        TunekitError: the file cannot be written.
    """
    with _drawing():
        import matplotlib as mpl
        from matplotlib.figure import Figure

        figure = Figure(figsize=(2.2 + 1.25 * len(columns), 1.7 + 0.42 * len(rows)), layout="constrained")
        axes = figure.subplots()
        colors = mpl.colormaps["Blues"]
        top = math.log2(max(2, *(max(row) for row in cells)))
        for y, row in enumerate(cells):
            for x, largest in enumerate(row):
                shade = 0.12 + 0.88 * math.log2(largest) / top if largest else 0.0
                face = colors(shade) if largest else "#ffffff"
                axes.fill_between([x, x + 1], y, y + 1, facecolor=face, edgecolor="white", linewidth=2)
                ink = "#767676" if not largest else "black" if _light(face) else "white"
                axes.text(x + 0.5, y + 0.5, str(largest or "–"), ha="center", va="center", color=ink, fontsize=12)
        axes.set_xlim(0, len(columns))
        axes.set_ylim(len(rows), 0)
        axes.set_xticks([x + 0.5 for x in range(len(columns))], list(columns))
        axes.set_yticks([y + 0.5 for y in range(len(rows))], list(rows))
        axes.xaxis.tick_top()
        axes.set_ylabel("memory of the GPU, as sold")
        axes.set_xlabel("– : not even one row fits", color="#5f5f5f")
        _plain(axes, grid=False)
        _headings(axes, title, subtitle, 22)
        _save(figure, path)


@contextmanager
def _drawing() -> Iterator[None]:
    """Let matplotlib draw as it does by default, and say nothing of letters that no font has."""
    import matplotlib.style
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    more = {
        "font.family": ["DejaVu Sans", *(name for name in CJK if name in installed)],
        "font.size": 10.5,
        "hatch.linewidth": 0.6,
        "text.parse_math": False,  # a $ in a name is a $
        "svg.hashsalt": "tunekit",  # the same picture is the same file
    }
    with warnings.catch_warnings(), matplotlib.style.context(["default", more]):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _stack(prediction: Prediction, dust: float) -> dict[str, float]:
    """GiB of each part of the process, from left to right; what is too small to be seen is `other`."""
    beside = {
        "fragmentation": prediction.reserved_gib - prediction.allocated_gib,
        "context": prediction.process_gib - prediction.reserved_gib,
    }
    stack = {part: {**prediction.breakdown, **beside}.get(part, 0.0) for part in PARTS}
    unseen = [part for part, gib in stack.items() if gib < dust and part != "other"]
    stack["other"] += sum(stack.pop(part) for part in unseen)
    if stack["other"] < dust and len(stack) > 1:
        dusty = stack.pop("other")
        stack[max(stack, key=lambda part: stack[part])] += dusty
    return stack


def _segment(axes: Axes, row: int, part: tuple[float, float], look: Look, number_at: float | None) -> None:
    """One part of a bar, from its left end and so wide, with its number where there is room."""
    left, width = part
    axes.barh(
        row,
        width,
        left=left,
        height=0.68,
        color=look.color,
        hatch=look.hatch,
        edgecolor=look.edge,
        linewidth=0.8,
        zorder=2,
    )
    if number_at is None:
        return
    ink = "black" if _light(look.color) else "white"
    number = axes.text(number_at, row, f"{width:.1f}", ha="center", va="center", color=ink, zorder=4)
    if look.hatch:
        number.set_bbox({"facecolor": look.color, "edgecolor": "none", "pad": 1.5})


def _number_at(left: float, width: float, card_gib: float, room: float) -> float | None:
    """Where the number of a part stands: in its middle, or beside the card's line that runs through there."""
    if width < room:
        return None
    middle = left + width / 2
    if abs(middle - card_gib) > 0.75 * room:
        return middle
    halves = ((left, card_gib), (card_gib, left + width))
    start, end = max(halves, key=lambda half: half[1] - half[0])
    return (start + end) / 2 if end - start > room else None


def _light(color: Any) -> bool:
    """Whether black reads better on a colour than white (WCAG's relative luminance)."""
    from matplotlib.colors import to_rgb

    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color)]
    red, green, blue = linear
    return bool(0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179)


def _plain(axes: Axes, *, grid: bool = True) -> None:
    """Without frame and ticks; with a faint grid to read numbers off."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    if grid:
        axes.grid(axis="x", color="#dddddd", zorder=0)
        axes.set_axisbelow(True)


def _headings(axes: Axes, title: str, subtitle: str, below: float) -> None:
    """Title and subtitle over a picture, `below` points of which are taken."""
    axes.set_title(title, loc="left", fontsize=13.5, fontweight="bold", pad=below + 22)
    axes.annotate(
        subtitle,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, below + 4),
        textcoords="offset points",
        fontsize=10,
        color="#444444",
    )


def _legend(figure: Figure, looks: Sequence[Look]) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(facecolor=look.color, hatch=look.hatch, edgecolor=look.edge, label=look.label) for look in looks]
    columns = min(5, len(patches))
    figure.legend(handles=patches, loc="outside lower left", ncols=columns, frameon=False, handlelength=1.8)


def _save(figure: Figure, path: Path) -> None:
    """The picture, whole or not at all."""
    kind = path.suffix.lower().removeprefix(".")
    undated: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    picture = io.BytesIO()
    figure.savefig(picture, format=kind, dpi=150, bbox_inches="tight", pad_inches=0.15, metadata=undated.get(kind))
    try:
        write_atomically(path, picture.getvalue())
    except OSError as error:
        raise TunekitError(f"--plot {path} cannot be written: {error.strerror}") from error
