"""Break real runs at random moments, go on with each until it is done, and count what was lost.

    python scripts/bench_faults.py FOLDER [--rounds N] [--seed S]       FOLDER/tiny is the model

A round trains one run to its end through all of these, in random order and at random steps; the same seed takes the
same order and the same steps:

* stop      a signal to tunekit (Ctrl-C, kill, those of schedulers), while ms-swift loads and in training
* killed    SIGKILL to tunekit, and to the trainer
* disk      the disk becomes full, and then has room again
* cut       the newest checkpoint loses a part of one of its files
* data      other rows are put in the place of those that are learned from
* twice     the run is started and resumed again while it goes on
* pair      a signal to tunekit while two processes train together (a run of its own)
* memory    the address space is limited, so that the micro-batch has to shrink (a run of its own)

Counted for each: the runs that were gone on with and came to their end; the steps that had been logged and had to be
repeated (none after a stop, at the most ``--save_steps`` after all else, and the steps of a cut checkpoint besides);
processes that were left; and statements that are not true: exit codes, ``run.json``, what was said of the cause, the
checkpoint to go on from, the effective batch, and the loss of every step, which must be that of a run that nothing
happened to. The table goes to stdout, the way there to stderr; the exit status is 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable


ROOT = Path(__file__).resolve().parents[1]
"""The tunekit that is tried is the one beside this file."""
SAVE_STEPS, STEPS, ROWS, BATCH = 2, 20, 64, 32
PATIENCE = 600
"""Seconds after which a wait is given up; nothing is promised about time."""
MEMORY_LIMIT = 7_500_000
"""KiB of address space in which a micro-batch of 32 long rows does not fit, and a smaller one does."""
LOADS = 8.0
"""Seconds in which ms-swift loads on any machine."""
DISK = "192m"
MARK = "BENCH_FAULTS_RUN"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
BASE = ("--preset", "cpu", "--report-to", "none", "--max-length", "1024", "--dataset_shuffle", "false")
BASE += ("--lora_dropout", "0", "--save_steps", str(SAVE_STEPS), "--save_total_limit", "4")
ALLOWED = {"stop": 0, "pair": 0, "cut": 2 * SAVE_STEPS}
"""Steps that may have to be repeated; after all else those since the last checkpoint."""


@dataclass
class Tally:
    """What a kind of fault came to."""

    injected: int = 0
    finished: int = 0
    lost: list[int] = field(default_factory=list)
    orphans: int = 0
    wrong: list[str] = field(default_factory=list)


Tallies = dict[str, Tally]


def say(text: str) -> None:
    """A line for people."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


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


# --- runs


def ended(case: Case, process: subprocess.Popen[bytes], name: str, reference: dict[int, float], near: float) -> None:
    """A run comes to its end, and what it learned is what it should have."""
    code = process.wait(PATIENCE)
    state = case.state(name)
    case.check(name, f"done: {case.said()[-300:]}", true=(code, state.get("status")) == (0, "done"))
    case.check(name, "no process is left", true=not case.alive())
    reached = dict(logged(case.run))
    case.check(name, "every step was logged", true=sorted(reached) == sorted(reference))
    far = [step for step, loss in reached.items() if abs(loss - reference.get(step, loss)) > near]
    case.check(name, f"another loss at steps {far[:5]}", true=not far)
    for script in case.run.glob("attempts/*/command.sh"):
        text = script.read_text(encoding="utf-8")
        micro, times = (int(re.findall(rf"--{flag} (\d+)", text)[0]) for flag in FLAGS)
        world = int((re.findall(r"NPROC_PER_NODE=(\d+)", text) or [1])[0])
        case.check(name, f"effective batch in {script.parent.name}", true=micro * times * world == BATCH)
    for happened in case.happened if code == 0 else ():
        case.tallies[happened].finished += 1


FLAGS = ("per_device_train_batch_size", "gradient_accumulation_steps")


def broken_run(case: Case, chance: random.Random, reference: dict[int, float], *, disk: bool) -> None:
    """One run through everything."""
    faults = [("stop early", stop), ("stop", stop), ("tunekit", kill_tunekit), ("trainer", kill_trainer)]
    faults += [("disk", fill_disk)] if disk else []
    chance.shuffle(faults)
    between = {chance.randrange(1, len(faults)): cut, chance.randrange(len(faults)): other_data}
    at_twice, command = chance.randrange(len(faults)), case.first()
    for number, (name, fault) in enumerate(faults):
        process = case.go_on(command)
        if name == "stop early":
            moment = time.monotonic() + chance.uniform(0, LOADS)
            case.wait(lambda moment=moment: time.monotonic() > moment or case.reached() > case.resumed(), process)
        else:
            target = case.resumed() + chance.randint(2, 4)
            case.wait(lambda target=target: case.reached() >= target, process)
            time.sleep(chance.uniform(0, 0.5))
        if number == at_twice:
            twice(case, process, chance)
        say(f"  {name} at step {case.reached()}")
        fault(case, process, chance)
        if number in between and case.run.joinpath("run.json").is_file():
            between[number](case, chance)
        command = case.command("resume", "it") if case.run.joinpath("run.json").is_file() else case.first()
    ended(case, case.go_on(command), "stop", reference, 1e-4)


