"""Whole runs through the real command line, with the fake ms-swift in a process of its own."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import shlex
import shutil
import signal
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from running import (
    SECRET_KEY,
    SECRET_TOKEN,
    SFT,
    Started,
    at_step,
    files_below,
    make_checkpoint,
    make_workplace,
    read_json,
    tunekit,
    until,
    words,
)

from tunekit.runs import supervisor

DELETED = "[WARNING:swift] There are errors in the dataset, the data will be deleted"


@pytest.fixture
def run(place: Path) -> Path:
    return place / "runs" / "try"


def flags(script: Path) -> dict[str, str]:
    """The flags in a ``command.sh``."""
    text = script.read_text(encoding="utf-8").partition("set -euo pipefail")[2]
    found: dict[str, list[str]] = {}
    for word in shlex.split(text.replace("\\\n", " ")):
        if word.startswith("--"):
            found[word[2:]] = []
        elif found:
            found[list(found)[-1]].append(word)
    return {flag: " ".join(values) for flag, values in found.items()}


def attempts(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_json(run / "run.json")["attempts"]
    return found


def outcomes(run: Path) -> list[str]:
    return [attempt["outcome"] for attempt in attempts(run)]


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error:")]


def test_a_run_without_trouble(place: Path, run: Path) -> None:
    result = tunekit(place, *SFT)
    assert result.code == 0
    assert result.out == "", "stdout is for data"
    assert "Done" in result.err
    assert "runs/try/output/checkpoint-12" in result.err
    state = read_json(run / "run.json")
    assert (state["status"], state["name"]) == ("done", "try")
    (only,) = state["attempts"]
    assert (only["outcome"], only["status"], only["last_step"], only["resumed_from"]) == ("done", 0, 12, None)
    assert os.access(run / "command.sh", os.X_OK)
    assert os.access(run / "attempts/1/command.sh", os.X_OK)
    assert "run sh:" in (run / "attempts/1/train.log").read_text(encoding="utf-8")


def test_out_of_memory_twice_then_done(place: Path, run: Path) -> None:
    result = tunekit(place, *SFT, fake={"oom_above": 2, "oom_at": 5})
    assert result.code == 0
    assert result.out == ""

    state = read_json(run / "run.json")
    assert state["status"] == "done"
    assert outcomes(run) == ["gpu-memory", "gpu-memory", "done"]
    assert [attempt["resumed_from"] for attempt in attempts(run)] == [None, "checkpoint-4", "checkpoint-4"]
    assert [(attempt["micro_batch"], attempt["accumulation"]) for attempt in attempts(run)] == [(8, 4), (4, 8), (2, 16)]
    assert state["plan"]["batch"] == {"micro": 2, "accumulation": 16, "data_parallel": 1}
    assert "CUDA out of memory" in attempts(run)[0]["evidence"]

    for number in (1, 2, 3):
        folder = run / "attempts" / str(number)
        outcome = read_json(folder / "outcome.json")
        assert outcome["effective_batch"] == 32
        assert outcome == {**attempts(run)[number - 1], "effective_batch": 32}
        given = flags(folder / "command.sh")
        assert int(given["per_device_train_batch_size"]) * int(given["gradient_accumulation_steps"]) == 32
        assert given["output_dir"] == str(run / "output")
        wanted = None if number == 1 else str(run / "output/checkpoint-4")
        assert given.get("resume_from_checkpoint") == wanted
        assert (folder / "train.log").stat().st_size
    commands = [flags(run / f"attempts/{number}/command.sh") for number in (1, 3)]
    changed = {flag for flag in commands[1] if commands[0].get(flag) != commands[1][flag]}
    assert changed == {"per_device_train_batch_size", "gradient_accumulation_steps", "resume_from_checkpoint"}

    assert "Out of GPU memory in training at step 4 (tried 2.32 GiB, 1.10 GiB free of 39.14 GiB)." in result.err
    assert "micro-batch 8 → 4, accumulation 4 → 8, effective batch still 32; resumes from checkpoint-4" in result.err
    assert "runs/try/attempts/1/train.log" in result.err
    assert "attempt 3 of 5 · micro-batch 2, effective batch 32 · from checkpoint-4" in result.err
    assert "3 attempts" in result.err


def test_the_training_went_on_and_did_not_start_over(place: Path, run: Path) -> None:
    tunekit(place, *SFT, fake={"oom_above": 4, "oom_at": 8})
    log = (run / "output/logging.jsonl").read_text(encoding="utf-8")
    steps = [line.split('max_steps": "')[1].split("/")[0] for line in log.splitlines() if "max_steps" in line]
    assert steps == [str(step) for step in [*range(1, 8), *range(7, 13)]]


def test_a_resumed_attempt_that_fails_at_once_is_told_by_its_step(place: Path, run: Path) -> None:
    """The second attempt goes on from step 4 and logs nothing: it did not fail before the first step."""
    result = tunekit(place, *SFT, fake={"oom_above": 2, "oom_at": 5})
    assert [attempt["last_step"] for attempt in attempts(run)] == [4, 4, 12]
    assert "before the first step" not in result.err


def test_a_loss_that_is_not_a_number_does_not_end_the_run(place: Path, run: Path) -> None:
    result = tunekit(place, *SFT, fake={"nan_at": 4})
    assert result.code == 0
    assert read_json(run / "run.json")["status"] == "done"
    assert "fault of tunekit" not in result.err


def test_out_of_memory_before_any_checkpoint(place: Path, run: Path) -> None:
    result = tunekit(place, *SFT, fake={"oom_above": 4, "oom_at": 1})
    assert result.code == 0
    assert "before the first step" in result.err
    assert "starts over: no checkpoint was saved yet" in result.err
    assert "resume_from_checkpoint" not in flags(run / "attempts/2/command.sh")


def test_steps_that_are_repeated_are_said(place: Path) -> None:
    result = tunekit(place, *SFT, fake={"oom_above": 4, "oom_at": 6})
    assert "resumes from checkpoint-4, 1 step is repeated" in result.err


def test_retries_can_be_turned_off(place: Path, run: Path) -> None:
    result = tunekit(place, *SFT, "--oom-retry", "off", fake={"oom_above": 2})
    assert result.code == 1
    assert outcomes(run) == ["gpu-memory"]
    assert read_json(run / "run.json")["status"] == "failed"
    assert "Out of GPU memory" in result.err
    assert "attempts/1/train.log" in result.err


def test_the_number_of_attempts_is_limited(place: Path, run: Path) -> None:
    result = tunekit(place, *SFT, "--max-attempts", "2", fake={"oom_above": 0})
    assert result.code == 1
    assert outcomes(run) == ["gpu-memory", "gpu-memory"]
    assert "attempt 2 of 2" in result.err
    table = [line for line in result.err.splitlines() if line.strip().startswith(("1 ", "2 "))]
    assert len(table) == 2
    assert "micro-batch 8 × 4" in table[0]
    assert "micro-batch 4 × 8" in table[1]
    assert "--max-attempts 2 tries what is left, at the same optimisation" in " ".join(result.err.split())


def test_when_nothing_neutral_is_left(place: Path, run: Path) -> None:
    result = tunekit(place, *SFT, "--max-attempts", "20", fake={"oom_above": 0})
    assert result.code == 1
    assert [attempt["micro_batch"] for attempt in attempts(run)][:4] == [8, 4, 2, 1]
    assert len(attempts(run)) == 5, "four micro-batches, then gradient checkpointing"
    assert flags(run / "attempts/5/command.sh")["gradient_checkpointing"] == "true"
    assert attempts(run)[-1]["next_step"] == ""


def test_out_of_memory_in_evaluation(place: Path, run: Path) -> None:
    fake = {"oom_unless": {"per_device_eval_batch_size": "1"}, "oom_in": "evaluate"}
    result = tunekit(place, *SFT, "--per_device_eval_batch_size", "4", fake=fake)
    assert result.code == 0
    assert outcomes(run) == ["gpu-memory-in-evaluation", "done"]
    assert flags(run / "attempts/2/command.sh")["per_device_train_batch_size"] == "8", "training was not the trouble"


def test_out_of_memory_while_loading(place: Path, run: Path) -> None:
    result = tunekit(place, *SFT, fake={"oom_above": 0, "oom_in": "load"})
    assert result.code == 1
    assert outcomes(run) == ["gpu-memory-at-load"], "a smaller micro-batch would not help"


@pytest.mark.parametrize(
    ("fake", "evidence"),
    [
        ({"die": "crash"}, "KeyError: 'input_ids'"),
        ({"die": "crash", "say": ["RuntimeError: CUDA error: device-side assert triggered"]}, "KeyError"),
    ],
)
def test_what_is_not_memory_is_not_retried(place: Path, run: Path, fake: dict[str, Any], evidence: str) -> None:
    result = tunekit(place, *SFT, fake=fake)
    assert result.code == 1
    assert outcomes(run) == ["unknown"]
    assert read_json(run / "run.json")["status"] == "failed"
    assert evidence in attempts(run)[0]["evidence"]
    assert evidence in result.err
    assert "attempts/1/train.log" in result.err
    assert "Traceback" not in result.err


def test_out_of_host_memory_is_tried_with_less(place: Path, run: Path) -> None:
    """This machine has no GPU, so the micro-batch helps."""
    result = tunekit(place, *SFT, "--max-attempts", "2", fake={"die": "memory", "die_at": 3})
    assert result.code == 1
    assert outcomes(run) == ["host-memory", "host-memory"]
    assert [attempt["micro_batch"] for attempt in attempts(run)] == [8, 4]
    assert "Out of host memory (RAM)" in result.err


@pytest.mark.skipif(supervisor._oom_kills() is None, reason="this kernel does not say whom it killed")
def test_killed_from_outside_lowers_nothing(place: Path, run: Path) -> None:
    """The launcher turns the SIGKILL of its child into 247; the kernel has killed nothing."""
    result = tunekit(place, *SFT, fake={"die": "kill", "die_at": 3})
    assert result.code == 1
    assert outcomes(run) == ["killed"]
    assert attempts(run)[0]["status"] == 247
    assert "Killed from outside (exit status 247)" in result.err
    assert "nothing is lowered" in result.err


def test_a_diverged_run_is_not_done(place: Path, run: Path) -> None:
    result = tunekit(place, *SFT, fake={"diverge_at": 5})
    assert result.code == 1, "what comes after it must not go on from that"
    said = " ".join(result.err.split())
    assert "Warning: at step 5 the gradient is not a number: the training diverges." in said
    assert "Diverged after" in said
    assert "not a number since step 5" in said
    assert "--with stable" in said.partition("Diverged after")[2]
    assert "Done" not in said
    assert read_json(run / "run.json")["status"] == "done"


FILTERED = "[INFO:swift] Dataset filtered, origin length: 96, filtered dataset length: 24"


@pytest.mark.parametrize("more", [{}, {"die": "crash", "die_at": 3}], ids=["done", "failed"])
def test_rows_that_were_not_used_are_said(more: dict[str, Any], place: Path) -> None:
    result = tunekit(
        place, *SFT, fake={"say": ["[INFO:swift] Traceback", "ValueError: bad row", DELETED, FILTERED], **more}
    )
    end = " ".join(result.err.partition("KeyError" if more else "Done")[2].split())
    assert "72 of 96 rows were not used: ValueError: bad row" in end


def test_no_row_left_is_a_failure_of_the_data(place: Path, run: Path) -> None:
    none = FILTERED.replace("h: 24", "h: 0")
    result = tunekit(place, *SFT, fake={"say": ["ValueError: bad row", DELETED, none], "die": "crash"})
    assert result.code == 4
    assert outcomes(run) == ["data"]
    assert "The dataset cannot be used" in result.err
    assert " ".join(result.err.split()).count("96 of 96 rows were not used: ValueError: bad row") == 1


def test_rows_that_speak_of_memory_are_not_out_of_memory(place: Path, run: Path) -> None:
    row = ["[INFO:swift] [INPUT] <user>", "CUDA out of memory. Tried", "MemoryError", "[INFO:swift] The training"]
    result = tunekit(place, *SFT, fake={"say": row, "die": "crash", "die_at": 2})
    assert result.code == 1
    assert outcomes(run) == ["unknown"]
    assert "KeyError: 'input_ids'" in result.err
    assert "lossy" not in result.err


def test_interrupted_then_resumed(place: Path, run: Path) -> None:
    with Started(place, *SFT, fake={"wait_at": 5}) as started:
        until(lambda: at_step(run, 4), "training starts")
        started.signal(signal.SIGTERM)
        stopped = started.end()
        assert started.alive() == []
    assert stopped.code == 130
    assert read_json(run / "run.json")["status"] == "interrupted"
    assert outcomes(run) == ["interrupted"]

    resumed = tunekit(place, "resume", "try")
    assert resumed.code == 0
    assert resumed.out == ""
    assert outcomes(run) == ["interrupted", "done"]
    assert attempts(run)[1]["resumed_from"] == "checkpoint-4"
    assert flags(run / "attempts/2/command.sh")["resume_from_checkpoint"] == str(run / "output/checkpoint-4")

    again = tunekit(place, "resume", "try")
    assert again.code == 0
    assert "done" in again.err
    assert len(attempts(run)) == 2


def test_an_interruption_does_not_count_as_a_failed_attempt(place: Path, run: Path) -> None:
    with Started(place, *SFT, "--max-attempts", "2", fake={"wait_at": 3}) as started:
        until(lambda: at_step(run, 2), "training starts")
        started.signal(signal.SIGTERM)
        started.end()
    resumed = tunekit(place, "resume", "try", fake={"oom_above": 4})
    assert resumed.code == 0
    assert outcomes(run) == ["interrupted", "gpu-memory", "done"]


def test_resume_by_path_from_another_folder(place: Path, run: Path) -> None:
    """The dataset was named relative to where the run was started: it is found, or missed before anything starts."""
    tunekit(place, *SFT, "--oom-retry", "off", fake={"oom_above": 2})
    (place / "elsewhere").mkdir()
    result = tunekit(place / "elsewhere", "resume", "../runs/try", "--oom-retry", "neutral", fake={"oom_above": 2})
    assert result.code in (0, 4)
    assert "data" not in outcomes(run)


def test_resume_checks_the_data_first(place: Path, run: Path) -> None:
    tunekit(place, *SFT, "--oom-retry", "off", fake={"oom_above": 2})
    (place / "data.jsonl").unlink()
    result = tunekit(place, "resume", "try")
    assert result.code == 4
    assert len(attempts(run)) == 1


def test_resume_with_another_policy(place: Path, run: Path) -> None:
    assert tunekit(place, *SFT, "--oom-retry", "off", fake={"oom_above": 2}).code == 1
    assert tunekit(place, "resume", "try", "--oom-retry", "bogus").code == 2
    result = tunekit(place, "resume", "try", "--oom-retry", "neutral", fake={"oom_above": 2})
    assert result.code == 0
    assert read_json(run / "run.json")["oom_retry"] == "neutral"
    assert outcomes(run) == ["gpu-memory", "gpu-memory", "done"], "what failed is not tried again as it was"


@pytest.mark.parametrize("number", ["0", "-1"])
def test_resume_with_an_impossible_number_of_attempts(place: Path, number: str) -> None:
    tunekit(place, *SFT, "--oom-retry", "off", fake={"oom_above": 2})
    assert tunekit(place, "resume", "try", "--max-attempts", number).code == 2


def test_a_resumed_run_does_not_say_attempt_three_of_two(place: Path) -> None:
    tunekit(place, *SFT, "--max-attempts", "2", fake={"oom_above": 0})
    result = tunekit(place, "resume", "try", fake={"oom_above": 0})
    assert "attempt 3 of 2" not in result.err


def test_resume_of_nothing(place: Path) -> None:
    result = tunekit(place, "resume", "absent")
    assert result.code == 2
    assert len(errors(result.err)) == 1


def test_resume_of_a_damaged_run(place: Path, run: Path) -> None:
    run.mkdir(parents=True)
    (run / "run.json").write_text("{", encoding="utf-8")
    result = tunekit(place, "resume", "try")
    assert result.code == 2
    assert "run.json" in errors(result.err)[0]


LOSSY = ("--oom-retry", "lossy", "--micro-batch", "1", "--gradient_checkpointing", "true")
RANK = {"oom_unless": {"lora_rank": "4"}, "oom_at": 5}


def test_a_lossy_restart_keeps_the_old_output_and_starts_over(tmp_path: Path) -> None:
    place = make_workplace(tmp_path, num_experts=8)  # experts are not quantized, so the rank comes first
    run = place / "runs/try"
    result = tunekit(place, *SFT, *LOSSY, fake=RANK)
    assert result.code == 0
    assert outcomes(run) == ["gpu-memory", "done"]
    assert attempts(run)[0]["next_step"] == "lora_rank 8 → 4, lora_alpha 32 → 16"
    given = flags(run / "attempts/2/command.sh")
    assert (given["lora_rank"], given["lora_alpha"]) == ("4", "16")
    assert "resume_from_checkpoint" not in given
    assert (run / "attempts/2/before/checkpoint-4/optimizer.pt").is_file()
    steps = [
        line for line in (run / "output/logging.jsonl").read_text(encoding="utf-8").splitlines() if "max_steps" in line
    ]
    assert len(steps) == 12
    assert "(lossy)" in result.err
    assert "starts over" in result.err
    assert read_json(run / "run.json")["fresh"] is False


def test_a_fresh_start_that_was_interrupted_keeps_its_word(tmp_path: Path) -> None:
    """Killed while the restarted run trains, it goes on from the new output, not from the old one."""
    place = make_workplace(tmp_path, num_experts=8)
    run = place / "runs/try"
    with Started(place, *SFT, *LOSSY, fake={**RANK, "wait_at": 7}) as started:
        until(lambda: at_step(run, 6), "the second attempt trains")
        started.signal(signal.SIGTERM)
        assert started.end().code == 130
    assert tunekit(place, "resume", "try", fake=RANK).code == 0
    assert attempts(run)[-1]["resumed_from"] == "checkpoint-6"
    assert (run / "attempts/2/before/checkpoint-4").is_dir()


def test_an_incomplete_checkpoint_is_passed_over(place: Path, run: Path) -> None:
    tunekit(place, *SFT, "--oom-retry", "off", fake={"oom_above": 2, "oom_at": 7})
    (run / "output/checkpoint-6/optimizer.pt").unlink()
    tunekit(place, "resume", "try")
    assert attempts(run)[-1]["resumed_from"] == "checkpoint-4"


# Secrets.


def told(place: Path, *texts: str) -> list[str]:
    """Where a secret stands: in files of the folder, or in what was printed."""
    found = [str(path) for path in files_below(place) if SECRET_KEY.encode() in path.read_bytes()]
    found += [str(path) for path in files_below(place) if SECRET_TOKEN.encode() in path.read_bytes()]
    return found + [text for text in texts if SECRET_KEY in text or SECRET_TOKEN in text]


@pytest.mark.parametrize(
    "typed",
    [
        ("--swanlab_token", SECRET_TOKEN),
        (f"--swanlab-token={SECRET_TOKEN}",),
        ("--hub_token", SECRET_TOKEN),
    ],
)
def test_a_token_that_was_typed_is_nowhere(place: Path, run: Path, typed: tuple[str, ...]) -> None:
    show = ["SWANLAB_API_KEY", "MODELSCOPE_API_TOKEN", "WANDB_API_KEY"]
    env = {"WANDB_API_KEY": SECRET_KEY}
    with Started(place, *SFT, *typed, fake={"wait_at": 3, "show": show}, env=env) as started:
        until(lambda: at_step(run, 2), "training starts")
        running = started.alive()
        assert len(running) >= 3
        for pid in running:
            assert SECRET_TOKEN not in " ".join(words(pid))
            assert SECRET_KEY not in " ".join(words(pid))
        (run / "go").touch()
        result = started.end()
    assert result.code == 0
    assert told(place, result.out, result.err) == []
    log = (run / "attempts/1/train.log").read_text(encoding="utf-8")
    assert log.count("is ***") == 2, "the fake ms-swift got both and printed both"
    assert "moved into the environment" in result.err


def test_a_key_in_the_environment_is_nowhere(place: Path) -> None:
    names = ["SWANLAB_API_KEY", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD"]
    result = tunekit(
        place,
        *SFT,
        fake={"show": names, "die": "crash", "say": [f"KeyError: {SECRET_KEY}"]},
        env=dict.fromkeys(names, SECRET_KEY),
    )
    assert result.code == 1
    assert told(place, result.out, result.err) == []


@pytest.mark.parametrize("option", ["--dry-run", "--json", "--explain"])
@pytest.mark.parametrize("where", ["flag", "environment", "config", "preset"])
def test_a_token_is_not_shown_by_a_dry_run(place: Path, option: str, where: str) -> None:
    """Wherever it was set: it is refused or moved, never shown."""
    env: dict[str, str] = {}
    more: tuple[str, ...] = ()
    config = place / "config"
    config.mkdir()
    if where == "flag":
        more = ("--swanlab_token", SECRET_TOKEN)
    elif where == "environment":
        env["TUNEKIT_SWANLAB_TOKEN"] = SECRET_TOKEN
    elif where == "config":
        (config / "config.toml").write_text(f'[defaults]\nswanlab_token = "{SECRET_TOKEN}"\n', encoding="utf-8")
        env["TUNEKIT_CONFIG"] = str(config)
    else:
        (place / "mine.toml").write_text(
            f'extends = "cpu"\n[train]\nswanlab_token = "{SECRET_TOKEN}"\n', encoding="utf-8"
        )
        more = ("--preset", "mine.toml")
    result = tunekit(place, *SFT, *more, option, env=env)
    assert SECRET_TOKEN not in result.out + result.err


@pytest.mark.parametrize("flag", ["--swanlab_secret", "--swanlab_webhook_url"])
def test_a_secret_that_cannot_be_moved_is_refused(place: Path, run: Path, flag: str) -> None:
    result = tunekit(place, *SFT, flag, SECRET_TOKEN)
    assert result.code == 2
    assert SECRET_TOKEN not in result.err
    assert not run.exists()


# tunekit itself dies.


def test_a_killed_tunekit_leaves_a_locked_run(place: Path, run: Path) -> None:
    with Started(place, *SFT, fake={"wait_at": 5}) as started:
        until(lambda: at_step(run, 4), "training starts")
        trainer = read_json(run / "output/args.json")["pid"]
        started.signal(signal.SIGKILL)
        started.process.wait()
        assert trainer in started.alive(), "nobody could stop it"

        for argv in (("resume", "try"), SFT):
            refused = tunekit(place, *argv)
            assert refused.code == 2
            assert len(errors(refused.err)) == 1
            assert "Traceback" not in refused.err
        assert "in use" in tunekit(place, "resume", "try").err
        assert read_json(run / "run.json")["attempts"] == []
    log = run / "attempts/1/train.log"
    assert "run sh:" in log.read_text(encoding="utf-8")
    log.write_text("the log of the attempt that nobody saw end\n", encoding="utf-8")

    resumed = tunekit(place, "resume", "try")
    assert resumed.code == 0
    assert attempts(run)[-1]["resumed_from"] == "checkpoint-4"
    logs = [path.read_text(encoding="utf-8") for path in run.glob("attempts/*/train.log")]
    assert any("nobody saw end" in text for text in logs), "the log of the killed attempt was overwritten"


def kill_in_the_second_attempt(place: Path, *argv: str, fake: dict[str, Any]) -> None:
    """Kill tunekit and all of ms-swift while the second attempt waits at a step."""
    run = place / "runs/try"
    with Started(place, *argv, fake=fake):
        until(lambda: (run / "attempts/2/train.log").exists() and at_step(run, fake["wait_at"] - 1), "it trains")
    assert len(attempts(run)) == 1


def test_after_a_kill_nothing_is_lowered_twice(place: Path, run: Path) -> None:
    """Attempt 1 was out of memory, attempt 2 ran well with half the micro-batch: it goes on with that."""
    kill_in_the_second_attempt(place, *SFT, fake={"oom_above": 4, "oom_at": 1, "wait_at": 5})
    assert tunekit(place, "resume", "try", fake={"oom_above": 4, "oom_at": 1}).code == 0
    assert attempts(run)[-1]["micro_batch"] == 4
    assert attempts(run)[-1]["resumed_from"] == "checkpoint-4"


def test_after_a_kill_nothing_more_is_given_up(tmp_path: Path) -> None:
    """The same where the step was a lossy one: no other is taken, and what was trained since is kept."""
    place = make_workplace(tmp_path, num_experts=8)
    kill_in_the_second_attempt(place, *SFT, *LOSSY, "--max_length", "2048", fake={**RANK, "wait_at": 7})
    assert tunekit(place, "resume", "try", fake=RANK).code == 0
    last = attempts(place / "runs/try")[-1]
    assert last["resumed_from"] == "checkpoint-6"
    assert flags(place / "runs/try/attempts" / str(last["number"]) / "command.sh")["max_length"] == "2048"


def test_two_starts_at_once(place: Path, run: Path) -> None:
    with Started(place, *SFT, fake={"wait_at": 3}) as first:
        until(lambda: at_step(run, 2), "training starts")
        before = (run / "run.json").read_bytes()
        for argv in (("resume", "try"), SFT):
            second = tunekit(place, *argv)
            assert second.code == 2
            assert len(errors(second.err)) == 1
        assert (run / "run.json").read_bytes() == before
        (run / "go").touch()
        assert first.end().code == 0


def test_a_reader_of_the_messages_that_goes_away_does_not_end_the_run(place: Path, run: Path) -> None:
    """As in ``tunekit sft … 2>&1 | head -3``."""
    with Started(place, *SFT, fake={"wait_at": 5}) as started:
        until(lambda: at_step(run, 4), "training starts")
        assert started.process.stderr
        started.process.stderr.close()
        started.process.stderr = None
        (run / "go").touch()
        assert started.end().code == 0
        assert started.alive() == []
    assert read_json(run / "run.json")["status"] == "done"


def open_terminal() -> tuple[int, int]:
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, b"\x28\x00\x78\x00\x00\x00\x00\x00")  # 40 lines of 120 columns
    return master, slave


IN_A_TERMINAL = (
    sys.executable,
    "-c",
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])",
)


class Terminal:
    """A tunekit in a terminal of its own, and all that the terminal showed."""

    def __init__(self, place: Path, *argv: str, fake: dict[str, Any]) -> None:
        self.master, slave = open_terminal()
        self.shown = b""
        self.started = Started(
            place,
            *argv,
            fake=fake,
            prefix=IN_A_TERMINAL,
            start_new_session=True,
            env={"TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)

    def read(self) -> bytes:
        with contextlib.suppress(BlockingIOError, OSError):
            while data := os.read(self.master, 65536):
                self.shown += data
        return self.shown


def test_in_a_terminal(place: Path, run: Path) -> None:
    terminal = Terminal(place, *SFT, fake={"wait_at": 5, "oom_above": 4, "oom_at": 7})
    with terminal.started as started:
        until(lambda: terminal.read() and at_step(run, 4), "training starts")
        until(lambda: b"4/12" in terminal.read(), "the bar")
        (run / "go").touch()
        until(lambda: terminal.read() and started.process.poll() is not None, "the end")
        assert started.process.returncode == 0
    shown = terminal.read().decode()
    os.close(terminal.master)
    assert "attempt 2 of 5" in shown
    assert "effective batch still 32" in shown
    assert "Done" in shown


def test_ctrl_c_in_a_terminal(place: Path, run: Path) -> None:
    terminal = Terminal(place, *SFT, fake={"wait_at": 5})
    with terminal.started as started:
        until(lambda: terminal.read() and at_step(run, 4), "training starts")
        os.write(terminal.master, b"\x03")
        until(lambda: terminal.read() and started.process.poll() is not None, "the end")
        assert started.process.returncode == 130
        assert started.alive() == []
    os.close(terminal.master)
    assert read_json(run / "run.json")["status"] == "interrupted"


def test_a_terminal_that_is_closed(place: Path, run: Path) -> None:
    """As when an ssh connection breaks: SIGHUP, and nothing can be printed any more."""
    terminal = Terminal(place, *SFT, fake={"wait_at": 5})
    with terminal.started as started:
        until(lambda: terminal.read() and at_step(run, 4), "training starts")
        os.close(terminal.master)
        until(lambda: started.process.poll() is not None, "the end")
        assert started.alive() == []
    assert read_json(run / "run.json")["status"] == "interrupted"
    assert tunekit(place, "resume", "try").code == 0


# Odds and ends.


def test_where_a_run_cannot_be_written(place: Path) -> None:
    result = tunekit(place, *SFT[:-4], "--output-dir", "data.jsonl/run")
    assert result.code == 2
    assert "fault of tunekit" not in result.err


def test_the_default_name_is_numbered(place: Path) -> None:
    for wanted in ("tiny-sft", "tiny-sft-2"):
        assert tunekit(place, *SFT[:5], "--save_steps", "2", fake={"steps": 1}).code == 0
        assert read_json(place / "runs" / wanted / "run.json")["name"] == wanted


def test_checkpoints_of_another_run_are_not_taken(place: Path, run: Path) -> None:
    make_checkpoint(place / "runs/other/output/checkpoint-10")
    assert tunekit(place, *SFT).code == 0
    assert attempts(run)[0]["resumed_from"] is None


@pytest.mark.parametrize("name", ["swift.py", "tunekit.py", "json.py"])
@pytest.mark.parametrize("typed", [(), ("--swanlab_token", SECRET_TOKEN)], ids=["plain", "token"])
def test_files_of_the_user_do_not_stand_in_the_way(place: Path, run: Path, name: str, typed: tuple[str, ...]) -> None:
    """Started as the installed script, whose path does not begin with the current folder (``-m`` would add it)."""
    script = place / "bin" / "tunekit"
    script.parent.mkdir()
    script.write_text("from tunekit.__main__ import main\n\nmain()\n", encoding="utf-8")
    (place / name).write_text("raise SystemExit('a file of the user')\n", encoding="utf-8")
    result = tunekit(place, *SFT, *typed, program=(sys.executable, str(script)))
    assert "a file of the user" not in result.err
    assert result.code == 0
    assert read_json(run / "run.json")["status"] == "done"


@pytest.fixture
def with_gpu(tmp_path: Path) -> dict[str, str]:
    """An environment in which nvidia-smi shows a card of 48 GB, and tunekit has learned nothing yet."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho '0, GPU-1, NVIDIA Test 48GB, 48418, 48000, 8.9'\n", encoding="utf-8")
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "CUDA_VISIBLE_DEVICES": "0", "TUNEKIT_CACHE": str(tmp_path / "cache")}


