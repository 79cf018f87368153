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
import random
import re
import subprocess
import sys
import time
from pathlib import Path

from faults.case import PATIENCE, Case, logged, write_rows
from faults.kinds import cut, fill_disk, kill_trainer, kill_tunekit, other_data, stop, twice
from faults.tally import Tally, kept_promises, say, table

STEPS, BATCH = 20, 32
MEMORY_LIMIT = 7_500_000
"""KiB of address space in which a micro-batch of 32 long rows does not fit, and a smaller one does."""
LOADS = 8.0
"""Seconds in which ms-swift loads on any machine."""
DISK = "192m"
FLAGS = ("per_device_train_batch_size", "gradient_accumulation_steps")


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
