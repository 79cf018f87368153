"""A sample of a file, and its tokens by ms-swift's own template."""

import json

import pytest
from tokenized import make_tokenized, row, write_lines

from tunekit.data import lengths as module
from tunekit.data.lengths import Question, Unmeasured, measure_rows
from tunekit.data.lengths_worker import LARGEST, Lines, Table, answer_lengths, shares, spread
from tunekit.data.tokens import Lengths, Sequence

FLAGS = {"model_type": "llama", "template": "chatml"}
AROUND = 6
"""Tokens of ChatML around question and answer: start, role, end of each turn. The answer's end carries loss."""


@pytest.mark.parametrize(("total", "count"), [(0, 5), (3, 5), (5, 5), (7, 3), (12_000, 500), (10, 1)])
def test_a_sample_is_evenly_spread(total, count):
    found = spread(total, count)
    assert len(found) == min(total, count) == len(set(found))
    assert found == sorted(found)
    assert all(0 <= number < total for number in found)
    if 0 < count < total:
        assert abs(sum(found) / count - (total - 1) / 2) <= 1, "as many from the front as from the back"


def test_each_file_gives_its_share():
    assert shares([9000, 1000], 500) == [450, 50]
    assert shares([10_000, 1, 0], 500) == [500, 1, 0]
    assert shares([3, 4], 500) == [3, 4]


@pytest.mark.parametrize("array", [False, True])
def test_rows_are_read_by_number_and_by_size(tmp_path, array):
    rows = [{"n": number, "text": "x" * (number % 50)} for number in range(100)]
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(rows) if array else "\n\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8-sig")
    lines = Lines(path)
    assert lines.total == 100
    assert [json.loads(line)["n"] for line in lines.take([0, 7, 99])] == [0, 7, 99]
    largest = [json.loads(line) for line in lines.largest()]
    assert len(largest) == LARGEST
    assert min(len(item["text"]) for item in largest) >= 46


@pytest.mark.engine
class TestWorker:
    """The worker in this process: ms-swift is loaded once for all tests."""

    @pytest.fixture(autouse=True)
    def _in_this_process(self, tmp_path, monkeypatch):
        pytest.importorskip("swift.arguments", exc_type=ImportError)
        monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "scratch"))
        self.model = make_tokenized(tmp_path / "m")
        self.folder = tmp_path
        monkeypatch.setattr(module, "ask_once", lambda _, question, __, ___: answer_lengths(question))

    def measure(self, name, *rows, stage="sft", **flags) -> Lengths:
        limit = flags.pop("max_length", None)
        data = write_lines(self.folder / name, *rows)
        return measure_rows(Question(self.model, stage, (str(data),), FLAGS | flags, limit))

    def test_the_answer_and_its_end_carry_loss(self):
        found = self.measure("d.jsonl", row(3, 4), row(10, 1), row(1, 20))
        assert found.rows == tuple(
            (Sequence(q + a + AROUND, q + a + AROUND, a + 1),) for q, a in ((3, 4), (10, 1), (1, 20))
        )
        assert (found.total, found.unusable, found.names) == (3, 0, ("d.jsonl",))
        assert found.longest == 27

    def test_all_turns_carry_loss_unless_only_the_last_shall(self):
        turns = [*row(2, 3)["messages"], *row(4, 5)["messages"]]
        ((all_turns,),) = self.measure("d.jsonl", {"messages": turns}).rows
        ((last,),) = self.measure("e.jsonl", {"messages": turns}, loss_scale="last_round").rows
        assert (all_turns.loss, last.loss) == (3 + 1 + 5 + 1, 5 + 1)
        assert all_turns.length == last.length == 2 + 3 + 4 + 5 + 2 * AROUND

    def test_a_system_prompt_has_tokens_and_no_loss(self):
        ((text,),) = self.measure("d.jsonl", row(3, 4), system="say say").rows
        assert (text.length, text.loss) == (3 + 4 + AROUND + 5, 5)

    def test_of_plain_text_all_carries_loss(self):
        ((text,),) = self.measure("d.jsonl", {"text": "say yes no"}, stage="pt").rows
        assert text.length == 4
        assert text.loss >= 3, "all but the first, which nothing predicts"

    @pytest.mark.parametrize("stage", ["dpo", "orpo", "simpo", "cpo", "rm"])
    def test_a_pair_is_two_texts(self, stage):
        (pair,) = self.measure("d.jsonl", row(3, 4, rejected_response="no no"), stage=stage).rows
        assert [(text.length, text.loss) for text in pair] == [(3 + 4 + AROUND, 5), (3 + 2 + AROUND, 3)]

    def test_kto_reads_one_text(self):
        ((text,),) = self.measure("d.jsonl", row(3, 4, label=True), stage="kto").rows
        assert (text.length, text.loss) == (3 + 4 + AROUND, 5)

    def test_rows_that_are_cut(self):
        whole, cut = (3 + 20 + AROUND, 13), (Sequence(29, 13, 5), Sequence(29, 13, 13))
        right = self.measure("d.jsonl", row(3, 20), truncation_strategy="right", max_length=13)
        left = self.measure("e.jsonl", row(3, 20), truncation_strategy="left", max_length=13)
        for found, expected in ((right, cut[0]), (left, cut[1])):
            ((text,),) = found.rows
            assert (text.length, text.trained) == whole
            assert abs(text.loss - expected.loss) <= 1

    def test_rows_that_ms_swift_leaves_out(self):
        nobody = {"messages": [{"role": "nobody", "content": "x"}, {"role": "assistant", "content": "y"}]}
        found = self.measure("d.jsonl", row(3, 4), nobody, row(3, 5))
        assert (len(found.rows), found.unusable) == (2, 1)
        with pytest.raises(Unmeasured, match="can use none of the rows"):
            self.measure("e.jsonl", nobody)

    def test_a_table(self):
        (self.folder / "d.csv").write_text("query,response\nsay say,yes\nsay,yes yes yes\n", encoding="utf-8")
        found = measure_rows(Question(self.model, "sft", (str(self.folder / "d.csv"),), FLAGS))
        assert [text.loss for (text,) in found.rows] == [2, 4]
        assert found.largest

    def test_columns_of_other_names(self):
        found = self.measure(
            "d.jsonl", {"ask": "say say", "reply": "yes"}, columns='{"ask":"query","reply":"response"}'
        )
        assert [text.loss for (text,) in found.rows] == [2]

    def test_a_large_file_is_sampled_and_its_longest_row_found(self):
        rows = [row(2, 3) for _ in range(1200)]
        rows[1] = row(300, 3)
        found = self.measure("d.jsonl", *rows)
        assert (found.total, len(found.rows)) == (1200, module.SAMPLE)
        assert found.longest == 300 + 3 + AROUND
        assert found.p95 == 2 + 3 + AROUND


def test_rows_of_a_table_of_datasets():
    class Rows(list):
        def select(self, numbers):
            return [self[number] for number in numbers]

    table = Table(Rows({"text": "x" * number} for number in range(30)))
    assert table.total == 30
    assert [len(json.loads(line)["text"]) for line in table.take([1, 29])] == [1, 29]
    assert len(json.loads(table.largest()[0])["text"]) == 29
