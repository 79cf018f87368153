"""What a run learned from is remembered, and what is another now is said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from running import ROW, a_plan, make_model, make_rows, tensors

from tunekit.errors import Exit, TunekitError
from tunekit.plan.settings import COMMAND_LINE, Setting
from tunekit.runs import inputs
from tunekit.runs.inputs import check_inputs, look_at_inputs, what_changed

if TYPE_CHECKING:
    from tunekit.plan.plan import Plan


@pytest.fixture
def plan(isolated: Path) -> Plan:
    make_rows(isolated / "rows.jsonl")
    make_rows(isolated / "val.jsonl")
    make_model(isolated / "tiny")
    adapter = isolated / "kit" / "checkpoint-4"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text('{"r": 8}', encoding="utf-8")
    (adapter / "adapter_model.safetensors").write_bytes(tensors("x"))
    known = a_plan(dataset=["rows.jsonl#2", "org/hub"], val_dataset=["val.jsonl"], adapters=["kit/checkpoint-4"])
    return known.with_settings({"model": Setting("tiny", COMMAND_LINE)})


def test_what_is_remembered(plan: Plan) -> None:
    known = look_at_inputs(plan)
    assert list(known) == [
        "rows.jsonl",
        "val.jsonl",
        "tiny/config.json",
        "kit/checkpoint-4/adapter_config.json",
        "kit/checkpoint-4/adapter_model.safetensors",
    ]
    assert (known["rows.jsonl"]["lines"], known["rows.jsonl"]["bytes"]) == (4, Path("rows.jsonl").stat().st_size)
    assert what_changed(known, look_at_inputs(plan)) == []


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("rows.jsonl", "{}\n{}", "rows.jsonl was changed since the run began: 4 lines ("),
        ("val.jsonl", "{}\n", "1 line (3 bytes) now"),
        ("tiny/config.json", "{}", "tiny/config.json was changed"),
        ("kit/checkpoint-4/adapter_config.json", '{"r": 4}', "adapter_config.json was changed"),
        ("kit/checkpoint-4/adapter_model.safetensors", "longer" * 99, "adapter_model.safetensors was changed"),
    ],
)
def test_what_is_another_now(plan: Plan, file: str, content: str, said: str) -> None:
    before = look_at_inputs(plan)
    Path(file).write_text(content, encoding="utf-8")
    now = look_at_inputs(plan)
    (line,) = what_changed(before, now)
    assert said in line
    with pytest.raises(TunekitError) as raised:
        check_inputs(before, now, force=False)
    assert raised.value.code == Exit.DATA
    assert "--force" in (raised.value.hint or "")
    assert check_inputs(before, now, force=True) == [line]
    assert check_inputs({}, now, force=False) == [], "a run of before knows nothing"


def test_the_same_size_with_other_rows_is_another(plan: Plan) -> None:
    before, path = look_at_inputs(plan), Path("rows.jsonl")
    path.write_text(path.read_text(encoding="utf-8").replace("Hello", "HELLO"), encoding="utf-8")
    assert len(what_changed(before, look_at_inputs(plan))) == 1


def test_a_file_that_was_only_touched_is_the_same(plan: Plan) -> None:
    before = look_at_inputs(plan)
    os.utime("rows.jsonl", (1, 1))
    assert what_changed(before, look_at_inputs(plan)) == []


def test_a_large_file_is_known_by_its_edges(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "WHOLE", 100)
    monkeypatch.setattr(inputs, "EDGE", 40)
    before = look_at_inputs(plan)
    assert "lines" not in before["rows.jsonl"]
    make_rows(Path("rows.jsonl"), *[ROW] * 3, {**ROW, "messages": ROW["messages"][::-1]})
    (line,) = what_changed(before, look_at_inputs(plan))
    assert "bytes then" in line


def test_what_came_and_what_went(plan: Plan) -> None:
    before = look_at_inputs(plan)
    Path("tiny/config.json").unlink()
    Path("tiny/adapter_config.json").write_text("{}", encoding="utf-8")
    assert what_changed(before, look_at_inputs(plan)) == [
        "tiny/config.json is gone",
        "tiny/adapter_config.json was not there when the run began",
    ]
