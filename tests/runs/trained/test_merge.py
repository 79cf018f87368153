"""An adapter is merged into its model: all of it, or nothing."""

from __future__ import annotations

from pathlib import Path

from running import make_run, read_json, tunekit

from tunekit.errors import Exit


def test_a_merged_model_is_there_and_its_weights_are_not_quantized_again(tmp_path):
    make_run(quant_method="bnb")
    ended = tunekit(tmp_path, "merge", "kit")
    assert ended.code == 0, ended.err
    assert ended.out == "runs/kit/merged-15\n"
    assert "trained on quantized weights" in ended.err
    merged = Path("runs/kit/merged-15")
    assert (merged / "model.safetensors").read_text(encoding="utf-8") == "merged: adapter_model.safetensors"
    trained = read_json(merged / "args.json")
    assert (trained["quant_method"], trained["quant_bits"], trained["model"]) == (None, None, "Qwen/Qwen2.5-7B")
    again = tunekit(tmp_path, "merge", "kit")
    assert again.code == Exit.USAGE
    assert "it holds a model already" in again.err
    other = tunekit(tmp_path, "merge", "kit", "--checkpoint", "5", "--output-dir", "new/place")
    assert other.out == "new/place\n"
    assert Path("new/place/model.safetensors").is_file()


def test_half_a_merged_model_is_never_left(tmp_path):
    make_run()
    ended = tunekit(tmp_path, "merge", "kit", fake={"merge": "half"})
    assert ended.code == Exit.TRAINING_FAILED
    assert ended.err.splitlines()[-2:] == [
        "error: merging kit · checkpoint-15 failed (exit status 1): OSError: [Errno 28] No space left on device",
        "hint:  full log: runs/kit/logs/merge-checkpoint-15.log",
    ]
    assert sorted(path.name for path in Path("runs/kit").iterdir()) == ["logs", "output", "run.json"]


def test_a_folder_that_holds_something_is_not_merged_into(tmp_path):
    make_run()
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine", encoding="utf-8")
    assert "exists and is not empty" in tunekit(tmp_path, "merge", "kit", "--output-dir", "full").err
    Path("empty").mkdir()
    assert tunekit(tmp_path, "merge", "kit", "--output-dir", "empty").code == 0
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["empty", "full", "runs"]
