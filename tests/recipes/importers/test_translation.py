"""The translation itself, on a small dialect: every key once, defaults where they differ, nothing else."""

from pathlib import Path

import pytest

from tunekit.recipes.importers.source import Entry, Origin, WrittenFloat
from tunekit.recipes.importers.table import KeyRule
from tunekit.recipes.importers.translation import (
    DEFAULT,
    ELSEWHERE,
    LOST,
    TRANSLATED,
    UNKNOWN,
    Dialect,
    rule_for,
    translate_source,
    words_of,
)

RULES = [
    KeyRule("rate", "to", "learning_rate"),
    KeyRule("kind", "to", "torch_dtype", values={"half": "float16", "auto": ""}),
    KeyRule("decay", "to", "weight_decay", absent=0.0),
    KeyRule("epochs", "to", "num_train_epochs", absent=3.0),
    KeyRule("alpha", "to", "lora_alpha", absent=1, only=("lora",)),
    KeyRule("strategy", "to", "save_strategy"),
    KeyRule("both", "by", "both"),
    KeyRule("silent", "by", "silent"),
    KeyRule("extra", "lost", "there is no such thing", harmless=(False, None)),
    KeyRule("place", "elsewhere", "in another way"),
    KeyRule("model.name", "to", "model"),
    KeyRule("sets.*.path", "to", "dataset"),
]


def both(draft, entry, _):
    draft.put(entry, "one", max_length=entry.value)
    draft.put(entry, "two", truncation_strategy="right")


def dialect(**more):
    return Dialect(
        name="small",
        title="Small",
        rules={rule.key: rule for rule in RULES},
        likeness=lambda _: 1,
        functions={"both": both, "silent": lambda *_: None},
        begin=lambda draft: draft.flags.update(tuner_type=["full"]),
        finish=lambda _: None,
        **more,
    )


def translated(tools=None, **values):
    origin = Origin((), tuple(Entry(key, value, 7) for key, value in values.items()), Path())
    (draft,) = translate_source(origin, tools or dialect())
    return draft, {outcome.key: outcome for outcome in draft.outcomes}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, ["true"]),
        (None, []),
        (3, ["3"]),
        (WrittenFloat("1e-4"), ["1e-4"]),
        (["a", 2, False], ["a", "2", "false"]),
        ({"a": WrittenFloat("1e-4"), "b": True}, ['{"a": 0.0001, "b": true}']),
    ],
)
def test_words(value, words):
    assert words_of(value) == words


def test_each_key_has_one_outcome():
    draft, outcomes = translated(rate=1, kind="half", both=5, silent=1, extra=True, place="x", odd=1)
    assert [outcome.key for outcome in draft.outcomes].count("both") == 1
    assert {key: outcome.status for key, outcome in outcomes.items() if outcome.line} == {
        "rate": TRANSLATED,
        "kind": TRANSLATED,
        "both": TRANSLATED,
        "silent": DEFAULT,
        "extra": LOST,
        "place": ELSEWHERE,
        "odd": UNKNOWN,
    }
    assert (outcomes["both"].flags, outcomes["both"].why) == (("max_length", "truncation_strategy"), "one; two")
    assert draft.flags["torch_dtype"] == ["float16"]


def test_what_is_absent_is_written_only_where_ms_swift_differs():
    draft, outcomes = translated()
    assert draft.flags == {"tuner_type": ["full"], "weight_decay": ["0.0"]}
    decay = outcomes["decay"]
    assert (decay.value, decay.flags, decay.why) == (None, ("weight_decay",), "Small's default")
    assert translated(decay=0.3)[0].flags["weight_decay"] == ["0.3"]


def test_nothing_is_written_for_what_asks_for_nothing():
    draft, outcomes = translated(kind="auto", extra=False, strategy=False)
    assert "torch_dtype" not in draft.flags
    assert (outcomes["kind"].status, outcomes["extra"].status) == (DEFAULT, DEFAULT)
    assert draft.flags["save_strategy"] == ["no"]


def test_tables_are_taken_apart_where_rules_reach_into_them():
    draft, outcomes = translated(model={"name": "m", "odd": 1}, sets=[{"path": "a"}], other={"name": 1})
    assert (draft.flags["model"], draft.flags["dataset"]) == (["m"], ["a"])
    assert outcomes["sets.0.path"].status == TRANSLATED
    assert {key for key, outcome in outcomes.items() if outcome.status == UNKNOWN} == {"model.odd", "other"}
    assert rule_for("sets.12.path", dialect().rules).text == "dataset"


def test_the_beginning_of_a_flag_where_the_tool_takes_it():
    draft, outcomes = translated(dialect(abbreviates=True), ra=5)
    assert draft.flags["learning_rate"] == ["5"]
    assert outcomes["ra"].status == TRANSLATED
    assert translated(ra=5)[1]["ra"].status == UNKNOWN
