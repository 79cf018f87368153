"""What a user sees of a run that has ended."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from running import a_plan

from tunekit.cli.show import run
from tunekit.engine.failures import Failure
from tunekit.engine.kinds import Kind
from tunekit.engine.logs import Dropped, Progress, Rows
from tunekit.runs.folder import Attempt, RunFolder, RunState
from tunekit.runs.outcome import Ending, Verdict
from tunekit.runs.report import Report

if TYPE_CHECKING:
    from pathlib import Path

ROWS = Rows((Dropped(96, 24, "ValueError: bad"),))
FINE = Verdict(Ending.LEARNED)


def a_report(status: str = "done", kind: Kind | None = None, stage: str = "sft", **more: Any) -> Report:
    state = RunState("try", status, a_plan(stage=stage), "neutral", 5, [Attempt(1, status, 8, 4, None, 2, 1)])
    failure = Failure(kind, "what the log says", 1) if kind else None
    known = {"progress": Progress(losses={1: 2.0, 2: 1.0}), "rows": Rows(), "verdict": FINE}
    return Report(status, state, failure, **{**known, **more})


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Show an end, with colours as words; gives the exit code and what was said."""
    coloured = lambda words, colour="": f"<{colour}>{words}" if words == words.strip() else words  # noqa: E731
    monkeypatch.setattr("tunekit.cli.show.lines.style", coloured)
    folder = RunFolder(tmp_path / "try")

    def show(report: Report) -> tuple[int, str]:
        (folder.output / "images").mkdir(parents=True, exist_ok=True)
        code = run.show_end(folder, report)
        return code, " ".join(capsys.readouterr().err.split())

    return show


def test_what_was_learned_is_green(ended: Any) -> None:
    code, said = ended(a_report())
    assert code == 0
    assert "<green>Done in 0 s. Loss 2 → 1." in said


def test_what_was_said_stands_beside_what_it_took(ended: Any) -> None:
    report = a_report()
    report.state.said = {"seconds": 6600.0}
    assert "Done in 0 s (said about 1 h 50 min). Loss" in ended(report)[1]


def test_a_run_that_was_far_slower_than_said_gets_reasons(ended: Any) -> None:
    report = a_report()
    report.state.attempts = [replace(report.state.attempts[0], seconds=900.0)]
    report.state.said = {"seconds": 300.0, "high": 1000.0}
    assert "Slower" not in ended(report)[1]
    report.state.said = {"seconds": 300.0, "high": 480.0}
    assert "Slower than 8 min" in " ".join(ended(report)[1].split())


@pytest.mark.parametrize("ending", [ending for ending in Ending if ending is not Ending.LEARNED])
def test_what_was_not_learned_is_not_green(ending: Ending, ended: Any) -> None:
    _, said = ended(a_report(verdict=Verdict(ending, "because of this", "do that")))
    assert "green" not in said
    assert "Done" not in said
    assert ending.value in said
    assert "because of this." in said
    assert "do that" in said


@pytest.mark.parametrize("report", [a_report(rows=ROWS), a_report("interrupted", rows=ROWS)])
def test_rows_that_were_not_used_are_said_after_every_run(report: Report, ended: Any) -> None:
    assert "72 of 96 rows were not used: ValueError: bad" in ended(report)[1]


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        (Kind.UNKNOWN, 1, "72 of 96 rows were not used"),
        (Kind.DATA, 4, "The dataset cannot be used"),
        (Kind.NETWORK, 1, "--use_hf true"),
        (Kind.KILLED, 1, "nothing is lowered"),
        (Kind.SHARED_MEMORY, 1, "--shm-size"),
    ],
)
def test_a_failure_names_what_helps(kind: Kind, code: int, words: str, ended: Any) -> None:
    found, said = ended(a_report("failed", kind, rows=ROWS, verdict=None))
    assert found == code
    assert words in said


def test_the_curve_of_the_whole_run_is_drawn(tmp_path: Path, ended: Any) -> None:
    pytest.importorskip("matplotlib")
    _, said = ended(a_report())
    picture = tmp_path / "try/output/images/train_loss.png"
    assert str(picture) in said
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_where_nothing_can_be_drawn_nothing_is_said_of_it(ended: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunekit.cli.show.picture.find_spec", lambda name: None)
    assert "Curve" not in ended(a_report())[1]
