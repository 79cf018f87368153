"""Run the stages of a recipe, one after another, and remember what is done.

runs/<recipe>/  recipe.json  recipe.toml  <stage>/{run.json, stage.json, attempts, output, result, merged}  before/
"""

from __future__ import annotations

import itertools
import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import tunekit
from tunekit.engine.flags import flag_table
from tunekit.engine.plugin import Files
from tunekit.errors import Exit, TunekitError, counted
from tunekit.files import write_atomically
from tunekit.recipes import record
from tunekit.runs import preflight
from tunekit.runs.attempts import engine_or_fail, run_attempts
from tunekit.runs.checkpoints import link_result
from tunekit.runs.folder import RunFolder, RunState, now
from tunekit.runs.functions import try_functions, write_files
from tunekit.runs.script import command_for
from tunekit.runs.start import begin_run
from tunekit.runs.trained.merge import merge_stage, merged_gib, stage_merge_command
from tunekit.runs.trust import refuse_foreign, refuse_unknown_flags

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tunekit.engine.failures import Failure
    from tunekit.recipes.chain import Step
    from tunekit.recipes.schema import Recipe
    from tunekit.runs.report import Report, Screen

NEW, RESUME, DONE, AGAIN, SKIPPED = "new", "resume", "done", "again", "not asked for"
"""What is to be done with a stage; `AGAIN` is for one that is done or begun, and is trained anew."""

SCHEMA = 1
BEFORE = "before"
"""Where the folder of a stage goes that is trained anew: nothing is deleted."""


@dataclass(frozen=True)
class State:
    """What is to be done with a stage: `kind` is one of the words above, `why` says the reason to people."""

    kind: str
    why: str = ""

    @property
    def runs(self) -> bool:
        """Whether it will be trained now."""
        return self.kind in (NEW, RESUME, AGAIN)


class RecipeScreen(Protocol):
    """Where a recipe shows itself."""

    def begins(self, item: Step, number: int, count: int, state: State) -> Screen:
        """A stage starts; where its run shows itself."""

    def show(self, lines: list[tuple[str, str]]) -> None:
        """Lines with a title each."""

    def ended(self, item: Step, report: Report, checkpoint: Path | None) -> None:
        """A stage has ended; with the checkpoint that counts, where it is done."""

    def merge_failed(self, item: Step, failure: Failure) -> None:
        """The adapter of a stage could not be merged."""


def recipe_states(items: Sequence[Step], wanted: frozenset[str], *, again: bool = False) -> dict[str, State]:
    """What is to be done with each stage. Reads the folders of the stages and hashes the data; changes nothing.

    Stages that are not `wanted` are taken as they are; `again` trains finished ones anew. Raises TunekitError where a
    stage that is not wanted is needed and not done, or a folder is not this recipe's.
    """
    found: dict[str, State] = {}
    folders = {item.name: item.path for item in items}
    for item in items:
        if item.name not in wanted:
            found[item.name] = State(SKIPPED)
            continue
        for name in item.start.needs:
            if name in found and found[name].kind == SKIPPED and not _done(folders[name]):
                message = f"stage {item.name} starts from {name}, which is not done"
                raise TunekitError(message, f"begin there: --from-stage {name}")
        found[item.name] = _state(item, folders, found, again=again)
    return found


def _done(folder: Path) -> bool:
    return (folder / "run.json").is_file() and RunFolder(folder).load().status == "done"


def _state(item: Step, folders: Mapping[str, Path], found: Mapping[str, State], *, again: bool) -> State:
    if not (item.path / "run.json").is_file():
        return State(NEW)
    old = record.load_record(item.path)
    if old is None:
        raise TunekitError(f"{item.path} is a run, and not one of this recipe", "take another --name")
    moved = [name for name in item.start.needs if name in found and found[name].runs]
    if moved:
        return State(AGAIN, f"{moved[0]} is trained anew")
    made = record.make_record(item, {name: folders[name] for name in item.start.needs if name in folders}, old)
    reasons = record.differences(old, made)
    if reasons:
        more = f", and {len(reasons) - 2} more" if len(reasons) > 2 else ""
        return State(AGAIN, ", ".join(reasons[:2]) + more)
    if again:
        return State(AGAIN, "asked for")
    return State(DONE if RunFolder(item.path).load().status == "done" else RESUME)


