"""From a recipe to the plans of its stages: each is read as the words of its own command are."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from tunekit.cli.command import own_options
from tunekit.engine.flags import flag_table
from tunekit.errors import TunekitError
from tunekit.recipes import chain
from tunekit.recipes.schema import BASE, Takes
from tunekit.runs import prepare

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tunekit.recipes.chain import Planned
    from tunekit.recipes.run import State
    from tunekit.recipes.schema import Part, Recipe

SAID_ONCE = "it is said once for the whole recipe, on the command line of tunekit run"
REFUSED = {
    "name": "a stage's name is its folder, and the recipe's is its file's",
    "output_dir": "each stage has a folder of its own: runs/RECIPE/STAGE; tunekit run --name NAME takes another RECIPE",
    **dict.fromkeys(("dry_run", "explain", "json", "write", "force"), SAID_ONCE),
}
"""Options of ``tunekit sft`` that have no place in a recipe."""


def takes() -> Takes:
    """What a stage may say: the options of ``tunekit sft``, and the flags of ms-swift."""
    from tunekit.cli.app import command_of

    own = own_options(command_of("sft"))
    options = {name[2:].replace("-", "_"): words for name, words in own.items() if name.startswith("--")}
    kept = {name: words for name, words in options.items() if name not in (*REFUSED, "help")}
    return Takes(kept, REFUSED, flag_table())


def asked_by(part: Part, takes: Takes, name: str) -> prepare.Asked:
    """What a stage asks for: its options, read as the words of ``tunekit TYPE …`` are."""
    from tunekit.cli.app import command_of

    command = command_of(part.stage.name)
    taken: list[prepare.Asked] = []
    with command.make_context(part.stage.name, part.words(takes), obj=taken) as context:
        command.invoke(context)
    (asked,) = taken
    return replace(asked, name=name)


def planned(recipe: Recipe, folder: Path, *, look: bool) -> tuple[list[Planned], dict[str, prepare.Asked]]:
    """Every stage of a recipe, planned, and what each asked for.

    Args:
        recipe: the recipe.
        folder: of its run.
        look: tokenize a sample of the datasets where memory depends on it.

    Raises:
        TunekitError: a stage cannot be planned, with file and line.
    """
    known = takes()
    items: list[Planned] = []
    lefts: dict[str, chain.Left] = {}
    asked_for: dict[str, prepare.Asked] = {}
    for part in recipe.parts:
        name = f"{folder.name}-{part.name}"
        reward = lefts.get(part.reward)
        try:
            asked = asked_by(part, known, name)
            if reward:
                asked = replace(asked, words=asked.words | chain.reward_words(reward))
            prepared = prepare.prepare(asked, look=look, at=(name, folder / part.name))
        except TunekitError as error:
            raise _located(part, error) from error
        left = lefts.get(part.start)
        if left is None and part.start != BASE:
            left = chain.left_in(part.start, prepared.plan.get("model"))
        start = chain.decide(part, prepared.plan, left, reward)
        plan = chain.placed(prepared.plan, start)
        item = chain.Planned(part, plan, start, prepared.path, name, prepared.oom_retry, prepared.max_attempts)
        items.append(item)
        lefts[part.name] = chain.left_by(item)
        asked_for[part.name] = asked
    return items, asked_for


def _located(part: Part, error: TunekitError) -> TunekitError:
    """An error of the planning, with the line of the option that it names; else with that of the stage."""
    named = [word.replace("-", "_") for word in re.findall(r"--([a-z][a-z_-]+)", error.message)]
    where = next((part.options[word].where for word in named if word in part.options), part.where)
    message = re.sub(r"--([a-z][a-z_-]+)", lambda found: found[1].replace("-", "_"), error.message)
    return TunekitError(f"{where}: stage {part.name}: {message}", error.hint, error.code)


def refuse_too_large(items: Iterable[Planned], states: Mapping[str, State], asked: Mapping[str, prepare.Asked]) -> None:
    """Stop before a launch in which a stage cannot end well. Raises TunekitError, exit code 3."""
    for item in items:
        if states[item.part.name].runs:
            try:
                prepare.refuse_too_large(asked[item.part.name], prepared_of(item))
            except TunekitError as error:
                raise TunekitError(f"stage {item.part.name}: {error.message}", error.hint, error.code) from error


def prepared_of(item: Planned) -> prepare.Prepared:
    """A stage as `tunekit.cli.show.plan` takes it."""
    return prepare.Prepared(item.plan, item.name, item.path, item.oom_retry, item.max_attempts)
