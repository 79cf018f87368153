"""Inside a job of Slurm: one tunekit, in the batch script, starts every attempt as a step on all machines.

Steps are stopped with ``scancel``, never by a signal to ``srun``: a SIGTERM there makes it kill all tasks at once.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.engine.command import child_environment
from tunekit.engine.failures import classify, log_tail
from tunekit.engine.kinds import Kind
from tunekit.errors import Exit, TunekitError
from tunekit.files import read_text, write_atomically
from tunekit.plan.secrets import redact, secret_values
from tunekit.runs.attempts import MEMORY_OUTCOMES
from tunekit.runs.checkpoints import newest, step
from tunekit.runs.start import Onward, resume_run
from tunekit.runs.starter import Started

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunekit.engine.command import Command
    from tunekit.engine.failures import Failure
    from tunekit.plan.plan import Plan
    from tunekit.runs.folder import RunFolder, RunState
    from tunekit.runs.report import Report, Screen
    from tunekit.runs.start import Show
    from tunekit.runs.supervisor import Ended, Rung

FIRST_PORT, PORTS = 15000, 12000
"""Below the ports that the kernel hands out by itself (32768 on), and another one for each job."""

SAVED_IN, KILLED_IN, TO_REQUEUE = 45.0, 15.0, 90.0
"""Seconds that a step gets to save and end (torchrun gives its processes 30), and to be gone after SIGKILL; and
 that Slurm gets to end a job which it is to requeue."""

TELLS_LEAST = (Kind.KILLED, Kind.NCCL, Kind.NETWORK, Kind.UNKNOWN)
"""Kinds that machines report which only saw another one go, the most telling first."""

STEP_FILE = "step"

NAMED = re.compile(r"^tunekit: machine \d+ is (\S+)$", re.MULTILINE)
DIED = re.compile(
    r"^srun: error: .*(?:[Ee]xited with|Killed|Terminated|[Oo]ut [Oo]f [Mm]emory|[Nn]ode failure).*$", re.MULTILINE
)


@dataclass(frozen=True)
class InAllocation:
    """Starts the attempts of a run in the job that this process is the batch script of; `job` is its number."""

    job: str
    master: str = ""
    together: bool = True
    moves: bool = True

    def check(self, state: RunState) -> None:
        """The job must have as many machines as the run was planned for: its batch counts them."""
        nodes, planned = int(os.environ.get("SLURM_JOB_NUM_NODES", "1")), state.plan.hardware.nodes
        if nodes != planned:
            problem = f"this job has {nodes} machines, and {state.name} was planned for {planned}"
            raise TunekitError(problem, f"submit it with --nodes={planned}, or begin another run")

    def starts_before(self, state: RunState) -> int:
        """Those that ran out of memory before a requeue: preemptions use up none."""
        return sum(attempt.outcome in MEMORY_OUTCOMES for attempt in state.attempts)

    def start(self, command: Command, place: Path, number: int) -> Started:
        """One ``srun``, with a log a machine; that of the first is the log of the attempt."""
        port = FIRST_PORT + int(self.job) % PORTS + number
        script = node_script(command, place, self.master, port)
        flags = command.argv[3:]
        env = child_environment(command, os.environ)
        env.pop("CUDA_VISIBLE_DEVICES", None)  # Slurm says which GPUs a task has
        (place / STEP_FILE).unlink(missing_ok=True)
        log = place / "train.log"
        log.unlink(missing_ok=True)
        log.symlink_to("node-0.log")
        output = str(place / "node-%n.log") if "%" not in str(place) else str(place).replace("%", "%%") + "/node-%n.log"
        argv = (
            "srun",
            "--kill-on-bad-exit=1",
            f"--output={output}",
            "--open-mode=append",
            "bash",
            "-c",
            script,
            "node",
        )
        return Started((*argv, *flags), env, place / "srun.log", partial(self._ladder, place))

    def _ladder(self, place: Path, received: signal.Signals) -> list[Rung]:
        """Ask the step to save and end, then kill it. After Slurm's own SIGTERM its tasks know already."""
        named = (place / STEP_FILE).read_text(encoding="utf-8").strip() if (place / STEP_FILE).is_file() else ""
        if not named:  # no task has begun: there is nothing to save
            return [(partial(_quietly, "scancel", "--signal=KILL", self.job), KILLED_IN)]
        told = received is signal.SIGTERM
        ask = (lambda: None) if told else partial(_quietly, "scancel", "--signal=TERM", named)
        return [(ask, SAVED_IN), (partial(_quietly, "scancel", named), KILLED_IN)]

    def failure(self, place: Path, ended: Ended) -> Failure:
        """The cause stands in the log of one machine; the others only saw the connection break."""
        scrub(place)
        logs = sorted(place.glob("node-*.log"), key=lambda path: (len(path.name), path.name))
        alone = len(logs) < 2
        found = []
        for log in (*logs, place / "srun.log"):
            here = ended.oom_kills if log.name == "node-0.log" or ended.oom_kills else None
            text = log_tail(log)
            # With --kill-on-bad-exit srun's status is that of the tasks which it ended, not of the one that broke.
            failure = classify(ended.status if alone and log in logs else 1, text, oom_kills=here)
            name = NAMED.search(text)
            found.append(replace(failure, status=ended.status, machine=name[1] if name and not alone else ""))
        worst = min(found, key=lambda failure: _tells(failure.kind))
        died = DIED.search(log_tail(place / "srun.log"))
        if worst.kind in TELLS_LEAST and died:
            return replace(worst, evidence=f"{worst.evidence} ({died[0]})")
        return worst

    def stopped_by_others(self, plan: Plan) -> bool:
        """Slurm tells tasks of a preemption before it tells the batch script."""
        return plan.get("early_stop_interval") is None


