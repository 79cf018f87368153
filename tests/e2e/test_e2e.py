"""Real runs of the real ms-swift on this machine's CPU: training, out-of-memory, signals, resume.

The models stand in conftest.py: SmolLM2-135M-Instruct, and a tiny random one with its tokenizer.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
TOKEN = "tk-planted-4f1c9a7e2b"
MEMORY_LIMIT = 7_500_000 * 1024
"""Bytes of address space: a micro-batch of 32 long rows of the tiny model does not fit, a smaller one does."""
PATIENCE = 300
"""Seconds after which a wait is given up; nothing is asserted about time."""

pytestmark = [pytest.mark.e2e, pytest.mark.engine]


@pytest.fixture
def environ(tmp_path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TUNEKIT_", "NPROC", "NNODES"))}
    mine = {
        "HF_HUB_OFFLINE": "1",
        "MODELSCOPE_OFFLINE": "1",
        "SWANLAB_API_KEY": TOKEN,
        "TUNEKIT_CONFIG": str(tmp_path / "config"),
        "TUNEKIT_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT),
    }
    return kept | mine


def tunekit(*words: str) -> list[str]:
    return [sys.executable, "-m", "tunekit", *map(str, words)]


def ran(
    command: list[str], folder: Path, environ: dict[str, str], limit: int | None = None
) -> subprocess.CompletedProcess:
    """A command that has ended; `limit` bounds its address space, in bytes."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))) if limit else None,
        check=False,
    )


def train(model: str, data: Path, name: str, *words: str) -> list[str]:
    same = ("--report-to", "none", "--max-length", "1024", "--dataset_shuffle", "false", "--name", name)
    return tunekit("sft", "--model", model, "--dataset", str(data), *same, *words)


def rows(path: Path, lengths: list[int]) -> Path:
    with path.open("w") as file:
        for number, length in enumerate(lengths):
            answer = " ".join(str((number + index) % 10) for index in range(length))
            turns = [{"role": "user", "content": f"Count {number}."}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}) + "\n")
    return path


