"""A time in words."""

import pytest

from tunekit.cli.show.duration import in_thousands, roughly, time_in_words, time_lines
from tunekit.speed.duration import KNOWN, Duration

MADE = Duration(training=6000, evaluation=300, saving=240, start=60, tokens=74.4e6, gpus=1)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (4, "10 s"),
        (62, "60 s"),
        (700, "12 min"),
        (3599, "1 h"),
        (6600, "1 h 50 min"),
        (3600 * 31.2, "31 h"),
        (3600 * 290, "12 days"),
    ],
)
def test_two_digits_count(seconds, words):
    assert roughly(seconds) == words


def test_the_line_of_a_plan():
    assert time_in_words(MADE) == "about 1 h 50 min (1 h 20 min to 2 h 55 min) · 12.4k tokens/s · 1.8 GPU-hours"
    ((title, line),) = time_lines(MADE)
    assert title == "Time"
    assert "roughly" in line


def test_cost_needs_a_price():
    priced = Duration(**{**vars(MADE), "price": 1.4})
    assert time_in_words(priced).endswith("1.8 GPU-hours · 2.57 (1.92 to 4.11)")


def test_runs_of_this_machine_are_named():
    known = Duration(**{**vars(MADE), "known": 2, "range": KNOWN})
    assert "as 2 runs on this machine went" in time_lines(known)[0][1]


def test_a_refusal_says_why():
    assert time_lines(None, "the speed of a CPU is not known") == [
        ("Time", "not told: the speed of a CPU is not known")
    ]
    assert time_lines(None) == []


def test_thousands():
    assert (in_thousands(870.4), in_thousands(12_430)) == ("870", "12.4k")
