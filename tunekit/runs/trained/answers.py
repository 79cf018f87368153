"""Let a model answer: a question, or the rows of datasets, each as it was with what the model says to it."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.console import say
from tunekit.data.check import row_problem
from tunekit.data.files import local_file
from tunekit.data.functions.trial import write_formatted
from tunekit.data.rows import ANSWER, MESSAGES, QUESTION
from tunekit.data.sound import read_rows
from tunekit.engine.plugin import bare
from tunekit.errors import Exit, TunekitError, counted
from tunekit.files import path_of, write_atomically
from tunekit.runs.trained.passes import ROW, Asked, Passes
from tunekit.runs.trained.use import ProgressLine
from tunekit.stages import PROMPTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tunekit.runs.trained.job import Job
    from tunekit.runs.trained.targets import Target

READ = frozenset((*MESSAGES, *QUESTION, *ANSWER)) | {
    *("system", "system_prompt", "history", "tools", "objects", "label", "chat_template_kwargs"),
    *("images", "image", "audios", "audio", "videos", "video"),
}
"""Columns that ms-swift 4.6 reads to answer a row, in small letters (dataset/preprocessor/core.py). It gets no other:
a column whose values are of several kinds would keep the whole file from being read."""

SHAPE = '{"messages": [{"role": "user", "content": "…"}]}'

GIVEN = ("messages", "response", "labels")
"""What the model's answer brings: the conversation with it, itself, and what stood in its place in the row."""


@dataclass(frozen=True)
class Predictions:
    """Rows with their answers, as JSON.

    Attributes:
        rows: how many there were to answer, 0 where they were not counted.
        failure: why there are no more, naming the row; None where all were asked.
    """

    lines: list[str]
    rows: int
    failure: TunekitError | None = None

    @property
    def left_out(self) -> int:
        """Rows that ms-swift did not answer: it leaves out those that it cannot read, silently."""
        return max(0, self.rows - len(self.lines))

    def write(self, path: Path) -> None:
        """Write them to a file, one a line. Raises TunekitError."""
        try:
            write_atomically(path, "\n".join(self.lines) + "\n")
        except OSError as error:
            raise TunekitError(f"{path} cannot be written: {error.strerror}") from error


def check_answering(names: Sequence[str], output: Path | None, *, overwrite: bool) -> None:
    """Refuse to answer datasets that are not there, or into a file that must not be replaced. Raises TunekitError."""
    if not names:
        raise TunekitError("there is no --dataset", "give a file of JSON lines, or a hub id")
    for name in names:
        local_file(name)
    if output and output.exists() and not overwrite:
        raise TunekitError(f"{output} exists already", "--overwrite replaces it")


def answer_rows(job: Job, names: list[str], log: str, what: str = "", *, partly: bool = False) -> Predictions:
    """Answer every row of datasets, given as ``--dataset`` takes them; rows that got no answer are counted on stderr.

    `log` names the file that gets the messages of ms-swift; `what` says to people what is done. Where ms-swift fails
    at a row, `partly` goes on behind it and keeps what was answered, with a failure that names the row. Raises
    TunekitError with exit code 4 where the rows cannot be used, with exit code 1 where ms-swift failed.
    """
    target = job.target
    trained_with = target.plan.get("columns") if target.plan else None
    columns = str(job.typed.get("columns") or trained_with or "")
    scratch = Path(tempfile.mkdtemp(prefix="tunekit-"))
    try:
        asked = _numbered(target, names, scratch, _renamed(columns))
        total = len(asked.rows) if asked.all_known else 0
        progress = ProgressLine(what or f"answering {', '.join(names)} with {target.name}", total=total)
        passes = Passes(job, asked, columns, scratch, log, progress)
        progress.done = _Lines(passes.results)
        failure = None
        try:
            passes.run(go_on=partly)
        except TunekitError as error:
            failure = error
        lines = [json.dumps(row, ensure_ascii=False) for row in _joined(passes.answers(), asked.rows)]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if failure and not (partly and lines):
        raise failure
    if failure:
        kept = f"{counted(len(lines), 'answer')} before it {'is' if len(lines) == 1 else 'are'} kept; {failure.hint}"
        return Predictions(lines, total, TunekitError(failure.message, kept, failure.code))
    if missed := passes.failure(len(lines)):
        if not lines:
            raise missed
        return Predictions(lines, total, missed)
    if not lines:
        raise TunekitError(f"no row of {', '.join(names)} could be answered", f"full log: {target.log(log)}", Exit.DATA)
    made = Predictions(lines, total)
    if made.left_out:
        say(f"note: {made.left_out} of {made.rows} rows got no answer: ms-swift could not read them")
    return made


