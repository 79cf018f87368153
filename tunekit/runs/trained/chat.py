"""Hand the terminal to ``swift infer``, and take it back as it was."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING

from tunekit.console import say
from tunekit.engine.command import child_environment
from tunekit.engine.failures import failure_in
from tunekit.errors import Exit
from tunekit.plan.secrets import redact, secret_values
from tunekit.runs.attempts import engine_or_fail
from tunekit.runs.supervisor import TICK, StopRequest, wait_for
from tunekit.runs.trained.use import program_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tunekit.runs.trained.job import Job

TALK = """
import builtins, runpy, sys, time
began, ask = time.monotonic(), builtins.input
def first(*words):
    builtins.input = ask
    print(f"ready after {time.monotonic() - began:.0f} s: write to it", flush=True)
    return ask(*words)
builtins.input = first
sys.path[:] = filter(None, sys.path)
try:
    import readline
except ImportError:
    pass
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except (EOFError, KeyboardInterrupt):
    print(flush=True)
"""
"""Runs ms-swift's own chat, and says when it first asks for words: then the model is loaded. Ctrl-C and Ctrl-D end it
without a traceback; without readline its prompt would be written to stderr, which is the log; and the current folder is
taken from the path: a torch.py there is not torch."""

ENDS_ITSELF = 1.0
"""Seconds that a chat gets after a Ctrl-C, which has reached it too."""

LADDER = ((signal.SIGINT, 3.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
"""How it is ended then, and the seconds that each signal gets: it may be in the middle of an answer."""


def talk_with(job: Job) -> int:
    """Chat, with ms-swift's messages in a log, secrets struck out; gives the exit code. Raises TunekitError."""
    engine, command, log = engine_or_fail(), job.to_talk(), job.target.log("chat")
    say(f"loading {job.target.name} …")
    say("exit or Ctrl-D ends · clear forgets what was said · multi-line takes lines up to one with #")
    log.parent.mkdir(parents=True, exist_ok=True)
    # Without `swift infer`, argv[:2]: its launcher would print the whole command.
    words = [engine.python, "-c", TALK, str(engine.root / "cli" / "infer.py"), *command.argv[2:]]
    with StopRequest() as stop, _terminal_kept(), log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(words, env=child_environment(command, os.environ), stderr=subprocess.PIPE)
        messages = threading.Thread(target=_keep, args=(process.stderr, file), daemon=True)
        messages.start()
        try:
            while process.poll() is None and not stop.received:
                wait_for(process, TICK)
        finally:
            _end(process)
            messages.join(timeout=5)
    if stop.received:
        return int(Exit.INTERRUPTED)
    if process.returncode != 0:
        raise program_error("the chat", failure_in(log, process.returncode), log)
    return int(Exit.DONE)


def _keep(stream: IO[bytes], file: IO[str]) -> None:
    secrets = secret_values(os.environ)
    for line in stream:
        file.write(redact(line.decode("utf-8", errors="replace"), secrets))
        file.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave no process behind, also none that the chat has started."""
    import psutil

    if process.poll() is None:
        wait_for(process, ENDS_ITSELF)
    if process.poll() is not None:
        return
    started = psutil.Process(process.pid).children(recursive=True)
    for number, patience in LADDER:
        if process.poll() is not None:
            break
        process.send_signal(number)
        wait_for(process, patience)
    for other in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            other.kill()


@contextlib.contextmanager
def _terminal_kept() -> Iterator[None]:
    """Give the terminal back with the settings that it had: a chat that is killed leaves it without an echo."""
    if not sys.stdin.isatty():
        yield
        return
    import termios

    before = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
