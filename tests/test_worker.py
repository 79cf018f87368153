"""A worker with real children: what they answer, and every way in which they do not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tunekit.worker import START, Worker, WorkerFailed, ask_once

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Ask a function ``answer`` with this text, in a process of its own."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{REPOSITORY}")

    def ask(body: str, question: object = None, seconds: float | None = 60, **variables: str) -> dict[str, Any]:
        text = "import os, sys\n\n\ndef answer(question):\n" + "".join(f"    {line}\n" for line in body.split("\n"))
        (folder / "own.py").write_text(text, encoding="utf-8")
        return ask_once("own:answer", question, seconds, {**os.environ, **variables})

    return ask


def failure(call: Callable[..., Any], *args: Any) -> WorkerFailed:
    with pytest.raises(WorkerFailed) as raised:
        call(*args)
    assert "\n" not in str(raised.value)
    return raised.value


def gone(pid: int) -> bool:
    """Whether a process has ended; as a zombie it may stay until its new parent looks."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_a_question_is_answered(ask: Any) -> None:
    question = {"words": ["Ünter", "7 + 5", "two\nlines"], "number": 1.5}
    assert ask("return {'back': question, 'pid': os.getpid() != question}", question)["back"] == question


def test_what_is_printed_is_no_answer(ask: Any) -> None:
    body = "print('{}'); os.system('echo []'); sys.stderr.write('noise'); os.write(1, b'{}')\n"
    body += "return {'read': sys.stdin.read()}"
    assert ask(body) == {"read": ""}


def test_its_environment_is_the_one_that_is_given(ask: Any) -> None:
    assert ask("return {'found': os.environ.get('OWN')}", OWN="yes") == {"found": "yes"}


def test_the_current_folder_is_not_on_the_path(ask: Any, tmp_path: Path) -> None:
    for name in ("torch", "json", "tunekit", "contextlib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')", encoding="utf-8")
    found = ask("import json, tunekit; return {'path': sys.path, 'here': os.getcwd(), 'words': sys.argv[1:]}")
    assert found["here"] == str(tmp_path)
    assert {"", str(tmp_path)}.isdisjoint(found["path"])
    assert found["path"][-1] == str(REPOSITORY)
    assert found["words"] == []


def test_one_that_hangs_is_ended_with_all_that_it_started(ask: Any, tmp_path: Path) -> None:
    body = (
        "import pathlib, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "pathlib.Path('child').write_text(str(child.pid))\n"
        "time.sleep(600)"
    )
    late = failure(ask, body, None, 1.5)
    assert late.late
    assert str(late) == "it did not answer within 1.5 s"
    assert gone(int((tmp_path / "child").read_text(encoding="utf-8")))


def test_what_it_started_ends_with_it(ask: Any) -> None:
    body = "import subprocess; return {'pid': subprocess.Popen(['sleep', '600']).pid}"
    assert gone(ask(body)["pid"])


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("sys.exit(3)", 1, "SystemExit: 3"),
        ("os._exit(3)", 3, "status 3"),
        ("print('last words', flush=True); os._exit(4)", 4, "last words"),
        ("os.abort()", -6, "status -6"),
        ("raise ValueError('boom')", 1, "ValueError: boom"),
        ("import nowhere_at_all", 1, "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("return {1}", 1, "TypeError: Object of type set is not JSON serializable"),
        ("if os.fork(): os._exit(5)\nimport time; time.sleep(600)", 5, "status 5"),
    ],
)  # fmt: skip
def test_one_that_dies(ask: Any, body: str, status: int, said: str) -> None:
    died = failure(ask, body)
    assert (died.status, died.late, str(died)) == (status, False, said)


def test_threads_that_are_left_do_not_keep_it(ask: Any) -> None:
    body = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\n"
    assert ask(body + "return {}") == {}
    assert str(failure(ask, body + "raise ValueError('boom')")) == "ValueError: boom"


@pytest.mark.parametrize("answer", ["[]", "null", "3"])
def test_an_answer_that_is_no_object(ask: Any, answer: str) -> None:
    body = f"import json; return json.loads('{answer}')"
    assert str(failure(ask, body)) == "its worker answered no object"


