"""A model answers: rows come back as they were, with what it says to them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from running import ASKED, KNOWN, make_rows, make_run, tunekit

from tunekit.data.functions.find import Function
from tunekit.errors import Exit
from tunekit.runs.trained.passes import ROW


def test_each_row_comes_back_as_it_was_with_the_answer(tmp_path):
    make_run()
    make_rows(Path("data.jsonl"), ASKED, KNOWN)
    ended = tunekit(tmp_path, "predict", "kit", "--dataset", "data.jsonl")
    assert ended.code == 0, ended.err
    first, second = map(json.loads, ended.out.splitlines())
    answer = "checkpoint-15 heard: Hi"
    assert first == {
        "messages": [*ASKED["messages"], {"role": "assistant", "content": answer}],
        "id": 7,
        "response": answer,
    }
    assert second["labels"] == "4"
    assert second["level"] == {"a": [1]}
    assert ROW not in ended.out
    assert ended.err.splitlines() == ["answering data.jsonl with kit · checkpoint-15"]


def test_answers_are_written_to_a_file_that_is_not_replaced_by_chance(tmp_path):
    make_run()
    make_rows(Path("data.jsonl"), ASKED)
    typed = ("predict", "kit", "--dataset", "data.jsonl", "--output", "out/answers.jsonl")
    assert tunekit(tmp_path, *typed).code == 0
    before = Path("out/answers.jsonl").read_text(encoding="utf-8")
    refusal_ = tunekit(tmp_path, *typed)
    assert (refusal_.code, refusal_.out) == (Exit.USAGE, "")
    assert "exists already" in refusal_.err
    failed = tunekit(tmp_path, *typed, "--overwrite", fake={"fail": "no"})
    assert failed.code == Exit.TRAINING_FAILED
    assert Path("out/answers.jsonl").read_text(encoding="utf-8") == before
    assert tunekit(tmp_path, *typed, "--overwrite", "--checkpoint", "5").code == 0
    assert "checkpoint-5 heard" in Path("out/answers.jsonl").read_text(encoding="utf-8")
    assert [path.name for path in Path("out").iterdir()] == ["answers.jsonl"]


def numbered_rows(path, count):
    rows = [{"messages": [{"role": "user", "content": str(number)}], "id": number} for number in range(count)]
    return make_rows(path, *rows)


@pytest.mark.parametrize("at_once", [(), ("--max_batch_size", "3")], ids=["one by one", "in batches"])
def test_it_goes_on_behind_a_row_that_fails_and_names_it(at_once, tmp_path):
    make_run()
    numbered_rows(Path("data.jsonl"), 7)
    typed = ("predict", "kit", "--dataset", "data.jsonl", *at_once)
    ended = tunekit(tmp_path, *typed, "--output", "a.jsonl", fake={"fail_on": ["2"]})
    assert ended.code == Exit.TRAINING_FAILED
    assert [json.loads(line)["id"] for line in Path("a.jsonl").read_text("utf-8").splitlines()] == [0, 1, 3, 4, 5, 6]
    error = next(line for line in ended.err.splitlines() if line.startswith("error"))
    assert error.startswith("error: data.jsonl line 3 could not be answered (exit status 1): ")
    assert error.endswith("ValueError: the image of this row cannot be opened")
    assert "the other 6 answers are kept" in ended.err


@pytest.mark.parametrize(("bad", "lines"), [("0", "line 1"), ("6", "line 7")])
def test_the_first_and_the_last_row_may_fail_too(bad, lines, tmp_path):
    make_run()
    numbered_rows(Path("data.jsonl"), 7)
    ended = tunekit(tmp_path, "predict", "kit", "--dataset", "data.jsonl", fake={"fail_on": [bad]})
    assert len(ended.out.splitlines()) == 6
    assert f"error: data.jsonl {lines} could" in ended.err


def test_several_rows_may_fail(tmp_path):
    make_run()
    numbered_rows(Path("data.jsonl"), 6)
    fake = {"fail_on": ["1", "2", "4"]}
    ended = tunekit(tmp_path, "predict", "kit", "--dataset", "data.jsonl", fake=fake)
    assert [json.loads(line)["id"] for line in ended.out.splitlines()] == [0, 3, 5]
    assert "error: data.jsonl line 2, data.jsonl line 3, data.jsonl line 5 could not" in ended.err


def test_it_is_given_up_where_every_row_fails(tmp_path):
    make_run()
    numbered_rows(Path("data.jsonl"), 9)
    fake = {"fail_on": [str(number) for number in range(1, 9)]}
    ended = tunekit(tmp_path, "predict", "kit", "--dataset", "data.jsonl", fake=fake)
    assert [json.loads(line)["id"] for line in ended.out.splitlines()] == [0]
    assert "4 rows behind it were not asked" in ended.err
    none = tunekit(tmp_path, "predict", "kit", "--dataset", "data.jsonl", fake={"fail": "no model"})
    assert (none.code, none.out) == (Exit.TRAINING_FAILED, "")
    assert "could not be answered" not in none.err, "it failed before any row"


def test_scores_are_not_made_of_a_part_of_the_answers(tmp_path):
    make_run()
    numbered_rows(Path("data.jsonl"), 3)
    Path("s.py").write_text("print('{}')", encoding="utf-8")
    ended = tunekit(tmp_path, "eval", "kit", "--pair", "data.jsonl:s.py", fake={"fail_on": ["1"]})
    assert ended.code == Exit.TRAINING_FAILED
    assert ", at data.jsonl line 2, failed" in ended.err


def test_rows_that_got_no_answer_are_counted_and_do_not_shift_the_others(tmp_path):
    make_run()
    rows = [{"messages": [{"role": "user", "content": str(number)}], "id": number} for number in range(4)]
    make_rows(Path("data.jsonl"), *rows)
    ended = tunekit(tmp_path, "predict", "kit", "--dataset", "data.jsonl", fake={"drop": [0, 2]})
    answered = [json.loads(line) for line in ended.out.splitlines()]
    assert [(row["id"], row["response"]) for row in answered] == [
        (1, "checkpoint-15 heard: 1"),
        (3, "checkpoint-15 heard: 3"),
    ]
    assert "2 of 4 rows got no answer" in ended.err
    none = tunekit(tmp_path, "predict", "kit", "--dataset", "data.jsonl", fake={"drop": [0, 1, 2, 3]})
    assert none.code == Exit.DATA
    assert "no row of data.jsonl could be answered" in none.err


def test_ms_swift_is_given_the_columns_that_it_reads_and_no_others(tmp_path):
    make_run(columns='{"Frage": "query"}')
    make_rows(
        Path("data.jsonl"), {"Frage": "Hi", "messages": ASKED["messages"], "id": 1, "mixed": [1, "a", {"b": None}]}
    )
    ended = tunekit(tmp_path, "predict", "kit", "--dataset", "data.jsonl", fake={"tell": True})
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["mixed"] == [1, "a", {"b": None}]
    log = Path("runs/kit/logs/predict-checkpoint-15.log").read_text(encoding="utf-8")
    assert f"columns: Frage messages {ROW}" in log
    assert "--columns" in log


def test_a_reward_model_scores_whole_conversations(tmp_path):
    make_run("reward", stage="rm")
    make_rows(Path("data.jsonl"), KNOWN)
    ended = tunekit(tmp_path, "predict", "reward", "--dataset", "data.jsonl", fake={"score": 0.5})
    assert json.loads(ended.out) == {**KNOWN, "response": 0.5}


def test_several_datasets_are_answered_in_their_order(tmp_path):
    make_run()
    make_rows(Path("a.jsonl"), {**ASKED, "id": "a"})
    Path("b.json").write_text(json.dumps([{**KNOWN, "id": "b"}, {**ASKED, "id": "c"}]), encoding="utf-8")
    ended = tunekit(tmp_path, "predict", "kit", "--dataset", "a.jsonl", "b.json")
    assert [json.loads(line)["id"] for line in ended.out.splitlines()] == ["a", "b", "c"]


def test_rows_of_another_shape_are_refused_or_made_by_the_format_of_the_run(tmp_path):
    make_rows(Path("raw.jsonl"), {"frage": "Hi"})
    make_run("plain")
    refusal_ = tunekit(tmp_path, "predict", "plain", "--dataset", "raw.jsonl")
    assert refusal_.code == Exit.DATA
    assert "raw.jsonl line 1: there is neither a conversation nor a question" in refusal_.err
    Path("rows.py").write_text(
        "def make(row):\n    return {'messages': [{'role': 'user', 'content': row['frage']}]}\n", encoding="utf-8"
    )
    folder = make_run("kit")
    state = folder.load()
    state.plan = replace(state.plan, row_format=Function("rows.py", "make"))
    folder.save(state)
    ended = tunekit(tmp_path, "predict", "kit", "--dataset", "raw.jsonl")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["response"] == "checkpoint-15 heard: Hi"
    assert "rows made by rows.py:make, as in the run" in ended.err


def test_a_prompt_gets_one_answer_on_stdout_and_nothing_else(tmp_path):
    make_run()
    ended = tunekit(tmp_path, "chat", "kit", "--prompt", "Who are you?", fake={"say": ["noise"]})
    assert (ended.code, ended.out) == (0, "checkpoint-15 heard: Who are you?\n")
    assert "noise" not in ended.err


def test_pictures_stand_before_the_question(tmp_path):
    make_run()
    Path("red.png").write_bytes(b"")
    ended = tunekit(tmp_path, "chat", "kit", "--prompt", "Which colour?", "--image", "red.png")
    assert ended.out == "checkpoint-15 heard: <image>Which colour?\n"
    own = tunekit(tmp_path, "chat", "kit", "--prompt", "In <image>, which?", "--image", "red.png")
    assert own.out == "checkpoint-15 heard: In <image>, which?\n"
