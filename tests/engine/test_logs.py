"""``logging.jsonl``, read while another process writes it."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.engine.logs import LogTail, Progress, read_progress, read_summary


def step(number, total=7, **more):
    """A line as ms-swift 4.6 writes it."""
    return {
        "loss": 2.0 - number / 10,
        "grad_norm": 1.5,
        "learning_rate": 1e-4,
        "token_acc": 0.5,
        "epoch": 0.1,
        "global_step/max_steps": f"{number}/{total}",
        "elapsed_time": "2s",
        "remaining_time": "12s",
        "train_speed(s/it)": 0.25,
        **more,
    }


END = {
    "model_parameter_info": "LlamaForCausalLM: 0.1M",
    "last_model_checkpoint": "/runs/x/output/checkpoint-7",
    "best_model_checkpoint": "/runs/x/output/checkpoint-4",
    "best_metric": 1.25,
    "global_step": 7,
}


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "logging.jsonl"

    def write(*entries, end="\n"):
        with path.open("a", encoding="utf-8") as file:
            file.write("\n".join(entry if isinstance(entry, str) else json.dumps(entry) for entry in entries) + end)
        return path

    return write


def test_no_file_yet(tmp_path):
    path = tmp_path / "logging.jsonl"
    tail = LogTail(path)
    assert list(tail.new()) == []
    assert read_progress(path) == Progress()
    assert read_summary(path) == {}
    path.write_text('{"loss": 1}\n', encoding="utf-8")
    assert list(tail.new()) == [{"loss": 1}]


def test_each_line_is_seen_once(log):
    tail = LogTail(log(step(1), step(2)))
    assert [entry["global_step/max_steps"] for entry in tail.new()] == ["1/7", "2/7"]
    assert list(tail.new()) == []
    log(step(3))
    assert [entry["global_step/max_steps"] for entry in tail.new()] == ["3/7"]


def test_half_a_line_waits_for_its_other_half(log):
    text = json.dumps(step(1) | {"note": "é中🙂"}, ensure_ascii=False)
    path = log(step(1))
    tail = LogTail(path)
    assert len(list(tail.new())) == 1
    raw = text.encode()
    for place in range(1, len(raw)):
        with path.open("ab") as file:
            file.write(raw[place - 1 : place])
        assert list(tail.new()) == []
    with path.open("ab") as file:
        file.write(raw[-1:] + b"\n")
    (entry,) = tail.new()
    assert entry["note"] == "é中🙂"


@given(st.lists(st.integers(1, 30), max_size=8), st.data())
def test_however_it_is_cut_every_line_comes_once(tmp_path_factory, numbers, data):
    path = tmp_path_factory.mktemp("cut") / "logging.jsonl"
    raw = b"".join(json.dumps({"loss": number}).encode() + b"\n" for number in numbers)
    tail = LogTail(path)
    seen = []
    while raw:
        cut = data.draw(st.integers(1, len(raw)))
        with path.open("ab") as file:
            file.write(raw[:cut])
        raw = raw[cut:]
        seen += [entry["loss"] for entry in tail.new()]
    assert seen == numbers


def test_a_line_that_a_killed_attempt_left_is_passed_over(log):
    path = log(step(1), '{"loss": 1.0, "global_', step(2))
    assert read_progress(path).step == 2
    path = log("[1, 2]", "null", "7", step(3))
    assert read_progress(path).step == 3


def test_the_lines_of_earlier_attempts_are_skipped(log):
    path = log(step(1), step(2))
    tail = LogTail(path, skip=path.stat().st_size)
    assert list(tail.new()) == []
    log(step(3))
    assert [entry["global_step/max_steps"] for entry in tail.new()] == ["3/7"]


def test_progress(log):
    progress = read_progress(log(step(1), step(2, **{"memory(GiB)": 17.5}), {"eval_loss": 1.9}, step(3)))
    assert (progress.step, progress.total) == (3, 7)
    assert progress.loss == pytest.approx(1.7)
    assert progress.losses == {1: pytest.approx(1.9), 2: pytest.approx(1.8), 3: pytest.approx(1.7)}
    assert (progress.eval_loss, progress.memory_gib, progress.learning_rate) == (1.9, 17.5, 1e-4)
    assert progress.seconds_per_step == 0.25
    assert progress.eta_seconds == 1.0


def test_a_repeated_step_counts_once_as_it_came_out_last(log):
    progress = read_progress(log(step(1), step(2), step(3), step(2, loss=0.5), step(3, loss=0.4)))
    assert list(progress.losses.values()) == [pytest.approx(1.9), 0.5, 0.4]


def test_nothing_known_yet():
    assert Progress().eta_seconds is None
    assert (Progress().step, Progress().total, Progress().memory_gib) == (0, 0, None)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"loss": None},
        {"loss": "not a number"},
        {"loss": [1]},
        {"global_step/max_steps": "soon"},
        {"global_step/max_steps": 3},
        {"train_runtime": 12.5, "train_loss": 1.5},
    ],
)
def test_lines_of_another_kind_change_nothing(entry):
    progress = Progress()
    progress.take(step(2))
    before = Progress(**(vars(progress) | {"losses": dict(progress.losses)}))
    progress.take(entry)
    assert progress == before


def test_numbers_written_as_text_are_numbers():
    progress = Progress()
    progress.take({"loss": "1.25", "learning_rate": "1e-05", "global_step/max_steps": "4/8"})
    assert (progress.loss, progress.learning_rate, progress.losses) == (1.25, 1e-5, {4: 1.25})


def test_a_loss_that_exploded_is_still_read(log):
    progress = read_progress(log('{"loss": NaN, "global_step/max_steps": "1/2"}'))
    assert progress.step == 1
    assert math.isnan(progress.loss)


def test_summary_is_the_last_of_its_kind(log):
    assert read_summary(log(step(1))) == {}
    assert read_summary(log(END | {"last_model_checkpoint": None}, step(2), END))["best_metric"] == 1.25
    assert read_summary(log(END, step(3))) == END, "a killed retry writes none"
