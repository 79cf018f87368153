"""Many short runs of ms-swift for the price of one start: it is imported once, then every run is a forked child.

A test asks through `Cases`; the process at the other end is this file run as a program. A run is the same code as
``swift sft`` without its launcher, so what the launcher does (several processes, signals) is not tested here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

START_LIMIT = 300
"""Seconds for the import of ms-swift, on a machine that may be busy; nothing is asserted about time."""

OFFLINE = {"HF_HUB_OFFLINE": "1", "MODELSCOPE_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


# --- the side of the test


@dataclass(frozen=True)
class Group:
    """Parameters that the optimizer treats alike: their learning rate, weight decay, and names."""

    learning_rate: float
    weight_decay: float
    names: frozenset[str]


@dataclass(frozen=True)
class Ended:
    """A run that has ended.

    Attributes:
        code: its exit status; None where it was stopped at the time limit.
        log: all that it wrote to the terminal.
        parameters: names of all parameters, as the model calls them without its adapters; empty where nothing was
            watched or nothing trained.
        trains: those that have a gradient.
        groups: what the optimizer does with them.
        modules: how many modules of each class the model has, as in ``torch.Linear``.
        pixels: the shape of what the vision part sees of the first micro-batch; empty for text.
    """

    code: int | None
    log: str
    parameters: frozenset[str] = frozenset()
    trains: frozenset[str] = frozenset()
    groups: tuple[Group, ...] = ()
    modules: Mapping[str, int] = field(default_factory=dict)
    pixels: tuple[int, ...] = ()


class Cases:
    """The process that holds ms-swift.

    Args:
        vision: a folder with torchvision and its companions to put on the path, as `vision.folder` gives it.
    """

    def __init__(self, vision: Path | None = None) -> None:
        words = [sys.executable, __file__, *([str(vision)] if vision else [])]
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("NPROC", "NNODES"))}
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ | OFFLINE
        )
        self._answer()  # it says once that it is ready

    def run(
        self,
        argv: Sequence[str],
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        limit: float = 240,
        watch: bool = False,
    ) -> Ended:
        """Run one command of ms-swift to its end.

        Args:
            argv: as a dry run's ``--json`` gives it: the words that start ms-swift, the command, its flags.
            folder: an existing folder to run in; ``swift.log`` and, if watched, ``watch.json`` are left there.
            env: variables to set.
            limit: seconds after which the run and all its processes are killed.
            watch: whether to record what trains, in `Ended.trains` and `Ended.groups`.
        """
        command = next(index for index, word in enumerate(argv) if word in ("sft", "pt", "rlhf"))
        seen = folder / "watch.json"
        case = {
            "command": argv[command],
            "words": list(argv[command + 1 :]),
            "folder": str(folder),
            "env": dict(env or {}),
            "limit": limit,
            "log": str(folder / "swift.log"),
            "watch": str(seen) if watch else "",
        }
        seen.unlink(missing_ok=True)
        self._process.stdin.write(json.dumps(case) + "\n")
        self._process.stdin.flush()
        code = self._answer()["code"]
        log = (folder / "swift.log").read_text(encoding="utf-8", errors="replace")
        if not seen.is_file():
            return Ended(code, log)
        found = json.loads(seen.read_text(encoding="utf-8"))
        groups = tuple(Group(rate, decay, frozenset(names)) for rate, decay, names in found["groups"])
        names = frozenset(found["parameters"]), frozenset(found["trains"])
        return Ended(code, log, *names, groups, found["modules"], tuple(found["pixels"]))

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait(30)

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process that holds ms-swift ended with status {self._process.wait(30)}")
        answer: dict[str, Any] = json.loads(line)
        return answer


# --- the side of ms-swift


def main(vision: str = "") -> None:
    """Import ms-swift, then run the cases that come as lines of JSON and answer each with one."""
    answers = os.fdopen(os.dup(1), "w")  # ms-swift prints, so the way back is kept apart
    os.dup2(2, 1)
    kept = None
    if vision:
        sys.path.append(vision)
        from vision import declare_missing_operators

        kept = declare_missing_operators()
    import torch
    from swift.pipelines import pretrain_main, rlhf_main, sft_main

    torch.set_num_threads(1)  # threads do not survive a fork, and the models are tiny
    mains = {"sft": sft_main, "pt": pretrain_main, "rlhf": rlhf_main}
    print(json.dumps({"ready": True, "declared": kept is not None}), file=answers, flush=True)
    for line in sys.stdin:
        case = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _child(case, mains[case["command"]])
        print(json.dumps({"code": _wait(pid, case["limit"])}), file=answers, flush=True)


def _child(case: dict[str, Any], start: Any) -> None:
    """Run one case in this process, which ends with it."""
    os.setsid()
    log = os.open(case["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(case["folder"])
    os.environ.update(case["env"])
    words = case["words"]
    sys.argv = [f"{case['command']}.py", *words]
    code = 1
    try:
        if case["watch"]:
            _watch(case["watch"])
            words = [*words, "--callbacks", "watch"]
        start(words)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001 - of whatever kind: the log is what the test reads
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(pid: int, limit: float) -> int | None:
    """The exit status of a child; None where it had to be killed at the limit."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _watch(path: str) -> None:
    """Register a callback ``watch`` that writes what trains to `path`, before the first step."""
    from swift.callbacks import callbacks_map
    from swift.callbacks.base import TrainerCallback

    class Watch(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            # The trainer wraps model and optimizer; what it was given keeps the names.
            model = self.trainer.model
            names = {
                id(parameter): name.removeprefix("base_model.model.").replace(".base_layer.", ".")
                for name, parameter in model.named_parameters()
            }
            modules: dict[str, int] = {}
            for module in model.modules():
                kind = f"{type(module).__module__.partition('.')[0]}.{type(module).__name__}"
                modules[kind] = modules.get(kind, 0) + 1
            groups = [
                [
                    group["initial_lr"],
                    group["weight_decay"],
                    [names[id(one)] for one in group["params"]],
                ]
                for group in self.trainer.optimizer.param_groups
            ]
            first = next(iter(self.trainer.get_train_dataloader()))
            pixels = None if isinstance(first, list) else first.get("pixel_values")  # GRPO and GKD encode later
            found = {
                "parameters": list(names.values()),
                "trains": [names[id(parameter)] for parameter in model.parameters() if parameter.requires_grad],
                "groups": groups,
                "modules": modules,
                "pixels": [] if pixels is None else list(pixels.shape),
            }
            Path(path).write_text(json.dumps(found), encoding="utf-8")

    callbacks_map["watch"] = Watch


if __name__ == "__main__":
    main(*sys.argv[1:])
