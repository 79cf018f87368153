"""How one stage starts from another: with the whole model, on top of its adapter, or after the adapter was merged.

ms-swift compares a LoRA policy with the model below the adapter. So a DPO that goes on with the adapter of an SFT would
be compared with the model of before the SFT, without a word, unless it gets ``--ref_adapters`` as well: on a tiny
model the first loss is 0.625 without and ln 2 = 0.693, as it must be, with it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.files import path_of
from tunekit.plan.plan import in_order
from tunekit.plan.said import Said
from tunekit.plan.settings import Setting, Source, Value, text
from tunekit.recipes.schema import BASE, Part
from tunekit.runs.checkpoints import is_adapter
from tunekit.runs.folder import MERGED, RESULT
from tunekit.stages import REWARD_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tunekit.plan.plan import Plan
    from tunekit.plan.planner import Facts
    from tunekit.plan.request import Request
    from tunekit.runs.folder import Run

SOURCE = Source("recipe")
"""Of settings that say where a stage starts."""

# fmt: off
SHAPE = (
    "lora_rank", "lora_alpha", "lora_dropout", "lora_bias", "use_rslora", "use_dora", "target_modules", "target_regex",
    "target_parameters", "modules_to_save", "freeze_llm", "freeze_vit", "freeze_aligner",
)
# fmt: on
"""What makes an adapter what it is. One that goes on learning keeps them, whatever the flags say (pipelines/train/
tuner.py), so where a stage wants others its adapter is a new one, on top of the merged model."""

WEIGHTS = ("quant_method", "quant_bits")
"""What the weights below an adapter are; it was trained on these."""

ADAPTER_FILE = {"r": "lora_rank", "lora_alpha": "lora_alpha"}
"""What ``adapter_config.json`` calls them."""


@dataclass(frozen=True)
class Result:
    """What an earlier stage leaves, or what is in a folder that is named.

    Attributes:
        name: of the stage, or the folder.
        tuner: ``full``, ``lora``, …
        model: what its weights are on top of, for an adapter; and `shape`, what such an adapter is.
        plan: of the stage; None for a folder.
        merged: where its whole model is, once it is merged; None for a folder.
    """

    name: str
    checkpoint: Path
    tuner: str
    model: Value | None
    shape: Mapping[str, Value | None]
    plan: Plan | None = None
    merged: Path | None = None


@dataclass(frozen=True)
class Start:
    """Where a stage starts.

    Attributes:
        how: ``base`` (the model as it is named), ``whole`` (all weights were trained), ``adapter`` (the same adapter
            goes on learning) or ``merged``.
        source: the stage or the folder; empty for the base.
        settings: the flags of ms-swift that say so.
        reward: the stage whose reward model scores.
        merges: stages whose adapter must be merged first.
    """

    how: str
    source: str = ""
    why: str = ""
    settings: Mapping[str, Setting] | None = None
    reward: str = ""
    merges: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """What must be there before, by name."""
        return tuple(name for name in dict.fromkeys((self.source, self.reward)) if name)

    def line(self) -> str:
        """For people: ``sft, its adapter goes on learning: …``."""
        words = {
            "base": "the model, as it is",
            "whole": f"{self.source}, all its weights",
            "adapter": f"{self.source}, whose adapter goes on learning",
            "merged": f"{self.source}, merged into one model",
        }[self.how]
        return f"{words}: {self.why}" if self.why else words


@dataclass(frozen=True)
class Step:
    """A stage with its run, and where it starts; what it asked for, and what is known beside that."""

    part: Part
    run: Run
    start: Start
    request: Request
    facts: Facts

    @property
    def name(self) -> str:
        """Of the stage."""
        return self.part.name

    @property
    def plan(self) -> Plan:
        """Of its run."""
        return self.run.plan

    @property
    def path(self) -> Path:
        """The folder of its run."""
        return self.run.path

    @property
    def checkpoint(self) -> Path:
        """The link to the checkpoint that counts."""
        return self.path / RESULT

    @property
    def merged(self) -> Path:
        """The model that its adapter is merged into."""
        return self.path / MERGED


OBSTACLES: tuple[tuple[Callable[[Result, Plan, Part], bool], str], ...] = (
    (lambda left, _plan, _part: left.tuner != "lora", "ms-swift goes on with plain LoRA only"),
    (lambda _left, plan, _part: plan.full, "full training needs the whole model"),
    (lambda _left, plan, _part: tuner(plan) != "lora", "this stage trains another kind of adapter"),
    (
        lambda _left, _plan, part: part.stage.gives == REWARD_MODEL,
        "a reward model has a head of its own, for which the adapter was not made",
    ),
    (
        lambda _left, _plan, part: part.stage.reference and not part.stage.ref_adapters,
        "ms-swift compares it with the model below its adapter, which must be the whole one",
    ),
    (
        lambda left, plan, _part: any(left.shape.get(flag) != plan.get(flag) for flag in WEIGHTS if flag in left.shape),
        "its adapter was trained on weights of another precision",
    ),
)
"""Why an adapter cannot go on learning in a stage; the first that holds is named."""


def tuner(plan: Plan) -> str:
    """What a plan trains: ``full``, or a kind of adapter."""
    return plan.text("tuner_type", "lora")


def result_of(item: Step) -> Result:
    """What a stage will leave."""
    shape = {flag: item.plan.get(flag) for flag in (*SHAPE, *WEIGHTS)}
    model = item.plan.get("model")
    return Result(item.name, item.checkpoint, tuner(item.plan), model, shape, item.plan, item.merged)


def result_in(folder: str, model: Value | None) -> Result:
    """What is in a folder that a stage names; `model` is the base of an adapter. Raises TunekitError."""
    path = path_of(folder)
    if not is_adapter(folder):
        return Result(folder, path, "full", None, {})
    try:
        config = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TunekitError(f"{path / 'adapter_config.json'}: cannot be read: {error}") from error
    kind = str(config.get("peft_type", "")).lower()
    return Result(folder, path, kind, model, {flag: config.get(name) for name, flag in ADAPTER_FILE.items()})


def decide_start(part: Part, plan: Plan, left: Result | None, reward: Result | None = None) -> Start:
    """How a stage starts from what is `left`, None for the model that is named; `reward` is the stage that scores.

    `plan` is made as if it started from that model. Raises TunekitError where ``merge`` asks for what cannot be.
    """
    start = _policy(part, plan, left)
    if reward is None:
        return start
    merges = dict.fromkeys((*start.merges, *([reward.name] if reward.tuner != "full" else [])))
    return replace(start, reward=reward.name, merges=tuple(merges))


def _policy(part: Part, plan: Plan, left: Result | None) -> Start:
    if left is None:
        if part.merge is not None:
            raise TunekitError(f"{part.where}: stage {part.name} starts from the {BASE}: there is nothing to merge")
        return Start("base")
    if left.tuner == "full":
        if part.merge:
            raise TunekitError(f"{part.where}: merge: {left.name} trains all weights, so there is nothing to merge")
        why = "it trained all of them" if left.plan else ""
        return Start("whole", left.name, why, _whole(left, left.checkpoint))
    obstacle = next((why for when, why in OBSTACLES if when(left, plan, part)), "") or _other_shape(left, plan)
    if part.merge is False and obstacle:
        raise TunekitError(f"{part.where}: merge = false cannot be for stage {part.name}: {obstacle}", "drop merge")
    if not obstacle and not part.merge:
        compared = "ref_adapters is the same one, so it is compared with what it starts from"
        why = compared if part.stage.ref_adapters else "the same adapter on the same model"
        return Start("adapter", left.name, why, _adapter(part, left))
    if left.merged is None:
        reason = obstacle or "merge = true"
        raise TunekitError(
            f"{part.where}: {left.name} is an adapter and must be merged first: {reason}",
            f"swift merge-lora --adapters {left.name} --output_dir MERGED, and from = MERGED",
        )
    return Start("merged", left.name, obstacle or "merge = true", _whole(left, left.merged), merges=(left.name,))


def _other_shape(left: Result, plan: Plan) -> str:
    for flag, before in left.shape.items():
        if flag in SHAPE and before != plan.get(flag):
            there, here = ("not set" if value is None else text(value) for value in (before, plan.get(flag)))
            return f"{flag} is {here} here and {there} there, and an adapter keeps what it was made with"
    return ""


def _adapter(part: Part, left: Result) -> dict[str, Setting]:
    where = [str(left.checkpoint)]
    settings = {"adapters": Setting(where, SOURCE, f"what {left.name} learned")}
    if part.stage.ref_adapters:
        settings["ref_adapters"] = Setting(where, SOURCE, f"compared with what {left.name} learned, not with its base")
    if left.plan:
        same = ("model", "model_type", "template")
        settings |= {flag: left.plan.settings[flag] for flag in same if flag in left.plan.settings}
    return settings


def _whole(left: Result, folder: Path) -> dict[str, Setting]:
    """The flags for a folder with a whole model. What ms-swift knew by the name of the first must be said."""
    if left.plan is None:  # it was planned from this folder
        return {}
    why = f"as for {left.name}: a folder has no name that ms-swift knows"
    model = {"model": Setting(str(folder), SOURCE, f"what {left.name} learned")}
    known = {"model_type": _model_type(left.plan), "template": left.plan.get("template")}
    return model | {flag: Setting(value, SOURCE, why) for flag, value in known.items() if value}


def _model_type(plan: Plan) -> Value | None:
    return plan.get("model_type") or plan.model.family


def started_from(plan: Plan, start: Start) -> Plan:
    """The plan of a stage, from where it starts. Its `model` stays the one whose shape it has."""
    return replace(plan, settings=in_order({**plan.settings, **(start.settings or {})}))


def reward_words(reward: Result) -> dict[str, Said]:
    """The flags of ms-swift that name a reward model: its whole model, with the head that gives scores."""
    folder = reward.checkpoint if reward.tuner == "full" or reward.merged is None else reward.merged
    words = {"reward_model": str(folder)}
    known = _model_type(reward.plan) if reward.plan else None
    if known:
        words["reward_model_type"] = text(known)
    return {flag: Said(flag, (word,), reward.name) for flag, word in words.items()}
