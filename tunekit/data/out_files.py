"""The files that a conversion writes, line by line: all of them appear when they are complete, or none does."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
from contextlib import ExitStack
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from tunekit.data.files import shown
from tunekit.data.turns import ShapelessRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.data.conversion import Conversion

ENDINGS: Mapping[bytes, str] = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp", b"GIF8": ".gif"}
"""How the bytes of a picture begin, and what its file is called."""


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


class OutFiles:
    """The files that are written: under other names until all are complete."""

    def __init__(self, asked: Conversion) -> None:
        self._asked, self._mark = asked, os.urandom(4).hex()
        self._sweep()
        self._files: dict[str, IO[bytes]] = {}
        self._stack = ExitStack()
        self._folder = self._hidden(asked.pictures)

    def __enter__(self) -> OutFiles:
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
        file = self._stack.enter_context(cast("IO[bytes]", self._hidden(self._place(word)).open(mode)))
        with contextlib.suppress(OSError):  # a disk that knows no locks
            flock(file, LOCK_EX | LOCK_NB)
        return file

    def _sweep(self) -> None:
        """Delete what a conversion to the same file has left that was killed: nobody holds its lock."""
        for word in ("", "val", "left", "pool"):
            name = self._place(word).name
            for path in self._asked.out.parent.glob(f".{glob.escape(name)}.{'[0-9a-f]' * 8}"):
                with contextlib.suppress(OSError), path.open("r+b") as file:
                    flock(file, LOCK_EX | LOCK_NB)
                    path.unlink()
                    shutil.rmtree(self._asked.pictures.with_name(f".{self._asked.pictures.name}{path.suffix}"), True)

    def _place(self, word: str) -> Path:
        return self._asked.beside(word) if word else self._asked.out

    def _hidden(self, path: Path) -> Path:
        return path.with_name(f".{path.name}.{self._mark}")
