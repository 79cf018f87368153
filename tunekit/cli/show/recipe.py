"""What a user sees of a recipe: its stages, their plans and commands, how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.cli.show import plan as show
from tunekit.cli.show.screen import make_screen
from tunekit.console import say
from tunekit.engine.after import suggested
from tunekit.errors import TunekitError
from tunekit.recipes.plan import prepared_of
from tunekit.recipes.run import script
from tunekit.runs.folder import RunFolder
from tunekit.runs.preflight import check_data
from tunekit.runs.trained.merge import stage_merge_command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tunekit.engine.failures import Failure
    from tunekit.recipes.chain import Planned
    from tunekit.recipes.run import State
    from tunekit.recipes.schema import Recipe
    from tunekit.runs.attempts import Report, Screen


def dry_run(items: list[Planned], states: Mapping[str, State]) -> None:
    """The plans on stderr, the commands on stdout: a script that does without tunekit."""
    say("")
    for number, item in enumerate(items, start=1):
        head(item, number, len(items), states[item.part.name])
        if states[item.part.name].runs:
            try:
                check_data(item.plan)
            except TunekitError as error:
                show.told([("Note", error.message)])
            _plan(item)
    commands = script(items, states)
    if not commands:
        say("  Nothing is to be done.")
        return
    print("set -e")
    for name, lines in commands:
        print(f"\n# {name}")
        print("\n".join(lines))


def document(recipe: Recipe, folder: Path, items: list[Planned], states: Mapping[str, State]) -> dict[str, Any]:
    """A recipe's stages, how each starts, what is to be done with it, its plan: as plain data."""
    by_name = {item.part.name: item for item in items}
    stages = []
    for item in items:
        merges = [by_name[name] for name in item.start.merges]
        stages.append(
            {
                "stage": item.part.name,
                "type": item.part.stage.name,
                "state": states[item.part.name].kind,
                "why": states[item.part.name].why,
                "start": {
                    "how": item.start.how,
                    "from": item.start.source or None,
                    "why": item.start.why,
                    "reward_model": item.start.reward or None,
                },
                "merges": [
                    {
                        "stage": source.part.name,
                        "argv": list(stage_merge_command(source.plan, source.checkpoint, source.merged).argv),
                    }
                    for source in merges
                ],
                "plan": show.document(prepared_of(item)),
            }
        )
    return {
        "recipe": str(recipe.path),
        "title": recipe.title,
        "folder": str(folder),
        "stages": stages,
    }


def head(item: Planned, number: int, count: int, state: State) -> None:
    """A stage in a few lines: where it starts from, and whether it is done."""
    word = {
        "new": "",
        "resume": "goes on from its newest checkpoint",
        "done": "done",
        "again": f"anew: {state.why}",
    }.get(state.kind, state.kind)
    kind = "" if item.part.name == item.part.stage.name else f" ({item.part.stage.name})"
    say(f"  {show.style(f'{number}/{count} {item.part.name}')}{kind}{f' · {word}' if word else ''}")
    if state.runs:
        start = f"{item.plan.get('model')}, as it is" if item.start.how == "base" else item.start.line()
        show.told([("From", start)])
        if item.start.reward:
            show.told([("Reward", f"by the reward model of {item.start.reward}")])


def _plan(item: Planned) -> None:

    show.plan(prepared_of(item))


def finished(items: list[Planned]) -> None:
    """What every stage left, and what is usually done with the last one."""
    done = [item for item in items if item.checkpoint.exists()]
    say("")
    say(f"  {show.style('Done', 'green')}: {', '.join(item.part.name for item in done)}.")
    show.told([("Saved", f"{item.checkpoint} → {item.checkpoint.resolve().name}") for item in done])
    for line in suggested(done[-1].plan) if done else []:
        show.told([(line.title, f"tunekit {line.command} {done[-1].path}")])


class Teller:
    """Shows a recipe on stderr."""

    def begins(self, item: Planned, number: int, count: int, state: State) -> Screen:
        """The plan of a stage, and where its run shows itself."""
        head(item, number, count, state)
        _plan(item)
        own = "" if item.part.name == item.part.stage.name else f" {item.part.name}"
        return make_screen(f"{number}/{count}{own}")

    def told(self, lines: list[tuple[str, str]]) -> None:
        """Lines with a title each."""
        show.told(lines)

    def ended(self, item: Planned, report: Report, checkpoint: Path | None) -> None:
        """What came out of a stage."""
        folder = RunFolder(item.path)
        if report.status == "done":
            say(f"  {show.ended_well(folder, report)}")
            show.told([("Saved", str(checkpoint))])
        elif report.status == "interrupted":
            say(f"  Stage {item.part.name} was stopped. No process is left.")
        else:
            show.failed(folder, report)

    def merge_failed(self, item: Planned, failure: Failure) -> None:
        """Why an adapter could not be merged."""
        title = show.style("The merge failed", "red")
        say(f"  {title} (exit status {failure.status}): {failure.kind.title}. {failure.evidence}")
        show.told([("Full log", str(item.path / "merge.log"))])
