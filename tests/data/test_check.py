"""Datasets are looked at before anything starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from running import SFT, make_rows, make_workplace, tunekit

from tunekit.data.files import ROWS, local_file
from tunekit.data.look import check_datasets
from tunekit.errors import Exit, TunekitError
from tunekit.stages import PAIRS, STAGES, TASKS, Stage

USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello"}
CHAT = {"messages": [USER, ASSISTANT]}
PROMPT = {"messages": [USER]}
PAIR = {**CHAT, "rejected_response": "Go away"}
CALL = {"role": "tool_call", "content": '{"name": "time", "arguments": {}}'}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(rows: list[Any], loss: str = "sft") -> str:
    """The message with which rows are refused; one line and a hint."""
    make_rows(Path("data.jsonl"), *rows)
    with pytest.raises(TunekitError) as raised:
        check_datasets(["data.jsonl"], STAGES[loss], STAGES[loss].rows)
    assert raised.value.code == Exit.DATA
    assert raised.value.message.startswith("data.jsonl line ")
    assert "\n" not in raised.value.message
    return raised.value.message


def accept(rows: list[Any], loss: str = "sft") -> None:
    """Rows that are taken: it would raise otherwise."""
    make_rows(Path("data.jsonl"), *rows)
    check_datasets(["data.jsonl"], STAGES[loss], STAGES[loss].rows)


SHARE = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
GOOD = [
    ("sft", CHAT),
    ("sft", SHARE),
    ("sft", {"conversation": [{"user": "Hi", "assistant": "Hello"}]}),
    ("sft", {"instruction": "Add", "input": "1 2", "output": "3"}),
    ("sft", {"query": "Hi", "response": "Hello", "history": []}),
    ("sft", {"messages": [{"role": "system", "content": "Be kind"}, USER, ASSISTANT], "images": [__file__]}),
    ("sft", {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{}]}, ASSISTANT]}),
    ("sft", {"messages": [USER, CALL, {"role": "tool_response", "content": "12:00"}, ASSISTANT]}),
    ("sft", {"messages": [USER, CALL]}),  # ms-swift makes the call the assistant's turn (template/base.py)
    ("sft", {"conversations": [{"from": "human", "value": "Hi"}, {"from": "function_call", "value": "{}"}]}),
    ("sft", {"messages": json.dumps([USER, ASSISTANT])}),  # default_repair_messages reads it
    ("sft", {"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]}]}),
    ("sft", {"Question": "Hi", "Answer": "Hello"}),
    ("pt", {"text": "Once upon a time"}),
    ("pt", {"messages": [ASSISTANT]}),
    ("sft", {"messages": [ASSISTANT]}),  # valid to ms-swift, and only told
    ("sft", {"system": "Say hello", "response": "Hello"}),
    ("sft", {"images": [__file__], "response": "A file"}),  # the picture is the question
    ("sft", {"messages": [{"role": "system", "content": ""}, USER, ASSISTANT]}),
    ("sft", {"messages": [USER, CALL, {"role": "function-response", "content": "12:00"}, ASSISTANT]}),
    ("sft", {"messages": str([USER, ASSISTANT])}),  # a list of Python's in a table's cell
    ("sft", {"messages": [USER, ASSISTANT], "images": ["https://x.org/a.png", "data:image/png;base64,AAAA", "A" * 80]}),
    ("gkd", CHAT),
    *((loss, PAIR) for loss in ("dpo", "orpo", "simpo", "cpo", "rm")),
    ("dpo", {**CHAT, "rejected_messages": [USER, {"role": "assistant", "content": "Go"}]}),
    ("dpo", {"query": "Hi", "response": "Hello", "rejected_response": "Go away"}),
    ("kto", {**CHAT, "label": True}),
    ("kto", {**CHAT, "label": False}),
    ("kto", {**CHAT, "label": 0}),
    ("ppo", PROMPT),
    ("grpo", {**PROMPT, "solution": "91"}),
    ("grpo", {"query": "7 × 13?", "solution": "91"}),
    ("grpo", CHAT),
]


@pytest.mark.parametrize(("loss", "row"), GOOD, ids=lambda item: item if isinstance(item, str) else "")
def test_good_rows(loss: str, row: dict[str, Any]) -> None:
    accept([row], loss)


def test_every_loss_has_a_good_row() -> None:
    assert {loss for loss, _ in GOOD} == set(STAGES)


@pytest.mark.parametrize("loss", sorted(STAGES))
def test_the_example_of_each_loss_is_one(loss: str) -> None:
    """The row that an error message shows must itself be taken."""
    example = STAGES[loss].rows.example.partition(" or ")[0]
    accept([json.loads(example)], loss)


BAD = [
    ("sft", {}, "no columns"),
    ("sft", {"foo": 1, "bar": 2}, "foo, bar"),
    ("sft", {"query": "Hi"}, "no answer"),
    ("sft", {"messages": []}, "must be a list of messages"),
    ("sft", {"messages": None}, "must be a list of messages"),
    ("sft", {"messages": {"role": "user"}}, "must be a list of messages"),
    ("sft", {"messages": ["Hi", "Hello"]}, "message 1 must be an object"),
    ("sft", {"messages": [{"content": "Hi"}, ASSISTANT]}, "message 1 has no role"),
    ("sft", {"messages": [USER, {"role": "assistant"}]}, "message 2 has no content"),
    ("sft", {"messages": [USER, {"role": "assistant", "content": None}]}, "message 2 has no content"),
    ("sft", {"messages": [USER, {"role": "assistant", "content": ""}]}, "message 2 has no content"),
    ("sft", PROMPT, "ends with a turn of user"),
    ("sft", {"conversations": [{"from": "human", "value": "Hi"}]}, "ends with a turn of human"),
    ("pt", {"title": "x"}, "title"),
    ("pt", PROMPT, "ends with a turn of user"),
    ("gkd", PROMPT, "ends with a turn of user"),
    ("gkd", {"text": "Once"}, "there is no question among text"),
    ("sft", {"text": "Once", "label": "0"}, "there is no question among text, label: sft would learn"),
    ("grpo", {"text": "Once"}, "grpo has nothing to ask"),
    ("grpo", {"messages": [ASSISTANT]}, "asks nothing"),
    ("sft", {"messages": [{"role": "developer", "content": "x"}, USER, ASSISTANT]}, "has the role developer"),
    ("sft", {"messages": [USER, {"role": "tool-call", "content": "x"}]}, "has the role tool-call"),
    ("sft", {"a\x1b]52;c;aGk=\x07": "x"}, r"a\x1b]52;c;aGk=\x07"),
    ("sft", {"messages": [USER, ASSISTANT, {"role": "\x1b[2J", "content": "x"}]}, r"the role \x1b[2J"),
    ("sft", {**CHAT, "images": ["absent.png"]}, "the image absent.png does not exist"),
    (
        "sft",
        {"messages": [{"role": "user", "content": "<image><image>?"}, ASSISTANT], "images": [__file__]},
        "2 <image>",
    ),
    ("dpo", {**CHAT, "rejected_response": "Hello"}, "are the same"),
    ("dpo", {**CHAT, "rejected_messages": [USER, ASSISTANT]}, "are the same"),
    ("dpo", {"query": "Hi", "response": "Hello", "rejected_response": "Hello"}, "are the same"),
    *((loss, CHAT, "rejected") for loss in ("dpo", "orpo", "simpo", "cpo", "rm")),
    ("dpo", {**CHAT, "rejected_response": ""}, "rejected"),
    ("dpo", {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"}, "--columns"),
    ("dpo", {**CHAT, "label": True}, "rejected"),
    ("kto", CHAT, "label"),
    ("kto", PAIR, "label"),
    ("kto", {**CHAT, "label": "true"}, "label"),
    ("ppo", {"foo": 1}, "foo"),
    ("grpo", {"foo": 1}, "foo"),
    ("grpo", {"messages": []}, "must be a list"),
]


@pytest.mark.parametrize(("loss", "row", "said"), BAD, ids=lambda item: item if isinstance(item, str) else "")
def test_bad_rows(loss: str, row: dict[str, Any], said: str) -> None:
    assert said in refused([row], loss)


def test_every_loss_has_a_bad_row() -> None:
    assert {loss for loss, _, _ in BAD} == set(STAGES)


def test_the_hint_shows_a_row() -> None:
    make_rows(Path("data.jsonl"), CHAT)
    with pytest.raises(TunekitError) as raised:
        check_datasets(["data.jsonl"], STAGES["kto"], STAGES["kto"].rows)
    assert (raised.value.hint or "").startswith("a row for kto: {")


def test_the_line_of_the_bad_row_is_named() -> None:
    text = f"{json.dumps(CHAT)}\n\n\n{json.dumps(PROMPT)}\n"
    Path("data.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(TunekitError, match=r"data\.jsonl line 4: "):
        check_datasets(["data.jsonl"], STAGES["sft"], STAGES["sft"].rows)


def test_rows_behind_the_first_ones_are_looked_at() -> None:
    assert f"line {ROWS + 1}: " in refused([CHAT] * ROWS + [{}] * 2)
    assert "(72 of 96 rows will not do)" in refused([CHAT] * 24 + [{"dialog": []}] * 72)


def test_one_bad_row_among_the_first_is_refused_and_few_behind_them_are_not() -> None:
    assert f"line {ROWS}" in refused([CHAT] * (ROWS - 1) + [{}] + [CHAT] * 500)
    accept([CHAT] * 500 + [{}])


@pytest.mark.parametrize(
    ("row", "loss", "suits"),
    [
        (PAIR, "sft", "dpo"),
        (CHAT, "dpo", "sft"),
        (CHAT, "kto", "sft"),
        ({**CHAT, "label": True}, "dpo", "kto"),
        (PAIR, "kto", "dpo"),
        (PROMPT, "sft", "grpo"),
        ({**CHAT, "label": False}, "sft", "kto"),
        ({"text": "Once"}, "dpo", "pt"),
        ({"text": "Once", "lable": "0"}, "sft", "pt"),
        ({"text": "Once"}, "grpo", "pt"),
        ({"text": "Once"}, "kto", "pt"),
    ],
)
def test_rows_of_another_stage_are_refused_and_that_stage_is_named(row: Any, loss: str, suits: str) -> None:
    make_rows(Path("data.jsonl"), row)
    with pytest.raises(TunekitError) as raised:
        check_datasets(["data.jsonl"], STAGES[loss], STAGES[loss].rows)
    assert raised.value.hint
    assert raised.value.hint.endswith(f"such rows suit tunekit {suits}")
    accept([row], suits)


def test_pairs_do_not_train_silently_on_the_chosen_answers() -> None:
    assert 'a rejected answer in "rejected_response"' in refused([PAIR])
    accept([PAIR], "dpo")


def test_a_new_stage_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STAGES, "dream", Stage("dream", "sft", "To dream.", rows=PAIRS))
    assert "dream needs a rejected answer" in refused([CHAT], "dream")
    accept([PAIR], "dream")


# Files.


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("not json\n", 1),
        (f"{json.dumps(CHAT)}\n{{'messages': 1}}\n", 2),
        (f"\n\n{json.dumps(CHAT)}\n{json.dumps(CHAT)[:-5]}", 4),
        (f"{json.dumps(CHAT)}\n3\n", 2),
        (f"{json.dumps(CHAT)}\nnull\n", 2),
        (f'{json.dumps(CHAT)}\n["a"]\n', 2),
    ],
)
def test_a_line_that_is_no_object(text: str, line: int) -> None:
    Path("data.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(TunekitError, match=rf"^data\.jsonl line {line}: ") as raised:
        check_datasets(["data.jsonl"], STAGES["sft"], STAGES["sft"].rows)
    assert raised.value.code == Exit.DATA
    assert "\n" not in raised.value.message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("data.jsonl", content) for content in ("", "\n\n  \n", "\ufeff")),
        *(("data.json", content) for content in ("", "\ufeff", "[]", "[ ]\n")),
    ],
)
def test_an_empty_file(name: str, content: str) -> None:
    Path(name).write_text(content, encoding="utf-8")
    with pytest.raises(TunekitError, match="is empty") as raised:
        check_datasets([name], STAGES["sft"], STAGES["sft"].rows)
    assert raised.value.code == Exit.DATA
    assert raised.value.hint


@pytest.mark.parametrize("name", ["data.jsonl", "data.json"])
def test_a_file_that_is_no_text(name: str) -> None:
    Path(name).write_bytes(b"\xff\xfe{\x00")
    with pytest.raises(TunekitError, match="UTF-16, and ms-swift reads UTF-8") as raised:
        check_datasets([name], STAGES["sft"], STAGES["sft"].rows)
    assert raised.value.code == Exit.DATA


def test_an_array() -> None:
    Path("data.json").write_text(json.dumps([CHAT, CHAT], indent=1), encoding="utf-8")
    check_datasets(["data.json"], STAGES["sft"], STAGES["sft"].rows)
    Path("data.json").write_text(json.dumps([CHAT, PROMPT]), encoding="utf-8")
    with pytest.raises(TunekitError, match=r"2: .*ends with"):
        check_datasets(["data.json"], STAGES["sft"], STAGES["sft"].rows)
    Path("data.json").write_text(json.dumps([CHAT, 3]), encoding="utf-8")
    with pytest.raises(TunekitError, match="row 2"):
        check_datasets(["data.json"], STAGES["sft"], STAGES["sft"].rows)


@pytest.mark.parametrize("text", ["[1, 2", "{", "3", '"text"'])
def test_a_json_file_that_holds_no_rows(text: str) -> None:
    Path("data.json").write_text(text, encoding="utf-8")
    with pytest.raises(TunekitError) as raised:
        check_datasets(["data.json"], STAGES["sft"], STAGES["sft"].rows)
    assert raised.value.code == Exit.DATA


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lines.json", f"{json.dumps(CHAT)}\n{json.dumps(CHAT)}\n"),
        ("array.jsonl", json.dumps([CHAT, CHAT])),
        ("array.jsonl", json.dumps([CHAT, CHAT], indent=1)),
    ],
)
def test_what_the_ending_does_not_tell(name: str, text: str) -> None:
    """``datasets``, with which ms-swift reads, takes JSON lines and arrays under either ending (seen on 4.8.4)."""
    Path(name).write_text(text, encoding="utf-8")
    check_datasets([name], STAGES["sft"], STAGES["sft"].rows)


def test_other_types_are_left_to_ms_swift() -> None:
    Path("table.arrow").write_bytes(b"\xff anything")
    check_datasets(["table.arrow"], STAGES["sft"], STAGES["sft"].rows)


@pytest.mark.parametrize(("name", "said"), [("a.csv", "UTF-8"), ("a.txt", "UTF-8"), ("a.parquet", "no Parquet file")])
def test_a_table_that_cannot_be_read(name: str, said: str) -> None:
    Path(name).write_bytes(b"\xff anything")
    with pytest.raises(TunekitError, match=said) as raised:
        check_datasets([name], STAGES["sft"], STAGES["sft"].rows)
    assert raised.value.code == Exit.DATA


@pytest.mark.parametrize(
    ("text", "loss", "said"),
    [
        ("Frage,Antwort\nFarbe?,Blau\n", "sft", "row 1: .* among Frage, Antwort"),
        ("query,response\nHi,Hello\nHi,a,b\n", "sft", "row 2: it has more fields than the header"),
        ("query,response\nHi,Hello\n", "dpo", "rejected answer"),
        ("query,response\nHi,Hello\n", "kto", "label"),
        ("query,response\n", "sft", "is empty"),
        ("query,response,label\nHi,Hello,true\n", "sft", "says whether the answer is good"),
    ],
)
def test_a_table_is_judged_as_json_is(text: str, loss: str, said: str) -> None:
    Path("a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(TunekitError, match=said) as raised:
        check_datasets(["a.csv"], STAGES[loss], STAGES[loss].rows)
    assert raised.value.code == Exit.DATA


def test_good_tables() -> None:
    turns = json.dumps([USER, ASSISTANT]).replace('"', '""')
    Path("a.csv").write_text(f'query,response,label\nHi,"{"x" * 200_000}",1\n', encoding="utf-8")
    Path("b.csv").write_text(f'messages\n"{turns}"\n', encoding="utf-8")
    check_datasets(["a.csv"], STAGES["kto"], STAGES["kto"].rows)
    check_datasets(["b.csv"], STAGES["sft"], STAGES["sft"].rows)


def test_plain_text_is_for_pt() -> None:
    Path("a.txt").write_text("Once\n\nupon\n", encoding="utf-8")
    check_datasets(["a.txt"], STAGES["pt"], STAGES["pt"].rows)
    with pytest.raises(TunekitError, match="no question"):
        check_datasets(["a.txt"], STAGES["sft"], STAGES["sft"].rows)


TASK_ROWS = [
    ("seq_cls", {**PROMPT, "label": 2}),
    ("seq_cls", {**PROMPT, "label": [0, 1]}),
    ("seq_cls", {"text": "Once", "label": "1"}),
    ("embedding", {**PROMPT, "positive_messages": [[USER]], "negative_messages": [[USER], [USER]]}),
    ("embedding", {**PROMPT, "positive_messages": [[USER]], "label": 0.8}),
    ("reranker", {**PROMPT, "positive_messages": [[ASSISTANT]]}),
    ("generative_reranker", {**PROMPT, "negative_messages": [[ASSISTANT]]}),
]
BAD_TASK_ROWS = [
    ("seq_cls", PROMPT, "needs .label. in every row"),
    ("seq_cls", {**PROMPT, "label": "good"}, "the number of its class"),
    ("embedding", PROMPT, "needs positive_messages"),
    ("embedding", {**PROMPT, "negative_messages": [[USER]]}, "needs positive_messages"),
    ("embedding", {**PROMPT, "positive_messages": [USER]}, "a list of conversations, each a list"),
    ("reranker", {**PROMPT, "positive_messages": [[{"role": "user"}]]}, "message 1 has no content in conversation 1"),
    ("generative_reranker", CHAT, "needs positive_messages or negative_messages"),
]


@pytest.mark.parametrize(("task", "row"), TASK_ROWS)
def test_rows_of_a_task(task: str, row: dict[str, Any]) -> None:
    make_rows(Path("data.jsonl"), row)
    check_datasets(["data.jsonl"], STAGES["sft"], STAGES["sft"].rows_for(task), task)


@pytest.mark.parametrize(("task", "row", "said"), BAD_TASK_ROWS)
def test_bad_rows_of_a_task(task: str, row: dict[str, Any], said: str) -> None:
    make_rows(Path("data.jsonl"), row)
    with pytest.raises(TunekitError, match=said) as raised:
        check_datasets(["data.jsonl"], STAGES["sft"], STAGES["sft"].rows_for(task), task)
    assert (raised.value.hint or "").startswith(f"a row for {task}: ")


def test_the_example_of_each_task_is_one() -> None:
    for task, shape in TASKS.items():
        if shape:
            make_rows(Path(f"{task}.jsonl"), json.loads(shape.example))
            check_datasets([f"{task}.jsonl"], STAGES["sft"], shape, task)


def test_a_task_is_named_for_rows_that_suit_it() -> None:
    make_rows(Path("data.jsonl"), {**PROMPT, "label": 1})
    with pytest.raises(TunekitError) as raised:
        check_datasets(["data.jsonl"], STAGES["sft"], STAGES["sft"].rows)
    assert "such rows suit --task_type seq_cls" in (raised.value.hint or "")


# Names.


@pytest.mark.parametrize(
    "name",
    [
        "data/train.jsonl",
        "train.jsonl",
        "./absent",
        "/absent/rows",
        "~/absent.jsonl",
        "a/b/c",
        "train.parquet",
        "absent",
        "data/train.jsonl#500",
    ],
)
def test_a_file_that_is_missing(name: str) -> None:
    with pytest.raises(TunekitError) as raised:
        check_datasets([name], STAGES["sft"], STAGES["sft"].rows)
    assert raised.value.code == Exit.DATA
    assert name.partition("#")[0] in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize(
    "name",
    [
        "AI-ModelScope/alpaca-gpt4-data-zh",
        "AI-ModelScope/alpaca-gpt4-data-zh#500",
        "AI-ModelScope/alpaca-gpt4-data-zh:default#500",
        "HF::tatsu-lab/alpaca",
        "MS::swift/self-cognition#20",
    ],
)
def test_ids_on_a_hub_are_left_alone(name: str) -> None:
    assert local_file(name) is None
    check_datasets([name], STAGES["sft"], STAGES["sft"].rows)


def test_a_folder_is_left_to_ms_swift() -> None:
    Path("parts").mkdir()
    with pytest.raises(TunekitError, match="empty folder"):
        local_file("parts")
    Path("parts/a.parquet").touch()
    assert local_file("parts") is None


def test_a_kind_of_file_that_nobody_reads() -> None:
    make_rows(Path("data.jsn"))
    with pytest.raises(TunekitError, match="unknown kind of file") as raised:
        check_datasets(["data.jsn"], STAGES["sft"], STAGES["sft"].rows)
    assert raised.value.code == Exit.DATA


def test_a_sample_of_a_file() -> None:
    make_rows(Path("data.jsonl"))
    assert local_file("data.jsonl#500") == Path("data.jsonl")
    Path("data.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(TunekitError, match="is empty"):
        check_datasets(["data.jsonl#500"], STAGES["sft"], STAGES["sft"].rows)


def test_every_dataset_is_checked() -> None:
    make_rows(Path("good.jsonl"), CHAT)
    make_rows(Path("bad.jsonl"), {})
    with pytest.raises(TunekitError, match=r"bad\.jsonl"):
        check_datasets(["good.jsonl", "bad.jsonl"], STAGES["sft"], STAGES["sft"].rows)


# Through the command line.


@pytest.mark.parametrize(
    ("loss", "content"),
    [
        ("sft", ""),
        ("sft", "{\n"),
        ("sft", json.dumps(PROMPT)),
        ("dpo", json.dumps(CHAT)),
        ("sft", None),
    ],
)
def test_bad_data_is_exit_code_four(tmp_path: Path, loss: str, content: str | None) -> None:
    place = make_workplace(tmp_path)
    (place / "data.jsonl").unlink()
    if content is not None:
        (place / "data.jsonl").write_text(content, encoding="utf-8")
    argv = SFT if loss == "sft" else ("rlhf", "--rlhf-type", loss, *SFT[1:])
    result = tunekit(place, *argv)
    assert result.code == 4
    assert result.out == ""
    assert len([line for line in result.err.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in result.err