def check_stages(items: Sequence[Step], states: Mapping[str, State], *, force: bool = False) -> None:
    """Check data, functions and disk of all stages that will run. Raises TunekitError, which names the stage.

    Also where the folder of a stage was written by another user, unless by `force`: what it says would be run.
    """
    engine_or_fail()
    for item in items:
        refuse_foreign(item.path, force=force)
    coming = [item for item in items if states[item.name].runs]
    for item in items:
        try:
            preflight.check_machine(item.plan)
        except TunekitError as error:
            hint = "look with --dry-run, and take the script that it prints there"
            raise TunekitError(f"stage {item.name}: {error.message}", hint) from error
    for item in coming:
        if item.plan.get("save_strategy") == "no" and any(item.name in other.start.needs for other in items):
            raise TunekitError(f"stage {item.name} saves no checkpoint, and another starts from it")
        try:
            preflight.check_launch(item.plan, item.path)
            try_functions(item.plan, Files.of_run(item.path))
        except TunekitError as error:
            raise TunekitError(f"stage {item.name}: {error.message}", error.hint, error.code) from error
    _check_disk_for_merges(items, coming)


def _check_disk_for_merges(items: Sequence[Step], coming: Sequence[Step]) -> None:
    names = dict.fromkeys(name for item in coming for name in item.start.merges)
    sizes = [merged_gib(item.plan) for item in items if item.name in names and not item.merged.is_dir()]
    if not sizes:
        return
    folder, free = preflight.free_disk(items[0].path.resolve().parent)
    if sum(sizes) > max(free, preflight.LARGE_GIB):
        models = f"{counted(len(sizes), 'merged model')} of about {max(sizes):.1f} GiB"
        message = f"{models} {'does' if len(sizes) == 1 else 'do'} not fit the {free:.1f} GiB free in {folder}"
        raise TunekitError(message, "free some space, or merge = false where a stage allows it")


def run_recipe(
    recipe: Recipe, items: Sequence[Step], folder: RunFolder, states: Mapping[str, State], screen: RecipeScreen
) -> int:
    """Run what `recipe_states` says, with the lock of the recipe's folder; gives the exit code of the first failure."""
    states = dict(states)
    runner = _Runner(recipe, items, folder, states, screen)
    runner.save()
    for number, item in enumerate(items, start=1):
        if not states[item.name].runs:
            continue
        if not runner.merged(item):
            return int(Exit.TRAINING_FAILED)
        report = runner.train(item, number)
        if report.exit_code:  # a stage that diverged, too, is nothing to go on from
            runner.save()
            return int(report.exit_code)
        states[item.name] = State(DONE)
        runner.save()
    return int(Exit.DONE)


