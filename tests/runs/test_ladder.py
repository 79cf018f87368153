"""The rungs that are taken after an out-of-memory."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import a_plan

from tunekit.engine.kinds import Kind
from tunekit.hardware import Hardware, choose_hardware
from tunekit.plan.batch import Batch
from tunekit.plan.configuration import BATCH_FLAGS
from tunekit.plan.models.model import Model
from tunekit.plan.predict import peak_of
from tunekit.plan.settings import Source
from tunekit.runs import ladder
from tunekit.runs.ladder import RUNGS, SHORTEST, SMALLEST_RANK, fingerprint_of, next_step, seen

if TYPE_CHECKING:
    from tunekit.plan.plan import Plan

ALL_PACKAGES = frozenset({"liger_kernel", "deepspeed", "bitsandbytes"})
NONE: frozenset[str] = frozenset()
MEMORY = [kind for kind in Kind if kind.is_memory]
ONE_ROW = Batch(1, 32)


@pytest.fixture(autouse=True)
def liger_knows_qwen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "liger_models", lambda: frozenset({"qwen2"}))


def on_cpu(batch: Batch, **flags: Any) -> Plan:
    return replace(a_plan(batch, **flags), hardware=Hardware())


def walk(plan: Plan, kind: Kind, packages: frozenset[str], *, lossy: bool) -> list[ladder.Retry]:
    """All steps until the ladder ends."""
    tried = {fingerprint_of(plan)}
    steps: list[ladder.Retry] = []
    while step := next_step(plan, kind, packages, tried, len(steps) + 2, lossy=lossy):
        assert fingerprint_of(step.plan) not in tried, "a configuration is repeated"
        steps.append(step)
        plan = step.plan
        tried.add(fingerprint_of(plan))
        assert len(steps) < 60, "the ladder does not end"
    return steps


CASES = [
    # rung, kind, plan, packages, lossy, what the plan says then
    (
        "eval-batch",
        Kind.GPU_MEMORY_EVAL,
        a_plan(per_device_eval_batch_size=4),
        NONE,
        False,
        ("per_device_eval_batch_size", 1),
    ),
    ("micro-batch", Kind.GPU_MEMORY, a_plan(Batch(8, 4)), NONE, False, ("per_device_train_batch_size", 4)),
    ("micro-batch", Kind.HOST_MEMORY, on_cpu(Batch(8, 4)), NONE, False, ("gradient_accumulation_steps", 8)),
    ("workers", Kind.HOST_MEMORY, a_plan(), NONE, False, ("dataloader_num_workers", 0)),
    ("liger", Kind.GPU_MEMORY, a_plan(ONE_ROW), ALL_PACKAGES, False, ("use_liger_kernel", True)),
    ("liger", Kind.GPU_MEMORY_EVAL, a_plan(), ALL_PACKAGES, False, ("use_liger_kernel", True)),
    (
        "checkpointing",
        Kind.GPU_MEMORY,
        a_plan(ONE_ROW, gradient_checkpointing=False),
        NONE,
        False,
        ("gradient_checkpointing", True),
    ),
    ("zero", Kind.GPU_MEMORY, a_plan(Batch(1, 16, 2), gpus=2), frozenset({"deepspeed"}), False, ("deepspeed", "zero2")),
    (
        "zero",
        Kind.GPU_MEMORY_LOAD,
        a_plan(Batch(8, 2, 2), gpus=2, deepspeed="zero3"),
        ALL_PACKAGES,
        False,
        ("deepspeed", "zero3_offload"),
    ),
    ("4-bit", Kind.GPU_MEMORY_LOAD, a_plan(), ALL_PACKAGES, True, ("quant_method", "bnb")),
    ("rank", Kind.GPU_MEMORY, a_plan(ONE_ROW, lora_rank=8, lora_alpha=32), NONE, True, ("lora_rank", 4)),
    ("max-length", Kind.GPU_MEMORY, a_plan(ONE_ROW, lora_rank=4, max_length=3072), NONE, True, ("max_length", 2048)),
    (
        "packing",
        Kind.GPU_MEMORY,
        a_plan(ONE_ROW, lora_rank=4, max_length=512, packing=True),
        NONE,
        True,
        ("packing", False),
    ),
]


@pytest.mark.parametrize(
    ("rung", "kind", "plan", "packages", "lossy", "wanted"), CASES, ids=[f"{case[0]}-{case[1].value}" for case in CASES]
)
def test_each_rung(
    rung: str, kind: Kind, plan: Plan, packages: frozenset[str], lossy: bool, wanted: tuple[str, Any]
) -> None:
    step = next_step(plan, kind, packages, {fingerprint_of(plan)}, 3, lossy=lossy)
    assert step is not None
    assert step.rung.id == rung
    flag, value = wanted
    setting = step.plan.settings[flag]
    assert (setting.value, setting.source, setting.why) == (value, Source("retry", "3"), step.rung.why)
    assert flag in {change.flag for change in step.plan.changes}
    assert step.plan.batch.effective == plan.batch.effective


def test_every_rung_has_a_case() -> None:
    assert {case[0] for case in CASES} == {rung.id for rung in RUNGS}


def test_the_order_on_several_gpus() -> None:
    plan = a_plan(
        Batch(4, 4, 2), gpus=2, gradient_checkpointing=False, lora_rank=8, lora_alpha=32, max_length=2048, packing=True
    )
    assert [step.rung.id for step in walk(plan, Kind.GPU_MEMORY, ALL_PACKAGES, lossy=True)] == [
        "micro-batch",  # 4 → 1 at once: no more is predicted to fit
        "liger",
        "checkpointing",
        "zero",  # 2
        "zero",  # 3
        "zero",  # 3 with offload; 4-bit weights do not go with it
        "rank",
        "max-length",  # 1280
        "max-length",  # 768
        "max-length",  # 512
        "packing",
    ]


def test_the_order_on_one_gpu() -> None:
    plan = a_plan(Batch(2, 16), lora_rank=8, lora_alpha=32, max_length=1024)
    ids = [step.rung.id for step in walk(plan, Kind.GPU_MEMORY, ALL_PACKAGES, lossy=True)]
    assert ids == ["micro-batch", "liger", "4-bit", "rank", "max-length"]


def test_neutral_rungs_stand_before_lossy_ones() -> None:
    neutral = [rung.neutral for rung in RUNGS]
    assert neutral == sorted(neutral, reverse=True)


@pytest.mark.parametrize("kind", MEMORY)
def test_by_default_only_neutral_rungs(kind: Kind) -> None:
    plan = a_plan(
        Batch(8, 2, 2),
        gpus=2,
        lora_rank=64,
        max_length=4096,
        packing=True,
        per_device_eval_batch_size=8,
        gradient_checkpointing=False,
    )
    steps = walk(plan, kind, ALL_PACKAGES, lossy=False)
    assert steps
    assert all(step.rung.neutral for step in steps)
    for flag in ("lora_rank", "lora_alpha", "max_length", "packing", "quant_method", "quant_bits", "learning_rate"):
        assert steps[-1].plan.get(flag) == plan.get(flag)


@pytest.mark.parametrize("kind", [kind for kind in Kind if not kind.is_memory])
def test_nothing_helps_against_what_is_not_memory(kind: Kind) -> None:
    plan = a_plan(Batch(8, 4), gradient_checkpointing=False, lora_rank=64, max_length=4096, packing=True)
    assert next_step(plan, kind, ALL_PACKAGES, set(), 2, lossy=True) is None


BATCHES = st.builds(Batch, st.integers(1, 96), st.integers(1, 96), st.integers(1, 8))


@settings(deadline=None)
@given(
    batch=BATCHES,
    kind=st.sampled_from(MEMORY),
    packages=st.sets(st.sampled_from(sorted(ALL_PACKAGES))).map(frozenset),
    lossy=st.booleans(),
    cpu=st.booleans(),
    flags=st.fixed_dictionaries(
        {},
        optional={
            "gradient_checkpointing": st.booleans(),
            "per_device_eval_batch_size": st.integers(1, 16),
            "max_length": st.integers(256, 9000),
            "lora_rank": st.integers(1, 128),
            "lora_alpha": st.integers(1, 128),
            "packing": st.booleans(),
            "tuner_type": st.sampled_from(["lora", "full"]),
            "deepspeed": st.sampled_from(["zero0", "zero1", "zero2", "zero3", "zero3_offload", "mine.json"]),
            "quant_method": st.just("bnb"),
            "dataloader_num_workers": st.integers(0, 4),
        },
    ),
)
def test_the_batch_holds_all_the_way_down(
    batch: Batch, kind: Kind, packages: frozenset[str], lossy: bool, cpu: bool, flags: dict[str, Any]
) -> None:
    plan = on_cpu(batch, **flags) if cpu else a_plan(batch, gpus=batch.data_parallel, **flags)
    micro = batch.micro
    for step in walk(plan, kind, packages, lossy=lossy):
        after = step.plan.batch
        assert after.effective == batch.effective
        assert after.data_parallel == batch.data_parallel
        assert after.micro <= micro, "more memory than before"
        assert [step.plan.get(flag) for flag in BATCH_FLAGS] == [after.micro, after.accumulation]
        assert lossy or step.rung.neutral
        assert kind in step.rung.kinds
        micro = after.micro


@settings(deadline=None)
@given(batch=BATCHES)
def test_a_training_run_ends_at_one_row(batch: Batch) -> None:
    steps = walk(a_plan(batch), Kind.GPU_MEMORY, NONE, lossy=False)
    assert (steps[-1].plan.batch.micro if steps else batch.micro) == 1
    sizes = [batch.micro, *(step.plan.batch.micro for step in steps)]
    assert sizes == sorted(set(sizes), reverse=True)
    assert all(after <= before // 2 for before, after in itertools.pairwise(sizes[1:]))  # the first may be any


def unpredictable(batch: Batch) -> Plan:
    plan = a_plan(batch)
    return replace(plan, model=replace(plan.model, id="org/unlisted"))


@pytest.mark.parametrize("batch", [Batch(8, 4), Batch(6, 6), Batch(5, 7)])
def test_without_a_prediction_the_micro_batch_is_halved(batch: Batch) -> None:
    steps = walk(unpredictable(batch), Kind.GPU_MEMORY, NONE, lossy=False)
    sizes = [batch.micro, *(step.plan.batch.micro for step in steps)]
    assert sizes[-1] == 1
    assert all(after <= before // 2 for before, after in itertools.pairwise(sizes))


def test_the_retry_jumps_to_what_the_prediction_says_fits() -> None:
    """Predicted far above the GPU: no attempt is lost on half of it."""
    plan = replace(a_plan(Batch(32, 1), max_length=3072, packing=True), hardware=choose_hardware("1x24GB"))
    step = next_step(plan, Kind.GPU_MEMORY, NONE, {fingerprint_of(plan)}, 2, lossy=False)
    assert step
    peak = peak_of(step.plan)
    assert peak
    assert peak.safe
    assert step.plan.batch.micro < 16
    assert step.plan.batch.effective == 32


def test_a_failure_corrects_the_prediction() -> None:
    """It was predicted to fit and did not: what comes next is scaled by what was seen at the least."""
    plan = replace(a_plan(Batch(8, 4), max_length=3072, packing=True), hardware=choose_hardware("1x48GB"))
    before = peak_of(plan)
    assert before
    assert before.verdict == "fits"
    step = next_step(plan, Kind.GPU_MEMORY, NONE, {fingerprint_of(plan)}, 2, lossy=False)
    assert step
    after = peak_of(step.plan)
    assert after
    assert step.plan.memory_correction == pytest.approx(seen(before))
    assert seen(before) > 1.1
    assert after.safe
    assert step.plan.batch.micro == 4


def test_the_line_for_people() -> None:
    plan = a_plan(Batch(6, 6), max_length=3072)
    step = next_step(plan, Kind.GPU_MEMORY, NONE, {fingerprint_of(plan)}, 2, lossy=False)
    assert step
    assert step.line == "micro-batch 6 → 3, accumulation 6 → 12, effective batch still 36"
    last = walk(plan, Kind.GPU_MEMORY, NONE, lossy=True)[-1]
    assert last.line == "max_length 768 → 512"


def test_tried_configurations_are_passed_over() -> None:
    plan = a_plan(ONE_ROW, gradient_checkpointing=False)
    first = next_step(plan, Kind.GPU_MEMORY, ALL_PACKAGES, {fingerprint_of(plan)}, 2, lossy=False)
    assert first
    assert first.rung.id == "liger"
    second = next_step(
        plan, Kind.GPU_MEMORY, ALL_PACKAGES, {fingerprint_of(plan), fingerprint_of(first.plan)}, 3, lossy=False
    )
    assert second
    assert second.rung.id == "checkpointing"


@pytest.mark.parametrize(
    ("rung", "fresh"),
    [
        ("eval-batch", False),
        ("micro-batch", False),
        ("workers", False),
        ("liger", False),
        ("checkpointing", False),
        ("zero", True),
        ("4-bit", False),
        ("rank", True),
        ("max-length", True),
        ("packing", True),
    ],
)
def test_which_rungs_start_over(rung: str, fresh: bool) -> None:
    assert {item.fresh for item in RUNGS if item.id == rung} == {fresh}
    plan, kind, packages, lossy = next(case[2:3] + case[1:2] + case[3:5] for case in CASES if case[0] == rung)
    step = next_step(plan, kind, packages, {fingerprint_of(plan)}, 2, lossy=lossy)
    assert step
    assert step.fresh is fresh


@pytest.mark.parametrize(
    ("plan", "packages"),
    [
        (a_plan(ONE_ROW, stage="dpo"), ALL_PACKAGES),
        (a_plan(ONE_ROW, model=Model("x/y", 7.0, "unheard_of")), ALL_PACKAGES),
        (a_plan(ONE_ROW, use_liger_kernel=True), ALL_PACKAGES),
        (a_plan(ONE_ROW), ALL_PACKAGES - {"liger_kernel"}),
        (on_cpu(ONE_ROW), ALL_PACKAGES),
    ],
)
def test_liger_only_where_it_works(plan: Plan, packages: frozenset[str]) -> None:
    assert "liger" not in [step.rung.id for step in walk(plan, Kind.GPU_MEMORY, packages, lossy=True)]


@pytest.mark.parametrize(
    "plan",
    [
        a_plan(tuner_type="full"),
        a_plan(quant_method="bnb"),
        a_plan(model=Model("x/y", 20.0, "gpt_oss", moe=True)),
        a_plan(Batch(8, 2, 2), gpus=2, deepspeed="zero3_offload"),
    ],
)
def test_four_bits_only_where_they_work(plan: Plan) -> None:
    assert "4-bit" not in [step.rung.id for step in walk(plan, Kind.GPU_MEMORY_LOAD, ALL_PACKAGES, lossy=True)]


def test_quantized_weights_are_never_sharded() -> None:
    plan = a_plan(Batch(1, 16, 2), gpus=2, quant_method="bnb", quant_bits="4")
    stages = [step.plan.get("deepspeed") for step in walk(plan, Kind.GPU_MEMORY, ALL_PACKAGES, lossy=True)]
    assert set(stages) == {"zero2"} | ({None} & set(stages))


def test_zero_needs_several_gpus_and_deepspeed() -> None:
    alone = walk(a_plan(ONE_ROW), Kind.GPU_MEMORY, ALL_PACKAGES, lossy=False)
    without = walk(a_plan(Batch(1, 16, 2), gpus=2), Kind.GPU_MEMORY, ALL_PACKAGES - {"deepspeed"}, lossy=False)
    own = walk(a_plan(Batch(1, 16, 2), gpus=2, deepspeed="mine.json"), Kind.GPU_MEMORY, ALL_PACKAGES, lossy=False)
    assert "zero" not in [step.rung.id for step in alone + without + own]


def test_host_memory_on_a_gpu_leaves_the_micro_batch_alone() -> None:
    steps = walk(a_plan(Batch(8, 4)), Kind.HOST_MEMORY, NONE, lossy=False)
    assert [step.rung.id for step in steps] == ["workers"]


@pytest.mark.parametrize("rank", [4, 5, 6, 7, 8, 9, 12, 15, 31, 64, 100])
def test_the_rank_is_never_below_the_smallest(rank: int) -> None:
    plan = a_plan(ONE_ROW, lora_rank=rank, lora_alpha=4 * rank)
    ranks = [step.plan.get("lora_rank") for step in walk(plan, Kind.GPU_MEMORY, NONE, lossy=True)]
    assert all(SMALLEST_RANK <= int(str(lower)) < rank for lower in ranks)


@pytest.mark.parametrize("rank", [8, 16, 32, 64])
def test_the_scale_of_the_adapter_stays(rank: int) -> None:
    plan = a_plan(ONE_ROW, lora_rank=rank, lora_alpha=4 * rank)
    for step in walk(plan, Kind.GPU_MEMORY, NONE, lossy=True):
        assert step.plan.get("lora_alpha") == 4 * int(str(step.plan.get("lora_rank")))


def test_the_length_is_never_below_the_shortest() -> None:
    for length in (513, 700, 767, 768, 1000, 3072, 40960):
        plan = a_plan(ONE_ROW, lora_rank=4, max_length=length)
        lengths = [step.plan.get("max_length") for step in walk(plan, Kind.GPU_MEMORY, NONE, lossy=True)]
        assert lengths[-1] == SHORTEST
    short = a_plan(ONE_ROW, lora_rank=4, max_length=512)
    assert walk(short, Kind.GPU_MEMORY, NONE, lossy=True) == []


def test_the_fingerprint_tells_settings_apart_and_not_their_sources() -> None:
    plan = a_plan(max_length=512)
    same = plan.changed({"max_length": 512}, Source("retry", "2"), "why")
    other = plan.changed({"max_length": 256}, Source("retry", "2"), "why")
    assert fingerprint_of(plan) == fingerprint_of(same) != fingerprint_of(other)
