"""What stands in a Python script of unsloth: the arguments of a few calls, read from its text; nothing of it is run."""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from tunekit.recipes.importers.source import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MODELS = ("FastLanguageModel", "FastModel", "FastVisionModel", "FastLlamaModel", "FastTextModel", "FastBaseModel")
CONFIGS = re.compile(r"(Unsloth)?(Training(Arguments)|(SFT|DPO|KTO|ORPO|CPO|GRPO|RLOO|Reward|GKD)Config)")
TRAINERS = re.compile(r"(Unsloth)?(SFT|DPO|KTO|ORPO|CPO|GRPO|RLOO|Reward|GKD)?Trainer")
POSITIONS: Mapping[str, tuple[str, ...]] = {
    "from_pretrained": ("model_name", "max_seq_length", "dtype", "load_in_4bit"),
    "get_peft_model": ("model", "r"),
    "load_dataset": ("path", "name"),
    "get_chat_template": ("tokenizer", "chat_template"),
    "train_on_responses_only": ("trainer",),
}
"""Names of arguments that may stand without them."""
OBJECTS = (
    "model",
    "tokenizer",
    "processing_class",
    "trainer",
    "train_dataset",
    "eval_dataset",
    "args",
    "data_collator",
)
"""Arguments that are things the script has made, not settings."""
HARDWARE = ("is_bfloat16_supported", "is_bf16_supported")
"""Questions about the GPU; every one of today answers yes."""

TYPES = ("bfloat16", "float16", "float32")
SIGNS: Mapping[type, Any] = {ast.USub: operator.neg, ast.Not: operator.not_}
SUMS: Mapping[type, Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
OWN_OF_TRAINER = ("formatting_func", "reward_funcs", "callbacks", "compute_metrics", "optimizers", "peft_config")
"""Arguments of a trainer that are no settings; all others older scripts give it instead of its configuration."""


class Unreadable(Exception):  # noqa: N818 - it is no error of the script
    """A value that is not written down but computed."""


def entries_of(text: str) -> tuple[list[Entry], list[str]]:
    """The arguments of the calls that matter, and the classes of the trainers that are made.

    They are keyed ``from_pretrained.model_name``, those of a trainer's configuration by their own names alone.
    Raises SyntaxError.
    """
    tree = ast.parse(text)
    names = _bound_once(tree)
    entries: list[Entry] = []
    trainers: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            head = _head(node)
            if head is None:
                continue
            if TRAINERS.fullmatch(_called(node.func)):
                trainers.append(_called(node.func))
            entries += _arguments(node, head, names)
    return sorted(entries, key=lambda entry: entry.line or 0), trainers


def _called(function: ast.expr) -> str:
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def _head(node: ast.Call) -> str | None:
    """What the arguments of a call are filed under; empty for those of a trainer's configuration, None for others."""
    name = _called(node.func)
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    owner_name = owner.id if isinstance(owner, ast.Name) else ""
    if CONFIGS.fullmatch(name):
        return ""
    if TRAINERS.fullmatch(name):
        return "trainer"
    if name in ("from_pretrained", "get_peft_model"):
        return name if owner_name in MODELS else None
    if name == "train" and owner_name == "trainer":
        return name
    return name if name in ("load_dataset", "get_chat_template", "train_on_responses_only") else None


def _arguments(node: ast.Call, head: str, names: Mapping[str, ast.expr]) -> Iterator[Entry]:
    positional = dict(zip(POSITIONS.get(head, ()), node.args, strict=False))
    written = positional | {word.arg: word.value for word in node.keywords if word.arg}
    for name, value in written.items():
        if name in OBJECTS:
            continue
        key = f"{head}.{name}" if head and not (head == "trainer" and name not in OWN_OF_TRAINER) else name
        line = getattr(value, "lineno", node.lineno)
        if key in ("trainer.formatting_func", "trainer.reward_funcs"):
            yield Entry(key, _names_of(value), line)
            continue
        try:
            yield Entry(key, _value(value, names), line)
        except Unreadable:
            yield Entry(f"unread.{head or 'config'}.{name}", ast.unparse(value), line)


def _names_of(node: ast.expr) -> list[str]:
    parts = node.elts if isinstance(node, (ast.List, ast.Tuple)) else [node]
    return [ast.unparse(part) for part in parts]


def _bound_once(tree: ast.Module) -> dict[str, ast.expr]:
    """Names that one assignment of the whole script binds, and what to."""
    stores = Counter(it.id for it in ast.walk(tree) if isinstance(it, ast.Name) and isinstance(it.ctx, ast.Store))
    found: dict[str, ast.expr] = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            found |= {name: node.value for name in names if stores[name] == 1}
    return found


def _value(node: ast.expr, names: Mapping[str, ast.expr]) -> Any:
    """What an expression is that is written down: a literal, a name of one, a sum of numbers, a type of torch."""
    value: Any
    match node:
        case ast.Constant():
            value = node.value
        case ast.Name() if node.id in names:
            value = _value(names[node.id], {name: bound for name, bound in names.items() if name != node.id})
        case ast.Attribute() if node.attr in TYPES:
            value = node.attr
        case ast.List() | ast.Tuple() | ast.Set():
            value = [_value(part, names) for part in node.elts]
        case ast.Dict() if None not in node.keys:
            pairs = zip(node.keys, node.values, strict=True)
            value = {_value(key, names): _value(part, names) for key, part in pairs if key}
        case ast.Call() if _called(node.func) in HARDWARE:
            value = True
        case ast.JoinedStr():
            parts = (part.value if isinstance(part, ast.FormattedValue) else part for part in node.values)
            value = "".join(str(_value(part, names)) for part in parts)
        case _:
            value = _computed(node, names)
    return value


def _computed(node: ast.expr, names: Mapping[str, ast.expr]) -> Any:
    """Numbers that are added, multiplied or negated. Raises Unreadable for all else."""
    if isinstance(node, ast.UnaryOp) and type(node.op) in SIGNS:
        return SIGNS[type(node.op)](_value(node.operand, names))
    if isinstance(node, ast.BinOp) and type(node.op) in SUMS:
        left, right = _value(node.left, names), _value(node.right, names)
        if isinstance(left, (int, float)) and isinstance(right, (int, float)):
            try:
                return SUMS[type(node.op)](left, right)
            except (ArithmeticError, ValueError) as error:
                raise Unreadable from error
    raise Unreadable
