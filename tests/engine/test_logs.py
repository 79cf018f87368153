"""``logging.jsonl``, read while another process writes it."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.engine.logs import NO_REASON, Dropped, LogTail, Progress, Rows, read_lost_rows, read_progress, read_summary


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


def test_a_repeated_step_counts_once_as_it_came_out_last(log):
    progress = read_progress(log(step(1), step(2), step(3), step(2, loss=0.5), step(3, loss=0.4)))
    assert list(progress.losses.values()) == [pytest.approx(1.9), 0.5, 0.4]


def test_nothing_known_yet():
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
        {"train_runtime": 12.5},
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


def test_all_that_the_stages_show_is_kept(log):
    progress = read_progress(log(step(1, reward=0.5, kl=1e-9), {"eval_loss": 2.0, "global_step/max_steps": "1/7"}))
    assert progress.series("reward") == {1: 0.5}
    assert progress.series("kl") == {1: 1e-9}
    assert progress.series("eval_loss") == {1: 2.0}
    assert progress.series("grad_norm") == progress.grad_norms == {1: 1.5}
    assert progress.series("loss") is progress.losses
    assert progress.series("never logged") == {}


def test_a_gradient_that_is_not_a_number_is_read(log):
    progress = read_progress(log('{"loss": 0.0, "grad_norm": NaN, "global_step/max_steps": "3/3"}'))
    assert progress.losses == {3: 0.0}
    assert math.isnan(progress.grad_norms[3])


@pytest.mark.parametrize(
    ("epochs", "whole"),
    [
        ((0.4, 0.8, 1.0), [1, 2]),
        ((0.8, 1.0, 1.8, 2.0), [1, 3]),
        ((0.5, 1.0, 1.5), [1, 2, 3]),
        ((1.0, 2.0), [1, 2]),
        ((1.0,), [1]),
    ],
)
def test_a_step_of_fewer_rows_is_not_compared(epochs, whole):
    progress = Progress()
    for number, epoch in enumerate(epochs, start=1):
        progress.take(step(number, epoch=epoch))
    assert progress.whole_steps("loss") == whole


def test_without_epochs_every_step_is_whole():
    assert Progress(losses={1: 2.0, 2: 1.0}).whole_steps("loss") == [1, 2]


TOLD = """[INFO:swift] Traceback (most recent call last):
  File "/v/swift/dataset/preprocessor/core.py", line 240, in batched_preprocess
    self._check_messages(r)
AssertionError: message: {'role': 'assistent', 'content': 'y'}

[WARNING:swift] \N{WHITE UP POINTING BACKHAND INDEX}There are errors in the dataset, the data will be deleted
[INFO:swift] Dataset filtered, origin length: 96, filtered dataset length: 24
[INFO:swift] Dataset filtered, origin length: 24, filtered dataset length: 20
[INFO:swift] [LABELS] [-100 * 17]It is 4.
"""
BAD = Dropped(96, 24, "AssertionError: message: {'role': 'assistent', 'content': 'y'}")


def test_rows_that_were_left_out(tmp_path):
    first = tmp_path / "1.log"
    first.write_text(TOLD, encoding="utf-8")
    rows = read_lost_rows([tmp_path / "gone.log", first])
    assert rows == Rows((BAD, Dropped(24, 20)))
    assert rows.lines() == [
        "72 of 96 rows were not used: AssertionError: message: {'role': 'assistent', 'content': 'y'}",
        f"4 of 24 rows were not used: {NO_REASON}",
    ]
    assert Dropped(1, 0, "x").line() == "1 of 1 row was not used: x"


def test_a_later_attempt_that_gives_no_reason_has_that_of_an_earlier_one(tmp_path):
    logs = [tmp_path / f"{number}.log" for number in range(3)]
    logs[0].write_text(TOLD, encoding="utf-8")
    logs[1].write_text(
        "[INFO:swift] Dataset filtered, origin length: 96, filtered dataset length: 24\n", encoding="utf-8"
    )
    logs[2].write_text("killed at once\n", encoding="utf-8")
    assert read_lost_rows(logs) == Rows((BAD,))


def test_rows_that_were_replaced_and_rows_without_loss(tmp_path):
    path = tmp_path / "train.log"
    path.write_text(
        "[INFO:swift] Traceback (most recent call last):\n  x\nFileNotFoundError: a.png\n\n[WARNING:swift] There are "
        "errors in the template.encode, and another piece of data will be randomly selected.\n"
        "[INFO:swift] [LABELS] [-100 * 64]\n",
        encoding="utf-8",
    )
    rows = read_lost_rows([path])
    assert rows.unlearned
    (line,) = rows.lines()
    assert line.endswith("replaced by others, chosen at random: FileNotFoundError: a.png")


def test_what_the_user_wrote_about_rows_is_not_believed(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("Dataset filtered, origin length: 9, filtered dataset length: 0 he said\n", encoding="utf-8")
    assert read_lost_rows([path]) == Rows()
