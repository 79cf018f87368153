"""Runs that a scheduler starts: what they are told, and how their jobs are submitted and followed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from running import SFT, read_json, tunekit
from slurm import calls, slurm_environment

if TYPE_CHECKING:
    from pathlib import Path

SLURM = ("--launch", "slurm", "--nodes", "2")


def test_a_job_is_submitted_and_followed_to_its_end(place: Path, slurm: Path) -> None:
    ended = tunekit(place, *SFT, *SLURM, "--submit", "--slurm", "time=10", env=slurm_environment(slurm, job=""))
    script = str(place / "runs" / "try" / "job.sbatch")
    assert calls(slurm, "sbatch") == [f"--test-only {script}", f"--parsable --hold {script}"]
    assert calls(slurm, "scontrol") == ["release 77"]
    assert read_json(place / "runs" / "try" / "run.json")["launch"]["job"] == "77"
    assert "77 has ended, and the run is interrupted" in ended.err
    assert ended.code == 130


def test_slurm_says_why_it_refuses(place: Path, slurm: Path) -> None:
    (slurm / "refuse").touch()
    ended = tunekit(place, *SFT, *SLURM, "--submit", env=slurm_environment(slurm, job=""))
    assert ended.code == 2
    assert "sbatch: Batch job submission failed: Invalid partition name specified" in ended.err
    assert len(calls(slurm, "sbatch")) == 1


def test_a_run_of_slurm_does_not_train_where_it_was_planned(place: Path, slurm: Path) -> None:
    env = slurm_environment(slurm, job="")
    assert tunekit(place, *SFT, *SLURM, env=env).code == 0
    ended = tunekit(place, "resume", "try", env=env)
    assert ended.code == 2
    assert "trains in a job of Slurm, and none is there" in ended.err
    assert not (place / "runs" / "try" / "attempts").exists()


def test_a_launcher_is_told_no_secret(place: Path, slurm: Path) -> None:
    env = slurm_environment(slurm, job="") | {"HF_TOKEN": "hf_planted0123456789"}
    ended = tunekit(place, *SFT, *SLURM, "--slurm", "comment=hf_planted0123456789", "--dry-run", env=env)
    assert ended.code == 2
    assert "holds a secret" in ended.err
    assert "planted" not in ended.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--node-rank", "0"), "--node-rank is for --launch nodes"),
        (("--submit",), "--submit is for --launch slurm"),
        (("--slurm", "time=1"), "--slurm is for --launch slurm"),
        (("--nodes", "2"), "2 machines train together, and this is one of them"),
        ((*SLURM, "--write", "x.sh"), "a job of Slurm needs the folder of its run"),
        (("--launch", "nodes", "--nodes", "2", "--node-rank", "1"), "needs --master ADDR"),
    ],
)
def test_options_of_another_launcher(place: Path, words: tuple[str, ...], said: str) -> None:
    ended = tunekit(place, *SFT, *words)
    assert ended.code == 2
    assert said in ended.err
    assert not (place / "runs" / "try" / "run.json").exists()
