"""Check every row of files: what will not do, what is odd, what stands twice; several processes read a large file."""

from __future__ import annotations

import io
import os
from array import array
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, cast

from tunekit.data.files import shown
from tunekit.data.findings import COLUMN, FORM, PICTURE, ROW, UNREADABLE, Findings
from tunekit.data.judge import NAMES, NO_CONVERSATION, Judge, row_encoder
from tunekit.data.read import HEAD, LINES, RowFile, json_lines
from tunekit.data.rows import ANSWER, MEDIA, MESSAGES, QUESTION, REJECTED, SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from tunekit.data.entry import Entry

PART = 16 * 2**20
"""Bytes of JSON lines that a process checks at once."""

SHARED_OUT = 2 * PART
"""Bytes from which on a file is shared out among processes: starting them takes some 20 ms."""

MOST = 8
"""Processes at once."""

BUCKETS = 256
"""Parts in which equal rows are looked for, so that few of the hashes are held in a set at once."""

SETS = 1000
"""Different sets of columns that are counted."""

USED = frozenset((*MESSAGES, *MEDIA, *REJECTED, *SYSTEM, "history", "tools", "objects", "label", "channel", "margin"))
"""Columns that ms-swift 4.6 uses beside questions and answers (dataset/preprocessor/core.py, standard_keys)."""

BAD = frozenset((UNREADABLE, FORM, ROW, PICTURE))
"""Kinds of findings with which a row is not trained on as it stands."""

BESIDE = frozenset(("positive_messages", "negative_messages", "chat_template_kwargs", "teacher_prompt", "instruction"))


@dataclass
class FileCheck:
    """What was seen of one file.

    Attributes:
        rows: that there are, readable or not.
        bad: rows that are left out, or stop the training.
        turns: of all conversations in ``messages``.
        columns: sets of columns, with how many rows have each and the first of these.
        hashes, numbers: of each row that was read, what it says, and where it stands.
    """

    file: RowFile
    findings: Findings = field(default_factory=Findings)
    rows: int = 0
    bad: int = 0
    turns: int = 0
    columns: dict[tuple[str, ...], list[int]] = field(default_factory=dict)
    hashes: array[int] = field(default_factory=lambda: array("q"))
    numbers: array[int] = field(default_factory=lambda: array("q"))
    lines: int = 0

    def take(self, part: FileCheck) -> None:
        """Add the next part of the file."""
        self.findings.take(part.findings, self.lines)
        self.rows, self.bad, self.turns = self.rows + part.rows, self.bad + part.bad, self.turns + part.turns
        for names, (count, first) in part.columns.items():
            known = self.columns.setdefault(names, [0, first + self.lines])
            known[0] += count
        self.hashes += part.hashes
        self.numbers.extend([number + self.lines for number in part.numbers])
        self.lines += part.lines


def check_file(file: RowFile, judge: Judge, workers: int | None = None) -> FileCheck:
    """Look at every row of a file. Raises TunekitError where it cannot be opened."""
    check = FileCheck(file)
    for problem in file.problems:
        check.findings.add(FORM, problem, str(file.path))
    processes = min(MOST, len(os.sched_getaffinity(0))) if workers is None else workers
    size = file.path.stat().st_size
    plain = file.kind == LINES and not file.packed and file.encoding in ("utf-8", "utf-8-sig")
    if plain and processes > 1 and size >= SHARED_OUT:
        for part in _parts(file, judge, size, processes):
            check.take(part)
    else:
        look_through(check, file.entries(), judge)
    if not check.rows:
        check.findings.add(UNREADABLE, "there is no row in it", str(file.path))
    _told_of_all(check, judge)
    return check


def _parts(file: RowFile, judge: Judge, size: int, processes: int) -> Iterator[FileCheck]:
    """The parts of a file in order; few of them wait to be taken."""
    with ProcessPoolExecutor(processes, get_context("fork")) as pool:
        starts = iter(range(0, size, PART))
        waiting: list[Future[FileCheck]] = []
        for start in chain(starts, [None] * (processes + 1)):
            if start is not None:
                waiting.append(pool.submit(check_part, file, judge, start))
            if waiting and (start is None or len(waiting) > processes):
                yield waiting.pop(0).result()