def question_row(prompt: str, images: Sequence[str]) -> dict[str, Any]:
    """A row that asks one thing about pictures, which stand before the question where it does not place them.

    Raises TunekitError where there are pictures without a question, or one is not there.
    """
    if images and not prompt:
        raise TunekitError("--image needs --prompt", "in a chat, write <image> and it asks for the file")
    for name in images:
        if not path_of(name).is_file() and "://" not in name:
            raise TunekitError(f"--image {name} does not exist")
    missing = max(0, len(images) - prompt.count("<image>"))
    row: dict[str, Any] = {"messages": [{"role": "user", "content": "<image>" * missing + prompt}]}
    if images:
        row["images"] = [name if "://" in name else str(path_of(name).resolve()) for name in images]
    return row


def answer_question(job: Job, row: Mapping[str, Any]) -> str:
    """The model's answer to a row of `question_row`. Raises TunekitError."""
    with tempfile.TemporaryDirectory(prefix="tunekit-") as folder:
        asked = Path(folder) / "prompt.jsonl"
        asked.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
        (line,) = answer_rows(job, [str(asked)], "chat", f"asking {job.target.name}").lines
    return str(json.loads(line)["response"])


def _renamed(columns: str) -> set[str]:
    """The columns of the rows that ``--columns`` gives another name."""
    with contextlib.suppress(ValueError, AttributeError, RecursionError):  # ms-swift says what is wrong with it
        return {name.lower() for name in json.loads(columns or "{}")}
    return set()


def _numbered(target: Target, names: list[str], scratch: Path, renamed: set[str]) -> Asked:
    """Datasets, with a number in each row where they are files of JSON."""
    words: list[str] = []
    rows: list[dict[str, Any]] = []
    places: list[str] = []
    copies: list[Path] = []
    for place, name in enumerate(names):
        path = given = local_file(name)
        if path and not renamed:
            path = _formatted(target, path, scratch / f"formatted-{place}.jsonl")
        own = [] if path is None else list(read_rows(path, sys.maxsize))
        if not own:
            if path is not None and path.suffix in (".jsonl", ".json"):
                raise TunekitError(f"{path} is empty", f"one row a line: {SHAPE}", Exit.DATA)
            words.append(name)
            continue
        copy = scratch / f"rows-{place}.jsonl"
        with copy.open("w", encoding="utf-8") as file:
            for number, (_, row) in enumerate(own, start=len(rows)):
                read = {key: value for key, value in row.items() if key.lower() in READ | renamed}
                file.write(json.dumps({**read, ROW: str(number)}, ensure_ascii=False) + "\n")
        rows += [row for _, row in own]
        line = "line" if given == path and bare(name).endswith(".jsonl") else "row"
        places += [f"{bare(name)} {line} {number}" for number, _ in own]
        copies.append(copy)
        words.append(f"{copy}{name[len(bare(name)) :]}")
    # Of a sample (`data.jsonl#100`) it is not known which rows it has.
    all_known = len(copies) == len(names) and all(bare(name) == name for name in names)
    return Asked(words, rows, places, copies, all_known)


def _formatted(target: Target, path: Path, made: Path) -> Path:
    """The rows of a file as ms-swift takes them: by the run's own format where they are not so already."""
    found = next(read_rows(path, 1), None)
    problem = row_problem(found[1], PROMPTS, "predict") if found else None  # a question is enough
    if problem is None:
        return path
    row_format = target.plan.row_format if target.plan else None
    if row_format is None:
        raise TunekitError(f"{path} line {found[0] if found else 1}: {problem}", f"a row: {SHAPE}", Exit.DATA)
    function = replace(row_format, file=str(target.cwd / row_format.file))
    _, dropped = write_formatted(function, path, made, PROMPTS)
    say(f"rows made by {row_format.spec}, as in the run" + (f", which left out {dropped}" if dropped else ""))
    return made


def _joined(written: Iterable[dict[str, Any]], rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for answered in written:
        number = answered.pop(ROW, None)
        if not isinstance(answered["response"], str):  # a score, which ms-swift adds as a turn of the conversation
            answered["messages"] = answered["messages"][:-1]
        given = {key: answered[key] for key in GIVEN if answered.get(key) is not None}
        if answered.get("logprobs"):
            given["logprobs"] = answered["logprobs"]
        own = {key: value for key, value in answered.items() if value is not None}
        yield {**(own if number is None else rows[int(number)]), **given}


class _Lines:
    """Counts the lines of files that another program writes, one after the other; none is read twice."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths, self._read, self._offset, self._count = paths, 0, 0, 0

    def __call__(self) -> int:
        for number in range(self._read, len(self._paths)):
            if number > self._read:
                self._read, self._offset = number, 0
            with contextlib.suppress(FileNotFoundError), self._paths[number].open("rb") as file:
                file.seek(self._offset)
                new = file.read()
                self._offset += len(new)
                self._count += new.count(b"\n")
        return self._count
