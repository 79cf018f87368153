"""A stage is a row of the table: one that is added by its row alone is planned, checked and predicted."""

import json
from pathlib import Path

import pytest
from running import ROW, make_rows

from tunekit.data.look import check_datasets
from tunekit.engine.command import build_command
from tunekit.errors import TunekitError
from tunekit.plan.plan import Plan
from tunekit.plan.planner import default_name
from tunekit.stages import PAIRS, STAGES, Stage

PAIR = ROW | {"rejected_response": "No"}


@pytest.fixture(autouse=True)
def dream(monkeypatch):
    """Supervised training of ms-swift on pairs: no such stage is known."""
    row = Stage("dream", "sft", "To dream of what might have been.", rows=PAIRS)
    monkeypatch.setitem(STAGES, "dream", row)
    return row


def test_it_is_planned_as_itself(make, dream):
    plan = make("dream", preset="7b")
    assert (plan.stage, default_name(plan)) == (dream, "qwen2.5-7b-dream")
    assert plan.get("rlhf_type") is None
    assert build_command(plan, Path("out")).argv[:2] == ("swift", "sft")
    assert plan.settings.keys() == make("sft", preset="7b").settings.keys()


def test_it_comes_back_from_json_as_itself(make, dream):
    plan = make("dream")
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert (again, again.stage) == (plan, dream)
    assert again != make("sft")


def test_its_rows_are_checked(dream, tmp_path):
    check_datasets([str(make_rows(tmp_path / "pairs.jsonl", PAIR))], dream, dream.rows)
    with pytest.raises(TunekitError, match="dream needs a rejected answer in every row") as refused:
        check_datasets([str(make_rows(tmp_path / "plain.jsonl", ROW))], dream, dream.rows)
    assert refused.value.hint == f"a row for dream: {PAIRS.example}; such rows suit tunekit sft"


def test_its_memory_is_predicted_by_its_columns(make):
    dreaming, plain = (make(stage, preset="7b", packing=False) for stage in ("dream", "sft"))
    assert (dreaming.peak.spec.stage, plain.peak.spec.stage) == ("dream", "sft")
    assert dreaming.peak.prediction.process_gib > 1.3 * plain.peak.prediction.process_gib, "rows count double"
    assert make("dream").batch.micro < make("sft").batch.micro
    assert any("dream was not traced" in note for note in dreaming.peak.prediction.notes)


def test_tunekit_fit_and_recipes_know_it(tunekit):
    ended = tunekit("fit", "--stage", "dream", "--model", "Qwen2.5-7B", "--gpus", "80GB")
    assert ended.code == 0, ended.err
    assert "dream · lora" in ended.out
    text = '[defaults]\nmodel = "Qwen2.5-7B"\ndataset = "d.jsonl"\n[[stage]]\ntype = "sft"\n[[stage]]\ntype = "dream"\n'
    Path("two.toml").write_text(text, encoding="utf-8")
    stages = tunekit("run", "two.toml", "--gpus", "80GB", "--json").json["stages"]
    assert [(stage["stage"], stage["type"], stage["start"]["from"]) for stage in stages] == [
        ("sft", "sft", None),
        ("dream", "dream", "sft"),
    ]
    assert stages[1]["plan"]["name"] == "two-dream"
