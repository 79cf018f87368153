"""What is refused before a run begins, by what the machine is."""

import pytest

from tunekit.errors import Exit
from tunekit.plan.said import Said, gather_words
from tunekit.plan.settings import COMMAND_LINE
from tunekit.runs import prepare


def planned(flags, monkeypatch, **said):
    """A run on a machine without a GPU, with what it was planned from."""
    monkeypatch.setattr(prepare, "flag_table", lambda: flags)
    monkeypatch.setattr("tunekit.hardware.detect", list)
    words = gather_words(COMMAND_LINE, [Said(name, tuple(value.split())) for name, value in said.items()])
    around = prepare.look_around()
    request = prepare.request_of("sft", words, around)
    facts = prepare.gather_facts(request, around)
    return prepare.prepare(request, facts), request, facts


@pytest.mark.parametrize("model", ["Qwen2.5-7B", "Qwen/Qwen3-30B-A3B", "org/unlisted-3b"])
def test_a_big_model_is_not_started_on_a_cpu_that_nobody_asked_for(flags, monkeypatch, model):
    refused = prepare.too_large(*planned(flags, monkeypatch, model=model, dataset="data.jsonl"))
    assert refused.message.startswith("this machine shows no GPU")
    assert refused.code == Exit.DOES_NOT_FIT
    assert "--gpus cpu" in refused.hint


@pytest.mark.parametrize(
    ("model", "more"),
    [("Qwen2.5-0.5B", {}), ("Qwen2.5-7B", {"gpus": "cpu"}), ("Qwen2.5-7B", {"gpus": "80GB"}), ("org/unlisted", {})],
)
def test_what_is_small_or_asked_for_is_started(flags, monkeypatch, model, more):
    assert prepare.too_large(*planned(flags, monkeypatch, model=model, dataset="data.jsonl", **more)) is None


def test_an_evaluation_that_does_not_fit_is_named_with_its_flag(flags, monkeypatch):
    said = {"model": "Qwen2.5-7B", "dataset": "data.jsonl", "gpus": "24GB", "split_dataset_ratio": "0.1"}
    run, *asked = planned(flags, monkeypatch, per_device_eval_batch_size="64", **said)
    refused = prepare.too_large(run, *asked)
    assert refused.code == Exit.DOES_NOT_FIT
    assert "peak is at evaluation, whole logits: --per_device_eval_batch_size 1, or --eval_strategy no" in refused.hint
    plain = planned(flags, monkeypatch, **said)[0]
    assert run.plan.batch == plain.plan.batch, "no smaller micro-batch would help"
    assert "not even one row fits" not in run.plan.settings["per_device_train_batch_size"].why
