"""The tokens of every row, by ms-swift's own template, and where each stands."""

import json

import pytest
from tokenized import make_tokenized, row

from tunekit.data import every_row
from tunekit.data.every_row import PlacedRow, RowTokens, tokens_of_rows
from tunekit.data.lengths import Question, Unmeasured
from tunekit.data.lengths_worker import tokens_of_each

FLAGS = {"model_type": "llama", "template": "chatml"}


def rows_of(*rows):
    return [PlacedRow(0, number, one) for number, one in enumerate(rows, 1)]


@pytest.fixture
def question(tmp_path):
    return Question(make_tokenized(tmp_path / "m"), "sft", ("a.jsonl",), FLAGS)


def test_rows_are_asked_for_in_chunks_and_keep_their_places(question, monkeypatch):
    asked = []

    def answer(self, question, seconds):
        lines = [json.loads(line) for line in open(question["rows"], encoding="utf-8")]  # noqa: SIM115, PTH123
        asked.append(len(lines))
        assert [line["channel"] for line in lines] == [str(number) for number in range(len(lines))]
        return {"rows": [[line["n"], ""] for line in lines]}

    monkeypatch.setattr(every_row, "CHUNK", 4)
    monkeypatch.setattr(every_row, "check_measurable", lambda _: None)
    monkeypatch.setattr(every_row.Worker, "ask", answer)
    found = list(tokens_of_rows(question, rows_of(*({"n": number} for number in range(10)))))
    assert asked == [4, 4, 2]
    assert found == [RowTokens(0, number + 1, number) for number in range(10)]


def test_bytes_are_no_json(question, monkeypatch):
    monkeypatch.setattr(every_row, "check_measurable", lambda _: None)
    with pytest.raises(Unmeasured, match="bytes"):
        list(tokens_of_rows(question, rows_of({"image": b"x"})))


@pytest.mark.engine
def test_the_worker_counts_each_row_and_clears_what_it_read(question, tmp_path, monkeypatch):
    pytest.importorskip("swift.arguments", exc_type=ImportError)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("MODELSCOPE_CACHE", str(scratch))
    lines = [row(2, 3), {"messages": [{"role": "nobody", "content": "say"}]}, row(4, 9, channel="web")]
    place = scratch / "chunk.jsonl"
    place.write_text("".join(json.dumps({**one, "channel": str(at)}) + "\n" for at, one in enumerate(lines)))
    setup = {"model": str(question.folder), "flags": FLAGS, "template_mode": "train", "scratch": str(scratch)}
    found = tokens_of_each({**setup, "rows": str(place), "count": 3})
    assert [tokens for tokens, _ in found["rows"]] == [11, 0, 19]
    assert not list(scratch.iterdir())
