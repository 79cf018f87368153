"""A whole run: padding from real lengths, and what is said of it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.speed.duration import Duration, padded_lengths

ROWS = st.lists(st.integers(1, 10_000), min_size=1, max_size=200).map(sorted)


@given(rows=ROWS, micro=st.integers(1, 64))
def test_larger_micro_batches_pad_more(rows, micro):
    few, many = padded_lengths(rows, micro), padded_lengths(rows, micro + 1)
    assert all(a <= b for a, b in zip(few, many, strict=True))
    assert rows[0] <= few[0] <= few[-1] <= rows[-1]


def test_the_mean_of_the_longest_of_two():
    """Of two numbers drawn from 0 to 1 the larger is 2/3 on average."""
    rows = list(range(1, 10_001))
    assert sum(padded_lengths(rows, 2)) / 8 == pytest.approx(6667, rel=0.01)


def test_equal_rows_have_no_padding():
    assert set(padded_lengths([512] * 9, 16)) == {512}
    assert padded_lengths([], 4) == []


def test_parts_hours_and_cost():
    made = Duration(training=3000, evaluation=300, saving=240, start=60, tokens=3e6, gpus=2, price=1.5)
    assert made.seconds == 3600
    assert made.bounds == (2700, 5760)
    assert made.gpu_hours == 2
    assert made.tokens_per_second == 1000
    assert made.cost == (3, 2.25, pytest.approx(4.8))
    assert replace(made, price=0).cost is None