KNOWN = ("sft", "--model", "Qwen2.5-7B", "--dataset", "data.jsonl", "--preset", "20b", "--name", "try")
UNPACKED = ("--attn_impl", "sdpa", "--packing", "false")


def test_what_a_run_takes_is_shown_beside_the_prediction_and_kept(
    place: Path, run: Path, with_gpu: dict[str, str]
) -> None:
    result = tunekit(place, *KNOWN, *UNPACKED, fake={"memory": 26.0}, env=with_gpu)
    assert result.code == 0, result.err
    assert re.search(r"GPU 26\.0 GiB \(\d\d\.\d predicted\)", result.err)
    (row,) = map(json.loads, Path(with_gpu["TUNEKIT_CACHE"], "memory.jsonl").read_text(encoding="utf-8").splitlines())
    assert (row["card"], row["measured"], row["model"]) == ("NVIDIA Test 48GB", 26.0, "Qwen/Qwen2.5-7B")
    assert attempts(run)[0]["memory_gib"] == 26.0
    again = tunekit(place, *KNOWN[:-1], "again", *UNPACKED, "--dry-run", env=with_gpu)
    assert f"× {row['measured'] / row['predicted']:.2f} as measured here" in " ".join(again.err.split())


def test_what_a_run_took_is_said_beside_what_was_said_and_kept(
    place: Path, run: Path, with_gpu: dict[str, str], tmp_path: Path
) -> None:
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.write_text(smi.read_text(encoding="utf-8").replace("NVIDIA Test 48GB", "NVIDIA RTX A6000"), encoding="utf-8")
    words = (*KNOWN, *UNPACKED, "--max_steps", "6")
    first = tunekit(place, *words, env=with_gpu)
    assert first.code == 0, first.err
    assert re.search(r"Time +about .* GPU-hours \(roughly", first.err)
    assert re.search(r"Done in \d+ s \(said about \d+ (s|min)\)", first.err)
    (row,) = map(json.loads, Path(with_gpu["TUNEKIT_CACHE"], "pace.jsonl").read_text(encoding="utf-8").splitlines())
    said = read_json(run / "run.json")["said"]
    assert row["ratio"] == pytest.approx(0.01 / said["unlearned_step"], abs=1e-4)
    assert row["seconds_a_token"] == pytest.approx(0.01 / said["tokens_a_step"])
    again = tunekit(
        place, *words[: words.index("try")], "again", *words[words.index("try") + 1 :], "--dry-run", env=with_gpu
    )
    assert "as 1 run on this machine went" in " ".join(again.err.split())


