"""A run that a scheduler starts: planned and written here, submitted, followed from here."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tunekit.engine.cluster import ClusterJob
from tunekit.engine.launch import LAUNCHERS, launcher_options, plan_of_node
from tunekit.engine.logs import LogTail, Progress
from tunekit.engine.phases import Phases
from tunekit.engine.plugin import Files
from tunekit.errors import TunekitError
from tunekit.files import path_of, write_atomically
from tunekit.plan.options import OPTIONS
from tunekit.plan.secrets import secret_values
from tunekit.runs import preflight
from tunekit.runs.attempts import engine_or_fail
from tunekit.runs.folder import RUNS, RunFolder, unwritable
from tunekit.runs.functions import try_functions
from tunekit.runs.start import begin_run
from tunekit.runs.stopping import seconds_to_save

if TYPE_CHECKING:
    from pathlib import Path

    from tunekit.plan.request import Request
    from tunekit.plan.said import Words
    from tunekit.runs.folder import Run, RunState
    from tunekit.runs.report import Screen
    from tunekit.runs.start import Show

SCRIPT = "job.sbatch"

HERE_ONLY = frozenset(
    ("gpus", "nodes", "launch", "node_rank", "master", "slurm", "cloud", "submit", "name", "output_dir", "resume")
) | frozenset(("dry_run", "explain", "json", "write", "force"))
"""Options that say where a run is and what starts it, not what it is."""

LEAST_NOTICE = 60
"""Seconds before the time limit at which a step is stopped, at the least: it gets 45 to save."""

SHORTEST = 8
"""Characters of a secret that is looked for in what a launcher is given: shorter ones are words, too."""

EVERY = 10.0
"""Seconds between two questions to Slurm's controller, which all users share."""

MISSING = "is not here: submit from a machine of the cluster, or take the script there"


def cluster_job(run: Run, request: Request, words: Words, others: tuple[Words, ...]) -> ClusterJob:
    """What a launcher is told of a run. Raises TunekitError where what is said to one is another's."""
    said = {key: one for place in (*others, words) for key, one in place.said.items()}
    anew: list[str] = []
    for one in said.values():
        if one.name not in HERE_ONLY:
            anew += [OPTIONS[one.name].spelled if one.name in OPTIONS else f"--{one.name}", *one.words]
    if "effective_batch" not in said:
        anew += ["--effective-batch", str(run.plan.batch.effective)]
    return ClusterJob(
        plan=run.plan,
        name=run.name,
        path=run.path.resolve(),
        python=sys.executable,
        words=tuple(anew),
        options=launcher_options(request.launch, request.launch_options),
        master=request.master,
        notice=max(LEAST_NOTICE, round(seconds_to_save(run.plan, None))),
    )


def check_launcher(request: Request, *, submits: bool) -> None:
    """Raise TunekitError where an option is for another launcher than the one that was named."""
    launcher_options(request.launch, request.launch_options)
    only = {
        "--node-rank": (request.node_rank is not None, ("nodes",)),
        "--master": (bool(request.master), ("nodes", "slurm")),
        "--submit": (submits, ("slurm",)),
    }
    for name, (given, owners) in only.items():
        if given and request.launch not in owners:
            raise TunekitError(f"{name} is for --launch {' or '.join(owners)}", f"add --launch {owners[0]}")
    if request.launch == "nodes" and not (request.name or request.output_dir):
        hint = "on a disk that all of them see: --output-dir FOLDER"
        raise TunekitError("--launch nodes needs to know the run: all machines must name the same", hint)


def rendered(job: ClusterJob, launcher: str) -> str:
    """The text for a launcher. Raises TunekitError where it would hold a secret."""
    render = LAUNCHERS[launcher].render
    if render is None:
        raise ValueError(launcher)
    text = render(job)
    if any(len(value) >= SHORTEST and value in text for value in secret_values(os.environ)):
        raise TunekitError(f"what --launch {launcher} is told holds a secret", "secrets travel by the environment")
    return text


def as_node(run: Run, request: Request) -> Run:
    """A run as this one of several machines starts it; without ``--node-rank`` as it is."""
    if request.node_rank is None:
        return run
    return replace(run, plan=plan_of_node(run.plan, request.node_rank, request.master))


def place_of_machine(request: Request) -> tuple[str, Path] | None:
    """Name and folder of the run that the first of several machines keeps; None on that one, and anywhere else."""
    if not request.node_rank:
        return None
    path = path_of(request.output_dir) if request.output_dir else RUNS / request.name
    return request.name or path.name, path


