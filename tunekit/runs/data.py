"""The rows of a plan: whether they will do, what should be known of them before a run, and how many there are."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from tunekit.data.files import local_file
from tunekit.data.look import check_datasets, look_at
from tunekit.errors import Exit, TunekitError
from tunekit.plan.measured import ROOT
from tunekit.plan.models.catalogue import template_of, template_traits
from tunekit.plan.schedule import few_steps, late_flags, schedule_of
from tunekit.runs.columns import columns_of
from tunekit.stages import TASK_OF_FAMILY, USUAL_TASK

if TYPE_CHECKING:
    from tunekit.data.look import Survey
    from tunekit.plan.plan import Plan
    from tunekit.plan.schedule import Schedule
    from tunekit.stages import Shape

FLAGS = ("dataset", "val_dataset")
EMPTY_THOUGHT = "ignore_empty_think"
"""The part of ``--loss_scale`` with which no loss is on an empty thought; ms-swift 4.6 adds it by itself for models
that answer both ways (template_args.py, _set_loss_scale)."""


def check_rows(plan: Plan) -> None:
    """Check the datasets of a plan. Raises TunekitError with exit code 4; 2 where a flag is needed for such rows."""
    for flag in FLAGS:
        for name in plan.words(flag):
            path = local_file(name)
            if path is not None and path.suffix == ".tsv" and not plan.row_format:
                message = f"{path}: ms-swift reads no .tsv"  # `datasets` has no loader of that name
                raise TunekitError(message, "save it as .csv, or make its rows with --format", Exit.DATA)
    shape, task = shape_of(plan)
    for flag in FLAGS:
        for look in check_datasets(plan.words(flag), plan.stage, shape, task, columns_of(plan), plan.env.get(ROOT, "")):
            _check_classes(plan, look)
            _check_tools(plan, look)


def shape_of(plan: Plan) -> tuple[Shape | None, str]:
    """What the rows of a plan must be like, None where that cannot be judged; and its task, where it is no usual one.

    ``--format`` and ``--custom_dataset_info`` make other rows of them. Without a chat template nothing asks.
    """
    task = plan.text("task_type") or TASK_OF_FAMILY.get(plan.model.family or "", "")
    task = "" if task == USUAL_TASK or plan.stage.rlhf_type else task
    shape = plan.stage.rows_for(task)
    if shape is None or plan.row_format is not None or plan.get("custom_dataset_info") is not None:
        return None, task
    return (replace(shape, asked=False) if plan.get("use_chat_template") is False else shape), task


def data_notes(plan: Plan) -> list[str]:
    """What a run would do with its rows that few would want: a line each. Says nothing of rows that are refused."""
    shape, task = shape_of(plan)
    lines: list[str] = []
    for name in (*plan.words(FLAGS[0]), *plan.words(FLAGS[1])) if shape else ():
        with contextlib.suppress(TunekitError):
            look = look_at(name, shape, plan.stage, task, columns_of(plan), plan.env.get(ROOT, ""))
            if look and shape and not look.refused:
                lines += _notes(plan, look, shape)
    return list(dict.fromkeys(lines))


def schedule_for(plan: Plan) -> Schedule | None:
    """The steps of a plan whose rows can be counted: all of them are in files here, and none is made when it starts."""
    rows, exact = 0, True
    shape, task = shape_of(plan)
    if plan.row_format or not plan.words(FLAGS[0]) or plan.get("cached_dataset") is not None:
        return None
    for name in plan.words(FLAGS[0]):
        part = re.search(r"#(\d+)$", name)
        try:
            look = look_at(name, shape, plan.stage, task, columns_of(plan), plan.env.get(ROOT, ""))
        except TunekitError:
            return None
        if look is None or look.total is None:
            return None
        rows, exact = rows + (int(part[1]) if part else look.total), exact and (look.exact or part is not None)
    return schedule_of(plan, rows, exact=exact)


PLAIN = (".jsonl", ".json", ".txt", ".csv")
"""Files whose size says how much text they hold."""


def row_bytes(plan: Plan, rows: int) -> float | None:
    """Bytes of a row on average, of so many in plain files here; None where their size says nothing of their text."""
    paths = [local_file(name) for name in plan.words(FLAGS[0])]
    if plan.model.multimodal or not all(path and path.suffix in PLAIN for path in paths):
        return None
    return sum(path.stat().st_size for path in paths if path) / rows


def schedule_notes(plan: Plan, schedule: Schedule) -> list[str]:
    """Warnings about too few steps."""
    return [line for line in (few_steps(plan, schedule), late_flags(plan, schedule)) if line]


def _notes(plan: Plan, look: Survey, shape: Shape) -> list[str]:
    lines = []
    if look.bad:
        lines.append(f"{look.in_words()}: ms-swift leaves such rows out, or learns nothing from them")
    if shape.labelled and len(look.labels) == 1 and look.looked > 1:
        kind = "true" if True in look.labels else "false"
        lines.append(f"every label in {look.path} is {kind} ({look.seen()}): there is nothing to compare with")
    if look.unasked and shape.asked and shape.answered:
        lines.append(
            f"{look.unasked:,} of {look.seen()} of {look.path} ask nothing: {plan.stage.name} learns to answer an "
            "empty question; tunekit pt learns plain text"
        )
    return lines + _picture_notes(plan, look) + _thought_notes(plan, look, shape)


def _picture_notes(plan: Plan, look: Survey) -> list[str]:
    lines = []
    blind = not plan.model.multimodal and (plan.model.local or plan.model.family is not None)
    if look.pictures and blind:
        lines.append(
            f"{look.pictures:,} of {look.seen()} of {look.path} have images, and {plan.model.id} sees none: it reads "
            "the word <image>; take a model that sees, such as Qwen2.5-VL-7B-Instruct"
        )
    if look.fewer and not blind:
        lines.append(
            f"{look.fewer:,} of {look.seen()} of {look.path} have more images than <image>: ms-swift puts the others "
            "before the first message"
        )
    return lines


def _thought_notes(plan: Plan, look: Survey, shape: Shape) -> list[str]:
    """Answers without a thought teach a model that thinks not to."""
    traits = template_traits(plan.text("template") or template_of(plan.model)) or {}
    if "thinks" not in traits or not (shape.asked and shape.answered) or look.thinks or not look.answers:
        return []
    if EMPTY_THOUGHT in plan.text("loss_scale") or re.search(r"-base\b", plan.model.id.lower()):
        return []
    itself = traits["thinks"] == "both" and not plan.flag("disable_ignore_empty_think")
    added = " (which ms-swift adds here by itself)" if itself else ""
    return [
        f"no answer in {look.path} thinks, and {plan.model.id} does: it learns not to. --loss_scale {EMPTY_THOUGHT}"
        f"{added} leaves the empty thought out; answers with <think>…</think> keep the habit; where none is wanted, an "
        "Instruct model is the better start"
    ]


def _check_classes(plan: Plan, look: Survey) -> None:
    """Refuse a class beyond the last one; with one label a value is learned, not a class."""
    shape, task = shape_of(plan)
    labels = plan.whole("num_labels")
    if shape and shape.classed and labels and labels > 1 and look.classes >= labels:
        message = f"{look.path}: there is the label {look.classes}, and --num_labels {labels} ends at {labels - 1}"
        raise TunekitError(message, f"--num_labels {look.classes + 1}, with --task_type {task}", Exit.DATA)


def _check_tools(plan: Plan, look: Survey) -> None:
    """Ask for an agent template where the model's own template has none: ms-swift raises at every such row."""
    if not look.tools or plan.get("agent_template") is not None or plan.row_format:
        return
    name = plan.text("template") or template_of(plan.model)
    traits = template_traits(name)
    if traits is not None and "agent" not in traits:
        message = (
            f"{look.path}: {look.tools:,} of {look.seen()} use tools, and the template {name} does not write calls"
        )
        raise TunekitError(
            message, "--agent_template hermes, or another of ms-swift's (react_en, llama3, …)", Exit.USAGE
        )