def test_an_out_of_memory_teaches_that_more_was_needed(place: Path, run: Path, with_gpu: dict[str, str]) -> None:
    words = (*KNOWN, *UNPACKED, "--micro-batch", "2", "--max-attempts", "1")
    result = tunekit(place, *words, fake={"oom_above": 0}, env=with_gpu)
    assert result.code == 1
    (row,) = map(json.loads, Path(with_gpu["TUNEKIT_CACHE"], "memory.jsonl").read_text(encoding="utf-8").splitlines())
    assert row["measured"] > 46
    assert outcomes(run) == ["gpu-memory"]


def test_a_run_that_fails_for_another_reason_teaches_nothing(place: Path, run: Path, with_gpu: dict[str, str]) -> None:
    result = tunekit(place, *KNOWN, *UNPACKED, fake={"memory": 45.0, "die": "crash", "die_at": 3}, env=with_gpu)
    assert result.code == 1
    assert not Path(with_gpu["TUNEKIT_CACHE"], "memory.jsonl").exists()


def test_a_stop_saves(place: Path, run: Path) -> None:
    """Steps 3 and 4 are past the checkpoint of --save_steps; the trainer is asked to save before its launcher is."""
    with Started(place, *SFT[:-1], "10", fake={"wait_at": 5}) as started:
        until(lambda: at_step(run, 4), "training starts")
        started.signal(signal.SIGTERM)
        result = started.end()
        assert started.alive() == []
    assert result.code == 130
    assert "tunekit resume try (from checkpoint-4)" in result.err
    state = read_json(run / "run.json")
    assert (state["status"], outcomes(run)) == ("interrupted", ["interrupted"])
    assert "callbacks" not in state["plan"]["settings"]
    assert flags(run / "attempts/1/command.sh")["callbacks"] == "graceful_exit"
    assert tunekit(place, "resume", "try").code == 0
    assert attempts(run)[1]["resumed_from"] == "checkpoint-4"


