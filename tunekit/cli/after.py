"""``tunekit chat``, ``merge``, ``predict`` and ``eval``: what is done with a trained model."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunekit.cli.command import File, WordList, option, swift_flags
from tunekit.cli.show.lines import print_document, print_table
from tunekit.console import say
from tunekit.errors import Exit, counted
from tunekit.files import path_of

if TYPE_CHECKING:
    from tunekit.runs.trained.scores import Score

WHICH, WHAT, LOOK = "Which model", "What to do", "Look first, start nothing"

HELP = {
    "chat": ("", "--max_new_tokens 200, --temperature 0, --system 'Be brief.'"),
    "merge": ("", "--max_shard_size 2GB"),
    "predict": (
        "What comes out is one JSON object a line: the row as it was, with messages, response and labels.",
        "--max_new_tokens 200, --max_batch_size 8, --infer_backend vllm",
    ),
    "eval": (
        "A script is called as: python SCRIPT PREDICTIONS.jsonl. It prints its scores as a JSON object. Each line of "
        "its file is a row of the data as it was, with response and labels.",
        "--eval_dataset gsm8k --eval_limit 50 for benchmarks, --max_new_tokens 200",
    ),
}
"""More about each command than what it does, and flags of ms-swift that are often added."""

RUN = "A run's name or folder, a checkpoint, or any folder with a model. It stands first."

Run = Annotated[str, typer.Argument(metavar="RUN", help=RUN, show_default=False)]
Which = Annotated[str, option(WHICH, "best, last or a number. Default: the best one that is known, else the last.")]
Merged = Annotated[bool, option(WHICH, "The model that tunekit merge made of it.", "--merged")]
Dry = Annotated[bool, option(LOOK, "Print the swift command.", "--dry-run")]


def help_of(name: str, summary: str) -> str:
    """The help of a command; `summary` says what it does."""
    more, flags = HELP[name]
    rest = f"Flags of ms-swift may be added as they are: {flags}. tunekit checks them first."
    return "\n\n".join(filter(None, (summary, more, rest)))


def merge_command(
    ctx: typer.Context,
    run: Run,
    checkpoint: Which = "",
    output_dir: Annotated[File, option(WHAT, "The folder of the merged model. Default: merged-N in the run's.")] = None,
    dry_run: Dry = False,
) -> None:
    """Merge. The help texts are in `HELP`."""
    from tunekit.runs.trained.job import prepare_job
    from tunekit.runs.trained.merge import check_free, merge_target

    job = prepare_job("merge", run, checkpoint, swift_flags(ctx))
    target = job.target
    output = path_of(str(output_dir)) if output_dir else target.merged
    check_free(output)
    if target.weights.quantized:
        say(
            "note: this adapter was trained on quantized weights and is merged into the unquantized ones. Answers can "
            f"differ, sometimes much: compare tunekit chat {target.word} with tunekit chat {target.word} --merged"
        )
    if dry_run:
        print(job.to_merge(output).shell())
        return
    merge_target(job, output)
    gib = sum(file.stat().st_size for file in output.rglob("*") if file.is_file()) / 2**30
    say(f"merged {target.name}: {f'{gib:.1f} GiB' if gib >= 1 else f'{gib * 1024:.0f} MiB'}")
    print(output)


def chat_command(
    ctx: typer.Context,
    run: Run,
    checkpoint: Which = "",
    merged: Merged = False,
    prompt: Annotated[str, option(WHAT, "Ask this, print the answer and nothing else on stdout.")] = "",
    image: Annotated[WordList, option(WHAT, "Pictures for --prompt.")] = None,
    dry_run: Dry = False,
) -> None:
    """Chat, or ask one thing. The help texts are in `HELP`."""
    from tunekit.runs.trained.answers import answer_question, question_row
    from tunekit.runs.trained.chat import talk_with
    from tunekit.runs.trained.job import prepare_job

    job = prepare_job("chat", run, checkpoint, swift_flags(ctx), merged=merged)
    row = question_row(prompt, image or [])
    if dry_run:
        command = job.to_answer(["prompt.jsonl"], Path("answer.jsonl")) if prompt else job.to_talk()
        print(command.shell())
    elif prompt:
        print(answer_question(job, row))
    else:
        raise typer.Exit(talk_with(job))


def predict_command(
    ctx: typer.Context,
    run: Run,
    checkpoint: Which = "",
    merged: Merged = False,
    dataset: Annotated[WordList, option(WHAT, "JSON lines files or hub ids; several may follow.")] = None,
    output: Annotated[File, option(WHAT, "The file of JSON lines that gets the answers. Default: stdout.")] = None,
    overwrite: Annotated[bool, option(WHAT, "Replace that file.", "--overwrite")] = False,
    dry_run: Dry = False,
) -> None:
    """Answer rows. The help texts are in `HELP`."""
    from tunekit.runs.trained.answers import answer_rows, check_answering
    from tunekit.runs.trained.job import prepare_job

    job = prepare_job("predict", run, checkpoint, swift_flags(ctx), merged=merged)
    names = dataset or []
    check_answering(names, output, overwrite=overwrite)
    if dry_run:
        print(job.to_answer(names, output or Path("answers.jsonl")).shell())
        return
    made = answer_rows(job, names, "predict", partly=True)
    if output is None:
        print("\n".join(made.lines), flush=True)
    else:
        made.write(output)
        say(f"wrote {output}: {counted(len(made.lines), 'row')}")
    if made.failure:
        raise made.failure


def eval_command(
    ctx: typer.Context,
    run: Run,
    checkpoint: Which = "",
    merged: Merged = False,
    pair: Annotated[
        WordList, option(WHAT, "DATA.jsonl:SCRIPT.py: answers to the data, judged by the script; several may follow.")
    ] = None,
    as_json: Annotated[bool, option(WHAT, "Print the scores as one JSON object.", "--json")] = False,
    anew: Annotated[bool, option(WHAT, "Answer again what was answered before.", "--anew")] = False,
    dry_run: Dry = False,
) -> None:
    """Evaluate. The help texts are in `HELP`."""
    from tunekit.runs.trained.evaluation import plan_evaluation
    from tunekit.runs.trained.job import prepare_job

    job = prepare_job("eval", run, checkpoint, swift_flags(ctx), merged=merged)
    evaluation = plan_evaluation(job, pair or [])
    if dry_run:
        print("\n".join(evaluation.shell()))
        return
    made = evaluation.run(anew=anew)
    if as_json:
        print_document({"scores": [asdict(score) for score in made]})
    else:
        print_table(_table(made))
        say(f"kept in {evaluation.path}")
    if any(score.error for score in made):
        raise typer.Exit(int(Exit.TRAINING_FAILED))


def _table(made: list[Score]) -> list[tuple[str, str, str, str]]:
    rows = [("DATA", "BY", "SCORE", "VALUE")]
    for score in made:
        by = Path(score.script).name
        if score.error:
            rows.append((score.data, by, "failed", score.error.splitlines()[-1]))
        elif score.output:
            rows.append((score.data, by, "said", " ".join(score.output.split())))
        rows += [(score.data, by, name, _number(value)) for name, value in score.scores.items()]
    return rows


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
