"""Files of rows: the one that a name means, and what is read from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunekit.data.files import local_file
from tunekit.data.look import check_datasets
from tunekit.data.read import ARRAY, look_into
from tunekit.data.sound import read_all, read_rows
from tunekit.errors import Exit, TunekitError
from tunekit.stages import STAGES

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


def test_a_byte_order_mark_and_blank_lines() -> None:
    text = f"\ufeff\n{json.dumps(CHAT)}\n\n{json.dumps(CHAT)}\n\n"
    Path("data.jsonl").write_text(text, encoding="utf-8")
    assert [line for line, _ in read_rows(Path("data.jsonl"))] == [2, 4]
    check_datasets(["data.jsonl"], STAGES["sft"], STAGES["sft"].rows)


def test_near_names_are_offered() -> None:
    Path("data").mkdir()
    for path in ("data/train.jsonl", "data/other.txt", "training.jsonl"):
        Path(path).write_text("x", encoding="utf-8")
    with pytest.raises(TunekitError) as raised:
        local_file("data/trian.jsonl")
    assert raised.value.hint == "did you mean data/train.jsonl?"
    with pytest.raises(TunekitError) as raised:
        local_file("train.jsonl")
    assert raised.value.hint == "did you mean training.jsonl?"


def test_rows_of_tables_and_arrays() -> None:
    Path("a.csv").write_text('q,a\n"7 + 5?",12\n', encoding="utf-8")
    Path("a.tsv").write_text("q\ta\n7?\t7\n", encoding="utf-8")
    Path("a.json").write_text('[{"q": 1}, {"q": 2}]', encoding="utf-8")
    assert list(read_all(Path("a.csv"), 9)) == [(1, {"q": "7 + 5?", "a": "12"})]
    assert list(read_all(Path("a.tsv"), 9)) == [(1, {"q": "7?", "a": "7"})]
    assert list(read_all(Path("a.json"), 1)) == [(1, {"q": 1})]
    assert look_into(Path("a.json")).kind == ARRAY
    with pytest.raises(TunekitError) as raised:
        list(read_all(Path("a.parquet"), 9))
    assert "JSON Lines" in str(raised.value.hint)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_file_that_cannot_be_read(name: str) -> None:
    with pytest.raises(TunekitError, match=rf"{name} cannot be read: No such file") as raised:
        list(read_all(Path(name), 9))
    assert raised.value.code == Exit.DATA
    Path(name).write_bytes(b"\xff")
    with pytest.raises(TunekitError, match="and ms-swift reads UTF-8"):
        list(read_all(Path(name), 9))
