"""What can happen to a run: while it trains, and between two attempts."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from typing import TYPE_CHECKING

import psutil
from faults.case import PATIENCE, ROWS, write_rows

if TYPE_CHECKING:
    import random
    import subprocess

    from faults.case import Case

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)

# --- what happens to a run that trains


def stop(case: Case, process: subprocess.Popen[bytes], chance: random.Random, name: str = "stop") -> None:
    """A signal to tunekit."""
    number = chance.choice(SIGNALS)
    process.send_signal(number)
    case.check(name, f"exit code after {number.name}", true=process.wait(PATIENCE) == 130)
    case.injected(name)
    case.check(name, "interrupted in run.json", true=case.state(name).get("status") == "interrupted")
    kept = re.search(r"tunekit resume it \(from (?:checkpoint-(\d+)|the first step)", case.said())
    case.check(name, "what is said to go on from", true=bool(kept) and int(kept[1] or 0) == case.before)


def kill_tunekit(case: Case, process: subprocess.Popen[bytes], _chance: random.Random) -> None:
    """SIGKILL to tunekit alone."""
    process.kill()
    process.wait(PATIENCE)
    case.injected("killed")
    case.state("killed")


def kill_trainer(case: Case, process: subprocess.Popen[bytes], _chance: random.Random) -> None:
    """SIGKILL to the trainer, as the kernel does."""
    for trainer in case.alive():
        with contextlib.suppress(psutil.Error):
            words = trainer.cmdline()
            if "--output_dir" in words and not words[1].endswith("main.py"):  # which is what starts it
                trainer.kill()
    case.check("killed", "exit code", true=process.wait(PATIENCE) == 1)
    case.injected("killed")
    case.check("killed", "the cause", true="Killed from outside" in case.said())
    case.check("killed", "failed in run.json", true=case.state("killed").get("status") == "failed")


def fill_disk(case: Case, process: subprocess.Popen[bytes], _chance: random.Random) -> None:
    """Not a byte is left, until the run has failed of it."""
    filler = case.place / "runs/filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(65536 if os.statvfs(filler).f_bavail > 64 else 512))
    case.check("disk", "exit code", true=process.wait(PATIENCE) == 1)
    case.injected("disk")
    case.check("disk", "the cause", true="disk is full" in case.said())
    case.check("disk", "failed in run.json", true=case.state("disk").get("status") == "failed")
    filler.unlink()


def twice(case: Case, _process: subprocess.Popen[bytes], _chance: random.Random) -> None:
    """Two more calls for a run that goes on: both are refused, and it is not disturbed."""
    for command, said in ((case.command("resume", "it"), "is in use"), (case.first(), "exists already")):
        case.happens("twice")
        code, told = case.ask(command)
        case.check("twice", f"exit code {code}: {told[-200:]}", true=code == 2 and said in told)


# --- what happens between two attempts


def cut(case: Case, chance: random.Random) -> None:
    """A file of the newest checkpoint is cut off: the one before is taken, and that is said."""
    found = sorted(case.run.glob("output/checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    files = [file for file in found[-1].iterdir() if file.suffix in (".safetensors", ".pt", ".pth")] if found else []
    if len(found) < 2 or not files:
        return
    file = chance.choice(sorted(files))
    os.truncate(file, chance.randrange(file.stat().st_size - 1))
    case.happens("cut")
    case.open.append("cut")


def other_data(case: Case, _chance: random.Random) -> None:
    """Other rows in the same file: nothing is trained on them, until they are put back."""
    case.happens("data")
    kept = case.data.read_bytes()
    write_rows(case.data, [3] * ROWS, mark=1)
    number = case.attempt()
    code, told = case.ask(case.command("resume", "it"))
    refused = code == 4 and "rows.jsonl" in told and case.attempt() == number
    case.check("data", f"refused, with what has changed: {told[-200:]}", true=refused)
    case.data.write_bytes(kept)
