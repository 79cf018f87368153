"""The page of a run: its numbers are the run's, it asks for nothing, and all that comes from data is escaped."""

from __future__ import annotations

import hashlib
import json
import math
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from running import SFT, call, make_run, make_workplace, tunekit

from tunekit.cli.show.page import REPORT, beside_page, page_of
from tunekit.cli.show.page_figure import MOST, Figure, Series, thinned, with_extremes
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
    script = beside_page("page.js")
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert f"<script>{script}</script>" in text
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    for _, attrs in page.tags:
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
    assert text.count("<script") == 1
    assert f"<script>{beside_page('page.js')}</script>" in text
    assert any(EVIL in words for words in page.words)


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


def figure_of(points: dict[int, float], key: str = "loss", **more: Any) -> str:
    return Figure("title", (Series(key, points, **more),), max(points)).svg("about", big=True)


def test_a_curve_has_a_point_for_each_step_and_a_flat_one_has_an_axis() -> None:
    flat = figure_of(dict.fromkeys(range(1, 51), 0.5), "learning_rate")
    path = flat.partition('class="l a" d="M')[2].partition('"')[0]
    assert len(path.partition("l")[2].split()) == 2 * 49
    assert figure_of(dict.fromkeys(range(1, 101), 1.0) | {50: 14.0}, "grad_norm").count("▲ 14<") == 1
    assert "2.5e-06" in figure_of({1: 5e-6, 2: 2.5e-6}, "learning_rate")
    assert "nan" not in figure_of({1: 0.0, 2: 0.0})


def read_off(figure: str) -> dict[int, str]:
    """The steps and values on which the cursor can stand, as the script reads them."""
    steps, values = (figure.partition(f'data-{name}="')[2].partition('"')[0] for name in "xv")
    if ":" in steps:
        first, by, last = map(int, steps.split(":"))
        numbers = list(range(first, last + 1, by))
    else:
        numbers = list(map(int, steps.split()))
    return dict(zip(numbers, values.split(), strict=True))


@pytest.mark.parametrize("steps", [(1,), (1, 2), (1, 2, 4, 7), tuple(range(20, 641, 20)), tuple(range(1, 640))])
def test_what_the_cursor_reads_off_is_the_curve(steps: tuple[int, ...]) -> None:
    points = {step: 2 / math.sqrt(step) for step in steps}
    curve = drawn("loss", points)
    found = read_off(figure_of(points))
    assert found == {step: digits_of(curve[step]) for step in found}
    assert min(found) == steps[0]
    assert max(found) == steps[-1]
    assert len(found) == len(steps) or len(steps) > MOST


@pytest.mark.parametrize("count", [MOST - 1, MOST, MOST + 1, 2 * MOST, 10_000])
def test_long_curves_are_thinned_and_keep_their_ends_and_spikes(count: int) -> None:
    points = {step: math.sin(step) for step in range(1, count + 1)} | {count // 2: 99.0, count // 3: -99.0}
    few, spiked = thinned(points), with_extremes(points)
    for kept in (few, spiked):
        assert kept.items() <= points.items()
        assert {1, count} <= kept.keys()
        assert len(kept) <= MOST + 2
        assert len(kept) == count or count > MOST
    assert {99.0, -99.0} <= set(spiked.values())


def test_a_band_and_several_curves_in_one_figure() -> None:
    points = {step: step / 10 for step in range(1, 11)}
    assert figure_of(points, "reward", spread=dict.fromkeys(points, 0.1)).count('class="band a"') == 1
    two = Figure("both", (Series("loss", points, "one"), Series("loss", {5: 3.0}, "two <b>")), 10).svg("x", big=False)
    assert "two &lt;b&gt; <b data-end" in two
    assert 'class="l b"' in two


def test_rewards_by_function_and_both_answers_of_a_pair_share_a_figure() -> None:
    names = ("rewards/Accuracy/mean", "rewards/Format/mean", "rewards/chosen", "rewards/rejected", "rewards/accuracies")
    ran(3, stage="dpo")
    log = Path("runs/kit/output/logging.jsonl")
    entries = [{"global_step/max_steps": f"{step}/3", **dict.fromkeys(names, step / 10)} for step in (1, 2, 3)]
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    text = page_of(past_run("kit"))
    figures = [figure for figure in text.split("<figure")[1:] if figure.count("data-v=") == 2]
    assert len(figures) == 2
    assert ">Accuracy <b" in figures[0]
    assert ">chosen <b" in figures[1]
    assert ">rejected <b" in figures[1]


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
