"""What is asked of a conversion of rows, and what came of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tunekit.data.registry import NamedDataset


@dataclass(frozen=True)
class Conversion:
    """What is converted, and how.

    Attributes:
        target: a stage or a task, of `tunekit.data.stage_rows.SHAPES_BY_NAME`.
        columns: which column is which, where its name does not say.
        image_root: where relative paths of pictures begin; empty for the current folder.
        ratio: of the rows of each file, those that are taken, 0 to 1, evenly spread.
        most: rows of each file, at the most; the first ones, or `at_random` any.
        split: of what is written, the share that is kept for validation, 0 to 1.
        seed: the same one chooses the same rows.
        described: what a table of datasets says of some of the files, which is stronger than what is said for all.
    """

    files: tuple[Path, ...]
    out: Path
    target: str
    columns: Mapping[str, str] = field(default_factory=dict)
    image_root: str = ""
    ratio: float = 1.0
    most: int | None = None
    at_random: bool = False
    split: float = 0.0
    seed: int = 42
    described: Mapping[Path, NamedDataset] = field(default_factory=dict)

    def beside(self, word: str) -> Path:
        """The file that stands beside `out`: ``out.val.jsonl``."""
        return self.out.with_name(f"{self.out.stem}.{word}{self.out.suffix}")

    @property
    def pictures(self) -> Path:
        """The folder for pictures that were no files."""
        return self.out.with_name(f"{self.out.stem}.images")

    def check(self) -> None:
        """Raise TunekitError where it cannot be done, before anything is read."""
        if not 0 < self.ratio <= 1:
            raise TunekitError(f"--data-ratio takes a share above 0, 1 at the most, not {self.ratio:g}")
        if not 0 <= self.split < 1:
            raise TunekitError(f"--split takes a share from 0 to below 1, not {self.split:g}", "--split 0.1")
        if self.most is not None and self.most < 1:
            raise TunekitError(f"--max-samples must be 1 or more, not {self.most}")
        if self.at_random and self.most is None:
            raise TunekitError("--random says which rows --max-samples takes", "--max-samples 1000 --random")
        if self.out.suffix != ".jsonl":
            raise TunekitError(f"--out {self.out}: JSON lines are written", f"--out {self.out.with_suffix('.jsonl')}")
        if not self.out.parent.is_dir():
            raise TunekitError(f"--out {self.out}: the folder {self.out.parent} does not exist")
        for path in (self.out, self.beside("val"), self.beside("left"), self.pictures):
            if path.exists():
                raise TunekitError(f"{path} exists already", "take another name, or delete it")


@dataclass
class Left:
    """Rows that could not be converted for one reason: why the first could not, where it stands, and how many."""

    why: str
    first: str
    number: int = 0


@dataclass
class Converted:
    """What came of it: rows that were read, that were written, and that were kept for validation.

    Attributes:
        left: rows that could not be converted, by what is alike of the reasons; they stand in ``out.left.jsonl``.
        unused: rows that were not chosen.
        shapes: what the rows were.
        dropped: columns that nothing reads, and how many rows had them.
    """

    rows: int = 0
    written: int = 0
    validation: int = 0
    left: dict[str, Left] = field(default_factory=dict)
    unused: int = 0
    shapes: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
