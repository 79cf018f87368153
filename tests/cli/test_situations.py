"""Situations that people report of fine-tuning tools, each with one beside it in which nothing is wrong.

What is wrong must be said, or refused, before anything starts; and not be said where it is not so. What is bad input
ends with one clear line, whatever it is.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from running import ROW, call, make_model, make_rows

from tunekit.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from running import Result

USER, ANSWER = {"role": "user", "content": "How high is it?"}, {"role": "assistant", "content": "8,849 m"}
ASKED = {"messages": [USER]}
PAIRED = {**ROW, "label": True}
BAD = {"messages": [{"role": "nobody", "content": "x"}]}
PICTURE = {"messages": [{"role": "user", "content": "<image>What is it?"}, ANSWER], "images": ["no/such.png"]}
GOOD = [ROW] * 96


@dataclass(frozen=True)
class Situation:
    """What is typed, and what must be said of it (a pattern); `well` is typed, or learned from, where all is well."""

    says: str
    words: tuple[str, ...] = ()
    rows: list[Any] = field(default_factory=lambda: GOOD)
    well: tuple[str, ...] | None = None
    well_rows: list[Any] = field(default_factory=lambda: GOOD)
    stage: str = "sft"
    well_stage: str = ""
    model: str = "tiny"
    well_model: str = ""
    file: str = "rows.jsonl"
    code: Exit = Exit.DONE


CARD = ("--gpus", "80GB")
VALIDATED = ("--val_dataset", "rows.jsonl")
SITUATIONS = {
    "rows that are wrong behind the first ones": Situation(
        r"72 .*of .*96|72 rows", rows=[ROW] * 24 + [BAD] * 72, code=Exit.DATA
    ),
    "columns that mean nothing": Situation(
        r"Berg|Meter",
        rows=["Berg,Meter", "Watzmann,2713"],
        well_rows=["query,response", "Watzmann,2713"],
        file="rows.csv",
        code=Exit.DATA,
    ),
    "rows of a classifier": Situation(
        "nothing to learn", rows=[{**ASKED, "label": 1}] * 64, well=("--task_type", "seq_cls", "--num_labels", "2"),
        well_rows=[{**ASKED, "label": 1}] * 64, code=Exit.DATA,
    ),
    "experts that stay frozen": Situation(
        r"experts|target_parameters", CARD, model="Qwen3-30B-A3B", well=CARD, well_model="Qwen2.5-7B"
    ),
    "tokens whose embeddings are not trained": Situation(
        "embeddings of --new_special_tokens", ("--new_special_tokens", "<<a>>", "<<b>>"),
    ),
    "an evaluation of nothing": Situation(
        r"--val-dataset|--val-split", ("--eval_steps", "5"), well=("--eval_steps", "5", *VALIDATED)
    ),
    "the best of nothing": Situation(
        "load_best_model_at_end",
        ("--load_best_model_at_end", "true"),
        well=("--load_best_model_at_end", "true", "--eval_steps", "50", "--save_steps", "100", *VALIDATED),
        code=Exit.USAGE,
    ),
    "the best at other steps than are saved": Situation(
        "load_best_model_at_end",
        ("--load_best_model_at_end", "true", "--eval_steps", "30", "--save_steps", "200", *VALIDATED),
        well=("--load_best_model_at_end", "true", "--eval_steps", "50", "--save_steps", "200", *VALIDATED),
        code=Exit.USAGE,
    ),
    "an adapter of another model": Situation(
        r"other/Mountain-7B", ("--adapters", "other/checkpoint-5"), well=("--adapters", "own/checkpoint-5")
    ),
    "pictures for a model that sees none": Situation("(?i)image|picture", rows=[PICTURE] * 64, code=Exit.DATA),
    "text without a question": Situation(
        "tunekit pt", rows=[{"text": "Once", "label": 1}] * 64, well_rows=[{"text": "Once"}] * 64, well_stage="pt",
        code=Exit.DATA,
    ),
    "answers of one kind only": Situation(
        "label", rows=[PAIRED] * 64, well_rows=[PAIRED, {**PAIRED, "label": False}] * 32, stage="kto",
    ),
    "rows longer than the model's positions": Situation(
        r"it would have to be 2048", ("--max-length", "8192"), well=("--max-length", "2048"), code=Exit.USAGE
    ),
    "fewer rows than a batch": Situation(r"only 6 rows|6 rows .*1 step|1 step", rows=[ROW] * 6, well_rows=[ROW] * 6400),
    "answers without thinking": Situation(
        "think", CARD, model="Qwen3-8B", well=CARD, well_model="Qwen2.5-7B-Instruct"
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def place(isolated: Path) -> Path:
    make_model(isolated / "tiny", max_position_embeddings=2048)
    for name, base in (("other", "other/Mountain-7B"), ("own", str(isolated / "tiny"))):
        folder = isolated / name / "checkpoint-5"
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base, "r": 8}))
    return isolated


def dry(situation: Situation, *, well: bool) -> Result:
    """A dry run of a situation."""
    rows = situation.well_rows if well else situation.rows
    file = Path(situation.file)
    if file.suffix == ".csv":
        file.write_text("\n".join([*rows, ""]), encoding="utf-8")
    else:
        make_rows(file, *rows)
    words = situation.words if not well or situation.well is None else situation.well
    if well and situation.well is None and situation.well_rows is GOOD and situation.rows is GOOD:
        words = ()
    model = (well and situation.well_model) or situation.model
    stage = (well and situation.well_stage) or situation.stage
    gpus = () if "--gpus" in words else ("--preset", "cpu")
    return call(stage, "--model", model, "--dataset", situation.file, *gpus, *words, "--dry-run")


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_it_is_said_and_only_where_it_is_so(situation: Situation) -> None:
    result = dry(situation, well=False)
    told = " ".join(result.err.split())
    assert re.search(situation.says, told), told
    assert result.code == situation.code, told
    well = dry(situation, well=True)
    assert well.code == 0, well.err
    assert not re.search(situation.says, " ".join(well.err.split())), well.err


def test_the_batch_of_an_evaluation_of_grpo_is_solved() -> None:
    make_rows(Path("rows.jsonl"), *[{**ASKED, "solution": "8,849"}] * 64)
    Path("my.py").write_text("def near(prompts, responses, **columns):\n    return [0.5 for _ in responses]\n")
    words = ("--model", "tiny", "--dataset", "rows.jsonl", *VALIDATED, "--reward", "my.py:near", "--preset", "cpu")
    result = call("grpo", *words, "--eval_steps", "5", "--num_generations", "4", "--json")
    assert result.code == 0, result.err
    settings = {name: one["value"] for name, one in json.loads(result.out)["settings"].items()}
    assert settings["per_device_eval_batch_size"] % settings.get("num_generations_eval", 4) == 0


# --- bad input

HUGE = "7" * 5000
DEEP = "[" * 5000
HUB = ("sft", "--model", "Qwen2.5-7B", "--dataset", "a/b", "--gpus", "24GB", "--dry-run")
ROWS = ("sft", "--model", "Qwen2.5-7B", "--gpus", "24GB", "--dry-run", "--dataset")
TYPED: tuple[tuple[str, ...], ...] = (
    *((*HUB, option, word) for option in ("--max-length", "--learning-rate", "--epochs") for word in ("None", HUGE)),
    *((*HUB, "--effective-batch", word) for word in ("8" * 400, "0", "-3", "1000000007")),
    (*HUB, "--quant_bits", "float8"),
    (*HUB, "--write", "."),
    (*HUB, "--write", "/dev/full"),
    (*HUB, "--output-dir", "~nouser/x"),
    *((*HUB, "--preset", word) for word in ("b" * 300, "deep.toml", "huge.toml", "home.toml", "\ud800")),
    (*ROWS, "~nouser/rows.jsonl"),
    (*ROWS, "deep.jsonl"),
    (*ROWS, "ca\udce9.jsonl"),
    *(("sft", "--model", word, "--dataset", "a/b", "--gpus", "24GB", "--dry-run") for word in ("~nouser/m", "c" * 300)),
    *(("sft", "--model", "Qwen2.5-7B", "--dataset", "a/b", "--dry-run", "--gpus", word) for word in ("²", "٣x24GB")),
    *(("fit", "--model", folder, "--gpus", "24GB") for folder in ("list", "dict", "nested", "deep")),
    *(("fit", "--spec", file) for file in ("deep.jsonl", "true.jsonl", "list.jsonl", "rows.toml", "/dev/null")),
    ("grpo", *HUB[1:], "--reward", "unary.py:near"),
)
CONFIGS = {
    "list": '{"model_type": "x", "text_config": [1]}',
    "dict": '{"model_type": "x", "architectures": {"a": 1}}',
    "nested": '{"model_type": "x", "architectures": [{"a": 1}]}',
    "deep": f'{{"model_type": {DEEP}',
}
FILES = {
    "deep.toml": f"title = {DEEP}",
    "huge.toml": f'title = "x"\n[train]\nlora_rank = {HUGE}\n',
    "home.toml": 'title = "x"\nextends = "~nouser/base.toml"\n',
    "deep.jsonl": f'{{"messages": {DEEP}\n',
    "true.jsonl": '{"target_modules": true}\n',
    "list.jsonl": '{"optimizer": ["adamw"]}\n{"optimizer": "adamw"}\n',
    "rows.toml": "x",
    "unary.py": "def near(one):\n    return 1.0\n",
}


@pytest.fixture
def bad(place: Path) -> Iterator[Path]:
    """Files of every bad kind, and an end for a call that waits."""
    for name, text in FILES.items():
        (place / name).write_text(text, encoding="utf-8")
    for name, text in CONFIGS.items():
        (place / name).mkdir()
        (place / name / "config.json").write_text(text, encoding="utf-8")

    def waits(*_: object) -> None:
        raise AssertionError("it waits for ever")

    before = signal.signal(signal.SIGALRM, waits)
    signal.alarm(60)
    yield place
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def ends_well(result: Result) -> None:
    assert result.code in (0, 2, 3, 4), result.err
    assert "fault of tunekit" not in result.err
    assert "Traceback" not in result.err
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == (result.code != 0), result.err
    assert all(len(line) < 2000 for line in errors)


@pytest.mark.usefixtures("bad")
@pytest.mark.parametrize("words", TYPED, ids=lambda words: " ".join(words)[-40:].encode("ascii", "replace").decode())
def test_bad_input_ends_with_one_clear_line(words: tuple[str, ...]) -> None:
    ends_well(call(*words))


@pytest.mark.parametrize("what", ["config.json", "spec", "rows", "write"])
def test_a_pipe_is_not_waited_for(what: str, bad: Path) -> None:
    pipe = bad / ("pipe/config.json" if what == "config.json" else "pipe.jsonl")
    pipe.parent.mkdir(exist_ok=True)
    os.mkfifo(pipe)
    ends_well(
        {
            "config.json": lambda: call("fit", "--model", "pipe", "--gpus", "24GB"),
            "spec": lambda: call("fit", "--spec", "pipe.jsonl"),
            "rows": lambda: call(*ROWS, "pipe.jsonl"),
            "write": lambda: call(*HUB, "--write", "pipe.jsonl"),
        }[what]()
    )
    assert threading.active_count() == 1
