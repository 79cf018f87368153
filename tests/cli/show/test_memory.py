"""What ``tunekit fit`` says of the rows of a dataset, whatever they were measured with."""

from pathlib import Path

import pytest
from running import make_rows
from tokenized import lengths_of, make_tokenized

FIT = ("fit", "--model", "m", "--gpus", "24GB", "--preset", "7b")


@pytest.fixture
def fit(tunekit, monkeypatch):
    """Call ``tunekit fit`` with rows that were measured as `lengths_of` says."""
    make_tokenized(Path("m"))
    make_rows(Path("d.jsonl"))

    def call(texts, *words):
        monkeypatch.setattr("tunekit.data.lengths.measure_rows", lambda _: lengths_of(*texts))
        ended = tunekit(*FIT, *(("--dataset", "d.jsonl") if texts else ()), *words)
        assert ended.code == 0, ended.err
        return ended

    return call


def test_what_is_said_of_the_rows(fit):
    rows = [*[(100, 30)] * 99, (4000, 30)]
    said = fit(rows).err.splitlines()
    assert "from all 100 rows of d.jsonl: longest 4,000 tokens, half below 100, 95% below 100" in said
    assert "a packed row of 3,072 tokens holds 24.8 of them" in said
    assert "1 of 100 rows are longer than max_length 3,072: ms-swift leaves them out" in said
    assert fit(rows, "--json").json["data"]["over_max_length"] == 1


def test_where_the_share_is_known_from(fit):
    rows = [*[(3000, 900)] * 9, (3000, 2400)]
    assert "25% of the tokens carry loss (assumed; --loss-percent says otherwise)" in fit([]).err
    assert "estimate: 50% of the tokens carry loss\n" in fit(rows, "--loss-percent", "50").err
    assert fit(rows, "--loss-percent", "50", "--json").json["loss_share"] == 0.5
    assert "estimate: 35% of the tokens carry loss, " in fit(rows).err
    document = fit(rows, "--json").json
    assert 0.35 < document["loss_share"] < 0.8
    assert document["seq_len"] == 3072
