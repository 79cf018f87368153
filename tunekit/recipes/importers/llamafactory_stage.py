"""LLaMA-Factory: the stage and its loss, what answers are compared with and what scores them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.recipes.importers.llamafactory_training import listed
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, LOST, TRAINS
from tunekit.stages import REWARD_MODEL, STAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.recipes.importers.source import KeyEntry
    from tunekit.recipes.importers.translation import Draft

    Values = Mapping[str, Any]

LOSSES = ("sigmoid", "hinge", "ipo")
"""Kinds of ``pref_loss`` that ms-swift takes as a loss of its stage."""
LOST_LOSSES = {"kto_pair": "TRL has no such loss any more"}


def kind_of(stage: str, values: Values) -> str:
    """The stage of tunekit that a stage and its loss are."""
    loss = str(values.get("pref_loss") or "")
    return loss if stage == PAIRS and loss in OWN_STAGE else stage


PAIRS = "dpo"
OWN_STAGE = ("orpo", "simpo")
"""Losses of `PAIRS` in LLaMA-Factory that are stages of their own."""


def answers_itself(draft: Draft) -> bool:
    """Whether a training makes answers that a reward model scores: then the keys of generation are about it."""
    return draft.flags.get("rlhf_type", [""])[0] in SCORED


def _stage(draft: Draft, entry: KeyEntry, _: Values) -> None:
    kinds = draft.flags.get("rlhf_type", [])
    word = str(entry.value)
    if draft.command not in TRAINS:
        draft.leave(entry, ELSEWHERE, f"nothing is trained: swift {draft.command}", f"swift {draft.command}")
    elif word in LOST_LOSSES:
        draft.leave(entry, LOST, LOST_LOSSES[word])
    elif entry.key == "pref_loss" and kinds == [PAIRS] and word in LOSSES:
        draft.put(entry, loss_type=word)
    elif kinds:
        draft.put(entry, rlhf_type=kinds[0])
    elif entry.key == "pref_loss":
        draft.leave(entry, DEFAULT, "it is about pairs alone")
    else:
        draft.put(entry, f"the command: swift {draft.command}")


def _whether(draft: Draft, entry: KeyEntry, _: Values) -> None:
    draft.leave(entry, ELSEWHERE, f"the command says it: swift {draft.command}", f"swift {draft.command}")


def _beta(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if "rlhf_type" in draft.flags and draft.flags["rlhf_type"][0] not in WITHOUT_BETA:
        draft.put(entry, beta=entry.value)
    else:
        draft.leave(entry, DEFAULT, "it is about preferences alone")


SCORED = tuple(name for name, stage in STAGES.items() if stage.scored_by == "model")
WITHOUT_BETA = (*SCORED, *(name for name, stage in STAGES.items() if stage.gives == REWARD_MODEL))
FTX = {"dpo": "rpo_alpha", "simpo": "cpo_alpha"}
"""The flag that adds the loss of the chosen answer, by the kind of RLHF; the others have none."""


def _ftx(draft: Draft, entry: KeyEntry, _: Values) -> None:
    kind = "".join(draft.flags.get("rlhf_type", ()))
    if kind in FTX and (entry.value or kind != PAIRS):
        why = "ms-swift averages that loss over tokens, LLaMA-Factory over samples" if entry.value else ""
        draft.put(entry, why, **{FTX[kind]: entry.value})
    elif entry.value and kind:
        draft.leave(entry, LOST, f"{kind} of ms-swift has no additional loss of the chosen answer")
    else:
        draft.leave(entry, DEFAULT, "it asks for nothing")


def _bco(draft: Draft, entry: KeyEntry, _: Values) -> None:
    weight = entry.value if isinstance(entry.value, (int, float)) else 0
    if not weight:
        draft.leave(entry, DEFAULT, "it asks for nothing")
        return
    share = float(weight) / (1 + float(weight))
    shares = [round(1 - share, 6), round(share, 6)]
    draft.put(entry, "the two losses are weighted to 1", loss_type=["sigmoid", "bco_pair"], loss_weights=shares)


def _reference(draft: Draft, entry: KeyEntry, _: Values) -> None:
    if draft.flags.get("tuner_type") == ["lora"]:
        draft.leave(entry, LOST, "with LoRA ms-swift compares with the base model alone")
    else:
        draft.put(entry, ref_model=entry.value)


def _reference_adapters(draft: Draft, entry: KeyEntry, _: Values) -> None:
    draft.put(entry, ref_adapters=listed(entry.value))


def _reward(draft: Draft, entry: KeyEntry, values: Values) -> None:
    kind = str(values.get("reward_model_type") or "lora")
    if kind == "full":
        if entry.key == "reward_model":
            draft.put(entry, reward_model=entry.value)
        else:
            draft.leave(entry, DEFAULT, "a whole model scores")
        return
    what = "a service on the net" if kind == "api" else "an adapter with a value head of LLaMA-Factory's own"
    why = f"the reward model is {what}, which ms-swift cannot read: train one with tunekit rm"
    draft.leave(entry, LOST, why)
    refusal = f"{entry.key}: {why}"
    if values.get("reward_model") and entry.key == "reward_model" and answers_itself(draft):
        draft.refused.append(refusal)


FUNCTIONS = {
    "stage": _stage,
    "whether": _whether,
    "beta": _beta,
    "ftx": _ftx,
    "bco": _bco,
    "reference": _reference,
    "reference_adapters": _reference_adapters,
    "reward": _reward,
}
