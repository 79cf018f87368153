"""``--fix``: the rows that will do, as they are or mended, in one file, and in another what was left out, with why.

No row is lost: each stands in one of the two. What is mended is how a row is written, never what it says: its encoding,
its file's kind, the shape that a stage asks for.
"""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunekit.data.entry import Entry, doubled_key
from tunekit.data.findings import BAD, FORM
from tunekit.data.judge import row_encoder
from tunekit.data.normal import normal_row
from tunekit.data.read import LINES
from tunekit.data.stage_rows import stage_rows
from tunekit.data.survey import SHAPELESS, DatasetCheck
from tunekit.data.suspicious import repaired
from tunekit.errors import TunekitError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from tunekit.data.judge import Judge

ENDING = ".jsonl"


@dataclass
class Mended:
    """What was written for one file.

    Attributes:
        kept: rows written to `out`; of these `mended` are written otherwise than they stood.
        left: rows written to `beside`, by the reason.
    """

    source: Path
    out: Path
    beside: Path
    kept: int = 0
    mended: int = 0
    left: dict[str, int] = field(default_factory=dict)


def mend_files(done: DatasetCheck, out: Path) -> list[Mended]:
    """Write the rows of a dataset that will do, and what is left: to `out`, or for several files into a folder there.

    Raises TunekitError where there is such a file already.
    """
    names = _names(done)
    several = len(done.files) > 1
    if not several and out.suffix != ENDING:
        raise TunekitError(f"--fix {out}: the rows are written as JSON lines", f"--fix {out}{ENDING}")
    places = [out / name for name in names] if several else [out]
    written = [
        Mended(check.file.path, place, place.with_suffix(f".left{ENDING}")) for check, place in _zip(done, places)
    ]
    taken = next((path for one in written for path in (one.out, one.beside) if path.exists()), None)
    if taken:
        raise TunekitError(f"{taken} is there already, and --fix writes a new file", "name another one, or delete it")
    for number, one in enumerate(written):
        _mend_file(done, number, one)
    return written


def _zip(done: DatasetCheck, places: list[Path]) -> Iterator[tuple[Any, Path]]:
    return zip(done.files, places, strict=True)


def _names(done: DatasetCheck) -> list[str]:
    """A name for the rows of each file; those of one name in several folders are told apart by a number."""
    found: list[str] = []
    for check in done.files:
        stem = check.file.path.name.partition(".")[0] or "rows"
        again = sum(name.partition(".")[0].rpartition("-")[0] == stem or name == stem + ENDING for name in found)
        found.append(f"{stem}-{again + 1}{ENDING}" if again else f"{stem}{ENDING}")
    return found


def _mend_file(done: DatasetCheck, number: int, one: Mended) -> None:
    one.out.parent.mkdir(parents=True, exist_ok=True)
    check, judge = done.files[number], done.judge(number)
    repeated = done.repeated.get(number, {})
    temporary = [path.with_name(f".{path.name}.part") for path in (one.out, one.beside)]
    try:
        with temporary[0].open("wb") as kept, temporary[1].open("wb") as left:
            for entry in check.file.entries():
                if entry.row is not None and entry.number in repeated:
                    _leave(left, one, entry, _same_as(done, number, entry.number))
                    continue
                _place(kept, left, one, entry, judge, plain=check.file.kind == LINES and not check.file.problems)
        for path, place in zip(temporary, (one.out, one.beside), strict=True):
            path.replace(place)
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)


def _same_as(done: DatasetCheck, number: int, row: int) -> str:
    other, place = done.repeated[number][row]
    file = done.files[other].file
    return f"it says what {file.unit} {place}{'' if other == number else f' of {file.path}'} says"


def _place(kept: BinaryIO, left: BinaryIO, one: Mended, entry: Entry, judge: Judge, *, plain: bool) -> None:
    """Write what stands at a place to one of the two files."""
    if entry.row is None:
        _leave(left, one, entry, entry.fault)
        return
    blob = row_encoder()(entry.row)
    if twice := doubled_key(entry.raw, blob):
        _leave(left, one, Entry(entry.number, raw=entry.raw), twice)
        return
    said = judge.of_entry(entry)
    said += judge.of_text(blob) if not said else []
    rows = [entry.row]
    why = next((problem for kind, _, problem in said if kind in BAD and kind != FORM), "")
    if why:
        rows = converted(entry.row, judge)
        if not rows:
            _leave(left, one, entry, why)
            return
    mended = [repaired(row) for row in rows] if said else rows
    same = mended == [entry.row] and not entry.fault
    one.kept += len(mended)
    one.mended += not same
    if same and plain and isinstance(entry.raw, bytes):
        kept.write(entry.raw.strip() + b"\n")
    else:
        kept.writelines(_dumped(row) + b"\n" for row in mended)


def converted(row: Mapping[str, Any], judge: Judge) -> list[dict[str, Any]]:
    """The rows of the judge's stage that a row can be made into; none where it has not what they need."""
    with contextlib.suppress(*SHAPELESS):
        made = stage_rows(normal_row(row), judge.name)
        if made and not any(kind in BAD for one in made for kind, _, _ in judge.of_made(one)):
            return made
    return []


def _leave(left: BinaryIO, one: Mended, entry: Entry, why: str) -> None:
    left.write(left_line(one.source, entry, why) + b"\n")
    reason = "".join("#" if char.isdigit() else char for char in why.partition(":")[0])
    one.left[reason] = one.left.get(reason, 0) + 1


def left_line(source: Path, entry: Entry, why: str) -> bytes:
    """A line of JSON about what is left out of a file, so that whoever mends it finds all of it."""
    found: dict[str, Any] = {"file": str(source), "number": entry.number, "why": why}
    if entry.row is not None:
        found["row"] = entry.row
    elif isinstance(entry.raw, bytes):
        try:
            found["text"] = entry.raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            found["base64"] = base64.b64encode(entry.raw).decode()
    else:
        found["text"] = entry.raw
    return _dumped(found)


def _dumped(row: Any) -> bytes:
    """A row as a line; what JSON has no word for, as text."""
    return json.dumps(row, ensure_ascii=False, default=_other).encode("utf-8", "replace")


def _other(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
