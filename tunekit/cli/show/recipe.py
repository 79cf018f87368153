"""What a user sees of a recipe: its stages, their plans and commands, how they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.cli.show.lines import show_lines, style
from tunekit.cli.show.plan import plan_document, show_plan
from tunekit.cli.show.run import show_done, show_failure, show_page
from tunekit.cli.show.screen import make_screen
from tunekit.console import say
from tunekit.engine.after import suggested
from tunekit.recipes.run import recipe_script
from tunekit.runs.folder import RunFolder
from tunekit.runs.preflight import problems_of
from tunekit.runs.trained.merge import stage_merge_command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tunekit.engine.failures import Failure
    from tunekit.recipes.chain import Step
    from tunekit.recipes.run import State
    from tunekit.recipes.schema import Recipe
    from tunekit.runs.report import Report, Screen


def print_script(items: list[Step], states: Mapping[str, State], *, refused: bool = False) -> None:
    """The plans on stderr, the commands on stdout: a script that does without tunekit; none where it is `refused`."""
    say("")
    for number, item in enumerate(items, start=1):
        show_stage(item, number, len(items), states[item.name])
        if states[item.name].runs:
            show_lines(("Note", problem) for problem in problems_of(item.run, f"stage {item.name}: "))
            show_plan(item.run)
    if refused:
        return
    commands = recipe_script(items, states)
    if not commands:
        say("  Nothing is to be done.")
        return
    print("set -e")
    for name, lines in commands:
        print(f"\n# {name}")
        print("\n".join(lines))


def recipe_document(recipe: Recipe, folder: Path, items: list[Step], states: Mapping[str, State]) -> dict[str, Any]:
    """A recipe's stages, how each starts, what is to be done with it, its plan: as plain data."""
    by_name = {item.name: item for item in items}
    stages = []
    for item in items:
        start, state, reward = item.start, states[item.name], item.start.reward or None
        sources = [by_name[name] for name in start.merges]
        merges = [stage_merge_command(source.plan, source.checkpoint, source.merged) for source in sources]
        stages.append(
            {
                "stage": item.name,
                "type": item.part.stage.name,
                "state": state.kind,
                "why": state.why,
                "start": {"how": start.how, "from": start.source or None, "why": start.why, "reward_model": reward},
                "merges": [
                    {"stage": name, "argv": list(merge.argv)} for name, merge in zip(start.merges, merges, strict=True)
                ],
                "plan": plan_document(item.run, problems_of(item.run, f"stage {item.name}: ") if state.runs else []),
            }
        )
    return {"recipe": str(recipe.path), "title": recipe.title, "folder": str(folder), "stages": stages}


def show_stage(item: Step, number: int, count: int, state: State) -> None:
    """A stage in a few lines: where it starts from, and whether it is done."""
    words = {"new": "", "resume": "goes on from its newest checkpoint", "again": f"anew: {state.why}"}
    word = words.get(state.kind, state.kind)
    kind = "" if item.name == item.part.stage.name else f" ({item.part.stage.name})"
    say(f"  {style(f'{number}/{count} {item.name}')}{kind}{f' · {word}' if word else ''}")
    if state.runs:
        start = f"{item.plan.get('model')}, as it is" if item.start.how == "base" else item.start.line()
        show_lines([("From", start)])
        if item.start.reward:
            show_lines([("Reward", f"by the reward model of {item.start.reward}")])


def show_results(items: list[Step]) -> None:
    """What every stage left, and what is usually done with the last one."""
    done = [item for item in items if item.checkpoint.exists()]
    say("")
    say(f"  {style('Done', 'green')}: {', '.join(item.name for item in done)}.")
    show_lines([("Saved", f"{item.checkpoint} → {item.checkpoint.resolve().name}") for item in done])
    for line in suggested(done[-1].plan) if done else []:
        show_lines([(line.title, f"tunekit {line.command} {done[-1].path}")])


class RecipeOnStderr:
    """Shows a recipe on stderr: a `tunekit.recipes.run.RecipeScreen`."""

    def begins(self, item: Step, number: int, count: int, state: State) -> Screen:
        """The plan of a stage, and where its run shows itself."""
        show_stage(item, number, count, state)
        show_plan(item.run)
        own = "" if item.name == item.part.stage.name else f" {item.name}"
        return make_screen(f"{number}/{count}{own}")

    def show(self, lines: list[tuple[str, str]]) -> None:
        """Lines with a title each."""
        show_lines(lines)

    def ended(self, item: Step, report: Report, checkpoint: Path | None) -> None:
        """What came out of a stage."""
        folder = RunFolder(item.path)
        if report.status == "done":
            show_done(folder, report)
            show_lines([("Saved", str(checkpoint))])
        elif report.status == "interrupted":
            say(f"  Stage {item.name} was stopped. No process is left.")
        else:
            show_failure(folder, report)
        show_page(folder)

    def merge_failed(self, item: Step, failure: Failure) -> None:
        """Why an adapter could not be merged."""
        title = style("The merge failed", "red")
        say(f"  {title} (exit status {failure.status}): {failure.kind.title}. {failure.evidence}")
        show_lines([("Full log", str(item.path / "merge.log"))])
