"""More pictures out of those that are there: mirrored and cropped copies, in rows of their own.

It is done before training, once, so that what is trained on can be looked at. Rows whose answer depends on what a copy
would change stay as they are.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.data.sound import read_rows
from tunekit.errors import Exit, TunekitError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image

IMAGE_KEYS = ("images", "image")
"""Columns that hold the paths of a row's images."""

WRITTEN = re.compile(
    r"\b(?:ocr|read|reads|reading|text|texts|transcri\w+|written|handwrit\w+|document|invoice|receipt|chart|table|"
    r"diagram|formula|equation|code|subtitle|caption|plate|label)\b|[文字读写档票表式]",
    re.IGNORECASE,
)
"""Words of questions and answers about what is written in a picture: a mirror makes it unreadable, a crop cuts it."""

SIDED = re.compile(r"\b(?:left|right|(?:counter)?clockwise|east|west)\b|[左右]|顺时针|逆时针", re.IGNORECASE)
"""Words that a mirror makes wrong."""

PLACED = re.compile(r"<bbox>|<\|box_start\|>|<box>|\bbbox\b", re.IGNORECASE)
"""Marks of coordinates in a picture, which every copy makes wrong; so does a column ``objects``."""

LOSSY = {"JPEG": ".jpg", "MPO": ".jpg", "WEBP": ".webp"}
"""What Pillow calls the formats of photographs, and their ending; copies of all others are PNG."""


@dataclass(frozen=True)
class Copies:
    """How the copies differ from the pictures."""

    flip: bool = False  # mirrored left to right; half of the copies where they are cropped too, else all
    crop: float | None = None  # the share of each side that is kept, at a random place; None keeps all
    seed: int = 42  # the same seed makes the same copies
    with_text: bool = False  # copy rows about what is written in pictures too

    def check(self) -> None:
        """Raise TunekitError if they would be no different, or hold too little."""
        if not self.flip and self.crop is None:
            raise TunekitError("nothing was asked for", "--flip mirrors, --crop 0.9 cuts, or both")
        if self.crop is not None and not 0.5 <= self.crop < 1:
            raise TunekitError(f"--crop takes a share of each side from 0.5 to below 1, not {self.crop:g}")

    def of(self, picture: Image, chance: random.Random) -> Image:
        """A copy of a picture."""
        from PIL import ImageOps

        if self.crop is not None:
            width, height = (max(1, round(side * self.crop)) for side in picture.size)
            left, top = chance.randint(0, picture.width - width), chance.randint(0, picture.height - height)
            picture = picture.crop((left, top, left + width, top + height))
        if self.flip and (self.crop is None or chance.random() < 0.5):
            picture = ImageOps.mirror(picture)
        return picture


@dataclass
class Done:
    """What came of it: rows read, rows added, and why others were left as they are, each with its first line."""

    rows: int = 0
    added: int = 0
    left: dict[str, list[int]] = field(default_factory=dict)


def augment_dataset(data: Path, out: Path, copies: Copies) -> Done:
    """Write `out`/data.jsonl with every row of `data` and its copies, and the copied pictures to `out`/images.

    `data` is JSON lines or a JSON list; paths of images are those that ms-swift would find from here. `out` does not
    exist yet, and appears when it is complete. Raises TunekitError where Pillow is not installed, a picture cannot be
    read, or no row can be copied.
    """
    copies.check()
    if out.exists():
        raise TunekitError(f"{out} exists already", "name another folder, or delete it")
    if find_spec("PIL") is None:
        raise TunekitError("pictures need Pillow, which is not installed", "pip install pillow")
    half = out.with_name(f"{out.name}.part")
    shutil.rmtree(half, ignore_errors=True)
    (half / "images").mkdir(parents=True)
    done = Done()
    try:
        with (half / "data.jsonl").open("w", encoding="utf-8") as file:
            for row in _rows(data, half / "images", out / "images", copies, done):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if not done.added:
            raise TunekitError(f"{data}: no row can be copied: {reasons(done) or 'it holds none'}", None, Exit.DATA)
        half.rename(out)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return done


def reasons(done: Done) -> str:
    """Why rows were left as they are, in a line."""
    return "; ".join(f"{len(lines)} {why} (line {lines[0]})" for why, lines in done.left.items())


def _rows(data: Path, folder: Path, called: Path, copies: Copies, done: Done) -> Iterator[dict[str, Any]]:
    """Every row, followed by its copy; pictures are written to `folder` and named as in `called`."""
    for line, row in read_rows(data, sys.maxsize):
        done.rows += 1
        yield row
        if why := _left(row, copies):
            done.left.setdefault(why, []).append(line)
            continue
        chance = random.Random(f"{copies.seed}:{done.rows}")  # noqa: S311 - pictures, not secrets
        key = next(key for key in IMAGE_KEYS if row.get(key))
        paths = row[key] if isinstance(row[key], list) else [row[key]]
        names = [
            str(called / _copy(_source(path, data, line), folder / f"{done.rows:06}-{number}", copies, chance))
            for number, path in enumerate(paths)
        ]
        done.added += 1
        yield row | {key: names if isinstance(row[key], list) else names[0]}


def _left(row: dict[str, Any], copies: Copies) -> str:
    """Why a row gets no copy; empty if it gets one."""
    if not any(row.get(key) for key in IMAGE_KEYS):
        return "without a picture"
    words = "\n".join(_texts([value for key, value in row.items() if key not in IMAGE_KEYS]))
    if row.get("objects") or PLACED.search(words):
        return "with coordinates in the picture"
    if copies.flip and SIDED.search(words):
        return "about left and right"
    if not copies.with_text and WRITTEN.search(words):
        return "about what is written in the picture"
    return ""


def _texts(value: Any) -> Iterator[str]:
    """All text in a row, but the tags that stand for its pictures."""
    if isinstance(value, str):
        yield value.replace("<image>", "")
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _source(path: Any, data: Path, line: int) -> Path:
    path = path.get("path") if isinstance(path, dict) else path
    if not isinstance(path, str):
        raise TunekitError(f"{data} line {line}: its images are not paths of files", None, Exit.DATA)
    if not Path(path).is_file():
        hint = "relative paths begin in the current folder; ms-swift would put another row in its place"
        raise TunekitError(f"{data} line {line}: there is no image {path}", hint, Exit.DATA)
    return Path(path)


def _copy(source: Path, target: Path, copies: Copies, chance: random.Random) -> str:
    """Write a copy to `target`, with the ending of its format, and return its name."""
    from PIL import Image, ImageOps

    try:
        with Image.open(source) as picture:
            suffix = LOSSY.get(picture.format or "", ".png")
            copy = copies.of(ImageOps.exif_transpose(picture), chance)
            copy.save(target.with_suffix(suffix), quality=95)  # PNG has no such thing, and does not mind
    except OSError as error:
        raise TunekitError(f"{source} cannot be read as an image: {error}", None, Exit.DATA) from error
    return target.with_suffix(suffix).name