def _tells(kind: Kind) -> int:
    """How little a kind says of the cause: memory first, what follows from another machine's end last."""
    if kind.is_memory:
        return 0
    return 2 + TELLS_LEAST.index(kind) if kind in TELLS_LEAST else 1


def node_script(command: Command, place: Path, master: str, port: int) -> str:
    """What every machine runs, with the flags of ms-swift behind it: torchrun itself, which passes signals on.

    ms-swift's launcher would start it too, and would end at the first SIGTERM while its workers still save.
    """
    python, main, method = command.argv[:3]
    trainer = shlex.quote(str(Path(main).with_name(f"{method}.py")))
    start = f"exec {shlex.quote(python)}"
    if processes := command.env.get("NPROC_PER_NODE"):
        address = shlex.quote(master) if master else '"$SLURM_LAUNCH_NODE_IPADDR"'
        start += (
            f' -m torch.distributed.run --nnodes "$SLURM_JOB_NUM_NODES" --node_rank "$SLURM_NODEID"'
            f" --nproc_per_node {processes} --master_addr {address} --master_port {port}"
        )
    step_file = shlex.quote(str(place / STEP_FILE))
    return (
        'echo "tunekit: machine $SLURM_NODEID is ${SLURMD_NODENAME:-$(uname -n)}"\n'
        f'[ "$SLURM_NODEID" != 0 ] || echo "$SLURM_JOB_ID.$SLURM_STEP_ID" > {step_file}\n'
        f'{start} {trainer} "$@"\n'
    )


def scrub(place: Path) -> None:
    """Strike secrets out of the logs that ``srun`` wrote; those that tunekit writes never hold any."""
    secrets = secret_values(os.environ)
    for log in place.glob("node-*.log"):
        text = read_text(log) if log.stat().st_size < (1 << 26) else ""
        clean = redact(text, secrets)
        if clean != text:
            write_atomically(log, clean)


def resume_in_allocation(
    folder: RunFolder, show: Show, screen: Callable[[str], Screen], onward: Onward
) -> Report | None:
    """Go on with a run inside its job; None where it is done. Near the job's time limit it goes back into the queue.

    Raises TunekitError outside of a job, and as `tunekit.runs.start.resume_run`.
    """
    job = os.environ.get("SLURM_JOB_ID", "")
    if not job.isdecimal():
        raise TunekitError(
            "--in-allocation is what a job's script says, and this is no job of Slurm", "sbatch job.sbatch"
        )
    before = step(found) if (found := newest(folder.output)) else 0
    starter = InAllocation(job, folder.load().launch.get("master", ""))
    report = resume_run(folder, show, screen, onward, starter)
    for place in (folder.attempt(number) for number in folder.attempts()):
        scrub(place)
    if report and report.status == "interrupted" and report.stopped_by is signal.SIGUSR1:
        _queue_again(job, before, step(found) if (found := newest(folder.output)) else 0, show)
    return report


def _queue_again(job: str, before: int, now: int, show: Show) -> None:
    """Put a job whose time is up back into the queue; not one that got nowhere: it would never end."""
    if now <= before:
        raise TunekitError(
            "the job's time ended before a checkpoint was saved, so it was not put back into the queue",
            "give it more (--slurm time=…), or save more often (--save_steps)",
            Exit.TRAINING_FAILED,
        )
    show([("Time", f"is up at checkpoint-{now}: the job goes back into the queue and goes on from there")])
    if _quietly("scontrol", "requeue", job) == 0:
        time.sleep(TO_REQUEUE)  # Slurm ends this process


def _quietly(*argv: str) -> int:
    """Call a program of Slurm; its status. What it says is no news: a step may have ended meanwhile."""
    return subprocess.run(argv, capture_output=True, check=False).returncode
