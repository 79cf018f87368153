"""Words for people."""

import subprocess
import sys

import pytest

from tunekit.errors import TunekitError, Wrong, counted


@pytest.mark.parametrize(("number", "words"), [(0, "0 steps"), (1, "1 step"), (2, "2 steps")])
def test_a_thing_is_counted_in_english(number, words):
    assert counted(number, "step") == words


@pytest.mark.parametrize(("program", "code"), [("tunekit", 130), ("another", -2)])
def test_a_ctrl_c_while_it_is_imported_leaves_no_traceback(program: str, code: int) -> None:
    """Only in the program itself: a package that another one imports leaves its signals alone."""
    words = f"import os, sys; sys.argv = ['/bin/{program}']; import tunekit; os.kill(os.getpid(), 2)"
    ended = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=False)
    assert ended.returncode == code
    assert (ended.stderr == "interrupted\n") is (program == "tunekit")


def test_errors_that_are_found_together_are_raised_together():
    wrong, inner = Wrong(), Wrong()
    for message in ("b", "c"):
        with inner.noted():
            raise TunekitError(message)
    with wrong.noted():
        raise TunekitError("a")
    with wrong.noted():
        inner.tell()
    with pytest.raises(TunekitError) as told:
        wrong.tell()
    assert [one.message for one in (told.value, *told.value.others)] == ["a", "b", "c"]
    Wrong().tell()
    with pytest.raises(ZeroDivisionError), Wrong().noted():
        raise ZeroDivisionError
