"""What is done with a trained model: which weights a name means, and the four commands, with the fake ms-swift."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from running import (
    SECRET_KEY,
    Started,
    a_plan,
    call,
    environment,
    fake_engine,
    make_checkpoint,
    make_model,
    make_rows,
    read_json,
    tunekit,
    until,
)

from tunekit.data.functions.find import Function
from tunekit.engine.after import FOLLOWUPS, Weights, answers, command, loads, merges, refusal, suggested
from tunekit.errors import Exit, TunekitError
from tunekit.hardware import Gpu, Hardware
from tunekit.plan.models.find import Model
from tunekit.runs.folder import RunFolder, RunState
from tunekit.runs.trained import use as after
from tunekit.runs.trained.answers import ROW
from tunekit.runs.trained.scores import pairs_of, place, scores_in
from tunekit.runs.trained.targets import find_target

ASKED = {"messages": [{"role": "user", "content": "Hi"}], "id": 7}
KNOWN = {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}], "level": {"a": [1]}}

CPU = ("--device_map", "cpu", "--torch_dtype", "float32")


def make_run(
    name="kit",
    steps=(5, 15),
    *,
    status="done",
    best=None,
    adapter=True,
    where=Path("runs"),
    cwd=None,
    on_cpu=True,
    **plan,
) -> RunFolder:
    """A run as it is left on the disk."""
    folder = RunFolder(where / name)
    folder.output.mkdir(parents=True)
    decided = a_plan(**plan)
    if on_cpu:
        decided = replace(decided, hardware=Hardware())
    folder.save(RunState(name, status, decided, "neutral", 5, cwd=str(cwd or Path.cwd())))
    for number in steps:
        path = make_checkpoint(folder.output / f"checkpoint-{number}")
        trained = {"model": decided.model.id, "quant_method": plan.get("quant_method"), "quant_bits": 4}
        (path / "args.json").write_text(json.dumps(trained), encoding="utf-8")
        if adapter:
            (path / "adapter_config.json").write_text("{}", encoding="utf-8")
        else:
            (path / "adapter_model.safetensors").rename(path / "model.safetensors")
    told = {"last_model_checkpoint": None, "best_model_checkpoint": best and str(folder.output / f"checkpoint-{best}")}
    (folder.output / "logging.jsonl").write_text(json.dumps(told) + "\n", encoding="utf-8")
    return folder


def refused(*words: str) -> TunekitError:
    with pytest.raises(TunekitError) as raised:
        find_target(*words)
    return raised.value


# --- the weights that a name means


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
    assert found.loss == "rm"
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
    error = refused_merged = None
    with pytest.raises(TunekitError) as raised:
        find_target("kit", merged=True)
    error = raised.value
    assert refused_merged is None
    assert (error.message, error.hint) == ("kit · checkpoint-15 is not merged yet", "tunekit merge kit")
    merged = Path("runs/kit/merged-15")
    merged.mkdir()
    (merged / "model.safetensors").write_text("weights", encoding="utf-8")
    for target in (find_target("kit", merged=True), find_target("runs/kit/merged-15")):
        assert target.weights.folder == merged
        assert not target.weights.adapter
        assert not target.weights.quantized


# --- the commands of ms-swift

ADAPTER = Weights(Path("runs/x/output/checkpoint-9"), adapter=True)
WHOLE = Weights(Path("runs/x/output/checkpoint-9"), adapter=False)


def words(name, flags, env=()):
    return command(FOLLOWUPS[name], flags, dict(env)).argv


def test_the_command_of_each_followup():
    folder = "runs/x/output/checkpoint-9"
    assert words("chat", loads(ADAPTER, cpu=False)) == ("swift", "infer", "--adapters", folder)
    assert words("chat", loads(WHOLE, cpu=True)) == ("swift", "infer", "--model", folder, *CPU)
    assert words("eval", loads(ADAPTER, cpu=False)) == ("swift", "eval", "--adapters", folder)
    merge = ("swift", "merge-lora", "--adapters", folder, "--output_dir", "m", "--device_map", "cpu")
    assert words("merge", merges(ADAPTER, Path("m"))) == merge
    assert words("predict", answers(ADAPTER, ["a.jsonl", "b.jsonl"], Path("r.jsonl"), cpu=False, at_once=8)) == (
        *("swift", "infer", "--adapters", folder, "--val_dataset", "a.jsonl", "b.jsonl", "--result_path", "r.jsonl"),
        *("--write_batch_size", "128"),
    )


def test_flash_attention_is_not_asked_of_a_cpu():
    flash = replace(ADAPTER, flash=True)
    assert "attn_impl" not in loads(flash, cpu=False)
    assert loads(flash, cpu=True)["attn_impl"] == "eager"
    assert merges(flash, Path("m"))["attn_impl"] == "eager"


def test_what_is_suggested_at_the_end_of_a_run(make):
    assert [line.command for line in suggested(make(preset="7b"))] == ["chat", "merge"]
    assert [line.command for line in suggested(make(preset="7b", tuner_type="full"))] == ["chat"]
    assert [line.command for line in suggested(make("rlhf", preset="7b", rlhf_type="rm"))] == ["merge"]


def test_a_reward_model_scores_and_does_not_talk():
    allowed = {name for name, line in FOLLOWUPS.items() if refusal(line, "rm", adapter=True) is None}
    assert allowed == {"merge", "predict"}
    assert {name for name, line in FOLLOWUPS.items() if refusal(line, "", adapter=False) is None} == {
        *("chat", "predict", "eval")
    }


HERE = [Gpu("A", 39.4, 39.0, (8, 0), "2"), Gpu("A", 39.4, 39.0, (8, 0), "3")]


def test_a_merged_model_takes_more_than_the_quantized_one_below_its_adapter(monkeypatch):
    monkeypatch.setattr("tunekit.hardware.detect", lambda: HERE)
    make_run(on_cpu=False, model=Model("m", 32.0), quant_method="bnb", quant_bits="4")
    target = find_target("kit")
    assert after.devices(target) == ("2",)
    assert after.devices(replace(target, weights=replace(target.weights, adapter=False, quantized=False))) == ("2", "3")


@pytest.mark.parametrize(
    ("here", "gpus", "params_b", "taken"),
    [
        (HERE, ("3",), 7.0, ("3",)),
        (HERE, ("0", "1"), 7.0, ("2",)),  # the GPUs of another machine
        (HERE, ("2", "3"), 32.0, ("2", "3")),  # 60 GiB of weights are spread over both
        (HERE, (), 7.0, ()),  # trained on a CPU
        ([], ("0",), 7.0, ()),  # no GPU here
    ],
)
def test_a_model_is_loaded_on_one_gpu_or_on_all_where_one_cannot_hold_it(here, gpus, params_b, taken, monkeypatch):
    monkeypatch.setattr("tunekit.hardware.detect", lambda: here)
    make_run(on_cpu=False, model=Model("m", params_b))
    target = find_target("kit")
    hardware = Hardware(tuple(Gpu("A", 39.4, 39.0, (8, 0), name) for name in gpus))
    target = replace(target, plan=replace(target.plan, hardware=hardware))
    assert after.devices(target) == taken
    assert after.environment(taken) == ({"CUDA_VISIBLE_DEVICES": ",".join(taken)} if taken else {})


# --- what the command line takes


@pytest.mark.parametrize(
    ("typed", "says", "hints"),
    [
        (("chat", "kit", "--max_new_token", "3"), "--max_new_token is not a flag", "--max_new_tokens"),
        (("chat", "kit", "--max_new_tokens", "few"), "takes a whole number", ""),
        (("chat", "kit", "--lora_rank", "4"), "--lora_rank is for training", ""),
        (("chat", "kit", "--adapters", "x"), "takes no --adapters", "RUN and --checkpoint"),
        (("merge", "kit", "--push_to_hub", "true"), "takes no --push_to_hub", "swift export"),
        (("chat", "--prompt", "hi", "kit"), "RUN is missing", "it stands first: tunekit chat RUN"),
        (("chat", "kit", "--image", "x.png"), "--image needs --prompt", "<image>"),
        (("chat", "kit", "--image", "x.png", "--prompt", "what"), "x.png does not exist", ""),
        (("predict", "kit"), "there is no --dataset", ""),
        (("predict", "kit", "--dataset", "no.jsonl"), "no.jsonl does not exist", ""),
        (("eval", "kit"), "nothing to evaluate on", "--pair"),
        (("eval", "kit", "--pair", "data.jsonl"), "is no pair", "DATA.jsonl:SCRIPT.py"),
        (("eval", "kit", "--pair", "data.jsonl:no.py"), "there is no script no.py", ""),
        (("eval", "kit", "--pair", "data.jsonl:s.py", "--eval_limit", "3"), "--eval_limit is for benchmarks", ""),
        (("eval", "kit", "--eval_dataset", "gsm8k"), "evalscope and opencompass, which are not", "ms-swift[eval]"),
        (("merge", "whole"), "nothing to merge", ""),
        (("chat", "reward"), "a reward model scores answers", "tunekit predict"),
        (("eval", "reward", "--eval_dataset", "gsm8k"), "a reward model scores answers", ""),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(typed, says, hints, monkeypatch):
    make_run()
    make_run("whole", adapter=False, tuner_type="full")
    make_run("reward", command="rlhf", rlhf_type="rm")
    make_rows(Path("data.jsonl"))
    Path("s.py").write_text("", encoding="utf-8")
    monkeypatch.setattr("tunekit.engine.locate.find_package", lambda name: None)
    ended = call(*typed)
    error, *hint = ended.err.splitlines()
    assert ended.code in (Exit.USAGE, Exit.DATA)
    assert error.startswith("error: ")
    assert says in error
    assert hints in "".join(hint)
    assert ended.out == ""


@pytest.mark.parametrize(
    ("typed", "printed"),
    [
        (("chat", "kit"), "swift infer"),
        (("chat", "kit", "--prompt", "hi"), "--val_dataset prompt.jsonl"),
        (("chat", "kit", "--temperature", "0"), "--temperature 0"),
        (("merge", "kit"), "--output_dir runs/kit/merged-15"),
        (("merge", "kit", "--output-dir", "out"), "--output_dir out"),
        (("merge", "kit", "--device_map", "auto"), "--device_map auto"),
        (("predict", "kit", "--dataset", "data.jsonl", "--max_batch_size", "4"), "--write_batch_size 64"),
        (("eval", "kit", "--pair", "data.jsonl:s.py"), "python s.py predictions.jsonl"),
        (("eval", "kit", "--eval_dataset", "gsm8k", "--eval_limit", "3"), "--eval_limit 3"),
    ],
)
def test_a_dry_run_prints_the_command_and_starts_nothing(typed, printed):
    make_run()
    make_rows(Path("data.jsonl"))
    Path("s.py").write_text("", encoding="utf-8")
    ended = call(*typed, "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("swift ")
    assert printed in " ".join(ended.out.split()).replace("\\ ", "")
    assert sorted(path.name for path in Path("runs/kit").iterdir()) == ["output", "run.json"]


def test_help_is_shown_without_a_run():
    for name in FOLLOWUPS:
        ended = call(name, "--help")
        assert ended.code == 0
        assert f"tunekit {name} [OPTIONS] {{RUN}}" in ended.out


# --- merge


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


# --- predict


def test_each_row_comes_back_as_it_was_with_the_answer(tmp_path):
    make_run()
    make_rows(Path("data.jsonl"), ASKED, KNOWN)
    ended = tunekit(tmp_path, "predict", "kit", "--dataset", "data.jsonl")
    assert ended.code == 0, ended.err
    first, second = map(json.loads, ended.out.splitlines())
    answer = "checkpoint-15 heard: Hi"
    assert first == {
        "messages": [*ASKED["messages"], {"role": "assistant", "content": answer}],
        "id": 7,
        "response": answer,
    }
    assert second["labels"] == "4"
    assert second["level"] == {"a": [1]}
    assert ROW not in ended.out
    assert ended.err.splitlines() == ["answering data.jsonl with kit · checkpoint-15"]


def test_answers_are_written_to_a_file_that_is_not_replaced_by_chance(tmp_path):
    make_run()
    make_rows(Path("data.jsonl"), ASKED)
    typed = ("predict", "kit", "--dataset", "data.jsonl", "--output", "out/answers.jsonl")
    assert tunekit(tmp_path, *typed).code == 0
    before = Path("out/answers.jsonl").read_text(encoding="utf-8")
    refusal_ = tunekit(tmp_path, *typed)
    assert (refusal_.code, refusal_.out) == (Exit.USAGE, "")
    assert "exists already" in refusal_.err
    failed = tunekit(tmp_path, *typed, "--overwrite", fake={"fail": "no"})
    assert failed.code == Exit.TRAINING_FAILED
    assert Path("out/answers.jsonl").read_text(encoding="utf-8") == before
    assert tunekit(tmp_path, *typed, "--overwrite", "--checkpoint", "5").code == 0
    assert "checkpoint-5 heard" in Path("out/answers.jsonl").read_text(encoding="utf-8")
    assert [path.name for path in Path("out").iterdir()] == ["answers.jsonl"]


def test_rows_that_got_no_answer_are_counted_and_do_not_shift_the_others(tmp_path):
    make_run()
    rows = [{"messages": [{"role": "user", "content": str(number)}], "id": number} for number in range(4)]
    make_rows(Path("data.jsonl"), *rows)
    ended = tunekit(tmp_path, "predict", "kit", "--dataset", "data.jsonl", fake={"drop": [0, 2]})
    answered = [json.loads(line) for line in ended.out.splitlines()]
    assert [(row["id"], row["response"]) for row in answered] == [
        (1, "checkpoint-15 heard: 1"),
        (3, "checkpoint-15 heard: 3"),
    ]
    assert "2 of 4 rows got no answer" in ended.err
    none = tunekit(tmp_path, "predict", "kit", "--dataset", "data.jsonl", fake={"drop": [0, 1, 2, 3]})
    assert none.code == Exit.DATA
    assert "no row of data.jsonl could be answered" in none.err


def test_ms_swift_is_given_the_columns_that_it_reads_and_no_others(tmp_path):
    make_run(columns='{"Frage": "query"}')
    make_rows(
        Path("data.jsonl"), {"Frage": "Hi", "messages": ASKED["messages"], "id": 1, "mixed": [1, "a", {"b": None}]}
    )
    ended = tunekit(tmp_path, "predict", "kit", "--dataset", "data.jsonl", fake={"tell": True})
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["mixed"] == [1, "a", {"b": None}]
    log = Path("runs/kit/logs/predict-checkpoint-15.log").read_text(encoding="utf-8")
    assert f"columns: Frage messages {ROW}" in log
    assert "--columns" in log


def test_a_reward_model_scores_whole_conversations(tmp_path):
    make_run("reward", command="rlhf", rlhf_type="rm")
    make_rows(Path("data.jsonl"), KNOWN)
    ended = tunekit(tmp_path, "predict", "reward", "--dataset", "data.jsonl", fake={"score": 0.5})
    assert json.loads(ended.out) == {**KNOWN, "response": 0.5}


def test_several_datasets_are_answered_in_their_order(tmp_path):
    make_run()
    make_rows(Path("a.jsonl"), {**ASKED, "id": "a"})
    Path("b.json").write_text(json.dumps([{**KNOWN, "id": "b"}, {**ASKED, "id": "c"}]), encoding="utf-8")
    ended = tunekit(tmp_path, "predict", "kit", "--dataset", "a.jsonl", "b.json")
    assert [json.loads(line)["id"] for line in ended.out.splitlines()] == ["a", "b", "c"]


def test_rows_of_another_shape_are_refused_or_made_by_the_format_of_the_run(tmp_path):
    make_rows(Path("raw.jsonl"), {"frage": "Hi"})
    make_run("plain")
    refusal_ = tunekit(tmp_path, "predict", "plain", "--dataset", "raw.jsonl")
    assert refusal_.code == Exit.DATA
    assert "raw.jsonl line 1: there is neither a conversation nor a question" in refusal_.err
    Path("rows.py").write_text(
        "def make(row):\n    return {'messages': [{'role': 'user', 'content': row['frage']}]}\n", encoding="utf-8"
    )
    folder = make_run("kit")
    state = folder.load()
    state.plan = replace(state.plan, row_format=Function("rows.py", "make"))
    folder.save(state)
    ended = tunekit(tmp_path, "predict", "kit", "--dataset", "raw.jsonl")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["response"] == "checkpoint-15 heard: Hi"
    assert "rows made by rows.py:make, as in the run" in ended.err


def test_secrets_are_struck_out_of_the_log(tmp_path):
    make_run()
    make_rows(Path("data.jsonl"), ASKED)
    fake = {"show": ["SWANLAB_API_KEY"]}
    env = {"SWANLAB_API_KEY": SECRET_KEY}
    ended = tunekit(tmp_path, "predict", "kit", "--dataset", "data.jsonl", fake=fake, env=env)
    log = Path("runs/kit/logs/predict-checkpoint-15.log").read_text(encoding="utf-8")
    assert "the value of SWANLAB_API_KEY is ***" in log
    assert SECRET_KEY not in ended.out + ended.err


def test_a_signal_ends_it_and_leaves_no_process(tmp_path):
    make_run()
    make_rows(Path("data.jsonl"), ASKED)
    with Started(tmp_path, "predict", "kit", "--dataset", "data.jsonl", fake={"wait": True}) as started:
        until(lambda: len(started.alive()) > 2, "ms-swift has started")
        started.signal(signal.SIGTERM)
        ended = started.end()
        assert (ended.code, ended.out) == (Exit.INTERRUPTED, "")
        assert "Traceback" not in ended.err
        assert started.alive() == []


# --- chat


def test_a_prompt_gets_one_answer_on_stdout_and_nothing_else(tmp_path):
    make_run()
    ended = tunekit(tmp_path, "chat", "kit", "--prompt", "Who are you?", fake={"say": ["noise"]})
    assert (ended.code, ended.out) == (0, "checkpoint-15 heard: Who are you?\n")
    assert "noise" not in ended.err


def test_pictures_stand_before_the_question(tmp_path):
    make_run()
    Path("red.png").write_bytes(b"")
    ended = tunekit(tmp_path, "chat", "kit", "--prompt", "Which colour?", "--image", "red.png")
    assert ended.out == "checkpoint-15 heard: <image>Which colour?\n"
    own = tunekit(tmp_path, "chat", "kit", "--prompt", "In <image>, which?", "--image", "red.png")
    assert own.out == "checkpoint-15 heard: In <image>, which?\n"


class Terminal:
    """A tunekit in a terminal of its own, of which all is read that it writes."""

    def __init__(self, folder: Path, *argv: str, fake: dict | None = None) -> None:
        self.pid, self._screen = pty.fork()
        if self.pid == 0:  # pragma: no cover - the child becomes tunekit
            os.chdir(folder)
            env = environment(fake, TERM="xterm", NO_COLOR="1")
            os.execve(sys.executable, [sys.executable, "-m", "tunekit", *argv], env)  # noqa: S606
        self.text = ""
        os.set_blocking(self._screen, False)

    def read(self) -> str:
        """All that was written so far."""
        try:
            self.text += os.read(self._screen, 65536).decode()
        except (BlockingIOError, OSError):
            time.sleep(0.01)
        return self.text

    def shows(self, words: str) -> None:
        """Wait for words."""
        until(lambda: words in self.read(), f"the terminal shows {words}")

    def types(self, keys: str) -> None:
        """Press keys."""
        os.write(self._screen, keys.encode())

    def ends(self) -> int:
        """Wait for the end; the exit code."""

        def code() -> int | None:
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return os.waitstatus_to_exitcode(status) + 1000 if pid else None

        found = until(code, "tunekit ends") - 1000
        self.read()
        return found


@pytest.mark.parametrize(
    ("keys", "code"),
    [("exit\r", Exit.DONE), ("\x04", Exit.DONE), ("\x03", Exit.INTERRUPTED)],
    ids=["exit", "eof", "int"],
)
def test_a_chat_has_the_terminal_and_gives_it_back(keys, code, tmp_path):
    make_run()
    terminal = Terminal(tmp_path, "chat", "kit", fake={"say": ["noise of ms-swift"]})
    terminal.shows("<<< ")
    terminal.types("Hello\r")
    terminal.shows("checkpoint-15 heard: Hello")
    terminal.types(keys)
    assert terminal.ends() == code
    assert "Traceback" not in terminal.text
    assert "noise" not in terminal.text
    assert "loading kit · checkpoint-15" in terminal.text
    log = Path("runs/kit/logs/chat-checkpoint-15.log").read_text(encoding="utf-8")
    assert log == "noise of ms-swift\n"


def test_ctrl_c_ends_a_chat_in_the_middle_of_an_answer(tmp_path):
    make_run()
    terminal = Terminal(tmp_path, "chat", "kit")
    terminal.shows("<<< ")
    terminal.types("wait\r")
    time.sleep(0.2)
    terminal.types("\x03")
    assert terminal.ends() == Exit.INTERRUPTED
    assert "Traceback" not in terminal.text


def test_a_chat_that_fails_says_why(tmp_path):
    make_run()
    terminal = Terminal(tmp_path, "chat", "kit", fake={"fail": "no such template"})
    assert terminal.ends() == Exit.TRAINING_FAILED
    assert "error: the chat failed (exit status 1): ValueError: no such template" in terminal.text
    assert "Traceback" not in terminal.text


def test_a_chat_reads_questions_from_a_pipe(tmp_path):
    make_run()
    words_ = [sys.executable, "-m", "tunekit", "chat", "kit"]
    asked = {"input": "One\nTwo\n", "capture_output": True, "text": True}
    ended = subprocess.run(words_, cwd=tmp_path, env=environment(), check=False, **asked)
    assert ended.returncode == 0, ended.stderr
    assert "heard: One" in ended.stdout
    assert "heard: Two" in ended.stdout


# --- eval

ACCURACY = """
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
print("looking at", len(rows), "rows")
right = sum(row["response"].endswith(row.get("labels", "?")) for row in rows)
print(json.dumps({"accuracy": right / len(rows), "rows": len(rows)}))
"""
SCRIPTS = {"acc.py": ACCURACY, "broken.py": "raise KeyError('labels')", "talks.py": "print('fine,', 'I think')"}


@pytest.fixture
def judged(tmp_path) -> Path:
    make_run()
    rows = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text}]} for text in ("a", "b")
    ]
    make_rows(Path("same.jsonl"), *rows)
    make_rows(Path("sums.jsonl"), KNOWN)
    for name, text in SCRIPTS.items():
        Path(name).write_text(text, encoding="utf-8")
    return tmp_path


def test_every_pair_is_judged_and_one_that_fails_stops_no_other(judged):
    pairs = ("--pair", "same.jsonl:acc.py,broken.py", "sums.jsonl:acc.py", "same.jsonl:talks.py")
    ended = tunekit(judged, "eval", "kit", *pairs)
    assert ended.code == Exit.TRAINING_FAILED
    table = [line.split() for line in ended.out.splitlines()]
    assert table == [
        ["DATA", "BY", "SCORE", "VALUE"],
        ["same.jsonl", "acc.py", "accuracy", "1"],
        ["same.jsonl", "acc.py", "rows", "2"],
        ["same.jsonl", "broken.py", "failed", "(exit", "status", "1)"],
        ["same.jsonl", "talks.py", "said", "fine,", "I", "think"],
        ["sums.jsonl", "acc.py", "accuracy", "0"],
        ["sums.jsonl", "acc.py", "rows", "1"],
    ]
    assert "KeyError: 'labels'" in ended.err
    kept = read_json(Path("runs/kit/eval/scores.json"))["scores"]
    assert len(kept) == 4
    assert kept[0]["scores"] == {"accuracy": 1.0, "rows": 2}
    assert kept[0]["checkpoint"] == "checkpoint-15"
    assert Path(kept[0]["predictions"]).is_file()


def test_answers_are_made_once_for_the_same_weights_and_rows(judged):
    typed = ("eval", "kit", "--pair", "same.jsonl:acc.py")
    answered = "answering same.jsonl"
    assert answered in tunekit(judged, *typed).err
    again = tunekit(judged, *typed)
    assert answered not in again.err
    assert "was answered before" in again.err
    assert answered in tunekit(judged, *typed, "--anew").err
    assert answered in tunekit(judged, *typed, "--max_new_tokens", "9").err
    assert answered in tunekit(judged, *typed, "--checkpoint", "5").err
    make_rows(Path("same.jsonl"), KNOWN)
    assert answered in tunekit(judged, *typed).err
    (Path("runs/kit/output/checkpoint-15") / "adapter_model.safetensors").write_text("other", encoding="utf-8")
    assert answered in tunekit(judged, *typed).err
    kept = read_json(Path("runs/kit/eval/scores.json"))["scores"]
    assert [(score["checkpoint"], score["rows"]) for score in kept] == [("checkpoint-5", 2), ("checkpoint-15", 1)]


def test_scores_for_programs(judged):
    ended = tunekit(judged, "eval", "kit", "--pair", "same.jsonl:acc.py", "--json")
    assert ended.code == 0
    (score,) = json.loads(ended.out)["scores"]
    assert (score["data"], score["script"], score["scores"]["accuracy"]) == ("same.jsonl", "acc.py", 1.0)


def test_a_script_that_is_stopped_leaves_no_process(judged):
    Path("slow.py").write_text("import time; print('x', flush=True); time.sleep(600)", encoding="utf-8")
    with Started(judged, "eval", "kit", "--pair", "same.jsonl:slow.py") as started:
        until(lambda: list(Path("runs/kit/eval").glob("same-*.jsonl")), "the answers are there")
        until(lambda: len(started.alive()) == 2, "the script runs")
        started.signal(signal.SIGINT)
        assert started.end().code == Exit.INTERRUPTED
        assert started.alive() == []


def test_benchmarks_are_ms_swifts(judged, tmp_path):
    packages = tmp_path / "packages"
    for name in ("evalscope", "opencompass"):
        (packages / name).mkdir(parents=True)
        (packages / name / "__init__.py").write_text("", encoding="utf-8")
    env = {"PYTHONPATH": f"{packages}{os.pathsep}{environment()['PYTHONPATH']}"}
    typed = ("eval", "kit", "--eval_dataset", "gsm8k", "arc", "--eval_limit", "5", "--pair", "same.jsonl:acc.py")
    ended = tunekit(judged, *typed, env=env)
    assert ended.code == 0, ended.err
    assert [line.split() for line in ended.out.splitlines()[3:]] == [
        ["gsm8k", "ms-swift", "mean_acc", "0.25"],
        ["arc", "ms-swift", "mean_acc", "0.25"],
    ]
    assert len(read_json(Path("runs/kit/eval/scores.json"))["scores"]) == 3
    swift = packages / "swift"
    shutil.copytree(fake_engine() / "swift", swift)
    (swift / "pipelines/eval").mkdir(parents=True)
    (swift / "pipelines/eval/eval.py").write_text("eval_type=EvalType.SERVICE", encoding="utf-8")
    (packages / "evalscope/constants.py").write_text("class EvalType:\n    OTHER = 1\n", encoding="utf-8")
    new = tunekit(judged, *typed[:4], env=env)
    assert new.code == Exit.USAGE
    assert "this evalscope is too new for ms-swift" in new.err
    assert '"evalscope<1.11"' in new.err
    shutil.rmtree(swift)
    silent = tunekit(judged, *typed[:4], env=env, fake={"silent": True})
    assert silent.code == Exit.TRAINING_FAILED
    assert "ms-swift wrote no scores" in silent.err


@pytest.mark.parametrize(
    ("printed", "scores"),
    [
        ('{"a": 1}', {"a": 1}),
        ('{\n "a": 1\n}', {"a": 1}),
        ('words\n{"a": 0.5}', {"a": 0.5}),
        ("0.75", {"score": 0.75}),
        ("true", {}),
        ("[1]", {}),
        ("fine", {}),
        ("", {}),
    ],
)
def test_scores_are_read_from_what_a_script_prints(printed, scores):
    assert scores_in(printed) == scores


def test_pairs_of_the_same_data_become_one(tmp_path):
    for name in ("a.py", "b.py", "d.jsonl"):
        Path(name).write_text("{}", encoding="utf-8")
    found = pairs_of(["d.jsonl:a.py", "d.jsonl:b.py,a.py", "d.jsonl#5:a.py"])
    assert [(pair.data, [script.name for script in pair.scripts]) for pair in found] == [
        ("d.jsonl", ["a.py", "b.py"]),
        ("d.jsonl#5", ["a.py"]),
    ]


def test_weights_too_large_to_be_read_are_told_by_size_and_time(monkeypatch, tmp_path):
    make_run()
    make_rows(Path("data.jsonl"))
    monkeypatch.setattr("tunekit.runs.trained.scores.BY_CONTENT", 10)
    target = find_target("kit")
    first = place(target, "data.jsonl", {}, "4.6.0")
    assert place(target, "data.jsonl", {}, "4.6.0") == first
    assert place(target, "data.jsonl", {}, "4.7.0") != first
    weights = target.weights.folder / "adapter_model.safetensors"
    there = weights.stat()
    os.utime(weights, ns=(there.st_atime_ns, there.st_mtime_ns + 1))
    assert place(target, "data.jsonl", {}, "4.6.0") != first
