"""Every command and every row that README and docs show, in both languages: run as far as a CPU can."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from running import REPOSITORY, ROW, call, make_model, make_rows, make_run

from tunekit.cli.app import COMMANDS
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
INLINE = re.compile(r"`(?:[A-Z_]+=\S+ )*(tunekit [^`]+)`")

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
}
"""Commands that are not run here, by their first words, and why. Their options are looked up in their help."""

PLANNED = ("--dry-run", "--json", "--explain", "--write", "--print")


def is_excused(words: tuple[str, ...]) -> bool:
    return any(words[: len(first)] == first for first in EXCUSED)


def as_dry_run(words: tuple[str, ...]) -> list[str]:
    """The command, changed so that nothing is started: a dry run, on a card that is only described."""
    command, *rest = words
    made = list(words)
    looks = any(word in rest for word in PLANNED)
    if command in STAGES or command == "rlhf":
        made = [word for word in made if word not in ("--submit",)]
        made += [] if looks else ["--dry-run"]
        made += [] if "--gpus" in rest else ["--gpus", "80GB"]
    elif command == "fit":
        made += [] if "--gpus" in rest else ["--gpus", "80GB"]
    elif command in ("run", "chat", "merge", "predict", "eval", "export"):
        made += [] if looks else ["--dry-run"]
    elif command == "serve":
        made += [] if looks else ["--print"]
    elif words[:2] == ("runs", "rm"):
        made += [] if "--yes" in rest else ["--yes"]
    elif command == "import":
        made = [word for word in made if word not in ("--run",)]
    return made


ALLOWED = {"fit": (Exit.DONE, Exit.DOES_NOT_FIT), "doctor": (Exit.DONE, Exit.TRAINING_FAILED)}
"""A page shows what does not fit, too; and this machine may not be ready to train."""


@pytest.fixture
def place(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that the commands of the pages name."""
    monkeypatch.setattr("tunekit.runs.trained.evaluation.find_package", lambda name: name)
    image = pytest.importorskip("PIL.Image")
    pair = {"prompt": "Hi", "chosen": "Hello!", "rejected": "What?"}
    picture = {
        "messages": [{"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "A cat."}],
        "images": [str(isolated / "cat.png")],
    }
    image.new("RGB", (64, 64)).save("cat.png")
    for folder in ("data/images", "my", "raw"):
        Path(folder).mkdir(parents=True)
    for name in ("data/train", "data/test", "a", "b", "chats", "train"):
        make_rows(Path(f"{name}.jsonl"), *[ROW] * 640)
    for name in ("data/pairs", "pairs", "raw/pairs"):
        make_rows(Path(f"{name}.jsonl"), *[pair] * 640)
    for name in ("data/text", "text"):
        make_rows(Path(f"{name}.jsonl"), *[{"text": "The sea was calm."}] * 640)
    asked = {"messages": [{"role": "user", "content": "What is 6 × 7?"}], "solution": "42"}
    for name in ("data/questions", "questions", "prompts"):
        make_rows(Path(f"{name}.jsonl"), *[asked] * 640)
    make_rows(Path("data/images.jsonl"), *[picture] * 640)
    make_rows(Path("data/image-pairs.jsonl"), *[{**picture, "rejected_response": "A dog."}] * 640)
    Path("data/raw.csv").write_text("question,answer\nHi,Hello\n", encoding="utf-8")
    reward = "def my_reward(prompts, responses, **columns):\n    return [1.0 for _ in responses]\n\n\nbrief = my_reward\n"
    Path("my/rewards.py").write_text(reward, encoding="utf-8")
    Path("my/score.py").write_text("print('{}')\n", encoding="utf-8")
    shutil.copytree(REPOSITORY / "examples", "examples")
    make_model(Path("my-model"), **json.loads(SHAPE))
    for name in ("my-run", "my-vl-run", "my-sft", "qwen2.5-7b-sft", "kit", "a", "b"):
        make_run(name)
    for name in ("my-run", "qwen2.5-7b-sft"):
        shutil.copytree(f"runs/{name}/output/checkpoint-15", f"runs/{name}/output/checkpoint-200")
    Path("train.yaml").write_text("model: Qwen/Qwen2.5-7B\ndataset: data/train.jsonl\n", encoding="utf-8")
    old = "model_name_or_path: Qwen/Qwen2.5-7B\nstage: sft\nfinetuning_type: lora\ndataset: data/train.jsonl\ntemplate: qwen\n"
    Path("llama_factory.yaml").write_text(old, encoding="utf-8")
    return isolated


SHAPE = """{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 2,
 "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 512}"""


COMMANDS_SHOWN = shown()


def test_commands_are_found():
    pages = {command.page for command in COMMANDS_SHOWN}
    assert {"README.md", "docs/quickstart.md", "docs/clusters.md", "docs/faq.md"} <= pages
    assert len(COMMANDS_SHOWN) > 100
    assert {command.words[0] for command in COMMANDS_SHOWN} >= {"sft", "fit", "data", "chat", "export", "serve", "run"}


@pytest.mark.parametrize("command", [item for item in COMMANDS_SHOWN if not is_excused(item.words)], ids=str)
def test_every_command_runs(command, place):
    ended = call(*as_dry_run(command.words))
    assert ended.code in ALLOWED.get(command.words[0], (Exit.DONE,)), ended.err


@pytest.mark.parametrize("command", [item for item in COMMANDS_SHOWN if is_excused(item.words)], ids=str)
def test_what_is_not_run_takes_the_options_that_are_shown(command):
    first = next(first for first in EXCUSED if command.words[: len(first)] == first)
    shown = call(*first, "--help").out
    assert all(word in shown for word in command.words if word.startswith("--"))
