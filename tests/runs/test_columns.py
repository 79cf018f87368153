"""Columns that a plan renames: those its rows need, or those that were said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import make_rows

from tunekit.errors import Exit, TunekitError
from tunekit.runs.columns import columns_of, with_columns
from tunekit.runs.data import check_rows, shape_of

PAIR = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"}
NAMES = {"chosen": "response", "rejected": "rejected_response"}


@pytest.fixture
def planned(make):
    """A plan over files of rows, as `prepare` makes it: ``planned("dpo", [row, …], [row, …], columns=…)``."""

    def plan(stage, *files, **words):
        names = [str(make_rows(Path(f"{number}.jsonl"), *rows)) for number, rows in enumerate(files)]
        made = make(stage, "Qwen2.5-7B", packing=False, **words).with_settings({})
        made = made.changed({"dataset": names}, None, "")
        return with_columns(made, shape_of(made)[0])

    return plan


def test_pairs_get_the_columns_of_ms_swift_and_it_is_said(planned):
    plan = planned("dpo", [PAIR])
    assert json.loads(plan.text("columns")) == columns_of(plan) == NAMES
    assert "ms-swift gets chosen as response and rejected as rejected_response" in plan.warnings[-1]
    check_rows(plan)


@pytest.mark.parametrize(
    ("stage", "row"),
    [
        ("sft", {"query": "Hi", "response": "Hello"}),
        ("dpo", {"query": "Hi", "response": "Hello", "rejected_response": "Go"}),
    ],
)
def test_what_needs_nothing_gets_nothing(planned, stage, row):
    assert planned(stage, [row]).get("columns") is None


def test_columns_that_were_said_are_kept_and_rows_are_judged_with_them(planned):
    said = {"good": "response", "bad": "rejected_response"}
    rows = [{"prompt": "Hi", "good": "Hello", "bad": "Go"}]
    check_rows(planned("dpo", rows, columns=json.dumps(said)))
    with pytest.raises(TunekitError, match="needs a rejected answer") as raised:
        check_rows(planned("dpo", rows, columns='{"good": "response"}'))
    assert raised.value.code == Exit.DATA


def test_other_shapes_are_refused_with_the_command_that_converts_them(planned):
    objects = {"prompt": "Hi", "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}
    with pytest.raises(TunekitError, match="are objects") as raised:
        planned("dpo", [objects])
    assert raised.value.hint == "tunekit data convert 0.jsonl --to dpo --out 0.dpo.jsonl"
    assert raised.value.code == Exit.DATA


def test_one_map_serves_all_datasets_or_is_refused(planned):
    ready = {"query": "Hi", "response": "Hello", "rejected_response": "Go"}
    assert columns_of(planned("dpo", [PAIR], [ready])) == NAMES
    lists = {"chosen": [{"role": "user", "content": "a"}], "rejected": [{"role": "user", "content": "b"}]}
    with pytest.raises(TunekitError, match="--columns is one for all"):
        planned("dpo", [PAIR], [lists])


def test_a_format_makes_its_own_rows(make):
    plan = make("dpo", "Qwen2.5-7B", packing=False)
    assert with_columns(plan, None) is plan
