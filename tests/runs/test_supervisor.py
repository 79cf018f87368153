"""Real processes, started, written down and stopped."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from running import SFT, Started, at_step, processes, read_json, tunekit, until, variables

from tunekit.runs import supervisor
from tunekit.runs.supervisor import MARK, Ended, StopRequest, line_states, supervise

if TYPE_CHECKING:
    from collections.abc import Callable

STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "train.log"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "TICK", 0.02)


def run(program: str, log: Path, stop: StopRequest | None = None, **options: Any) -> Ended:
    """Run a Python program under supervision."""
    env = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", **options.pop("env", {})}
    return supervise([sys.executable, "-c", program], env, log, stop=stop or StopRequest(), **options)


def marked(argument: str) -> list[int]:
    """Living processes that carry ``WHO=<argument>``, and the mark of an attempt."""
    return [
        pid
        for pid in processes()
        if f"WHO={argument}" in variables(pid) and any(word.startswith(f"{MARK}=") for word in variables(pid))
    ]


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("pass", 0),
        ("raise SystemExit(3)", 3),
        ("1/0", 1),
        ("import os; os.kill(os.getpid(), 9)", -9),
        ("import os; os.kill(os.getpid(), 15)", -15),
    ],
)
def test_the_exit_status(program: str, status: int, log: Path) -> None:
    ended = run(program, log)
    assert (ended.status, ended.stopped_by) == (status, None)
    assert ended.seconds > 0


def test_a_program_that_cannot_be_started(log: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        supervise(["/absent/program"], {}, log, stop=StopRequest())


def test_both_streams_reach_the_log_in_order(log: Path) -> None:
    program = "import sys\nfor i in range(50): print(i, file=(sys.stdout, sys.stderr)[i % 2])"
    run(program, log)
    assert log.read_text(encoding="utf-8").split() == [str(number) for number in range(50)]


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (b"a\rb\rc\n", "c\n"),
        (b"windows\r\n", "windows\n"),
        (b"\rLoading 10%\rLoading 100%\r\nnext\n", "Loading 100%\nnext\n"),
        (b"no end of line", "no end of line\n"),
        (b"bar 10%\rbar 99%", "bar 99%\n"),
        (b"\xff\xfe bad bytes\n", "\ufffd\ufffd bad bytes\n"),
        ("Größe 学习\n".encode(), "Größe 学习\n"),
        (b"\n\n", "\n\n"),
        (b"x" * 300_000 + b"\n", "x" * 300_000 + "\n"),
    ],
)
def test_what_the_log_keeps(written: bytes, kept: str, log: Path, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(written)
    run(f"import sys; sys.stdout.buffer.write(open({str(tmp_path / 'bytes')!r}, 'rb').read())", log)
    assert log.read_text(encoding="utf-8") == kept


def test_secrets_are_struck_out(log: Path) -> None:
    run(
        "import os; print('key', os.environ['K']); print('\\rbar', os.environ['K'] * 2)",
        log,
        env={"K": "hunter2-hunter2"},
        secrets=["hunter2-hunter2"],
    )
    assert log.read_text(encoding="utf-8") == "key ***\nbar ******\n"


def test_input_is_empty_and_the_session_its_own(log: Path) -> None:
    run("import os, sys; print(repr(sys.stdin.read()), os.getsid(0) == os.getpid())", log)
    assert log.read_text(encoding="utf-8") == "'' True\n"


def test_descriptors_that_are_to_be_inherited(log: Path, tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock, (tmp_path / "other").open("w") as other:
        program = (
            "import os\n"
            f"for number in ({lock.fileno()}, {other.fileno()}):\n"
            "    try: os.fstat(number); print('open')\n"
            "    except OSError: print('closed')"
        )
        run(program, log, inherit=(lock.fileno(),))
    assert log.read_text(encoding="utf-8").split() == ["open", "closed"]


def test_it_ticks(log: Path) -> None:
    """The program ends only when the tick has made a file."""
    go = log.with_name("go")
    run(f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)", log, on_tick=go.touch)
    assert go.exists()


def test_a_tick_that_fails_leaves_no_process(log: Path) -> None:
    def fail() -> None:
        if log.exists() and "up" in log.read_text(encoding="utf-8"):
            raise RuntimeError("tick")

    with pytest.raises(RuntimeError, match="tick"):
        run("import time; print('up'); time.sleep(600)", log, on_tick=fail, env={"WHO": str(log)})
    assert marked(str(log)) == []


def once(log: Path, text: str, action: Callable[[], object]) -> Callable[[], None]:
    """A tick that acts once, as soon as `text` stands in the log."""
    done: list[bool] = []

    def tick() -> None:
        if not done and log.exists() and text in log.read_text(encoding="utf-8"):
            done.append(True)
            action()

    return tick


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_to_tunekit_ends_the_program(number: signal.Signals, log: Path) -> None:
    before = [signal.getsignal(item) for item in STOPS]
    with StopRequest() as stop:
        tick = once(log, "up", lambda: os.kill(os.getpid(), number))
        ended = run("import time; print('up'); time.sleep(600)", log, stop, on_tick=tick, env={"WHO": str(log)})
        assert stop.received == [number]
    assert ended.stopped_by is number
    assert ended.status == -signal.SIGINT, "the program is asked the friendly way, whatever tunekit received"
    assert marked(str(log)) == []
    assert [signal.getsignal(item) for item in STOPS] == before


@pytest.mark.parametrize(
    ("ignored", "status"),
    [
        (["SIGINT"], -signal.SIGTERM),
        (["SIGINT", "SIGTERM"], -signal.SIGKILL),
    ],
)
def test_the_ladder_of_signals(ignored: list[str], status: int, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ladder = ((signal.SIGINT, 0.3), (signal.SIGTERM, 0.3), (signal.SIGKILL, 5.0))
    monkeypatch.setattr(supervisor, "STOP_LADDER", ladder)
    lines = [f"signal.signal(signal.{name}, signal.SIG_IGN)" for name in ignored]
    program = "\n".join(["import signal, time", *lines, "print('up')", "time.sleep(600)"])
    with StopRequest() as stop:
        tick = once(log, "up", lambda: os.kill(os.getpid(), signal.SIGTERM))
        ended = run(program, log, stop, on_tick=tick, env={"WHO": str(log)})
    assert ended.status == status
    assert ended.stopped_by is signal.SIGTERM
    assert marked(str(log)) == []


def test_a_program_may_take_its_time_to_save(log: Path) -> None:
    """It writes for a while after the SIGINT, ends by itself, and is not disturbed again."""
    program = (
        "import time\nprint('up')\n"
        "try: time.sleep(600)\n"
        "except KeyboardInterrupt:\n    time.sleep(0.5)\n    print('saved')\n    raise SystemExit(7)"
    )
    with StopRequest() as stop:
        tick = once(log, "up", lambda: os.kill(os.getpid(), signal.SIGINT))
        ended = run(program, log, stop, on_tick=tick)
    assert ended.status == 7
    assert "saved" in log.read_text(encoding="utf-8")


WORKER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), sys.exit()))
print('worker', flush=True)
time.sleep(600)
"""
AGENT = f"""
import os, subprocess, sys
many = [subprocess.Popen([sys.executable, '-c', {WORKER!r}], env=dict(os.environ, LOCAL_RANK=str(n))) for n in (0, 1)]
sys.exit(max(one.wait() for one in many))
"""


