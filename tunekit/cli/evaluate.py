"""``tunekit eval``: the user's own scripts on the answers to their data, and ms-swift's benchmarks."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunekit.cli.after import WHAT, Dry, Job, Merged, Run, Which, answer_rows, at_once, prepare, tell_left_out
from tunekit.cli.command import swift_flags
from tunekit.cli.options import Words, option
from tunekit.cli.show.lines import print_table
from tunekit.console import say
from tunekit.errors import Exit, TunekitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.plan.settings import Value
    from tunekit.runs.trained.scores import Pair, Score

BENCHMARKS = "eval_dataset"
"""The flag of ms-swift that names benchmarks."""

PACKAGES = ("evalscope", "opencompass")
"""What it needs: ms-swift 4.6 asks OpenCompass for its datasets also where evalscope's own are meant
(arguments/eval_args.py), so evalscope alone ends in an ImportError."""


USES, GONE = "pipelines/eval/eval.py", "SERVICE"
"""The file of ms-swift 4.6 that asks for a name, and the name: evalscope 1.11 took it out of its ``constants.py``."""


def evaluate(
    ctx: typer.Context,
    run: Run,
    checkpoint: Which = "",
    merged: Merged = False,
    pair: Annotated[
        Words, option(WHAT, "DATA.jsonl:SCRIPT.py: answers to the data, judged by the script; several may follow.")
    ] = None,
    as_json: Annotated[bool, option(WHAT, "Print the scores as one JSON object.", "--json")] = False,
    anew: Annotated[bool, option(WHAT, "Answer again what was answered before.", "--anew")] = False,
    dry_run: Dry = False,
) -> None:
    """Evaluate. The help texts are in `tunekit.cli.after.HELP`."""
    from tunekit.runs.trained.scores import keep, pairs_of

    job = prepare("eval", run, checkpoint, swift_flags(ctx), merged=merged)
    pairs = pairs_of(pair or [])
    benchmarks = job.typed.get(BENCHMARKS)
    if not pairs and not benchmarks:
        raise TunekitError("there is nothing to evaluate on", "--pair DATA.jsonl:SCRIPT.py, or --eval_dataset gsm8k")
    answering = _for_answers(job, strict=not benchmarks)
    if dry_run:
        _print_commands(job, answering, pairs, benchmarked=bool(benchmarks))
        return
    if benchmarks:
        _check_packages()
    path = job.target.home / "eval" / "scores.json"
    made = [score for one in pairs for score in _judged(answering, one, anew=anew)]
    if made:
        keep(path, made)
    if benchmarks:
        made_by_swift = _benchmarked(job)
        keep(path, made_by_swift)
        made += made_by_swift
    _print(made, path, as_json=as_json)
    if any(score.error for score in made):
        raise typer.Exit(int(Exit.TRAINING_FAILED))


def _for_answers(job: Job, *, strict: bool) -> Job:
    """The job without the flags that only benchmarks take.

    Raises:
        TunekitError: `strict`, and there are such flags.
    """
    from tunekit.engine.flags import AFTER_CLASSES, flag_table

    taken = flag_table(AFTER_CLASSES).by_command["infer"] if job.typed else {}
    others = [flag for flag in job.typed if flag not in taken]
    if others and strict:
        raise TunekitError(f"--{others[0]} is for benchmarks, and there is no --{BENCHMARKS}")
    return replace(job, typed={flag: value for flag, value in job.typed.items() if flag in taken})


def _check_packages() -> None:
    from tunekit.engine.locate import find_engine, find_package

    install = 'pip install "ms-swift[eval]" "evalscope<1.11"'
    missing = [package for package in PACKAGES if not find_package(package)]
    if missing:
        are = "which is not installed" if len(missing) == 1 else "which are not installed"
        raise TunekitError(f"--{BENCHMARKS} needs {' and '.join(missing)}, {are}", install)
    engine, package = find_engine(), find_package(PACKAGES[0])
    if engine and package and _holds(engine.root / USES, GONE) and not _holds(package / "constants.py", f"{GONE} ="):
        raise TunekitError(
            f"this evalscope is too new for ms-swift {engine.version}: it has no {GONE} any more", install
        )


def _holds(path: Path, word: str) -> bool:
    return path.is_file() and word in path.read_text(encoding="utf-8")


def _judged(job: Job, pair: Pair, *, anew: bool) -> list[Score]:
    """The scores of one dataset. A script that fails does not keep the others from being run."""
    from tunekit.engine.after import loads
    from tunekit.files import write_atomically
    from tunekit.runs.attempts import engine_or_fail
    from tunekit.runs.trained.scores import Score, judge, place

    engine = engine_or_fail()
    flags: Mapping[str, Value] = {**loads(job.target.weights, cpu=job.cpu), **job.typed}
    predictions = place(job.target, pair.data, flags, engine.version)
    if predictions.is_file() and not anew:
        say(f"{pair.data} was answered before: {predictions}")
    else:
        answered = answer_rows(job, [pair.data], f"eval-{Path(pair.data).stem}")
        tell_left_out(answered)
        write_atomically(predictions, "\n".join(answered.lines) + "\n")
    rows = predictions.read_bytes().count(b"\n")
    made = []
    for script in pair.scripts:
        scores, output, error = judge(engine.python, script, predictions)
        made.append(
            Score(
                checkpoint=job.target.weights.folder.name,
                data=pair.data,
                script=str(script),
                scores=scores,
                output=output,
                error=error,
                predictions=str(predictions),
                rows=rows,
            )
        )
        if error:
            say(f"error: {script} failed on {pair.data}")
            for line in error.splitlines():
                say(f"  {line}")
    return made


def _benchmarked(job: Job) -> list[Score]:
    """The scores of ms-swift's own evaluation."""
    from tunekit.runs.trained.scores import Score, benchmark_scores
    from tunekit.runs.trained.use import Progress, supervised

    log = job.target.log("benchmarks")
    names = job.typed[BENCHMARKS]
    title = f"testing {job.target.name} on {', '.join(names) if isinstance(names, list) else names}"
    supervised(job.command(_benchmark_flags(job), real=True), log, Progress(title))
    found = benchmark_scores(log)
    if not found:
        raise TunekitError("ms-swift wrote no scores", f"full log: {log}", Exit.TRAINING_FAILED)
    checkpoint = job.target.weights.folder.name
    return [Score(checkpoint, data, "ms-swift", scores) for data, scores in found.items()]


