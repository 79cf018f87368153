"""Which checkpoint a retry goes on from, and which one counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import archive, make_checkpoint, read_json, tensors

from tunekit.errors import Exit, TunekitError
from tunekit.runs import checkpoints
from tunekit.runs.checkpoints import (
    best_checkpoint,
    complete,
    link_result,
    newest,
    ready_to_resume,
    saved_checkpoints,
    step,
)

NEEDED = ("trainer_state.json", "optimizer.pt", "scheduler.pt", "rng_state.pth", "adapter_model.safetensors")


def test_no_checkpoint(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    assert newest(tmp_path / "absent") is None


@pytest.mark.parametrize("name", ["checkpoint-²", "checkpoint-", "checkpoint-1x", "checkpoint-٣.tmp"])
def test_a_name_that_ends_in_no_number(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    known = make_checkpoint(tmp_path / "checkpoint-5")
    assert (step(tmp_path / name), newest(tmp_path)) == (-1, known)


def test_the_newest_by_number_not_by_name(tmp_path: Path) -> None:
    for number in (2, 10, 9, 100, 20):
        make_checkpoint(tmp_path / f"checkpoint-{number}")
    assert newest(tmp_path) == tmp_path / "checkpoint-100"


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_file_makes_it_incomplete(tmp_path: Path, name: str) -> None:
    make_checkpoint(tmp_path / "checkpoint-10")
    newer = make_checkpoint(tmp_path / "checkpoint-20")
    assert newest(tmp_path) == newer
    (newer / name).unlink()
    assert newest(tmp_path) == tmp_path / "checkpoint-10"


@pytest.mark.parametrize("name", ["trainer_state.json", "optimizer.pt", "scheduler.pt", "adapter_model.safetensors"])
def test_an_empty_file_makes_it_incomplete(tmp_path: Path, name: str) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint-20")
    (folder / name).write_bytes(b"")
    assert newest(tmp_path) is None


@pytest.mark.parametrize("state", ["", '{"global_step": 2', "\x00\x00\x00"])
def test_a_state_that_was_cut_off_makes_it_incomplete(tmp_path: Path, state: str) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint-20")
    (folder / "trainer_state.json").write_text(state, encoding="utf-8")
    assert not complete(folder)


def test_a_state_that_is_no_text_makes_it_incomplete(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint-20")
    (folder / "trainer_state.json").write_bytes(b"\xff\xfe\x80")
    assert not complete(folder)


@pytest.mark.parametrize("weights", checkpoints.WEIGHTS)
def test_any_kind_of_weights(tmp_path: Path, weights: str) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint-20")
    (folder / "adapter_model.safetensors").unlink()
    assert not complete(folder)
    (folder / weights).write_bytes(tensors("x") if weights.endswith(".safetensors") else archive("x"))
    assert complete(folder)


def test_the_random_states_of_several_processes(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint-20")
    (folder / "rng_state.pth").rename(folder / "rng_state_0.pth")
    (folder / "rng_state_1.pth").write_bytes(archive("x"))
    assert complete(folder)


def test_deepspeed_keeps_all_in_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-20"
    parts = folder / "global_step20"
    parts.mkdir(parents=True)
    (folder / "trainer_state.json").write_text('{"global_step": 20}', encoding="utf-8")
    (folder / "args.json").write_text('{"global_world_size": 2}', encoding="utf-8")
    (parts / "mp_rank_00_model_states.pt").write_bytes(archive("x"))
    for rank in (0, 1):
        (parts / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").write_bytes(archive("x"))
    assert not complete(folder)
    (folder / "latest").write_text("global_step10", encoding="utf-8")
    assert not complete(folder)
    (folder / "latest").write_text("global_step20", encoding="utf-8")
    assert complete(folder)
    (parts / "mp_rank_00_model_states.pt").write_bytes(archive("x")[:-5])
    assert not complete(folder)
    (parts / "mp_rank_00_model_states.pt").write_bytes(archive("x"))
    (parts / "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt").unlink()
    assert not complete(folder), "a process has not saved its part"


@pytest.mark.parametrize("name", [name for name in NEEDED if name != "trainer_state.json"])
@pytest.mark.parametrize("damage", ["cut", "zeros", "longer"])
def test_a_file_that_was_cut_off_makes_it_incomplete(tmp_path: Path, name: str, damage: str) -> None:
    make_checkpoint(tmp_path / "checkpoint-10")
    file = make_checkpoint(tmp_path / "checkpoint-20") / name
    content = file.read_bytes()
    if damage == "longer" and not name.endswith(".safetensors"):
        return
    damaged = {"cut": content[:-3], "zeros": bytes(len(content)), "longer": content + b"0"}
    file.write_bytes(damaged[damage])
    assert newest(tmp_path) == tmp_path / "checkpoint-10"


@pytest.mark.parametrize(
    "header", [b"", b"\x02", b"\xff" * 8 + b"{}", b"\x02" + bytes(7) + b"[]", b"\x02" + bytes(7) + b"{"]
)
def test_a_header_of_nonsense(tmp_path: Path, header: bytes) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(header)
    assert not checkpoints.whole(file)


def test_the_state_of_another_step_makes_it_incomplete(tmp_path: Path) -> None:
    """As a folder that was renamed, or copied over another."""
    make_checkpoint(tmp_path / "checkpoint-10")
    make_checkpoint(tmp_path / "checkpoint-20", global_step=10)
    assert newest(tmp_path) == tmp_path / "checkpoint-10"


def test_as_many_random_states_as_processes(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint-20")
    (folder / "args.json").write_text('{"global_world_size": 2}', encoding="utf-8")
    assert not complete(folder)
    (folder / "rng_state.pth").rename(folder / "rng_state_0.pth")
    assert not complete(folder)
    (folder / "rng_state_1.pth").write_bytes(archive("x"))
    assert complete(folder)
    (folder / "rng_state_1.pth").rename(folder / "rng_state_2.pth")
    assert not complete(folder)


def test_a_stop_that_did_not_finish_its_checkpoint(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "checkpoint-10")
    (make_checkpoint(tmp_path / "checkpoint-20") / "checkpoint-is-incomplete.txt").touch()
    assert newest(tmp_path) == tmp_path / "checkpoint-10"


def test_checkpoints_to_be_passed_over(tmp_path: Path) -> None:
    for number in (10, 20):
        make_checkpoint(tmp_path / f"checkpoint-{number}")
    assert newest(tmp_path, {"checkpoint-20"}) == tmp_path / "checkpoint-10"
    assert newest(tmp_path, {"checkpoint-20", "checkpoint-10"}) is None


@pytest.mark.parametrize("name", ["checkpoint-last", "checkpoint-", "merged", "checkpoint-20-merged", "checkpoint--5"])
def test_other_folders_are_no_checkpoints(tmp_path: Path, name: str) -> None:
    whole = make_checkpoint(tmp_path / "checkpoint-20")
    assert complete(whole)
    whole.rename(tmp_path / name)
    assert step(tmp_path / name) == -1
    assert newest(tmp_path) is None


@pytest.mark.parametrize("stale", ["checkpoint-10", "../other/checkpoint-99"])
def test_a_link_that_is_old_or_leads_elsewhere_does_not_win(tmp_path: Path, stale: str) -> None:
    output = tmp_path / "output"
    make_checkpoint(output / "checkpoint-10")
    make_checkpoint(output / "checkpoint-20")
    make_checkpoint(tmp_path / "other" / "checkpoint-99")
    (output / "last-checkpoint").symlink_to(stale)
    assert newest(output) == output / "checkpoint-20"


@pytest.mark.parametrize("damage", ["dangling", "incomplete"])
def test_a_link_to_nothing_good_is_passed_over(tmp_path: Path, damage: str) -> None:
    make_checkpoint(tmp_path / "checkpoint-10")
    (tmp_path / "last-checkpoint").symlink_to("checkpoint-20")
    if damage == "incomplete":
        (make_checkpoint(tmp_path / "checkpoint-20") / "optimizer.pt").unlink()
    assert newest(tmp_path) == tmp_path / "checkpoint-10"


def test_a_link_that_became_a_folder_is_no_link(tmp_path: Path) -> None:
    """As after `cp -rL`."""
    make_checkpoint(tmp_path / "checkpoint-10")
    make_checkpoint(tmp_path / "checkpoint-20")
    make_checkpoint(tmp_path / "copies" / "checkpoint-10").rename(tmp_path / "last-checkpoint")
    assert newest(tmp_path) == tmp_path / "checkpoint-20"


@pytest.mark.parametrize("version", [None, (5, 2), (5, 2, 0), (5, 19, 0), (6,)])
def test_a_new_transformers_takes_the_checkpoint_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...] | None
) -> None:
    monkeypatch.setattr(checkpoints, "package_version", lambda _: version)
    folder = make_checkpoint(tmp_path / "output" / "checkpoint-20")
    assert ready_to_resume(folder, tmp_path / "attempt") == folder
    assert not (tmp_path / "attempt").exists()


@pytest.mark.parametrize("version", [(4, 57, 1), (5, 0, 0), (5, 1, 9)])
@pytest.mark.parametrize("links", [True, False])
def test_an_old_transformers_gets_a_copy_that_names_no_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], links: bool
) -> None:
    monkeypatch.setattr(checkpoints, "package_version", lambda _: version)
    if not links:

        def refuse(*_: object) -> None:
            raise OSError

        monkeypatch.setattr(Path, "hardlink_to", refuse)
    folder = make_checkpoint(tmp_path / "output" / "checkpoint-20", train_batch_size=8, best_metric=0.5)
    (folder / "inner").mkdir()
    (folder / "inner" / "file").write_text("x", encoding="utf-8")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    copy = ready_to_resume(folder, tmp_path / "attempt")

    assert copy == tmp_path / "attempt" / "checkpoint-20"
    assert complete(copy)
    assert read_json(copy / "trainer_state.json") == {"global_step": 20, "train_batch_size": None, "best_metric": 0.5}
    assert (copy / "inner" / "file").read_text(encoding="utf-8") == "x"
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    shared = (copy / "optimizer.pt").samefile(folder / "optimizer.pt")
    assert shared is links


def test_the_copy_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "package_version", lambda _: (5, 1, 0))
    folder = make_checkpoint(tmp_path / "output" / "checkpoint-20")
    first = ready_to_resume(folder, tmp_path / "attempt")
    (first / "leftover").write_text("x", encoding="utf-8")
    second = ready_to_resume(folder, tmp_path / "attempt")
    assert second == first
    assert not (second / "leftover").exists()
    assert json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["train_batch_size"] == 8


def test_the_best_checkpoint_counts_where_there_is_one(tmp_path: Path) -> None:
    output = tmp_path / "output"
    for number in (4, 8, 12):
        (output / f"checkpoint-{number}").mkdir(parents=True)
    entry = {"last_model_checkpoint": "/elsewhere/output/checkpoint-12", "best_model_checkpoint": None}
    log = output / "logging.jsonl"
    log.write_text(json.dumps(entry) + "\n", encoding="utf-8")
    assert best_checkpoint(output) == output / "checkpoint-12"
    log.write_text(json.dumps(entry | {"best_model_checkpoint": "/x/checkpoint-8"}) + "\n", encoding="utf-8")
    assert best_checkpoint(output) == output / "checkpoint-8"
    log.write_text(json.dumps(entry | {"best_model_checkpoint": "/x/checkpoint-99"}) + "\n", encoding="utf-8")
    assert best_checkpoint(output) == output / "checkpoint-12"
    log.unlink()
    assert best_checkpoint(output) is None


def test_the_newest_checkpoint_of_a_run_that_did_not_end_knows_the_best(tmp_path: Path) -> None:
    for number in (4, 8):
        make_checkpoint(tmp_path / f"checkpoint-{number}")
    assert best_checkpoint(tmp_path) == tmp_path / "checkpoint-8"
    assert best_checkpoint(tmp_path, evaluated=True) is None
    make_checkpoint(tmp_path / "checkpoint-12", best_model_checkpoint="/moved/since/checkpoint-4")
    assert best_checkpoint(tmp_path) == best_checkpoint(tmp_path, evaluated=True) == tmp_path / "checkpoint-4"


def test_a_checkpoint_is_saved_with_its_last_file(tmp_path: Path) -> None:
    for number in (4, 8, 12):
        make_checkpoint(tmp_path / f"checkpoint-{number}")
    (tmp_path / "checkpoint-4" / "optimizer.pt").unlink()
    (tmp_path / "checkpoint-8" / "adapter_model.safetensors").unlink()
    (tmp_path / "checkpoint-12" / "trainer_state.json").unlink()
    assert saved_checkpoints(tmp_path) == {4: tmp_path / "checkpoint-4"}


def test_the_result_of_a_stage_is_a_link_that_moves_with_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "sft"
    folder.mkdir()
    with pytest.raises(TunekitError, match="no checkpoint to go on from") as raised:
        link_result(folder)
    assert raised.value.code == Exit.TRAINING_FAILED
    for number in (4, 8):
        checkpoint = make_checkpoint(folder / "output" / f"checkpoint-{number}")
        assert link_result(folder) == checkpoint
    moved = folder.rename(tmp_path / "moved")
    assert (moved / "result").resolve() == moved / "output" / "checkpoint-8"