def pair_run(case: Case, chance: random.Random, reference: dict[int, float]) -> None:
    """Two processes are stopped together, and go on together."""
    process = case.go_on(case.first())
    target = chance.randint(2, 6)
    case.wait(lambda: case.reached() >= target, process)
    stop(case, process, chance, "pair")
    ended(case, case.go_on(case.command("resume", "it")), "pair", reference, 1e-3)


def memory_run(case: Case, chance: random.Random) -> None:
    """Rows grow longer, and there is less memory than a micro-batch of all of them takes."""
    write_rows(case.data, [3] * BATCH * chance.randint(1, 3) + [200] * BATCH)
    case.happens("memory")
    process = case.start(case.first(), MEMORY_LIMIT)
    steps = len(case.data.read_text(encoding="utf-8").splitlines()) // BATCH
    ended(case, process, "memory", dict.fromkeys(range(1, steps + 1), 0.0), float("inf"))
    attempts = case.state("memory").get("attempts")
    kinds = [attempt["outcome"] for attempt in attempts] if isinstance(attempts, list) else []
    case.check(
        "memory", f"the causes: {kinds}", true=kinds[:-1] == ["host-memory"] * (len(kinds) - 1) and len(kinds) > 1
    )


def small_disk(place: Path) -> bool:
    """Whether the runs of this place have a small disk of their own."""
    (place / "runs").mkdir(parents=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place / "runs")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        say(f"The disk is not filled: {done.stderr.strip()}")
    return done.returncode == 0


def table(tallies: Tallies) -> str:
    """What came of it, a row for each kind of fault."""
    head = ("fault", "injected", "gone on to the end", "steps lost", "allowed", "orphans", "wrong statements")
    rows = [head, tuple("-" * len(word) for word in head)]
    for name, tally in tallies.items():
        lost = ", ".join(map(str, tally.lost)) or "-"
        allowed = str(ALLOWED.get(name, SAVE_STEPS)) if tally.lost else "-"
        numbers = (str(tally.injected), str(tally.finished), lost, allowed, str(tally.orphans), str(len(tally.wrong)))
        rows.append((name, *numbers))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "| " + " | ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join(lines)


def kept_promises(tallies: Tallies) -> bool:
    """Whether every fault was survived, nothing was left, and nothing wrong was said."""
    return all(one.finished == one.injected and not one.orphans and not one.wrong for one in tallies.values())


def main() -> int:
    """Break runs, and print the table."""
    parser = argparse.ArgumentParser(description="Break runs of the real ms-swift, and count what that costs.")
    parser.add_argument("folder", type=Path, help="holds the model tiny; runs are made there")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=9)
    asked = parser.parse_args()
    model, folder = (asked.folder / "tiny").resolve(), asked.folder.resolve()
    tallies = {name: Tally() for name in ("stop", "killed", "disk", "cut", "data", "twice", "pair", "memory")}
    long = ("--max_steps", str(STEPS), "--micro-batch", "16")
    say("a run that nothing happens to")
    whole = Case(folder / "whole", model, tallies, *long)
    if whole.start(whole.first()).wait(PATIENCE):
        sys.exit(f"error: the run that nothing happens to fails: {whole.said()[-2000:]}")
    reference = dict(logged(whole.run))
    for number in range(1, asked.rounds + 1):
        chance = random.Random(asked.seed * 1000 + number)  # noqa: S311 - the same seed, the same faults
        say(f"round {number}")
        disk = small_disk(folder / f"broken-{number}")
        broken_run(Case(folder / f"broken-{number}", model, tallies, *long), chance, reference, disk=disk)
        pair = {"NPROC_PER_NODE": "2", "OMP_NUM_THREADS": "1", "MASTER_PORT": str(29000 + chance.randrange(900))}
        say("  a pair")
        pair_run(Case(folder / f"pair-{number}", model, tallies, *long, **pair), chance, reference)
        say("  memory")
        words = ("--epochs", "1", "--micro-batch", str(BATCH), "--train_dataloader_shuffle", "false")
        memory_run(Case(folder / f"memory-{number}", model, tallies, *words), chance)
    print(table(tallies))
    for name, tally in tallies.items():
        for line in tally.wrong:
            say(f"wrong, {name}: {line}")
    return 0 if kept_promises(tallies) else 1


if __name__ == "__main__":
    sys.exit(main())
