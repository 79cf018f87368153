"""Rows of any shape written as those of a stage: one after the other, in constant memory, and none lost in silence."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from tunekit.data.entry import Entry
from tunekit.data.files import shown
from tunekit.data.findings import ERROR, LEVELS
from tunekit.data.judge import Judge
from tunekit.data.mend import left_line
from tunekit.data.normal import SHAPES_BY_NAME, NormalRow, columns_dropped, normal_row, stage_rows
from tunekit.data.pictures import INLINE
from tunekit.data.read import look_into
from tunekit.data.turns import ShapelessRow
from tunekit.errors import Exit, TunekitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tunekit.data.read import RowFile

    Watch = Callable[[int, int, int], None]

ENDINGS: Mapping[bytes, str] = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp", b"GIF8": ".gif"}
"""How the bytes of a picture begin, and what its file is called."""

WATCH_EVERY = 500
"""Rows between two reports of progress."""

MOST_REASONS, MOST_STRATA = 100, 1000
"""Reasons, and sources of rows, that are told apart."""

STRATA = ("source", "dataset", "dataset_name")
"""Columns that say where a row comes from: each value gives its share of a split, as each file does."""


@dataclass(frozen=True)
class Conversion:
    """What is converted, and how.

    Attributes:
        target: a stage or a task, of `tunekit.data.normal.SHAPES_BY_NAME`.
        columns: which column is which, where its name does not say.
        image_root: where relative paths of pictures begin; empty for the current folder.
        ratio: of the rows of each file, those that are taken, 0 to 1, evenly spread.
        most: rows of each file, at the most; the first ones, or `at_random` any.
        split: of what is written, the share that is kept for validation, 0 to 1.
        seed: the same one chooses the same rows.
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


class Share:
    """Tells of things that come one by one which belong to a share: of each ten one, at a random place, for 0.1."""

    def __init__(self, share: float, seed: str) -> None:
        self._turned = share > 0.5
        self._share = 1 - share if self._turned else share
        self._chance = random.Random(seed)  # noqa: S311 - rows, not secrets
        self._cell = self._seen = self._end = 0
        self._chosen = -1

    def takes(self) -> bool:
        """Whether the next one does."""
        if self._share <= 1e-9:
            return self._turned
        if self._seen == self._end:
            start, self._cell = self._end, self._cell + 1
            self._end = int(self._cell / self._share + 1e-6)
            self._chosen = self._chance.randrange(start, self._end)
        self._seen += 1
        return (self._seen - 1 == self._chosen) != self._turned


def convert_rows(asked: Conversion, watch: Watch = lambda *_: None) -> Converted:
    """Write the rows of all files as those of a stage. Files appear when they are complete, or not at all.

    `watch` gets bytes that were read, bytes of all files, and rows. Raises TunekitError, exit code 4, where not one row
    can be converted.
    """
    asked.check()
    try:
        return _convert(asked, watch)
    except OSError as error:  # what cannot be read is said by the one who reads
        raise TunekitError(f"{asked.out} cannot be written: {error.strerror}") from error


def _convert(asked: Conversion, watch: Watch) -> Converted:
    done = Converted()
    sources = [look_into(path) for path in asked.files]
    with _Out(asked) as out:
        read = _Reading(asked, out, done, sum(path.stat().st_size for path in asked.files), watch)
        for source in sources:
            strata = _Strata(asked, source)
            for rows, stratum in read.chosen(source):
                aside = strata.takes(stratum)
                done.validation += len(rows) * aside
                done.written += len(rows) * (not aside)
                out.write("val" if aside else "", rows)
        if not done.written:
            left = next(iter(done.left.values()), None)
            problem = f"{left.first}: {left.why}" if left else f"{asked.files[0]}: there are no rows"
            raise TunekitError(f"no row can be converted: {problem}", _hint(asked), Exit.DATA)
        out.publish()
    return done


