"""Pictures: of ``tunekit fit --plot FILE``, what a run takes of a card and what would take less; the curve of a run."""

from __future__ import annotations

import io
import itertools
import math
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError
from tunekit.files import write_atomically
from tunekit.memory.search import FITS, NOT, TIGHT
from tunekit.runs.curves import drawn
from tunekit.stages import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tunekit.engine.logs import Progress
    from tunekit.memory.spec import Prediction
    from tunekit.stages import Stage

FORMATS = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Look:
    """How a part of the memory is drawn, and named in the legend.

    The colors are of the Okabe-Ito palette, which colour-blind people can tell apart; the hatch separates neighbours in
    greyscale, and `edge` is its color and the frame's.
    """

    label: str
    color: str
    hatch: str = ""
    edge: str = "white"


PARTS: Mapping[str, Look] = {
    "weights": Look("the model", "#2b3a55"),
    "adapter": Look("the adapter", "#e69f00", "..."),
    "gradients": Look("gradients", "#56b4e9"),
    "optimizer": Look("optimizer", "#117755", "xxx"),
    "checkpoints": Look("kept for the way back", "#f0e442"),
    "layer": Look("being computed", "#0072b2", "\\\\\\"),
    "logits": Look("word scores and loss", "#d55e00", "///"),
    "cache": Look("cache of the answers", "#882255", "\\\\\\"),
    "vision": Look("images", "#999933", "ooo"),
    "other": Look("other", "#cc79a7", "---"),
    "fragmentation": Look("gaps between blocks", "#bdbdbd", "..."),
    "context": Look("CUDA itself", "#ffffff", "|||", "#808080"),
}
"""Parts of a prediction's breakdown, and what PyTorch and CUDA take beside it, from left to right."""

VERDICTS: Mapping[str, str] = {FITS: "#11704f", TIGHT: "#8a5a00", NOT: "#b3261e"}
"""Ink of a verdict; the word stands beside it."""

DUST, LEGIBLE = 0.004, 0.055
"""Shares of the picture's width: a part below the first could not be seen and is drawn as ``other``; into one above
the second its number is written."""

