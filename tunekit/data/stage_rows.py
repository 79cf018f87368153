"""From the normal form of a row to the rows of any stage or task, as ms-swift reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.data.check import row_problem
from tunekit.data.turns import ShapelessRow, before_answer
from tunekit.errors import TunekitError, did_you_mean
from tunekit.stages import STAGES, TASKS, Shape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.data.normal import NormalRow

KNOWN_TO_SWIFT = ("channel", "margin", "objects", "chat_template_kwargs")
"""Columns beside the conversation that ms-swift 4.6 keeps (dataset/preprocessor/core.py, standard_keys)."""

SHAPES_BY_NAME: Mapping[str, Shape] = {
    **{stage.name: stage.rows for stage in STAGES.values()},
    **{task: shape for task, shape in TASKS.items() if shape},
}
"""What ``--to`` takes: stages, and tasks whose rows are known."""


def target_named(word: str) -> str:
    """The stage or task that ``--to`` names, by whatever name. Raises TunekitError where there is none."""
    known = {alias: stage.name for stage in STAGES.values() for alias in stage.aliases}
    name = known.get(word, word)
    if name not in SHAPES_BY_NAME:
        hint = did_you_mean(word, SHAPES_BY_NAME)
        raise TunekitError(f"--to takes {', '.join(SHAPES_BY_NAME)}, not {word}", hint)
    return name


def stage_rows(row: NormalRow, target: str) -> list[dict[str, Any]]:
    """The rows that a stage or a task (a key of `SHAPES_BY_NAME`) makes of one: two where a pair is marked for KTO.

    Raises ShapelessRow, with the reason, where the row has not what they need.
    """
    shape = SHAPES_BY_NAME[target]
    made = [_beside(row, found, shape, target) for found in _rows_of(row, shape, target)]
    for found in made:
        problem = row_problem(found, shape, target)
        if problem:
            raise ShapelessRow(problem)
    return made


def _rows_of(row: NormalRow, shape: Shape, target: str) -> list[dict[str, Any]]:
    if shape.pairs:
        return [_paired(row, target)]
    if shape.labelled:
        return _marked(row, target)
    if shape.classed:
        return [{"messages": before_answer(row.messages) or row.messages, "label": _class_of(row.label)}]
    if shape.near:
        near = {f"{name}_messages": found for name, found in (("positive", row.positive), ("negative", row.negative))}
        return [{"messages": row.messages, **{name: found for name, found in near.items() if found}}]
    if not shape.answered:
        return [_prompt(row)]
    if row.label is False:
        raise ShapelessRow(f"its answer is marked as bad, and {target} would learn it")
    if shape.asked and not any(turn["role"] == "user" for turn in row.messages) and not row.media:
        raise ShapelessRow(f"it asks nothing: {target} would learn to answer an empty question")
    return [{"messages": row.messages}]


def _paired(row: NormalRow, target: str) -> dict[str, Any]:
    if row.rejected is None:
        raise ShapelessRow(f"{target} needs a rejected answer in every row")
    same = row.messages[:-1] == row.rejected[:-1] and row.rejected[-1]["role"] == "assistant"
    worse = {"rejected_response": row.rejected[-1]["content"]} if same else {"rejected_messages": row.rejected}
    return {"messages": row.messages, **worse}


def _marked(row: NormalRow, target: str) -> list[dict[str, Any]]:
    if row.rejected is not None:
        return [{"messages": row.messages, "label": True}, {"messages": row.rejected, "label": False}]
    word = str(row.label).strip().lower()
    if word not in GOOD:
        raise ShapelessRow(f"{target} needs a label that says whether the answer is good, not {word[:40]}")
    return [{"messages": row.messages, "label": GOOD[word]}]


GOOD: Mapping[str, bool] = {
    **dict.fromkeys(("true", "1", "1.0", "good", "yes", "chosen"), True),
    **dict.fromkeys(("false", "0", "0.0", "-1", "bad", "no", "rejected"), False),
}
"""What marks an answer as good or bad."""


def _class_of(label: Any) -> Any:
    return int(label) if isinstance(label, str) and label.strip().isdigit() else label


def _prompt(row: NormalRow) -> dict[str, Any]:
    """The question; the answer that was there stays beside it, for a reward to compare with."""
    asked = before_answer(row.messages)
    if not any(turn["role"] == "user" for turn in asked):
        raise ShapelessRow("it asks nothing")
    answer = row.messages[-1]["content"] if len(asked) < len(row.messages) else None
    return {"messages": asked, **({} if answer is None else {"solution": answer})}


def _beside(row: NormalRow, made: dict[str, Any], shape: Shape, target: str) -> dict[str, Any]:
    """A row with what stands beside its conversation: a reward gets every column, others what ms-swift reads."""
    rewarded = not shape.answered and target in STAGES
    known = KNOWN_TO_SWIFT if not rewarded else tuple(row.extra)
    label = {"label": row.label} if rewarded and row.label is not None else {}
    extra = {name: row.extra[name] for name in known if row.extra.get(name) is not None}
    tools = {"tools": row.tools} if row.tools else {}
    return {**made, **tools, **row.media, **label, **extra}


def columns_dropped(row: NormalRow, made: Mapping[str, Any]) -> list[str]:
    """Columns of a row of which nothing is in what was made of it."""
    return [name for name, value in row.extra.items() if name not in made and value != row.messages[-1]["content"]]
