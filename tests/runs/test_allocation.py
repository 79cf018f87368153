"""Runs inside a job: every attempt is a step on all machines, of a stand-in for Slurm."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
from running import SFT, Result, Started, at_step, read_json, tunekit, until
from slurm import calls, slurm_environment

from tunekit.engine.kinds import Kind
from tunekit.runs.allocation import InAllocation
from tunekit.runs.supervisor import Ended

if TYPE_CHECKING:
    from pathlib import Path

INSIDE = ("resume", "runs/try", "--in-allocation")


def queue(place: Path, slurm: Path, nodes: int = 2) -> None:
    """Plan a run for Slurm and write its job."""
    words = (*SFT, "--launch", "slurm", "--gpus", "cpu", "--nodes", str(nodes), "--micro-batch", "8")
    made = tunekit(place, *words, env=slurm_environment(slurm, job=""))
    assert made.code == 0, made.err
    assert (place / "runs" / "try" / "job.sbatch").is_file()


def go(place: Path, slurm: Path, fake: dict[str, Any], nodes: int = 2, **env: str) -> Result:
    return tunekit(place, *INSIDE, fake=fake, env=slurm_environment(slurm, nodes=nodes) | env)


def outcomes(place: Path) -> list[tuple[str, int, str | None]]:
    attempts = read_json(place / "runs" / "try" / "run.json")["attempts"]
    return [(row["outcome"], row["micro_batch"], row["resumed_from"]) for row in attempts]


def test_every_machine_trains_in_one_step(place: Path, slurm: Path) -> None:
    queue(place, slurm)
    ended = go(place, slurm, {"steps": 4})
    assert ended.code == 0, ended.err
    attempt = place / "runs" / "try" / "attempts" / "1"
    assert "tunekit: machine 1 is n2" in (attempt / "node-1.log").read_text()
    assert "met at 127.0.0.1:15008" in (attempt / "node-0.log").read_text()
    assert (attempt / "train.log").resolve() == (attempt / "node-0.log").resolve()
    assert outcomes(place) == [("done", 8, None)]


def test_out_of_memory_on_one_machine_is_retried_on_all(place: Path, slurm: Path) -> None:
    queue(place, slurm)
    ended = go(place, slurm, {"steps": 6, "wait_at": 4, "node_oom_above": 4})
    assert ended.code == 0, ended.err
    assert "Out of GPU memory in training at step 3 on n2 (tried 2.32 GiB" in ended.err
    assert "effective batch still 32" in ended.err
    assert outcomes(place) == [("gpu-memory", 8, None), ("done", 4, "checkpoint-3")]
    assert "met at 127.0.0.1:15009" in (place / "runs/try/attempts/2/node-1.log").read_text()
    assert not calls(slurm, "scancel")


def test_a_job_whose_time_is_up_goes_back_into_the_queue(place: Path, slurm: Path) -> None:
    queue(place, slurm)
    run = place / "runs" / "try"
    env = slurm_environment(slurm)
    with Started(place, *INSIDE, fake={"wait_at": 4}, env=env) as started:
        until(lambda: at_step(run, 3), "three steps")
        started.signal(signal.SIGUSR1)
        ended = started.end()
    assert calls(slurm, "scancel")[0] == "--signal=TERM 7.0"
    assert calls(slurm, "scontrol") == ["requeue 7"]
    assert "is up at checkpoint-3" in ended.err.replace("\n", " ")
    assert outcomes(place) == [("interrupted", 8, None)]
    assert go(place, slurm, {}, SLURM_RESTART_COUNT="1").code == 0
    assert outcomes(place)[-1] == ("done", 8, "checkpoint-3")


def test_a_job_that_got_nowhere_is_not_queued_again(place: Path, slurm: Path) -> None:
    queue(place, slurm)
    run = place / "runs" / "try"
    words = {"wait_at": 1, "ignore": ["SIGTERM"]}
    with Started(place, *INSIDE, fake=words, env=slurm_environment(slurm)) as started:
        until((run / "attempts" / "1" / "node-1.log").exists, "the step")
        until((run / "output" / "args.json").exists, "the training")
        started.signal(signal.SIGUSR1)
        ended = started.end()
    assert ended.code == 1
    assert "before a checkpoint was saved" in ended.err
    assert calls(slurm, "scontrol") == []


def test_slurms_own_end_is_waited_for(place: Path, slurm: Path) -> None:
    """The tasks were told, too: a second SIGTERM would cut what they save."""
    queue(place, slurm)
    run = place / "runs" / "try"
    with Started(place, *INSIDE, fake={"wait_at": 4}, env=slurm_environment(slurm)) as started:
        until(lambda: at_step(run, 3), "three steps")
        started.signal(signal.SIGTERM)
        until(lambda: read_json(run / "run.json")["status"] == "interrupted", "the state")
        assert not calls(slurm, "scancel")
        (run / "go").touch()
        started.end()
    assert not any("TERM" in call for call in calls(slurm, "scancel"))
    assert calls(slurm, "scontrol") == []


def test_another_number_of_machines_is_refused(place: Path, slurm: Path) -> None:
    queue(place, slurm)
    ended = go(place, slurm, {}, nodes=3)
    assert ended.code == 2
    assert "this job has 3 machines, and try was planned for 2" in ended.err


def test_outside_of_a_job(place: Path, slurm: Path) -> None:
    queue(place, slurm)
    ended = tunekit(place, *INSIDE, env=slurm_environment(slurm, job=""))
    assert ended.code == 2
    assert "this is no job of Slurm" in ended.err


LOST = "Traceback (most recent call last):\nRuntimeError: [gloo] Connection closed by peer\n"
FULL = "Traceback (most recent call last):\nOSError: [Errno 28] No space left on device\n"
DIED = "srun: error: n2: task 1: Exited with exit code 1\n"


@pytest.mark.parametrize(
    ("logs", "status", "kind", "machine"),
    [
        ((LOST, "torch.OutOfMemoryError: CUDA out of memory. Tried\n"), 143, Kind.GPU_MEMORY, "n2"),
        ((LOST, FULL), 143, Kind.DISK, "n2"),
        (("W: waits\n", "exitcode : -9 (pid: 7)\n"), 143, Kind.HOST_MEMORY, "n2"),
        ((LOST, "nothing\n"), 143, Kind.UNKNOWN, "n1"),
        (("nothing\n",), 137, Kind.KILLED, ""),
        (("DistNetworkError: x EADDRINUSE\n", "waits\n"), 143, Kind.PORT, "n1"),
    ],
)
def test_the_machine_that_knows_the_cause_is_asked(
    tmp_path: Path, logs: tuple[str, ...], status: int, kind: Kind, machine: str
) -> None:
    for number, text in enumerate(logs):
        (tmp_path / f"node-{number}.log").write_text(f"tunekit: machine {number} is n{number + 1}\n{text}")
    (tmp_path / "srun.log").write_text(DIED)
    failure = InAllocation("7").failure(tmp_path, Ended(status, None, 1.0, oom_kills=0))
    assert (failure.kind, failure.machine) == (kind, machine)
    assert failure.status == status


def test_logs_of_machines_hold_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "planted-0123456789")
    (tmp_path / "node-0.log").write_text("key planted-0123456789\n")
    InAllocation("7").failure(tmp_path, Ended(1, None, 1.0))
    assert "planted" not in (tmp_path / "node-0.log").read_text()
