"""Imports are tried in interpreters of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.engine.environment import TOKENS
from tunekit.engine.probe import IMPORTS, try_import

if TYPE_CHECKING:
    import pytest

SECRET = "hf_planted0123456789abcdef"


def test_an_import_may_fail_hang_crash_or_chatter() -> None:
    assert try_import("print('hello'); found['gpus'] = 2").found == {"gpus": 2}
    broken = try_import("raise ImportError('first\\n  last line\\n')")
    assert (broken.status, broken.line) == ("broken", "ImportError: last line")
    assert try_import("import sys; sys.exit(3)").line == "SystemExit: 3"
    assert try_import("import time; time.sleep(600)", limit=0.5).status == "slow"
    crashed = try_import("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert (crashed.status, crashed.line) == ("broken", "the interpreter was ended by SIGSEGV")
    silent = try_import("import os, sys; print('bad ABI', file=sys.stderr, flush=True); os._exit(1)")
    assert (silent.status, silent.line) == ("broken", "bad ABI")


def test_an_import_is_not_given_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TOKENS, "MY_PASSWORD"):
        monkeypatch.setenv(name, SECRET)
    found = try_import("import os; found['values'] = list(os.environ.values())").found
    assert SECRET not in found["values"]


def test_an_error_shows_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert try_import(f"raise ImportError('no {SECRET}')").error == "ImportError: no ***"
    assert try_import(f"import os, sys; sys.stderr.write('no {SECRET}'); os._exit(1)").error == "no ***"


def test_a_module_of_the_current_folder_is_not_the_installed_one() -> None:
    Path("colorsys.py").write_text("raise SystemExit('not this one')", encoding="utf-8")
    assert try_import("import colorsys").status == "works"


def test_a_variable_that_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the code for torch does it."""
    assert "found = {" in IMPORTS["torch"]
    assert try_import("found = {'gpus': 3}").found == {"gpus": 3}


def test_an_interpreter_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert try_import("").error.startswith("[Errno 2] No such file")
