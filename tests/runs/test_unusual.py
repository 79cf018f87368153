"""A pace that is far below what was said, and what may be the reason."""

import os
import stat

import pytest

from tunekit.engine.logs import Progress
from tunekit.runs import unusual
from tunekit.runs.unusual import AFTER, USUAL_REASONS, CardState, PaceWatch, card_states, reasons_to_be_slow

SAID = {"seconds": 1000.0, "low": 750.0, "high": 1600.0, "step": 10.0}
WELL = CardState("0", 97, 1.0, (), 1)


def at(step: int, seconds: float | None) -> Progress:
    return Progress(step=step, total=500, seconds_per_step=seconds)


@pytest.fixture(autouse=True)
def idle_host(monkeypatch):
    monkeypatch.setattr(unusual, "_host", lambda _: [])


def test_it_is_said_once_when_enough_steps_were_slower_than_the_most_that_was_said(monkeypatch):
    monkeypatch.setattr(unusual, "card_states", lambda cards: [CardState("0", 97, 1.0, (), 2)])
    watch = PaceWatch(SAID, ["0"])
    assert watch.look(at(100, 99)) == []  # resumed at step 100: the first look counts from there
    assert watch.look(at(100 + AFTER - 1, 99)) == []
    head, reason = watch.look(at(100 + AFTER, 20))
    assert head == "Slower than said: 20.0 s a step, at most 16.0 s were said."
    assert reason == "  GPU 0 is shared: 2 programs compute on it (nvidia-smi)"
    assert watch.reasons == (reason.strip(),)
    assert watch.look(at(200, 99)) == []


@pytest.mark.parametrize(("said", "seconds"), [(SAID, 15.9), ({}, 99), (SAID, None)])
def test_nothing_is_said_of_a_usual_pace_or_where_none_was_told(said, seconds):
    watch = PaceWatch(said, ["0"])
    assert watch.look(at(0, seconds)) == watch.look(at(AFTER, seconds)) == []


def test_where_nothing_is_seen_the_usual_reasons_are_named(monkeypatch):
    monkeypatch.setattr(unusual, "card_states", lambda cards: [WELL])
    watch = PaceWatch(SAID, ["0"])
    watch.look(at(0, 20))
    assert watch.look(at(AFTER, 20))[1] == f"  {USUAL_REASONS}"
    assert watch.reasons == ()


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (CardState("3", 97, 1.0, (), 2), "GPU 3 is shared"),
        (CardState("0", 97, 0.5, ("sw_power_cap",), 1), "only 50 % of its power"),
        (CardState("0", 97, 1.0, ("hw_thermal_slowdown", "sw_thermal_slowdown"), 1), "too hot"),
        (CardState("0", 20, 1.0, (), 1), "computes only 20 % of the time"),
    ],
)
def test_reasons_of_a_card(card, words):
    found = reasons_to_be_slow([WELL, card])
    assert words in " ".join(found)
    assert len(found) == len(set(found)) <= 2


def test_a_card_at_its_full_power_limit_is_no_reason():
    assert reasons_to_be_slow([CardState("0", 99, 1.0, ("sw_power_cap",), 1)]) == []


def test_reasons_of_the_host(tmp_path, monkeypatch):
    monkeypatch.undo()
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure/memory").write_text("some avg10=40.00 avg60=31.50 avg300=9.00 total=1\nfull avg10=0.00\n")
    (tmp_path / "loadavg").write_text(f"{3 * (os.cpu_count() or 1)}.50 1.00 1.00 2/300 4711\n")
    memory, load = reasons_to_be_slow([], tmp_path)
    assert "swaps" in memory
    assert "CPUs" in load
    assert reasons_to_be_slow([], tmp_path / "none") == []


def test_nvidia_smi_is_read(tmp_path, monkeypatch):
    script = tmp_path / "nvidia-smi"
    script.write_text(
        '#!/bin/sh\ncase "$*" in\n'
        "  *query-compute-apps*) printf 'GPU-a\\nGPU-a\\nGPU-b\\n';;\n"
        "  *) printf '0, GPU-a, 31, 350.00, 700.00, Not Active, Active, Not Active, Active\\n"
        "1, GPU-b, [N/A], [N/A], [N/A], Not Active, Not Active, Not Active, Not Active\\n';;\nesac\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    first, second = card_states(("0", "1"))
    assert first == CardState("0", 31, 0.5, ("sw_thermal_slowdown", "sw_power_cap"), 2)
    assert second == CardState("1", 100, 1.0, (), 1)
    assert card_states(()) == []


def test_no_nvidia_smi_no_states(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert card_states(("0",)) == []