def _hint(asked: Conversion) -> str:
    return f"--map prompt=COLUMN,response=COLUMN says which column is which for {asked.target}"


class _Strata:
    """Who is kept for validation: of each source its share."""

    def __init__(self, asked: Conversion, source: RowFile) -> None:
        self._asked, self._name = asked, source.path.name
        self._shares: dict[str, Share] = {}

    def takes(self, stratum: str) -> bool:
        if not self._asked.split:
            return False
        name = stratum if stratum in self._shares or len(self._shares) < MOST_STRATA else ""
        if name not in self._shares:
            self._shares[name] = Share(self._asked.split, f"{self._asked.seed}:split:{self._name}:{name}")
        return self._shares[name].takes()


class _Reading:
    """The rows of files, made into rows of a stage."""

    def __init__(self, asked: Conversion, out: _Out, done: Converted, size: int, watch: Watch) -> None:
        self._asked, self._out, self._done, self._size, self._watch = asked, out, done, size, watch
        self._bytes, self._judge = 0, Judge(SHAPES_BY_NAME[asked.target], asked.target)

    def chosen(self, source: RowFile) -> Iterator[tuple[list[bytes], str]]:
        """The rows that are wanted of a file, as lines, those of one row together; and where each comes from."""
        rows = self._converted(source)
        most = self._asked.most
        if most is None:
            yield from rows
        elif self._asked.at_random:
            yield from self._drawn(rows, most, source)
        else:
            yield from islice(rows, most)

    def _drawn(
        self, rows: Iterator[tuple[list[bytes], str]], most: int, source: RowFile
    ) -> Iterator[tuple[list[bytes], str]]:
        """As many at random: all are written aside first, since nobody knows before how many there are."""
        with self._out.aside() as pool:
            count = 0
            for lines, stratum in rows:
                pool.write(json.dumps([[line.decode() for line in lines], stratum]).encode() + b"\n")
                count += 1
            pool.seek(0)
            chance = random.Random(f"{self._asked.seed}:{source.path.name}")  # noqa: S311 - rows, not secrets
            wanted = min(most, count)
            self._done.unused += count - wanted
            for left, line in zip(range(count, 0, -1), pool, strict=True):
                if chance.randrange(left) < wanted:
                    wanted -= 1
                    texts, stratum = json.loads(line)
                    yield [text.encode() for text in texts], stratum

    def _converted(self, source: RowFile) -> Iterator[tuple[list[bytes], str]]:
        share = Share(self._asked.ratio, f"{self._asked.seed}:ratio:{source.path.name}")
        for entry in source.entries():
            self._done.rows += 1
            self._bytes += len(entry.raw)
            if self._done.rows % WATCH_EVERY == 0:
                self._watch(self._bytes, self._size, self._done.rows)
            if not share.takes():
                self._done.unused += 1
                continue
            try:
                yield self._lines(entry), _stratum(entry)
            except ShapelessRow as error:
                self._leave(source, entry, error)

    def _lines(self, entry: Entry) -> list[bytes]:
        if entry.row is None:
            raise ShapelessRow(entry.fault or "it cannot be read")
        row = normal_row(entry.row, self._asked.columns)
        for kind, values in row.media.items():
            row.media[kind] = [self._medium(value) for value in values]
        made = stage_rows(row, self._asked.target)
        for one in made:
            judged = one if "images" not in one else {**one, "images": [self._out.now(path) for path in one["images"]]}
            for kind, alike, said in self._judge.of_entry(Entry(0, judged)):
                if LEVELS[kind] == ERROR:
                    raise ShapelessRow(said, alike)
        lines = [json_line(one) for one in made]
        self._count(row, made[0])
        return lines

    def _count(self, row: NormalRow, made: dict[str, Any]) -> None:
        self._done.shapes[row.shape] += 1
        self._done.dropped.update(columns_dropped(row, made))

    def _medium(self, value: Any) -> Any:
        """A picture as ms-swift finds it: a path from the root of pictures, or a file of the bytes that were there."""
        if isinstance(value, dict):
            if isinstance(value.get("bytes"), (bytes, bytearray)):
                return self._out.picture(bytes(value["bytes"]))
            value = value.get("path") or value.get("url")
        if isinstance(value, (bytes, bytearray)):
            return self._out.picture(bytes(value))
        root = self._asked.image_root
        if not isinstance(value, str) or not root or INLINE.match(value):
            return value
        return value if Path(value).is_absolute() else str(Path(root) / value)

    def _leave(self, source: RowFile, entry: Entry, error: ShapelessRow) -> None:
        left, why = self._done.left, str(error)
        alike = error.alike if error.alike in left or len(left) < MOST_REASONS else ""
        left.setdefault(alike, Left(why, f"{source.path} {source.unit} {entry.number}")).number += 1
        self._out.write("left", [left_line(source.path, entry, why)])


