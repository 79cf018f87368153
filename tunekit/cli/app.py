"""The commands of tunekit, put together: each is built when it is called, so that a call pays for one of them.

Typer reads the annotations of every function that it is given, which for all commands takes longer than a dry run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from tunekit.plan.options import FIT, TRAIN
from tunekit.stages import STAGES, USUAL

if TYPE_CHECKING:
    from tunekit.cli.words import Run

RUNNING, KNOW, AFTER = "Train", "Look before you train", "After training"


def _command(function: Callable[..., None], name: str, **more: Any) -> Any:
    from tunekit.cli.command import built_command

    return built_command(function, name, **more)


def _group(commands: Any, name: str) -> Any:
    import typer

    made: Any = typer.main.get_group(commands)
    made.name = name
    return made


def by_table(name: str) -> tuple[str, Run, str] | None:
    """Which options of `tunekit.plan.options` a command takes, what it does, its help; None where it takes others."""
    if name in STAGES or name == "rlhf":
        from tunekit.cli import train

        return TRAIN, train.train, train.HELP[name] + train.REST
    if name == "fit":
        from tunekit.cli import fit

        return FIT, fit.fit, fit.HELP
    return None


def _by_table(name: str) -> Any:
    from tunekit.cli.command import TableCommand

    row = by_table(name)
    return row and TableCommand(name, *row)


def _resume(name: str) -> Any:
    from tunekit.cli import resume

    return _command(resume.resume, name)


def _run(name: str) -> Any:
    from tunekit.cli import recipe

    return _command(recipe.run_command, name, cls=recipe.RecipeCommand)


def _sweep(name: str) -> Any:
    from tunekit.cli import sweep
    from tunekit.cli.command import SweepCommand

    return SweepCommand(name, sweep.sweep_words, sweep.HELP, sweep.NOT_HERE)


def _import(name: str) -> Any:
    from tunekit.cli import imports

    return _command(imports.import_command, name)


def _recipes(name: str) -> Any:
    from tunekit.cli import recipe

    return _group(recipe.app, name)


def _presets(name: str) -> Any:
    from tunekit.cli import presets

    return _group(presets.app, name)


def _runs(name: str) -> Any:
    from tunekit.cli import runs

    return _group(runs.app, name)


def _report(name: str) -> Any:
    from tunekit.cli import report

    return _command(report.report_command, name)


def _board(name: str) -> Any:
    from tunekit.cli import board

    return _command(board.board_command, name)


def _data(name: str) -> Any:
    from tunekit.cli import data

    return data.DataCommands(name=name, help=data.HELP, no_args_is_help=True)


def _flags(name: str) -> Any:
    from tunekit.cli import flags

    anything = {"ignore_unknown_options": True}  # a flag may be asked for with its dashes
    return _command(flags.flags_command, name, context_settings=anything)


def _augment(name: str) -> Any:
    from tunekit.cli import data

    return _command(data.augment_command, name)


def _doctor(name: str) -> Any:
    from tunekit.cli import doctor

    return _command(doctor.doctor, name)


def _export(name: str) -> Any:
    from tunekit.cli import export
    from tunekit.cli.command import SwiftCommand

    return _command(export.export_command, name, help=export.HELP, cls=SwiftCommand)


def _serve(name: str) -> Any:
    from tunekit.cli import serve
    from tunekit.cli.command import SwiftCommand

    return _command(serve.serve_command, name, help=serve.HELP, cls=SwiftCommand)


def _after(name: str) -> Any:
    from tunekit.cli import after
    from tunekit.cli.command import SwiftCommand

    calls: Mapping[str, Callable[..., None]] = {
        "chat": after.chat_command,
        "merge": after.merge_command,
        "predict": after.predict_command,
        "eval": after.eval_command,
    }
    return _command(calls[name], name, help=after.help_of(name, COMMANDS[name].summary), cls=SwiftCommand)


class Row(NamedTuple):
    """A command: what builds it, the panel of the help in which it stands, and what it does, in a line."""

    build: Callable[[str], Any]
    panel: str
    summary: str


COMMANDS: Mapping[str, Row] = {
    **{name: Row(_by_table, RUNNING, STAGES[name].learns) for name in sorted(STAGES, key=lambda name: name != USUAL)},
    "rlhf": Row(_by_table, RUNNING, "Any stage from rm to gkd, named as ms-swift does: --rlhf-type dpo."),
    "run": Row(_run, RUNNING, "Run a recipe: several stages, each from what an earlier one left."),
    "sweep": Row(_sweep, RUNNING, "Train once for each value of an option or two, and compare what came out."),
    "resume": Row(_resume, RUNNING, "Go on with a run that was stopped or failed."),
    "import": Row(_import, RUNNING, "Take over a run of LLaMA-Factory, axolotl, TRL, older ms-swift and others."),
    "fit": Row(_by_table, KNOW, "Tell the peak memory of a run before it starts, and what helps."),
    "presets": Row(_presets, KNOW, "List, show and copy presets."),
    "recipes": Row(_recipes, KNOW, "List, show and copy recipes."),
    "data": Row(_data, KNOW, "Look at rows before they cost a night: check, preview, stats, convert."),
    "flags": Row(_flags, KNOW, "Look a parameter up: what it takes, its default, what tunekit makes of it."),
    "augment": Row(_augment, KNOW, "Write a dataset with a changed copy of every picture beside it."),
    "doctor": Row(_doctor, KNOW, "Is this machine ready to train, and what mends it if not?"),
    "runs": Row(_runs, AFTER, "List runs, look at one, compare several, follow, stop and delete them."),
    "report": Row(_report, AFTER, "Write what a run was and came to as one HTML file."),
    "board": Row(_board, AFTER, "Show runs as they go, compare them and plan, in a browser of this machine."),
    "chat": Row(_after, AFTER, "Talk with a trained model."),
    "merge": Row(_after, AFTER, "Merge an adapter into its model, for programs that need it whole."),
    "export": Row(_export, AFTER, "Give it the form that other programs use: merged, GGUF, Ollama, FP8, a hub."),
    "serve": Row(_serve, AFTER, "Serve it to this machine behind OpenAI's API."),
    "predict": Row(_after, AFTER, "Let a trained model answer the rows of a dataset."),
    "eval": Row(_after, AFTER, "Judge a trained model by scripts of your own, or on benchmarks."),
}
"""Every command, in the order of the help: for that, and for completion, none is built."""


def command_of(name: str) -> Any:
    """A command of tunekit by its name, a key of `COMMANDS`."""
    return COMMANDS[name].build(name)