def _benchmark_flags(job: Job) -> dict[str, Value]:
    from tunekit.engine.after import loads

    return {**loads(job.target.weights, cpu=job.cpu), "eval_output_dir": str(job.target.home / "eval" / "benchmarks")}


def _print_commands(job: Job, answering: Job, pairs: list[Pair], *, benchmarked: bool) -> None:
    """What would be run, for a shell."""
    from tunekit.engine.after import FOLLOWUPS, answers

    for number, pair in enumerate(pairs, start=1):
        result = Path("predictions.jsonl" if len(pairs) == 1 else f"predictions-{number}.jsonl")
        flags = answers(job.target.weights, [pair.data], result, cpu=job.cpu, at_once=at_once(job))
        print(answering.command(flags, followup=FOLLOWUPS["predict"]).shell())
        for script in pair.scripts:
            print(shlex.join(["python", str(script), str(result)]))
    if benchmarked:
        print(job.command(_benchmark_flags(job)).shell())


def _print(made: list[Score], path: Path, *, as_json: bool) -> None:
    """The scores on stdout."""
    if as_json:
        print(json.dumps({"scores": [asdict(score) for score in made]}, indent=2, ensure_ascii=False))
        return
    rows = [("DATA", "BY", "SCORE", "VALUE")]
    for score in made:
        by = Path(score.script).name
        if score.error:
            rows.append((score.data, by, "failed", score.error.splitlines()[-1]))
        elif score.output:
            rows.append((score.data, by, "said", " ".join(score.output.split())))
        rows += [(score.data, by, name, _number(value)) for name, value in score.scores.items()]
    print_table(rows)
    say(f"kept in {path}")


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
