"""Runs of older versions of tunekit are read, and gone on with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from running import make_rows, make_workplace, read_json, tunekit

from tunekit.errors import TunekitError
from tunekit.plan.settings import COMMAND_LINE, Source
from tunekit.runs import migrations
from tunekit.runs.folder import RunFolder, RunState
from tunekit.runs.migrations import migrate

OLD: dict[str, Any] = read_json(Path(__file__).with_name("run-schema-1.json"))
"""As tunekit wrote it with schema 1, but for `cwd`: DPO on a CPU, out of memory once, then failed."""

PAIR = {
    "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    "rejected_response": "c",
}


def keep(document: dict[str, Any]) -> RunFolder:
    folder = RunFolder(Path("runs/try"))
    folder.path.mkdir(parents=True, exist_ok=True)
    (folder.path / "run.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def read(**plan: Any) -> RunState:
    """The old run, with parts of its plan replaced."""
    return keep({**OLD, "plan": {**OLD["plan"], **plan}}).load()


def test_a_run_of_schema_1_is_read() -> None:
    state, old = read(), OLD["plan"]
    assert (state.name, state.status, state.oom_retry, state.max_attempts) == ("try", "failed", "neutral", 5)
    assert [attempt.outcome for attempt in state.attempts] == ["gpu-memory", "unknown"]
    assert (state.plan.stage.name, state.plan.stage.command) == ("dpo", "rlhf")
    assert (state.plan.preset, state.plan.overlays, state.plan.batch.micro) == ("cpu", ("stable",), 4)
    assert {flag: setting.value for flag, setting in state.plan.settings.items()} == {
        flag: setting["value"] for flag, setting in old["settings"].items()
    }
    assert list(state.plan.settings) == list(old["settings"])
    assert [change.line() for change in state.plan.changes][-1] == "gradient_accumulation_steps 4 → 8"


def test_sources_have_types_and_say_what_they_said() -> None:
    plan, old = read().plan, OLD["plan"]
    texts = {flag: setting["source"] for flag, setting in old["settings"].items()}
    assert {flag: str(setting.source) for flag, setting in plan.settings.items()} == texts
    assert [str(change.by) for change in plan.changes] == [change["by"] for change in old["changes"]]
    assert [change.quiet for change in plan.changes] == [change["quiet"] for change in old["changes"]]
    assert {flag for flag, setting in plan.settings.items() if setting.explicit} == {"rlhf_type", "dataset"}


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("command line", COMMAND_LINE),
        ("preset 7b", Source("preset", "7b")),
        ("preset 7b ← base", Source("preset", "7b", "base")),
        ("preset my presets/a:b.toml ← 20b-moe", Source("preset", "my presets/a:b.toml", "20b-moe")),
        ("overlay long-context", Source("overlay", "long-context")),
        ("stage dpo", Source("stage", "dpo")),
        ("strategy full_llm", Source("strategy", "full_llm")),
        ("config config.toml", Source("config", "config.toml")),
        ("environment", Source("environment")),
        ("recipe", Source("recipe")),
        ("model", Source("model")),
        ("memory", Source("memory")),
        ("batch", Source("batch")),
        ("run", Source("run")),
        ("tunekit", Source("tunekit")),
        ("rule:flash-missing", Source("rule", "flash-missing")),
        ("retry:2", Source("retry", "2")),
    ],
)
def test_every_source_that_schema_1_knew(text: str, source: Source) -> None:
    plan = read(command="sft", settings={"model": {"value": "x", "source": text, "why": "because"}}).plan
    assert (plan.settings["model"].source, plan.settings["model"].why) == (source, "because")
    assert str(source) == text


def test_a_plan_that_knew_less() -> None:
    """Schema 1 grew: its first plans had no rewards, and nothing that was measured."""
    later = ("rewards", "row_format", "memory_correction", "loss_share", "row_tokens")
    first = {key: value for key, value in OLD["plan"].items() if key not in later}
    plan = keep({**OLD, "plan": first}).load().plan
    assert (plan.rewards, plan.row_format, plan.memory_correction, plan.loss_share) == ((), None, 1.0, None)


def test_what_a_plan_knew_stays() -> None:
    function = {"file": "a.py", "name": "f", "alias": "g"}
    plan = read(rewards=[function], row_format=function, memory_correction=1.2, loss_share=0.3, row_tokens=512).plan
    assert [reward.alias for reward in plan.rewards] == ["g"]
    assert plan.row_format
    assert plan.row_format.spec == "a.py:f"
    assert (plan.memory_correction, plan.loss_share, plan.row_tokens) == (1.2, 0.3, 512)


@pytest.mark.parametrize("command", ["sft", "pt"])
def test_the_stage_of_what_is_no_rlhf(command: str) -> None:
    settings = {flag: setting for flag, setting in OLD["plan"]["settings"].items() if flag != "rlhf_type"}
    assert read(command=command, settings=settings).plan.stage.name == command


def test_the_document_that_is_migrated_stays_as_it_was() -> None:
    before = json.dumps(OLD)
    migrate(OLD)
    assert json.dumps(OLD) == before


def test_what_is_written_again_is_read_again_and_not_migrated(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = keep(OLD)
    state = folder.load()
    folder.save(state)
    assert read_json(folder.path / "run.json")["schema"] == migrations.SCHEMA == 2
    monkeypatch.setattr(migrations, "STEPS", ())
    monkeypatch.setattr(migrations, "SCHEMA", 2)
    assert folder.load() == state


@pytest.mark.parametrize("schema", [3, 99])
def test_a_newer_run_is_refused(schema: int) -> None:
    with pytest.raises(TunekitError, match=r"run\.json: not written by this version of tunekit") as raised:
        keep({**OLD, "schema": schema}).load()
    assert raised.value.hint == "start the run anew, or install the version that wrote it"


def test_an_old_run_goes_on(tmp_path: Path) -> None:
    place = make_workplace(tmp_path)
    make_rows(place / "pairs.jsonl", *[PAIR] * 4)
    folder = keep({**OLD, "cwd": str(place)})
    for number in (1, 2):
        folder.attempt(number).mkdir(parents=True)
    result = tunekit(place, "resume", "try", fake={"oom_above": 2, "oom_at": 3})
    assert result.code == 0, result.err
    document = read_json(folder.path / "run.json")
    assert [attempt["micro_batch"] for attempt in document["attempts"]] == [8, 4, 4, 2]
    assert document["plan"]["settings"]["per_device_train_batch_size"]["source"]["kind"] == "retry"
    assert os.access(folder.attempt(4) / "command.sh", os.X_OK)
