"""What a configuration takes, by the estimate or the trace, and what would take less."""

from dataclasses import replace

import pytest
from running import a_plan

from tunekit.errors import TunekitError
from tunekit.hardware import choose_hardware
from tunekit.memory.estimate import estimate
from tunekit.memory.search import levers, verdict
from tunekit.memory.spec import Spec, Unknown
from tunekit.plan.models.config import config_of
from tunekit.plan.models.find import resolve
from tunekit.runs import forecast as module
from tunekit.runs.forecast import Forecast

CONFIG = config_of(resolve("Qwen2.5-7B"))
SPEC = Spec(CONFIG, micro_batch=8, seq_len=3072, packing=True, attn="flash", loss_share=0.25, expandable_segments=True)


def forecast(spec=SPEC, gpus="24GB", **more):
    return Forecast(replace(a_plan(), hardware=choose_hardware(gpus)), spec, **more)


def test_what_would_take_less_is_told_the_largest_first():
    made = forecast()
    (first, *others) = found = list(made.alternatives())
    assert first == ("as asked", estimate(SPEC), "does not fit")
    assert {name: prediction for name, prediction, _ in others} == {
        lever.name: estimate(lever.spec) for lever in levers(SPEC)
    }
    assert all(judged == verdict(prediction, made.card_gib) for _, prediction, judged in found)
    needs = [prediction.process_gib for _, prediction, _ in found]
    assert needs == sorted(needs, reverse=True)


def test_two_levers_that_are_one_are_told_once():
    names = [name for name, *_ in forecast(replace(SPEC, micro_batch=2)).alternatives()]
    assert "half the micro-batch" in names
    assert "micro-batch 1" not in names


def test_what_would_take_less_than_a_trace_is_traced_too(monkeypatch):
    asked = []

    def trace(spec, _limit, *, worker=None):
        if spec.bits:
            raise Unknown("no")
        asked.append((spec, worker))
        return replace(estimate(spec), method="trace")

    monkeypatch.setattr(module, "trace", trace)
    found = {name: prediction.method for name, prediction, _ in forecast(by_trace=True).alternatives()}
    assert found["as asked"] == found["Liger (fused cross-entropy)"] == "trace"
    assert found["QLoRA (4-bit weights), estimated"] == "estimate"
    assert len({worker for _, worker in asked[1:]}) == 1, "one worker answers all that would take less"


def test_where_the_trace_cannot_tell_the_estimate_does(monkeypatch):
    def trace(_spec, _limit):
        raise Unknown("no such kernel")

    monkeypatch.setattr(module, "trace", trace)
    found = forecast(by_trace=True).prediction
    note = "the trace cannot tell (no such kernel): this is the estimate"
    assert found == replace(estimate(SPEC), notes=(note, *estimate(SPEC).notes))


def test_without_a_gpu_nothing_fits_or_not():
    with pytest.raises(TunekitError, match="there is no GPU here to fit on"):
        forecast(gpus="cpu").card_gib  # noqa: B018 - it raises