def queue_run(run: Run, job: ClusterJob, show: Show) -> RunFolder:
    """Write a run's folder and its job, for Slurm to start. Raises TunekitError where it could not be trained."""
    engine_or_fail()
    preflight.check_launch(run.plan, run.path)
    show(try_functions(run.plan, Files.of_run(run.path)))
    text = rendered(job, "slurm")
    with RunFolder(run.path) as folder:
        state = begin_run(folder, run, show)
        state.launch = {"launcher": "slurm", "master": job.master}
        try:
            write_atomically(folder.path / SCRIPT, text, mode=0o755)
            folder.save(state)
        except OSError as error:
            raise unwritable(folder.path, error) from error
    return folder


def submit(folder: RunFolder) -> str:
    """Submit the job of a run; its number, which ``run.json`` keeps. Raises TunekitError where Slurm refuses it.

    It is held until that is written: from its start on, the job alone writes there.
    """
    script = str(folder.path.resolve() / SCRIPT)
    state = folder.load()
    cwd = state.cwd or None
    _slurm("sbatch", "--test-only", script, cwd=cwd)
    job = _slurm("sbatch", "--parsable", "--hold", script, cwd=cwd).strip().partition(";")[0]
    if not job.isdecimal():
        raise TunekitError(f"sbatch answered {job[:60]!r} instead of the number of the job")
    try:
        with folder:
            state = folder.load()
            state.launch = {**state.launch, "job": job}
            folder.save(state)
        _slurm("scontrol", "release", job)
    except (TunekitError, OSError):
        subprocess.run(["scancel", job], capture_output=True, check=False)
        raise
    return job


def _slurm(*argv: str, cwd: str | None = None) -> str:
    """What a program of Slurm prints. Raises TunekitError in its own words."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=cwd)
    except FileNotFoundError:
        raise TunekitError(f"{argv[0]} {MISSING}") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"status {done.returncode}"]
        raise TunekitError(re.sub(r"^\w+: (?:error|fatal|allocation failure): ", f"{argv[0]}: ", said[-1]))
    return done.stdout


@dataclass(frozen=True)
class JobState:
    """Where a job stands: Slurm's word for it, why it waits, the time it has left, its machines."""

    word: str
    reason: str
    left: str
    machines: str

    def line(self) -> str:
        """For people."""
        if self.word == "PENDING":
            return f"waits ({self.reason})"
        return f"{self.word.lower()} on {self.machines or 'no machine yet'}, {self.left} left"


def job_state(job: str) -> JobState | None:
    """Where a job stands; None where Slurm does not know it any more. Raises TunekitError without Slurm."""
    try:
        words = ("squeue", "-h", "-j", job, "-o", "%T|%r|%L|%N")
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise TunekitError(f"squeue {MISSING}") from None
    fields = done.stdout.strip().split("|")
    if done.returncode != 0 or len(fields) != 4:
        return None
    return JobState(*fields)


def live_job(state: RunState) -> str:
    """The number of the job that holds a run; empty where none does."""
    job = state.launch.get("job", "")
    return job if job and job_state(job) else ""


def follow(folder: RunFolder, job: str, show: Show, screen: Screen, every: float = EVERY) -> RunState:
    """Show how a job goes, until Slurm has forgotten it; what its run says then.

    KeyboardInterrupt leaves the job alone.
    """
    shown, attempts = "", 0
    log = folder.output / "logging.jsonl"
    tail = LogTail(log, skip=log.stat().st_size if log.exists() else 0)
    progress = Progress()
    while (state := job_state(job)) is not None:
        line = state.line().partition(",")[0]
        if line != shown:
            screen.pause()
            show([("Job", f"{job} {state.line()}")])
            shown = line
        begun = folder.attempts()
        if len(begun) > attempts and state.word == "RUNNING":
            attempts, known = len(begun), folder.load()
            screen.pause()
            screen.attempt(attempts, known.max_attempts, known.plan, None)
        for entry in tail.new():
            progress.take(entry)
        if attempts and progress.step:
            phases = Phases()
            phases.end()
            screen.progress(progress, phases)
        time.sleep(every)
    screen.pause()
    return folder.load()


def come_back(folder: RunFolder, job: str) -> list[tuple[str, str]]:
    """How to see a job again that goes on, and how to end it."""
    word = shlex.quote(str(folder.path))
    return [("Job", f"{job} goes on. Follow it: tunekit resume {word}; end it: scancel {job}")]
