"""The trainer of the stand-in. How it behaves is said by the JSON object in the variable ``FAKE_SWIFT``.

steps: 12           optimizer steps of the whole run
oom_above: 2        out of memory while the micro-batch is larger
oom_unless: {"lora_rank": "4"}   out of memory unless these flags have these values
oom_at: 3           at which step; oom_in: train, evaluate or load
die: kill, crash, memory   at step die_at: SIGKILL without a word, an exception of its own, a MemoryError
diverge_at: 3       from that step on the loss is 0 and the gradient's norm NaN
wait_at: 5          wait there for the file `go` beside the output; only in a run that was not resumed
ignore: ["SIGINT"]  signals that do nothing
child: 60           start a process in a session of its own that ignores SIGINT and SIGTERM and lives so long
chatty: true        that process prints, and the trainer ends before it
say: [...]          lines to print; show: names of variables to print the values of
memory: 30.5        GiB that PyTorch reserved, in every log line
bars: true          progress bars, redrawn with carriage returns
halt: "/x/stop"      at step halt_at this file appears, which ends every training that may be stopped
pace: 0.2           seconds that every step takes
ballast: 400000     bytes that every optimizer takes
unreadable: [8]     it cannot read the checkpoints of these steps
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any, NoReturn

CHILD = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
end = time.monotonic() + float(sys.argv[1])
print("the child has started", flush=True)
while time.monotonic() < end:
    time.sleep(0.02)
    if sys.argv[2] == "chatty":
        print("the child lives", flush=True)
"""

TOLD: dict[str, Any] = json.loads(os.environ.get("FAKE_SWIFT", "{}"))


class OutOfMemoryError(RuntimeError):
    """As torch has it."""


OutOfMemoryError.__module__ = "torch"


def out_of_memory() -> NoReturn:
    message = (
        "CUDA out of memory. Tried to allocate 2.32 GiB. GPU 0 has a total capacity of 39.14 GiB of which 1.10 GiB "
        "is free. Including non-PyTorch memory, this process has 38.04 GiB memory in use."
    )
    raise OutOfMemoryError(message)


def training_step() -> NoReturn:
    out_of_memory()


def evaluation_loop() -> NoReturn:
    out_of_memory()


def from_pretrained() -> NoReturn:
    out_of_memory()


FAIL_IN = {"train": training_step, "evaluate": evaluation_loop, "load": from_pretrained}


def read_flags(argv: list[str]) -> dict[str, str]:
    flags: dict[str, list[str]] = {}
    for word in argv:
        if word.startswith("--"):
            flags[word[2:]] = []
        else:
            flags[list(flags)[-1]].append(word)
    return {flag: " ".join(words) for flag, words in flags.items()}


def too_large(flags: dict[str, str]) -> bool:
    if "oom_above" in TOLD:
        return int(flags["per_device_train_batch_size"]) > TOLD["oom_above"]
    return "oom_unless" in TOLD and any(flags.get(flag) != value for flag, value in TOLD["oom_unless"].items())


def check_data(flags: dict[str, str]) -> None:
    """ms-swift takes a file that is not there for an id on a hub, and after 52 s it says so."""
    for name in flags["dataset"].split():
        if not Path(name.partition("#")[0]).is_file():
            print(f"Dataset {name} load failed: error: [E1001]", file=sys.stderr, flush=True)
            raise ValueError(name)


def _load_from_checkpoint() -> NoReturn:
    raise RuntimeError("PytorchStreamReader failed reading zip archive: failed finding central directory")


def begin_at(flags: dict[str, str]) -> int:
    if "resume_from_checkpoint" not in flags:
        return 0
    checkpoint = Path(flags["resume_from_checkpoint"])
    if int(checkpoint.name.rpartition("-")[2]) in TOLD.get("unreadable", []):
        _load_from_checkpoint()
    for name in ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        if not (checkpoint / name).read_bytes():
            raise EOFError(name)
    step: int = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
    return step


