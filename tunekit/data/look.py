"""One look at a file of rows before a run: how many there are, which of them will not do, and what they have in common.

It takes constant memory and bounded time: all rows of the first part of a file, and of the rest some, evenly spread.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.data.check import SPOKEN, hint_for, row_problem
from tunekit.data.columns import renamed_row
from tunekit.data.files import LONGEST, ROWS, NotHere, local_file
from tunekit.data.parquet import parquet_shape
from tunekit.data.pictures import SAYING, marks_in, picture_problem, pictures_of, sees_pictures
from tunekit.data.read import LINES, TEXT, RowFile, line_entry, look_into
from tunekit.data.rows import ANSWER, ASSISTANTS, CALLS, MESSAGES, RESULTS, ROLES, USERS, conversation_of
from tunekit.data.sound import refuse_problems, sound_row
from tunekit.errors import Exit, TunekitError
from tunekit.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import BinaryIO

    from tunekit.stages import Shape, Stage

READ_WHOLE = 4 * 2**20
"""Bytes of a file whose rows are all looked at: a fraction of a second."""

COUNTED = 2**30
"""Bytes in which lines are counted; what a larger file holds is reckoned from them."""

SPREAD = 2000
"""Rows that are looked at beyond the first part."""

PICTURES = 500
"""Rows whose pictures are looked for on the disk, which may be slow."""

TOO_MANY = 0.05
"""Share of bad rows with which a run is refused; fewer are told, and ms-swift leaves them out."""

THOUGHT = re.compile(r"<(?:\w+:)?think[^>]*>\s*[^\s<]|^\s*[^\s<][\s\S]*</(?:\w+:)?think>")
"""An answer that thinks; an empty pair of the marks is none."""


TOOLS = (*CALLS, *RESULTS)
"""Roles of calls and of what they gave."""


@dataclass(frozen=True)
class Fault:
    """The first row that will not do: its line, why, and whether that may be otherwise on another machine."""

    line: int
    problem: str
    hint: str
    elsewhere: bool = False


@dataclass
class Survey:
    """What was seen of a file.

    Attributes:
        path: of the file.
        total: rows of the file; None where they cannot be counted.
        exact: they were counted, not reckoned.
        looked: rows that were looked at, and of these:
        bad: those that will not do, `first` the first of them.
        labels: the kinds of label, as truth values.
        answers: those with an answer, and `thinks` those whose answer thinks.
        tools: those with tools, calls or results.
        pictures: those with pictures, and `fewer` those that place some of theirs and not all.
        unasked: those whose conversation has no question.
        classes: the largest number of a class.
    """

    path: Path
    total: int | None = None
    exact: bool = True
    looked: int = 0
    bad: int = 0
    first: Fault | None = None
    labels: set[bool] = field(default_factory=set)
    answers: int = 0
    thinks: int = 0
    tools: int = 0
    pictures: int = 0
    fewer: int = 0
    unasked: int = 0
    classes: int = -1

    @property
    def refused(self) -> bool:
        """Whether so many rows are bad, or one of the very first, that nothing should start."""
        return self.first is not None and (self.first.line <= ROWS or self.bad >= TOO_MANY * self.looked)

    def in_words(self) -> str:
        """The first bad row, and how many are like it."""
        if self.first is None:
            return ""
        many = f" ({self.bad:,} of {self.seen()} will not do)" if self.looked > 1 and self.bad > 1 else ""
        where = {".parquet": "", ".csv": f" row {self.first.line}"}.get(self.path.suffix, f" line {self.first.line}")
        return f"{self.path}{where}: {self.first.problem}{many}"

    def seen(self) -> str:
        """How many rows were looked at, for people."""
        if self.total is None or self.looked >= self.total:
            return f"{self.looked:,} rows"
        return f"{self.looked:,} rows looked at, of {'' if self.exact else 'about '}{self.total:,}"


def look_at(
    name: str,
    shape: Shape | None,
    stage: Stage,
    task: str = "",
    columns: Mapping[str, str] | None = None,
    root: str = "",
) -> Survey | None:
    """What is in a dataset, named as ``--dataset`` takes it; None for an id on a hub, a folder, or an unknown kind.

    Rows are judged by `shape`, after their columns are renamed; without one only whether they can be read. Their
    pictures are looked for here, and at `root`. Raises TunekitError, exit code 4, where the file is missing, empty or
    unreadable.
    """
    path = local_file(name)
    if path is None:
        return None
    state = path.stat()
    here = str(Path.cwd()), root
    renamed = tuple((columns or {}).items())
    return _look(path, state.st_size, state.st_mtime_ns, here, shape, stage.name, task, renamed)


def first_rows(path: Path) -> list[dict[str, Any]]:
    """The first rows of a file, as far as they can be read without PyArrow; of Parquet one that stands for all."""
    look = Survey(path)
    if path.suffix == ".arrow":
        return []
    rows = _columns_of(look) if path.suffix == ".parquet" else _rows(look)
    return [row for _, row in islice(rows, ROWS)]


def check_datasets(
    names: list[str],
    stage: Stage,
    shape: Shape | None,
    task: str = "",
    columns: Mapping[str, str] | None = None,
    root: str = "",
) -> list[Survey]:
    """`look_at` each dataset. Raises TunekitError, exit code 4, where too many rows of one will not do, too."""
    found = []
    for look in (look_at(name, shape, stage, task, columns, root) for name in names):
        if look is None:
            continue
        if look.first and look.refused:
            kind = NotHere if look.first.elsewhere else TunekitError
            raise kind(look.in_words(), look.first.hint, Exit.DATA)
        found.append(look)
    return found


@lru_cache(maxsize=32)
def _look(
    path: Path,
    _size: int,
    _time: int,
    here: tuple[str, str],
    shape: Shape | None,
    name: str,
    task: str,
    renamed: tuple[tuple[str, str], ...],
) -> Survey:
    look, stage, columns = Survey(path), STAGES[name], dict(renamed)
    if path.suffix == ".arrow":
        look.exact = False
        return look
    rows = _columns_of(look) if path.suffix == ".parquet" else _rows(look)
    for line, found in rows:
        row = renamed_row(found, columns)
        look.looked += 1
        pictured = sees_pictures(row)
        _judge(look, line, row, shape, stage, task, here[1] if pictured else None)
        look.pictures += pictured
        look.fewer += pictured and 0 < marks_in(row) < len(pictures_of(row))
        _tally(look, row, pictured=pictured)
    if path.suffix != ".parquet" and not look.looked:
        example = (shape or stage.rows).example
        raise TunekitError(f"{path} is empty", f"write one row a line: {example}", Exit.DATA)
    return look


def _judge(
    look: Survey, line: int, row: dict[str, Any], shape: Shape | None, stage: Stage, task: str, root: str | None
) -> None:
    """Judge a row; `root` is where its pictures lie, None where it has none."""
    problem = row_problem(row, shape, task or stage.name) if shape else None
    absent = None
    if problem is None and root is not None and look.pictures < PICTURES:
        problem = absent = picture_problem(row, root)
    if problem is None:
        return
    look.bad += 1
    if look.first is None:
        hint = "paths begin where tunekit is started, or at --image-root DIR"
        hint = hint if absent or shape is None else hint_for(row, shape, stage, task)
        look.first = Fault(line, problem, hint, elsewhere=absent is not None)


def _tally(look: Survey, row: dict[str, Any], *, pictured: bool) -> None:
    label = row.get("label")
    if isinstance(label, (bool, int)):
        look.labels.add(bool(label))
        look.classes = max(look.classes, int(label))
    turns = [turn for turn in conversation_of(row) or () if isinstance(turn, dict)]
    look.tools += bool(row.get("tools")) or any(_calls(turn) for turn in turns)
    if not turns:
        answer = next((row[key] for key in ANSWER if isinstance(row.get(key), str)), None)
        look.answers += answer is not None
        look.thinks += _thinks(answer)
        return
    look.unasked += not pictured and all(_role(turn) in SPOKEN for turn in turns)
    if _role(turns[-1]) in ASSISTANTS or "assistant" in turns[-1]:
        look.answers += 1
        look.thinks += any(_thinks(turn.get(key)) for turn in turns for key in SAYING) or any(
            turn.get("reasoning_content") for turn in turns
        )


def _role(turn: dict[str, Any]) -> str:
    return str(turn.get(ROLES[0]) or turn.get(ROLES[1]) or "")


def _calls(turn: dict[str, Any]) -> bool:
    return bool(turn.get("tool_calls")) or _role(turn) in TOOLS


def _thinks(answer: Any) -> bool:
    return isinstance(answer, str) and "think>" in answer and THOUGHT.search(answer) is not None


def _rows(look: Survey) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows that are looked at; afterwards it is known how many there are."""
    file = look_into(look.path)
    refuse_problems(file)
    if file.kind in (LINES, TEXT):
        with file.open() as lines:
            yield from _lines(look, file, lines)
        return
    look.total = 0
    for entry in file.entries():
        yield entry.number, sound_row(file, entry)
        look.total = entry.number
        if entry.past > READ_WHOLE:
            look.total, look.exact = round(entry.number * look.path.stat().st_size / entry.past), False
            return