CJK = ("Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "Microsoft YaHei", "PingFang SC")
"""Fonts for Chinese names of folders, where one is installed."""


def check_picture(path: Path, *, many: bool = False) -> None:
    """Raise TunekitError where no picture can be written there, before anything is computed.

    That is for an ending that is not known, no such folder, no matplotlib, or `many` configurations.
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
    path: Path, title: str, subtitle: str, bars: Sequence[tuple[str, Prediction, str]], card_gib: float
) -> None:
    """What configurations take of a card, as stacked bars from top to bottom; `check_picture` has passed.

    Each bar is a name, a prediction and a verdict; the first is the one that was asked about. Raises TunekitError where
    the file cannot be written.
    """
    names, predictions, verdicts = zip(*bars, strict=True)
    with _drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 1.9 + 0.52 * len(bars)), layout="constrained")
        axes = figure.subplots()
        widest = max(card_gib, *(prediction.process_gib for prediction in predictions))
        stacks = [_stack(prediction, DUST * widest) for prediction in predictions]
        for row, (prediction, judged, stack) in enumerate(zip(predictions, verdicts, stacks, strict=True)):
            left = 0.0
            for part, gib in stack.items():
                _segment(axes, row, (left, gib), PARTS[part], _number_at(left, gib, card_gib, LEGIBLE * widest))
                left += gib
            words, place = f"{prediction.process_gib:5.1f} GiB  {judged}", ("axes fraction", "data")
            note = axes.annotate(words, (1.0, row), (8, 0), place, "offset points", va="center")
            note.set(color=VERDICTS[judged], fontweight="bold" if row == 0 else "normal")
        _mark_card(axes, card_gib, widest)
        axes.set_yticks(range(len(bars)), names)
        axes.get_yticklabels()[0].set_fontweight("bold")
        axes.set_ylim(len(bars) - 0.45, -0.55)
        axes.set_xlim(0, widest * 1.03)
        axes.set_xlabel("memory of one GPU, GiB")
        _plain(axes)
        _headings(axes, title, subtitle, 20)
        _legend(figure, [look for part, look in PARTS.items() if any(part in stack for stack in stacks)])
        _save(figure, path)


def _mark_card(axes: Axes, card_gib: float, widest: float) -> None:
    """Where the card ends: a line with its size, and a shade beyond it."""
    axes.axvspan(card_gib, 2 * widest, color="#f4f1ee", zorder=0)
    axes.axvline(card_gib, color="white", linewidth=3.2, zorder=2.5)  # seen on dark bars too
    axes.axvline(card_gib, color="black", linewidth=1.6, linestyle=(0, (5, 2)), zorder=3)
    words, place = f"this card: {card_gib:.1f} GiB", ("data", "axes fraction")
    axes.annotate(words, (card_gib, 1.0), (0, 4), place, "offset points", ha="center", va="bottom")


def draw_what_if(
    path: Path, title: str, subtitle: str, columns: Sequence[str], rows: Sequence[str], cells: Sequence[Sequence[int]]
) -> None:
    """A heat table of largest micro-batches, 0 where not even one row fits. Raises as `draw_prediction`."""
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


def draw_lengths(
    path: Path, title: str, subtitle: str, bins: Sequence[tuple[int, int, int]], max_length: int | None
) -> None:
    """How many rows have how many tokens: bins from, to, and rows. Raises as `draw_prediction`."""
    with _drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 4.2), layout="constrained")
        axes = figure.subplots()
        lefts, widths = [low for low, _, _ in bins], [max(1, high - low) for low, high, _ in bins]
        axes.bar(lefts, [rows for _, _, rows in bins], widths, align="edge", color="#1f5a96", edgecolor="white")
        if max_length and max_length < lefts[-1] + widths[-1]:
            axes.axvline(max_length, color="#b3261e", linewidth=1.6, linestyle=(0, (5, 2)))
            place = ("data", "axes fraction")
            axes.annotate(f"max_length {max_length:,}", (max_length, 1), (4, -2), place, "offset points", va="top")
        axes.set_xlabel("tokens of a row")
        axes.set_ylabel("rows")
        _plain(axes, grid=False)
        _headings(axes, title, subtitle, 6)
        _save(figure, path)


CURVE = "train_loss.png"
"""ms-swift's own picture of that name shows the last attempt only, and is not drawn where TensorBoard is not used
(utils/tb_utils.py, plot_images)."""


def draw_curve(path: Path, title: str, progress: Progress, stage: Stage) -> Path | None:
    """The numbers of a run's stage over all its steps, one below the other; None where that cannot be drawn."""
    keys = [key for key in stage.shows if len(progress.series(key)) > 1]
    if not keys or find_spec("matplotlib") is None:
        return None
    try:
        with _drawing():
            from matplotlib.figure import Figure

            figure = Figure(figsize=(8, 1.0 + 2.2 * len(keys)), layout="constrained")
            for axes, key in zip(figure.subplots(len(keys), 1, sharex=True, squeeze=False)[:, 0], keys, strict=True):
                _curve(axes, progress.series(key), key)
                if key == "loss" and (evaluated := progress.series("eval_loss")):
                    axes.plot(list(evaluated), list(evaluated.values()), "o-", color="#b3261e", label="evaluation")
                    axes.legend(frameon=False)
            axes.set_xlabel("step")
            figure.suptitle(title, fontweight="bold")
            _save(figure, path)
    except (OSError, ImportError, ValueError, TunekitError):
        return None  # a run has not failed because its picture has
    return path


def _curve(axes: Axes, series: Mapping[int, float], key: str) -> None:
    """A number at each step, and its mean over some; where it is not a number there is a gap."""
    steps = sorted(series)
    values = [series[step] for step in steps]
    axes.plot(steps, values, color="#9db8d2" if len(steps) > SMOOTHED else "#1f5a96", linewidth=1.2)
    if len(steps) > SMOOTHED:
        half = len(steps) // SMOOTHED // 2 + 1
        near = [values[max(0, place - half) : place + half + 1] for place in range(len(values))]
        axes.plot(steps, [sum(some) / len(some) for some in near], color="#1f5a96", linewidth=1.8)
    axes.set_ylabel(METRICS[key])
    _plain(axes)


def draw_runs(path: Path, key: str, curves: Mapping[str, Mapping[int, float]]) -> None:
    """A number of several runs, by name, on one axis. Raises as `draw_prediction`."""
    with _drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 4.2), layout="constrained")
        axes = figure.subplots()
        for (name, points), line in zip(curves.items(), itertools.cycle(LINES), strict=False):
            axes.plot(list(points), list(drawn(key, points).values()), line, linewidth=1.8, label=name)
        axes.set_xlabel("step")
        axes.set_ylabel(METRICS.get(key, key))
        axes.legend(frameon=False)
        _plain(axes)
        _save(figure, path)


LINES = ("-", "--", ":", "-.")
"""So that runs differ by more than their colour."""

SMOOTHED = 20
"""Steps from which a mean is drawn too."""


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
    taken = {
        **prediction.breakdown,
        "fragmentation": prediction.reserved_gib - prediction.allocated_gib,
        "context": prediction.process_gib - prediction.reserved_gib,
    }
    stack = {part: taken.get(part, 0.0) for part in PARTS}
    unseen = [part for part, gib in stack.items() if gib < dust and part != "other"]
    stack["other"] += sum(stack.pop(part) for part in unseen)
    if stack["other"] < dust and len(stack) > 1:
        dusty = stack.pop("other")
        stack[max(stack, key=lambda part: stack[part])] += dusty
    return stack


def _segment(axes: Axes, row: int, part: tuple[float, float], look: Look, number_at: float | None) -> None:
    """One part of a bar, from its left end and so wide, with its number where there is room."""
    left, width = part
    axes.barh(row, width, 0.68, left, color=look.color, hatch=look.hatch, edgecolor=look.edge, linewidth=0.8, zorder=2)
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
    start, end = max(((left, card_gib), (card_gib, left + width)), key=lambda half: half[1] - half[0])
    return (start + end) / 2 if end - start > room else None


def _light(color: Any) -> bool:
    """Whether black reads better on a colour than white (WCAG's relative luminance)."""
    from matplotlib.colors import to_rgb

    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color))
    return bool(0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179)


def _plain(axes: Axes, *, grid: bool = True) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    if grid:
        axes.grid(axis="x", color="#dddddd", zorder=0)
        axes.set_axisbelow(True)


def _headings(axes: Axes, title: str, subtitle: str, below: float) -> None:
    axes.set_title(title, loc="left", fontsize=13.5, fontweight="bold", pad=below + 22)
    axes.annotate(subtitle, (0, 1), (0, below + 4), "axes fraction", "offset points", fontsize=10, color="#444444")


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
