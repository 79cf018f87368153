"""What a plan asks about its rows, and what their lengths mean for it."""

from pathlib import Path

import pytest
from tokenized import lengths_of, make_tokenized

from tunekit.data.lengths import Unmeasured
from tunekit.plan.measured import question_of, rows_measured
from tunekit.plan.settings import COMMAND_LINE


@pytest.fixture
def plan(make, tmp_path):
    """Plans of a model in a folder."""
    model = str(make_tokenized(tmp_path / "m"))
    return lambda stage="sft", **words: make(stage, model, preset="7b", **words)


def test_a_packed_plan_keeps_its_length(plan):
    found = rows_measured(plan(), lengths_of(*[(100, 30)] * 90))
    assert found.seq_len == 3072
    assert found.samples_per_row == 30
    assert found.loss_share == pytest.approx(0.3)


def test_an_unpacked_plan_is_as_long_as_its_longest_row(plan):
    lengths = lengths_of((100, 30), (900, 30))
    whole, dropped = (rows_measured(plan(packing=False, **more), lengths) for more in ({}, {"max_length": 512}))
    assert whole.seq_len == 900
    assert dropped.seq_len == 512
    assert dropped.loss_share == pytest.approx(0.3)
    assert whole.samples_per_row == 1


def test_rows_that_are_too_long_are_dropped_or_cut(plan):
    lengths = lengths_of(*[(100, 30)] * 99, (4000, 30))
    dropped, cut = (rows_measured(plan(**more), lengths) for more in ({}, {"truncation_strategy": "left"}))
    assert (dropped.over, dropped.dropped, dropped.max_length) == (1, True, 3072)
    assert (cut.over, cut.dropped, cut.max_length) == (1, False, 3072)


def test_the_heaviest_micro_batch_decides_where_its_logits_are_made_alone(plan):
    lengths = lengths_of(*[(3000, 900)] * 9, (3000, 2400))
    supervised, pairs = rows_measured(plan(), lengths), rows_measured(plan("dpo"), lengths)
    assert supervised.loss_share == pairs.loss_share == pytest.approx(0.35)
    assert 0.35 < supervised.heaviest_share < 0.8
    assert pairs.heaviest_share == pairs.loss_share, "of pairs the logits of all tokens are made"


def test_the_question_of_a_plan(plan):
    asked = plan(system="say", max_length=64)
    dropped, cut = question_of(asked), question_of(plan(truncation_strategy="left", max_length=64))
    assert dropped.flags == {"model_type": "llama", "template": "chatml", "system": "say"}
    assert (dropped.stage, dropped.max_length, cut.max_length) == ("sft", None, 64)
    assert dropped.folder == Path(asked.model.id)
    assert dropped.datasets == ("data.jsonl",)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"streaming": True, "max_steps": 9}, "--streaming"),
        ({"truncation_strategy": "split"}, "split into pieces"),
        ({"external_plugins": ["own.py"]}, "--external_plugins"),
    ],
)
def test_what_a_plan_reads_in_its_own_way(plan, words, said):
    with pytest.raises(Unmeasured, match=said):
        question_of(plan(**words))


def test_a_plan_without_rows(plan):
    with pytest.raises(Unmeasured, match="there is no --dataset"):
        question_of(plan().changed({"dataset": None}, COMMAND_LINE, ""))


def test_a_model_that_is_not_here(make, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(Unmeasured, match=r"tokenizer of Qwen/Qwen2\.5-7B is not on this machine"):
        question_of(make())
