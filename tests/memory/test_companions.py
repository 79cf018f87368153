"""Models beside the trained one: which there are, how large, and who holds them."""

from dataclasses import replace

import pytest
from shapes import CONFIGS

from tunekit.memory.companions import REFERENCE, REWARD, TEACHER, VALUE, companions
from tunekit.memory.estimate import estimate
from tunekit.memory.spec import Spec

QWEN, SMALL = CONFIGS["Qwen/Qwen2.5-7B"], CONFIGS["Qwen/Qwen2.5-3B"]


def roles(**asked):
    return [one.role for one in companions(Spec(config=QWEN, **asked))]


def weights(**asked):
    return estimate(Spec(config=QWEN, **asked)).breakdown["weights"]


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        ({"stage": "sft", "tuner": "full"}, []),
        ({"stage": "dpo", "tuner": "full"}, [REFERENCE]),
        ({"stage": "dpo"}, []),
        ({"stage": "grpo", "tuner": "full"}, [REFERENCE]),
        ({"stage": "grpo", "tuner": "full", "beta": 0}, []),
        ({"stage": "grpo", "rewards": (SMALL, SMALL)}, [REWARD, REWARD]),
        ({"stage": "grpo", "teacher": SMALL}, [TEACHER]),
        ({"stage": "ppo"}, [VALUE, REWARD]),
        ({"stage": "ppo", "tuner": "full", "rewards": (SMALL,)}, [REFERENCE, VALUE, REWARD]),
        ({"stage": "gkd", "teacher": SMALL}, [TEACHER]),
        ({"stage": "dpo", "teacher": SMALL, "rewards": (SMALL,)}, []),
    ],
)
def test_who_is_there(asked, there):
    assert roles(**asked) == there


def test_a_teacher_has_the_size_of_its_own_config():
    alone = weights(stage="gkd")
    small = estimate(Spec(config=SMALL)).breakdown["weights"]
    assert weights(stage="gkd", teacher=SMALL) == pytest.approx(alone + small)
    assert weights(stage="gkd", teacher=SMALL, teacher_offload=True) == pytest.approx(alone)


def test_a_reward_model_has_a_head_of_one_number():
    beside = weights(stage="grpo", rewards=(QWEN,)) - weights(stage="grpo")
    assert beside == pytest.approx(weights(stage="grpo") - 2 * 152_064 * 3584 / 2**30)


def test_under_zero_3_a_teacher_is_shared_as_it_says():
    eight = {"stage": "gkd", "gpus": 8, "sharding": "zero3"}
    alone, small = weights(**eight), estimate(Spec(config=SMALL)).breakdown["weights"]
    assert weights(**eight, teacher=SMALL) == pytest.approx(alone + small / 8)
    assert weights(**eight, teacher=SMALL, teacher_zero_stage=0) == pytest.approx(alone + small)


def test_a_value_model_learns_in_its_own_size():
    same, small = (estimate(Spec(config=QWEN, stage="ppo", rewards=(config,))) for config in (QWEN, SMALL))
    assert small.breakdown["adapter"] < same.breakdown["adapter"]
    policy = estimate(Spec(config=QWEN)).breakdown["adapter"]
    assert same.breakdown["adapter"] == pytest.approx(2 * policy)


def test_what_is_not_counted_is_named():
    spec = Spec(config=QWEN, stage="gkd")
    assert "the teacher's weights are not counted" in estimate(spec).notes
    assert "the teacher's weights are not counted" not in estimate(replace(spec, teacher_elsewhere=True)).notes
    named = estimate(replace(spec, unknown_models=("acme/Large",))).notes
    assert "not counted, since their shape is not known here: acme/Large" in named
