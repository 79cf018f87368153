"""What is checked before a launch."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from running import SFT, a_plan, make_checkpoint, make_rows, make_workplace, tunekit

from tunekit.errors import Exit, TunekitError
from tunekit.plan.models.model import Model
from tunekit.runs import preflight
from tunekit.runs.models import check_adapters
from tunekit.runs.preflight import check_data, check_disk, check_launch, checkpoint_gib

Usage = namedtuple("Usage", "total used free")  # noqa: PYI024 - as shutil has it
PAIR = {
    "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    "rejected_response": "c",
}


def free(monkeypatch: pytest.MonkeyPatch, gib: float) -> list[Path]:
    """Say how much disk is free; the folders that were asked about."""
    asked: list[Path] = []

    def usage(folder: Path) -> Usage:
        asked.append(folder)
        return Usage(0, 0, gib * 2**30)

    monkeypatch.setattr(preflight.shutil, "disk_usage", usage)
    return asked


def test_no_dataset_at_all(tmp_path: Path) -> None:
    with pytest.raises(TunekitError) as raised:
        check_data(a_plan())
    assert raised.value.code == Exit.USAGE
    check_data(a_plan(cached_dataset=["x"]))


@pytest.mark.parametrize("flag", ["dataset", "val_dataset"])
def test_a_dataset_that_is_missing(tmp_path: Path, flag: str) -> None:
    good = str(make_rows(tmp_path / "good.jsonl"))
    plan = a_plan(**{"dataset": [good], flag: [str(tmp_path / "bad.jsonl")]})
    with pytest.raises(TunekitError) as raised:
        check_data(plan)
    assert raised.value.code == Exit.DATA


def test_the_rows_are_those_of_the_loss(tmp_path: Path) -> None:
    rows = str(make_rows(tmp_path / "rows.jsonl"))
    check_data(a_plan(dataset=[rows]))
    with pytest.raises(TunekitError, match="rejected"):
        check_data(a_plan(stage="dpo", dataset=[rows]))
    pairs = str(make_rows(tmp_path / "pairs.jsonl", PAIR))
    check_data(a_plan(stage="dpo", dataset=[pairs]))
    with pytest.raises(TunekitError, match=r"pairs\.jsonl"):  # the validation rows count too
        check_data(a_plan(dataset=[rows], val_dataset=[pairs]))


def test_columns_that_are_mapped_are_not_judged(tmp_path: Path) -> None:
    rows = str(make_rows(tmp_path / "rows.jsonl", {"q": "a", "a": "b"}))
    check_data(a_plan(dataset=[rows], columns='{"q": "query", "a": "response"}'))


def test_mapped_columns_do_not_make_a_file_appear(tmp_path: Path) -> None:
    plan = a_plan(dataset=[str(tmp_path / "absent.jsonl")], columns='{"q": "query"}')
    with pytest.raises(TunekitError) as raised:
        check_data(plan)
    assert raised.value.code == Exit.DATA


def test_the_size_of_a_checkpoint() -> None:
    assert checkpoint_gib(a_plan(model=Model("x"))) is None
    full = checkpoint_gib(a_plan(tuner_type="full"))
    assert full == pytest.approx(7e9 * 6 / 2**30)
    lora = checkpoint_gib(a_plan(lora_rank=8))
    assert lora
    real = 20.2e6 * 12 / 2**30  # Qwen2.5-7B, rank 8 on all linear layers: 20.2 million weights
    assert real / 2 < lora < real * 2
    assert checkpoint_gib(a_plan(lora_rank=64)) == pytest.approx(lora * 8)


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = a_plan(tuner_type="full", save_total_limit=2)  # 39 GiB each
    free(monkeypatch, 100)
    with pytest.raises(TunekitError) as raised:
        check_disk(plan, tmp_path / "runs" / "try")
    assert "2 checkpoints of about 39.1 GiB" in raised.value.message
    assert "100.0 GiB" in raised.value.message
    free(monkeypatch, 118)  # the two that are kept, and the third while it is written
    check_disk(plan, tmp_path / "runs" / "try")


def test_without_a_limit_ten_are_reckoned_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = a_plan(tuner_type="full")
    free(monkeypatch, 400)
    with pytest.raises(TunekitError, match="10 checkpoints"):
        check_disk(plan, tmp_path)


def test_small_checkpoints_need_no_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 0.01)
    check_disk(a_plan(model=Model("x", 0.1), lora_rank=8, save_total_limit=2), tmp_path)
    check_disk(a_plan(model=Model("x")), tmp_path)


def test_the_disk_that_is_asked_is_that_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = free(monkeypatch, 1000)
    plan = a_plan(tuner_type="full", save_total_limit=1)
    check_disk(plan, tmp_path / "not" / "yet" / "there")
    monkeypatch.chdir(tmp_path)
    check_disk(plan, Path("runs") / "try")
    assert [folder.resolve() for folder in asked] == [tmp_path, tmp_path]


def test_checkpoints_that_are_there_already_need_no_more_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is resumed has filled the disk itself: only the next checkpoint must fit before the oldest goes."""
    for step in (200, 400):
        make_checkpoint(tmp_path / "output" / f"checkpoint-{step}")
    free(monkeypatch, 45)
    check_disk(a_plan(tuner_type="full", save_total_limit=2), tmp_path)


def test_both_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chat, pairs = str(make_rows(tmp_path / "chat.jsonl")), str(make_rows(tmp_path / "pairs.jsonl", PAIR))
    free(monkeypatch, 1000)
    check_launch(a_plan(dataset=[chat]), tmp_path)
    with pytest.raises(TunekitError, match="a rejected answer"):
        check_launch(a_plan(dataset=[pairs]), tmp_path)
    free(monkeypatch, 1)
    with pytest.raises(TunekitError, match="GiB"):
        check_launch(replace(a_plan(dataset=[chat], tuner_type="full")), tmp_path)


def test_an_adapter_that_is_not_there_is_refused_and_its_neighbours_are_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-20").mkdir()
    (tmp_path / "checkpoint-20" / "adapter_config.json").write_text("{}")
    check_adapters(a_plan(adapters=[str(tmp_path / "checkpoint-20")]))
    with pytest.raises(TunekitError, match="does not exist") as refused:
        check_adapters(a_plan(adapters=[str(tmp_path / "checkpoint-2")]))
    assert "checkpoint-20" in (refused.value.hint or "")
    check_adapters(a_plan(adapters=["org/adapter"]))  # an id on a hub


def test_nothing_is_left_of_a_run_that_was_refused(tmp_path: Path) -> None:
    place = make_workplace(tmp_path)
    (place / "data.jsonl").write_text("", encoding="utf-8")
    result = tunekit(place, *SFT)
    assert result.code == 4
    assert not (place / "runs").exists()
