"""The planner of the board: the same command and the same GiB as the dry run, for choices of all kinds."""

from __future__ import annotations

import html
import json
import os
import random
import re
import shlex
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from running import call, environment, make_rows

from tunekit.cli.board_plan import FIELDS, PLAINLY_ASKED, asked_of, first_asked, planned
from tunekit.cli.show.board import Frame
from tunekit.cli.show.board_planner import planner_answer
from tunekit.cli.show.page_memory import memory_parts
from tunekit.hardware import CARDS, Gpu
from tunekit.runs.script import command_for

if TYPE_CHECKING:
    from pathlib import Path

CHOICES = {
    "stage": PLAINLY_ASKED,
    "model": ("Qwen2.5-7B", "Qwen2.5-0.5B", "Qwen2.5-14B-Instruct", "Qwen3-8B", "no-such-model"),
    "dataset": ("", "data.jsonl", "not here.jsonl"),
    "preset": ("", "7b", "8b-tight", "low-memory"),
    "tuner": ("", "lora", "qlora", "full"),
    "length": ("", "1024", "3072", "8192"),
    "micro": ("", "1", "4", "16"),
    "card": ("a100-40gb", "3090", "h100", "4090", "t4"),
    "count": ("1", "2", "4", "8"),
}


@pytest.fixture(autouse=True)
def place(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(isolated)
    make_rows(isolated / "data.jsonl")
    return isolated


def alike(fields: dict[str, str]):
    """What the planner makes of a choice, where it looks as `call` lets the command line look."""
    with (
        mock.patch("tunekit.engine.flags.find_engine", return_value=None),
        mock.patch("tunekit.runs.prepare.installed_packages", frozenset),
        mock.patch("tunekit.hardware.detect", list),
        mock.patch.dict(os.environ, environment(), clear=True),
    ):
        return planned(asked_of(fields))


@pytest.mark.parametrize("seed", range(24))
def test_the_planner_says_what_the_dry_run_says(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    fields = {name: chance.choice(choices) for name, choices in CHOICES.items()}
    asked, made = asked_of(fields), alike(fields)
    typed = shlex.split(asked.command.replace("\\\n", " "))
    assert typed == ["tunekit", asked.stage, *asked.words]
    shown = call(*typed[1:], "--dry-run", "--json")
    if made.document is None:
        assert made.error
        assert shown.code == int(made.error.code)
        assert made.error.message in shown.err
        return
    assert shown.code == (int(made.error.code) if made.error else 0)
    assert json.loads(shown.out) == json.loads(json.dumps(made.document))
    assert made.run
    plain = call(*typed[1:], "--dry-run")
    if not made.error:
        assert plain.out.strip() == command_for(made.run).shell().strip()
    page = "".join(part for _, part in planner_answer(Frame("en", "/plan"), asked, made))
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)
    assert all(html.escape(line) in page for line in (*made.document["missing"], *made.run.plan.warnings))
    peak = made.run.plan.peak
    if peak:
        assert f"{made.document['memory']['process_gib']:.1f} of {peak.card_gib:.1f} GiB" in page or made.error
        assert sum(memory_parts(peak.prediction).values()) == pytest.approx(made.document["memory"]["process_gib"])


def test_choices_of_every_kind_were_among_them() -> None:
    kinds = set()
    for seed in range(24):
        chance = random.Random(seed)  # noqa: S311
        made = alike({name: chance.choice(choices) for name, choices in CHOICES.items()})
        kinds.add("refused" if made.document is None else "too large" if made.error else "fits")
    assert kinds == {"refused", "too large", "fits"}


def test_no_field_becomes_another_flag() -> None:
    for name in FIELDS:
        asked = asked_of({name: "--output-dir=/tmp/x"})
        assert all(not word.startswith("--output-dir") for word in asked.words)
    assert asked_of({"model": "--force"}).words[0] == "--model=--force"
    assert asked_of({"model": "a\nb\x00c", "stage": "rm -rf"}).command == "tunekit sft \\\n  --model abc"
    assert len(asked_of({"model": "x" * 10_000}).words[1]) == 500


def test_this_machine_and_several_cards() -> None:
    assert asked_of({"count": "2"}).words == ["--gpus", "2"]
    assert asked_of({"card": "h100", "count": "1"}).words == ["--gpus", "h100"]
    assert asked_of({"card": "h100", "count": "8"}).words == ["--gpus", "8xh100"]
    assert set(CHOICES["card"]) <= CARDS.keys()
    assert PLAINLY_ASKED[0] == "sft"


def test_the_form_begins_with_this_machine_where_it_has_a_gpu() -> None:
    with mock.patch("tunekit.hardware.detect", list):
        assert first_asked() == {"model": "Qwen2.5-7B", "card": "a100-40gb", "count": "1"}
    with mock.patch("tunekit.hardware.detect", return_value=[Gpu("L4", 22.5)]):
        assert asked_of(first_asked()).command == "tunekit sft \\\n  --model Qwen2.5-7B"
    with mock.patch.dict(os.environ, {"NPROC_PER_NODE": "many"}):
        assert first_asked()["card"] == "a100-40gb"
