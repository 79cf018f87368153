"""Lengths in bins."""

from hypothesis import given
from hypothesis import strategies as st
from tokenized import lengths_of

from tunekit.data.stats import BINS, BOUNDS, bins_of, longer_than

LENGTHS = st.lists(st.integers(1, 50_000), min_size=1, max_size=200)


@given(LENGTHS)
def test_every_row_is_in_one_bin(tokens):
    bins = bins_of(lengths_of(*((token, 1) for token in tokens)))
    for part in bins:
        assert part.rows == sum(part.above < token and (part.most is None or token <= part.most) for token in tokens)
    assert sum(part.rows for part in bins) == len(tokens)
    assert len(bins) <= BINS + 2
    assert [part.most for part in bins[:-1]] == [part.above for part in bins[1:]]


def test_bins_are_round_and_the_longest_share_one():
    bins = bins_of(lengths_of(*[(100, 1)] * 150, (90_000, 1)))
    assert [(part.above, part.most, part.rows) for part in bins[-2:]] == [(90, 100, 150), (100, None, 1)]


@given(LENGTHS, st.none() | st.integers(1, 50_000))
def test_rows_over_each_bound(tokens, limit):
    found = longer_than(lengths_of(*((token, 1) for token in tokens)), limit)
    assert all(number == sum(token > bound for token in tokens) for bound, number in found.items())
    assert limit is None or limit in found
    assert {bound for bound in BOUNDS if any(token > bound for token in tokens)} <= found.keys()
    assert sum(not number and bound != limit for bound, number in found.items()) <= 1