def check_part(file: RowFile, judge: Judge, start: int) -> FileCheck:
    """Look at the lines that begin within `PART` bytes from a place of the file."""
    check = FileCheck(file)
    with file.path.open("rb") as whole:
        part = _Part(whole, start, start + PART)
        look_through(check, json_lines(file, cast("Any", io.BufferedReader(part, HEAD))), judge)
        check.lines = part.lines
    return check


class _Part(io.RawIOBase):
    """The lines of a file that begin between two places in it."""

    def __init__(self, file: Any, start: int, end: int) -> None:
        self.lines = 0
        self._file = file
        places = []
        for place in (end, start):
            file.seek(max(0, place - 1))
            if place:
                file.readline()
            places.append(file.tell())
        self._left = max(0, places[0] - places[1])

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._file.read(min(len(buffer), self._left))
        self._left -= len(piece)
        self.lines += piece.count(b"\n")
        buffer[: len(piece)] = piece
        return len(piece)


def look_through(check: FileCheck, entries: Iterable[Entry], judge: Judge) -> None:
    """Look at entries of a file, and add what is found."""
    encode, findings, columns, file = row_encoder(), check.findings, check.columns, str(check.file.path)
    note, place = check.hashes.append, check.numbers.append
    for entry in entries:
        check.rows += 1
        number, row = entry.number, entry.row
        said = judge.of_entry(entry)
        if row is not None:
            names = tuple(row)
            known = columns.get(names)
            if known is not None:
                known[0] += 1
            elif len(columns) < SETS:
                columns[names] = [1, number]
            turns = row.get("messages")
            if type(turns) is list:
                check.turns += len(turns)
            blob = encode(_bare(row))
            note(hash(blob))
            place(number)
            said += judge.of_text(blob)
        if said:
            check.bad += any(kind in BAD for kind, _, _ in said)
            for kind, group, problem in said:
                findings.add(kind, problem, file, number, group)


def _bare(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its number."""
    return row if NAMES.isdisjoint(row) else {name: value for name, value in row.items() if name not in NAMES}


def _told_of_all(check: FileCheck, judge: Judge) -> None:
    """What is said of the columns of all rows together."""
    file = str(check.file.path)
    talks = {names: one for names, one in check.columns.items() if not set(MESSAGES).isdisjoint(names)}
    others = {names: one for names, one in check.columns.items() if names not in talks}
    if talks and others and not judge.conversations:
        for count, first in others.values():
            check.findings.add(ROW, NO_CONVERSATION, file, first, rows=count)
            check.bad += count
    for name, count in unused_columns(check, judge).items():
        problem = f'the column "{shown(name)}" is not used: {judge.name} does not see it'
        check.findings.add(COLUMN, problem, file, group=name, rows=count)


def unused_columns(check: FileCheck, judge: Judge) -> dict[str, int]:
    """Columns that ms-swift throws away, with the number of rows that have them."""
    shape = judge.shape
    if shape is None or (not shape.answered and not shape.classed and not shape.near):
        return {}  # reward functions see all columns
    found: Counter[str] = Counter()
    for names, (count, _) in check.columns.items():
        talks = not set(MESSAGES).isdisjoint(names) or "messages" in judge.columns.values()
        for name in names:
            lower = name.lower()
            read = lower in USED or lower in BESIDE or name in judge.columns or lower in NAMES
            if not read and (talks or lower not in (*QUESTION, *ANSWER)):
                found[name] += count
    return dict(found)


def repeated_rows(checks: Sequence[FileCheck], order: Iterable[int]) -> dict[int, dict[int, tuple[int, int]]]:
    """Rows that say what an earlier one says: by the number of the file and the row's, the file and row of the first.

    Files are compared in this order.

    The rows of all files are compared by 64 bits of a hash, a part of them at a time: 16 bytes a row, and no more.
    """
    found: dict[int, dict[int, tuple[int, int]]] = {}
    shelves = [array("q") for _ in range(BUCKETS)]
    for number in order:
        for place, value in enumerate(checks[number].hashes):
            shelves[value & 255].extend((value, number << 40 | place))
    for shelf in shelves:
        first: dict[int, int] = {}
        for at in range(0, len(shelf), 2):
            known = first.setdefault(shelf[at], shelf[at + 1])
            if known != shelf[at + 1]:
                file, place = shelf[at + 1] >> 40, shelf[at + 1] & (2**40 - 1)
                row = checks[known >> 40].numbers[known & (2**40 - 1)]
                found.setdefault(file, {})[checks[file].numbers[place]] = (known >> 40, row)
    return found