def test_several_trainers_are_asked_and_not_what_started_them(log: Path) -> None:
    """torchrun takes a SIGTERM for a failure, and its workers get no time beyond 30 s."""
    launcher = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {AGENT!r}]).returncode)"
    asked: list[int] = []

    def tick() -> None:
        if not asked and log.exists() and log.read_text(encoding="utf-8").count("worker") == 2:
            asked.append(1)
            os.kill(os.getpid(), signal.SIGTERM)

    with StopRequest() as stop:
        ended = run(launcher, log, stop, on_tick=tick, saves=lambda: 30.0)
    assert ended.status == 0
    assert log.read_text(encoding="utf-8").count("saved") == 2


def test_a_second_signal_hurries(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left alone after the first SIGINT, the program would end by itself, long before the ladder goes on."""
    monkeypatch.setattr(supervisor, "STOP_LADDER", ((signal.SIGINT, 60.0), (signal.SIGTERM, 60.0)))
    program = (
        "import signal, time\n"
        "def asked(*_):\n    print('asked')\n    time.sleep(20)\n    raise SystemExit(0)\n"
        "signal.signal(signal.SIGINT, asked)\nprint('up')\ntime.sleep(600)"
    )
    with StopRequest() as stop:
        first = once(log, "up", lambda: os.kill(os.getpid(), signal.SIGINT))
        second = once(log, "asked", lambda: os.kill(os.getpid(), signal.SIGINT))

        def both() -> None:
            first()
            second()

        ended = run(program, log, stop, on_tick=both)
    assert ended.status == -signal.SIGTERM


IN_A_SESSION = """
import signal, subprocess, sys
program = '''
import signal, sys, time
if {ignores}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
print("up", flush=True)
while True:
    time.sleep(0.001 if {chatty} else 0.02)
    if {chatty}: print("still here", flush=True)
'''
output = subprocess.PIPE if {piped} else None
child = subprocess.Popen([sys.executable, "-c", program], start_new_session=True, stdout=output)
if {waits}: child.wait()
if {piped}: child.stdout.readline()
"""


@pytest.mark.parametrize("ignores", [False, True])
def test_a_child_in_a_session_of_its_own_is_ended_too(ignores: bool, log: Path) -> None:
    """As torchrun's workers are; some of them ignore the friendly signals."""
    program = IN_A_SESSION.format(ignores=ignores, chatty=False, piped=False, waits=True)
    with StopRequest() as stop:
        tick = once(log, "up", lambda: os.kill(os.getpid(), signal.SIGINT))
        run(program, log, stop, on_tick=tick, env={"WHO": str(log)})
    assert marked(str(log)) == []


def test_a_child_that_outlives_its_parent_is_ended(log: Path) -> None:
    program = IN_A_SESSION.format(ignores=False, chatty=False, piped=True, waits=False)
    ended = run(program, log, env={"WHO": str(log)})
    assert ended.status == 0
    assert marked(str(log)) == []


def test_a_child_that_goes_on_printing_is_ended_quietly(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the pipe after its parent has ended: nothing may be raised in the thread that reads it."""
    raised: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    program = IN_A_SESSION.format(ignores=False, chatty=True, piped=False, waits=False)
    before = set(threading.enumerate())
    ended = run(program, log, env={"WHO": str(log)})
    assert ended.status == 0
    assert marked(str(log)) == []
    until(lambda: not set(threading.enumerate()) - before, "the reading thread ends")
    assert raised == []


def test_another_run_is_left_alone(log: Path) -> None:
    """Only processes with the mark of this attempt are ended."""
    env = {"PATH": os.environ["PATH"], "WHO": str(log), MARK: "of another run"}
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=env) as other:
        until(lambda: marked(str(log)), "the other run starts")
        run("pass", log, env={"WHO": str(log)})
        assert marked(str(log)) == [other.pid]
        other.kill()


def test_endless_output_is_read_until_the_stop(log: Path) -> None:
    with StopRequest() as stop:
        tick = once(log, "line 2000\n", lambda: os.kill(os.getpid(), signal.SIGINT))
        ended = run("import itertools\nfor i in itertools.count(): print('line', i)", log, stop, on_tick=tick)
    assert ended.stopped_by is signal.SIGINT


def test_a_full_disk_does_not_end_the_run() -> None:
    """``/dev/full`` refuses every byte, at the closing of the file too; a pipe that nobody reads would block."""
    ended = run("for _ in range(3000): print('x' * 100)", Path("/dev/full"))
    assert ended.status == 0


def test_kills_by_the_kernel_are_counted(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([3, 5])
    monkeypatch.setattr(supervisor, "_oom_kills", lambda: next(counts))
    assert run("pass", log).oom_kills == 2


@pytest.mark.parametrize("counts", [(None, 1), (1, None), (None, None)])
def test_where_the_kernel_does_not_say_nothing_is_counted(
    counts: tuple[int | None, ...], log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter(counts)
    monkeypatch.setattr(supervisor, "_oom_kills", lambda: next(told))
    assert run("pass", log).oom_kills is None


@pytest.mark.parametrize(
    ("groups", "name"),
    [
        ("0::/job/one\n", "job/one/memory.events"),
        ("0::/hidden\n", "memory.events"),
        ("9:cpu:/a\n4:cpuset,memory:/job/one\n0::/\n", "memory/job/one/memory.oom_control"),
        ("4:memory:/hidden\n0::/\n", "memory/memory.oom_control"),
    ],
)
def test_the_kernel_counts_for_this_group(
    groups: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 2 of the control groups and version 1, and a container that shows its own group as the root."""
    (tmp_path / "cgroup").write_text(groups, encoding="utf-8")
    counter = tmp_path / "fs" / name
    counter.parent.mkdir(parents=True)
    counter.write_text("low 0\noom 9\noom_kill 7\noom_group_kill 8\n", encoding="utf-8")
    found = list(supervisor._group_counters(tmp_path / "cgroup", tmp_path / "fs"))
    monkeypatch.setattr(supervisor, "_group_counters", lambda: found)
    assert supervisor._oom_kills() == 7


def test_without_a_group_the_machine_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(supervisor._group_counters(tmp_path / "none", tmp_path)) == []
    monkeypatch.setattr(supervisor, "_group_counters", lambda: [tmp_path / "none"])
    counted = supervisor._oom_kills()
    assert counted is None or counted >= 0


# The same through the real command line.


@pytest.mark.parametrize(
    ("number", "fake"),
    [
        (signal.SIGINT, {}),
        (signal.SIGHUP, {}),
        (signal.SIGTERM, {"child": 600}),
    ],
    ids=["SIGINT", "SIGHUP", "SIGTERM with a child that ignores it"],
)
def test_a_stopped_tunekit_leaves_nothing(number: signal.Signals, fake: dict[str, Any], place: Path) -> None:
    with Started(place, *SFT, fake={"wait_at": 5, **fake}) as started:
        until(lambda: at_step(place / "runs/try", 4), "training starts")
        assert len(started.alive()) >= 3 + len(fake), "tunekit, the launcher and the trainer"
        started.signal(number)
        result = started.end()
        assert started.alive() == []
    assert result.code == 130
    assert "tunekit resume try" in result.err
    assert read_json(place / "runs/try/run.json")["status"] == "interrupted"


def test_a_trainer_that_ignores_ctrl_c_and_a_user_who_insists(place: Path) -> None:
    with Started(place, *SFT, fake={"wait_at": 5, "ignore": ["SIGINT"]}) as started:
        until(lambda: at_step(place / "runs/try", 4), "training starts")
        started.signal(signal.SIGINT)
        # The launcher ends by the SIGINT; the trainer is then found by its mark.
        result = started.end()
        assert started.alive() == []
    assert result.code == 130


NOHUP = ("sh", "-c", 'trap "" INT HUP; exec "$@"', "sh")
"""As nohup and & start a program: with these signals ignored."""


def ignored_signals(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn"))


def test_in_the_background_ctrl_c_is_ignored(place: Path) -> None:
    with Started(place, *SFT, fake={"wait_at": 5}, prefix=NOHUP) as started:
        until(lambda: at_step(place / "runs/try", 4), "training starts")
        trainer = read_json(place / "runs/try/output/args.json")["pid"]
        assert not ignored_signals(trainer) & (1 << (signal.SIGINT - 1)), "SIGINT could not stop the trainer"
        started.signal(signal.SIGINT)
        started.signal(signal.SIGHUP)
        (place / "runs/try/go").touch()
        assert started.end().code == 0
    assert read_json(place / "runs/try/run.json")["status"] == "done"


def test_in_the_background_sigterm_stops(place: Path) -> None:
    with Started(place, *SFT, fake={"wait_at": 5}, prefix=NOHUP) as started:
        until(lambda: at_step(place / "runs/try", 4), "training starts")
        started.signal(signal.SIGTERM)
        assert started.end().code == 130
        assert started.alive() == []
    assert read_json(place / "runs/try/run.json")["status"] == "interrupted"


def test_a_stop_before_the_first_step(place: Path) -> None:
    with Started(place, *SFT, fake={"wait_at": 1}) as started:
        until((place / "runs/try/output/args.json").exists, "the trainer starts")
        started.signal(signal.SIGTERM)
        assert started.end().code == 130
        assert started.alive() == []
    again = tunekit(place, "resume", "try")
    assert again.code == 0


class Pieces(io.BytesIO):
    """A stream that gives so many bytes at once."""

    size = 1

    def read1(self, _size: int = -1) -> bytes:
        return self.read(self.size)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_each_state_of_a_bar_comes_at_once_and_the_last_one_stays(size: int) -> None:
    stream = Pieces(b"first\n\rMap: 10%\rMap: 20%\r\nTrain: 1\rTrain: 2\r")
    stream.size = size
    found = list(line_states(stream))  # type: ignore[arg-type]
    assert [state for state, ended in found if ended] == [b"first", b"Map: 20%", b"Train: 2"]
    heard = [state for state, _ in found]
    assert [heard.index(state) for state in (b"Map: 10%", b"Map: 20%", b"Train: 1", b"Train: 2")] == sorted(
        heard.index(state) for state in (b"Map: 10%", b"Map: 20%", b"Train: 1", b"Train: 2")
    )


def test_what_is_said_is_heard_before_its_line_ends(tmp_path: Path) -> None:
    program = "import sys; sys.stderr.write('\\rMap: 10%'); sys.stderr.flush(); sys.stdin.read(); input()"
    reader, writer = os.pipe()
    words = [sys.executable, "-c", program.replace("sys.stdin.read(); input()", f"import os; os.read({reader}, 1)")]
    heard: list[str] = []

    def hear(text: str) -> None:
        heard.append(text)
        os.write(writer, b"x")  # it waits for this

    with StopRequest() as stop:
        ended = supervise(words, dict(os.environ), tmp_path / "log", inherit=(reader,), hear=hear, stop=stop)
    os.close(reader)
    os.close(writer)
    assert ended.status == 0
    assert "Map: 10%" in heard
    assert (tmp_path / "log").read_text(encoding="utf-8") == "Map: 10%\n"