def test_a_stop_that_saves_nothing_says_what_is_lost(place: Path, run: Path) -> None:
    with Started(place, *SFT[:-1], "4", "--save_only_model", "true", fake={"wait_at": 8}) as started:
        until(lambda: at_step(run, 7), "training starts")
        started.signal(signal.SIGTERM)
        result = started.end()
    assert result.code == 130
    assert "(from checkpoint-4; 3 steps after it are lost)" in " ".join(result.err.split())
    assert "callbacks" not in flags(run / "attempts/1/command.sh")


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU, signal.SIGQUIT])
def test_the_signals_of_schedulers_stop_too(place: Path, run: Path, number: signal.Signals) -> None:
    with Started(place, *SFT, fake={"wait_at": 3}) as started:
        until(lambda: at_step(run, 2), "training starts")
        started.signal(number)
        assert started.end().code == 130
        assert started.alive() == []
    assert read_json(run / "run.json")["status"] == "interrupted"


def test_an_attempt_in_which_tunekit_was_killed_is_counted(place: Path, run: Path) -> None:
    with Started(place, *SFT, fake={"wait_at": 5}) as started:
        until(lambda: at_step(run, 4), "training starts")
        started.signal(signal.SIGKILL)
    result = tunekit(place, "resume", "try")
    assert result.code == 0
    assert outcomes(run) == ["lost", "done"]
    assert [attempt["number"] for attempt in attempts(run)] == [1, 2]
    assert attempts(run)[0]["last_step"] == 4
    assert "2 attempts" in result.err


