"""Run the stages of a recipe, one after another, and remember what is done.

runs/<recipe>/  recipe.json  recipe.toml  <stage>/{run.json, stage.json, attempts, output, result, merged}  before/
"""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import tunekit
from tunekit.engine.command import build
from tunekit.engine.plugin import Files, placed
from tunekit.errors import Exit, TunekitError
from tunekit.files import write_atomically
from tunekit.recipes import record
from tunekit.runs import attempts, preflight
from tunekit.runs.checkpoints import link_result
from tunekit.runs.folder import RunFolder, RunState, now
from tunekit.runs.functions import first_files, try_functions, write_files
from tunekit.runs.trained.merge import merge_stage, merged_gib, stage_merge_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tunekit.engine.failures import Failure
    from tunekit.recipes.chain import Planned
    from tunekit.recipes.schema import Recipe
    from tunekit.runs.attempts import Report, Screen

NEW, RESUME, DONE, AGAIN, SKIPPED = "new", "resume", "done", "again", "not asked for"
SCHEMA = 1
BEFORE = "before"
"""Where the folder of a stage goes that is trained anew: nothing is deleted."""


@dataclass(frozen=True)
class State:
    """What is to be done with a stage.

    Attributes:
        kind: `NEW`, `RESUME`, `DONE`, `AGAIN` (done or begun, and to be trained anew) or `SKIPPED`.
        why: for people, where there is a reason to tell.
    """

    kind: str
    why: str = ""

    @property
    def runs(self) -> bool:
        """Whether it will be trained now."""
        return self.kind in (NEW, RESUME, AGAIN)


class Teller(Protocol):
    """Where a recipe shows itself."""

    def begins(self, item: Planned, number: int, count: int, state: State) -> Screen:
        """A stage starts; where its run shows itself."""

    def told(self, lines: list[tuple[str, str]]) -> None:
        """Lines with a title each."""

    def ended(self, item: Planned, report: Report, checkpoint: Path | None) -> None:
        """A stage has ended; with the checkpoint that counts, where it is done."""

    def merge_failed(self, item: Planned, failure: Failure) -> None:
        """The adapter of a stage could not be merged."""


def look(items: Sequence[Planned], wanted: frozenset[str], *, again: bool = False) -> dict[str, State]:
    """What is to be done with each stage. Reads the folders of the stages and hashes the data; changes nothing.

    Args:
        items: in order.
        wanted: the stages that may be trained; the others are taken as they are.
        again: whether finished stages are trained anew.

    Raises:
        TunekitError: a stage that is not wanted is needed and not done, or a folder is not this recipe's.
    """
    found: dict[str, State] = {}
    folders = {item.part.name: item.path for item in items}
    for item in items:
        if item.part.name not in wanted:
            found[item.part.name] = State(SKIPPED)
            continue
        for name in item.start.needs:
            if name in found and found[name].kind == SKIPPED and not _done(folders[name]):
                raise TunekitError(
                    f"stage {item.part.name} starts from {name}, which is not done", f"begin there: --from-stage {name}"
                )
        found[item.part.name] = _state(item, folders, found, again=again)
    return found


def _done(folder: Path) -> bool:
    return (folder / "run.json").is_file() and RunFolder(folder).load().status == "done"


def _state(item: Planned, folders: Mapping[str, Path], found: Mapping[str, State], *, again: bool) -> State:
    if not (item.path / "run.json").is_file():
        return State(NEW)
    old = record.load(item.path)
    if old is None:
        raise TunekitError(f"{item.path} is a run, and not one of this recipe", "take another --name")
    moved = [name for name in item.start.needs if name in found and found[name].runs]
    if moved:
        return State(AGAIN, f"{moved[0]} is trained anew")
    made = record.make(item, {name: folders[name] for name in item.start.needs if name in folders}, old)
    reasons = record.differences(old, made)
    if reasons:
        more = f", and {len(reasons) - 2} more" if len(reasons) > 2 else ""
        return State(AGAIN, ", ".join(reasons[:2]) + more)
    if again:
        return State(AGAIN, "asked for")
    return State(DONE if RunFolder(item.path).load().status == "done" else RESUME)


