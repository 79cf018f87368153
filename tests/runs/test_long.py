"""Rows that are too long for a model become findings of a check, with their lines."""

from pathlib import Path

import pytest
from running import make_rows
from tokenized import make_tokenized, row

from tunekit.data.every_row import RowTokens
from tunekit.data.lengths import Unmeasured
from tunekit.data.survey import check_dataset
from tunekit.runs import long as module
from tunekit.runs.long import LongRows, long_rows


def checked(*rows):
    make_tokenized(Path("m").absolute())
    return check_dataset([str(make_rows(Path("a.jsonl"), *rows))], stage="sft")


def test_the_lines_of_long_rows_and_of_those_that_are_left_out(monkeypatch):
    def count(_question, rows):
        for one in rows:
            tokens = len(one.row["messages"][1]["content"].split())
            yield RowTokens(one.file, one.number, tokens if tokens != 7 else 0, "ValueError: no" if tokens == 7 else "")

    monkeypatch.setattr(module, "tokens_of_rows", count)
    bad = {"messages": [{"role": "user", "content": "Hi"}]}
    done = checked(*(row(number, number) for number in range(1, 51)), bad)
    seen = []
    found = long_rows(done, str(Path("m").absolute()), 40, lambda at, total, _: seen.append((at, total)))
    assert (found.over, found.unusable, len(found.tokens), found.dropped) == (10, 1, 49, True)
    assert (found.below(0.5), found.below(0.95), found.document()["longest"]) == (26, 48, 50)
    long = next(one for one in done.findings.all() if one.kind == "long")
    assert (long.count, long.places[0], long.level) == (10, ("a.jsonl", 41), "warning")
    left = next(one for one in done.errors if "ValueError: no" in one.problem)
    assert left.places == [("a.jsonl", 7)]
    assert done.bad == 2
    assert seen[0] == (1, 51)


def test_what_cannot_be_counted_says_why(monkeypatch):
    def fail(_question, _rows):
        raise Unmeasured("the tokenizer failed")

    monkeypatch.setattr(module, "tokens_of_rows", fail)
    done = checked(row(1, 1), row(2, 2))
    assert long_rows(done, str(Path("m").absolute()), 40) == LongRows(why="the tokenizer failed")
    assert long_rows(done, str(Path("m").absolute()), 40).document() == {"unknown": "the tokenizer failed"}


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95, 1.0])
def test_shares_of_one_row(share):
    from array import array

    assert LongRows(array("i", [3])).below(share) == 3
