"""Rows, and the steps that they come to."""

import pytest

from tunekit.plan.schedule import few_steps, late_flags, schedule_of, steps_in_words


@pytest.mark.parametrize(
    ("rows", "words", "expected"),
    [
        (6, {}, (1, 1, 1, 0, 1)),
        (3200, {}, (100, 100, 10, 0, 1)),
        (3210, {"num_train_epochs": 3}, (101, 303, 31, 0, 2)),
        (3200, {"num_train_epochs": 0.5}, (100, 50, 5, 0, 1)),
        (3200, {"max_steps": 7}, (100, 7, 1, 0, 1)),
        (3200, {"warmup_steps": 3, "warmup_ratio": None}, (100, 100, 3, 0, 1)),
        (3200, {"save_steps": 30}, (100, 100, 10, 0, 4)),
        (3200, {"save_steps": 50, "val_dataset": ["v"], "eval_steps": 20}, (100, 100, 10, 5, 2)),
        (3200, {"save_steps": 50, "val_dataset": ["v"]}, (100, 100, 10, 2, 2)),
        (3200, {"save_strategy": "epoch", "num_train_epochs": 3, "val_dataset": ["v"]}, (100, 300, 30, 3, 3)),
        (3200, {"save_strategy": "no", "val_dataset": ["v"]}, (100, 100, 10, 0, 0)),
        (6400, {"split_dataset_ratio": 0.5, "eval_steps": 10}, (100, 100, 10, 10, 1)),
        (3200, {"save_steps": 0.25}, (100, 100, 10, 0, 4)),
    ],
)
def test_the_steps_of_rows(make, rows, words, expected):
    plan = make(packing=False, **{flag: value for flag, value in words.items() if value is not None})
    found = schedule_of(plan, rows)
    assert (found.per_epoch, found.steps, found.warmup, found.evaluations, found.checkpoints) == expected


def test_answers_that_are_generated_fill_the_batch(make):
    plan = make("grpo", reward_funcs=["accuracy"], num_generations=8)
    assert schedule_of(plan, 43).per_epoch == 10, "4 prompts a step, and the last 3 are left out"


def test_packed_rows(make):
    packed, open_ = (schedule_of(make(), 3200, held=held) for held in (10.0, None))
    assert (packed.steps, packed.sure) == (10, "about ")
    assert (open_.steps, open_.sure) == (100, "at most ")
    assert schedule_of(make(streaming=True, max_steps=3), 9) is None


def test_in_words(make):
    plan = make(packing=False, val_dataset=["v"], eval_steps=20, num_train_epochs=2)
    line = steps_in_words(plan, schedule_of(plan, 3200))
    assert line == "3,200 rows, 100 steps an epoch × 2 epochs, 20 of warm-up, 10 evaluations, 1 checkpoint"
    capped = make(packing=False, max_steps=50)
    assert "50 steps by max_steps, 0.5 epochs" in steps_in_words(capped, schedule_of(capped, 3200))


@pytest.mark.parametrize(
    ("rows", "held", "words", "said"),
    [
        (
            1000,
            30.0,
            {},
            "1,000 rows (a packed row holds 30 of them) are about 2 optimizer steps of 32: more --epochs, or",
        ),
        (6, None, {}, "6 rows are at most 1 optimizer step of 32: more --epochs, or --packing false"),
        (1000, None, {"packing": False}, ""),
        (100_000, 30.0, {}, ""),
        (320, None, {"packing": False}, "320 rows are 10 optimizer steps of 32: more rows or more --epochs let"),
        (320, None, {"packing": False, "num_train_epochs": 2}, ""),
        (1000, 30.0, {"max_steps": 9}, ""),
    ],
)
def test_a_pass_of_a_few_steps_is_told(make, rows, held, words, said):
    plan = make(**words)
    told = few_steps(plan, schedule_of(plan, rows, held=held))
    assert told.startswith(said)
    assert bool(told) == bool(said)


def test_an_evaluation_that_never_comes_is_told(make):
    late = make(packing=False, val_dataset=["v"], eval_steps=500)
    assert (
        late_flags(late, schedule_of(late, 320)) == "eval_steps 500 is never reached in 10 steps: nothing is evaluated"
    )
    for words in ({}, {"val_dataset": ["v"], "eval_steps": 5}, {"val_dataset": ["v"], "eval_strategy": "no"}):
        plan = make(packing=False, **words)
        assert late_flags(plan, schedule_of(plan, 320)) == ""
