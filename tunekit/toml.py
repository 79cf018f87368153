"""Read a TOML file, or say in one line what is wrong with it and where."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from pathlib import Path


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """The content of a TOML file and its text (to find line numbers in).

    Raises:
        TunekitError: the file cannot be read or is not TOML, with the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise TunekitError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TunekitError(f"{path}: not UTF-8 text", "save it as UTF-8") from error
    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as error:
        raise TunekitError(f"{path}: not valid TOML: {error}", "strings stand in quotes, lists in [ ]") from error


def line_of(text: str, key: str, table: str | None = None, nth: int = 1) -> int:
    """The line (from 1) on which `key` is set in the TOML `text`, in ``[table]`` where one is named; else 1."""
    current: str | None = None
    seen = 0
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.strip()
        if bare.startswith("["):
            current = bare.strip("[] \t").split("]")[0].strip()
            seen += current == table
            if key == current:
                return number
        elif bare.split("=")[0].strip().strip("\"'") == key and (table is None or (table == current and seen == nth)):
            return number
    return 1
