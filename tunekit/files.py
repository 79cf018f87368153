"""Where tunekit keeps what is not part of a run, and how it reads and writes files: whole, or with a clear word.

Whoever reads what another wrote takes it from here: a path, a text, JSON, TOML, a number. Each of these helpers ends,
whatever it is given: at a pipe or a device, at a file that does not fit into the memory, at brackets without end.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.errors import Exit, TunekitError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LARGEST = 64 * 2**20
"""Bytes of one file that are read as a whole. The largest that anybody writes by hand are a few thousand times smaller;
a tokenizer.json of 64 MiB is not looked into here."""

LONGEST_NAME = 255
"""Bytes of one part of a path, on all common file systems."""

GREATEST = 2**63 - 1
"""The largest whole number that PyTorch and a JSON reader of another language take."""


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


def path_of(word: str, code: Exit = Exit.USAGE) -> Path:
    """The path that a word means; ``~`` stands for the home folder, where there is one of that name.

    Raises TunekitError, with this exit code, for what no file can be called.
    """
    try:
        possible = "\0" not in word and all(len(os.fsencode(part)) <= LONGEST_NAME for part in word.split("/"))
    except UnicodeEncodeError:  # half a character, as JSON can write it
        possible = False
    if not possible:
        raise TunekitError(f"{shortened(word)!r} cannot be the name of a file", code=code)
    return Path(os.path.expanduser(word))  # noqa: PTH111 - Path.expanduser fails where there is no such user


def shortened(word: str, most: int = 60) -> str:
    """A word of the user's for a message: the beginning of a long one."""
    return word if len(word) <= most else f"{word[:most]}… ({len(word):,} characters)"


def read_bytes(path: Path, largest: int = LARGEST) -> bytes:
    """The content of a file. Raises OSError, also for what is no file (a pipe would wait for ever) or is larger."""
    try:
        kind = path.stat().st_mode
    except ValueError as error:  # a null byte in its name
        raise OSError(errno.EINVAL, "cannot be the name of a file", str(path)) from error
    if not stat.S_ISREG(kind):
        what = "it is a folder" if stat.S_ISDIR(kind) else "it is a pipe or a device, not a file"
        raise OSError(errno.EINVAL, what, str(path))
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise OSError(errno.EFBIG, f"it is larger than {largest / 2**20:.3g} MiB", str(path))
    return content


def read_text(path: Path, largest: int = LARGEST) -> str:
    """The text in a file. Raises OSError as `read_bytes`, and ValueError where it is not UTF-8."""
    text = read_bytes(path, largest).decode("utf-8")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says. Raises ValueError, and nothing else, where it says nothing."""
    try:
        return json.loads(text)
    except (RecursionError, MemoryError):
        raise ValueError("it is nested too deep") from None


def read_json(path: Path) -> Any:
    """What a JSON file says. Raises OSError or ValueError."""
    return parse_json(read_text(path))


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none, or it is damaged."""
    try:
        document = read_json(path)
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """The content of a TOML file and its text, for `line_of`. Raises TunekitError where it is unreadable or no TOML."""
    text = settings_text(path)
    return parse_toml(text, str(path)), text


def settings_text(path: Path) -> str:
    """The text of a file of settings. Raises TunekitError where it cannot be read, or is not UTF-8."""
    try:
        return read_text(path)
    except OSError as error:
        raise TunekitError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise TunekitError(f"{path}: not UTF-8 text", "save it as UTF-8") from error


def parse_toml(text: str, where: str, number: Callable[[str], Any] = float) -> dict[str, Any]:
    """What a TOML text says, its fractions read by `number`. Raises TunekitError, which names `where`."""
    try:
        table: dict[str, Any] = tomllib.loads(text, parse_float=number)
    except RecursionError:
        raise TunekitError(f"{where}: not valid TOML: it is nested too deep") from None
    except ValueError as error:  # a number of 5,000 digits is one too
        hint = "strings stand in quotes, lists in [ ]"
        raise TunekitError(f"{where}: not valid TOML: {shortened(str(error), 200)}", hint) from error
    return table


def whole_of(word: str) -> int:
    """The whole number that a word is. Raises ValueError where it is none, or one that no computer counts to."""
    number = int(word)
    if abs(number) > GREATEST:
        raise ValueError(f"{shortened(word)} is too large")
    return number


def number_of(word: str) -> float:
    """The number that a word is. Raises ValueError where it is none: ``nan``, ``inf`` and 1e400 are none."""
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"{shortened(word)} is no number that can be computed with")
    return number


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


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits; it is read piece by piece."""
    import hashlib  # loads OpenSSL, which a dry run can do without

    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
