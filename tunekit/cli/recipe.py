"""``tunekit run`` and ``tunekit recipes list | show | copy``."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunekit.cli.command import SwiftCommand, check_copy, option, own_options, swift_flags
from tunekit.cli.show.lines import print_document, print_table, show_lines
from tunekit.console import say
from tunekit.errors import Exit

if TYPE_CHECKING:
    from tunekit.recipes.chain import Step
    from tunekit.recipes.run import State
    from tunekit.recipes.schema import Recipe

app = typer.Typer(help="List, show and copy recipes.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
File = Annotated[str, typer.Argument(metavar="RECIPE", help="A name or a file.", show_default=False)]

WHICH, WHERE, LOOK = "Which stages", "Where", "Look first, train nothing"


class RecipeCommand(SwiftCommand):
    """A command that takes the recipe first, then its own options among those of the stages."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep the options of the stages apart, as `SwiftCommand` does for flags of ms-swift."""
        own = own_options(self)
        alone = next((index for index, word in enumerate(args) if own.get(word) != 0), len(args))
        named = [word for word in args[alone : alone + 1] if not word.startswith("-")]
        return self.parse_split(ctx, named, [*args[:alone], *args[alone + len(named) :]])


def run_command(
    ctx: typer.Context,
    recipe: File,
    from_stage: Annotated[str, option(WHICH, "Begin with this stage; those before are taken as they are.")] = "",
    only: Annotated[str, option(WHICH, "Train this stage alone.")] = "",
    again: Annotated[bool, option(WHICH, "Train finished stages anew.", "--again")] = False,
    name: Annotated[str, option(WHERE, "The recipe's folder is runs/NAME. Default: the file's name.")] = "",
    force: Annotated[
        bool,
        option(WHERE, "Start although a stage is predicted not to fit, or another user wrote the folder.", "--force"),
    ] = False,
    dry_run: Annotated[bool, option(LOOK, "Print the commands of all stages.", "--dry-run")] = False,
    as_json: Annotated[bool, option(LOOK, "Print all plans as one JSON object.", "--json")] = False,
) -> None:
    """Run a recipe: several stages, each starting from what an earlier one left. What is done is not repeated.

    Options of a stage may be added: --model M for all stages, --dpo.beta 0.2 for the stage dpo.
    """
    from tunekit.cli.show import recipe as show
    from tunekit.recipes.plan import large_stage, plan_recipe
    from tunekit.recipes.reader import read_recipe
    from tunekit.recipes.run import recipe_states
    from tunekit.recipes.shelf import find_recipe, recipe_folder, wanted_stages
    from tunekit.runs.prepare import look_around

    around = look_around()
    read = read_recipe(find_recipe(recipe), around.flags, swift_flags(ctx))
    folder = recipe_folder(name or read.name)
    items = plan_recipe(read, folder, around, look=not (dry_run or as_json))
    states = recipe_states(items, wanted_stages(read, from_stage, only), again=again)
    refusal = None if force else large_stage(items, states)
    if as_json:
        print_document(show.recipe_document(read, folder, items, states))
    elif dry_run:
        show.print_script(items, states, refused=refusal is not None)
    elif refusal is None:
        raise typer.Exit(_run(read, folder, items, states, force=force))
    if refusal:
        raise refusal


@app.command("list")
def list_recipes(as_json: Json = False) -> None:
    """The recipes that can be named."""
    from tunekit.recipes.reader import read_recipe
    from tunekit.recipes.shelf import recipe_files
    from tunekit.runs.prepare import look_around

    flags = look_around().flags
    rows: list[dict[str, Any]] = []
    for path in recipe_files().values():
        recipe = read_recipe(path, flags, {"model": ["MODEL"]})
        stages = [part.stage.name for part in recipe.parts]
        rows.append({"name": recipe.name, "title": recipe.title, "stages": stages, "file": str(recipe.path)})
    if as_json:
        print_document({"recipes": rows})
        return
    head = ["recipe", "stages", "for"]
    print_table([head, *([row["name"], " → ".join(row["stages"]), row["title"]] for row in rows)])


@app.command("show")
def show_recipe(recipe: File) -> None:
    """A recipe's file, with its comments."""
    from tunekit.recipes.shelf import find_recipe

    print(find_recipe(recipe).read_text(encoding="utf-8"), end="")


@app.command("copy")
def copy_recipe(
    recipe: File, file: Annotated[Path, typer.Argument(help="Where to; must not exist.", show_default=False)]
) -> None:
    """Copy a recipe's file, to change it and run it with tunekit run FILE."""
    from tunekit.recipes.shelf import find_recipe

    source = find_recipe(recipe)
    check_copy(file)
    shutil.copyfile(source, file)
    say(f"copied {source} to {file}\nrun it with: tunekit run {file}")


def _run(recipe: Recipe, folder: Path, items: list[Step], states: dict[str, State], *, force: bool) -> int:
    from tunekit.cli.show import recipe as show
    from tunekit.recipes.run import check_stages, run_recipe
    from tunekit.recipes.shelf import check_owner
    from tunekit.runs.folder import RunFolder

    say("")
    for number, item in enumerate(items, start=1):
        show.show_stage(item, number, len(items), states[item.name])
    say("")
    check_owner(recipe, folder, force=force)
    check_stages(items, states, force=force)
    place = RunFolder(folder)
    place.acquire()
    try:
        code = run_recipe(recipe, items, place, states, show.RecipeOnStderr())
    except KeyboardInterrupt:
        code = int(Exit.INTERRUPTED)
        say("  Stopped. No process is left.")
    finally:
        place.release()
    if code:
        # The same command goes on; with --again it would begin once more.
        show_lines([("Go on", shlex.join(["tunekit", *(word for word in sys.argv[1:] if word != "--again")]))])
    else:
        show.show_results(items)
    return code
