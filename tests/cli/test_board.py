"""The board: who may ask, that nothing can be written, that data is escaped, and that pages say what runs say."""

from __future__ import annotations

import contextlib
import json
import signal
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from running import SFT, Started, a_plan, at_step, call, make_run, make_workplace, until

pytest.importorskip("starlette", reason="the board's extra is not installed")
pytest.importorskip("httpx2", reason="starlette's test client needs it")

from starlette.testclient import TestClient

from tunekit.cli import board_app
from tunekit.cli.board_app import ASSETS, ListRows, guarded
from tunekit.cli.show.board import OFTEN, Frame
from tunekit.cli.show.board_words import BOARD_WORDS
from tunekit.cli.show.page_words import LANGUAGES, WORDS
from tunekit.runs.curves import digits_of, drawn
from tunekit.runs.folder import Attempt
from tunekit.runs.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN, PORT = "a-token", 7531
HERE = f"http://127.0.0.1:{PORT}"
EVIL = "<script>alert('x')<"


@pytest.fixture(autouse=True)
def place(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(isolated)
    return isolated


def stranger(scan: Scan | None = None, language: str = "en", **more: Any) -> TestClient:
    return TestClient(guarded(scan or Scan(), language, TOKEN, PORT), base_url=HERE, **more)


def guest(scan: Scan | None = None, language: str = "en") -> TestClient:
    """One who has opened the address with the token."""
    client = stranger(scan, language)
    assert client.get(f"/?token={TOKEN}").status_code == 200
    return client


def ran(name: str, *, steps: int = 20, lowest: float = 0.1, attempts: tuple[Attempt, ...] = (), **more: Any) -> None:
    folder = make_run(Path(name).name, where=Path("runs", name).parent, **more)
    state = folder.load()
    state.attempts = list(attempts)
    folder.save(state)
    entries = [
        {"global_step/max_steps": f"{step}/{steps}", "loss": lowest * steps / step, "grad_norm": 1.0}
        for step in range(1, steps + 1)
    ]
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    (folder.output / "logging.jsonl").write_text(text, encoding="utf-8")


# --- who may ask


@pytest.mark.parametrize(
    "path", ["/", "/run/kit", "/compare?run=kit&run=kit", "/plan", "/board.js", "/page.css", "/no"]
)
def test_nothing_is_said_without_the_token(path: str) -> None:
    ran("kit")
    client = stranger()
    for asked in (
        path,
        f"{path}{'&' if '?' in path else '?'}token=another",
        f"{path}{'&' if '?' in path else '?'}token=ü",
    ):
        answer = client.get(asked)
        assert answer.status_code == 403
        assert "kit" not in answer.text.replace("tunekit", "")
    client.cookies.set(f"tunekit-board-{PORT}", "another")
    assert client.get(path).status_code == 403


def test_the_token_becomes_a_cookie_that_no_script_and_no_other_page_has() -> None:
    ran("kit")
    client = stranger()
    entered = client.get(f"/?token={TOKEN}")
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert f"tunekit-board-{PORT}={TOKEN}" in cookie
    assert TOKEN not in entered.text
    page = client.get("/")
    assert page.status_code == 200
    assert TOKEN not in page.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7531", 200),
        ("localhost:9000", 200),
        ("LOCALHOST", 200),
        ("[::1]:7531", 200),
        ("evil.example:7531", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:7531", 421),
        ("", 421),
    ],
)
def test_other_hosts_are_refused(host: str, status: int) -> None:
    client = guest()
    assert client.get("/", headers={"host": host}).status_code == status
    assert stranger().get(f"/?token={TOKEN}", headers={"host": host}).status_code == status


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_the_board_can_only_be_read(method: str) -> None:
    ran("kit")
    before = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    client = guest()
    for path in ("/", "/run/kit", "/plan", "/compare?run=kit"):
        answer = client.request(method, path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == "GET, HEAD"
    for path in ("/", "/run/kit", "/plan", "/compare?run=kit&run=kit"):
        client.get(path)
        assert client.head(path).content == b""
    assert {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()} == before


def test_every_answer_may_run_nothing_but_the_boards_own_scripts() -> None:
    ran("kit")
    client = guest()
    for path in ("/", "/run/kit", "/plan", "/nope", "/run/nope", *(f"/{name}" for name in ASSETS)):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        if "html" in answer.headers["content-type"]:
            assert "style=" not in answer.text
            assert answer.text.count("<script") == answer.text.count('<script src="/') == 2


@pytest.mark.parametrize("path", ["/run/../secret", "/run/%2e%2e/secret", "/run//etc/passwd", "/../pyproject.toml"])
def test_no_path_leads_out_of_the_runs(path: str) -> None:
    ran("kit")
    ran("../secret")
    answer = guest().get(path)
    assert answer.status_code == 404
    assert "rewards" not in answer.text


# --- what data is


def test_all_that_comes_from_data_is_escaped() -> None:
    lost = Attempt(1, "data", 8, 4, None, 40, 1, EVIL, EVIL, 3.0)
    ran(EVIL, status="failed", attempts=(lost,), dataset=[f"{EVIL}.jsonl"])
    ran("kit", attempts=(lost, replace(lost, number=2)))
    log = Path("runs", EVIL, "attempts/1/train.log")
    log.parent.mkdir(parents=True)
    log.write_text(f"one\n{EVIL}\x1b[31m\n", encoding="utf-8")
    Path("runs/bad").mkdir()
    Path("runs/bad/run.json").write_text("[]", encoding="utf-8")
    client = guest()
    quoted = urllib.request.quote(EVIL)
    paths = [
        "/",
        f"/run/{quoted}",
        f"/compare?run={quoted}&run=kit",
        f"/compare?run={quoted}&run={quoted}x",
        f"/run/{quoted}x",
        f"/?lang=en&x={quoted}",
        *(
            f"/plan?{name}={quoted}"
            for name in ("model", "dataset", "stage", "preset", "tuner", "card", "count", "micro")
        ),
    ]
    for path in paths:
        page = client.get(path).text
        assert page.count("<script") == page.count('<script src="/') == 2, path
        assert "alert('x')" not in page
        assert "\x1b" not in page
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;" in client.get(f"/run/{quoted}").text
    assert "Left out: runs/bad/run.json" in client.get("/").text


# --- what the pages say


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_pages_say_what_the_runs_say(language: str) -> None:
    ran("a", learning_rate=1e-4)
    ran("b", lowest=0.2, learning_rate=2e-4)
    scan = Scan()
    client = guest(scan, language)
    assert f'lang="{"zh-CN" if language == "zh" else "en"}"' in client.get("/").text
    run = scan.named("a")
    assert run
    end = digits_of(list(drawn("loss", run.logged.of("loss")).values())[-1])
    assert f">{end}</b>" in client.get("/run/a").text
    compared = client.get("/compare?run=a&run=b").text
    for value in ("learning_rate", "0.0001", "0.0002", end, digits_of(0.2), digits_of(-0.1).replace("-", "−")):
        assert value in compared
    assert "tuner_type" not in compared
    assert compared.count("data-v=") >= 4


def test_the_language_is_kept_once_it_was_chosen() -> None:
    client = guest()
    assert 'lang="zh-CN"' in client.get("/?lang=zh").text.partition("<head>")[0]
    assert 'lang="zh-CN"' in client.get("/plan").text.partition("<head>")[0]
    assert 'lang="en"' in client.get("/?lang=en").text.partition("<head>")[0]
    assert 'lang="en"' in client.get("/?lang=xx").text.partition("<head>")[0]


def test_a_page_that_has_not_changed_is_not_sent_again() -> None:
    ran("kit")
    client = guest()
    first = client.get("/")
    again = client.get("/", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/", headers={"If-None-Match": '"other"'}).text == first.text


def test_no_run_and_too_few_to_compare() -> None:
    client = guest()
    assert "No runs here yet" in client.get("/").text
    ran("kit")
    assert client.get("/compare?run=kit").status_code == 400
    assert client.get("/compare?run=kit&run=nope").status_code == 404
    assert client.get("/compare?" + "&".join(f"run={number}" for number in range(9))).status_code == 400


def test_runs_that_do_not_compare_are_said_to() -> None:
    ran("a", dataset=["one.jsonl"])
    ran("b", dataset=["two.jsonl"])
    assert "Their losses do not compare: another data." in guest().get("/compare?run=a&run=b").text


def test_settings_that_are_the_same_are_counted() -> None:
    ran("a", dataset=["one.jsonl"], lora_rank=8)
    ran("b", dataset=["two.jsonl"], lora_rank=16)
    ran("c", dataset=["one.jsonl"], lora_rank=8)
    client, every = guest(), len(a_plan(dataset=["x"], lora_rank=8).settings)
    assert f"Settings that differ: 1; the same: {every - 2}." in client.get("/compare?run=a&run=b").text
    same = client.get("/compare?run=a&run=c").text
    assert f"Settings that differ: 0; the same: {every}." in same
    assert "No setting differs." in same


def test_a_run_of_a_recipe_and_one_in_another_folder_are_found() -> None:
    ran("two/sft")
    Path("runs/two/recipe.json").write_text("{}", encoding="utf-8")
    assert "two/sft" in guest().get("/run/two/sft").text
    other = guest(Scan(Path("runs/two")))
    assert "tunekit chat runs/two/sft" in other.get("/run/sft").text


def test_no_word_is_missing_in_either_language() -> None:
    assert not BOARD_WORDS.keys() & WORDS.keys()
    for key, (english, chinese) in BOARD_WORDS.items():
        assert english
        assert chinese
        assert english.count("{") == chinese.count("{"), key


@pytest.mark.parametrize(
    ("status", "outcome", "said"),
    [
        ("done", "done", ">done · 2 attempts</td>"),
        ("failed", "data", "data error</span> · 2 attempts"),
        ("failed", "nccl", "nccl</span> · 2 attempts"),
        ("interrupted", "interrupted", ">stopped at 20 · 2 attempts</td>"),
        ("running", "lost", ">broken off at 20 · 2 attempts</td>"),
    ],
)
def test_how_a_run_ended_is_said(status: str, outcome: str, said: str) -> None:
    last = Attempt(2, outcome, 8, 4, None, 20, 1)
    ran("kit", status=status, attempts=(replace(last, number=1, outcome="gpu-memory"), last))
    assert said in guest().get("/").text


def test_a_run_that_goes_on_says_how_long_yet_and_one_that_is_silent_for_how_long(place: Path) -> None:
    make_workplace(place)
    with Started(place, *SFT, fake={"steps": 5000, "pace": 0.02}):
        until(lambda: at_step(place / "runs/try", 3), "step 3")
        client = guest()
        going = client.get("/run/try").text
        assert 'class="live">step ' in going
        assert "of 5,000" in going
        assert "role=progressbar" in going
        assert "tunekit runs logs -f try" in going
        assert f'data-every="{OFTEN}"' in client.get("/").text
        with mock.patch("tunekit.cli.show.board_list.silent_for", return_value=720.0):
            assert "no step for 12 min 00 s" in client.get("/run/try").text


def test_a_list_is_shown_before_all_logs_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        ran(name)
    scan = Scan()
    rows, frame, runs = ListRows(scan), Frame("en", "/"), scan.history().runs
    none, all_read = rows.rows(frame, runs, 0)
    assert (len(none), all_read) == (3, False)
    assert "loss" not in "".join(none)
    some, all_read = rows.rows(frame, runs, 1e9)
    assert all_read
    assert all(">loss</span> 0.1" in row for row in some)
    assert not any("logged" in vars(run) for run in runs)
    monkeypatch.setattr(board_app, "list_row", lambda *_: pytest.fail("drawn again"))
    assert rows.rows(frame, runs, 0) == (some, True)


def test_a_page_that_cannot_be_made_says_so_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    ran("kit")
    client = stranger(raise_server_exceptions=False)
    client.get(f"/?token={TOKEN}")
    with mock.patch.object(board_app, "run_page", side_effect=ValueError("odd")):
        answer = client.get("/run/kit")
    assert answer.status_code == 500
    assert "could not be made" in answer.text
    assert capsys.readouterr().err.splitlines() == ["error: /run/kit: ValueError: odd"]


# --- the command


def test_the_command_says_what_is_missing() -> None:
    with mock.patch("tunekit.cli.board.find_spec", return_value=None):
        refused = call("board", "--no-open")
    assert refused.code == 2
    assert "starlette and uvicorn" in refused.err
    assert 'pip install "tunekit[board]"' in refused.err
    assert call("board", "--lang", "fr").code == 2
    assert call("board", "--port", "70000").code == 2
    assert call("board", "--folder", "nowhere").code == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_this_machine_alone_and_ends_when_it_is_asked_to(place: Path, number: signal.Signals) -> None:
    ran("kit")
    out = place / "address.txt"
    with out.open("wb") as file, Started(place, "board", "--no-open", stdout=file) as started:
        url = until(lambda: out.read_text(encoding="utf-8").strip(), "the address")
        assert url.startswith("http://127.0.0.1:")
        until(_answers(url), "an answer")
        listening = _listening(started.process.pid)
        assert listening == {"0100007F"}
        started.signal(number)
        ended = started.end()
    assert ended.code == (0 if number == signal.SIGINT else -signal.SIGTERM)
    assert "Traceback" not in ended.err
    assert url.partition("token=")[2] not in ended.err


def _answers(url: str) -> Callable[[], bool]:
    def asked() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - it is http, and this machine
                return bool(answer.status == 200)
        except OSError:
            return False

    return asked


def _listening(pid: int) -> set[str]:
    """The addresses on which a process listens, as /proc writes them."""
    open_files = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            open_files.add(str(link.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text(encoding="utf-8").splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in open_files:
                found.add(words[1].partition(":")[0])
    return found
