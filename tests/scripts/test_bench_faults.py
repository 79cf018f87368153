"""What breaks runs counts what it breaks: tried on the stand-in for ms-swift, which breaks like the real one."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest
from running import environment, make_model

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from bench_faults import broken_run, ended  # noqa: E402
from faults.case import Case  # noqa: E402
from faults.tally import SAVE_STEPS, Tally, kept_promises, table  # noqa: E402

STEPS = 120
"""So many that the run goes on while it is asked for again."""


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A run of the stand-in, whose loss at a step is known."""
    model = make_model(tmp_path / "tiny")
    tallies = {name: Tally() for name in ("stop", "killed", "disk", "cut", "data", "twice")}
    fake = environment({"steps": STEPS, "pace": 0.25})
    kept = {name: value for name, value in fake.items() if name in ("PYTHONPATH", "PYTHONUTF8", "FAKE_SWIFT")}
    words = ("--max_steps", str(STEPS), "--micro-batch", "16")
    return Case(tmp_path / "broken", model, tallies, *words, CUDA_VISIBLE_DEVICES="", **kept)


def losses(steps: int) -> dict[int, float]:
    return {step: round(2 / (1 + step), 4) for step in range(1, steps + 1)}


def test_a_run_that_everything_happens_to(case: Case) -> None:
    broken_run(case, random.Random(3), losses(STEPS), disk=False)  # noqa: S311 - the same every time
    assert kept_promises(case.tallies), table(case.tallies)
    counted = {name: tally.injected for name, tally in case.tallies.items()}
    assert counted == {"stop": 2, "killed": 2, "disk": 0, "cut": 1, "data": 1, "twice": 2}
    assert all(lost == 0 for lost in case.tallies["stop"].lost)
    assert len(case.tallies["killed"].lost) == 2


def test_broken_promises_are_counted(case: Case) -> None:
    """The stand-in logs another loss, and a process outlives tunekit's end."""
    case.env["FAKE_SWIFT"] = json.dumps({"steps": 6, "nan_at": 5})
    process = case.go_on(case.first())
    ended(case, process, "stop", {5: 0.3}, 0.1)
    said = " ".join(case.tallies["stop"].wrong)
    assert "every step was logged" in said
    case.happens("stop")
    assert not kept_promises(case.tallies)


def test_lost_steps_are_those_that_are_repeated(case: Case) -> None:
    case.env["FAKE_SWIFT"] = json.dumps({"steps": STEPS, "wait_at": 2 * SAVE_STEPS})
    process = case.go_on(case.first())
    case.wait(lambda: case.reached() >= 2 * SAVE_STEPS - 1, process)
    process.kill()
    case.injected("killed")
    case.open = ["stop"]  # as if it had been asked politely
    again = case.go_on(case.command("resume", "it"))
    again.terminate()
    again.wait(60)
    lost = case.tallies["stop"].lost[0]
    assert lost == case.before - case.resumed() > 0
    assert case.tallies["stop"].wrong == [f"{lost} steps lost, 0 allowed (stop)"]


def test_the_table() -> None:
    tallies = {"stop": Tally(2, 2, [0, 0]), "data": Tally(1, 0, wrong=["x"])}
    head, _, stop, data = table(tallies).splitlines()
    assert [cell.strip() for cell in head.split("|")[1:3]] == ["fault", "injected"]
    assert [cell.strip() for cell in stop.split("|")[1:-1]] == ["stop", "2", "2", "0, 0", "0", "0", "0"]
    assert [cell.strip() for cell in data.split("|")[1:-1]] == ["data", "1", "0", "-", "-", "0", "1"]
    assert not kept_promises(tallies)
