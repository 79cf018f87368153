"""Datasets that a table describes are converted by their names."""

import json
from pathlib import Path

import pytest

from tunekit.data.conversion import Conversion
from tunekit.data.convert import convert_rows
from tunekit.data.described import files_named
from tunekit.errors import Exit, TunekitError

TABLE = """
[odd]
path = "odd.jsonl"
columns = { messages = "talk" }
tags = { role = "who", content = "says", user = "client", assistant = "agent" }
samples = 2

[pairs]
path = "pairs.jsonl"
columns = { prompt = "ask", chosen = "good", rejected = "bad" }
images = "pictures"
"""


@pytest.fixture(autouse=True)
def _tables():
    Path("datasets.toml").write_text(TABLE, encoding="utf-8")
    turns = [{"who": "client", "says": "Hi"}, {"who": "agent", "says": "Hello"}]
    Path("odd.jsonl").write_text(f"{json.dumps({'talk': turns})}\n" * 3, encoding="utf-8")
    pair = {"ask": "Hi", "good": "Hello", "bad": "Go", "image": "a.png"}
    Path("pairs.jsonl").write_text(json.dumps(pair), encoding="utf-8")
    Path("pictures").mkdir()


def converted(*names: str, to: str) -> list[dict]:
    described = dict(files_named(names))
    convert_rows(Conversion(tuple(described), Path("out.jsonl"), to, described=described))
    return [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines()]


def test_words_of_a_conversation_and_the_number_of_rows():
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert converted("odd", to="sft") == [{"messages": turns}] * 2


def test_columns_and_the_folder_of_pictures():
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (9, 9)).save("pictures/a.png")
    (row,) = converted("pairs", to="dpo")
    assert row["rejected_response"] == "Go"
    assert row["messages"][-1]["content"] == "Hello"
    assert row["images"] == ["pictures/a.png"]


def test_files_stay_and_unknown_names_are_told():
    Path("datasets.toml").unlink()
    assert [path for path, _ in files_named(["odd.jsonl"])] == [Path("odd.jsonl")]
    Path("other.toml").write_text(TABLE, encoding="utf-8")
    assert files_named(["pairs"], "other.toml")[0][1].images == "pictures"
    with pytest.raises(TunekitError, match="neither a file nor in the table") as raised:
        files_named(["od"], "other.toml")
    assert (raised.value.code, raised.value.hint) == (Exit.DATA, "did you mean odd?")
