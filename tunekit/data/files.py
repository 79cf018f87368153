"""Files of rows: which one a dataset's name means, of which kinds they are, and how what stands in them is shown."""

from __future__ import annotations

import contextlib
import re
import stat
from typing import TYPE_CHECKING

from tunekit.errors import Exit, TunekitError, closest
from tunekit.files import path_of

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 20
"""How many rows are looked at: enough to see the shape, instant on any file."""

LONGEST = 64 * 2**20
"""Bytes of one row: a picture in base64 has room, a file that is one endless line has not."""

FILE_TYPES = (".jsonl", ".json", ".csv", ".txt", ".parquet", ".arrow", ".tsv")
"""Endings that mark a dataset as a file, not as an id on a hub."""

JSON = (".jsonl", ".json")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
READ = (*JSON, *DELIMITERS)
"""Endings of files that can be read without PyArrow."""

NAMED_BY_SWIFT = (
    "self-cognition",
    *(f"open_jev_{name}{new}" for name in ("jev", "clef", "omnijev") for new in ("", "_v11")),
)
"""Names without an organisation that ms-swift 4.6 knows (dataset/dataset/llm.py)."""

UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters that steer a terminal, or the direction in which it writes."""


class NotHere(TunekitError):  # noqa: N818 - named as what happened
    """A file is not on this machine; it may be on the one that a plan is made for."""


def shown(text: object, limit: int = 80) -> str:
    """What stood in a file, for a message: no longer than that, and with nothing that would steer the terminal."""
    words = str(text)
    cut = words if len(words) <= limit else f"{words[:limit]}…"
    return UNSEEN.sub(lambda found: f"\\x{ord(found[0]):02x}", cut)


def local_file(name: str) -> Path | None:
    """The file that a dataset's name means, without ``#500`` behind it; None for an id on a hub or a folder.

    Raises TunekitError, exit code 4, where there is no such file, or it is of a kind that ms-swift does not read.
    """
    bare = re.sub(r"#\d+$", "", name)
    path, kind = _place_of(bare)
    if kind is not None and stat.S_ISREG(kind):
        if path.suffix not in FILE_TYPES:
            hint = f"ms-swift reads {', '.join(ending for ending in FILE_TYPES if ending != '.tsv')}"
            if path.suffix == ".gz":
                hint = f"tunekit data check {path} --fix OUT.jsonl unpacks it"
            raise TunekitError(f"dataset {shown(bare, 300)}: unknown kind of file", hint, Exit.DATA)
        return path
    if kind is not None and stat.S_ISDIR(kind):
        if not any(path.iterdir()):
            raise TunekitError(f"dataset {bare} is an empty folder", code=Exit.DATA)
        return None
    if kind is not None:
        message = f"dataset {bare} is a pipe or a device, not a file"
        raise TunekitError(message, "write the rows to a file: they are read more than once", Exit.DATA)
    if bare in NAMED_BY_SWIFT:
        return None
    looks_like_file = path.suffix in FILE_TYPES or bare.startswith((".", "/", "~")) or bare.count("/") > 1
    if looks_like_file or "/" not in re.sub(r"^(hf|ms)::", "", bare, flags=re.IGNORECASE):
        raise NotHere(f"dataset {shown(bare, 300)} does not exist", _meant(path), Exit.DATA)
    return None


def _place_of(bare: str) -> tuple[Path, int | None]:
    """Where a dataset would be, and of what kind that is; None where nothing is there."""
    path = path_of(bare, Exit.DATA)
    with contextlib.suppress(OSError, ValueError):  # ValueError: a zero byte
        return path, path.stat().st_mode
    return path, None


def _meant(path: Path) -> str:
    folder = path.parent
    near: list[str] = []
    with contextlib.suppress(OSError, ValueError):
        near = closest(path.name, [item.name for item in folder.iterdir()])
    meant = f"did you mean {' or '.join(str(folder / item) for item in near)}?"
    return meant if near else "give a file, or a hub id as organisation/name"
