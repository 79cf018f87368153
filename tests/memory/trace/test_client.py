"""The trace, on models small enough to count by hand."""

import json
import sys
from dataclasses import replace

import pytest

from tunekit.memory.estimate import estimate
from tunekit.memory.spec import GIB, Spec, Unknown
from tunekit.memory.trace import client as module
from tunekit.memory.trace.allocator import rounded
from tunekit.memory.trace.client import (
    check_traceable,
    estimate_or_trace,
    prediction_of,
    trace,
    trace_fingerprint,
    trace_worker,
    with_evaluation,
)
from tunekit.worker import Worker, WorkerFailed

HIDDEN, LAYERS, INNER, VOCABULARY = 64, 2, 128, 512
TINY = {
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": INNER,
    "vocab_size": VOCABULARY,
    "tie_word_embeddings": False,
}
SPEC = Spec(config=TINY, seq_len=256, method="trace")

PROJECTIONS = [
    (HIDDEN, HIDDEN),
    (HIDDEN // 2, HIDDEN),
    (HIDDEN // 2, HIDDEN),
    (HIDDEN, HIDDEN),
    (INNER, HIDDEN),
    (INNER, HIDDEN),
    (HIDDEN, INNER),
]
"""q, k, v, o, gate, up, down: rows and columns."""
LINEAR = [rows * columns for rows, columns in PROJECTIONS] * LAYERS
OTHERS = [VOCABULARY * HIDDEN] * 2 + [HIDDEN] * (2 * LAYERS + 1)
BUFFERS = 2 * rounded(4 * HIDDEN // 4 // 2)
"""inv_freq and its copy."""


def held(numbers, width):
    return sum(rounded(number * width) for number in numbers)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNEKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def _in_this_process(monkeypatch):
    """The worker without its process: the libraries are loaded once for all tests."""
    worker = pytest.importorskip("tunekit.memory.trace.worker", exc_type=ImportError)
    pytest.importorskip("peft")
    monkeypatch.setattr(Worker, "ask", lambda _, question, __: worker.answer_trace(question))


def sizes(told):
    return {kind: round(size * GIB) for kind, size in told.breakdown.items()}


@pytest.mark.engine
@pytest.mark.usefixtures("_in_this_process")
class TestWorker:
    def test_full_is_what_the_hand_counts(self):
        told = trace(replace(SPEC, tuner="full"), 300)
        parts = sizes(told)
        parameters = LINEAR + OTHERS
        assert parts["weights"] == held(parameters, 2) + BUFFERS
        assert parts["optimizer"] >= 2 * held(parameters, 2)  # two moments; a step count of each parameter besides
        assert parts["optimizer"] <= 2 * held(parameters, 2) + 512 * (len(parameters) + 8)
        # the peak: float32 log-probabilities, the gradient of the loss and the gradient of the logits
        assert parts["logits"] >= 3 * 4 * 256 * VOCABULARY
        assert parts["checkpoints"] == 2 * 256 * HIDDEN * LAYERS
        assert sum(parts.values()) == pytest.approx(told.allocated_gib * GIB, abs=len(parts))
        assert told.allocated_gib <= told.reserved_gib < told.process_gib
        assert told.method == "trace"
        assert "backward" in told.peak_at

    def test_lora_keeps_an_adapter_of_float32(self):
        told = trace(replace(SPEC, tuner="lora", lora_rank=4), 300)
        adapter = [4 * size for pair in PROJECTIONS * LAYERS for size in pair]
        parts = sizes(told)
        assert parts["adapter"] == held(adapter, 4)
        assert parts["weights"] == held(LINEAR + OTHERS, 2) + BUFFERS

    def test_qlora_packs_what_is_linear(self):
        pytest.importorskip("bitsandbytes")
        parts = sizes(trace(replace(SPEC, tuner="qlora", double_quant=False), 300))
        blocks = [number // 64 for number in LINEAR]
        packed = sum(rounded(number // 2) for number in LINEAR)
        codes = len(LINEAR) * rounded(16 * 4)
        assert parts["weights"] == held(OTHERS, 2) + BUFFERS + packed + held(blocks, 4) + codes

    def test_a_tied_head_is_held_once(self):
        parts = sizes(trace(replace(SPEC, config={**TINY, "tie_word_embeddings": True}), 300))
        assert parts["weights"] == held(LINEAR + OTHERS[1:], 2) + BUFFERS

    def test_less_loss_and_liger_need_fewer_logits(self):
        everything = trace(SPEC, 300).allocated_gib
        assert trace(replace(SPEC, loss_share=0.25), 300).allocated_gib < everything
        assert "logits" not in trace(replace(SPEC, liger=True), 300).breakdown

    @pytest.mark.parametrize(
        "change",
        [
            {"attn": "eager", "micro_batch": 2},
            {"attn": "flash", "packing": True, "micro_batch": 3, "loss_share": 0.5},
            {"micro_batch": 2, "gradient_checkpointing": False, "precision": "fp16"},
            {"stage": "dpo", "gpus": 2, "optimizer": "adamw_8bit"},
        ],
    )
    def test_other_choices_can_be_told(self, change):
        told = trace(replace(SPEC, **change), 300)
        assert 0 < told.allocated_gib <= told.reserved_gib

    def test_gradients_of_earlier_micro_batches(self):
        full = replace(SPEC, tuner="full")
        several, one = (trace(replace(full, accumulates=each), 300) for each in (True, False))
        gradients = held(LINEAR + OTHERS, 2)
        assert sizes(several)["gradients"] == gradients
        assert "gradients" not in one.breakdown  # at the loss, where the peak is, there are none yet
        assert (several.allocated_gib - one.allocated_gib) * GIB == pytest.approx(gradients, rel=0.05)

    def test_lengths_after_each_other_leave_more_behind(self):
        growing = replace(SPEC, lengths=(8192, 12288, 16384))
        fixed = replace(SPEC, seq_len=16384)
        assert trace(growing, 300).allocated_gib == pytest.approx(trace(fixed, 300).allocated_gib, rel=0.01)
        assert trace(growing, 300).reserved_gib > 1.05 * trace(fixed, 300).reserved_gib
        smooth = trace(replace(growing, expandable_segments=True), 300)
        assert smooth.reserved_gib < trace(growing, 300).reserved_gib

    def test_a_cap_is_held_or_not(self):
        told = trace(SPEC, 300)
        assert told.gets_through is None
        roomy, tight = (trace(replace(SPEC, cap_gib=times * told.allocated_gib), 300) for times in (2, 0.9))
        assert (roomy.gets_through, roomy.retries) == (True, 0)
        assert tight.gets_through is False
        assert tight.retries

    def test_hopper_has_a_larger_workspace(self):
        hopper, other = (trace(replace(SPEC, capability=each), 300) for each in ((9, 0), (8, 0)))
        assert hopper.allocated_gib - other.allocated_gib == pytest.approx(2 * (32 - 8.125) / 1024)
        assert "measured" in hopper.notes[0]
        t4 = trace(replace(SPEC, capability=(7, 5)), 300)
        assert t4.process_gib - t4.reserved_gib == pytest.approx(140.875 / 1024)

    def test_a_reference_is_a_second_model(self):
        dpo, sft = (trace(replace(SPEC, tuner="full", stage=stage), 300) for stage in ("dpo", "sft"))
        assert dpo.breakdown["weights"] > 1.9 * sft.breakdown["weights"]

    def test_experts_are_grouped_and_get_no_adapter(self):
        moe = {"model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
        told = trace(replace(SPEC, config={**TINY, **moe}, lora_rank=4), 300)
        attention = [4 * size for pair in PROJECTIONS[:4] * LAYERS for size in pair]
        assert sizes(told)["adapter"] == held(attention, 4)

    def test_an_unknown_architecture(self):
        with pytest.raises(Unknown, match="does not know the architecture 'grue'"):
            trace(replace(SPEC, config={**TINY, "model_type": "grue"}), 300)


@pytest.mark.engine
def test_the_worker_is_a_process_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise SystemExit('not torch')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    told = trace(SPEC, 300)
    assert sum(told.breakdown.values()) == pytest.approx(told.allocated_gib)


@pytest.mark.engine
def test_time_runs_out():
    with pytest.raises(Unknown, match=r"did not end within 0\.05 s"):
        trace(SPEC, 0.05)


@pytest.fixture
def answers(monkeypatch):
    """A worker that answers without PyTorch; gives the questions that reached it."""
    asked = []
    answer = {"allocated": GIB, "reserved": 2 * GIB, "phase": "backward", "op": "aten.mm.default"}

    def ask(_worker, question, _time_limit):
        asked.append(question)
        return {**answer, "breakdown": {"weights": GIB}}

    monkeypatch.setattr(Worker, "ask", ask)
    monkeypatch.setattr(module, "find_spec", lambda name: name)
    return asked


def test_an_answer_is_kept(answers):
    first = trace(SPEC)
    assert trace(SPEC) == first
    assert len(answers) == 1
    trace(replace(SPEC, seq_len=512))
    assert len(answers) == 2


def test_a_damaged_answer_is_asked_for_again(answers, tmp_path):
    trace(SPEC)
    for path in (tmp_path / "cache" / "memory").iterdir():
        path.write_text("{", encoding="utf-8")
    trace(SPEC)
    assert len(answers) == 2


def test_a_cache_that_cannot_be_written_is_no_error(answers, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("TUNEKIT_CACHE", str(tmp_path / "file"))
    assert trace(SPEC).allocated_gib == 1


def test_other_libraries_are_another_question(monkeypatch):
    before = trace_fingerprint({})
    monkeypatch.setattr(module.metadata, "version", lambda name: "0")
    assert trace_fingerprint({}) != before


def test_what_the_estimate_does_not_know_is_traced(monkeypatch):
    known = estimate(SPEC)
    assert estimate_or_trace(SPEC) == known
    monkeypatch.setattr(module, "trace", lambda *_: replace(known, method="trace", notes=("a note",)))
    strange = replace(SPEC, config={**TINY, "model_type": "strange"})
    found = estimate_or_trace(strange)
    assert (found.method, found.notes[1]) == ("trace", "a note")
    assert found.notes[0] == "model_type strange is not known to the estimate: this is the trace"
    monkeypatch.undo()
    with pytest.raises(Unknown, match="strange is not known to the estimate; the trace knows the stages"):
        estimate_or_trace(replace(strange, stage="grpo"))


def test_what_is_not_installed(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "peft" else name)
    with pytest.raises(Unknown, match="needs peft, which is not installed"):
        trace(SPEC)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"config": {**TINY, "auto_map": {}}}, "code of its own"),
        ({"config": {**TINY, "quantization_config": {}}}, "come quantized"),
        ({"stage": "grpo"}, "not grpo"),
        ({"sharding": "zero2"}, "DeepSpeed"),
        ({"tuner": "qlora", "quant_bits": 8}, "4-bit weights of bitsandbytes, no others"),
        ({"packing": True}, "flash attention"),
        ({"sharding": "fsdp2", "gpus": 2}, "FSDP"),
        ({"device_map": "auto", "gpus": 2}, "several GPUs"),
        ({"sequence_parallel": 2, "gpus": 2}, "divided"),
        ({"offload": ("activations",)}, "leaves the GPU"),
        ({"transformers": "1.0", "config": {**TINY, "num_experts": 4}}, "builds experts as transformers"),
    ],
)
def test_what_the_trace_does_not_model(change, reason):
    with pytest.raises(Unknown, match=reason):
        check_traceable(replace(SPEC, **change))


def program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("exit 1", "the trace failed: status 1"),
        ("echo begun >&2; while read line; do echo no JSON; done", "the trace failed: begun"),
        ("echo begun >&2; while read line; do echo []; done", "the trace failed: its worker answered no object"),
        ("exec sleep 60", r"the trace did not end within 0\.2 s"),
    ],
)
def test_a_worker_that_fails(tmp_path, monkeypatch, text, reason):
    monkeypatch.setattr(module, "find_spec", lambda name: name)
    monkeypatch.setattr(sys, "executable", program(tmp_path / "python", text))
    with pytest.raises(Unknown, match=reason):
        trace(SPEC, 0.2 if "sleep" in text else 10)
    assert not list(tmp_path.glob("cache/memory/*"))


def test_one_worker_traces_many(tmp_path, monkeypatch):
    answer = {"allocated": GIB, "reserved": GIB, "phase": "backward", "op": "aten.mm.default", "breakdown": {}}
    echo = program(tmp_path / "echo", f"echo x >> begun; while read line; do echo '{json.dumps(answer)}'; done")
    monkeypatch.setattr(module, "find_spec", lambda name: name)
    monkeypatch.setattr(sys, "executable", echo)
    with trace_worker() as worker:
        for length in (64, 128, 256):
            assert trace(replace(SPEC, seq_len=length), 10, worker=worker).allocated_gib == 1
    assert (tmp_path / "begun").read_text() == "x\n"


def test_an_answer_of_the_worker():
    with pytest.raises(Unknown, match="because"):
        prediction_of({"unknown": "because"}, SPEC)


def test_an_evaluation_that_is_the_peak_is_not_traced():
    spec = replace(SPEC, evaluates=True)
    traced = prediction_of({"allocated": GIB, "reserved": GIB, "breakdown": {}, "phase": "backward", "op": "mm"}, spec)
    told = with_evaluation(traced, spec)
    assert told.notes[-1] == "the evaluation is not traced; by the estimate it takes less"
    assert with_evaluation(traced, SPEC) == traced
    with pytest.raises(Unknown, match="peak is at evaluation"):
        with_evaluation(traced, replace(spec, eval_batch=5000))


def test_a_limit_is_named_with_the_option_that_raises_it(monkeypatch):
    def ask(*_):
        raise WorkerFailed("late", late=True)

    monkeypatch.setattr(module, "find_spec", lambda _: True)
    monkeypatch.setattr(Worker, "ask", ask)
    with pytest.raises(Unknown, match="did not end within 5 s; --trace-limit gives it more"):
        trace(SPEC, 5)
