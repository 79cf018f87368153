"""Lengths and shares of the tokens, on rows whose tokens are given."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenized import lengths_of

from tunekit.data.tokens import Lengths, Seen, Sequence


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(0, 100)), min_size=1, max_size=60), st.integers(100, 300))
def test_packs_hold_every_row_once_and_never_too_much(sizes, length):
    seen = Seen(tuple((Sequence(size, size, min(size, loss)),) for size, loss in sizes))
    packs = seen.packs(length)
    assert sum(rows for rows, _ in packs) == len(sizes)
    assert sum(loss for _, loss in packs) == sum(min(size, loss) for size, loss in sizes)
    total = sum(size for size, _ in sizes)
    assert -(-total // length) <= len(packs) <= max(1, 2 * total // length + 1)


@pytest.mark.engine
def test_packs_are_those_of_ms_swift():
    from swift.dataset.packing import calculate_matched_group

    draw = random.Random(5)  # noqa: S311 - the same sizes every time
    sizes = [draw.randint(1, 400) for _ in range(300)]
    theirs, _ = calculate_matched_group(list(enumerate(sizes)), 512)
    ours = lengths_of(*((size, 0) for size in sizes)).seen(None).packs(512)
    assert abs(len(ours) - len(theirs)) <= 1


def test_what_the_rows_say():
    found = lengths_of(*((size, size // 4) for size in range(1, 101)))
    assert (found.longest, found.median, found.mean, found.p95) == (100, 50.5, 50.5, 95)
    assert (found.over(100), found.over(90), found.over(0)) == (0, 10, 100)
    assert found.row_length(60) == 60
    assert found.row_length(4096) == 100
    assert found.row_length(None) == 100
    assert len(found.seen(90).rows) == 90


def test_the_longest_row_need_not_be_in_the_sample():
    found = Lengths(("d.jsonl",), 9000, ((Sequence(10, 10, 5),),), largest=(700, 3))
    assert found.longest == 700
    assert found.p95 == 10


def test_dropped_rows_carry_no_loss_and_cut_rows_what_is_left():
    dropped = lengths_of((10, 5), (100, 100)).seen(50)
    assert dropped.loss_share == 0.5
    cut = Lengths(("d.jsonl",), 2, ((Sequence(10, 10, 5),), (Sequence(100, 50, 40),))).seen(50)
    assert cut.loss_share == 45 / 60


def test_the_heaviest_micro_batch():
    one = lengths_of((100, 90), (100, 10)).seen(None)
    assert one.loss_share == 0.5
    assert one.heaviest_share(1, 100, packed=False) == 0.9
    assert one.heaviest_share(4, 100, packed=False) == 0.5, "the estimate derives it from the mean"
    assert one.heaviest_share(1, 100, packed=True) == 0.9
    assert one.heaviest_share(1, 200, packed=True) == 0.5
    many = lengths_of(*((100, 90 if number % 2 else 10) for number in range(100))).seen(None)
    assert 0.5 < many.heaviest_share(8, 100, packed=True) < 0.9


def test_a_dataset_whose_rows_are_all_dropped():
    none = lengths_of((100, 50)).seen(10)
    assert not none.rows
    assert none.heaviest_share(4, 10, packed=True) == none.loss_share == 0