def test_a_checkpoint_that_cannot_be_read_gives_way_to_the_one_before(place: Path, run: Path) -> None:
    tunekit(place, *SFT, fake={"die": "crash", "die_at": 7})
    result = tunekit(place, "resume", "try", fake={"unreadable": [6, 4]})
    assert result.code == 0, result.err
    assert "checkpoint-6 could not be read, and is kept as it is. The run goes on from checkpoint-4" in result.err
    assert [attempt["resumed_from"] for attempt in attempts(run)] == [
        None,
        "checkpoint-6",
        "checkpoint-4",
        "checkpoint-2",
    ]


def test_a_checkpoint_that_was_cut_off_is_passed_over_and_that_is_said(place: Path, run: Path) -> None:
    tunekit(place, *SFT, fake={"die": "crash", "die_at": 7})
    file = run / "output/checkpoint-6/optimizer.pt"
    file.write_bytes(file.read_bytes()[:-10])
    result = tunekit(place, "resume", "try")
    assert "Passed over, because it is not whole: checkpoint-6." in result.err
    assert attempts(run)[1]["resumed_from"] == "checkpoint-4"


def test_a_run_whose_folder_is_deleted_ends_with_one_line(place: Path, run: Path) -> None:
    with Started(place, *SFT, fake={"wait_at": 3}) as started:
        until(lambda: at_step(run, 2), "training starts")
        shutil.rmtree(run)
        started.signal(signal.SIGTERM)
        result = started.end()
        assert started.alive() == []
    assert result.code == 1
    assert errors(result.err) == ["error: runs/try was deleted while its run went on, and what it had learned with it"]
    assert not run.exists()


def test_neutral_changes_that_are_left_come_before_lossy_ones(place: Path) -> None:
    result = tunekit(place, *SFT, "--max-attempts", "1", fake={"oom_above": 0})
    assert result.code == 1
    assert "--max-attempts" in result.err
    assert "micro-batch 8 → 4" in result.err
    assert "lossy" not in result.err