def _stratum(entry: Entry) -> str:
    found = [(entry.row or {}).get(name) for name in STRATA]
    return next((value[:80] for value in found if isinstance(value, str)), "")


def json_line(row: dict[str, Any]) -> bytes:
    """A row as a line of JSON. Raises ShapelessRow where it holds what JSON cannot say: NaN, bytes, half characters."""
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False, default=_plain_value).encode()
    except ShapelessRow:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        raise ShapelessRow(f"it cannot be written as JSON: {shown(error, 120)}") from None


def _plain_value(value: Any) -> str:
    if isinstance(value, (bytes, bytearray)):
        raise ShapelessRow("it holds bytes, which JSON cannot say")
    return str(value)


class _Out:
    """The files that are written: under other names until all are complete."""

    def __init__(self, asked: Conversion) -> None:
        self._asked, self._mark = asked, os.urandom(4).hex()
        self._files: dict[str, IO[bytes]] = {}
        self._stack = ExitStack()
        self._folder = self._hidden(asked.pictures)

    def __enter__(self) -> _Out:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        for word in self._files:
            self._hidden(self._place(word)).unlink(missing_ok=True)
        self._hidden(self._place("pool")).unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, word: str, lines: list[bytes]) -> None:
        """Add lines to a file: the one for training (empty), ``val`` or ``left``."""
        if word not in self._files:
            self._files[word] = self._opened(word, "xb")
        for line in lines:
            self._files[word].write(line + b"\n")

    def aside(self) -> IO[bytes]:
        """A file to write to and read again, which nobody sees."""
        file = self._opened("pool", "w+b")
        self._hidden(self._place("pool")).unlink()
        return file

    def picture(self, content: bytes) -> str:
        """Keep a picture; gives the path that it will have. The same one is kept once."""
        ending = next((ending for start, ending in ENDINGS.items() if content.startswith(start)), ".png")
        name = f"{hashlib.sha256(content).hexdigest()[:24]}{ending}"
        self._folder.mkdir(exist_ok=True)
        path = self._folder / name
        if not path.exists():
            path.write_bytes(content)
        return str(self._asked.pictures / name)

    def now(self, path: Any) -> Any:
        """Where a picture is that will have that path."""
        kept = isinstance(path, str) and Path(path).parent == self._asked.pictures
        return str(self._folder / Path(path).name) if kept else path

    def publish(self) -> None:
        """Let all files appear, the one for training last."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        self._stack.close()
        if self._folder.is_dir():
            self._folder.rename(self._asked.pictures)
        for word in sorted(self._files, reverse=True):
            self._hidden(self._place(word)).replace(self._place(word))

    def _opened(self, word: str, mode: str) -> IO[bytes]:
        return self._stack.enter_context(cast("IO[bytes]", self._hidden(self._place(word)).open(mode)))

    def _place(self, word: str) -> Path:
        return self._asked.beside(word) if word else self._asked.out

    def _hidden(self, path: Path) -> Path:
        return path.with_name(f".{path.name}.{self._mark}")
