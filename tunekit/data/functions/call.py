"""How functions of the user's are called: by the check before a launch, and by ms-swift during the run.

The text of what makes a reward (`PLUGIN`) is copied into the plugin of a run, so that what was checked is what runs.
Nothing of tunekit is needed there, and nothing here imports any of it.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


def load_file(file: str | Path) -> ModuleType:
    """Run a Python file, once. Its folder comes first meanwhile, so that it finds its neighbours; behind all others
    later, so that nothing in it stands before an installed package.
    """  # noqa: D205
    path = Path(file).resolve()
    name = f"{path.stem}_{zlib.crc32(str(path).encode()):08x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    folder = str(path.parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(folder)
        sys.path.append(folder)
    return module


def last_question(conversation: list[dict[str, Any]]) -> str:
    """The text of the last turn of the user."""
    content = next((turn["content"] for turn in reversed(conversation) if turn["role"] == "user"), "")
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, dict))


def as_scores(returned: Any, responses: int, label: str) -> list[float | None]:
    """What a reward returned: a finite number for each response, or None where it judges none; else a ValueError."""
    try:
        values = None if isinstance(returned, (str, bytes, dict)) else list(returned)
    except TypeError:
        values = None
    if values is None:
        raise ValueError(f"{label} returned {returned!r:.60}, not a list of numbers")
    if len(values) != responses:
        raise ValueError(f"{label} returned {len(values)} values for {responses} responses")
    found: list[float | None] = []
    for place, value in enumerate(values):
        try:
            number = None if value is None else math.nan if isinstance(value, (str, bytes)) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if number is not None and not math.isfinite(number):
            raise ValueError(f"{label} returned {value!r:.60} for response {place + 1}, not a finite number")
        found.append(number)
    return found


def as_reward(function: Callable[..., Any], label: str) -> Callable[..., list[float | None]]:
    """A reward as ms-swift calls it, made of a function that takes (prompts, responses, **columns).

    A prompt is the text of the last turn of the user. The conversation before the response is the column messages, a
    list of turns for each response; all columns of the dataset follow. A function without ** gets those that it names.
    """
    takes = inspect.signature(function).parameters
    everything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values())
    first = list(takes)[:2]

    def reward(completions: list[str], **columns: Any) -> list[float | None]:
        columns["messages"] = [turns[:-1] for turns in columns["messages"]]  # the last turn is the response
        wanted = {name: value for name, value in columns.items() if everything or name in takes}
        named = {name: value for name, value in wanted.items() if name not in first}
        prompts = [last_question(turns) for turns in columns["messages"]]
        return as_scores(function(prompts, list(completions), **named), len(completions), label)

    return reward


PLUGIN = (load_file, last_question, as_scores, as_reward)
"""What the plugin of a run is made of."""
