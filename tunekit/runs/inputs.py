"""What a run learns from, remembered as it was: its rows, the shape of its model, the adapters that it began with.

A resumed run skips rows by count, and loads the optimizer of the parameters that there were: on other rows or another
model it would go on in silence, and learn something else.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tunekit.data.files import local_file
from tunekit.engine.plugin import bare
from tunekit.errors import Exit, TunekitError, counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tunekit.plan.plan import Plan
    from tunekit.plan.settings import Value

Known: TypeAlias = "dict[str, dict[str, Any]]"

DATA = ("dataset", "val_dataset")
FOLDERS = ("model", "adapters", "ref_adapters", "ref_model", "reward_model", "teacher_model")
"""Flags that name rows, and those that name models and adapters."""

SHAPES = ("config.json", "adapter_config.json")
"""What says the shape of a model or of an adapter."""

WHOLE, PIECE, EDGE = 256 * 2**20, 2**20, 8 * 2**20
"""Files up to so many bytes are read whole, a piece at a time; of larger ones the two edges."""


def look_at_inputs(plan: Plan) -> Known:
    """What a plan learns from, as it is now: what is on this disk, not what a hub keeps."""
    found: Known = {}
    for flag in DATA:
        for name in plan.words(flag):
            path = local_file(bare(name))
            if path and path.is_file():
                found[bare(name)] = {"what": "rows", **_content(path)}
    for flag in FOLDERS:
        for name in _names(plan.get(flag)):
            for file in _of_folder(Path(name).expanduser()):
                what = "shape" if file.name in SHAPES else "weights"
                found[str(file)] = {"what": what, **(_content(file) if what == "shape" else _size(file))}
    return found


def _names(value: Value | None) -> list[str]:
    return value if isinstance(value, list) else [value] if isinstance(value, str) else []


def _of_folder(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (folder / name for name in SHAPES if (folder / name).is_file())
        yield from sorted(file for file in folder.glob("*.safetensors") if file.is_file())


def _size(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size}


def _content(file: Path) -> dict[str, Any]:
    """Size, time of the last change, hash, and of a file that is read whole its lines."""
    state = file.stat()
    digest, lines, last = hashlib.sha256(), 0, b"\n"
    with file.open("rb") as stream:
        if state.st_size <= WHOLE:
            while piece := stream.read(PIECE):
                digest.update(piece)
                lines += piece.count(b"\n")
                last = piece[-1:]
        else:
            digest.update(stream.read(EDGE))
            stream.seek(-EDGE, 2)
            digest.update(stream.read(EDGE))
    known: dict[str, Any] = {"bytes": state.st_size, "changed": state.st_mtime_ns, "sha256": digest.hexdigest()}
    return known | ({"lines": lines + (last != b"\n")} if state.st_size <= WHOLE else {})


def what_changed(before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is another than when the run began, a line each. What is gone is for others to say."""
    lines = []
    for name, old in before.items():
        new = now.get(name)
        if new is None:
            if old.get("what") != "rows":
                lines.append(f"{name} is gone")
        elif [old.get(key) for key in ("bytes", "sha256")] != [new.get(key) for key in ("bytes", "sha256")]:
            lines.append(f"{name} was changed since the run began: {_words(old)} then, {_words(new)} now")
    begun = [name for name in now if name not in before and now[name].get("what") == "shape"]
    return lines + [f"{name} was not there when the run began" for name in begun]


def _words(known: Mapping[str, Any]) -> str:
    size = f"{known.get('bytes', 0):,} bytes"
    lines = known.get("lines")
    return f"{counted(lines, 'line')} ({size})" if isinstance(lines, int) and known.get("what") == "rows" else size


def check_inputs(before: Mapping[str, Mapping[str, Any]], now: Known, *, force: bool) -> list[str]:
    """What changed, for people. Raises TunekitError, exit code 4, where something did and that was not allowed."""
    changed = what_changed(before, now) if before else []
    if not changed or force:
        return changed
    more = f", and {len(changed) - 1} more" if len(changed) > 1 else ""
    onward = "put it back; or train on it as a run of its own: --adapters CHECKPOINT with another --name"
    hint = f"{onward}; or --force, which goes on by the count of steps in what is there now"
    raise TunekitError(f"{changed[0]}{more}", hint, Exit.DATA)
