"""How long the rows of a dataset are in tokens, and how many of the tokens carry loss: measured, not assumed.

A worker in the engine's interpreter loads the model's tokenizer, no weights, and sends a sample of the rows through
ms-swift's own preprocessor and template, so that lengths and labels are those of the training. Answers are kept; a
dataset, a tokenizer or a setting that changes asks anew.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.data.files import local_file
from tunekit.data.tokens import Lengths, Sequence
from tunekit.errors import TunekitError
from tunekit.files import cache_folder, keep_answer, read_json, read_object
from tunekit.stages import STAGES
from tunekit.worker import WorkerFailed, ask_once

if TYPE_CHECKING:
    from collections.abc import Mapping

SAMPLE = 500
"""Rows that are tokenized: a share among so many is known to within some 4 points."""

LIBRARIES = ("swift", "transformers")
"""Packages that decide how a row is tokenized."""

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json", "*.tiktoken")
TOKENIZER_FILES = (".json", ".jinja", ".model", ".txt", ".tiktoken")
"""Endings of the files of a model's folder that say how text becomes tokens."""

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "USE_TF": "0",
}
"""Variables of the worker."""


class Unmeasured(TunekitError):  # noqa: N818 - it is an answer: this is not known
    """The rows cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Question:
    """What is measured: the files of `datasets`, with the tokenizer in the model's `folder`, for a `stage`.

    The flags are those of ms-swift that say how a row becomes tokens. Rows are cut at `max_length` tokens; None where
    they are left as they are, or dropped. So many rows are measured. `seeing`: also where pictures must be opened for
    that, which takes its time; variables say where they lie.
    """

    folder: Path
    stage: str
    datasets: tuple[str, ...]
    flags: Mapping[str, Any] = field(default_factory=dict)
    max_length: int | None = None
    sample: int = SAMPLE
    seeing: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)


def measure_rows(question: Question, time_limit: float = 90) -> Lengths:
    """The tokens of a dataset, by a worker that may take so many seconds.

    Raises Unmeasured, with the reason, where it cannot be done here; TunekitError where a dataset does not exist.
    """
    check_measurable(question)
    asked = _asked(question)
    place = _place(asked)
    answer = _kept(place)
    if answer is None:
        answer = _ask(asked, time_limit)
        if "unknown" in answer:
            raise Unmeasured(str(answer["unknown"]))
        keep_answer(place, answer)
    return _lengths(answer)


def measured_before(question: Question) -> Lengths | None:
    """What `measure_rows` has found before, from the cache alone: milliseconds. None where it has not been asked."""
    with contextlib.suppress(TunekitError):
        answer = _kept(_place(_asked(question)))
        return None if answer is None else _lengths(answer)
    return None


def check_measurable(question: Question) -> None:
    """Raise Unmeasured, with the reason, where the worker cannot measure that."""
    if STAGES[question.stage].generates:
        raise Unmeasured(f"{question.stage} trains on answers that it makes itself")
    check_tokenizer(question.folder)


def check_tokenizer(folder: Path) -> None:
    """Raise Unmeasured, with the reason, where a model's tokenizer cannot be loaded here."""
    if any(find_spec(package) is None for package in ("swift", "transformers", "datasets")):
        raise Unmeasured("ms-swift is not installed here")
    if not any(any(folder.glob(name)) for name in TOKENIZERS):
        raise Unmeasured(f"there is no tokenizer in {folder}")
    check_no_code(folder)


def check_no_code(folder: Path) -> None:
    """Raise Unmeasured where a model's folder names Python code to be run when it is loaded.

    transformers looks for ``auto_map`` in the configurations of the model, its tokenizer and its processors.
    """
    for path in sorted(folder.glob("*config.json")):
        try:
            document = read_json(path)
        except (OSError, ValueError):
            raise Unmeasured(f"{path} cannot be read") from None
        if _names_code(document):
            raise Unmeasured("the model brings code of its own, which is not run to measure")


def _names_code(document: Any) -> bool:
    left = [document]
    while left:
        part = left.pop()
        if isinstance(part, dict) and "auto_map" in part:
            return True
        left += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return False


def _asked(question: Question) -> dict[str, Any]:
    """All that decides the answer of the worker, but for the contents of files."""
    stage = STAGES[question.stage]
    return {
        "model": str(question.folder.resolve()),
        "flags": {**stage.encoding, **question.flags},
        "template_mode": stage.template_mode,
        "datasets": [_file(name) for name in question.datasets],
        "max_length": question.max_length,
        "sample": question.sample,
        "seeing": question.seeing,
        "environ": dict(question.environ),
    }


def _ask(asked: Mapping[str, Any], time_limit: float) -> dict[str, Any]:
    target = "tunekit.data.lengths_worker:answer_lengths"
    import tempfile

    with tempfile.TemporaryDirectory(prefix="tunekit-") as scratch:
        caches = {"HF_DATASETS_CACHE": scratch, "MODELSCOPE_CACHE": scratch}  # there go tables that were read
        environ = {**os.environ, **QUIET, **caches, **asked["environ"]}
        try:
            return ask_once(target, {**asked, "scratch": scratch}, time_limit, environ)
        except WorkerFailed as failed:
            late = f"tokenizing did not end within {time_limit:g} s"
            raise Unmeasured(late if failed.late else f"the tokenizer failed: {failed}") from None


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
    """A dataset's file, and how many of its rows are trained on; None means all."""
    path = local_file(name)
    if path is None:
        raise Unmeasured(f"{name} is no file here")
    if path.suffix == ".tsv":
        raise Unmeasured(f"{name}: ms-swift reads no .tsv; tunekit data convert writes it as JSON lines")
    _, _, part = name.removeprefix(str(path)).rpartition("#")
    return {"path": str(path.resolve()), "name": path.name, "rows": int(part) if part.isdigit() else None}


def _place(asked: Mapping[str, Any]) -> Path:
    """Where the answer is kept: named after all that decides it."""
    import hashlib  # loads OpenSSL, which a dry run can do without

    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
    folder = Path(asked["model"])
    tokenizer = sorted(path for path in folder.iterdir() if path.suffix in TOKENIZER_FILES) if folder.is_dir() else []
    for path in (*(Path(file["path"]) for file in asked["datasets"]), *tokenizer):
        state = path.stat()
        digest.update(f"{path} {state.st_size} {state.st_mtime_ns}\n".encode())
    for source in (*_versions(), Path(__file__).with_name("lengths_worker.py")):
        digest.update(source.read_bytes())
    return cache_folder() / "lengths" / f"{digest.hexdigest()}.json"


def _versions() -> list[Path]:
    """Files of the installed libraries that hold their versions: importlib.metadata takes longer than all the rest."""
    found = [spec.origin for library in LIBRARIES if (spec := find_spec(library)) and spec.origin]
    files = (Path(origin).with_name(name) for origin in found for name in ("__init__.py", "version.py"))
    return [file for file in files if file.is_file()]


def _kept(place: Path) -> dict[str, Any] | None:
    answer = read_object(place)  # it may be damaged
    return answer if {"rows", "total", "names", "largest"} <= answer.keys() else None