def check(items: Sequence[Planned], states: Mapping[str, State]) -> None:
    """Check the data, the functions and the disk of every stage that will run, before the first one starts.

    Args:
        items: the stages.
        states: from `look`.

    Raises:
        TunekitError: what a stage, which is named, could not be trained on.
    """
    coming = [item for item in items if states[item.part.name].runs]
    for item in coming:
        saves = item.plan.get("save_strategy") != "no"
        if not saves and any(item.part.name in other.start.needs for other in items):
            raise TunekitError(f"stage {item.part.name} saves no checkpoint, and another starts from it")
        try:
            preflight.check(item.plan, item.path)
            try_functions(item.plan, Files.of_run(item.path))
        except TunekitError as error:
            raise TunekitError(f"stage {item.part.name}: {error.message}", error.hint, error.code) from error
    _check_disk_for_merges(items, coming)


def _check_disk_for_merges(items: Sequence[Planned], coming: Sequence[Planned]) -> None:
    names = dict.fromkeys(name for item in coming for name in item.start.merges)
    sizes = [merged_gib(item.plan) for item in items if item.part.name in names and not item.merged.is_dir()]
    if not sizes:
        return
    folder = next(parent for parent in items[0].path.resolve().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free / 2**30
    if sum(sizes) > max(free, preflight.LARGE_GIB):
        raise TunekitError(
            f"{len(sizes)} merged models of about {max(sizes):.1f} GiB do not fit the {free:.1f} GiB free in {folder}",
            "free some space, or merge = false where a stage allows it",
        )


def run(recipe: Recipe, items: Sequence[Planned], folder: RunFolder, states: dict[str, State], teller: Teller) -> int:
    """Run what `look` says is to be done. The lock of the recipe's folder must be held.

    Returns:
        The exit code: that of the first stage that does not end well.
    """
    states = dict(states)
    runner = _Runner(recipe, items, folder, states, teller)
    runner.save()
    for number, item in enumerate(items, start=1):
        if not states[item.part.name].runs:
            continue
        if not runner.merged(item):
            return int(Exit.TRAINING_FAILED)
        report = runner.train(item, number)
        if report.status != "done":
            runner.save()
            return int(Exit.INTERRUPTED if report.status == "interrupted" else Exit.TRAINING_FAILED)
        states[item.part.name] = State(DONE)
        runner.save()
    return int(Exit.DONE)


class _Runner:
    """One call of `run`."""

    def __init__(
        self,
        recipe: Recipe,
        items: Sequence[Planned],
        folder: RunFolder,
        states: Mapping[str, State],
        teller: Teller,
    ) -> None:
        self._recipe = recipe
        self._items = items
        self._by_name = {item.part.name: item for item in items}
        self._folder = folder
        self._states = states
        self._teller = teller
        self._engine = attempts.engine_or_fail()

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
                    "name": item.part.name,
                    "type": item.part.stage.name,
                    "starts": item.start.how,
                    "from": item.start.source,
                    "reward": item.start.reward,
                    "state": self._states[item.part.name].kind,
                    "folder": item.part.name,
                }
                for item in self._items
            ],
        }
        write_atomically(self._folder.path / "recipe.toml", self._recipe.text)
        write_atomically(self._folder.path / "recipe.json", json.dumps(document, indent=1, ensure_ascii=False) + "\n")

    def merged(self, item: Planned) -> bool:
        """Merge the adapters that a stage needs as whole models; whether that went well."""
        for name in item.start.merges:
            source = self._by_name[name]
            if source.merged.is_dir():
                continue
            self._teller.told([("Merge", f"the adapter of {name} into {source.merged}")])
            place = RunFolder(source.path)
            place.acquire()
            try:
                link_result(source.path)
                failure = merge_stage(place, source.plan, self._engine)
            finally:
                place.release()
            if failure:
                self._teller.merge_failed(source, failure)
                return False
        return True

    def train(self, item: Planned, number: int) -> Report:
        """Train one stage to its end."""
        state = self._states[item.part.name]
        for name in item.start.needs:  # a stage of before may have ended without its link, when the machine died
            if name in self._by_name and not self._by_name[name].checkpoint.exists():
                link_result(self._by_name[name].path)
        screen = self._teller.begins(item, number, len(self._items), state)
        place = RunFolder(item.path)
        place.acquire()
        try:
            if state.kind == AGAIN:
                place = self._move_away(place, item.part.name)
            run_state = self._resumed(place, item) if state.kind == RESUME else self._begun(place, item)
            report = attempts.run(place, run_state, screen)
            checkpoint = link_result(item.path) if report.status == "done" else None
        finally:
            place.release()
        self._teller.ended(item, report, checkpoint)
        return report

    def _move_away(self, place: RunFolder, name: str) -> RunFolder:
        """Keep what the stage was before, and begin in an empty folder; nobody else may be at work in it."""
        kept = self._folder.path / BEFORE
        kept.mkdir(exist_ok=True)
        number = 1
        while (target := kept / f"{name}-{number}").exists():
            number += 1
        place.path.rename(target)
        place.release()
        self._teller.told([("Kept", f"what {name} was before is in {target}")])
        fresh = RunFolder(place.path)
        fresh.acquire()
        return fresh

    def _made(self, item: Planned, before: record.Record | None) -> record.Record:
        earlier = {name: self._by_name[name].path for name in item.start.needs if name in self._by_name}
        return record.make(item, earlier, before)

    def _begun(self, place: RunFolder, item: Planned) -> RunState:
        self._teller.told(first_files(item.plan, place.path))
        state = RunState(
            name=item.name,
            status="running",
            plan=item.plan,
            oom_retry=item.oom_retry,
            max_attempts=item.max_attempts,
            created=now(),
            cwd=str(Path.cwd()),
        )
        self._made(item, None).save(place.path)
        command = build(placed(item.plan, Files.of_run(item.path)), item.path / "output")
        script = command.script([f"Written by tunekit {tunekit.__version__}: stage {item.part.name} of a recipe."])
        write_atomically(place.path / "command.sh", script, mode=0o755)
        place.save(state)
        return state

    def _resumed(self, place: RunFolder, item: Planned) -> RunState:
        """The state of a run that was broken off."""
        state = place.load()
        before = record.load(place.path)
        if before and record.takes_over(before, state.plan, item.plan):
            state.plan = item.plan
            replace(before, planned=record.planned(item.plan)).save(place.path)
        state.oom_retry, state.max_attempts = item.oom_retry, item.max_attempts
        self._teller.told(write_files(state.plan, Files.of_run(place.path)))
        return state


def script(items: Sequence[Planned], states: Mapping[str, State]) -> list[tuple[str, list[str]]]:
    """The commands of the stages that will run, in order, as lines of a shell; each with the stage's name.

    They do without tunekit: the link to the result leads to the last checkpoint.
    """
    done: set[str] = {item.part.name for item in items if item.merged.is_dir() and not states[item.part.name].runs}
    by_name = {item.part.name: item for item in items}
    found: list[tuple[str, list[str]]] = []
    for item in items:
        if not states[item.part.name].runs:
            continue
        lines = []
        for name in item.start.merges:
            if name not in done:
                lines.append(
                    stage_merge_command(by_name[name].plan, by_name[name].checkpoint, by_name[name].merged).shell()
                )
                done.add(name)
        lines.append(build(placed(item.plan, Files.of_run(item.path)), item.path / "output").shell())
        if any(item.part.name in other.start.needs for other in items):
            lines.append(shlex.join(["ln", "-sfn", "output/last-checkpoint", str(item.checkpoint)]))
        found.append((item.part.name, lines))
    return found
