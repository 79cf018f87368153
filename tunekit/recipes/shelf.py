"""Where recipes are found, and which folder a recipe's run has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError, did_you_mean
from tunekit.files import config_folder, path_of, shipped_recipes
from tunekit.runs.folder import RUNS
from tunekit.runs.places import LONGEST_NAME
from tunekit.runs.trust import refuse_foreign

if TYPE_CHECKING:
    from pathlib import Path

    from tunekit.recipes.schema import Recipe


def recipe_files() -> dict[str, Path]:
    """The recipes that can be named, and their files: the user's own before those that tunekit ships."""
    folders = (shipped_recipes(), config_folder() / "recipes")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def find_recipe(name: str) -> Path:
    """The file of a recipe, by its path or name. Raises TunekitError."""
    if name.endswith(".toml") or "/" in name:
        path = path_of(name)
        if path.is_file():
            return path
        raise TunekitError(f"recipe file {name} does not exist")
    known = recipe_files()
    if name not in known:
        listed = f"there are: {', '.join(known)}; a file ends in .toml"
        raise TunekitError(f"there is no recipe {name}", did_you_mean(name, known) or listed)
    return known[name]


def recipe_folder(name: str) -> Path:
    """The folder of a recipe's run. Raises TunekitError where its name cannot be a folder's."""
    if "/" in name or name.startswith((".", "-")) or len(name) > LONGEST_NAME:
        raise TunekitError(f"--name {name} cannot be a folder's name", "letters, digits, - and _")
    return RUNS / name


def check_owner(recipe: Recipe, folder: Path, *, force: bool = False) -> None:
    """A folder belongs to one recipe and to one user. Raises TunekitError where it is another's.

    `force` takes that of another user.
    """
    file = folder / "recipe.json"
    refuse_foreign(folder, force=force)
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


def wanted_stages(recipe: Recipe, from_stage: str, only: str) -> frozenset[str]:
    """The stages that may be trained: all, those from one on, or one alone. Raises TunekitError."""
    names = [part.name for part in recipe.parts]
    if from_stage and only:
        raise TunekitError("--from-stage and --only exclude each other")
    if only:
        return frozenset({recipe.part(only).name})
    return frozenset(names[names.index(recipe.part(from_stage).name) if from_stage else 0 :])
