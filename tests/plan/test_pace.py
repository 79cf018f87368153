"""How long a plan takes, in the words of its settings and rows."""

from dataclasses import replace

import pytest

from tunekit.data.tokens import Lengths, Sequence
from tunekit.memory.spec import Spec
from tunekit.plan.measured import rows_measured
from tunekit.plan.models.config import config_of
from tunekit.plan.models.find import resolve
from tunekit.plan.pace import PaceSeen, duration_of, plan_work, work_of
from tunekit.plan.schedule import schedule_of
from tunekit.speed.cards import Untold
from tunekit.speed.duration import KNOWN, ROUGHLY

CONFIG = config_of(resolve("Qwen2.5-7B"))
EVEN = Lengths(("d.jsonl",), 1000, ((Sequence(500, 500, 100),),) * 100)
UNEVEN = Lengths(("d.jsonl",), 1000, ((Sequence(100, 100, 20),),) * 90 + ((Sequence(2000, 2000, 400),),) * 10)


def time_of(plan, lengths=EVEN, **more):
    rows = rows_measured(plan, lengths)
    held = rows.samples_per_row if plan.packed else None
    return duration_of(plan, schedule_of(plan, lengths.total, held=held), rows, **more)


def a_plan(make, **more):
    return make(model="Qwen2.5-7B", preset="7b", gpus="H100", **more)


def test_more_rows_and_more_epochs_take_longer(make):
    plan, longer = a_plan(make), a_plan(make, num_train_epochs=3)
    more = replace(EVEN, total=4000)
    assert time_of(plan).seconds < time_of(plan, more).seconds
    assert time_of(longer).training == pytest.approx(3 * time_of(plan).training, rel=0.05)


def test_two_gpus_halve_the_time_and_not_the_gpu_hours(make):
    one = time_of(a_plan(make), replace(EVEN, total=50_000))
    two = time_of(make(model="Qwen2.5-7B", preset="7b", gpus="2xH100"), replace(EVEN, total=50_000))
    assert two.training == pytest.approx(one.training / 2, rel=0.1)
    assert two.gpu_hours == pytest.approx(one.gpu_hours, rel=0.2)


def test_padding_is_paid_for_and_is_no_token(make):
    plan = a_plan(make, packing=False)
    even = replace(UNEVEN, rows=((Sequence(290, 290, 58),),) * 100)
    assert sum(UNEVEN.tokens) == sum(even.tokens)
    padded, plain = time_of(plan, UNEVEN), time_of(plan, even)
    assert padded.tokens == pytest.approx(plain.tokens)
    assert padded.training > 1.5 * plain.training
    packed = time_of(a_plan(make, packing=True), UNEVEN)
    assert packed.training < padded.training


def test_a_pace_that_was_learned_counts_and_narrows_the_range(make):
    plan = a_plan(make)
    first, then = time_of(plan), time_of(plan, seen=PaceSeen(2.0, 3))
    assert then.training == pytest.approx(2 * first.training)
    assert (first.range, then.range) == (ROUGHLY, KNOWN)
    assert then.said["unlearned_step"] == pytest.approx(first.said["step"])


def test_lengths_are_guessed_from_the_file_and_that_is_said(make):
    plan = a_plan(make)
    made = duration_of(plan, schedule_of(plan, 1000), row_bytes=2000.0)
    assert made.range[0] < ROUGHLY[0]
    assert made.range[1] > ROUGHLY[1]
    assert made.tokens == pytest.approx(1000 * 500, rel=0.1)
    assert any("guessed" in note for note in made.notes)
    with pytest.raises(Untold, match="not known"):
        duration_of(plan, schedule_of(plan, 1000))


def test_evaluations_and_checkpoints_take_time(make):
    plan = a_plan(make)
    assert time_of(plan, saved_gib=10).saving > time_of(plan).saving == 0
    split = a_plan(make, split_dataset_ratio=0.1, eval_steps=2)
    assert time_of(split).evaluation > 0
    assert time_of(plan).evaluation == 0


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"stage": "grpo", "reward_funcs": ["accuracy"], "packing": None}, "answers that it writes"),
        ({"deepspeed": "zero3_offload"}, "offloading"),
        ({"gpus": "24GB"}, "says nothing of a card"),
        ({"gpus": "A30"}, "speed of A30 is not known"),
        ({"gpus": "cpu"}, "CPU"),
        ({"torch_dtype": "float32"}, "float32"),
        ({"gpus": "2xH100", "sequence_parallel_size": 2}, "sequence"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_has_no_formula_is_refused_with_the_reason(make, settings, why):
    settings = {"gpus": "H100", **{name: value for name, value in settings.items() if value is not None}}
    plan = make(model="Qwen2.5-7B", preset="7b", **settings)
    with pytest.raises(Untold, match=why):
        duration_of(plan, schedule_of(plan, 1000), row_bytes=2000.0)


def test_what_was_not_validated_is_said(make):
    plan = make(model="Qwen3-30B-A3B", preset="20b-moe", gpus="H200")
    assert any("mixtures of experts" in note for note in time_of(plan).notes)


def test_fsdp_has_no_hooks_of_deepspeed(make):
    assert not plan_work(make(model="Qwen2.5-7B", preset="7b", gpus="2xH100", fsdp="fsdp2")).hooks
    assert plan_work(make(model="Qwen2.5-7B", preset="7b", gpus="2xH100", deepspeed="zero3")).hooks


def test_the_work_of_a_specification():
    work = work_of(Spec(CONFIG, micro_batch=4, seq_len=1024, loss_share=0.25, packing=True))
    assert work.shape.stored == pytest.approx(7.6e9, rel=0.01)
    assert work.adapters.modules == 7
    assert work.logits == pytest.approx(0.25)
    assert work_of(Spec(CONFIG, micro_batch=4, liger=True)).logits == 1.0
    pairs = work_of(Spec(CONFIG, micro_batch=4, stage="dpo"))
    assert (pairs.micro, pairs.reference) == (8, True)
    assert work_of(Spec(CONFIG, stage="rm")).logits == 0
    assert work_of(Spec(CONFIG, capability=(7, 5))).attention == "efficient"
