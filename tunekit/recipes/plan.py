"""From a recipe to the runs of its stages."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.plan.options import canonical
from tunekit.plan.request import read_request
from tunekit.plan.said import Words
from tunekit.plan.settings import Source
from tunekit.recipes.chain import Result, Step, decide_start, result_in, result_of, reward_words, started_from
from tunekit.recipes.schema import BASE
from tunekit.runs.prepare import gather_facts, prepare, too_large

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tunekit.recipes.run import State
    from tunekit.recipes.schema import Part, Recipe
    from tunekit.runs.prepare import Surroundings


def plan_recipe(recipe: Recipe, folder: Path, around: Surroundings, *, look: bool) -> list[Step]:
    """Every stage of a recipe, planned; `folder` is that of its run.

    `look` tokenizes a sample of the datasets where memory depends on it. Raises TunekitError, with file and line, where
    a stage cannot be planned.
    """
    steps: list[Step] = []
    results: dict[str, Result] = {}
    for part in recipe.parts:
        try:
            steps.append(_step(recipe, part, folder, around, results, look=look))
        except TunekitError as error:
            raise _located(part, error) from error
        results[part.name] = result_of(steps[-1])
    return steps


def _step(
    recipe: Recipe, part: Part, folder: Path, around: Surroundings, results: Mapping[str, Result], *, look: bool
) -> Step:
    reward = results.get(part.reward)
    said = {**part.said, **(reward_words(reward) if reward else {})}
    request = read_request(part.stage, Words(Source("recipe", recipe.name), said), around.others, around.flags)
    request = replace(request, name=f"{folder.name}-{part.name}", env=recipe.env)
    facts = gather_facts(request, around)
    run = prepare(request, facts, look=look, at=(request.name, folder / part.name))
    left = results.get(part.start)
    if left is None and part.start != BASE:
        left = result_in(part.start, run.plan.get("model"))
    start = decide_start(part, run.plan, left, reward)
    return Step(part, replace(run, plan=started_from(run.plan, start)), start, request, facts)


def _located(part: Part, error: TunekitError) -> TunekitError:
    """An error of the planning, with the line of the option that it names; else with that of the stage."""
    for said in part.said.values():
        if said.where and error.message.startswith(f"{said.where}: "):
            rest = error.message.removeprefix(f"{said.where}: ")
            return TunekitError(f"{said.where}: stage {part.name}: {rest}", error.hint, error.code)
    named = [canonical(word.replace("-", "_")) for word in re.findall(r"--([a-z][a-z_-]+)", error.message)]
    where = next((part.said[word].where for word in named if word in part.said), part.where)
    message = re.sub(r"--([a-z][a-z_-]+)", lambda found: found[1].replace("-", "_"), error.message)
    return TunekitError(f"{where}: stage {part.name}: {message}", error.hint, error.code)


def large_stage(steps: Iterable[Step], states: Mapping[str, State]) -> TunekitError | None:
    """What refuses a recipe of which a stage cannot end well, exit code 3; None where all fit."""
    for step in steps:
        error = too_large(step.run, step.request, step.facts) if states[step.name].runs else None
        if error:
            return TunekitError(f"stage {step.name}: {error.message}", error.hint, error.code)
    return None
