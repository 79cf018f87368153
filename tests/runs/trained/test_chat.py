"""A chat has the terminal, and gives it back as it was."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running import environment, make_run, until

from tunekit.errors import Exit


class Terminal:
    """A tunekit in a terminal of its own, of which all is read that it writes."""

    def __init__(self, folder: Path, *argv: str, fake: dict | None = None) -> None:
        self.pid, self._screen = pty.fork()
        if self.pid == 0:  # pragma: no cover - the child becomes tunekit
            os.chdir(folder)
            env = environment(fake, TERM="xterm", NO_COLOR="1")
            os.execve(sys.executable, [sys.executable, "-m", "tunekit", *argv], env)  # noqa: S606
        self.text = ""
        os.set_blocking(self._screen, False)

    def read(self) -> str:
        """All that was written so far."""
        try:
            self.text += os.read(self._screen, 65536).decode()
        except (BlockingIOError, OSError):
            time.sleep(0.01)
        return self.text

    def shows(self, words: str) -> None:
        """Wait for words."""
        until(lambda: words in self.read(), f"the terminal shows {words}")

    def types(self, keys: str) -> None:
        """Press keys."""
        os.write(self._screen, keys.encode())

    def ends(self) -> int:
        """Wait for the end; the exit code."""

        def code() -> int | None:
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return os.waitstatus_to_exitcode(status) + 1000 if pid else None

        found = until(code, "tunekit ends") - 1000
        self.read()
        return found


@pytest.mark.parametrize(
    ("keys", "code"),
    [("exit\r", Exit.DONE), ("\x04", Exit.DONE), ("\x03", Exit.INTERRUPTED)],
    ids=["exit", "eof", "int"],
)
def test_a_chat_has_the_terminal_and_gives_it_back(keys, code, tmp_path):
    make_run()
    terminal = Terminal(tmp_path, "chat", "kit", fake={"say": ["noise of ms-swift"]})
    terminal.shows("<<< ")
    assert re.search(r"loading kit · checkpoint-15 ….*ready after \d+ s.*<<< ", terminal.text, re.DOTALL)
    terminal.types("Hello\r")
    terminal.shows("checkpoint-15 heard: Hello")
    assert terminal.text.count("ready after") == 1
    # An end of file that comes while nobody reads is lost as the terminal changes its mode.
    until(lambda: terminal.read().rpartition("heard: Hello")[2].count("<<< "), "the next prompt")
    terminal.types(keys)
    assert terminal.ends() == code
    assert "Traceback" not in terminal.text
    assert "noise" not in terminal.text
    assert "loading kit · checkpoint-15" in terminal.text
    log = Path("runs/kit/logs/chat-checkpoint-15.log").read_text(encoding="utf-8")
    assert log == "noise of ms-swift\n"


def test_ctrl_c_ends_a_chat_in_the_middle_of_an_answer(tmp_path):
    make_run()
    terminal = Terminal(tmp_path, "chat", "kit")
    terminal.shows("<<< ")
    terminal.types("wait\r")
    time.sleep(0.2)
    terminal.types("\x03")
    assert terminal.ends() == Exit.INTERRUPTED
    assert "Traceback" not in terminal.text


def test_a_chat_that_fails_says_why(tmp_path):
    make_run()
    terminal = Terminal(tmp_path, "chat", "kit", fake={"fail": "no such template"})
    assert terminal.ends() == Exit.TRAINING_FAILED
    assert "error: the chat failed (exit status 1): ValueError: no such template" in terminal.text
    assert "Traceback" not in terminal.text


def test_a_chat_reads_questions_from_a_pipe(tmp_path):
    make_run()
    words_ = [sys.executable, "-m", "tunekit", "chat", "kit"]
    asked = {"input": "One\nTwo\n", "capture_output": True, "text": True}
    ended = subprocess.run(words_, cwd=tmp_path, env=environment(), check=False, **asked)
    assert ended.returncode == 0, ended.stderr
    assert "heard: One" in ended.stdout
    assert "heard: Two" in ended.stdout
