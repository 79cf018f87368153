"""What breaks runs counts what it breaks: tried on the stand-in for ms-swift, which breaks like the real one."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from running import environment, make_model

STEPS = 120
"""So many that the run goes on while it is asked for again."""
SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_faults.py"


@pytest.fixture(scope="module")
def bench() -> Any:
    spec = importlib.util.spec_from_file_location("bench_faults", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_faults"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def case(bench: Any, tmp_path: Path) -> Any:
    """A run of the stand-in, whose loss at a step is known."""
    model = make_model(tmp_path / "tiny")
    tallies = {name: bench.Tally() for name in ("stop", "killed", "disk", "cut", "data", "twice")}
    fake = environment({"steps": STEPS, "pace": 0.25})
    kept = {name: value for name, value in fake.items() if name in ("PYTHONPATH", "PYTHONUTF8", "FAKE_SWIFT")}
    words = ("--max_steps", str(STEPS), "--micro-batch", "16")
    return bench.Case(tmp_path / "broken", model, tallies, *words, CUDA_VISIBLE_DEVICES="", **kept)


def losses(steps: int) -> dict[int, float]:
    return {step: round(2 / (1 + step), 4) for step in range(1, steps + 1)}


def test_a_run_that_everything_happens_to(bench: Any, case: Any) -> None:
    bench.broken_run(case, random.Random(3), losses(STEPS), disk=False)  # noqa: S311 - the same every time
    assert bench.kept_promises(case.tallies), bench.table(case.tallies)
    counted = {name: tally.injected for name, tally in case.tallies.items()}
    assert counted == {"stop": 2, "killed": 2, "disk": 0, "cut": 1, "data": 1, "twice": 2}
    assert all(lost == 0 for lost in case.tallies["stop"].lost)
    assert len(case.tallies["killed"].lost) == 2


def test_broken_promises_are_counted(bench: Any, case: Any) -> None:
    """The stand-in logs another loss, and a process outlives tunekit's end."""
    case.env["FAKE_SWIFT"] = json.dumps({"steps": 6, "nan_at": 5})
    process = case.go_on(case.first())
    bench.ended(case, process, "stop", {5: 0.3}, 0.1)
    said = " ".join(case.tallies["stop"].wrong)
    assert "every step was logged" in said
    case.happens("stop")
    assert not bench.kept_promises(case.tallies)


def test_lost_steps_are_those_that_are_repeated(bench: Any, case: Any) -> None:
    case.env["FAKE_SWIFT"] = json.dumps({"steps": STEPS, "wait_at": 2 * bench.SAVE_STEPS})
    process = case.go_on(case.first())
    case.wait(lambda: case.reached() >= 2 * bench.SAVE_STEPS - 1, process)
    process.kill()
    case.injected("killed")
    case.open = ["stop"]  # as if it had been asked politely
    again = case.go_on(case.command("resume", "it"))
    again.terminate()
    again.wait(60)
    lost = case.tallies["stop"].lost[0]
    assert lost == case.before - case.resumed() > 0
    assert case.tallies["stop"].wrong == [f"{lost} steps lost, 0 allowed (stop)"]


def test_the_table(bench: Any) -> None:
    tallies = {"stop": bench.Tally(2, 2, [0, 0]), "data": bench.Tally(1, 0, wrong=["x"])}
    head, _, stop, data = bench.table(tallies).splitlines()
    assert [cell.strip() for cell in head.split("|")[1:3]] == ["fault", "injected"]
    assert [cell.strip() for cell in stop.split("|")[1:-1]] == ["stop", "2", "2", "0, 0", "0", "0", "0"]
    assert [cell.strip() for cell in data.split("|")[1:-1]] == ["data", "1", "0", "-", "-", "0", "1"]
    assert not bench.kept_promises(tallies)
