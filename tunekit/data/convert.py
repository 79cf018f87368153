"""Rows of any shape written as those of a stage: one after the other, in constant memory, and none lost in silence."""

from __future__ import annotations

import json
import random
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.data.conversion import Converted, Left
from tunekit.data.described import roles_of_columns, row_as_described
from tunekit.data.entry import Entry, doubled_key
from tunekit.data.findings import ERROR, LEVELS
from tunekit.data.judge import Judge, row_encoder
from tunekit.data.mend import left_line
from tunekit.data.normal import NormalRow, normal_row
from tunekit.data.out_files import OutFiles, json_line
from tunekit.data.pictures import INLINE
from tunekit.data.read import look_into
from tunekit.data.registry import NamedDataset
from tunekit.data.stage_rows import SHAPES_BY_NAME, columns_dropped, stage_rows
from tunekit.data.turns import ShapelessRow
from tunekit.errors import Exit, TunekitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tunekit.data.conversion import Conversion
    from tunekit.data.read import RowFile

    Watch = Callable[[int, int, int], None]

WATCH_EVERY = 500
"""Rows between two reports of progress."""

MOST_REASONS, MOST_STRATA = 100, 1000
"""Reasons, and sources of rows, that are told apart."""

NOT_DESCRIBED = NamedDataset("")
"""A file of which no table says anything."""

STRATA = ("source", "dataset", "dataset_name")
"""Columns that say where a row comes from: each value gives its share of a split, as each file does."""


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
    with OutFiles(asked) as out:
        read = _Reading(asked, out, done, sum(path.stat().st_size for path in asked.files), watch)
        for source in sources:
            read.dataset = asked.described.get(source.path, NOT_DESCRIBED)
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

    def __init__(self, asked: Conversion, out: OutFiles, done: Converted, size: int, watch: Watch) -> None:
        self._asked, self._out, self._done, self._size, self._watch = asked, out, done, size, watch
        self._bytes, self._judge = 0, Judge(SHAPES_BY_NAME[asked.target], asked.target)
        self.dataset = NOT_DESCRIBED

    def chosen(self, source: RowFile) -> Iterator[tuple[list[bytes], str]]:
        """The rows that are wanted of a file, as lines, those of one row together; and where each comes from."""
        rows = self._converted(source)
        most = self.dataset.samples or self._asked.most
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
        share = Share(self.dataset.share or self._asked.ratio, f"{self._asked.seed}:ratio:{source.path.name}")
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
        if twice := doubled_key(entry.raw, row_encoder()(entry.row)):
            entry.row = None  # it is one of several: what is left is the line
            raise ShapelessRow(twice)
        columns = {**roles_of_columns(self.dataset), **self._asked.columns}
        row = normal_row(row_as_described(entry.row, self.dataset), columns)
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
        root = self.dataset.images or self._asked.image_root
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
