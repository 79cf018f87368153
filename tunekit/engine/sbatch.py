"""A job for Slurm: the batch script in which tunekit itself starts and watches every attempt, an ``srun`` each."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError

if TYPE_CHECKING:
    from tunekit.engine.cluster import ClusterJob

EARLY = 60
"""Seconds that Slurm's signal before the time limit may come sooner than asked for (man sbatch, --signal)."""

OURS = {
    "nodes": "--nodes N counts the machines",
    "job-name": "--name NAME names the run and its job",
    **dict.fromkeys(("ntasks", "ntasks-per-node"), "each machine has one task, which starts a process a GPU"),
    **dict.fromkeys(("gpus-per-node", "gpus"), "--gpus says what one machine has: --gpus 8xH100"),
    "open-mode": "the log goes on after a requeue",
    "array": "a run is one job",
    "wrap": "tunekit writes the script",
    "chdir": "the job begins where the run was planned",
}
"""Options of sbatch that follow from the plan: what to say instead."""

OTHER_GPUS = ("gres", "gpus-per-task", "gpus-per-socket", "exclusive-gpus")
"""Options of sbatch that ask for GPUs in another way."""

PROBE = (
    "import importlib.metadata as m, sys; "
    'print("environment", sys.version.split()[0], *(p + " " + m.version(p) for p in '
    '("ms-swift", "torch", "transformers", "tunekit")))'
)
"""What must be the same on all machines."""

NO_FOLDER, NO_PYTHON = 73, 72
"""Statuses of a job whose machines do not see the run's folder, or have another environment (sysexits.h's range)."""


def sbatch_rows(job: ClusterJob) -> dict[str, str]:
    """The options of sbatch, each with its value; a switch has none. Raises TunekitError for those of `OURS`."""
    for key in job.options:
        if key in OURS:
            raise TunekitError(f"--slurm {key} follows from the plan", OURS[key])
    plain = str(job.path).replace("%", "%%")
    rows = {
        "job-name": job.name,
        "nodes": str(job.nodes),
        "ntasks-per-node": "1",
        "gpus-per-node": str(job.plan.hardware.local_world),
        "output": f"{plain}/slurm-%j.log",
        "open-mode": "append",
        "requeue": "",
        "signal": f"B:USR1@{job.notice + EARLY}",
    }
    if not job.plan.hardware.gpus or any(key in job.options for key in OTHER_GPUS):
        del rows["gpus-per-node"]
    rows |= job.options
    return {key: value for key, value in rows.items() if value != "false"}


def render_sbatch(job: ClusterJob) -> str:
    """The batch script of a run. Its last line is the supervisor, which therefore gets Slurm's signals itself.

    Raises TunekitError where a path or a value cannot stand in it.
    """
    if any(letter in str(job.path) for letter in '"\n\\'):
        raise TunekitError(f"the path {job.path} cannot stand in a job's script", "take another --output-dir")
    rows = "".join(f"#SBATCH --{key}{_value(value)}\n" for key, value in sbatch_rows(job).items())
    head = "".join(f"# {line}\n" for line in job.comments())
    processes = job.plan.hardware.local_world
    return f"""#!/bin/bash
{head}{rows}
set -u
run={shlex.quote(str(job.path))}
python={shlex.quote(job.python)}
# srun does not take this over by itself since Slurm 22.05.
export SRUN_CPUS_PER_TASK="${{SLURM_CPUS_PER_TASK:-1}}"
threads=$(( SRUN_CPUS_PER_TASK / {processes} ))
export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-$(( threads > 0 ? threads : 1 ))}}"
# Where the first collective hangs on machines with several networks: export NCCL_SOCKET_IFNAME before sbatch.
export NCCL_DEBUG="${{NCCL_DEBUG:-WARN}}"

# Every machine must see the run's folder, and have the same Python and packages: srun itself would not say so.
mark="$run/.seen-$SLURM_JOB_ID" seen="$run/machines-$SLURM_JOB_ID.log"
: > "$mark" || exit {NO_FOLDER}
srun --kill-on-bad-exit=1 bash -c '
  [ -e "$1" ] || {{ echo "$SLURMD_NODENAME does not see $1: the run must be on a shared disk"; exit {NO_FOLDER}; }}
  [ -x "$2" ] || {{ echo "$SLURMD_NODENAME has no $2: install tunekit where every machine sees it"; exit {NO_PYTHON}; }}
  "$2" -c "$3" || exit {NO_PYTHON}
' look "$mark" "$python" {shlex.quote(PROBE)} > "$seen" 2>&1
status=$?
rm -f "$mark"
if [ "$status" != 0 ] || [ "$(grep -c ^environment "$seen")" != "$SLURM_JOB_NUM_NODES" ]; then
  cat "$seen"
  echo "tunekit: the machines are not ready, see above"
  exit "$(( status ? status : {NO_PYTHON} ))"
fi
if [ "$(grep ^environment "$seen" | sort -u | wc -l)" != 1 ]; then
  sort -u "$seen"
  echo "tunekit: the machines do not have the same environment"
  exit {NO_PYTHON}
fi
exec "$python" -m tunekit resume "$run" --in-allocation
"""


def _value(value: str) -> str:
    """A value behind its option; with a space in it between quotes."""
    quoted = f'"{value}"' if " " in value or "#" in value else value
    return f"={quoted}" if value else ""