class _Runner:
    def __init__(
        self, recipe: Recipe, items: Sequence[Step], folder: RunFolder, states: dict[str, State], screen: RecipeScreen
    ) -> None:
        self._recipe, self._items, self._folder, self._states = recipe, items, folder, states
        self._by_name = {item.name: item for item in items}
        self._screen = screen
        self._engine = engine_or_fail()

    def save(self) -> None:
        """Write ``recipe.json``, and the recipe's file as it is now."""
        document = {
            "schema": SCHEMA,
            "tunekit": tunekit.__version__,
            "recipe": str(self._recipe.path.resolve()),
            "cwd": str(Path.cwd()),
            "changed": now(),
            "stages": [
                {
                    "name": item.name,
                    "type": item.part.stage.name,
                    "starts": item.start.how,
                    "from": item.start.source,
                    "reward": item.start.reward,
                    "state": self._states[item.name].kind,
                    "folder": item.name,
                }
                for item in self._items
            ],
        }
        write_atomically(self._folder.path / "recipe.toml", self._recipe.text)
        write_atomically(self._folder.path / "recipe.json", json.dumps(document, indent=1, ensure_ascii=False) + "\n")

    def merged(self, item: Step) -> bool:
        """Merge the adapters that a stage needs as whole models; whether that went well."""
        for name in item.start.merges:
            source = self._by_name[name]
            if source.merged.is_dir():
                continue
            self._screen.show([("Merge", f"the adapter of {name} into {source.merged}")])
            with RunFolder(source.path) as place:
                link_result(source.path)
                failure = merge_stage(place, source.plan, self._engine)
            if failure:
                self._screen.merge_failed(source, failure)
                return False
        return True

    def train(self, item: Step, number: int) -> Report:
        """Train one stage to its end."""
        state = self._states[item.name]
        for name in item.start.needs:  # a stage of before may have ended without its link, when the machine died
            if name in self._by_name and not self._by_name[name].checkpoint.exists():
                link_result(self._by_name[name].path)
        screen = self._screen.begins(item, number, len(self._items), state)
        if state.kind == AGAIN:
            self._move_away(item)
        with RunFolder(item.path) as place:
            run_state = self._resumed(place, item) if state.kind == RESUME else self._begun(place, item)
            report = run_attempts(place, run_state, screen)
            checkpoint = link_result(item.path) if report.status == "done" else None
        self._screen.ended(item, report, checkpoint)
        return report

    def _move_away(self, item: Step) -> None:
        """Keep what the stage was before; nobody else may be at work in it."""
        with RunFolder(item.path):
            kept = self._folder.path / BEFORE
            kept.mkdir(exist_ok=True)
            targets = (kept / f"{item.name}-{number}" for number in itertools.count(1))
            target = next(path for path in targets if not path.exists())
            item.path.rename(target)
        self._screen.show([("Kept", f"what {item.name} was before is in {target}")])

    def _begun(self, place: RunFolder, item: Step) -> RunState:
        earlier = {name: self._by_name[name].path for name in item.start.needs if name in self._by_name}
        made = record.make_record(item, earlier)
        return begin_run(place, item.run, self._screen.show, lambda: made.save(place.path))

    def _resumed(self, place: RunFolder, item: Step) -> RunState:
        """The state of a run that was broken off."""
        state = place.load()
        before = record.load_record(place.path)
        if before and record.takes_over(before, state.plan, item.plan):
            state.plan = item.plan
            replace(before, planned=record.flags_of(item.plan)).save(place.path)
        refuse_unknown_flags(place.path / "run.json", state.plan, flag_table())
        state.oom_retry, state.max_attempts = item.run.oom_retry, item.run.max_attempts
        self._screen.show(write_files(state.plan, Files.of_run(place.path)))
        return state


def recipe_script(items: Sequence[Step], states: Mapping[str, State]) -> list[tuple[str, list[str]]]:
    """The commands of the stages that will run, in order, as lines of a shell; each with the stage's name.

    They do without tunekit: the link to the result leads to the last checkpoint.
    """
    done = {item.name for item in items if item.merged.is_dir() and not states[item.name].runs}
    by_name = {item.name: item for item in items}
    found: list[tuple[str, list[str]]] = []
    for item in items:
        if not states[item.name].runs:
            continue
        sources = [by_name[name] for name in item.start.merges if name not in done]
        lines = [stage_merge_command(one.plan, one.checkpoint, one.merged).shell() for one in sources]
        done.update(item.start.merges)
        lines.append(command_for(item.run).shell())
        if any(item.name in other.start.needs for other in items):
            lines.append(shlex.join(["ln", "-sfn", "output/last-checkpoint", str(item.checkpoint)]))
        found.append((item.name, lines))
    return found
