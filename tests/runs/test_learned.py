"""What runs of this machine measured, and how it corrects the next prediction."""

import json
from dataclasses import replace

import pytest

from tunekit.hardware import Hardware, choose_hardware
from tunekit.plan.pace import PaceSeen
from tunekit.plan.predict import peak_of
from tunekit.runs import learned

CARD = "1x24GB"


def remember(make, ratio, **more):
    plan = make(preset="7b", gpus=CARD, **more)
    peak = peak_of(plan)
    return learned.remember(plan, peak, peak.prediction.reserved_gib / peak.correction * ratio)


def test_nothing_is_corrected_before_the_first_run():
    assert learned.learned_correction(choose_hardware(CARD)) == 1


def test_a_cpu_has_nothing_to_correct():
    assert learned.learned_correction(Hardware()) == 1


def test_the_median_counts(make):
    for ratio in (1.0, 1.1, 1.4):
        assert remember(make, ratio)
    assert learned.learned_correction(choose_hardware(CARD)) == pytest.approx(1.1, abs=1e-3)


def test_another_card_learns_nothing_from_it(make):
    remember(make, 1.2)
    assert learned.learned_correction(choose_hardware("1x80GB")) == 1


def test_a_ratio_that_tells_of_something_else_is_bounded(make):
    remember(make, 3)
    assert learned.learned_correction(choose_hardware(CARD)) == 1.5


def test_the_correction_is_not_learned_twice(make):
    """A run that was planned with a correction is compared with the estimate itself."""
    assert remember(make, 1.2, memory_correction=1.2)
    assert learned.learned_correction(choose_hardware(CARD)) == pytest.approx(1.2, abs=1e-3)


def test_shorter_rows_teach_nothing_unless_they_took_more(make):
    assert not remember(make, 0.9, packing=False)
    assert remember(make, 1.1, packing=False)


def test_a_damaged_line_is_left_out(make, isolated):
    remember(make, 1.2)
    file = isolated / "cache" / "memory.jsonl"
    file.write_text(
        "half a li\n[1]\n" + json.dumps({"card": 1, "predicted": "x", "measured": 2}) + "\n" + file.read_text()
    )
    assert learned.learned_correction(choose_hardware(CARD)) == pytest.approx(1.2, abs=1e-3)


def test_only_the_last_rows_are_kept(make, isolated, monkeypatch):
    monkeypatch.setattr(learned, "KEPT", 3)
    for ratio in (1.0, 1.0, 1.0, 1.3, 1.3, 1.3):
        remember(make, ratio)
    assert len((isolated / "cache" / "memory.jsonl").read_text().splitlines()) == 3
    assert learned.learned_correction(choose_hardware(CARD)) == pytest.approx(1.3, abs=1e-3)


# --- pace


def here(plan):
    """The plan on this machine's own cards: nothing is known of those that are only described."""
    return replace(plan, hardware=replace(plan.hardware, described=False))


def test_a_pace_is_learned_by_card_method_and_length(make):
    plan = here(make(preset="7b", gpus=CARD))
    assert learned.learned_pace(plan).runs == 0
    for ratio in (1.2, 1.4, 2.0):
        learned.remember_pace(plan, 10.0 * ratio, 10.0, 50_000)
    assert learned.learned_pace(plan) == PaceSeen(1.4, 3)
    others = (
        make(preset="7b", gpus="1x80GB"),
        make(preset="7b", gpus=CARD, tuner_type="full"),
        make(preset="7b", gpus=CARD, max_length=256),
    )
    assert {learned.learned_pace(here(other)).runs for other in others} == {0}
    assert learned.learned_pace(make(preset="7b", gpus=CARD)).runs == 0


def test_a_pace_that_tells_of_something_else_is_bounded(make):
    plan = here(make(preset="7b", gpus=CARD))
    learned.remember_pace(plan, 1000.0, 1.0, 10)
    assert learned.learned_pace(plan).ratio == 5.0


def test_a_pace_of_nothing_is_not_kept(make, isolated):
    learned.remember_pace(make(preset="7b", gpus=CARD), 0.0, 1.0, 10)
    learned.remember_pace(make(preset="cpu", gpus="cpu"), 1.0, 1.0, 10)
    assert not (isolated / "cache" / "pace.jsonl").exists()
