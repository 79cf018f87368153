"""Disks that are really full, limits that are really reached, folders that really take nothing."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

import pytest
from running import SFT, Started, at_step, read_json, tunekit, until

from tunekit.runs.folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from running import Result

FILLER = "filler"


def mount(*words: str) -> str:
    """Mount a file system; why that could not be, else empty."""
    return subprocess.run(["mount", *words], capture_output=True, text=True, check=False).stderr.strip()


@pytest.fixture
def disk(place: Path) -> Iterator[Path]:
    """The folder of runs, on a disk of its own with room for half a MiB."""
    runs = place / "runs"
    runs.mkdir()
    refused = mount("-t", "tmpfs", "-o", "size=512k", "tmpfs", str(runs))
    if refused:
        pytest.skip(f"no small disk can be mounted here: {refused}")
    yield runs
    subprocess.run(["umount", "--lazy", str(runs)], check=True)


def fill(disk: Path) -> None:
    """Leave not a byte."""
    with contextlib.suppress(OSError), (disk / FILLER).open("wb", buffering=0) as file:
        while True:
            file.write(bytes(512))


def error(result: Result) -> str:
    """The only line of an error that there is."""
    (line,) = [line for line in result.err.splitlines() if line.startswith("error:")]
    assert "fault of tunekit" not in result.err
    assert "Traceback" not in result.err
    return line


def test_a_disk_that_fills_up_under_a_run(place: Path, disk: Path) -> None:
    run = disk / "try"
    with Started(place, *SFT, fake={"wait_at": 5}) as started:
        until(lambda: at_step(run, 4), "training starts")
        (run / "go.new").touch()
        fill(disk)
        (run / "go.new").rename(run / "go")
        result = started.end()
        assert started.alive() == []
    assert result.code == 1
    assert "The disk is full" in result.err
    assert "No space left on device" in result.err
    state = RunFolder(run).load()
    assert (state.status, [attempt.outcome for attempt in state.attempts]) == ("failed", ["disk"])
    again = tunekit(place, "resume", "try")
    assert again.code != 0, "it is as full as before"
    assert RunFolder(run).load().status == "failed"
    (disk / FILLER).unlink()
    assert tunekit(place, "resume", "try").code == 0
    assert RunFolder(run).load().attempts[-1].resumed_from == "checkpoint-4"


def test_a_disk_that_is_full_before_a_run_begins_blocks_no_name(place: Path, disk: Path) -> None:
    fill(disk)
    result = tunekit(place, *SFT)
    assert (result.code, "the disk is full" in error(result)) == (2, True)
    (disk / FILLER).unlink()
    assert tunekit(place, *SFT).code == 0


LIMITED = ("bash", "-c", 'ulimit -f "$0"; exec "$@"')
"""A shell that limits the size of files, in KiB, before it becomes what follows."""


def test_a_limit_on_the_size_of_files_is_told_as_such(place: Path) -> None:
    result = tunekit(place, *SFT, prefix=(*LIMITED, "256"), fake={"ballast": 400_000})
    assert result.code == 1
    assert "The disk is full" in result.err
    assert "File too large" in result.err
    assert "ulimit -f" in result.err
    state = RunFolder(place / "runs/try").load()
    assert (state.status, [attempt.outcome for attempt in state.attempts]) == ("failed", ["disk"])
    assert tunekit(place, "resume", "try").code == 0


def test_a_limit_that_a_run_cannot_begin_below(place: Path) -> None:
    result = tunekit(place, *SFT, prefix=(*LIMITED, "64"))
    assert (result.code, "File too large" in error(result)) == (2, True)
    assert tunekit(place, *SFT).code == 0


def test_a_folder_that_takes_nothing(place: Path, disk: Path) -> None:
    assert tunekit(place, *SFT, fake={"die": "crash", "die_at": 3}).code == 1
    before = (disk / "try" / "run.json").read_bytes()
    assert mount("-o", "remount,ro", str(disk)) == ""
    for words in (("resume", "try"), (*SFT, "--output-dir", "runs/other")):
        result = tunekit(place, *words)
        assert (result.code, "Read-only file system" in error(result)) == (2, True)
    assert (disk / "try" / "run.json").read_bytes() == before
    assert mount("-o", "remount,rw", str(disk)) == ""
    assert tunekit(place, "resume", "try").code == 0
    assert read_json(disk / "try" / "run.json")["status"] == "done"
