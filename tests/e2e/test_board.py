"""The report and the board in a real browser: nothing is asked of others, nothing overflows, curves can be read off.

Needs `pip install playwright` and a Chromium: Debian's, or that of ``playwright install chromium``. Where
``TUNEKIT_AXE`` names axe-core's ``axe.min.js`` (npm install axe-core), each page is checked with it as well.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from running import Started, call, make_rows, make_run, until

from tunekit.runs.curves import digits_of, drawn
from tunekit.runs.folder import Attempt
from tunekit.runs.history import past_run

if TYPE_CHECKING:
    from collections.abc import Iterator

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")

pytestmark = pytest.mark.e2e

EVIL = "<img src=x onerror=alert(1)>"
STAGES_SHOWN = ("sft", "dpo", "grpo")
LOOKS = {(320, "dark"): False, (360, "dark"): True, (700, "light"): False, (1280, "light"): True}
"""Width and theme of the window, and whether axe looks too: it takes a second a page."""
LANGUAGES = ("en", "zh")
AXE = os.environ.get("TUNEKIT_AXE", "")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as made:
        own = made.chromium.executable_path
        found = next((path for path in (shutil.which("chromium"), own) if path and Path(path).is_file()), None)
        if found is None:
            pytest.skip("there is no Chromium: apt-get install chromium, or playwright install chromium")
        # Without its sandbox, for a container in which root runs the tests: the pages are our own.
        browser = made.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def place(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(isolated)
    make_rows(isolated / "data.jsonl")
    for stage in STAGES_SHOWN:
        ran(f"kit-{stage}", stage=stage, on_cpu=False, learning_rate=1e-4, dataset=["data.jsonl"])
    ran("other", learning_rate=2e-4, dataset=["data.jsonl"], on_cpu=False, steps=30)
    ran(EVIL.replace("/", "_"), dataset=[EVIL], steps=1)
    make_run("failed", status="failed")
    make_run("n" * 180 + "汉字")
    return isolated


def entry(step: int, steps: int) -> dict[str, Any]:
    return {
        "global_step/max_steps": f"{step}/{steps}",
        "loss": 2 / math.sqrt(step),
        "eval_loss": 2.1 / math.sqrt(step),
        "reward": 0.5 + step / 1000,
        "reward_std": 0.2,
        "rewards/margins": step / 100,
        "rewards/accuracies": 0.5 + step / (3 * steps),
        "rewards/chosen": step / 90,
        "rewards/rejected": -step / 80,
        "learning_rate": 1e-4 * (1 - step / steps),
        "grad_norm": 30.0 if step == 50 else 1.0,
        "memory(GiB)": 20.5,
        "train_speed(s/it)": 2.0,
    }


def ran(name: str, *, steps: int = 120, **more: Any) -> None:
    folder = make_run(name, **more)
    state = folder.load()
    lost = Attempt(
        1, "gpu-memory", 8, 4, None, min(40, steps), 1, "CUDA out of memory", "micro-batch 8 → 4", 61.0, 38.0
    )
    state.attempts = [lost, Attempt(2, "done", 4, 8, "checkpoint-20", steps, 0, seconds=75.0, memory_gib=20.5)]
    state.created = "2026-11-25T12:00:00Z"
    folder.save(state)
    text = "".join(json.dumps(entry(step, steps)) + "\n" for step in range(1, steps + 1))
    (folder.output / "logging.jsonl").write_text(text, encoding="utf-8")


class Watched:
    """A tab of its own, and all that went wrong in it."""

    def __init__(self, browser: Any, width: int = 1280, theme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=theme)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.page.on(
            "console", lambda said: self.wrong.append(said.text) if said.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda shown: self.wrong.append(f"dialog {shown.message}"))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.context.close()
        if kind is None:
            assert self.wrong == []

    def check(self, *, thorough: bool) -> None:
        """Open what is folded; nothing may stick out, and axe finds nothing."""
        self.page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
        wide = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{self.page.url} sticks out by {wide} px"
        if AXE and thorough:
            self.page.evaluate(Path(AXE).read_text(encoding="utf-8"))
            found = self.page.evaluate(
                "axe.run(document).then(found => found.violations.map("
                "one => `${one.id}: ${one.nodes.map(node => node.html.slice(0, 120)).join(' | ')}`))"
            )
            assert found == []


@pytest.fixture
def board(place: Path) -> Iterator[str]:
    """The address of a board, with its token."""
    out = place / "address.txt"
    with out.open("wb") as file, Started(place, "board", "--no-open", stdout=file):
        yield until(lambda: out.read_text(encoding="utf-8").strip(), "the address")


def enter(tab: Watched, board: str) -> str:
    tab.page.goto(board)
    tab.page.wait_for_selector("h1")
    assert "token" not in tab.page.url
    return board.partition("/?")[0]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("stage", STAGES_SHOWN)
def test_the_report_in_a_browser(browser: Any, stage: str, language: str) -> None:
    assert call("report", f"kit-{stage}", "--lang", language).code == 0
    run = past_run(f"kit-{stage}")
    shown = [key for key in run.state.plan.stage.shows if run.logged.of(key) and key != "reward_std"]
    for (width, theme), thorough in LOOKS.items():
        with Watched(browser, width, theme) as tab:
            tab.page.goto((run.folder.path / "report.html").resolve().as_uri())
            tab.check(thorough=thorough)
            assert [url for url in tab.asked if not url.startswith(("file:", "data:"))] == []
            assert len(tab.asked) <= 2
            assert tab.page.locator("figure path.l").count() >= len(shown)
            read = tab.page.locator("figure:first-child [data-v]").first
            curve = list(drawn(shown[0], run.logged.of(shown[0])).values())
            assert read.inner_text() == digits_of(curve[-1])
            assert tab.page.evaluate("getComputedStyle(document.body).backgroundColor") == (
                "rgb(19, 21, 24)" if theme == "dark" else "rgb(255, 255, 255)"
            )


def test_curves_are_read_off_by_keys_and_by_mouse(browser: Any) -> None:
    call("report", "kit-sft")
    run = past_run("kit-sft")
    loss, evaluated, rate = (
        list(drawn(key, run.logged.of(key)).values()) for key in ("loss", "eval_loss", "learning_rate")
    )
    with Watched(browser) as tab:
        page = tab.page
        page.goto(Path("runs/kit-sft/report.html").resolve().as_uri())
        ranges, read = page.locator(".plot input"), page.locator("figure [data-v]")
        assert ranges.count() == page.locator("figure").count()
        ranges.first.focus()
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        assert page.locator(".at").first.inner_text() == "step 2"
        assert read.nth(0).inner_text() == digits_of(loss[1])
        assert read.nth(1).inner_text() == digits_of(evaluated[1])
        named = page.locator("figure", has=page.locator("b", has_text="Learning rate")).locator("[data-v]")
        assert named.inner_text() == digits_of(rate[1])
        assert "step 2" in (ranges.first.get_attribute("aria-valuetext") or "")
        page.keyboard.press("Escape")
        assert page.locator(".at").first.inner_text() == ""
        assert read.nth(0).inner_text() == digits_of(loss[-1])
        box = page.locator(".plot > svg").first.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 60 / 120, box["y"] + 50)
        assert page.locator(".at").first.inner_text() == "step 60"
        assert read.nth(0).inner_text() == digits_of(loss[59])
        page.mouse.move(box["x"] + 5, box["y"] - 60)
        assert read.nth(0).inner_text() == digits_of(loss[-1])


def test_the_report_says_all_without_scripts_and_is_light_on_paper(browser: Any) -> None:
    call("report", "kit-sft")
    context = browser.new_context(java_script_enabled=False, color_scheme="dark")
    page = context.new_page()
    page.goto(Path("runs/kit-sft/report.html").resolve().as_uri())
    assert page.locator("figure").count() > 3
    assert page.locator("table.why tbody tr").count() > 3
    assert len(page.pdf()) > 10_000
    context.close()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_board_in_a_browser(browser: Any, board: str, language: str) -> None:
    paths = [
        *("/", "/run/kit-sft", "/run/kit-dpo", "/run/kit-grpo", "/run/failed", "/nope"),
        "/compare?run=kit-sft&run=other",
        "/compare?run=kit-sft&run=other&run=kit-dpo",
        "/plan?model=Qwen2.5-7B&card=a100-40gb&count=1&dataset=data.jsonl",
        "/plan?model=Qwen2.5-7B&card=3090&count=1&tuner=full&micro=8&length=3072",
        "/plan?model=<b>",
    ]
    for (width, theme), thorough in LOOKS.items():
        with Watched(browser, width, theme) as tab:
            home = enter(tab, board)
            tab.page.goto(f"{home}/?lang={language}")
            for path in paths:
                tab.page.goto(home + path)
                tab.check(thorough=thorough)
            assert [url for url in tab.asked if not url.startswith((home, "data:"))] == []
            tab.wrong = [line for line in tab.wrong if "404 (Not Found)" not in line]


def test_two_runs_are_ticked_and_compared_by_keyboard_alone(browser: Any, board: str) -> None:
    with Watched(browser) as tab:
        enter(tab, board)
        page = tab.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        for name in ("kit-sft", "other"):
            until(lambda name=name: _reached(page, f"[value='{name}']"), name)
            page.keyboard.press("Space")
        assert page.locator("#picked").inner_text() == "kit-sft, other"
        until(lambda: _reached(page, ".tray button"), "the button")
        page.keyboard.press("Enter")
        page.wait_for_url("**/compare?**")
        assert page.locator("h1").inner_text() == "kit-sft and other"
        assert "learning_rate" in page.locator("table.cmp").inner_text()


def _reached(page: Any, selector: str) -> bool:
    """Whether the focus is there; else it goes on by one."""
    if page.evaluate("selector => document.activeElement.matches(selector)", selector):
        return True
    page.keyboard.press("Tab")
    return bool(page.evaluate("selector => document.activeElement.matches(selector)", selector))


def test_the_list_is_filtered(browser: Any, board: str) -> None:
    with Watched(browser) as tab:
        enter(tab, board)
        tab.page.fill("#filter", "DPO data")
        assert tab.page.locator("tbody tr:visible").count() == 1
        tab.page.fill("#filter", "nothing like it")
        assert tab.page.locator("#nomatch").is_visible()


def test_a_run_is_followed_while_it_goes_on_and_the_end_of_the_board_is_said(browser: Any, place: Path) -> None:
    folder = make_run("live", status="running")
    log = folder.output / "logging.jsonl"
    log.write_text(json.dumps(entry(1, 200)) + "\n", encoding="utf-8")
    out = place / "address.txt"
    with folder, out.open("wb") as file, Started(place, "board", "--no-open", stdout=file) as started:
        board = until(lambda: out.read_text(encoding="utf-8").strip(), "the address")
        with Watched(browser) as tab:
            home, page = enter(tab, board), tab.page
            page.check("[value=live]")
            page.fill("#filter", "i")
            with log.open("a", encoding="utf-8") as more:
                more.write(json.dumps(entry(2, 200)) + "\n")
            page.wait_for_selector("text=step 2 of 200", timeout=10_000)
            assert page.is_checked("[value=live]")
            assert page.input_value("#filter") == "i"
            page.goto(f"{home}/run/live")
            page.locator("#settings > summary").click()
            with log.open("a", encoding="utf-8") as more:
                more.write(json.dumps(entry(3, 200)) + "\n")
            page.wait_for_selector("text=step 3 of 200", timeout=10_000)
            assert page.locator("figure [data-v]").first.inner_text() == digits_of(2 / math.sqrt(3))
            assert page.locator("#settings[open]").count() == 1
            assert page.locator(".plot input").count() == page.locator("figure").count()
            started.process.terminate()
            started.end()
            page.wait_for_selector("#gone:visible", timeout=20_000)
            assert page.locator("figure").count() > 0
            tab.wrong = [line for line in tab.wrong if "ERR_CONNECTION_REFUSED" not in line]


def test_the_planner_follows_what_is_typed_and_gives_the_command(browser: Any, board: str) -> None:
    with Watched(browser) as tab:
        home, page = enter(tab, board), tab.page
        tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(f"{home}/plan")
        page.fill("[name=micro]", "4")
        page.select_option("[name=card]", "3090")
        page.locator("label", has_text="QLoRA").first.click()
        for word in ("--micro-batch 4", "--quant_bits 4", "--gpus 3090"):
            page.wait_for_selector(f".code pre:has-text('{word}')")
        assert "micro=4" in page.url
        command = page.locator(".code pre").first.inner_text()
        words = command.replace("\\\n", " ").split()[1:]
        told = json.loads(call(*words, "--dry-run", "--json").out)["memory"]
        assert re.search(
            rf"{told['process_gib']:.1f} of {told['card_gib']:.1f} GiB", page.locator(".verdict").inner_text()
        )
        page.locator(".code .copy").first.click()
        assert page.evaluate("navigator.clipboard.readText()") == command
        page.reload()
        assert page.locator(".code pre").first.inner_text() == command
