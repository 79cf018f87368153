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
from tunekit.data.files import local_file, read_rows
from tunekit.data.functions.trial import write_formatted
from tunekit.data.rows import ANSWER, MESSAGES, QUESTION
from tunekit.engine.plugin import bare
from tunekit.errors import Exit, TunekitError, counted
from tunekit.files import path_of, write_atomically
from tunekit.plan.settings import whole_number
from tunekit.runs.trained.use import ProgressLine, program_error, try_program
from tunekit.stages import PROMPTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tunekit.runs.trained.job import Job
    from tunekit.runs.trained.targets import Target

ROW = "teacher_prompt"
"""The column in which a row's number travels through ms-swift, which drops rows that it cannot read and columns that it
does not know: one that it keeps, and reads in distillation only. (With ``--remove_unused_columns false`` it hands
columns on to the model, which refuses them.)"""

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

    `log` names the file that gets the messages of ms-swift; `what` says to people what is done. Where ms-swift failed
    behind some answers, `partly` keeps them, with the failure. Raises TunekitError with exit code 4 where the rows
    cannot be used, with exit code 1 where ms-swift failed.
    """
    target, messages = job.target, job.target.log(log)
    trained_with = target.plan.get("columns") if target.plan else None
    columns = str(job.typed.get("columns") or trained_with or "")
    scratch = Path(tempfile.mkdtemp(prefix="tunekit-"))
    try:
        words, rows = _numbered(target, names, scratch, _renamed(columns))
        result = scratch / "result.jsonl"
        # Of a sample (`data.jsonl#100`) it is not known how many rows it has.
        total = 0 if any(bare(name) != name for name in names) else len(rows)
        progress = ProgressLine(what or f"answering {', '.join(names)} with {target.name}", _Lines(result), total)
        failed = try_program(job.to_answer(words, result, columns, real=True), messages, progress)
        lines = [json.dumps(row, ensure_ascii=False) for row in _joined(result, rows)]
        stopped = _stopped_at(result, total, whole_number(job.typed.get("max_batch_size", 1))) if failed else ""
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if failed:
        return _part_of(lines, total, program_error(f"{progress.what}{stopped}", failed, messages), keep=partly)
    if not lines:
        raise TunekitError(f"no row of {', '.join(names)} could be answered", f"full log: {messages}", Exit.DATA)
    made = Predictions(lines, total)
    if made.left_out:
        say(f"note: {made.left_out} of {made.rows} rows got no answer: ms-swift could not read them")
    return made


def _part_of(lines: list[str], total: int, failure: TunekitError, *, keep: bool) -> Predictions:
    """The answers before a failure. Raises it where there are none, or they are not to be kept."""
    if not keep or not lines:
        raise failure
    kept = f"{counted(len(lines), 'answer')} before it {'is' if len(lines) == 1 else 'are'} kept; {failure.hint}"
    return Predictions(lines, total, TunekitError(failure.message, kept, failure.code))


def _stopped_at(result: Path, total: int, at_once: int) -> str:
    """At which row ms-swift stopped: it answers and writes them in order. Empty where it is not known."""
    numbers = [int(row[ROW]) for row in _written(result) if ROW in row]
    if not total or not numbers or max(numbers) + 1 >= total:
        return ""
    first, last = max(numbers) + 2, min(max(numbers) + 1 + at_once, total)
    return f", at row {first}," if first >= last else f", at one of the rows {first} to {last},"


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


def _numbered(
    target: Target, names: list[str], scratch: Path, renamed: set[str]
) -> tuple[list[str], list[dict[str, Any]]]:
    """Datasets with a number in each row where they are files of JSON, and these rows as they were."""
    words: list[str] = []
    rows: list[dict[str, Any]] = []
    for place, name in enumerate(names):
        path = local_file(name)
        if path and not renamed:
            path = _formatted(target, path, scratch / f"formatted-{place}.jsonl")
        own = [] if path is None else [row for _, row in read_rows(path, sys.maxsize)]
        if not own:
            if path is not None and path.suffix in (".jsonl", ".json"):
                raise TunekitError(f"{path} is empty", f"one row a line: {SHAPE}", Exit.DATA)
            words.append(name)
            continue
        copy = scratch / f"rows-{place}.jsonl"
        with copy.open("w", encoding="utf-8") as file:
            for number, row in enumerate(own, start=len(rows)):
                read = {key: value for key, value in row.items() if key.lower() in READ | renamed}
                file.write(json.dumps({**read, ROW: str(number)}, ensure_ascii=False) + "\n")
        rows += own
        words.append(f"{copy}{name[len(bare(name)) :]}")
    return words, rows


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


def _joined(result: Path, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for answered in _written(result):
        number = answered.pop(ROW, None)
        if not isinstance(answered["response"], str):  # a score, which ms-swift adds as a turn of the conversation
            answered["messages"] = answered["messages"][:-1]
        given = {key: answered[key] for key in GIVEN if answered.get(key) is not None}
        if answered.get("logprobs"):
            given["logprobs"] = answered["logprobs"]
        own = {key: value for key, value in answered.items() if value is not None}
        yield {**(own if number is None else rows[int(number)]), **given}


def _written(result: Path) -> Iterator[dict[str, Any]]:
    """The rows that ms-swift wrote; a last line that was cut off is none."""
    if not result.is_file():
        return
    with result.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


class _Lines:
    """Counts the lines of a file that another program writes; what was counted is not read again."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset, self._count = path, 0, 0

    def __call__(self) -> int:
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
            self._offset += len(new)
            self._count += new.count(b"\n")
        return self._count
