"""What a run shows of itself."""

from __future__ import annotations

import io
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
    doing,
    duration,
    epoch_of,
    folded,
    headline,
    make_screen,
    numbers,
    place_of,
    sparkline,
)
from tunekit.engine.logs import Progress
from tunekit.engine.phases import Phases
from tunekit.plan.batch import Batch
from tunekit.stages import STAGES

BARS = "Train:   0%|          | 0/100 [00:00<?, ?it/s]", "Train:   {0}%|█         | {0}/100 [00:02<01:40,  2.00s/it]"


def at_step(step: int = 0, *said: str) -> Phases:
    """What is known of a run whose bar shows that step, 0 before the first."""
    phases = Phases()
    for text in (*said, *([bar.format(step) for bar in BARS] if step else [])):
        phases.take(text)
    return phases


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
    line = " · ".join(headline("try", 2, 5, plan, "checkpoint-20"))
    assert line == "sft · try · attempt 2 of 5 · micro-batch 3, effective batch 36 · from checkpoint-20"
    assert "from" not in "".join(headline("try", 1, 5, plan, None))
    assert headline("try", 1, 5, a_plan(stage="dpo"), None)[0] == "dpo"


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
    plain, phases = PlainScreen("try"), at_step()
    plain.attempt(1, 5, a_plan(), None)
    assert capsys.readouterr().err.endswith("effective batch 32: starting\n")

    def shown(step: int, after: float) -> str:
        clock[0] += after
        if step:
            phases.take(BARS[1].format(step))
        plain.progress(progress(step), phases)
        out, err = capsys.readouterr()
        assert out == ""
        return err

    assert shown(0, 1) == "", "too soon"
    assert shown(0, 100) == "importing 101 s\n"
    assert shown(1, 1).startswith("started in 102 s: importing 102 s\nstep 1/100 (1 %) · loss 1.5000")
    assert shown(1, 60) == "", "nothing is new"
    assert shown(2, 1).startswith("step 2/100"), "the last line is old"
    assert shown(3, 14) == "", "too soon"
    assert shown(4, 1).startswith("step 4/100")
    assert shown(100, 0.1).startswith("step 100/100 (100 %)"), "the end is always shown"


def test_plain_eta(capsys: pytest.CaptureFixture[str]) -> None:
    plain = PlainScreen("try")
    plain.progress(progress(4), at_step(4))
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
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(make_screen("try"), TerminalScreen)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_screen("try"), PlainScreen), "a line cannot be redrawn there"


def test_a_drawing_stays(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    terminal = TerminalScreen("try")
    terminal.attempt(2, 5, a_plan(), "checkpoint-20")
    terminal.progress(Progress(), at_step())
    terminal.progress(progress(50), at_step(50))
    terminal.pause()
    terminal.pause()
    text = capsys.readouterr().err
    assert "attempt 2 of 5" in text
    assert "50/100  50 %  eta 1 min 40 s" in text
    assert "loss 1.5000" in text


def test_before_the_first_step_the_phases_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    terminal = TerminalScreen("try")
    terminal.attempt(1, 5, a_plan(), None)
    bar = "Map: 30%|███   | 1200/4000 [00:01<00:02, 900.00 examples/s]"
    terminal.progress(Progress(), at_step(0, "[INFO:swift] Start time of running main: 2026", bar))
    terminal.pause()
    assert "tokenizing 1,200 of 4,000, 0 s" in capsys.readouterr().err


def test_between_two_log_lines_the_bar_goes_on() -> None:
    logged = Progress(step=1, total=0)
    assert place_of(logged, at_step(7)) == (7, 100)
    assert place_of(Progress(step=9, total=100), at_step(7)) == (9, 100)


def test_the_epoch_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert epoch_of(Progress(), 5, 10) == []
    assert epoch_of(Progress(epochs={4: 0.5}), 5, 40) == ["epoch 0.625 of 5"]
    PlainScreen("try").progress(progress(50, epochs={50: 1.5}), at_step(50))
    assert "epoch 1.5 of 3 · eta" in capsys.readouterr().err


def test_an_evaluation_and_a_checkpoint_are_shown_beside_the_steps() -> None:
    phases = at_step(5, "[INFO:swift] Saving model checkpoint to /w/runs/a/output/checkpoint-5")
    assert doing(phases) == ["saved step 5"]
    phases.take("Val:  20%|██        | 2/10 [00:00<00:01,  5.00it/s]")
    assert doing(phases) == ["evaluating 2 of 10", "saved step 5"]
    phases.take("Val: 100%|██████████| 10/10 [00:02<00:00,  5.00it/s]")
    assert doing(phases) == ["saved step 5"]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_nothing_is_cut_off_at(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = TerminalScreen("qwen2.5-7b-instruct-sft")
    terminal.attempt(2, 5, a_plan(), "checkpoint-20")
    more = {"memory_gib": 38.25, "predicted_gib": 37.0, "eval_loss": 1.25, "epochs": {50: 1.5}}
    terminal.progress(progress(50, losses=dict.fromkeys(range(50), 1.0), **more), at_step(50))
    terminal.pause()
    text = capsys.readouterr().err
    assert "…" not in text
    for part in (
        "from checkpoint-20",
        "50/100",
        "eta 1 min 40 s",
        "epoch 1.5 of 3",
        "GPU 38.2 GiB",
        "eval loss 1.2500",
    ):
        assert part in text
    assert max(len(line) for line in text.splitlines()) <= columns


def test_parts_are_joined_in_few_lines() -> None:
    assert folded(["aa", "bb", "cc"], " · ", 7) == ["aa · bb", "cc"]
    assert folded(["a" * 9], " ", 5) == ["aaaa…"]


def test_nothing_is_divided_by_zero(capsys: pytest.CaptureFixture[str]) -> None:
    plain = PlainScreen("try")
    plain.attempt(1, 5, a_plan(), None)
    capsys.readouterr()
    plain.progress(Progress(step=3, total=0), at_step())
    assert capsys.readouterr().err == ""  # a resumed attempt knows its step before its total


def test_a_stage_shows_its_own_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    rewards = {step: step / 10 for step in range(1, 5)}
    metrics = {"reward": rewards, "reward_std": {4: 0.25}, "kl": {4: 1e-9}, "completions/mean_length": {4: 120.0}}
    shown = progress(4, losses={4: 2e-8}, metrics=metrics)
    assert numbers(shown, STAGES["grpo"])[:4] == ["reward 0.4 ▁▃▆█", "spread 0.25", "KL 0", "length 120"]
    plain = PlainScreen("try")
    plain.attempt(1, 5, a_plan(stage="grpo"), None)
    plain.progress(shown, at_step(4))
    assert "reward 0.4" in capsys.readouterr().err


def test_pairs_show_margin_and_accuracy() -> None:
    metrics = {"rewards/margins": {1: 0.5}, "rewards/accuracies": {1: 0.75}}
    shown = numbers(progress(1, losses={1: 1.5}, metrics=metrics), STAGES["dpo"])
    assert shown[:3] == ["loss 1.5000", "margin 0.5", "accuracy 0.75"]


def test_a_gradient_that_is_not_a_number_is_shown() -> None:
    assert "gradient not a number" in numbers(progress(2, grad_norms={1: 1.0, 2: float("nan")}))
    assert "gradient not a number" not in numbers(progress(2, grad_norms={1: float("nan"), 2: 1.0}))
