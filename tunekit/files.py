"""Where tunekit keeps what is not part of a run, and how it reads and writes files: whole, or with a clear word."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib
if TYPE_CHECKING:
    from collections.abc import Mapping


def shipped_presets() -> Path:
    """The folder of presets that tunekit brings: in the wheel, or beside the package in a checkout."""
    return _shipped("presets")


def shipped_recipes() -> Path:
    """The folder of recipes that tunekit brings, as `shipped_presets`."""
    return _shipped("recipes")


def _shipped(folder: str) -> Path:
    inside = Path(__file__).parent / f"_{folder}"
    return inside if inside.is_dir() else Path(__file__).parents[1] / folder


def config_folder() -> Path:
    """The user's ``config.toml``, ``presets/`` and ``recipes/``. ``TUNEKIT_CONFIG`` names another folder."""
    import platformdirs

    return Path(os.environ.get("TUNEKIT_CONFIG") or platformdirs.user_config_dir("tunekit"))


def cache_folder() -> Path:
    """What can be made again: flag tables, downloads. ``TUNEKIT_CACHE`` names another folder."""
    import platformdirs

    return Path(os.environ.get("TUNEKIT_CACHE") or platformdirs.user_cache_dir("tunekit"))


def write_atomically(path: Path, content: str | bytes, mode: int = 0o666) -> None:
    """Write `content` so that a reader finds the old one or the new, also after a power cut; makes the folder.

    The umask takes from `mode`, as it does from that of any new file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.urandom(4).hex()}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def open_own(path: Path, flags: int) -> int:
    """Open a file of tunekit's own, made where it is not there; gives its descriptor.

    Raises TunekitError where it is a link, by either kind of which another file would be written, or no file at all.
    """
    try:
        careful = os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(path, (flags & ~os.O_TRUNC) | careful, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise
        raise TunekitError(f"{path} is a link or no plain file, and is not written to", "delete it") from error
    state = os.fstat(handle)
    if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
        os.close(handle)
        raise TunekitError(f"{path} is a link or no plain file, and is not written to", "delete it")
    os.set_blocking(handle, True)
    if flags & os.O_TRUNC:
        os.ftruncate(handle, 0)
    return handle


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none, or it is damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """The content of a TOML file and its text, for `line_of`. Raises TunekitError where it is unreadable or no TOML."""
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


def keep_answer(place: Path, answer: Mapping[str, Any]) -> None:
    """Write a JSON object that `read_object` finds next time. A cache that cannot be written is no error."""
    with contextlib.suppress(OSError):
        write_atomically(place, json.dumps(answer))
