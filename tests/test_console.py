"""Streams that are closed, full, or know few signs: a call of tunekit ends well, or says in one line what failed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tunekit.console import CONTROL, coloured, redraws, shown_plainly

if TYPE_CHECKING:
    from pathlib import Path

RUN = f"exec {sys.executable} -m tunekit"
PLAN = "sft --model Qwen2.5-7B --dataset a/b --gpus 24GB --dry-run"


def shell(line: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["/bin/sh", "-c", line], capture_output=True, check=False, timeout=60, env={**os.environ, **environ}
    )


@pytest.mark.parametrize(
    ("streams", "code"), [(">&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 0), ("2>/dev/full", 0), (">/dev/full", 2)]
)
@pytest.mark.parametrize("words", [PLAN, "presets list"])
def test_streams_that_are_closed_or_full(streams: str, code: int, words: str) -> None:
    ended = shell(f"{RUN} {words} {streams}")
    assert ended.returncode == code
    assert b"fault of tunekit" not in ended.stderr
    assert b"Traceback" not in ended.stderr
    assert code == 0 or b"No space left on device" in ended.stderr


@pytest.mark.parametrize("encoding", ["ascii:strict", "latin-1:strict", "utf-8:strict"])
def test_terminals_that_know_few_signs(encoding: str) -> None:
    for words in (PLAN, "presets list", "--help"):
        ended = shell(f"{RUN} {words}", PYTHONIOENCODING=encoding)
        assert (ended.returncode, b"fault" in ended.stderr) == (0, False)
    name = os.fsdecode(b"caf\xe9.jsonl")
    ended = shell(f"{RUN} sft --model Qwen2.5-7B --gpus 24GB --dry-run --dataset {name}", PYTHONIOENCODING=encoding)
    assert ended.returncode in (0, 4)
    assert b"caf\xe9.jsonl does not exist" in ended.stderr


def test_a_closed_stream_does_not_become_a_file(tmp_path: Path) -> None:
    """Else the script that is written gets the number of standard output, and what is printed."""
    ended = shell(f"cd {tmp_path} && {RUN} {PLAN} --write go.sh >&-")
    assert ended.returncode == 0
    assert (tmp_path / "go.sh").read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n# Written by")


def test_signs_that_a_terminal_obeys(tmp_path: Path) -> None:
    assert shown_plainly("a\x1b]52;c;aGk=\x07\tb\n\u202e") == "a\\x1b]52;c;aGk=\\x07\tb\n\\u202e"
    assert shown_plainly("\x1b[1;31merror:\x1b[0m") == "\x1b[1;31merror:\x1b[0m"
    (tmp_path / "x.jsonl").write_text('{"a\\u001b]52;c;aGk=\\u0007": 1}\n', encoding="utf-8")
    ended = shell(f"cd {tmp_path} && {RUN} sft --model Qwen2.5-7B --gpus 24GB --dry-run --dataset x.jsonl")
    assert ended.returncode in (0, 4)
    assert b"52;c;aGk=" in ended.stderr
    assert not CONTROL.search(ended.stderr.decode())


def test_where_a_line_is_coloured_and_where_it_can_be_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert not coloured(stream)
    monkeypatch.setattr(stream, "isatty", lambda: True)
    assert coloured(stream)
    monkeypatch.setenv("NO_COLOR", "1")
    assert (coloured(stream), redraws(stream)) == (False, True)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert (coloured(stream), redraws(stream)) == (False, False)
