"""Which weights a name means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import make_checkpoint, make_model, make_run

from tunekit.errors import TunekitError
from tunekit.plan.models.model import Model
from tunekit.runs.trained.targets import find_target
from tunekit.stages import STAGES


def refused(*words: str, merged: bool = False) -> TunekitError:
    with pytest.raises(TunekitError) as raised:
        find_target(*words, merged=merged)
    return raised.value


def test_the_best_checkpoint_is_taken_where_it_is_known_else_the_last(tmp_path):
    make_run("plain")
    make_run("judged", (5, 10, 15), best=10)
    make_run("deleted", (10, 15), best=5)
    assert find_target("plain").weights.folder == Path("runs/plain/output/checkpoint-15")
    assert find_target("judged").weights.folder.name == "checkpoint-10"
    assert find_target("judged", "best").weights.folder.name == "checkpoint-10"
    assert find_target("judged", "last").weights.folder.name == "checkpoint-15"
    assert find_target("judged", "5").weights.folder.name == "checkpoint-5"
    assert find_target("deleted").weights.folder.name == "checkpoint-15"
    assert "no best checkpoint" in refused("plain", "best").message
    assert refused("judged", "7").hint == "there are 5, 10, 15; or say best, last"


def test_the_best_one_of_a_run_that_did_not_end_is_what_its_newest_checkpoint_says():
    folder = make_run("cut", (5, 10, 15), status="interrupted")
    (folder.output / "logging.jsonl").unlink()
    state = folder.output / "checkpoint-15" / "trainer_state.json"
    state.write_text(json.dumps({"best_model_checkpoint": "/moved/since/checkpoint-5"}), encoding="utf-8")
    assert find_target("cut").weights.folder.name == "checkpoint-5"


def test_a_checkpoint_that_is_being_written_is_none_yet():
    folder = make_run("busy", (5, 10), status="running")
    (folder.output / "checkpoint-10" / "trainer_state.json").unlink()
    assert find_target("busy").weights.folder.name == "checkpoint-5"


def test_a_checkpoint_needs_no_optimizer():
    folder = make_run("small", (5,))
    (folder.output / "checkpoint-5" / "optimizer.pt").unlink()  # --save_only_model
    assert find_target("small").weights.folder.name == "checkpoint-5"


@pytest.mark.parametrize(
    ("status", "says"),
    [("running", "it runs"), ("done", "it saved none"), ("failed", "it failed"), ("interrupted", "it was stopped")],
)
def test_a_run_without_a_checkpoint_says_why(status, says):
    make_run("none", (), status=status)
    error = refused("none")
    assert error.message.startswith("none has no checkpoint: ")
    assert says in error.message
    assert error.hint


def test_a_run_is_found_by_its_name_its_folder_its_output_and_its_checkpoint():
    make_run()
    names = ("kit", "runs/kit", "runs/kit/", "runs/kit/output", "runs/kit/output/checkpoint-15")
    found = {(target.name, target.weights.folder, target.home.resolve()) for target in map(find_target, names)}
    assert found == {
        ("kit · checkpoint-15", Path("runs/kit/output/checkpoint-15"), Path("runs/kit").resolve()),
    }
    assert find_target("runs/kit/output/checkpoint-5").weights.folder.name == "checkpoint-5"
    assert "name it twice" in refused("runs/kit/output/checkpoint-5", "15").message


def test_what_is_no_run_is_told_as_such():
    make_run()
    Path("empty").mkdir()
    for name in ("kti", "empty"):
        assert refused(name).message == f"there is no run {name}"
        assert "kit" in (refused(name).hint or "")


def test_of_a_recipe_one_run_must_be_named():
    for stage in ("sft", "dpo"):
        make_run(stage, where=Path("runs/two"))
    assert refused("two").hint == "name one of them: runs/two/dpo, runs/two/sft"
    assert find_target("runs/two/dpo").weights.folder == Path("runs/two/dpo/output/checkpoint-15")
    assert find_target("two/dpo").word == "runs/two/dpo"


def test_a_folder_outside_of_any_run():
    model = make_model(Path("tiny"))
    (model / "model.safetensors").write_text("weights", encoding="utf-8")
    adapter = make_checkpoint(Path("elsewhere/checkpoint-3"))
    (adapter / "adapter_config.json").write_text("{}", encoding="utf-8")
    (adapter / "args.json").write_text('{"quant_method": "bnb", "rlhf_type": "rm"}', encoding="utf-8")
    plain = find_target("tiny")
    assert not plain.weights.adapter
    assert plain.weights.flags == {"model_type": "llama", "template": "chatml"}
    found = find_target("elsewhere/checkpoint-3")
    assert (found.weights.adapter, found.weights.quantized, found.weights.flags) == (True, True, {})
    assert found.stage is STAGES["rm"]
    assert found.merged == adapter.resolve().with_name("checkpoint-3-merged")
    assert "--checkpoint chooses" in (refused("tiny", "3").hint or "")


def test_what_the_run_was_told_is_told_again(tmp_path):
    there = tmp_path / "there"
    make_model(tmp_path / "there" / "base") if there.mkdir() is None else None
    settings = {"max_pixels": 1000, "use_hf": True, "external_plugins": ["my.py"], "learning_rate": 1e-4}
    make_run(where=there / "runs", cwd=there, model=Model("base", local=True), **settings)
    flags = find_target("there/runs/kit").weights.flags
    assert flags == {
        "use_hf": True,
        "max_pixels": 1000,
        "model": str(there / "base"),
        "external_plugins": [str(there / "my.py")],
    }


def test_the_merged_model_stands_beside_the_checkpoint():
    make_run(quant_method="bnb")
    error = refused("kit", merged=True)
    assert (error.message, error.hint) == ("kit · checkpoint-15 is not merged yet", "tunekit merge kit")
    merged = Path("runs/kit/merged-15")
    merged.mkdir()
    (merged / "model.safetensors").write_text("weights", encoding="utf-8")
    for target in (find_target("kit", merged=True), find_target("runs/kit/merged-15")):
        assert target.weights.folder == merged
        assert not target.weights.adapter
        assert not target.weights.quantized
