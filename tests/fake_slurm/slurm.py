"""What Slurm's programs are to a batch script: srun, scancel, scontrol, squeue and sbatch, by the name of the file.

Everything is kept in the folder that ``FAKE_SLURM`` names: ``calls``, the processes of each step, and ``queue``, whose
lines squeue prints one after the other. The machines are n1, n2, …; each has one task.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import takewhile
from pathlib import Path

PLACE = Path(os.environ["FAKE_SLURM"])
PATIENCE = 5.0


def srun(argv: list[str]) -> int:
    options = list(takewhile(lambda word: word.startswith("--"), argv))
    command = argv[len(options) :]
    assert "--kill-on-bad-exit=1" in options, options
    output = next(word.partition("=")[2] for word in options if word.startswith("--output="))
    number = len(list(PLACE.glob("step-*")))
    env = {**os.environ, "SLURM_STEP_ID": str(number), "SLURM_LAUNCH_NODE_IPADDR": "127.0.0.1"}
    tasks = []
    for node in range(int(os.environ["SLURM_JOB_NUM_NODES"])):
        own = {**env, "SLURM_NODEID": str(node), "SLURMD_NODENAME": f"n{node + 1}"}
        with Path(output.replace("%n", str(node))).open("ab") as log:
            tasks.append(subprocess.Popen(command, env=own, stdout=log, stderr=log, start_new_session=True))
    (PLACE / f"step-{os.environ['SLURM_JOB_ID']}.{number}").write_text(" ".join(str(task.pid) for task in tasks))

    def killed(*_: object) -> None:
        end(tasks, signal.SIGKILL)
        sys.exit(137)

    signal.signal(signal.SIGTERM, killed)
    while all(task.poll() is None for task in tasks):
        time.sleep(0.02)
    broken = [(node, task.returncode) for node, task in enumerate(tasks) if task.poll()]
    for node, code in broken:
        print(f"srun: error: n{node + 1}: task {node}: Exited with exit code {code}", file=sys.stderr, flush=True)
    ended = time.monotonic()
    end(tasks, signal.SIGTERM)
    while any(task.poll() is None for task in tasks) and time.monotonic() < ended + PATIENCE:
        time.sleep(0.02)
    end(tasks, signal.SIGKILL)
    if not broken:
        return 0
    return max(abs(task.wait()) for task in tasks) if len(tasks) == 1 else 143


def end(tasks: list[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    for task in tasks:
        if task.poll() is None:
            os.killpg(task.pid, number)


def scancel(argv: list[str]) -> int:
    number = signal.SIGTERM if "--signal=TERM" in argv else signal.SIGKILL
    step = PLACE / f"step-{argv[-1]}"
    for pid in step.read_text().split() if step.exists() else []:
        try:
            os.killpg(int(pid), number)
        except ProcessLookupError:
            continue
    return 0


def scontrol(argv: list[str]) -> int:
    if argv[0] == "requeue":
        os.kill(os.getppid(), signal.SIGTERM)
    return 0


def squeue(argv: list[str]) -> int:
    queue = PLACE / "queue"
    lines = queue.read_text().splitlines() if queue.exists() else []
    if lines:
        print(lines[0])
        queue.write_text("".join(f"{line}\n" for line in lines[1:]))
    return 0 if argv else 1


def sbatch(argv: list[str]) -> int:
    if (PLACE / "refuse").exists():
        print("sbatch: error: invalid partition specified: nosuch", file=sys.stderr)
        print("sbatch: error: Batch job submission failed: Invalid partition name specified", file=sys.stderr)
        return 1
    if "--parsable" in argv:
        print("77;cluster")
    return 0


PROGRAMS = {program.__name__: program for program in (srun, scancel, scontrol, squeue, sbatch)}


def run() -> None:
    """Be the program that this process is called."""
    name = Path(sys.argv[0]).name
    with (PLACE / "calls").open("a") as calls:
        calls.write(" ".join([name, *(word for word in sys.argv[1:] if "\n" not in word)]) + "\n")
    sys.exit(PROGRAMS[name](sys.argv[1:]))
