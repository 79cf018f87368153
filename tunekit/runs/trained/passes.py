"""Ask ms-swift for the answers to rows; where it fails at one of them, go on behind it.

A row that cannot be answered (a picture that is no picture, one that does not fit into memory) ends ``swift infer``.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tunekit.console import say
from tunekit.errors import TunekitError, counted
from tunekit.plan.settings import whole_number
from tunekit.runs.trained.use import ProgressLine, program_error, try_program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tunekit.engine.failures import Failure
    from tunekit.runs.trained.job import Job

ROW = "teacher_prompt"
"""The column in which a row's number travels through ms-swift, which drops rows that it cannot read and columns that it
does not know: one that it keeps, and reads in distillation only. (With ``--remove_unused_columns false`` it hands
columns on to the model, which refuses them.)"""

STRIKES = 3
"""Failures without an answer between them after which it is given up: then it is not the rows."""

NAMED = 3
"""Rows that are named in one message."""


@dataclass(frozen=True)
class Asked:
    """Rows that are asked for an answer.

    Attributes:
        words: the datasets as ``--val_dataset`` takes them.
        rows: as they were, by the number that each carries in `ROW`; of files of JSON alone.
        places: where each stands, for people.
        copies: the files that hold them with their numbers.
        all_known: nothing else is asked for, so that it can be gone on behind one.
    """

    words: list[str]
    rows: list[dict[str, Any]]
    places: list[str]
    copies: list[Path]
    all_known: bool


@dataclass
class Passes:
    """The calls of ms-swift that are needed for all rows: one, and more where it fails.

    Attributes:
        failed: rows at which it failed, by number, and how.
        unasked: rows that were left when it was given up.
        log: of the last call that failed.
    """

    job: Job
    asked: Asked
    columns: str
    scratch: Path
    log_name: str
    progress: ProgressLine
    results: list[Path] = field(default_factory=list)
    failed: dict[int, Failure] = field(default_factory=dict)
    unasked: int = 0
    log: Path | None = None

    def run(self, *, go_on: bool) -> None:
        """Ask all. Raises TunekitError where it failed before any row, or where it is not to `go_on` and at the first.

        What was answered until then stands in the results all the same.
        """
        at_once = whole_number(self.job.typed.get("max_batch_size", 1))
        todo = deque([(list(range(len(self.asked.rows))), at_once)])
        strikes = 0
        while todo:
            numbers, size = todo.popleft()
            failure = self._ask(numbers, size)
            if failure is None:
                continue
            answered = [int(row[ROW]) for row in written_rows(self.results[-1]) if ROW in row]
            begun = answered or self.progress.phases.name == "answering"
            behind = [number for number in numbers if number > max(answered, default=-1)]
            if not (go_on and begun and self.asked.all_known and behind):
                raise self._ended(failure, behind if begun and self.asked.all_known else [], size)
            strikes = 0 if answered else strikes + 1
            suspects, rest = behind[:size], behind[size:]
            if size > 1:
                todo.extendleft([(rest, size), (suspects, 1)] if rest else [(suspects, 1)])
                continue
            self.failed[suspects[0]] = failure
            if strikes >= STRIKES:
                self.unasked = len(rest) + sum(len(numbers) for numbers, _ in todo)
                return
            if rest:
                say(f"{self.asked.places[suspects[0]]} could not be answered; going on behind it")
                todo.appendleft((rest, size))

    def answers(self) -> Iterator[dict[str, Any]]:
        """The rows that ms-swift wrote, in order."""
        for result in self.results:
            yield from written_rows(result)

    def failure(self, answers: int) -> TunekitError | None:
        """The error that names the rows at which it failed, beside so many answers; None where it failed at none."""
        if not self.failed:
            return None
        first, how = min(self.failed.items())
        named = [self.asked.places[number] for number in sorted(self.failed)]
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        of = f"; {self.asked.places[first]}" if len(named) > 1 else ""
        what = f"{', '.join(named[:NAMED])}{more} could not be answered{of}"
        left = f"; {counted(self.unasked, 'row')} behind it {'was' if self.unasked == 1 else 'were'} not asked"
        kept = f"the other {counted(answers, 'answer')} {'is' if answers == 1 else 'are'} kept"
        error = program_error(what, how, self.log or self.job.target.log(self.log_name), "")
        return TunekitError(error.message, f"{kept}{left if self.unasked else ''}; {error.hint}", error.code)

    def _ask(self, numbers: Sequence[int], size: int) -> Failure | None:
        """Ask for some rows, `size` at once; all of them the first time, which may be more than are known."""
        turn = len(self.results)
        result = self.scratch / f"result-{turn}.jsonl"
        words = self.asked.words if not turn else [str(self._copy(numbers, self.scratch / f"again-{turn}.jsonl"))]
        typed = {**self.job.typed, **({"max_batch_size": size} if turn and "max_batch_size" in self.job.typed else {})}
        log = self.job.target.log(f"{self.log_name}-{turn + 1}" if turn else self.log_name)
        self.results.append(result)
        command = replace(self.job, typed=typed).to_answer(words, result, self.columns, real=True)
        failure = try_program(command, log, self.progress)
        self.log = log if failure else self.log
        return failure

    def _copy(self, numbers: Sequence[int], path: Path) -> Path:
        wanted = set(numbers)
        with path.open("w", encoding="utf-8") as file:
            for copy in self.asked.copies:
                file.writelines(row for row in copy.open(encoding="utf-8") if int(json.loads(row)[ROW]) in wanted)
        return path

    def _ended(self, failure: Failure, behind: Sequence[int], size: int) -> TunekitError:
        """The error of a failure that ends everything; it names the row where that is known."""
        suspects = [self.asked.places[number] for number in behind[:size]]
        at = f", at {suspects[0]}" if len(suspects) == 1 else f", at one of {suspects[0]} to {suspects[-1]}"
        log = self.log or self.job.target.log(self.log_name)
        return program_error(f"{self.progress.what}{f'{at},' if suspects else ''}", failure, log)


def written_rows(result: Path) -> Iterator[dict[str, Any]]:
    """The rows that ms-swift wrote; a last line that was cut off is none."""
    if not result.is_file():
        return
    with result.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)
