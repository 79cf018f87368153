"""Where a run is: a folder for a new one, which nobody else has, and that of one that is there."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.files import path_of
from tunekit.runs.folder import RUNS, RunFolder, unwritable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunekit.runs.folder import Run

LONGEST_NAME = 200
"""Characters; file systems take 255 bytes."""

SWEEP_FILE = "sweep.json"
"""In a folder of its own: the runs of a sweep."""

BEFORE_IT_BEGINS = frozenset({".lock", "command.sh", "plugin.py", "data"})
"""What may stand in the folder of a run before its ``run.json``."""


def new_place(name: str, output_dir: str, default: str) -> tuple[str, Path]:
    """Name and folder of a new run. Raises TunekitError where those that the user chose are taken."""
    if output_dir:
        path = path_of(output_dir)
        if path.exists() and (not path.is_dir() or not _free(path)):
            raise TunekitError(f"--output-dir {output_dir} exists and is not empty", _taken(path))
        return name or path.name, path
    if name:
        check_name(name)
        path = RUNS / name
        if path.exists() and not _abandoned(path):
            raise TunekitError(f"the run {name} exists already in {path}", _taken(path))
        return name, path
    chosen = next(name for name in _numbered(default) if not (RUNS / name).exists())
    return chosen, RUNS / chosen


def check_name(name: str) -> None:
    """Raise TunekitError where a name cannot be that of a folder in ``runs/``."""
    if "/" in name or name.startswith((".", "-")) or len(name) > LONGEST_NAME:
        raise TunekitError(f"--name {name} cannot be a folder's name", "use --output-dir for a path")


def _numbered(name: str) -> Iterator[str]:
    return (f"{name}-{number}" if number > 1 else name for number in itertools.count(1))


def claim(run: Run) -> Run:
    """A run whose name tunekit chose, with a folder that nobody else has taken meanwhile; others as they are."""
    if not run.chosen:
        return run
    for name in _numbered(run.chosen):
        path = RUNS / name
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise unwritable(path, error) from error
        return replace(run, name=name, path=path)
    raise AssertionError("numbers do not end")


def _free(path: Path) -> bool:
    try:
        return not any(path.iterdir()) or _abandoned(path)
    except OSError as error:
        raise TunekitError(f"{path} cannot be read: {error.strerror}", "take another --output-dir") from error


def _abandoned(path: Path) -> bool:
    """Whether a folder holds nothing but what a run leaves that was stopped before it began."""
    try:
        names = [entry.name for entry in path.iterdir()]
    except OSError:
        return False
    return ".lock" in names and all(
        name in BEFORE_IT_BEGINS or name.startswith((".run.", ".command.")) for name in names
    )


def _taken(path: Path) -> str:
    if not (path / "run.json").is_file():
        return "take another one, or empty it"
    onward = "to train it further add --epochs N or --max-steps N"
    return f"go on with it: tunekit resume {path}; {onward}; or take another name"


def find_run(name: str) -> RunFolder:
    """The run of that name below ``runs/``, or in the folder of that path, or around a checkpoint or output folder.

    Raises TunekitError where there is none.
    """
    for path in (RUNS / name, path_of(name)):
        if (path / "run.json").is_file():
            return RunFolder(path)
    given = path_of(name)
    around = given.parent if given.name == "output" else given.parents[1] if given.parent.name == "output" else None
    if around and given.is_dir() and (around / "run.json").is_file():
        return RunFolder(around)
    recipe = next((path for path in (RUNS / name, Path(name)) if (path / "recipe.json").is_file()), None)
    if recipe:
        stages = sorted(path.parent.name for path in recipe.glob("*/run.json"))
        hint = f"name one of its stages, such as {recipe / stages[0]}, or go on with tunekit run" if stages else None
        raise TunekitError(f"{name} is a recipe's run, not a single one", hint)
    if (RUNS / name / SWEEP_FILE).is_file():
        hint = f"its runs are {name}-1, {name}-2 …; the same tunekit sweep goes on with it and shows what came out"
        raise TunekitError(f"{name} is a sweep, not a single run", hint)
    known = sorted(path.parent.name for path in RUNS.glob("*/run.json"))
    raise TunekitError(f"there is no run {name}", f"runs here: {', '.join(known)}" if known else "no run is in ./runs")


def checkpoint_named(name: str, folder: RunFolder) -> str:
    """The checkpoint of a run that a path names, as in ``runs/try/output/checkpoint-4``; empty where it names none."""
    path = Path(name).expanduser()
    inside = path.is_dir() and path.resolve().parent == folder.output.resolve()
    return path.resolve().name if inside and path.resolve().name.startswith("checkpoint-") else ""
