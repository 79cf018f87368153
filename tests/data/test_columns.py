"""Columns that ms-swift does not take for what they are, and the names that they need."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tunekit.data.check import row_problem
from tunekit.data.columns import OtherShape, columns_of_text, renamed_row, suggested_columns
from tunekit.stages import STAGES

if TYPE_CHECKING:
    from pathlib import Path

USER = {"role": "user", "content": "Hi"}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


PAIR = {"chosen": "response", "rejected": "rejected_response"}
LISTS = {"chosen": "messages", "rejected": "rejected_messages"}
NEEDED: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("dpo", {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"}, PAIR),
    ("rm", {"system": "s", "question": "Hi", "chosen": "Hello", "rejected": "Go"}, PAIR),
    (
        "orpo",
        {"Prompt": "Hi", "Chosen": "Hello", "Rejected": "Go"},
        {"Chosen": "response", "Rejected": PAIR["rejected"]},
    ),
    ("dpo", {"instruction": "Hi", "input": "", "chosen": "Hello", "rejected": "Go"}, PAIR),
    ("dpo", {"prompt": "Hi", "chosen_response": "Hello", "rejected_response": "Go"}, {"chosen_response": "response"}),
    ("dpo", {"chosen": [USER, said("Hello")], "rejected": [USER, said("Go")]}, LISTS),
    ("dpo", {"prompt": "Hi", "chosen": [USER, said("Hello")], "rejected": [USER, said("Go")], "score": 1}, LISTS),
    ("dpo", {"chosen": json.dumps([USER, said("Hello")]), "rejected": json.dumps([USER, said("Go")])}, LISTS),
    ("kto", {"prompt": "Hi", "completion": "Hello", "kto_tag": True}, {"kto_tag": "label"}),
    ("pt", {"body": "Once upon a time", "id": "7"}, {"body": "response"}),
    ("pt", {"essay": "Once upon a time", "id": 7}, {"essay": "response"}),
    ("pt", {"text": "Once"}, {}),
    ("dpo", {"query": "Hi", "response": "Hello", "rejected_response": "Go"}, {}),
    ("kto", {"query": "Hi", "response": "Hello", "label": True, "tag": "x"}, {}),
    ("sft", {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"}, {}),
]


@pytest.mark.parametrize(("stage", "row", "columns"), NEEDED)
def test_what_is_renamed(stage: str, row: dict[str, Any], columns: dict[str, str]) -> None:
    shape = STAGES[stage].rows
    assert suggested_columns([row], shape) == columns
    if columns:
        assert row_problem(renamed_row(row, columns), shape, stage) is None


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (
            {"prompt": "Hi", "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}},
            "objects",
        ),
        ({"conversations": [USER], "chosen": {"value": "a"}, "rejected": {"value": "b"}}, "objects"),
        ({"messages": [USER], "chosen": "Hello", "rejected": "Go"}, "beside"),
        ({"prompt": [USER], "chosen": [said("Hello")], "rejected": [said("Go")]}, "begin with the question"),
    ],
)
def test_what_no_renaming_helps(row: dict[str, Any], why: str) -> None:
    with pytest.raises(OtherShape, match=why):
        suggested_columns([row], STAGES["dpo"].rows)


def test_renaming_is_that_of_ms_swift() -> None:
    assert renamed_row({"Q": 1, "b": 2}, {"q": "query", "x": "y"}) == {"query": 1, "b": 2}
    assert columns_of_text('{"q": "query"}') == {"q": "query"}
    assert columns_of_text("[1]") == columns_of_text("{") == {}


@pytest.mark.engine
def test_the_real_ms_swift_gets_the_columns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each map, loaded as training does: nothing of what is to be learned is lost."""
    for name in ("HF_DATASETS_CACHE", "MODELSCOPE_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "caches"))
    from swift.dataset import load_dataset

    for number, (stage, row, columns) in enumerate(NEEDED):
        if not columns:
            continue
        file = tmp_path / f"{number}.jsonl"
        file.write_text(json.dumps(row) + "\n")
        table, _ = load_dataset([str(file)], columns=columns)
        (found,) = table
        assert found["messages"][-1]["content"] in ("Hello", "Once upon a time")
        assert stage == "pt" or found["messages"][-2]["content"] == "Hi"
        worse = (found.get("rejected_messages") or [{}])[-1].get("content") or found.get("rejected_response")
        assert not STAGES[stage].rows.pairs or worse == "Go"
        assert stage != "kto" or found["label"] is True