def run_state(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def logged(folder: Path) -> dict[int, float]:
    """Loss by step; of a repeated step the last one."""
    found = {}
    for line in (folder / "output/logging.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if "loss" in entry and "global_step/max_steps" in entry:
            found[int(entry["global_step/max_steps"].split("/")[0])] = float(entry["loss"])
    return found


def flag_in_script(folder: Path, attempt: int, flag: str) -> str | None:
    script = (folder / f"attempts/{attempt}/command.sh").read_text()
    match = re.search(rf"--{flag} (\S+)", script)
    return match[1] if match else None


def effective(folder: Path, attempt: int) -> int:
    micro = flag_in_script(folder, attempt, "per_device_train_batch_size")
    accumulation = flag_in_script(folder, attempt, "gradient_accumulation_steps")
    processes = re.search(r"NPROC_PER_NODE=(\d+)", (folder / f"attempts/{attempt}/command.sh").read_text())
    return int(micro) * int(accumulation) * (int(processes[1]) if processes else 1)


def trainers(folder: Path) -> list[psutil.Process]:
    """Living processes of ms-swift that write to the run."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if str(folder / "output") in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def wait_until(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, "the run ended before what was waited for"
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)


def assert_no_token(folder: Path, *texts: str) -> None:
    for text in texts:
        assert TOKEN not in text
    for file in folder.rglob("*"):
        if file.is_file():
            assert TOKEN.encode() not in file.read_bytes(), file


def answers(arguments: list[str], target: Path, environ: dict[str, str]) -> list[str]:
    words = ["--device_map", "cpu", "--torch_dtype", "float32", "--max_new_tokens", "40", "--temperature", "0"]
    words += ["--val_dataset", str(ROOT / "examples/questions.jsonl"), "--dataset_num_proc", "1"]
    command = [sys.executable, "-m", "swift.cli.main", "infer", *arguments, *words, "--result_path", str(target)]
    subprocess.run(command, env=environ, check=True, capture_output=True)
    return [json.loads(line)["response"] for line in target.read_text().splitlines()]


def test_a_real_model_learns_a_visible_habit(real_model, tmp_path, environ):
    words = ("--epochs", "3", "--max-length", "128", "--learning-rate", "2e-3", "--lora_alpha", "16", "--name", "kit")
    data = ROOT / "examples/identity.jsonl"
    done = ran(tunekit("sft", "--model", real_model, "--dataset", data, *words), tmp_path, environ)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs/kit"
    losses = logged(folder)
    assert len(losses) == 15
    assert losses[15] < losses[1] / 2
    assert effective(folder, 1) == 32
    assert "Done in" in done.stderr
    assert "tunekit chat kit" in done.stderr
    assert "tunekit merge kit" in done.stderr
    assert (folder / "output/images/train_loss.png").is_file()
    assert_no_token(folder, done.stdout, done.stderr)
    adapter = folder / "output/checkpoint-15"
    assert (adapter / "adapter_model.safetensors").is_file()
    same = ["--model_type", "llama", "--template", "chatml"]
    before = answers(["--model", real_model, *same], tmp_path / "before.jsonl", environ)
    after = answers(["--adapters", str(adapter)], tmp_path / "after.jsonl", environ)
    assert not any("Kit" in answer for answer in before)
    assert sum("Kit" in answer for answer in after) == 3


def test_out_of_memory_ends_in_success_with_the_same_effective_batch(tiny_model, tmp_path, environ):
    data = rows(tmp_path / "growing.jsonl", [12] * 32 + [200] * 32)
    words = ("--micro-batch", "32", "--save_steps", "1", "--train_dataloader_shuffle", "false")
    done = ran(train(tiny_model, data, "oom", *words), tmp_path, environ, MEMORY_LIMIT)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs/oom"
    attempts = run_state(folder)["attempts"]
    assert len(attempts) >= 2
    assert attempts[0]["outcome"] == "host-memory"
    assert "DefaultCPUAllocator" in attempts[0]["evidence"]
    assert attempts[-1]["outcome"] == "done"
    for attempt in attempts:
        assert effective(folder, attempt["number"]) == 32
    for attempt in attempts[1:]:
        assert attempt["resumed_from"] == "checkpoint-1"
        assert (flag_in_script(folder, attempt["number"], "resume_from_checkpoint") or "").endswith("checkpoint-1")
    assert sorted(logged(folder)) == [1, 2]
    assert "effective batch still 32; resumes from checkpoint-1" in done.stderr
    outcome = json.loads((folder / "attempts/1/outcome.json").read_text())
    assert outcome["next_step"].startswith("micro-batch 32 → 16")


def test_out_of_memory_before_a_checkpoint_starts_over_and_gives_up_at_the_limit(tiny_model, tmp_path, environ):
    data = rows(tmp_path / "long.jsonl", [200] * 32)
    done = ran(
        train(tiny_model, data, "small", "--micro-batch", "32", "--max-attempts", "1"), tmp_path, environ, MEMORY_LIMIT
    )
    assert done.returncode == 1
    assert "Out of host memory (RAM)" in done.stderr
    resumed = ran(tunekit("resume", "small", "--max-attempts", "4"), tmp_path, environ)
    assert resumed.returncode == 0, resumed.stderr  # without the limit, the same configuration fits
    attempts = run_state(tmp_path / "runs/small")["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == ["host-memory", "done"]
    assert attempts[1]["resumed_from"] is None


def test_a_stopped_run_leaves_no_process_and_resumes_exactly(tiny_model, tmp_path, environ):
    data = rows(tmp_path / "data.jsonl", [12] * 64)
    same = ("--epochs", "12", "--save_steps", "4", "--micro-batch", "8")
    whole = ran(train(tiny_model, data, "whole", *same), tmp_path, environ)
    assert whole.returncode == 0, whole.stderr
    folder = tmp_path / "runs/cut"
    with (tmp_path / "screen.txt").open("w") as screen:
        process = subprocess.Popen(
            train(tiny_model, data, "cut", *same), cwd=tmp_path, env=environ, stdout=screen, stderr=screen
        )
        wait_until((folder / "output/checkpoint-4/trainer_state.json").is_file, process)
        arguments = subprocess.run(["ps", "-wweo", "args"], capture_output=True, text=True, check=True).stdout
        assert str(folder / "output") in arguments
        assert TOKEN not in arguments
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 130
    assert trainers(folder) == []
    assert run_state(folder)["status"] == "interrupted"
    resumed = ran(tunekit("resume", "cut"), tmp_path, environ)
    assert resumed.returncode == 0, resumed.stderr
    attempts = run_state(folder)["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == ["interrupted", "done"]
    assert attempts[1]["resumed_from"] is not None
    assert logged(folder) == pytest.approx(logged(tmp_path / "runs/whole"), abs=1e-4)
    assert_no_token(folder, (tmp_path / "screen.txt").read_text(), resumed.stdout, resumed.stderr)


def test_sigkill_of_the_trainer_is_told_as_killed_from_outside(tiny_model, tmp_path, environ):
    data = rows(tmp_path / "data.jsonl", [12] * 64)
    folder = tmp_path / "runs/killed"
    words = ("--epochs", "100", "--oom-retry", "off")
    process = subprocess.Popen(
        train(tiny_model, data, "killed", *words),
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until((folder / "output/logging.jsonl").is_file, process)
    for trainer in trainers(folder):
        if "sft.py" in " ".join(trainer.cmdline()):
            trainer.kill()
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "Killed from outside (exit status 247)" in told
    assert "SIGKILL" in told
    assert trainers(folder) == []


def test_two_processes_share_the_effective_batch_and_are_stopped_together(tiny_model, tmp_path, environ):
    data = rows(tmp_path / "data.jsonl", [12] * 64)
    folder = tmp_path / "runs/pair"
    pair = environ | {"NPROC_PER_NODE": "2", "OMP_NUM_THREADS": "1", "MASTER_PORT": "29713"}
    process = subprocess.Popen(
        train(tiny_model, data, "pair", "--epochs", "200"),
        cwd=tmp_path,
        env=pair,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until((folder / "output/logging.jsonl").is_file, process)
    assert len([trainer for trainer in trainers(folder) if "sft.py" in " ".join(trainer.cmdline())]) >= 2
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert trainers(folder) == []
    assert effective(folder, 1) == 32
    assert flag_in_script(folder, 1, "ddp_backend") == "gloo"


@pytest.mark.parametrize(
    ("command", "row", "words"),
    [
        ("pt", {"messages": [{"role": "assistant", "content": "One two three. " * 5}]}, ()),
        (
            "rlhf",
            {
                "messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}],
                "rejected_response": "5",
            },
            ("--rlhf-type", "dpo"),
        ),
    ],
)
def test_the_other_commands_take_the_same_way(command, row, words, tiny_model, tmp_path, environ):
    data = tmp_path / "data.jsonl"
    data.write_text((json.dumps(row) + "\n") * 32)
    same = ("--max_steps", "1", "--report-to", "none", "--name", "once", "--micro-batch", "8")
    done = ran(tunekit(command, "--model", tiny_model, "--dataset", data, *same, *words), tmp_path, environ)
    assert done.returncode == 0, done.stderr
    assert list(logged(tmp_path / "runs/once")) == [1]
    assert effective(tmp_path / "runs/once", 1) == 32
