"""Where a run could go."""

import json
from pathlib import Path

import pytest

from tunekit.hardware import CARDS
from tunekit.runs.where import known_cards
from tunekit.speed.cards import rates_of

ROW = {"messages": [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "answer " * 300}]}
WORDS = ("fit", "--model", "Qwen2.5-7B", "--dataset", "d.jsonl", "--where")


@pytest.fixture
def rows():
    Path("d.jsonl").write_text((json.dumps(ROW) + "\n") * 500, encoding="utf-8")


def test_the_names_of_cards_can_be_described_and_are_known():
    names = known_cards()
    assert len(names) == len(set(names)) > 24
    assert all(rates_of(CARDS[name][0]) for name in names)


def test_every_place_fits_and_the_quickest_comes_first(rows, tunekit):
    done = tunekit(*WORDS, "--price", "H100=2.5,4090=0.4", "--json")
    assert done.code == 0
    places = done.json["places"]
    assert len({(place["card"], place["gpus"]) for place in places}) == len(places) > 60
    assert all(place["gib"] <= place["card_gib"] for place in places)
    seconds = [place["time"]["seconds"] for place in places]
    assert seconds == sorted(seconds)
    assert done.json["quickest"] == places[0]
    priced = [place["time"]["cost"]["about"] for place in places if place["time"]["cost"]]
    assert {place["card"].split(" (")[0] for place in places if place["time"]["cost"]} == {"H100", "RTX 4090"}
    assert done.json["cheapest"]["time"]["cost"]["about"] == min(priced)


def test_what_has_no_time_has_no_place(rows, tunekit):
    done = tunekit(*WORDS, "--torch_dtype", "float32")
    assert done.code != 0
    assert "float32" in done.err


def test_rows_that_cannot_be_counted_are_asked_for(tunekit):
    done = tunekit("fit", "--model", "Qwen2.5-7B", "--where")
    assert done.code == 2
    assert "--dataset" in done.err
