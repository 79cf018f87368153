"""What a plan's rows are checked for, what is told of them, and the steps that they come to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import ROW, make_rows

from tunekit.errors import Exit, TunekitError
from tunekit.runs.data import check_rows, data_notes, schedule_for

ASKED = {"role": "user", "content": "Hi"}
PICTURE = {"messages": [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "A dog"}]}
THOUGHT = {"messages": [ASKED, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello"}]}
CALL = {"messages": [ASKED, {"role": "tool_call", "content": "{}"}], "tools": "[]"}


@pytest.fixture
def rows(make, tmp_path):
    """Plans over rows: ``rows("sft", row, row, …, model=…)``."""

    def plan(stage, *lines, model="Qwen2.5-7B", **words):
        name = str(make_rows(tmp_path / "rows.jsonl", *lines))
        return make(stage, model, packing=False, **words).with_settings({}).changed({"dataset": [name]}, None, "")

    return plan


def noted(plan) -> str:
    return "\n".join(data_notes(plan))


def test_labels_of_one_kind_are_told(rows):
    good, bad = ROW | {"label": True}, ROW | {"label": False}
    assert "every label in" in noted(rows("kto", good, good))
    assert "is false (3 rows)" in noted(rows("kto", bad, bad, bad))
    assert noted(rows("kto", good, bad)) == ""


@pytest.mark.parametrize("model", ["Qwen3-8B", "Qwen3-4B-Thinking-2507"])
def test_answers_without_a_thought_are_told_of_a_model_that_thinks(rows, model):
    told = noted(rows("sft", ROW, model=model))
    assert "--loss_scale ignore_empty_think" in told
    assert "Instruct model" in told
    assert ("by itself" in told) == (model == "Qwen3-8B"), "ms-swift adds it where a model answers both ways"
    assert noted(rows("sft", THOUGHT, ROW, model=model)) == ""
    assert noted(rows("sft", ROW, model=model, loss_scale="ignore_empty_think")) == ""


@pytest.mark.parametrize("model", ["Qwen2.5-7B", "Qwen3-4B-Instruct-2507", "Qwen3-8B-Base"])
def test_of_other_models_nothing_is_told(rows, model):
    assert noted(rows("sft", ROW, model=model)) == ""


def test_plain_text_is_no_answer_without_a_thought(rows):
    assert noted(rows("pt", {"text": "Once"}, model="Qwen3-8B")) == ""


def test_pictures_for_a_model_that_sees_none_are_told(rows):
    row = PICTURE | {"images": [__file__]}
    assert "1 of 1 rows" in noted(rows("sft", row))
    assert "sees none" in noted(rows("sft", row))
    seeing = noted(rows("sft", row, row | {"images": [__file__, __file__]}, model="Qwen2.5-VL-7B-Instruct"))
    assert "1 of 2 rows" in seeing
    assert "more images than <image>" in seeing
    assert noted(rows("sft", row, model="Qwen2.5-VL-7B-Instruct")) == ""


def test_conversations_that_ask_nothing_are_told(rows):
    answers = {"messages": [{"role": "assistant", "content": "Once"}]}
    assert "1 of 2 rows" in noted(rows("sft", answers, ROW))
    assert "tunekit pt" in noted(rows("sft", answers, ROW))
    assert noted(rows("pt", answers)) == ""


def test_a_few_bad_rows_are_told(rows):
    plan = rows("sft", *[ROW] * 99, {"dialog": 1})
    check_rows(plan)
    assert "rows.jsonl line 100: there is neither" in noted(plan)


def test_without_a_chat_template_nothing_asks(rows):
    check_rows(rows("sft", {"text": "Once"}, use_chat_template=False))
    with pytest.raises(TunekitError, match="no question"):
        check_rows(rows("sft", {"text": "Once"}))


def test_rows_of_a_task(rows):
    row = {"messages": [ASKED], "label": 1}
    check_rows(rows("sft", row, task_type="seq_cls", num_labels=2))
    with pytest.raises(TunekitError, match=r"the label 1, and --num_labels 2 ends at 1|nothing to learn"):
        check_rows(rows("sft", row, task_type="causal_lm"))
    with pytest.raises(TunekitError, match="there is the label 3, and --num_labels 2 ends at 1") as raised:
        check_rows(rows("sft", row | {"label": 3}, task_type="seq_cls", num_labels=2))
    assert raised.value.code == Exit.DATA
    check_rows(rows("sft", {"anything": 1}, task_type="decision"))


def test_calls_of_tools_need_a_template_for_them(rows):
    check_rows(rows("sft", CALL))  # Qwen's own writes them as Hermes does
    with pytest.raises(TunekitError, match="the template chatml does not write calls") as raised:
        check_rows(rows("sft", CALL, template="chatml"))
    assert "--agent_template" in (raised.value.hint or "")
    check_rows(rows("sft", CALL, template="chatml", agent_template="hermes"))
    check_rows(rows("sft", ROW, template="chatml"))


def test_the_validation_rows_are_judged_as_the_others(rows, tmp_path):
    pairs = str(make_rows(tmp_path / "pairs.jsonl", ROW | {"rejected_response": "No"}))
    with pytest.raises(TunekitError, match=r"pairs\.jsonl line 1"):
        check_rows(rows("sft", ROW, val_dataset=[pairs]))


def test_tab_separated_rows_are_for_a_format(rows, tmp_path):
    Path("a.tsv").write_text("query\tresponse\nHi\tHello\n", encoding="utf-8")
    with pytest.raises(TunekitError, match=r"a\.tsv: ms-swift reads no \.tsv"):
        check_rows(rows("sft", ROW).changed({"dataset": ["a.tsv"]}, None, ""))


def test_rows_that_can_be_counted(rows):
    found = schedule_for(rows("sft", *[ROW] * 6))
    assert found
    assert (found.rows, found.per_epoch, found.steps, found.sure) == (6, 1, 1, "")
    part = rows("sft", ROW)
    many = schedule_for(part.changed({"dataset": [f"{part.words('dataset')[0]}#6400"]}, None, ""))
    assert many
    assert (many.rows, many.steps) == (6400, 200)
    assert schedule_for(part.changed({"dataset": ["org/name"]}, None, "")) is None
    assert schedule_for(part.changed({"dataset": ["absent.jsonl"]}, None, "")) is None
    assert schedule_for(rows("sft", ROW, streaming=True, max_steps=9)) is None


def test_a_dry_run_refuses_what_a_start_refuses(tunekit, tmp_path):
    words = ("sft", "--model", "Qwen2.5-7B", "--gpus", "80GB", "--dataset", "rows.jsonl")
    absent = tunekit(*words, "--dry-run")
    assert absent.code == 0, "the data may be on the machine that is described"
    assert "does not exist" in absent.err
    make_rows(tmp_path / "rows.jsonl", {"dialog": []})
    for how in (("--dry-run",), ("--write", "run.sh")):
        ended = tunekit(*words, *how)
        assert (ended.code, ended.out) == (Exit.DATA, "")
        assert "rows.jsonl line 1: there is neither" in ended.err
    assert not Path("run.sh").exists()
    make_rows(tmp_path / "rows.jsonl", PICTURE | {"images": ["absent.png"]})
    there = tunekit(*words, "--dry-run")
    assert there.code == 0, "so may its pictures"
    assert "absent.png does not exist" in there.err


def test_a_dry_run_for_this_machine_needs_the_data(tunekit):
    ended = tunekit("sft", "--model", "Qwen2.5-7B", "--dataset", "rows.jsonl", "--dry-run")
    assert ended.code == Exit.DATA
    assert "rows.jsonl does not exist" in ended.err


def test_the_plan_tells_rows_and_steps(tunekit, tmp_path):
    make_rows(tmp_path / "six.jsonl", *[ROW] * 6)
    words = ("sft", "--model", "Qwen2.5-7B", "--gpus", "80GB", "--dataset", "six.jsonl", "--packing", "false")
    shown = " ".join(tunekit(*words, "--dry-run").err.split())
    assert "Steps 6 rows, 1 step an epoch, 1 of warm-up, 1 checkpoint" in shown
    assert "6 rows are 1 optimizer step of 32: more rows or more --epochs" in shown
    assert json.loads(tunekit(*words, "--json").out)["schedule"]["steps"] == 1


def test_a_launch_with_missing_pictures_is_refused(rows, tmp_path):
    """30 of 40 missing ones trained to "Done": ms-swift puts other rows in their place."""
    (tmp_path / "there.png").touch()
    lines = [
        PICTURE | {"images": [str(tmp_path / ("there.png" if number < 10 else f"{number}.png"))]}
        for number in range(40)
    ]
    with pytest.raises(TunekitError, match=r"does not exist.*\(30 of 40 rows will not do\)") as raised:
        check_rows(rows("sft", *lines, model="Qwen2.5-VL-7B-Instruct"))
    assert raised.value.code == Exit.DATA
