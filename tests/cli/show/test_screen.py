"""What a run shows of itself."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import a_plan

from tunekit.cli.show import screen
from tunekit.cli.show.screen import (
    SPARKS,
    PlainScreen,
    TerminalScreen,
    duration,
    headline,
    make_screen,
    numbers,
    sparkline,
)
from tunekit.engine.logs import Progress
from tunekit.plan.batch import Batch
from tunekit.stages import STAGES

LOG = Path("train.log")


def progress(step: int, **more: Any) -> Progress:
    return Progress(step=step, total=100, loss=1.5, learning_rate=2e-4, seconds_per_step=2.0, **more)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (14.4, "14 s"),
        (59.6, "1 min 00 s"),
        (60, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.7, "1 h 00 min"),
        (6480, "1 h 48 min"),
        (100 * 3600, "100 h 00 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_headline() -> None:
    plan = a_plan(Batch(3, 12))
    line = headline("try", 2, 5, plan, "checkpoint-20")
    assert line == "sft · try · attempt 2 of 5 · micro-batch 3, effective batch 36 · from checkpoint-20"
    assert "from" not in headline("try", 1, 5, plan, None)
    assert headline("try", 1, 5, a_plan(stage="dpo"), None).startswith("dpo · ")


def test_only_numbers_that_are_known() -> None:
    assert numbers(Progress()) == []
    assert numbers(Progress(step=1, loss=1.0, learning_rate=0.0)) == ["loss 1.0000", "lr 0"]
    shown = numbers(progress(1, memory_gib=38.25, eval_loss=1.25))
    assert shown == ["loss 1.5000", "lr 0.0002", "2 s/step", "GPU 38.2 GiB", "eval loss 1.2500"]


def test_a_falling_loss_falls() -> None:
    assert sparkline([8, 7, 6, 5, 4, 3, 2, 1]) == SPARKS[::-1]
    assert sparkline([1.0] * 20) == SPARKS[0] * 12
    assert sparkline([1.0, 2.0]) == ""


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), max_size=300), st.integers(3, 40))
def test_a_curve_fits_its_width(losses: list[float], width: int) -> None:
    curve = sparkline(losses, width)
    assert len(curve) == (min(width, len(losses)) if len(losses) >= 3 else 0)
    assert set(curve) <= set(SPARKS)


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_a_loss_that_ran_away_can_be_shown(odd: float) -> None:
    """ms-swift logs NaN when training diverges: that is when a user looks."""
    losses = [2.0, 1.5, odd, 1.0]
    assert len(sparkline(losses)) == 4
    assert numbers(Progress(step=4, total=9, loss=odd, losses=dict(enumerate(losses))))


def test_plain_lines_are_few(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = [1000.0]
    monkeypatch.setattr(screen.time, "monotonic", lambda: clock[0])
    plain = PlainScreen("try")
    plain.attempt(1, 5, a_plan(), None)
    assert capsys.readouterr().err.endswith("effective batch 32: starting\n")

    def shown(step: int, after: float) -> str:
        clock[0] += after
        plain.progress(progress(step), LOG)
        out, err = capsys.readouterr()
        assert out == ""
        return err

    assert shown(0, 100) == "", "nothing is known yet"
    assert shown(1, 1).startswith("step 1/100 (1 %) · loss 1.5000")
    assert shown(1, 60) == "", "nothing is new"
    assert shown(2, 1).startswith("step 2/100"), "the last line is old"
    assert shown(3, 14) == "", "too soon"
    assert shown(4, 1).startswith("step 4/100")
    assert shown(100, 0.1).startswith("step 100/100 (100 %)"), "the end is always shown"


def test_plain_eta(capsys: pytest.CaptureFixture[str]) -> None:
    plain = PlainScreen("try")
    plain.progress(progress(4), LOG)
    assert "eta 3 min 12 s" in capsys.readouterr().err


def test_messages_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in (PlainScreen, TerminalScreen):
        kind("try").say(["Out of GPU memory [red]now[/red]", "[1/2] next", "Full log: runs/x [y]"])
        out, err = capsys.readouterr()
        assert out == ""
        for text in ("Out of GPU memory [red]now[/red]", "[1/2] next", "Full log: runs/x [y]"):
            assert text in err


def test_which_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    assert isinstance(make_screen("try"), PlainScreen)
    monkeypatch.setattr(stderr, "isatty", lambda: True)
    assert isinstance(make_screen("try"), TerminalScreen)


def test_a_drawing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    log = tmp_path / "train.log"
    log.write_text("[INFO:swift] Loading the model [shard 1]\n\n", encoding="utf-8")
    terminal = TerminalScreen("try")
    terminal.attempt(2, 5, a_plan(), "checkpoint-20")
    terminal.progress(Progress(), log)
    terminal.progress(progress(50), log)
    terminal.pause()
    terminal.pause()
    text = capsys.readouterr().err
    assert "attempt 2 of 5" in text
    assert "50/100  50 %  eta 1 min 40 s" in text
    assert "loss 1.5000" in text


def test_while_it_loads_the_last_line_of_the_log_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    log = tmp_path / "train.log"
    terminal = TerminalScreen("try")
    terminal.attempt(1, 5, a_plan(), None)
    terminal.progress(Progress(), log)
    log.write_text("first\n[INFO:swift] Loading [bold]shard[/bold] 1\n\n", encoding="utf-8")
    terminal.progress(Progress(), log)
    terminal.pause()
    assert "Loading [bold]shard[/bold] 1" in capsys.readouterr().err


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    assert screen._last_line(log) == "starting ms-swift"
    log.write_bytes(b"")
    assert screen._last_line(log) == "importing ms-swift"
    log.write_bytes(b"a" * 5000 + b"\nthe end\n \n")
    assert screen._last_line(log) == "the end"
    log.write_bytes("学".encode() * 5000)
    assert len(screen._last_line(log)) == 160


def test_nothing_is_divided_by_zero(capsys: pytest.CaptureFixture[str]) -> None:
    plain = PlainScreen("try")
    plain.progress(Progress(step=3, total=0), LOG)
    assert capsys.readouterr().err == ""  # a resumed attempt knows its step before its total


def test_a_stage_shows_its_own_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    rewards = {step: step / 10 for step in range(1, 5)}
    metrics = {"reward": rewards, "reward_std": {4: 0.25}, "kl": {4: 1e-9}, "completions/mean_length": {4: 120.0}}
    shown = progress(4, losses={4: 2e-8}, metrics=metrics)
    assert numbers(shown, STAGES["grpo"])[:4] == ["reward 0.4 ▁▃▆█", "spread 0.25", "KL 0", "length 120"]
    plain = PlainScreen("try")
    plain.attempt(1, 5, a_plan(stage="grpo"), None)
    plain.progress(shown, LOG)
    assert "reward 0.4" in capsys.readouterr().err


def test_pairs_show_margin_and_accuracy() -> None:
    metrics = {"rewards/margins": {1: 0.5}, "rewards/accuracies": {1: 0.75}}
    shown = numbers(progress(1, losses={1: 1.5}, metrics=metrics), STAGES["dpo"])
    assert shown[:3] == ["loss 1.5000", "margin 0.5", "accuracy 0.75"]


def test_a_gradient_that_is_not_a_number_is_shown() -> None:
    assert "gradient not a number" in numbers(progress(2, grad_norms={1: 1.0, 2: float("nan")}))
    assert "gradient not a number" not in numbers(progress(2, grad_norms={1: float("nan"), 2: 1.0}))
