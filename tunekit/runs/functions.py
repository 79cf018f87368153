"""Rewards and formats of the user's in a run: what is checked before a launch, and the files that the run needs."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.data.files import ROWS, local_file
from tunekit.data.functions.find import REWARD, signature
from tunekit.data.functions.trial import rows_of, try_format, try_reward, write_formatted
from tunekit.data.look import first_rows
from tunekit.data.rows import BROUGHT, arrive
from tunekit.data.sound import read_rows
from tunekit.engine.locate import find_package
from tunekit.engine.plugin import Files, bare, formatted_rows, plugin_text, with_files
from tunekit.engine.rewards import PACKAGES, built_in
from tunekit.errors import Exit, TunekitError, counted
from tunekit.files import write_atomically

if TYPE_CHECKING:
    from tunekit.data.functions.find import Function
    from tunekit.plan.plan import Plan
    from tunekit.stages import Stage

SHOWN = 3
"""Rows on which a reward is tried."""


def settled(plan: Plan, files: Files) -> Plan:
    """The plan of a run whose rows are formatted already: what it learns is settled, and its sources may be gone."""
    if plan.row_format and all(target.is_file() for target in formatted_rows(plan, files).values()):
        return replace(with_files(plan, files), row_format=None)
    return plan


def check_rewards(plan: Plan) -> None:
    """Check rewards without running them. Raises TunekitError where a column is missing or rows are too few."""
    if plan.stage.scored_by != "functions" or plan.row_format:  # those rows are looked at when they are made
        return
    _check_enough(plan)
    for flag in ("dataset", "val_dataset"):  # evaluation scores answers too
        for dataset in plan.words(flag):
            path = local_file(dataset)
            if path:
                _check_columns(plan, first_rows(path), str(path))


def check_packages(plan: Plan) -> None:
    """Raise TunekitError where a reward of ms-swift needs a package that is not installed."""
    for name in plan.words("reward_funcs"):
        package = PACKAGES.get(name)
        if package and not find_package(package):
            raise TunekitError(f"the reward {name} needs {package}, which is not installed", f"pip install {package}")


def try_functions(plan: Plan, files: Files) -> list[tuple[str, str]]:
    """Run the functions of a plan on the first rows of its datasets; gives lines for people, each with its title.

    Raises TunekitError where one fails, what it returns cannot be used, or a package of a reward of ms-swift is
    missing.
    """
    check_packages(plan)
    if not plan.rewards and not plan.row_format:
        return []
    plan = settled(plan, files)
    lines: list[tuple[str, str]] = []
    first: list[dict[str, Any]] = []
    source = ""
    for flag in ("dataset", "val_dataset"):
        for name in plan.words(flag):
            if plan.row_format:
                path = rows_of(bare(name))
                rows = try_format(plan.row_format, path, plan.stage, ROWS)
                _check_columns(plan, rows, f"what {plan.row_format.spec} makes of {path}")
                lines.append(("Rows", f"{plan.row_format.spec} works on {path}: {', '.join(rows[0])}"))
            else:
                found = local_file(name)
                rows = first_rows(found) if found and found.suffix != ".parquet" else []
            if rows and not first:
                first, source = rows, name
    return lines + [("Reward", _tried(plan, reward, first, source)) for reward in plan.rewards]


def write_files(plan: Plan, files: Files, *, anew: bool = False) -> list[tuple[str, str]]:
    """Write what a command needs beside it, the plugin and formatted rows; gives lines for people, each with its title.

    `anew` replaces rows that are there. In a run they stay, as it began to learn them. Raises TunekitError.
    """
    lines: list[tuple[str, str]] = []
    function = plan.row_format
    try:
        if plan.rewards:
            write_atomically(files.plugin, plugin_text(plan, files.plugin))
        if function:
            sources = {target: bare(name) for name, target in formatted_rows(plan, files).items()}
            for target, source in sources.items():
                done = not anew and target.is_file()
                line = _kept(function, target) if done else _format(function, source, target, plan.stage)
                lines.append(("Rows", line))
    except OSError as error:
        raise TunekitError(f"{error.filename} cannot be written: {error.strerror}") from error
    if function and plan.stage.scored_by == "functions":
        _check_enough(settled(plan, files))
    return lines


def first_files(plan: Plan, folder: Path) -> list[tuple[str, str]]:
    """`write_files` for a run that begins; where it fails, the run has not begun and nothing of it stays."""
    files = Files.of_run(folder)
    try:
        return write_files(plan, files)
    except BaseException:
        import shutil

        shutil.rmtree(files.data, ignore_errors=True)
        for left in (files.plugin, folder / ".lock"):
            left.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty: the folder was the user's
            folder.rmdir()
        raise


def _check_enough(plan: Plan) -> None:
    """Refuse a GRPO run that has fewer rows than one step asks: ms-swift would make no step, and call that success."""
    asked = plan.batch.effective // plan.whole("num_generations", plan.stage.generations)
    rows = 0
    for name in plan.words("dataset"):
        path = local_file(name)
        if path is None or path.suffix not in (".jsonl", ".json"):
            return
        rows += sum(1 for _ in read_rows(path, asked))
    if 0 < rows < asked:
        raise TunekitError(
            f"a step takes {asked} prompts, and the dataset has {rows}: no step would be made",
            "more rows, more --num_generations, or a smaller --effective-batch (32 at the least)",
            Exit.DATA,
        )


def _format(row_format: Function, source: str, target: Path, stage: Stage) -> str:
    rows, dropped = write_formatted(row_format, rows_of(source), target, stage.rows)
    left_out = f", {dropped:,} left out" if dropped else ""
    return f"{target}: {rows:,} rows by {row_format.spec}{left_out}"


def _kept(row_format: Function, target: Path) -> str:
    file = Path(row_format.file)
    changed = file.is_file() and file.stat().st_mtime > target.stat().st_mtime
    after = f"; {file} was changed since, and is not run again" if changed else ""
    return f"{target}, as it was made{after}"


def _tried(plan: Plan, reward: Function, rows: list[dict[str, Any]], source: str) -> str:
    samples = [arrive(row, _renamed(plan)) for row in islice(rows, SHOWN)]
    if not samples:
        try_reward(reward, [])
        return f"{reward.alias} can be loaded; there are no rows here to try it on"
    found = try_reward(reward, samples)
    values = ", ".join("none" if value is None else f"{value:.4g}" for value in found)
    answered = any(sample.answer for sample in samples)
    said = "the dataset's own answers" if answered else "empty answers"
    line = f"{reward.alias} gives {values} for {said} to the first {counted(len(samples), 'row')} of {source}"
    return f"{line}; is that meant?" if answered and not any(found) else line


def _renamed(plan: Plan) -> dict[str, str]:
    """What ``--columns`` says; ms-swift itself says what is wrong with it."""
    with contextlib.suppress(ValueError, RecursionError):
        names = json.loads(plan.text("columns", "{}"))
        return names if isinstance(names, dict) else {}
    return {}


def _check_columns(plan: Plan, rows: list[dict[str, Any]], where: str) -> None:
    """Refuse rewards that need a column which the rows do not have, or which ms-swift takes for the conversation."""
    if not rows:
        return
    merged: dict[str, Any] = {name: value for row in rows for name, value in row.items()}
    left = arrive(merged, _renamed(plan)).columns
    known = {reward.alias: reward for reward in plan.rewards}
    shipped = built_in()
    for name in plan.words("reward_funcs"):
        needed = signature(known[name], REWARD).needed if name in known else shipped.get(name, ())
        for column in needed:
            if column in left or column in BROUGHT:
                continue
            if column in merged:
                message = f"the reward {name} needs the column {column}, which ms-swift takes for the conversation"
                hint = "name it solution, which is kept; or --format makes other rows"
            else:
                message = f"the reward {name} needs the column {column}, and there is none in {where}"
                hint = f"its columns: {', '.join(merged)}"
            raise TunekitError(message, hint, Exit.DATA)
