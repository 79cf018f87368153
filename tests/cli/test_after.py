"""What ``tunekit chat``, ``merge``, ``predict`` and ``eval`` take, and what a dry run of them prints."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import call, make_rows, make_run

from tunekit.engine.after import FOLLOWUPS
from tunekit.errors import Exit


@pytest.mark.parametrize(
    ("typed", "says", "hints"),
    [
        (("chat", "kit", "--max_new_token", "3"), "--max_new_token is not a flag", "--max_new_tokens"),
        (("chat", "kit", "--max_new_tokens", "few"), "takes a whole number", ""),
        (("chat", "kit", "--lora_rank", "4"), "--lora_rank is for training", ""),
        (("chat", "kit", "--adapters", "x"), "takes no --adapters", "RUN and --checkpoint"),
        (("merge", "kit", "--push_to_hub", "true"), "takes no --push_to_hub", "swift export"),
        (("merge", "kit", "--to_ollama", "true"), "--to_ollama does nothing here", "--model FOLDER --to_ollama true"),
        (("merge", "kit", "--quant_method", "bnb"), "--quant_method does nothing", "--model FOLDER --quant_method bnb"),
        (("merge", "kit", "--quant_bits", "4"), "--quant_bits does nothing", "swift export"),
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
    make_run("reward", stage="rm")
    make_rows(Path("data.jsonl"))
    Path("s.py").write_text("", encoding="utf-8")
    monkeypatch.setattr("tunekit.runs.trained.evaluation.find_package", lambda name: None)
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
