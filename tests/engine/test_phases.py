"""What ms-swift does, told from its output: the lines are those of ms-swift 4.6 as it trained a small model."""

import pytest

from tunekit.engine import phases as module
from tunekit.engine.phases import ANSWERING, Bar, Phases, read_bar

SAID = [
    ("run sh: `python sft.py --model tiny`", "importing"),
    ("[INFO:swift] rank: -1, local_rank: -1, world_size: 1, local_world_size: 1", "loading"),
    ("Loading weights:  50%|█████     | 10/20 [00:00<00:00, 10969.80it/s]", "loading"),
    ("Loading weights: 100%|██████████| 20/20 [00:00<00:00, 10969.80it/s]", "loading"),
    ("[INFO:swift] Start time of running main: 2026-11-25 19:50:00.591098", "tokenizing"),
    ("Generating train split: 4000 examples [00:00, 235539.12 examples/s]", "tokenizing"),
    ("Map (num_proc=1):  25%|██▌       | 1000/4000 [00:00<00:02, 1289.43 examples/s]", "tokenizing"),
    ("[INFO:swift] [INPUT] Train: 3 of 5", "tokenizing"),
    ("[INFO:swift] The SftArguments will be saved in: ***/runs/a/output/args.json", "setting up"),
    ("Train:   0%|          | 0/12 [00:00<?, ?it/s][INFO:swift] use_logits_to_keep: True", "first step"),
    ("Train:   8%|▊         | 1/12 [00:03<00:36,  3.23s/it]", ""),
    ("[INFO:swift] Saving model checkpoint to ***/runs/a/output/checkpoint-1", ""),
]


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_each_phase_begins_with_what_ms_swift_says(clock):
    phases = Phases()
    for text, phase in SAID:
        clock[0] += 2
        phases.take(text)
        assert phases.name == phase, text
    assert phases.lines() == ["importing 4 s", "loading 6 s", "tokenizing 8 s", "setting up 2 s", "first step 2 s"]
    assert (phases.step, phases.total, phases.saved) == (1, 12, 1)


def test_while_one_waits_the_phase_its_bar_and_its_time_are_told(clock):
    phases = Phases()
    clock[0] += 3
    for text, _ in SAID[:7]:
        phases.take(text)
    clock[0] += 7
    assert phases.waiting() == ["importing 3 s", "tokenizing 1,000 of 4,000, 7 s"]
    phases.take("Map (num_proc=1): 100%|██████████| 4000/4000 [00:03<00:00, 1289.43 examples/s]")
    assert phases.waiting()[-1] == "tokenizing 7 s"


def test_a_run_without_bars_has_started_with_its_first_log_line(clock):
    phases = Phases()
    clock[0] += 5
    phases.end()
    phases.end()
    assert (phases.name, phases.lines()) == ("", ["importing 5 s"])


def test_a_phase_is_never_left_backwards():
    phases = Phases()
    for text, _ in SAID[-3:]:
        phases.take(text)
    phases.take("[INFO:swift] Start time of running main: 2026")
    assert phases.name == ""


def test_a_resumed_run_is_at_its_first_step_until_the_bar_moves():
    phases = Phases()
    phases.take("Train:   0%|          | 0/24 [00:00<?, ?it/s]")
    assert (phases.name, phases.step) == ("first step", 0)
    phases.take("Train:  46%|████▌     | 11/24 [00:03<00:36,  3.23s/it]")
    assert (phases.name, phases.step) == ("", 11)


def test_the_phases_of_answers():
    phases = Phases(ANSWERING)
    phases.take("[INFO:swift] rank: -1")
    assert phases.name == "loading"
    phases.take("[INFO:swift] Start time of running main: 2026")
    assert phases.name == "answering"


@pytest.mark.parametrize(
    ("text", "bar"),
    [
        ("Map: 30%|███  | 1200/4000 [00:01<00:02, 900 examples/s]", Bar("Map", "1200", "4000")),
        ("Downloading [model.safetensors]:  12%|█▏  | 1.8G/15.2G [00:10<01:10, 180MB/s]", None),
        ("Fetching 14 files:   7%|▋         | 1/14 [00:01<00:13,  1.02s/it]", Bar("Fetching 14 files", "1", "14")),
        ("  3%|▎   | 1/32 [00:01<00:31,  1.00s/it]", Bar("", "1", "32")),
        ("Generating train split: 4000 examples [00:00, 235539.12 examples/s]", None),
        ("a row of a user: 10% of it", None),
        ("", None),
        ("x" * 100_000, None),
        ("|" * 100_000, None),
    ],
)
def test_bars(text, bar):
    found = read_bar(text[: module.LONGEST])
    if "1.8G" in text:
        assert found is not None
        assert found.line == "1.8G of 15.2G"
    else:
        assert found == bar
