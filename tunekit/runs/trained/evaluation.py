"""Evaluate a model: scripts of the user's own on its answers to their data, and ms-swift's benchmarks."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.console import say
from tunekit.engine.flags import AFTER_CLASSES, flag_table
from tunekit.engine.locate import find_engine, find_package
from tunekit.errors import Exit, TunekitError
from tunekit.runs.attempts import engine_or_fail
from tunekit.runs.trained.answers import answer_rows
from tunekit.runs.trained.scores import Score, benchmark_scores, keep_scores, pairs_of, predictions_place, run_script
from tunekit.runs.trained.use import ProgressLine, run_program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tunekit.plan.settings import Value
    from tunekit.runs.trained.job import Job
    from tunekit.runs.trained.scores import Pair

BENCHMARKS = "eval_dataset"
"""The flag of ms-swift that names benchmarks."""

PACKAGES = ("evalscope", "opencompass")
"""What it needs: ms-swift 4.6 asks OpenCompass for its datasets also where evalscope's own are meant
(arguments/eval_args.py), so evalscope alone ends in an ImportError."""

USES, GONE = "pipelines/eval/eval.py", "SERVICE"
"""The file of ms-swift 4.6 that asks for a name, and the name: evalscope 1.11 took it out of its ``constants.py``."""


@dataclass(frozen=True)
class Evaluation:
    """What a model is evaluated on.

    Attributes:
        job: the model, and all flags that were typed.
        answering: the same without the flags that only benchmarks take.
        pairs: datasets, and the scripts that judge the answers to them.
    """

    job: Job
    answering: Job
    pairs: Sequence[Pair]

    @property
    def benchmarks(self) -> list[str]:
        """The names of the benchmarks."""
        names = self.job.typed.get(BENCHMARKS, [])
        return names if isinstance(names, list) else [str(names)]

    @property
    def path(self) -> Path:
        """The file that keeps the scores."""
        return self.job.target.home / "eval" / "scores.json"

    def shell(self) -> Iterator[str]:
        """What would be run, for a shell."""
        for number, pair in enumerate(self.pairs, start=1):
            result = Path("predictions.jsonl" if len(self.pairs) == 1 else f"predictions-{number}.jsonl")
            yield self.answering.to_answer([pair.data], result).shell()
            for script in pair.scripts:
                yield shlex.join(["python", str(script), str(result)])
        if self.benchmarks:
            yield self.job.command(self._benchmark_flags()).shell()

    def run(self, *, anew: bool) -> list[Score]:
        """Evaluate, and keep the scores; a script that fails stops no other. `anew` answers again what was answered.

        Raises TunekitError where a package is missing or ms-swift failed, KeyboardInterrupt where the user stopped it.
        """
        if self.benchmarks:
            _check_packages()
        made = [score for pair in self.pairs for score in self._judged(pair, anew=anew)]
        if made:
            keep_scores(self.path, made)
        if not self.benchmarks:
            return made
        of_swift = self._benchmarked()
        keep_scores(self.path, of_swift)
        return made + of_swift

    def _judged(self, pair: Pair, *, anew: bool) -> Iterator[Score]:
        job, engine = self.answering, engine_or_fail()
        predictions = predictions_place(job.target, pair.data, {**job.load_flags(), **job.typed}, engine.version)
        if predictions.is_file() and not anew:
            say(f"{pair.data} was answered before: {predictions}")
        else:
            answer_rows(job, [pair.data], f"eval-{Path(pair.data).stem}").write(predictions)
        rows = predictions.read_bytes().count(b"\n")
        for script in pair.scripts:
            scores, output, error = run_script(engine.python, script, predictions)
            if error:
                say("\n  ".join((f"error: {script} failed on {pair.data}", *error.splitlines())))
            name = job.target.weights.folder.name
            yield Score(name, pair.data, str(script), scores, output, error, str(predictions), rows)

    def _benchmarked(self) -> list[Score]:
        job = self.job
        log = job.target.log("benchmarks")
        progress = ProgressLine(f"testing {job.target.name} on {', '.join(self.benchmarks)}")
        run_program(job.command(self._benchmark_flags(), real=True), log, progress)
        found = benchmark_scores(log)
        if not found:
            raise TunekitError("ms-swift wrote no scores", f"full log: {log}", Exit.TRAINING_FAILED)
        return [Score(job.target.weights.folder.name, data, "ms-swift", scores) for data, scores in found.items()]

    def _benchmark_flags(self) -> dict[str, Value]:
        return {**self.job.load_flags(), "eval_output_dir": str(self.path.parent / "benchmarks")}


def plan_evaluation(job: Job, words: Sequence[str]) -> Evaluation:
    """What the words of ``--pair`` and a job's flags ask for. Raises TunekitError where they do not fit together."""
    pairs = pairs_of(words)
    benchmarks = job.typed.get(BENCHMARKS)
    if not pairs and not benchmarks:
        raise TunekitError("there is nothing to evaluate on", "--pair DATA.jsonl:SCRIPT.py, or --eval_dataset gsm8k")
    taken = flag_table(AFTER_CLASSES).by_command["infer"] if job.typed else {}
    others = [flag for flag in job.typed if flag not in taken]
    if others and not benchmarks:
        raise TunekitError(f"--{others[0]} is for benchmarks, and there is no --{BENCHMARKS}")
    answering = replace(job, typed={flag: value for flag, value in job.typed.items() if flag in taken})
    return Evaluation(job, answering, pairs)


def _check_packages() -> None:
    """Refuse benchmarks where what they need is missing, or does not fit this ms-swift. Raises TunekitError."""
    install = 'pip install "ms-swift[eval]" "evalscope<1.11"'
    missing = [package for package in PACKAGES if not find_package(package)]
    if missing:
        are = "which is not installed" if len(missing) == 1 else "which are not installed"
        raise TunekitError(f"--{BENCHMARKS} needs {' and '.join(missing)}, {are}", install)
    engine, package = find_engine(), find_package(PACKAGES[0])
    if engine and package and _holds(engine.root / USES, GONE) and not _holds(package / "constants.py", f"{GONE} ="):
        message = f"this evalscope is too new for ms-swift {engine.version}: it has no {GONE} any more"
        raise TunekitError(message, install)


def _holds(path: Path, word: str) -> bool:
    return path.is_file() and word in path.read_text(encoding="utf-8")