def save(output: Path, step: int, micro: int) -> None:
    folder = output / f"checkpoint-{step}"
    folder.mkdir(exist_ok=True)
    content = f"adapter_model.safetensors of step {step}".encode()
    header = json.dumps({"x": {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]}}).encode()
    (folder / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + content)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("archive/data.pkl", f"{name} of step {step}")
            archive.writestr("archive/ballast", bytes(TOLD.get("ballast", 0) if name == "optimizer.pt" else 0))
    state = {"global_step": step, "train_batch_size": micro}
    (folder / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    link = output / "last-checkpoint"
    new = output / ".last-checkpoint.new"
    new.symlink_to(folder.name)
    new.replace(link)


def misbehave() -> subprocess.Popen[bytes] | None:
    for name in TOLD.get("ignore", []):
        signal.signal(signal.Signals[name], signal.SIG_IGN)
    for line in TOLD.get("say", []):
        print(line, file=sys.stderr, flush=True)
    for name in TOLD.get("show", []):
        print(f"the value of {name} is {os.environ.get(name)}", file=sys.stderr, flush=True)
    if TOLD.get("bars"):
        for percent in range(0, 101, 10):
            print(f"\rLoading: {percent}%", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr, flush=True)
    if "child" in TOLD:
        words = [sys.executable, "-c", CHILD, str(TOLD["child"]), "chatty" if TOLD.get("chatty") else "quiet"]
        return subprocess.Popen(words, start_new_session=True)
    return None


STOPPED: list[int] = []
"""The SIGTERM after which it saves and ends, as ms-swift does with ``--callbacks graceful_exit``."""


def wait_for_go(output: Path) -> None:
    while not (output.parent / "go").exists() and not STOPPED:
        time.sleep(0.02)


def log(file: Path, entry: dict[str, Any]) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")


def train_step(step: int, steps: int, flags: dict[str, str], output: Path) -> int:
    """Train one step; gives the one that is done then."""
    if step == TOLD.get("oom_at", 3) and too_large(flags) and TOLD.get("oom_in", "train") in ("train", "evaluate"):
        FAIL_IN[TOLD.get("oom_in", "train")]()
    if step == TOLD.get("die_at", 1) and TOLD.get("die") == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if step == TOLD.get("die_at", 1) and TOLD.get("die") == "crash":
        raise KeyError("input_ids")
    if step == TOLD.get("die_at", 1) and TOLD.get("die") == "memory":
        raise MemoryError
    if step == TOLD.get("wait_at") and "resume_from_checkpoint" not in flags:
        wait_for_go(output)
        if STOPPED:
            return step - 1
    loss = math.nan if step == TOLD.get("nan_at") else round(2 / (1 + step), 4)
    entry = {
        "loss": loss,
        "learning_rate": 0.001,
        "epoch": step / steps,
        "global_step/max_steps": f"{step}/{steps}",
        "train_speed(s/it)": 0.01,
    }
    if "diverge_at" in TOLD:
        wrong = step >= TOLD["diverge_at"]
        entry |= {"loss": 0.0 if wrong else loss, "grad_norm": math.nan if wrong else 1.0}
    if "memory" in TOLD:
        entry["memory(GiB)"] = TOLD["memory"]
    # ms-swift logs first. Here a test that has seen a step in the log may kill at once: what it saves must be whole.
    if step % int(flags["save_steps"]) == 0 or step == steps:
        save(output, step, int(flags["per_device_train_batch_size"]))
    log(output / "logging.jsonl", entry)
    print({"loss": str(loss)}, flush=True)
    return step


def main() -> None:
    flags = read_flags(sys.argv[1:])
    output = Path(flags["output_dir"])
    if "graceful_exit" in flags.get("callbacks", "").split():
        signal.signal(signal.SIGTERM, lambda number, _: STOPPED.append(number))
    misbehave()
    check_data(flags)
    if TOLD.get("oom_in") == "load" and too_large(flags):
        from_pretrained()
    steps = TOLD.get("steps", 12)
    (output / "args.json").write_text(json.dumps(flags | {"pid": os.getpid()}), encoding="utf-8")
    step = begin_at(flags)
    try:
        while step < steps and not STOPPED:
            step += 1
            time.sleep(TOLD.get("pace", 0))
            done = train_step(step, steps, flags, output)
            if step == TOLD.get("halt_at"):
                Path(TOLD["halt"]).touch()
                STOPPED.append(0)
            if STOPPED:
                save(output, done, int(flags["per_device_train_batch_size"]))
    finally:  # as ms-swift does, also after a failure
        link = output / "last-checkpoint"
        last = str(link.resolve()) if link.exists() else None
        log(output / "logging.jsonl", {"last_model_checkpoint": last, "best_model_checkpoint": None})
        print(f"[INFO:swift] last_model_checkpoint: {last}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
