"""What is done with a trained model: the commands of ms-swift, what is suggested, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tunekit.engine.after import (
    FOLLOWUPS,
    Weights,
    after_command,
    answer_flags,
    load_flags,
    merge_flags,
    refusal,
    suggested,
)
from tunekit.stages import STAGES

CPU = ("--device_map", "cpu", "--torch_dtype", "float32")
ADAPTER = Weights(Path("runs/x/output/checkpoint-9"), adapter=True)
WHOLE = Weights(Path("runs/x/output/checkpoint-9"), adapter=False)


def words(name, flags, env=()):
    return after_command(FOLLOWUPS[name], flags, dict(env)).argv


def test_the_command_of_each_followup():
    folder = "runs/x/output/checkpoint-9"
    assert words("chat", load_flags(ADAPTER, cpu=False)) == ("swift", "infer", "--adapters", folder)
    assert words("chat", load_flags(WHOLE, cpu=True)) == ("swift", "infer", "--model", folder, *CPU)
    assert words("eval", load_flags(ADAPTER, cpu=False)) == ("swift", "eval", "--adapters", folder)
    merge = ("swift", "merge-lora", "--adapters", folder, "--output_dir", "m", "--device_map", "cpu")
    assert words("merge", merge_flags(ADAPTER, Path("m"))) == merge
    assert words("predict", answer_flags(ADAPTER, ["a.jsonl", "b.jsonl"], Path("r.jsonl"), cpu=False, at_once=8)) == (
        *("swift", "infer", "--adapters", folder, "--val_dataset", "a.jsonl", "b.jsonl", "--result_path", "r.jsonl"),
        *("--write_batch_size", "128"),
    )


def test_flash_attention_is_not_asked_of_a_cpu():
    flash = replace(ADAPTER, flash=True)
    assert "attn_impl" not in load_flags(flash, cpu=False)
    assert load_flags(flash, cpu=True)["attn_impl"] == "eager"
    assert merge_flags(flash, Path("m"))["attn_impl"] == "eager"


def test_what_is_suggested_at_the_end_of_a_run(make):
    assert [line.command for line in suggested(make(preset="7b"))] == ["chat", "merge"]
    assert [line.command for line in suggested(make(preset="7b", tuner_type="full"))] == ["chat"]
    assert [line.command for line in suggested(make("rlhf", preset="7b", rlhf_type="rm"))] == ["merge"]


def test_a_reward_model_scores_and_does_not_talk():
    allowed = {name for name, line in FOLLOWUPS.items() if refusal(line, STAGES["rm"], adapter=True) is None}
    assert allowed == {"merge", "predict"}
    assert {name for name, line in FOLLOWUPS.items() if refusal(line, None, adapter=False) is None} == {
        *("chat", "predict", "eval", "export", "serve")
    }
