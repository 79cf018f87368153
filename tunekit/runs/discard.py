"""Delete a run: its folder, with all that it learned."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.runs.history import RUNNING

if TYPE_CHECKING:
    from tunekit.runs.history import PastRun


def discard_run(run: PastRun) -> None:
    """Delete the folder of a run. Raises TunekitError where somebody works on it: the lock is taken first."""
    path = run.folder.path
    if run.status == RUNNING:
        raise TunekitError(f"{run.name} is running", f"tunekit runs stop {run.name}")
    if path.is_symlink():
        raise TunekitError(f"{path} is a link to {path.resolve()}", "delete the link or the folder yourself")
    try:
        with run.folder:
            shutil.rmtree(path)
    except OSError as error:
        raise TunekitError(f"{path} cannot be deleted: {error.strerror}") from error


def size_of(run: PastRun) -> int:
    """Bytes that the files of a run take."""
    files = (file for file in run.folder.path.rglob("*") if file.is_file() and not file.is_symlink())
    return sum(file.stat().st_size for file in files)
