"""The check of a dataset: which stages its rows suit, what will not do in them, and what its files have in common."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from tunekit.data.check import row_problem
from tunekit.data.checking import FileCheck, check_file, repeated_rows
from tunekit.data.columns import OtherShape, renamed_row, suggested_columns
from tunekit.data.files import local_file
from tunekit.data.findings import ERROR, FORM, REPEATED, SHARED, Finding, Findings
from tunekit.data.judge import Judge
from tunekit.data.look import TOO_MANY
from tunekit.data.normal import normal_row
from tunekit.data.read import files_in, look_into
from tunekit.data.stage_rows import SHAPES_BY_NAME
from tunekit.data.turns import ShapelessRow
from tunekit.errors import Exit, TunekitError
from tunekit.files import path_of
from tunekit.stages import STAGES, TASKS, USUAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tunekit.data.checking import Watch
    from tunekit.stages import Shape

SAMPLE = 200
"""Rows by which the stage is chosen that a dataset is for."""

PAIRED = next(
    one.name for one in sorted(STAGES.values(), key=attrgetter("suggested")) if one.suggested and one.rows.pairs
)
"""What rows with a better and a worse answer are judged for."""

SHAPELESS = (ShapelessRow, ValueError, TypeError, KeyError, AttributeError, IndexError)
"""What a row of any kind may raise on the way to another shape."""

VALIDATION = re.compile(r"(?:^|[._-])(?:val|valid|validation|dev|test|eval)(?:[._-]|$)", re.IGNORECASE)
"""What names a file whose rows are for validation."""


@dataclass
class DatasetCheck:
    """What was found in a dataset.

    Attributes:
        stage: by which the rows were judged, or the task; `chosen` where nobody named it.
        suits: stages and tasks that the first rows are fit for.
        shape: what the rows are, for people; empty where they are of no known shape.
        columns: what must be renamed, which tunekit does by itself.
        files: one after the other, and of `validation` the numbers.
        repeated: as `repeated_rows` gives them; of rows in both kinds of files those that are trained on.
        findings: of all files.
    """

    stage: str
    chosen: bool
    suits: list[str]
    shape: str
    columns: dict[str, str]
    files: list[FileCheck]
    validation: frozenset[int]
    repeated: dict[int, dict[int, tuple[int, int]]] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(one.rows for one in self.files)

    @property
    def bad(self) -> int:
        """Rows that are left out, or stop the training."""
        return sum(one.bad for one in self.files)

    @property
    def too_many(self) -> bool:
        """Whether so many rows will not do that a run is refused."""
        return self.bad > TOO_MANY * self.rows

    @property
    def errors(self) -> list[Finding]:
        """What is not trained on, or stops the training."""
        return [one for one in self.findings.all() if one.level == ERROR]

    def judge(self, number: int) -> Judge:
        """What judges the rows of a file once all of them are known."""
        talks = [set(names) & {"messages", "conversations", "conversation"} for names in self.files[number].columns]
        return Judge(SHAPES_BY_NAME[self.stage], self.stage, self.columns, conversations=any(talks))


def paths_of_rows(name: str) -> list[Path]:
    """The files that a name means: one, or those of a folder. Raises TunekitError, exit code 4, where there is none."""
    if not name.strip():
        raise TunekitError("the name of a file of rows is empty", "a variable of the shell may be", Exit.DATA)
    path = path_of(name, Exit.DATA)
    if path.is_dir():
        found = files_in(path)
        if not found:
            raise TunekitError(f"{name}: there is no file of rows in this folder", code=Exit.DATA)
        return found
    if path.is_file():
        return [path]
    local_file(name)  # it says what is wrong with the name
    raise TunekitError(
        f"{name} is not on this machine", "give a file; an id on a hub is checked once it is here", Exit.DATA
    )


def check_dataset(
    names: Sequence[str], validation: Sequence[str] = (), stage: str = "", watch: Watch = lambda *_: None
) -> DatasetCheck:
    """Look at every row of files, of which `validation` are for validation; rows are judged as the stage's.

    Raises TunekitError, exit code 4, where a file cannot be opened.
    """
    paths = [path for name in names for path in paths_of_rows(name)]
    held = [path for name in validation for path in paths_of_rows(name)]
    paths = list(dict.fromkeys((*paths, *held)))
    files = [look_into(path) for path in paths]
    rows = [one.row for file in files for one in islice(file.entries(), SAMPLE) if one.row is not None][: 2 * SAMPLE]
    suits = stages_for(rows)
    usual = (*stages_for(rows, bad=0.5), *_made_into(rows), USUAL)
    judged = stage or (PAIRED if _are_pairs(rows) else usual[0])
    shape, found = SHAPES_BY_NAME[judged], Findings()
    try:
        columns = suggested_columns(rows, shape)
    except OtherShape as error:
        columns = {}
        found.add(FORM, f"{error}: tunekit data convert makes rows of {judged} of them", str(paths[0]))
    checks = [check_file(file, Judge(shape, judged, columns), watch=watch) for file in files]
    apart = {number for number, path in enumerate(paths) if path in held or (not held and _is_validation(path))}
    apart = apart if len(apart) < len(paths) else set()
    done = DatasetCheck(judged, not stage, suits, shape_in_words(rows), columns, checks, frozenset(apart))
    for one in checks:
        found.take(one.findings, 0)
    done.findings = found
    done.repeated = repeated_rows(checks, sorted(range(len(checks)), key=lambda number: number not in apart))
    _tell_repeated(done)
    return done


def _is_validation(path: Path) -> bool:
    return VALIDATION.search(path.name.partition(".")[0]) is not None


def _tell_repeated(done: DatasetCheck) -> None:
    for number, rows in done.repeated.items():
        file = str(done.files[number].file.path)
        for row, (other, _) in sorted(rows.items()):
            shared = (number in done.validation) != (other in done.validation)
            if shared:
                problem = f"it stands in {done.files[other].file.path} too: one trains on it, the other tests with it"
            else:
                problem = "it says what an earlier row says"
            done.findings.add(SHARED if shared else REPEATED, problem, file, row)


def stages_for(rows: Sequence[Mapping[str, Any]], bad: float = TOO_MANY) -> list[str]:
    """The stages and tasks that rows are fit for, but for a share of them; the most demanding first."""
    stages = sorted(
        (one for one in STAGES.values() if one.suggested), key=lambda one: (not one.rows.answered, one.suggested)
    )
    labelled = any("label" in row for row in rows)
    near = any("positive_messages" in row or "negative_messages" in row for row in rows)
    tasks = [(name, shape) for name, shape in TASKS.items() if shape and (near if shape.near else labelled)]
    answered = sum(one.rows.answered for one in stages)
    known = [(one.name, one.rows) for one in stages]
    known[answered:answered] = tasks  # a question alone is good for less than one with its class
    return [name for name, shape in known if _suits(rows, shape, bad)] if rows else []


def _suits(rows: Sequence[Mapping[str, Any]], shape: Shape, share: float) -> bool:
    try:
        columns = suggested_columns(rows, shape)
    except OtherShape:
        return False
    bad = sum(row_problem(renamed_row(row, columns), shape, "it") is not None for row in rows)
    return bad <= share * len(rows)


def _made_into(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The task that rows can be converted to which hold texts near a text, in whatever columns."""
    for row in rows[:1]:
        with contextlib.suppress(*SHAPELESS):
            near = normal_row(row)
            return [name for name, shape in TASKS.items() if shape and shape.near and (near.positive or near.negative)]
    return []


def _are_pairs(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the first rows have a better and a worse answer, in whatever columns."""
    for row in rows[:5]:
        with contextlib.suppress(*SHAPELESS):
            if normal_row(row).rejected is None:
                return False
    return bool(rows)


def shape_in_words(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the first row of a known shape is."""
    for row in rows:
        with contextlib.suppress(*SHAPELESS):
            return normal_row(row).shape
    return ""
