"""The allocator's replay: what is given out is held, what is freed can be used again."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.memory.trace.allocator import (
    LARGE_BUFFER,
    MIB,
    MIN_BLOCK,
    SMALL_BUFFER,
    CachingAllocator,
    OutOfMemory,
    replay,
    rounded,
)

sizes = st.one_of(st.integers(1, 4 * 1024), st.integers(1, 3 * MIB), st.integers(1, 80 * MIB))
actions = st.lists(st.tuples(sizes, st.booleans(), st.integers(0, 1000)), max_size=60)


def run(allocator, steps):
    """Allocate each size; where the flag is set, free one of the live blocks first. Yields after every action."""
    live = []
    for size, free_first, which in steps:
        if free_first and live:
            allocator.release(live.pop(which % len(live)))
            yield live
        live.append(allocator.allocate(size))
        yield live


@given(actions, st.booleans())
def test_books_are_kept(steps, expandable):
    allocator = CachingAllocator(expandable=expandable)
    for live in run(allocator, steps):
        given_out, cached = allocator.live_and_free()
        assert given_out == sum(block.size for block in live)
        assert given_out + cached == allocator.reserved
        assert 0 <= given_out <= allocator.reserved <= allocator.peak_reserved
        assert all(block.size % MIN_BLOCK == 0 and not block.free for block in live)
        spans = sorted((block.address, block.address + block.size) for block in live)
        assert all(left[1] <= right[0] for left, right in pairwise(spans))


@given(actions, st.booleans())
def test_everything_freed_is_cached_whole(steps, expandable):
    allocator = CachingAllocator(expandable=expandable)
    live = []
    for now in run(allocator, steps):
        live = list(now)
    for block in live:
        allocator.release(block)
    assert allocator.live_and_free() == (0, allocator.reserved)
    held = allocator.reserved
    allocator.cap = 0
    with pytest.raises(OutOfMemory):
        allocator.allocate(held + MIB)
    assert allocator.reserved == 0  # every segment had melted into one block, so all could be given back


@given(actions, st.booleans(), st.integers(20, 200))
def test_the_cap_holds(steps, expandable, mebibytes):
    allocator = CachingAllocator(expandable=expandable, cap=mebibytes * MIB)
    failed = None
    try:
        for _ in run(allocator, steps):
            assert allocator.reserved <= mebibytes * MIB
            assert sum(allocator.live_and_free()) == allocator.reserved
    except OutOfMemory as error:
        failed = error
    assert failed is None or (allocator.retries and failed.asked + failed.reserved > mebibytes * MIB)


def test_the_books_are_kept_under_a_cap_and_after_what_did_not_fit():
    """Traces that run against the cap again and again, which hypothesis seldom makes."""
    refused = 0
    for seed in range(1500):
        chance = random.Random(seed)  # noqa: S311 - nothing here is a secret
        cap = chance.randint(4, 200) * MIB
        allocator, live = CachingAllocator(expandable=seed % 4 > 0, cap=cap), []
        for _ in range(40):
            if live and chance.random() < 0.5:
                allocator.release(live.pop(chance.randrange(len(live))))
            else:
                try:
                    live.append(allocator.allocate(chance.randint(1, chance.choice((4096, 3 * MIB, 80 * MIB)))))
                except OutOfMemory:
                    refused += 1
            given_out, cached = allocator.live_and_free()
            assert given_out == sum(block.size for block in live)
            assert given_out + cached == allocator.reserved <= cap
        spans = sorted((block.address, block.address + block.size) for block in live)
        assert all(left[1] <= right[0] for left, right in pairwise(spans))
    assert refused > 1000


@given(st.lists(sizes, min_size=1, max_size=30))
def test_expandable_wastes_less_than_a_page_each_pool(wanted):
    outcome = replay(list(enumerate(wanted)), expandable=True)
    assert outcome.allocated == sum(map(rounded, wanted))
    assert outcome.allocated <= outcome.reserved < outcome.allocated + LARGE_BUFFER + SMALL_BUFFER


@pytest.mark.parametrize(
    ("size", "segment"),
    [
        (1, SMALL_BUFFER),
        (MIB, SMALL_BUFFER),
        (MIB + 1, LARGE_BUFFER),
        (10 * MIB - 512, LARGE_BUFFER),
        (10 * MIB, 10 * MIB),
        (21 * MIB, 22 * MIB),
    ],
)
def test_segments(size, segment):
    assert replay([(0, size)]).reserved == segment


def test_a_freed_block_is_used_again():
    assert replay([(0, 64 * MIB), (0, 0), (1, 40 * MIB), (2, 20 * MIB)]).reserved == 64 * MIB


def test_neighbours_melt():
    events = [(0, 64 * MIB), (0, 0), (1, 32 * MIB), (2, 32 * MIB), (1, 0), (2, 0), (3, 64 * MIB)]
    assert replay(events).reserved == 64 * MIB


def test_a_piece_too_small_for_the_large_pool_is_not_cut_off():
    allocator = CachingAllocator()
    assert allocator.allocate(11 * MIB).size == 12 * MIB


def test_fragmentation_costs_and_expandable_segments_do_not():
    growing = [event for name, size in enumerate((100, 110, 120, 130)) for event in ((name, size * MIB), (name, 0))]
    assert replay(growing).reserved == 460 * MIB
    assert replay(growing, expandable=True).reserved == 140 * MIB


def test_a_cap_gives_cached_segments_back_first():
    growing = [event for name, size in enumerate((100, 110, 120, 130)) for event in ((name, size * MIB), (name, 0))]
    outcome = replay(growing, cap=150 * MIB)
    assert outcome.fits
    assert outcome.retries == 3
    tight = replay(growing, cap=125 * MIB)
    assert not tight.fits
    assert tight.failed_at == 6
