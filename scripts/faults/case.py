"""One run that things happen to: it is started, watched, and gone on with, and what a fault has cost is counted."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from faults.tally import ALLOWED, SAVE_STEPS, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from faults.tally import Tallies

ROOT = Path(__file__).resolve().parents[2]
"""The tunekit that is tried is the one beside this file."""
ROWS = 64
PATIENCE = 600
"""Seconds after which a wait is given up; nothing is promised about time."""
MARK = "BENCH_FAULTS_RUN"
BASE = ("--preset", "cpu", "--report-to", "none", "--max-length", "1024", "--dataset_shuffle", "false")
BASE += ("--lora_dropout", "0", "--save_steps", str(SAVE_STEPS), "--save_total_limit", "4")


def write_rows(path: Path, lengths: list[int], mark: int = 0) -> None:
    """Texts of so many words."""
    with path.open("w", encoding="utf-8") as file:
        for number, length in enumerate(lengths):
            text = " ".join(str((number + index + mark) % 10) for index in range(length))
            file.write(json.dumps({"text": text}) + "\n")


def logged(run: Path) -> list[tuple[int, float]]:
    """Step and loss, as they were logged."""
    found = []
    with contextlib.suppress(OSError):
        for line in (run / "output/logging.jsonl").read_text(encoding="utf-8").splitlines():
            entry: dict[str, Any] = {}
            with contextlib.suppress(ValueError):  # a line that a full disk cut off
                entry = json.loads(line)
            if "loss" in entry and "global_step/max_steps" in entry:
                found.append((int(entry["global_step/max_steps"].split("/")[0]), float(entry["loss"])))
    return found


class Case:
    """One run that things happen to."""

    def __init__(self, place: Path, model: Path, tallies: Tallies, *words: str, **env: str) -> None:
        place.mkdir(exist_ok=True)
        self.place, self.model, self.tallies = place, model, tallies
        self.words, self.mark = words, uuid.uuid4().hex
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TUNEKIT_", "NPROC"))}
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH"))))
        mine = {"TUNEKIT_CONFIG": f"{place}/config", "TUNEKIT_CACHE": f"{place}/cache", MARK: self.mark}
        self.env = {**kept, **mine, **env}
        self.data, self.run, self.screen = place / "rows.jsonl", place / "runs/it", place / "screen.txt"
        write_rows(self.data, [3] * ROWS)
        self.happened: list[str] = []
        self.open: list[str] = []  # faults whose loss is seen as the next attempt starts
        self.begun = self.before = 0  # how much was logged before this attempt, and the step that the last one reached

    def command(self, *words: str) -> list[str]:
        """A call of tunekit."""
        return [sys.executable, "-m", "tunekit", *words]

    def first(self) -> list[str]:
        """The call that begins the run, with the steps that it takes to its end."""
        named = ("--model", str(self.model), "--dataset", str(self.data), "--name", "it")
        return self.command("pt", *named, *BASE, *self.words)

    def start(self, command: list[str], limit: int | None = None) -> subprocess.Popen[bytes]:
        """A call that goes on by itself, in an address space of `limit` KiB; its messages are in `screen`."""
        bound = ["bash", "-c", 'ulimit -v "$0"; exec "$@"', str(limit)] if limit else []
        with self.screen.open("wb") as screen:
            return subprocess.Popen([*bound, *command], cwd=self.place, env=self.env, stdout=screen, stderr=screen)

    def ask(self, command: list[str]) -> tuple[int, str]:
        """The exit code of a call that soon ends, and what it said."""
        done = subprocess.run(command, cwd=self.place, env=self.env, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    def said(self) -> str:
        """What the last call that was started has said, in one line."""
        return " ".join(self.screen.read_text(encoding="utf-8", errors="replace").split())

    def state(self, name: str) -> dict[str, object]:
        """``run.json``; where it cannot be read that is a wrong statement."""
        try:
            found: dict[str, object] = json.loads((self.run / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            self.tallies[name].wrong.append(f"run.json: {error}")
            return {}
        return found

    def attempt(self) -> int:
        """The number of the newest attempt."""
        return max((int(path.parent.name) for path in self.run.glob("attempts/*/command.sh")), default=0)

    def resumed(self) -> int:
        """The step from which the newest attempt goes on."""
        script = (self.run / f"attempts/{self.attempt()}/command.sh").read_text(encoding="utf-8")
        found = re.search(r"--resume_from_checkpoint \S*checkpoint-(\d+)", script)
        return int(found[1]) if found else 0

    def reached(self) -> int:
        """The step that the newest attempt is at."""
        return max((step for step, _ in logged(self.run)[self.begun :]), default=self.resumed())

    def alive(self) -> list[psutil.Process]:
        """Every process of this run."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def wait(self, condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
        """Wait until something is so, or the process has ended."""
        deadline = time.monotonic() + PATIENCE
        while not condition() and process.poll() is None:
            if time.monotonic() > deadline:
                raise TimeoutError(self.said()[-2000:])
            time.sleep(0.05)

    def check(self, name: str, what: str, *, true: bool) -> None:
        """A statement that should hold."""
        if not true:
            say(f"  WRONG {name}: {what}")
            self.tallies[name].wrong.append(what)

    def go_on(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start, and count what the faults before have cost, once it is known from where it goes on."""
        number, self.begun = self.attempt(), len(logged(self.run))
        process = self.start(command)
        self.wait(lambda: self.attempt() > number, process)
        if process.poll() is not None:
            raise RuntimeError(f"it did not start: {self.said()[-1500:]}")
        for name in dict.fromkeys(self.open):
            lost = max(0, self.before - self.resumed())
            self.tallies[name].lost.append(lost)
            most = max(ALLOWED.get(other, SAVE_STEPS) for other in self.open)
            self.check(name, f"{lost} steps lost, {most} allowed ({', '.join(self.open)})", true=lost <= most)
        self.open = []
        return process

    def happens(self, name: str) -> None:
        """One fault more."""
        self.tallies[name].injected += 1
        self.happened.append(name)

    def injected(self, name: str) -> None:
        """A fault has happened, and its process has ended: look at what is left and what is said."""
        self.happens(name)
        self.open.append(name)
        deadline = time.monotonic() + 30
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.2)
        left = self.alive()
        self.tallies[name].orphans += len(left)
        for process in left:
            say(f"  ORPHAN after {name}: {process.pid} {' '.join(process.cmdline())[:100]}")
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.before = self.reached()
        said = self.said()
        self.check(name, "an error of tunekit's own", true="fault of tunekit" not in said and "Traceback" not in said)
