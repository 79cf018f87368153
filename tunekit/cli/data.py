"""``tunekit data check | preview | stats | convert | augment``: look at a dataset, and change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from typer.core import TyperGroup

from tunekit.cli.command import Number, TableCommand, built_command, option
from tunekit.console import say
from tunekit.errors import Exit, TunekitError, counted
from tunekit.plan.options import PREVIEW, STATS

if TYPE_CHECKING:
    from tunekit.plan.said import Words

HELP = "Look at a dataset before it is trained on: check, preview, stats; and change it: convert, augment."
HOW, WHICH, WHERE = "How the copies differ", "Which rows", "Where"

STATS_HELP = """Tell the length of rows in tokens, by the model's own tokenizer, and what they come to.

How many tokens carry loss, how many rows are too long, how many packs and steps an epoch has with the plan's batch.

Options and flags of training change the plan as they do in tunekit sft."""
PREVIEW_HELP = """Show a row as the model will see it: the text of its template, with what is learned in another colour.

Options and flags of training change the template as they do in tunekit sft."""


class RowsCommand(TableCommand):
    """A command of the table of options whose files stand first, where others have ``--dataset``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words before the first option as datasets."""
        first = list(takewhile(lambda word: not word.startswith("-"), args))
        if not first and args and not {"--help", "-h", "--dataset"} & set(args):
            raise TunekitError("FILE is missing", f"it stands first: {ctx.command_path} FILE --model MODEL")
        words = [part for file in first for part in ("--dataset", file)]
        return super().parse_args(ctx, [*words, *args[len(first) :]])


def show_lengths(_command: str, words: Words, given: Mapping[str, Any]) -> int:
    """Measure. `given` holds the options that were typed, by name. Returns the exit code."""
    from tunekit.cli.show.picture import check_picture
    from tunekit.cli.show.stats import print_stats
    from tunekit.runs.rows import measure_dataset

    picture = Path(given["plot"]) if "plot" in given else None
    if picture:
        check_picture(picture)
    print_stats(measure_dataset(words), as_json="json" in given, picture=picture)
    return int(Exit.DONE)


def show_row(_command: str, words: Words, given: Mapping[str, Any]) -> int:
    """Render a row. Returns the exit code."""
    from tunekit.cli.show.preview import print_preview
    from tunekit.runs.rows import preview_dataset

    print_preview(preview_dataset(words), as_json="json" in given)
    return int(Exit.DONE)


def augment_command(
    data: Annotated[Path, typer.Argument(help="JSON lines with images.", show_default=False)],
    out: Annotated[Path, option(WHERE, "A new folder: data.jsonl and images/.", "--out")],
    flip: Annotated[bool, option(HOW, "Mirrored left to right.", "--flip")] = False,
    crop: Annotated[Optional[float], option(HOW, "Keep this share of each side: 0.9.", "--crop")] = None,  # noqa: UP045
    seed: Annotated[int, option(HOW, "The same seed makes the same copies. Default: 42.", "--seed")] = 42,
    text: Annotated[bool, option(HOW, "Copy rows about what is written in pictures too.", "--even-with-text")] = False,
) -> None:
    """Write a dataset with a changed copy of every picture beside it: more variety for a model that sees.

    Rows about text in pictures, about left and right (with --flip), or with coordinates are kept, and not copied.
    """
    from tunekit.data.augment import Copies, augment_dataset, reasons

    done = augment_dataset(data, out, Copies(flip, crop, seed, text))
    copies = f"{done.added} {'copy' if done.added == 1 else 'copies'}"
    say(f"wrote {out / 'data.jsonl'}: {counted(done.rows, 'row')} and {copies}")
    if done.left:
        say(f"not copied: {reasons(done)}")


def convert_command(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="Files or folders of rows, of any kind and shape, or names.", show_default=False
        ),
    ],
    to: Annotated[str, option(WHERE, "A stage, such as dpo, or seq_cls, embedding, reranker.", "--to")],
    out: Annotated[Path, option(WHERE, "The new file, .jsonl.", "--out")],
    registry: Annotated[
        str, option(WHICH, "A table of datasets by name. Default: datasets.toml here.", "--registry")
    ] = "",
    columns: Annotated[str, option(WHICH, "Which column is which: prompt=instruction,response=reply.", "--map")] = "",
    image_root: Annotated[str, option(WHICH, "Where relative paths of pictures begin.", "--image-root")] = "",
    data_ratio: Annotated[float, option(WHICH, "Of each file this share, evenly spread: 0.5.", "--data-ratio")] = 1.0,
    max_samples: Annotated[Number, option(WHICH, "Of each file so many rows, the first ones.", "--max-samples")] = None,
    at_random: Annotated[bool, option(WHICH, "Not the first ones: any.", "--random")] = False,
    split: Annotated[float, option(WHERE, "Keep this share of each source for validation: 0.1.", "--split")] = 0.0,
    seed: Annotated[int, option(WHICH, "The same seed chooses the same rows. Default: 42.", "--seed")] = 42,
    as_json: Annotated[bool, typer.Option("--json", help="What was done, as one JSON object on stdout.")] = False,
) -> None:
    """Write rows of any shape as those of a stage, none lost: what cannot be converted is written beside, with why.

    With --split, OUT.val.jsonl is for --val-dataset. Pictures within Parquet files become files in OUT.images.
    """
    from tunekit.cli.show.conversion import ConversionBar, show_conversion
    from tunekit.data.cells import columns_named
    from tunekit.data.conversion import Conversion
    from tunekit.data.convert import convert_rows
    from tunekit.data.described import files_named
    from tunekit.data.stage_rows import target_named

    described = dict(files_named(files, registry))
    asked = Conversion(
        files=tuple(described),
        described=described,
        out=out,
        target=target_named(to),
        columns=columns_named(columns),
        image_root=image_root,
        ratio=data_ratio,
        most=max_samples,
        at_random=at_random,
        split=split,
        seed=seed,
    )
    with ConversionBar() as bar:
        done = convert_rows(asked, bar.move)
    show_conversion(asked, done, as_json=as_json)


def _check(name: str) -> Any:
    from tunekit.cli import check

    return built_command(check.check_command, name)


BUILDERS: Mapping[str, Callable[[str], Any]] = {
    "check": _check,
    PREVIEW: lambda name: RowsCommand(name, PREVIEW, show_row, PREVIEW_HELP),
    STATS: lambda name: RowsCommand(name, STATS, show_lengths, STATS_HELP),
    "convert": lambda name: built_command(convert_command, name),
    "augment": lambda name: built_command(augment_command, name),
}
"""What builds each command of the group, in the order of its help."""


class DataCommands(TyperGroup):
    """The commands of `BUILDERS`, built when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is Typer's
        """Their names."""
        return list(BUILDERS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """One of them; None where there is none of that name."""
        return BUILDERS[cmd_name](cmd_name) if cmd_name in BUILDERS else None
