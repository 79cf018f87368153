"""How long the rows of a dataset are in tokens, and how many of the tokens carry loss: measured, not assumed.

A worker in the engine's interpreter loads the model's tokenizer, no weights, and sends a sample of the rows through
ms-swift's own preprocessor and template, so that lengths and labels are those of the training. Answers are kept; a
dataset, a tokenizer or a setting that changes asks anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from bisect import bisect_right, insort
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.data.check import local_file
from tunekit.errors import TunekitError
from tunekit.files import cache_folder, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

SAMPLE = 500
"""Rows that are tokenized: a share among so many is known to within some 4 points."""

LIBRARIES = ("swift", "transformers")
"""Packages that decide how a row is tokenized."""

SOURCES = ("lengths_sample.py", "lengths_worker.py")

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json", "*.tiktoken")
TOKENIZER_FILES = (".json", ".jinja", ".model", ".txt", ".tiktoken")
"""Endings of the files of a model's folder that say how text becomes tokens."""

STAGES = ("pt", "sft", "dpo", "orpo", "simpo", "cpo", "kto", "rm")
"""What is trained on the rows as they are. PPO, GRPO and GKD train on answers that they make as they go."""

DRAWS = 200
"""Micro-batches that are drawn from the sample to find a heavy one."""


class Unmeasured(TunekitError):  # noqa: N818 - it is an answer: this cannot be told
    """The rows cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Question:
    """What is measured.

    Attributes:
        folder: of the model: its tokenizer is used.
        stage: what is trained.
        datasets: files, as ``--dataset`` takes them.
        flags: of ms-swift, those that say how a row becomes tokens.
        max_length: tokens at which rows are cut; None where they are left as they are or dropped.
    """

    folder: Path
    stage: str
    datasets: tuple[str, ...]
    flags: Mapping[str, Any] = field(default_factory=dict)
    max_length: int | None = None


@dataclass(frozen=True)
class Sequence:
    """What the model sees of one text.

    Attributes:
        length: tokens of the text.
        trained: tokens that are left of them where long rows are cut, else `length`.
        loss: tokens with a label among those.
    """

    length: int
    trained: int
    loss: int


@dataclass(frozen=True)
class Lengths:
    """The tokens of a dataset.

    Attributes:
        names: of the files.
        total: rows of the dataset.
        rows: of the sample, each one text, or two where a pair is trained on.
        largest: tokens of the longest rows of the files, looked for among all by their size on disk.
        unusable: rows of the sample that ms-swift leaves out.
        problem: why, in its words; empty where it does not say.
    """

    names: tuple[str, ...]
    total: int
    rows: tuple[tuple[Sequence, ...], ...]
    largest: tuple[int, ...] = ()
    unusable: int = 0
    problem: str = ""

    @cached_property
    def tokens(self) -> list[int]:
        """Tokens of each row of the sample, of the longer text of a pair, in ascending order."""
        return sorted(max(text.length for text in row) for row in self.rows)

    @property
    def longest(self) -> int:
        """Tokens of the longest row that was found."""
        return max((*self.tokens[-1:], *self.largest))

    @property
    def mean(self) -> float:
        """Tokens of a row, on average."""
        return sum(self.tokens) / len(self.tokens)

    @property
    def median(self) -> float:
        """Tokens that half of the rows stay below."""
        middle = len(self.tokens) // 2
        return (self.tokens[middle] + self.tokens[-1 - middle]) / 2

    @property
    def p95(self) -> int:
        """Tokens that 95 of 100 rows do not exceed."""
        return self.tokens[max(0, -(-95 * len(self.tokens) // 100) - 1)]

    def over(self, max_length: int) -> int:
        """Rows of the sample that are longer than `max_length` tokens."""
        return len(self.tokens) - bisect_right(self.tokens, max_length)

    def seen(self, max_length: int | None) -> Seen:
        """What training sees of the sample when rows longer than `max_length` are dropped, or have been cut."""
        limit = max_length or self.longest
        return Seen(tuple(row for row in self.rows if all(text.trained <= limit for text in row)))

    def row_length(self, max_length: int | None) -> int:
        """Tokens of the longest row of a batch that is not packed: never more than `max_length`."""
        return min(self.longest, max_length or self.longest)


@dataclass(frozen=True)
class Seen:
    """Rows of a sample that are trained on."""

    rows: tuple[tuple[Sequence, ...], ...]

    @property
    def loss_share(self) -> float:
        """Of the tokens, those that carry loss: 0 to 1; 0 where there is no row."""
        texts = [text for row in self.rows for text in row]
        return sum(text.loss for text in texts) / max(1, sum(text.trained for text in texts))

    def packs(self, length: int) -> list[tuple[int, int]]:
        """The rows laid into packs of at most `length` tokens: of each, how many rows, and tokens with loss.

        Long rows first, each into the fullest pack that has room: ms-swift's ``--packing_strategy binpack``.
        """
        sizes = sorted(
            ((sum(text.trained for text in row), sum(text.loss for text in row)) for row in self.rows), reverse=True
        )
        packs: list[list[int]] = []
        filled: list[tuple[int, int]] = []  # tokens and number of each pack, in ascending order
        for size, loss in sizes:
            place = bisect_right(filled, (length - size, len(packs)))
            tokens, number = filled.pop(place - 1) if place else (0, len(packs))
            if not place:
                packs.append([0, 0])
            packs[number][0] += 1
            packs[number][1] += loss
            insort(filled, (tokens + size, number))
        return [(rows, loss) for rows, loss in packs]

    def heaviest_share(self, micro_batch: int, length: int, *, packed: bool) -> float:
        """Of the tokens of a micro-batch, those that carry loss in a heavy one: that decides the peak of the memory.

        Args:
            micro_batch: rows or packs.
            length: tokens of a pack, or of the longest row.
            packed: whether rows are laid into packs. Packs: the most that `DRAWS` micro-batches drawn at random hold;
                one row: the most that a row holds. Several rows that are not packed get logits from the first token
                with loss in any of them, which the estimate derives from the mean.
        """
        if not self.rows:
            return self.loss_share
        if packed:
            draw = random.Random(0)  # noqa: S311 - the same draw every time, no secret
            losses = [loss for _, loss in self.packs(length)]
            most = max(sum(draw.choices(losses, k=micro_batch)) for _ in range(DRAWS))
        elif micro_batch == 1:
            most = max(sum(text.loss for text in row) for row in self.rows)
        else:
            return self.loss_share
        return min(1.0, most / (micro_batch * length))


def measure(question: Question, time_limit: float = 90) -> Lengths:
    """The tokens of a dataset.

    Args:
        question: what is measured.
        time_limit: seconds the worker may take.

    Raises:
        Unmeasured: it cannot be told here; the message says why.
        TunekitError: exit code 4; a dataset does not exist.
    """
    refuse(question)
    place = _place(question)
    answer = _read(place)
    if answer is None:
        answer = ask(question, time_limit)
        if "unknown" in answer:
            raise Unmeasured(str(answer["unknown"]))
        with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to withhold the answer
            write_atomically(place, json.dumps(answer))
    return _lengths(answer)


def known(question: Question) -> Lengths | None:
    """What `measure` has found before, from the cache alone: milliseconds. None where it has not been asked."""
    try:
        answer = _read(_place(question))
    except TunekitError:
        return None
    return None if answer is None else _lengths(answer)


def refuse(question: Question) -> None:
    """Say no to what the worker cannot measure.

    Raises:
        Unmeasured: with the reason.
    """
    if question.stage not in STAGES:
        raise Unmeasured(f"{question.stage} trains on answers that it makes itself")
    for package in ("swift", "transformers", "datasets"):
        if find_spec(package) is None:
            raise Unmeasured("ms-swift is not installed here")
    folder = question.folder
    if not any(any(folder.glob(name)) for name in TOKENIZERS):
        raise Unmeasured(f"there is no tokenizer in {folder}")
    for name in ("config.json", "tokenizer_config.json"):
        with contextlib.suppress(OSError):
            if b'"auto_map"' in (folder / name).read_bytes():
                raise Unmeasured("the model brings code of its own, which is not run to measure")


def ask(question: Question, time_limit: float) -> dict[str, Any]:
    """What the worker answers.

    Raises:
        Unmeasured: it took too long, or died.
    """
    here = str(Path(__file__).parents[2])
    with tempfile.TemporaryDirectory(prefix="tunekit-") as scratch:
        asked = {
            "model": str(question.folder.resolve()),
            "stage": question.stage,
            "datasets": [_file(name) for name in question.datasets],
            "flags": dict(question.flags),
            "max_length": question.max_length,
            "sample": SAMPLE,
            "folder": str(Path.cwd()),
            "scratch": scratch,
        }
        quiet = {
            "HF_DATASETS_CACHE": scratch,
            "HF_HUB_OFFLINE": "1",
            "MODELSCOPE_CACHE": scratch,  # there ms-swift keeps tables that it has read
            "CUDA_VISIBLE_DEVICES": "",
            "TOKENIZERS_PARALLELISM": "false",
            "TRANSFORMERS_VERBOSITY": "error",
            "USE_TF": "0",
        }
        paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "tunekit.data.lengths_worker"],
                input=json.dumps(asked),
                capture_output=True,
                text=True,
                encoding="utf-8",
                timeout=time_limit,
                env={**os.environ, **quiet, "PYTHONPATH": os.pathsep.join(paths)},
                cwd=here,  # -m puts the current folder on the path, and a torch.py there is not torch
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unmeasured(f"tokenizing did not end within {time_limit:g} s") from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.strip().splitlines()
        raise Unmeasured(f"the tokenizer failed: {lines[-1] if lines else f'status {done.returncode}'}") from None
    if not isinstance(answer, dict):
        raise Unmeasured("the tokenizer failed: its worker answered no object")
    return answer


def _lengths(answer: dict[str, Any]) -> Lengths:
    return Lengths(
        names=tuple(answer["names"]),
        total=answer["total"],
        rows=tuple(tuple(Sequence(*text) for text in row) for row in answer["rows"]),
        largest=tuple(answer["largest"]),
        unusable=answer["unusable"],
        problem=answer["problem"],
    )


def _file(name: str) -> dict[str, Any]:
    """A dataset's file, and how many of its rows are trained on; None means all.

    Raises:
        Unmeasured: it is no file.
        TunekitError: it does not exist.
    """
    path = local_file(name)
    if path is None:
        raise Unmeasured(f"{name} is no file here")
    _, _, part = name.removeprefix(str(path)).rpartition("#")
    return {"path": str(path.resolve()), "name": path.name, "rows": int(part) if part.isdigit() else None}


def _place(question: Question) -> Path:
    """Where the answer is kept: named after all that decides it.

    Raises:
        TunekitError: a dataset does not exist.
    """
    digest = hashlib.sha256()
    files = [_file(name) for name in question.datasets]
    asked = [question.stage, dict(question.flags), question.max_length, SAMPLE, files]
    digest.update(json.dumps(asked, sort_keys=True).encode())
    folder = question.folder.resolve()
    tokenizer = sorted(path for path in folder.iterdir() if path.suffix in TOKENIZER_FILES) if folder.is_dir() else []
    for path in (*(Path(file["path"]) for file in files), *tokenizer):
        state = path.stat()
        digest.update(f"{path} {state.st_size} {state.st_mtime_ns}\n".encode())
    for source in (*_versions(), *(Path(__file__).with_name(name) for name in SOURCES)):
        digest.update(source.read_bytes())
    return cache_folder() / "lengths" / f"{digest.hexdigest()}.json"


def _versions() -> list[Path]:
    """Files of the installed libraries that hold their versions: importlib.metadata takes longer than all the rest."""
    found = [find_spec(library) for library in LIBRARIES]
    folders = [Path(spec.origin).parent for spec in found if spec and spec.origin]
    return [path for folder in folders for path in (folder / "__init__.py", folder / "version.py") if path.is_file()]


def _read(place: Path) -> dict[str, Any] | None:
    """A kept answer; None where there is none, or it is damaged."""
    try:
        answer = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) and {"rows", "total", "names", "largest"} <= answer.keys() else None