def _lines(look: Survey, file: RowFile, lines: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    number = rows = blank = 0
    size = look.path.stat().st_size
    stride = max(0, min(size, COUNTED) - READ_WHOLE) // SPREAD
    while True:
        if stride and lines.tell() >= READ_WHOLE:
            piece = lines.read(stride) + lines.readline()
            passed = piece.count(b"\n") + (not piece.endswith(b"\n") and bool(piece))
            number, rows = number + passed, rows + passed
        line = b"" if lines.tell() > COUNTED else lines.readline(LONGEST + 1)
        if not line:
            break
        number += 1
        if number == 1:
            line = line.removeprefix(BOM_UTF8)
        if line.strip():
            rows += 1
            yield number, sound_row(file, line_entry(file, number, line))
        else:
            blank += 1
    past = lines.tell()
    look.total = rows if past >= size else round(rows * size / max(1, past))
    look.exact = past >= size and not (blank and stride)


def _columns_of(look: Survey) -> Iterator[tuple[int, dict[str, Any]]]:
    """A row that stands for those of a Parquet file, of which the columns are known and not the values."""
    names, look.total = parquet_shape(look.path)
    if not look.total:
        raise TunekitError(f"{look.path} is empty", "it has columns and no row", Exit.DATA)
    turn = {"role": USERS[0], "content": "a"}
    turns = [turn, {"role": "assistant", "content": "b"}]
    known = {
        **dict.fromkeys(MESSAGES, turns),
        "positive_messages": [[turn]],
        "negative_messages": [[turn]],
        "rejected_messages": [turn, {"role": "assistant", "content": "c"}],
        "label": 1,
        "tools": None,
        **dict.fromkeys(("images", "image", "videos", "video", "audios", "audio")),
    }
    yield 1, {name: known.get(name, f"{name} of a row") for name in names}
