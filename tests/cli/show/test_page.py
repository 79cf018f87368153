"""The page of a run: its numbers are the run's, it asks for nothing, and all that comes from data is escaped."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from running import SFT, call, make_run, make_workplace, tunekit

from tunekit.cli.show.page import REPORT, page_of
from tunekit.cli.show.page_figure import Figure
from tunekit.cli.show.page_words import LANGUAGES, WORDS
from tunekit.runs.curves import digits_of, drawn
from tunekit.runs.folder import Attempt
from tunekit.runs.history import past_run
from tunekit.stages import METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

VOID = {"meta", "link", "br"}
EVIL = "<script>alert('x')</script>\"&"


class Reader(HTMLParser):
    """Reads a page strictly: every element is closed by its own end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.ends: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.ends += [""] if any(name == "data-end" for name, _ in attrs) else []
            self._in_end = any(name == "data-end" for name, _ in attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self._in_end = False

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if getattr(self, "_in_end", False):
            self.ends[-1] += data


@pytest.fixture(autouse=True)
def place(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(isolated)
    return isolated


def ran(
    steps: int = 100, *, name: str = "kit", stage: str = "sft", attempts: Sequence[Attempt] = (), **more: object
) -> None:
    folder = make_run(name, stage=stage, **more)
    state = folder.load()
    state.attempts = list(attempts)
    folder.save(state)
    entries = [
        {
            "global_step/max_steps": f"{step}/{steps}",
            "loss": 2 / math.sqrt(step),
            "reward": 0.5 + step / 1000,
            "rewards/margins": step / 100,
            "rewards/accuracies": 0.5 + step / (3 * steps),
            "learning_rate": 1e-4 * (1 - step / steps),
            "grad_norm": 1.0,
        }
        for step in range(1, steps + 1)
    ]
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    (folder.output / "logging.jsonl").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("stage", ["sft", "dpo", "grpo"])
def test_a_page_is_whole_asks_for_nothing_and_its_numbers_are_the_runs(stage: str, language: str) -> None:
    ran(stage=stage)
    run = past_run("kit")
    text = page_of(run, language)
    page = Reader(text)
    for tag, attrs in page.tags:
        assert tag != "script"
        assert not {"src", "onclick", "onload", "style"} & attrs.keys()
        href = attrs.get("href") or "#"
        assert href.startswith(("#", "data:"))
    assert "url(" not in text
    assert "@import" not in text
    shown = [key for key in run.state.plan.stage.shows if run.logged.of(key)]
    assert page.ends[: len(shown)] == [digits_of(list(drawn(key, run.logged.of(key)).values())[-1]) for key in shown]
    flags = set(run.state.plan.settings)
    assert flags <= set(page.words)
    assert f"{run.logged.of('loss')[100]:.4g}" in page.words


def test_all_that_comes_from_data_is_escaped() -> None:
    lost = Attempt(1, "gpu-memory", 8, 4, None, 40, 1, EVIL, EVIL, 3.0)
    ran(attempts=[lost, Attempt(2, "done", 4, 8, "checkpoint-20", 100, 0)], dataset=[f"{EVIL}.jsonl"])
    text = page_of(past_run("kit"))
    page = Reader(text)
    assert "<script" not in text
    assert any(EVIL in words for words in page.words)
    assert all(tag != "script" for tag, _ in page.tags)


def test_what_an_out_of_memory_changed_stands_on_the_page() -> None:
    change = "micro-batch 8 → 4, accumulation 4 → 8"
    lost = Attempt(1, "gpu-memory", 8, 4, None, 40, 1, "CUDA out of memory", change, 60.0)
    ran(attempts=[lost, Attempt(2, "done", 4, 8, "checkpoint-20", 100, 0, seconds=61.0)])
    text = page_of(past_run("kit"))
    assert f"Attempt 1 ran out of memory at step 40: {change}." in text
    assert "CUDA out of memory" in text
    assert 'class="rep" x="20.00%" width="20.00%"' in text
    assert "Done in 2 min 01 s." in text


@pytest.mark.parametrize("steps", [1, 2, 41, 700])
def test_few_and_many_steps(steps: int) -> None:
    ran(steps)
    text = page_of(past_run("kit"))
    Reader(text)
    assert "nan" not in text.lower().replace("dominant", "")
    assert len(text.encode()) < 100_000


def test_a_run_without_a_step_has_no_empty_axes() -> None:
    make_run("kit", status="failed")
    text = page_of(past_run("kit"))
    Reader(text)
    assert "No step was logged" in text
    assert "<svg" not in text


def test_a_curve_has_a_point_for_each_step_and_a_flat_one_has_an_axis() -> None:
    figure = Figure("learning_rate", "lr", dict.fromkeys(range(1, 51), 0.5), 50, {})
    path = figure.svg("about", big=True).partition('class="l a" d="M')[2].partition('"')[0]
    assert path.count("L") == 49
    spike = Figure("grad_norm", "norm", dict.fromkeys(range(1, 101), 1.0) | {50: 14.0}, 100, {})
    assert spike.svg("about", big=False).count("▲ 14<") == 1
    rates = Figure("learning_rate", "lr", {1: 5e-6, 2: 2.5e-6}, 2, {}).svg("about", big=False)
    assert "2.5e-06" in rates
    zero = Figure("loss", "loss", {1: 0.0, 2: 0.0}, 2, {})
    assert "nan" not in zero.svg("about", big=False)


def test_no_word_is_missing_in_either_language() -> None:
    assert all(len(words) == len(LANGUAGES) and all(words) for words in WORDS.values())
    assert WORDS.keys() >= METRICS.keys()
    same = {english for english, chinese in WORDS.values() if english == chinese}
    assert not same
    for english, chinese in WORDS.values():
        assert english.count("{") == chinese.count("{")


def test_a_run_ends_with_its_page_and_the_command_writes_it_elsewhere(place: Path) -> None:
    make_workplace(place)
    result = tunekit(place, *SFT, fake={"steps": 3})
    assert result.code == 0
    assert f"runs/try/{REPORT}" in result.err
    Reader((place / "runs/try" / REPORT).read_text(encoding="utf-8"))
    made = call("report", "try", "--out", "zh.html", "--lang", "zh")
    assert (made.code, made.out) == (0, "zh.html\n")
    assert 'lang="zh-CN"' in Path("zh.html").read_text(encoding="utf-8")
    assert call("report", "try", "--lang", "fr").code == 2
