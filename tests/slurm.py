"""A stand-in for Slurm on ``PATH``, for the tests of jobs."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from running import REPOSITORY, environment

if TYPE_CHECKING:
    from pathlib import Path

FAKE = REPOSITORY / "tests" / "fake_slurm"
PROGRAMS = ("srun", "scancel", "scontrol", "squeue", "sbatch")


def slurm_environment(folder: Path, *, job: str = "7", nodes: int = 2) -> dict[str, str]:
    """What a job's batch script has in its environment, beside that of tunekit; Slurm's state is kept in `folder`."""
    programs = folder / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    for name in PROGRAMS:
        text = f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(FAKE)!r})\nimport slurm\nslurm.run()\n"
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    known = environment()
    inside = {"SLURM_JOB_ID": job, "SLURM_JOB_NUM_NODES": str(nodes)} if job else {}
    return {
        "PATH": f"{programs}{os.pathsep}{known['PATH']}",
        "PYTHONPATH": f"{FAKE}{os.pathsep}{known['PYTHONPATH']}",
        "FAKE_SLURM": str(folder),
        **inside,
    }


def calls(folder: Path, program: str) -> list[str]:
    """How a program was called, in order, without its name."""
    lines = (folder / "calls").read_text(encoding="utf-8").splitlines() if (folder / "calls").exists() else []
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{program} ")]