def test_an_answer_that_is_no_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho hello\nsleep 600\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    assert str(failure(ask_once, "own:answer", None, 60)) == "its worker answered no object"


def test_an_interpreter_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    failed = failure(ask_once, "own:answer", None)
    assert failed.status is None
    assert "No such file" in str(failed)


def test_a_question_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger than what a pipe holds."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert str(failure(ask_once, "own:answer", "x" * 1_000_000, 60)) == "status 1"
    monkeypatch.setattr(sys, "executable", "/bin/sleep")
    assert failure(ask_once, "own:answer", "x" * 1_000_000, 60).status == 1


def test_one_worker_answers_many_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """\
        import os
        count = 0
        def answer(question):
            global count
            count += 1
            if question == "die":
                raise ValueError("boom")
            return {"pid": os.getpid(), "count": count, "question": question}
        """
    (tmp_path / "modules").mkdir()
    lines = [line.removeprefix(" " * 8) for line in text.splitlines()]
    (tmp_path / "modules" / "own.py").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'modules'}{os.pathsep}{REPOSITORY}")
    with Worker("own:answer") as worker:
        first = [worker.ask(number, 60) for number in range(3)]
        assert [(one["count"], one["question"]) for one in first] == [(1, 0), (2, 1), (3, 2)]
        assert len({one["pid"] for one in first}) == 1
        assert str(failure(worker.ask, "die", 60)) == "ValueError: boom"
        again = worker.ask("anew", 60)
        assert again["count"] == 1, "of a new process"
    assert gone(first[0]["pid"])
    assert gone(again["pid"])
    Worker("own:answer").__exit__()  # one that was never asked


def test_a_child_that_left_the_group_ends_too(ask: Any) -> None:
    body = "pid = os.fork()\nif pid == 0:\n    os.setsid(); import time; time.sleep(600)\nreturn {'pid': pid}"
    assert gone(ask(body)["pid"])


def test_one_that_floods_is_ended(ask: Any) -> None:
    flooded = failure(ask, "while True: print('x' * 1000000)", None, 50)
    assert (str(flooded), flooded.late) == ("it printed more than 16 MiB", False)


def test_the_last_line_of_much_is_kept(ask: Any) -> None:
    body = "for n in range(40): print('x' * 1000000)\nprint('last words', flush=True); os._exit(4)"
    assert str(failure(ask, body, None, None)) == "last words"


def test_it_ends_with_the_one_who_asks_however_that_one_ends(tmp_path: Path) -> None:
    body = ("pathlib.Path(where).write_text(str(os.getpid()))", "time.sleep(600)")
    text = "".join(f"    {line}\n" for line in body)
    (tmp_path / "own.py").write_text(f"import os, pathlib, time\ndef answer(where):\n{text}", encoding="utf-8")
    asking = f"from tunekit.worker import ask_once; ask_once('own:answer', {str(tmp_path / 'pid')!r})"
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}
    for number in (signal.SIGTERM, signal.SIGKILL):
        (tmp_path / "pid").unlink(missing_ok=True)
        with subprocess.Popen([sys.executable, "-c", asking], env=env) as process:
            end = time.monotonic() + 60
            while not ((tmp_path / "pid").is_file() and (tmp_path / "pid").read_text()) and time.monotonic() < end:
                time.sleep(0.02)
            process.send_signal(number)
        assert gone(int((tmp_path / "pid").read_text()))


def test_it_ends_where_the_one_who_asks_was_gone_before_it_began(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("import time\ndef answer(_): time.sleep(600)", encoding="utf-8")
    with subprocess.Popen(["true"]) as asker:
        pass
    words = [sys.executable, "-c", START, str(REPOSITORY), "own:answer", str(asker.pid)]
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}
    with subprocess.Popen(words, stdin=subprocess.PIPE, env=env, start_new_session=True) as worker:
        assert worker.stdin is not None
        worker.stdin.write(b"1\n")
        worker.stdin.flush()
        assert worker.wait(30) == -signal.SIGKILL
