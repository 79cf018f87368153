"""The rewards of a GRPO run: those that ms-swift brings, read from its source, and functions of the user's."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.data.functions.find import REWARD, Function, find_function, is_function, named_apart
from tunekit.engine.locate import find_package
from tunekit.errors import TunekitError, did_you_mean

if TYPE_CHECKING:
    from tunekit.plan.plan import Plan

BUILT_IN = {
    "toolbench": ("solution",),
    "math": ("ground_truths",),
    "accuracy": ("solution",),
    "format": (),
    "react_format": (),
    "cosine": ("solution",),
    "repetition": (),
    "soft_overlong": (),
}
"""Rewards of ms-swift 4.6.0 and the columns that each needs, for machines without ms-swift (rewards/orm.py)."""

PACKAGES = {"accuracy": "math_verify", "cosine": "math_verify"}
"""What a reward of ms-swift imports, and ms-swift does not require."""


def choose_rewards(words: list[str], own: list[str]) -> tuple[list[str], list[Function]]:
    """What ``--reward`` names: the names by which ms-swift knows the rewards, and those that are the user's functions.

    A word is ``file.py:function``, or a reward of ms-swift or of a plugin in `own`, the user's for ms-swift. Raises
    TunekitError where there is no such function or reward, or it is named twice.
    """
    known = built_in()
    for plugin in own:
        known = known | registered(Path(plugin))
    for word in words:
        if words.count(word) > 1:
            raise TunekitError(f"the reward {word} is named twice", "--reward-weights 2 makes one count double")
        if not is_function(word) and word not in known:
            hint = did_you_mean(word, known) or f"ms-swift has {', '.join(known)}; a function is FILE.py:FUNCTION"
            raise TunekitError(f"{word} is not a reward of ms-swift", hint)
    functions = named_apart([find_function(word, REWARD) for word in words if is_function(word)], set(known))
    aliases = iter([function.alias for function in functions])
    return [next(aliases) if is_function(word) else word for word in words], functions


def check_weights(plan: Plan) -> None:
    """Raise TunekitError where there is not one number in ``--reward_weights`` for each source of reward."""
    weights = plan.get("reward_weights")
    if not isinstance(weights, list):
        return
    for weight in weights:
        try:
            float(weight)
        except ValueError:
            raise TunekitError(f"--reward_weights takes numbers, not {weight}", "one for each reward") from None
    lists = [plan.get(flag) for flag in ("reward_funcs", "reward_model")]
    sources = [name for names in lists if isinstance(names, list) for name in names]
    if plan.get("use_gym_env") is not True and len(weights) != len(sources):
        rewards = f"{len(sources)} ({', '.join(sources)})" if sources else "none"
        found = f"there are {len(weights)} --reward_weights, and the rewards are {rewards}"
        raise TunekitError(found, "one number for each, in order")


def built_in() -> dict[str, tuple[str, ...]]:
    """The rewards of the installed ms-swift with the columns that each needs; of 4.6.0 where none is installed."""
    root = find_package("swift")
    file = root / "rewards" / "orm.py" if root else None
    return (registered(file) if file and file.is_file() else None) or dict(BUILT_IN)


@cache
def registered(file: Path) -> dict[str, tuple[str, ...]]:
    """The rewards that a file of ms-swift's or a plugin for it registers, with the columns that each needs.

    Read from its text: ``orms = {"name": Class, …}`` and ``orms["name"] = Class``.
    """
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # ms-swift says what is wrong with a plugin of the user's
        return {}
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    found: dict[str, tuple[str, ...]] = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign):
            continue
        (target,) = node.targets[:1]
        if isinstance(target, ast.Name) and target.id == "orms" and isinstance(node.value, ast.Dict):
            pairs = list(zip(node.value.keys, node.value.values, strict=True))
        elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name) and target.value.id == "orms":
            pairs = [(target.slice, node.value)]
        else:
            continue
        found |= {str(key.value): _needs(value, classes) for key, value in pairs if isinstance(key, ast.Constant)}
    return found


def _needs(value: ast.expr, classes: dict[str, ast.ClassDef]) -> tuple[str, ...]:
    """What the ``__call__`` of a class takes without a default, behind itself and the completions."""
    body = classes[value.id].body if isinstance(value, ast.Name) and value.id in classes else []
    call = next((node for node in body if isinstance(node, ast.FunctionDef) and node.name == "__call__"), None)
    if call is None:
        return ()
    names = [argument.arg for argument in call.args.args]
    return tuple(names[2 : len(names) - len(call.args.defaults)])
