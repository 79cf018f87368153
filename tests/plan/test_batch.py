"""The effective batch: no GPU count, no preset and no retry may break it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.errors import TunekitError
from tunekit.plan.batch import MINIMUM_EFFECTIVE, Batch, solve_batch

micros = st.integers(1, 128)
effectives = st.integers(MINIMUM_EFFECTIVE, 1024)
copies = st.integers(1, 64)
multiples = st.sampled_from([1, 2, 3, 4, 6, 7, 8, 16, 64])
batches = st.builds(Batch, st.integers(1, 200), st.integers(1, 200), copies)


@given(micros, effectives, copies, multiples)
def test_solve_keeps_the_promise(micro, wanted, data_parallel, multiple_of):
    batch = solve_batch(micro, wanted, data_parallel, multiple_of)
    assert batch.effective >= max(MINIMUM_EFFECTIVE, wanted)
    assert batch.effective == batch.micro * batch.accumulation * batch.data_parallel
    assert batch.data_parallel == data_parallel
    assert 1 <= batch.micro <= micro
    assert batch.accumulation >= 1
    assert batch.effective % multiple_of == 0


@given(micros, effectives, copies, multiples)
def test_solve_is_exact_where_it_can_be(micro, wanted, data_parallel, multiple_of):
    exact = wanted % data_parallel == 0 and wanted % multiple_of == 0
    assert (solve_batch(micro, wanted, data_parallel, multiple_of).effective == wanted) is exact


@given(micros, effectives, copies, multiples)
def test_solve_takes_the_largest_micro_batch(micro, wanted, data_parallel, multiple_of):
    batch = solve_batch(micro, wanted, data_parallel, multiple_of)
    rows = batch.micro * batch.accumulation
    assert not any(rows % larger == 0 for larger in range(batch.micro + 1, micro + 1))


@given(micros, effectives, copies, multiples)
def test_solve_rounds_up_no_further_than_needed(micro, wanted, data_parallel, multiple_of):
    """The next batch that can be shared, or the first one behind it whose micro-batch is not a crumb."""
    batch = solve_batch(micro, wanted, data_parallel, multiple_of)
    unit = math.lcm(data_parallel, multiple_of)
    first = math.ceil(wanted / unit) * unit
    assert batch.effective % unit == 0
    if batch.effective != wanted:
        least = math.ceil(min(micro, first // data_parallel) / 2)
        assert batch.micro >= least
        for smaller in range(first, batch.effective, unit):
            rows = smaller // data_parallel
            assert not any(rows % divisor == 0 for divisor in range(least, micro + 1))


@given(batches)
def test_shrink_keeps_the_effective_batch(batch):
    smaller = batch.shrink()
    if batch.micro == 1:
        assert smaller is None
    else:
        assert smaller.effective == batch.effective
        assert smaller.data_parallel == batch.data_parallel
        assert smaller.micro <= batch.micro // 2


@given(micros, effectives, copies, multiples)
def test_shrinking_ends_at_micro_batch_1(micro, wanted, data_parallel, multiple_of):
    first = batch = solve_batch(micro, wanted, data_parallel, multiple_of)
    for _ in range(first.micro.bit_length()):
        if (smaller := batch.shrink()) is None:
            break
        batch = smaller
    assert batch.shrink() is None
    assert batch == Batch(1, first.effective // data_parallel, data_parallel)


@pytest.mark.parametrize(
    ("wish", "steps"),
    [
        ((8, 32, 1), [(8, 4), (4, 8), (2, 16), (1, 32)]),
        ((6, 36, 1), [(6, 6), (3, 12), (1, 36)]),
        ((6, 36, 2), [(6, 3), (3, 6), (1, 18)]),
        ((6, 36, 4), [(3, 3), (1, 9)]),
        ((6, 36, 8), [(5, 1), (1, 5)]),  # 36 rows cannot be shared by 8: 40
        ((2, 32, 8), [(2, 2), (1, 4)]),
        ((1, 32, 1), [(1, 32)]),
    ],
)
def test_the_presets_batches(wish, steps):
    batch = solve_batch(*wish)
    taken = []
    while batch:
        taken.append((batch.micro, batch.accumulation))
        batch = batch.shrink()
    assert taken == steps


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((0, 32, 1, 1), "micro-batch"),
        ((-3, 32, 1, 1), "micro-batch"),
        ((8, 31, 1, 1), "effective batch"),
        ((8, 0, 1, 1), "effective batch"),
        ((8, 32, 0, 1), "data parallel size"),
        ((8, 32, 1, 0), "num_generations"),
    ],
)
def test_numbers_below_their_minimum_are_refused(arguments, named):
    with pytest.raises(TunekitError, match=f"{named} must be") as refused:
        solve_batch(*arguments)
    assert (refused.value.hint is not None) == (named == "effective batch")


def test_equation():
    assert Batch(6, 6).equation() == "6 × 6 accumulation × 1 GPU = 36"
    assert Batch(4, 2, 4).equation() == "4 × 2 accumulation × 4 GPUs = 32"
    assert Batch(8, 2, 2).equation("CPU") == "8 × 2 accumulation × 2 CPU = 32"
