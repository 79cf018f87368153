"""A row as the model will see it: the text of ms-swift's own template, and which of its tokens are learned."""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from tunekit.data.lengths import QUIET, Question, check_tokenizer
from tunekit.data.out_files import json_line
from tunekit.data.read import look_into
from tunekit.data.survey import paths_of_rows
from tunekit.errors import Exit, TunekitError
from tunekit.stages import STAGES
from tunekit.worker import WorkerFailed, ask_once

if TYPE_CHECKING:
    from pathlib import Path

    from tunekit.data.entry import Entry
    from tunekit.stages import Stage

SECONDS = 120


@dataclass(frozen=True)
class Piece:
    """A stretch of a text: so many tokens, all learned or none; `medium`: they stand for a picture or a sound."""

    text: str
    tokens: int
    learned: bool
    medium: bool = False


@dataclass(frozen=True)
class Rendered:
    """One text of a row, as the model sees it; `name` tells the two of a pair apart, empty where there is one."""

    name: str
    pieces: tuple[Piece, ...]

    @property
    def tokens(self) -> int:
        """All of them."""
        return sum(piece.tokens for piece in self.pieces)

    @property
    def learned(self) -> int:
        """Tokens that carry loss."""
        return sum(piece.tokens for piece in self.pieces if piece.learned)


@dataclass(frozen=True)
class Picture:
    """A picture of a row: its path, its size in pixels, and its tokens; 0 where that is not known."""

    path: str
    width: int
    height: int
    tokens: int


@dataclass(frozen=True)
class Preview:
    """A row and what becomes of it; `unit` says what `number` counts, ``line`` or ``row``."""

    file: Path
    unit: str
    number: int
    texts: tuple[Rendered, ...]
    pictures: tuple[Picture, ...]


def preview_row(question: Question, name: str, number: int, max_length: int | None = None) -> Preview:
    """The row of that number, from 1, of a file, by a worker with the model's own tokenizer.

    Raises TunekitError where there is no such row, or ms-swift cannot use it; the message says why.
    """
    source = look_into(paths_of_rows(re.sub(r"#\d+$", "", name))[0])
    if number < 1:
        raise TunekitError(f"--row counts from 1, not {number}")
    entry = next(islice(source.entries(), number - 1, None), None)
    if entry is None:
        raise TunekitError(f"{source.path} has no row {number}", "--row counts from 1", Exit.DATA)
    where = f"{source.path} {source.unit} {entry.number}"
    check_tokenizer(question.folder)
    answer = _ask(question, entry, where, max_length)
    if "unknown" in answer:
        problem = str(answer["unknown"])
        hint = "--agent_template hermes, or another" if "agent_template" in problem else "tunekit data check says more"
        raise TunekitError(f"{where}: {problem}", hint, Exit.DATA)
    texts = tuple(Rendered(text["name"], tuple(Piece(*piece) for piece in text["pieces"])) for text in answer["texts"])
    return Preview(source.path, source.unit, entry.number, texts, tuple(Picture(*one) for one in answer["pictures"]))


def _ask(question: Question, entry: Entry, where: str, max_length: int | None) -> dict[str, Any]:
    if entry.row is None:
        raise TunekitError(f"{where}: {entry.fault}", code=Exit.DATA)
    stage = STAGES[question.stage]
    asked = {
        "model": str(question.folder.resolve()),
        "flags": {**stage.encoding, **question.flags},
        "template_mode": mode_of(stage),
        "answered": stage.rows.answered,
        "row": json.loads(json_line(entry.row)),
        "max_length": max_length,
    }
    with tempfile.TemporaryDirectory(prefix="tunekit-") as scratch:
        caches = {"HF_DATASETS_CACHE": scratch, "MODELSCOPE_CACHE": scratch}
        environ = {**os.environ, **QUIET, **caches, **question.environ}
        try:
            return ask_once("tunekit.data.preview_worker:render_row", {**asked, "scratch": scratch}, SECONDS, environ)
        except WorkerFailed as failed:
            late = f"it did not end within {SECONDS} s"
            raise TunekitError(f"{where} cannot be shown: {late if failed.late else failed}") from None


def mode_of(stage: Stage) -> str:
    """The mode of ms-swift's template in which a stage reads its rows (pipelines/train/rlhf.py, _prepare_template).

    Where it writes the answers itself, that in which a question is put.
    """
    if not stage.rows.answered:
        return "transformers"
    return "train" if stage.generates else stage.template_mode
