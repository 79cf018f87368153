"""What the memory is told of answers, companions and evaluations, of a plan."""

from dataclasses import replace

import pytest
from running import a_plan

from tunekit.hardware import choose_hardware
from tunekit.memory.stage_fields import StageFields
from tunekit.plan.beside import names_beside, stage_fields, vllm_share
from tunekit.plan.settings import COMMAND_LINE, Setting
from tunekit.stages import STAGES

SMALL = "Qwen/Qwen2.5-3B"


def planned(stage, **flags):
    plan = replace(a_plan(), stage=STAGES[stage], hardware=choose_hardware("80GB"))
    return plan.with_settings({flag: Setting(value, COMMAND_LINE) for flag, value in flags.items()})


def told(stage, **flags):
    return StageFields(**stage_fields(planned(stage, **flags)))


def test_a_stage_without_answers_says_nothing():
    assert told("sft") == StageFields()
    assert told("dpo", max_completion_length=4096).completion_len == 0


@pytest.mark.parametrize(
    ("flags", "length"),
    [({}, 512), ({"max_completion_length": 2048}, 2048), ({"response_length": 64, "max_completion_length": 9}, 64)],
)
def test_the_length_of_an_answer(flags, length):
    assert {told(stage, **flags).completion_len for stage in ("ppo", "grpo", "gkd")} == {length}
    assert told("gkd", lmbda=0, **flags).completion_len == 0, "it only follows rows that are there"


def test_how_many_are_written_at_once():
    batch = planned("grpo").batch
    rows = batch.micro * batch.accumulation
    assert told("grpo").generations == told("ppo", steps_per_generation=1).generations == rows
    assert told("grpo", steps_per_generation=1).generations == batch.micro
    assert told("gkd", generation_batch_size=64).generations == 64


def test_vllm_sleeps_or_keeps_its_share():
    flags = {"use_vllm": True, "vllm_mode": "colocate", "vllm_gpu_memory_utilization": 0.4}
    awake, asleep = planned("grpo", **flags), planned("grpo", **flags, sleep_level=1)
    assert (vllm_share(awake), vllm_share(asleep)) == (0.4, 0.0)
    assert told("grpo", **flags).vllm_gib == 0
    found = told("grpo", **flags, sleep_level=1)
    assert found.vllm_gib == pytest.approx(0.4 * asleep.hardware.gpu_gib)
    assert (found.vllm_mode, found.sleep_level) == ("colocate", 1)
    assert vllm_share(planned("grpo", **flags, sleep_level=1, async_generate=True)) == 0.4
    assert told("grpo", use_vllm=True, vllm_mode="server").vllm_gib == 0


def test_a_teacher_and_reward_models_by_their_own_shape():
    found = told("gkd", teacher_model=SMALL, teacher_deepspeed="zero3", offload_teacher_model=True)
    assert found.teacher["hidden_size"] == 2048
    assert (found.teacher_zero_stage, found.teacher_offload, found.teacher_elsewhere) == (3, True, False)
    assert len(told("grpo", reward_model=[SMALL, SMALL]).rewards) == 2
    assert told("ppo", reward_model=["-"]).rewards == (), "where only the memory is asked for it is as large"
    assert names_beside(planned("grpo", reward_model=[SMALL], teacher_model=SMALL)) == [SMALL, SMALL]


def test_a_teacher_may_have_no_weights_here():
    assert told("gkd").teacher_elsewhere
    own = planned("gkd").model.id
    assert told("gkd", teacher_model=own, tuner_type="lora").teacher_elsewhere
    assert told("gkd", teacher_model=own, tuner_type="full").teacher is not None
    assert told("gkd", teacher_model_server="http://localhost:8000", gkd_logits_topk=20).teacher_elsewhere


def test_a_model_whose_shape_is_not_known_is_named():
    found = told("gkd", teacher_model="acme/nobody-knows-me-7B")
    assert (found.teacher, found.unknown_models) == (None, ("acme/nobody-knows-me-7B",))
    assert told("grpo", reward_model=["acme/nobody-knows-me-7B"]).unknown_models


def test_an_evaluation_and_its_batch():
    found = told("sft", split_dataset_ratio=0.1, per_device_eval_batch_size=4, predict_with_generate=True)
    assert (found.evaluates, found.eval_batch, found.eval_generates, found.completion_len) == (True, 4, True, 64)
    assert not told("sft", split_dataset_ratio=0.1, eval_strategy="no").evaluates
