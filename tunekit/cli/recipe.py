"""``tunekit run`` and ``tunekit recipes list | show | copy``."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunekit.cli.command import META, SwiftCommand, own_options, split, swift_flags
from tunekit.cli.options import option
from tunekit.cli.show.lines import print_table
from tunekit.console import say
from tunekit.errors import Exit, TunekitError, did_you_mean

if TYPE_CHECKING:
    from tunekit.recipes.chain import Planned
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
        named = args[alone : alone + 1] if args[alone : alone + 1] and not args[alone].startswith("-") else []
        mine, flags = split([*args[:alone], *args[alone + len(named) :]], own)
        ctx.meta[META] = flags
        return super(SwiftCommand, self).parse_args(ctx, [*named, *mine])


def run(
    ctx: typer.Context,
    recipe: File,
    from_stage: Annotated[str, option(WHICH, "Begin with this stage; those before are taken as they are.")] = "",
    only: Annotated[str, option(WHICH, "Train this stage alone.")] = "",
    again: Annotated[bool, option(WHICH, "Train finished stages anew.", "--again")] = False,
    name: Annotated[str, option(WHERE, "The recipe's folder is runs/NAME. Default: the file's name.")] = "",
    force: Annotated[
        bool, option(WHERE, "Start although the prediction says that a stage does not fit.", "--force")
    ] = False,
    dry_run: Annotated[bool, option(LOOK, "Print the commands of all stages.", "--dry-run")] = False,
    as_json: Annotated[bool, option(LOOK, "Print all plans as one JSON object.", "--json")] = False,
) -> None:
    """Run a recipe: several stages, each starting from what an earlier one left. What is done is not repeated.

    Options of a stage may be added: --model M for all stages, --dpo.beta 0.2 for the stage dpo.
    """
    from tunekit.cli.show import recipe as recipeshow
    from tunekit.recipes import plan as recipeplan
    from tunekit.recipes import run as recipes
    from tunekit.recipes.reader import read

    read_recipe = read(find(recipe), recipeplan.takes(), swift_flags(ctx))
    looking = dry_run or as_json
    folder = _folder(name or read_recipe.name)
    items, asked = recipeplan.planned(read_recipe, folder, look=not looking)
    states = recipes.look(items, _wanted(read_recipe, from_stage, only), again=again)
    if as_json:
        print(json.dumps(recipeshow.document(read_recipe, folder, items, states), indent=2, ensure_ascii=False))
    elif dry_run:
        recipeshow.dry_run(items, states)
    else:
        if not force:
            recipeplan.refuse_too_large(items, states, asked)
        raise typer.Exit(_run(read_recipe, folder, items, states))


@app.command("list")
def list_recipes(as_json: Json = False) -> None:
    """The recipes that can be named."""
    from tunekit.recipes import plan as recipeplan
    from tunekit.recipes.reader import read

    found = [read(path, recipeplan.takes(), {"model": ["MODEL"]}) for path in shelf().values()]
    rows = [
        {
            "name": recipe.name,
            "title": recipe.title,
            "stages": [part.stage.name for part in recipe.parts],
            "file": str(recipe.path),
        }
        for recipe in found
    ]
    if as_json:
        print(json.dumps({"recipes": rows}, indent=2, ensure_ascii=False))
        return
    head = ["recipe", "stages", "for"]
    print_table([head, *([str(row["name"]), " → ".join(row["stages"]), str(row["title"])] for row in rows)])


@app.command()
def show(recipe: File) -> None:
    """A recipe's file, with its comments."""
    print(find(recipe).read_text(encoding="utf-8"), end="")


@app.command()
def copy(
    recipe: File,
    file: Annotated[Path, typer.Argument(help="Where to; must not exist.", show_default=False)],
) -> None:
    """Copy a recipe's file, to change it and run it with tunekit run FILE."""
    source = find(recipe)
    if file.exists():
        raise TunekitError(f"{file} exists already", "take another name, or delete it")
    if not file.parent.is_dir():
        raise TunekitError(f"the folder {file.parent} does not exist")
    shutil.copyfile(source, file)
    say(f"copied {source} to {file}\nrun it with: tunekit run {file}")


def shelf() -> dict[str, Path]:
    """The recipes that can be named, and their files: the user's own before those that tunekit ships."""
    from tunekit.files import config_folder, shipped_recipes

    folders = (shipped_recipes(), config_folder() / "recipes")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def find(name: str) -> Path:
    """The file of a recipe, by its path or name. Raises TunekitError."""
    if name.endswith(".toml") or "/" in name:
        path = Path(name).expanduser()
        if path.is_file():
            return path
        raise TunekitError(f"recipe file {name} does not exist")
    known = shelf()
    if name not in known:
        listed = f"there are: {', '.join(known)}; a file ends in .toml"
        raise TunekitError(f"there is no recipe {name}", did_you_mean(name, known) or listed)
    return known[name]


def _folder(name: str) -> Path:
    from tunekit.runs.folder import LONGEST_NAME, RUNS

    if "/" in name or name.startswith((".", "-")) or len(name) > LONGEST_NAME:
        raise TunekitError(f"--name {name} cannot be a folder's name", "letters, digits, - and _")
    return RUNS / name


def _check_owner(recipe: Recipe, folder: Path) -> None:
    """A folder belongs to one recipe. Raises TunekitError."""
    file = folder / "recipe.json"
    if not file.is_file():
        if folder.is_dir() and any(path.name != ".lock" for path in folder.iterdir()):
            raise TunekitError(f"{folder} exists and is no recipe's run", "take another --name")
        return
    try:
        owner = json.loads(file.read_text(encoding="utf-8"))["recipe"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TunekitError(f"{file}: cannot be read: {error}", "take another --name") from error
    if owner != str(recipe.path.resolve()):
        raise TunekitError(f"{folder} is the run of another recipe: {owner}", "take another --name")


def _wanted(recipe: Recipe, from_stage: str, only: str) -> frozenset[str]:
    names = [part.name for part in recipe.parts]
    if from_stage and only:
        raise TunekitError("--from-stage and --only exclude each other")
    if only:
        return frozenset({recipe.part(only).name})
    return frozenset(names[names.index(recipe.part(from_stage).name) if from_stage else 0 :])


def _run(recipe: Recipe, folder: Path, items: list[Planned], states: dict[str, State]) -> int:
    from tunekit.cli.show import plan as show
    from tunekit.cli.show import recipe as recipeshow
    from tunekit.recipes import run as recipes
    from tunekit.runs.attempts import engine_or_fail
    from tunekit.runs.folder import RunFolder

    say("")
    for number, item in enumerate(items, start=1):
        recipeshow.head(item, number, len(items), states[item.part.name])
    say("")
    engine_or_fail()
    for item in items:
        try:
            show.refuse_other_machine(item.plan)
        except TunekitError as error:
            hint = "look with --dry-run, and take the script that it prints there"
            raise TunekitError(f"stage {item.part.name}: {error.message}", hint) from error
    recipes.check(items, states)
    _check_owner(recipe, folder)
    place = RunFolder(folder)
    place.acquire()
    try:
        code = recipes.run(recipe, items, place, states, recipeshow.Teller())
    except KeyboardInterrupt:
        code = int(Exit.INTERRUPTED)
        say("  Stopped. No process is left.")
    finally:
        place.release()
    if code:
        show.told([("Go on", _same_words())])
    else:
        recipeshow.finished(items)
    return code


def _same_words() -> str:
    """The command that goes on: the same one; with --again it would begin once more."""
    return shlex.join(["tunekit", *(word for word in sys.argv[1:] if word != "--again")])
