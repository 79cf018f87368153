"""How functions of the user's reach ms-swift: a small plugin for rewards, and the plain rows that a format made.

Rows are formatted before ms-swift starts, not by it: its own preprocessing drops a row at which a function fails, and
trains on the rest. Here the first failing row ends the launch, and what is learned can be read in the run's folder.
"""

from __future__ import annotations

import inspect
import os
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import tunekit
from tunekit.data.functions.call import PLUGIN
from tunekit.plan.settings import Setting, Source

if TYPE_CHECKING:
    from tunekit.data.functions.find import Function
    from tunekit.plan.plan import Plan

DATASETS = ("dataset", "val_dataset")

HEAD = '''# Written by tunekit {version} for ms-swift {engine}, anew at every start: change the functions instead.
"""Rewards for GRPO."""

from __future__ import annotations

import importlib.util
import inspect
import math
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from swift.rewards import orms

HERE = Path(__file__).resolve().parent

'''

TAIL = '''

def register(alias: str, file: str, name: str) -> None:
    """Make a reward known to ms-swift. Its file is run when training needs it, not to merge or to chat."""

    def make(*_: Any, **__: Any) -> Callable[..., list[float | None]]:
        path = (HERE / file).resolve()
        reward = as_reward(getattr(load_file(path), name), f"{path}:{name}")
        reward.__name__ = alias  # what logs call it
        return reward

    orms[alias] = make


'''


@dataclass(frozen=True)
class Files:
    """Where the files that a command needs beside it are kept: the plugin of rewards, the folder of formatted rows."""

    plugin: Path
    data: Path

    @staticmethod
    def of_run(folder: Path) -> Files:
        """In the folder of a run."""
        return Files(folder / "plugin.py", folder / "data")

    @staticmethod
    def beside(script: Path) -> Files:
        """Beside a script that was written with ``--write``."""
        return Files(script.with_suffix(".plugin.py"), script.with_suffix(".rows"))


def with_files(plan: Plan, files: Files) -> Plan:
    """The plan with the paths of its plugin and of its formatted rows."""
    changes: dict[str, list[str]] = {}
    if plan.rewards:
        changes["external_plugins"] = [*plan.words("external_plugins"), str(files.plugin)]
    if plan.row_format:
        targets = {name: f"{target}{name[len(bare(name)) :]}" for name, target in formatted_rows(plan, files).items()}
        for flag in DATASETS:
            if flag in plan.settings:
                changes[flag] = [targets[name] for name in plan.words(flag)]
    if not changes:
        return plan
    why = "in the folder of the run"
    return plan.with_settings({flag: Setting(value, Source("run"), why) for flag, value in changes.items()})


def formatted_rows(plan: Plan, files: Files) -> dict[str, Path]:
    """Where the rows of each dataset stand once they are formatted."""
    names = [name for flag in DATASETS for name in plan.words(flag)]
    places: dict[str, Path] = {}
    for path in dict.fromkeys(map(bare, names)):
        stem = Path(path).stem
        numbered = (f"{stem}.jsonl" if number == 1 else f"{stem}-{number}.jsonl" for number in count(1))
        places[path] = next(file for name in numbered if (file := files.data / name) not in places.values())
    return {name: places[bare(name)] for name in names}


def bare(name: str) -> str:
    """A dataset's name without the sample that it asks for, as in ``train.jsonl#500``."""
    head, mark, sample = name.rpartition("#")
    return head if mark and sample.isdigit() else name


def plugin_text(plan: Plan, plugin: Path) -> str:
    """The text of the file `plugin`: a plan's rewards."""
    head = HEAD.format(version=tunekit.__version__, engine="".join(plan.engine.split()))
    head += "".join(f"# {reward.alias!r} is {reward.spec!r}\n" for reward in plan.rewards) + "\n\n"
    parts = "\n\n".join(inspect.getsource(part) for part in PLUGIN).replace("  # noqa: D205", "")
    calls = [
        f"register({reward.alias!r}, {_reachable(reward, plugin)!r}, {reward.name!r})\n" for reward in plan.rewards
    ]
    return head + parts + TAIL + "".join(calls)


def _reachable(reward: Function, plugin: Path) -> str:
    # From the plugin's folder where both are below the current one, so that a project can be moved as a whole.
    here, file, folder = Path.cwd(), Path(reward.file).resolve(), plugin.resolve().parent
    if file.is_relative_to(here) and folder.is_relative_to(here):
        return os.path.relpath(file, folder)
    return str(file)
