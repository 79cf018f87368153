"""Runs of ms-swift that do not wait for its import: processes that have it imported stand ready, one for each run.

A run is a fresh process, as ``swift sft`` is without its launcher; only its start was earlier. Nothing is forked, since
a process that has asked CUDA for anything cannot be.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class WarmEngines:
    """Processes that wait for a run.

    Args:
        env: variables that matter while ms-swift is imported: where hubs keep things, which GPU.
        ahead: how many stand ready.
        runs: how many will be asked for at most.
    """

    def __init__(self, env: Mapping[str, str], ahead: int, runs: int) -> None:
        self._env, self._runs = dict(env), runs
        self._ready: deque[subprocess.Popen[str]] = deque()
        for _ in range(ahead):
            self._start()

    def _start(self) -> None:
        if not self._runs:
            return
        self._runs -= 1
        words = [sys.executable, __file__]
        self._ready.append(
            subprocess.Popen(words, stdin=subprocess.PIPE, env=self._env, text=True, start_new_session=True)
        )

    def run(self, words: list[str], env: Mapping[str, str], folder: Path, log: Path, limit: float) -> int | None:
        """The exit status of ``swift WORDS``; None where its time was up. None of its processes is left."""
        log.touch()
        process = self._ready.popleft()
        self._start()
        case = {"words": words, "env": dict(env), "folder": str(folder), "log": str(log)}
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(case) + "\n")
            process.stdin.close()
            return process.wait(max(0.0, limit))
        except subprocess.TimeoutExpired:
            return None
        except BrokenPipeError:  # it ended as it imported; what it said stands on the terminal
            return process.wait()
        finally:
            end(process)

    def close(self) -> None:
        """End those that were not needed."""
        while self._ready:
            end(self._ready.popleft())


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a process that leads a group, and the group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> int:
    """Import ms-swift, then run the one case that comes as a line of JSON; its exit status."""
    from swift.pipelines import rlhf_main, sft_main

    line = sys.stdin.readline()
    if not line:
        return 0
    case = json.loads(line)
    log = os.open(case["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(case["folder"])
    os.environ.update(case["env"])
    command, *words = case["words"]
    sys.argv = [f"{command}.py", *words]
    try:
        {"sft": sft_main, "rlhf": rlhf_main}[command](words)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001 - of whatever kind: its text is what the reader of the log wants
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # what ms-swift leaves running does not keep the next row waiting
