"""The batch of an evaluation holds whole prompts where several answers are written to each."""

import pytest

from tunekit.errors import TunekitError
from tunekit.plan.settings import COMMAND_LINE, Setting

VALIDATED = {"reward_funcs": ["accuracy"], "val_dataset": ["val.jsonl"]}


def rows_and_answers(plan):
    return plan.whole("per_device_eval_batch_size", 1), plan.whole(
        "num_generations_eval", plan.whole("num_generations", 8)
    )


@pytest.mark.parametrize("gpus", ["cpu", "1x80GB", "2x80GB", "3x80GB", "8x80GB"])
@pytest.mark.parametrize("answers", [2, 4, 6, 8])
@pytest.mark.parametrize("preset", ["7b", "low-memory", "20b-moe", "auto"])
def test_it_divides(make, gpus, answers, preset):
    model = "Qwen3-30B-A3B" if preset == "20b-moe" else "Qwen2.5-7B"
    plan = make("grpo", model, gpus, preset=preset, num_generations=answers, **VALIDATED)
    rows, wanted = rows_and_answers(plan)
    assert rows * plan.hardware.world % wanted == 0
    assert rows <= max(1, plan.batch.micro)
    assert wanted <= answers


def test_whole_prompts_where_they_fit_and_fewer_answers_where_not(make):
    assert rows_and_answers(make("grpo", preset="7b", **VALIDATED)) == (8, 8)
    assert rows_and_answers(make("grpo", preset="low-memory", **VALIDATED)) == (1, 1)
    assert rows_and_answers(make("grpo", gpus="8x80GB", preset="low-memory", **VALIDATED)) == (1, 8)


def test_what_was_typed_stays(make):
    plan = make("grpo", preset="7b", per_device_eval_batch_size=4, num_generations=8, **VALIDATED)
    assert rows_and_answers(plan) == (4, 4)
    plan = make("grpo", preset="low-memory", num_generations_eval=2, **VALIDATED)
    assert rows_and_answers(plan) == (2, 2)
    with pytest.raises(TunekitError, match="per_device_eval_batch_size 3 × 1 is no multiple of") as refused:
        make("grpo", preset="7b", per_device_eval_batch_size=3, num_generations_eval=4, **VALIDATED)
    assert "--per_device_eval_batch_size 4" in refused.value.hint


def test_the_micro_batch_of_a_solved_plan_counts(make):
    plan = make("grpo", gpus="1x80GB", micro=Setting(2, COMMAND_LINE), **VALIDATED)
    assert rows_and_answers(plan) == (2, 2)


def test_without_an_evaluation_nothing_is_solved(make):
    for plan in (
        make("grpo", preset="7b", reward_funcs=["accuracy"]),
        make("grpo", preset="7b", eval_strategy="no", **VALIDATED),
        make("dpo", preset="7b", val_dataset=["val.jsonl"]),
    ):
        assert not {"per_device_eval_batch_size", "num_generations_eval"} & plan.settings.keys()
