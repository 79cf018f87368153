"""The batch script of a job: its options, and what it checks on the machines before anything trains."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from running import a_plan

from tunekit.engine.cluster import ClusterJob
from tunekit.engine.sbatch import NO_FOLDER, NO_PYTHON, render_sbatch, sbatch_rows
from tunekit.errors import TunekitError

SRUN = """#!/bin/bash
# One task a machine, with the machine's name; MISSING is one that does not see the shared folder.
while [[ $1 == -* ]]; do shift; done
worst=0
for node in n1 n2; do
  if [ "$node" = "$MISSING" ]; then set -- "${@:1:4}" /nowhere "${@:6}"; fi
  OTHER="$([ "$node" = n2 ] && echo "$STRANGE")" SLURMD_NODENAME=$node "$@" || worst=$?
done
exit $worst
"""

PYTHON = """#!/bin/bash
if [ "$1" = -c ]; then echo "environment 3.11 ms-swift 4.6.0$OTHER"; else echo "started: $*"; fi
"""


def job(path=Path("/data/runs/try"), gpus=8, **options):
    plan = a_plan(gpus=gpus)
    return ClusterJob(
        replace(plan, hardware=replace(plan.hardware, nodes=2)), "try", path, "/env/bin/python", options=options
    )


def test_options_follow_from_the_plan():
    rows = sbatch_rows(job(time="1:00:00", partition="gpu"))
    assert rows["nodes"] == "2"
    assert rows["ntasks-per-node"] == "1"
    assert rows["gpus-per-node"] == "8"
    assert rows["output"] == "/data/runs/try/slurm-%j.log"
    assert rows["open-mode"] == "append"
    assert rows["requeue"] == ""
    assert rows["signal"] == "B:USR1@180"
    assert (rows["time"], rows["partition"]) == ("1:00:00", "gpu")


def test_the_user_has_the_last_word():
    rows = sbatch_rows(job(gres="gpu:h100:8", requeue="false", signal="B:USR1@600"))
    assert "gpus-per-node" not in rows
    assert "requeue" not in rows
    assert (rows["gres"], rows["signal"]) == ("gpu:h100:8", "B:USR1@600")
    assert "gpus-per-node" not in sbatch_rows(job(gpus=0))


@pytest.mark.parametrize("key", ["nodes", "ntasks", "gpus-per-node", "job-name", "array", "open-mode"])
def test_what_follows_from_the_plan_cannot_be_said(key):
    with pytest.raises(TunekitError, match=f"--slurm {key} follows from the plan"):
        sbatch_rows(job(**{key: "3"}))


def test_lines_of_sbatch_hold_literals():
    text = render_sbatch(job(Path("/data/50% off/try"), comment="two words"))
    lines = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    assert "#SBATCH --requeue" in lines
    assert '#SBATCH --comment="two words"' in lines
    assert '#SBATCH --output="/data/50%% off/try/slurm-%j.log"' in lines
    assert not any("$" in line or "{" in line for line in lines)
    assert text.splitlines()[-1] == 'exec "$python" -m tunekit resume "$run" --in-allocation'
    with pytest.raises(TunekitError, match="cannot stand in a job's script"):
        render_sbatch(job(Path('/data/"x"')))


@pytest.fixture
def ran(tmp_path):
    """Runs the script as Slurm does, on two machines."""
    for name, text in (("srun", SRUN), ("python", PYTHON)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def run(python="python", **env):
        script = tmp_path / "job.sbatch"
        script.write_text(render_sbatch(replace(job(tmp_path), python=str(tmp_path / python))))
        known = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", **env}
        bash = shutil.which("bash")
        return subprocess.run([bash, script], env=known, capture_output=True, text=True, check=False)

    return run


def test_machines_that_are_alike_train(ran, tmp_path):
    ended = ran()
    assert ended.stdout == f"started: -m tunekit resume {tmp_path} --in-allocation\n"
    assert not list(tmp_path.glob(".seen*"))


def test_a_machine_without_the_folder_is_named(ran):
    ended = ran(MISSING="n2")
    assert ended.returncode == NO_FOLDER
    assert "n2 does not see /nowhere: the run must be on a shared disk" in ended.stdout
    assert "started" not in ended.stdout


def test_a_machine_without_python(ran):
    ended = ran(python="elsewhere")
    assert ended.returncode == NO_PYTHON
    assert "n1 has no" in ended.stdout


def test_machines_with_other_packages(ran):
    ended = ran(STRANGE=" torch 2.0")
    assert ended.returncode == NO_PYTHON
    assert "do not have the same environment" in ended.stdout
