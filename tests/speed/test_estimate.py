"""The time of a step moves the way work does, and stays near what was measured."""

import csv
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.speed.cards import RATES, rates_of
from tunekit.speed.duration import ROUGHLY
from tunekit.speed.estimate import LOOK, LayerPasses, computed, look_seconds, step_time
from tunekit.speed.work import ATTENTION, KERNELS, SHARDING, DecoderShape, Work, adapters_of

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from bench_speed import apart, ratio, work_in  # noqa: E402

SMALL = DecoderShape(layers=24, hidden=896, width=4864, query=896, keys=128, heads=14, vocab=151936, tied=True)
LARGE = DecoderShape(layers=32, hidden=4096, width=14336, query=4096, keys=1024, heads=32, vocab=128256)

with (ROOT / "benchmarks/speed.csv").open(encoding="utf-8", newline="") as file:
    MEASURED = list(csv.DictReader(file))

WORKS = st.builds(
    Work,
    shape=st.sampled_from([SMALL, LARGE]),
    adapters=st.sampled_from([None, adapters_of(LARGE), adapters_of(LARGE, mlp=False, rank=64)]),
    bits=st.sampled_from([None, 4]),
    micro=st.integers(1, 64),
    length=st.integers(1, 65_536),
    accumulation=st.integers(1, 64),
    checkpointing=st.booleans(),
    attention=st.sampled_from(ATTENTION),
    kernels=st.sampled_from(KERNELS),
    reference=st.booleans(),
    sharding=st.sampled_from(SHARDING),
    hooks=st.booleans(),
    gpus=st.sampled_from([1, 2, 8]),
)
CARDS = st.sampled_from(RATES)


def more_of(work, name):
    """The same with more of one thing."""
    if name == "layers":
        return replace(work, shape=replace(work.shape, layers=work.shape.layers + 1))
    if name == "rank":
        return replace(work, adapters=work.adapters._replace(rank=work.adapters.rank * 2)) if work.adapters else work
    return replace(work, **{name: getattr(work, name) + 1})


@given(work=WORKS, card=CARDS, name=st.sampled_from(["micro", "length", "accumulation", "layers", "rank"]))
def test_more_never_takes_less_time(work, card, name):
    assert step_time(more_of(work, name), card).seconds >= step_time(work, card).seconds * (1 - 1e-12)


@given(work=WORKS, card=CARDS)
def test_looking_takes_less_than_learning(work, card):
    assert 0 < look_seconds(work, card) < step_time(replace(work, reference=False), card).micro


@given(work=WORKS, card=CARDS)
def test_recomputing_and_a_reference_cost_time(work, card):
    bare = step_time(replace(work, checkpointing=False, reference=False), card).seconds
    assert step_time(replace(work, checkpointing=True, reference=False), card).seconds > bare
    assert step_time(replace(work, checkpointing=False, reference=True), card).seconds > bare


@given(work=WORKS, card=CARDS)
def test_parts_make_the_whole(work, card):
    """The GPU's parts and the CPU's launches go on beside each other: the whole lies between the larger and the sum."""
    parts = computed(work, card, LayerPasses(again=int(work.checkpointing)))
    gpu, launch = sum(parts.values()) - parts["launch"], parts["launch"]
    found = step_time(replace(work, reference=False, gpus=1), card)
    assert max(gpu, launch) * (1 - 1e-9) <= found.micro <= (gpu + launch) * (1 + 1e-9)
    assert found.seconds == pytest.approx(work.accumulation * found.micro + found.step)


@given(work=WORKS)
def test_a_faster_card_is_faster(work):
    """H100 against A100: more of everything, with the attention that was made for it."""
    work = replace(work, attention="flash3")
    assert step_time(work, rates_of("H100")).seconds <= step_time(work, rates_of("A100")).seconds


@given(work=WORKS, card=CARDS)
def test_attending_within_short_samples_is_no_slower(work, card):
    assert step_time(replace(work, span=work.length / 4), card).seconds <= step_time(work, card).seconds


def test_a_small_micro_batch_is_bound_by_launches():
    """Qwen-1.8B, LoRA: 1.0 s a step at 256 tokens a row and at 512 (QwenLM/Qwen, README)."""
    row = next(row for row in MEASURED if row["id"] == "qwen-readme-001")
    short = step_time(work_in(row), rates_of("A100-80GB"))
    double = step_time(replace(short.work, length=512), rates_of("A100-80GB"))
    assert double.micro < 1.15 * short.micro


def test_four_bit_weights_are_unpacked_once_a_micro_batch():
    work = Work(shape=LARGE, adapters=adapters_of(LARGE), bits=4)
    unpacked = [computed(replace(work, length=length), rates_of("A100"), LOOK)["dequantize"] for length in (64, 4096)]
    assert unpacked[0] == unpacked[1] > 0


def test_measured_rows_stay_near():
    """The rows to which the constants were fitted; docs/time.md has the errors of others."""
    ratios = [ratio(row) for row in MEASURED if not apart(row)]
    low, high = ROUGHLY
    assert len(MEASURED) == 607
    assert len(ratios) == 499
    assert statistics.median(abs(found - 1) for found in ratios) < 0.05
    assert sum(low <= found <= high for found in ratios) > 0.98 * len(ratios)


def test_every_measured_row_names_its_source():
    assert all(row["source"] and float(row["tok_s_gpu"]) > 0 for row in MEASURED)
