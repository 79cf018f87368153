"""What the tests of runs share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from running import make_workplace

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a model and rows."""
    return make_workplace(tmp_path)


@pytest.fixture
def slurm(tmp_path: Path) -> Path:
    """Where the stand-in for Slurm keeps its state."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    return folder
