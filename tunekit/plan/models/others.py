"""Models that a run names beside the one it trains: a teacher, a reward model, a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunekit.data.files import NotHere
from tunekit.errors import TunekitError
from tunekit.files import path_of, read_json
from tunekit.plan.models.config import cached_model, read_config
from tunekit.plan.models.find import resolve

if TYPE_CHECKING:
    from pathlib import Path

    from tunekit.plan.configuration import Configuration
    from tunekit.plan.models.model import Model

OTHERS = {
    "teacher_model": "the student is compared with it token by token",
    "reward_model": "it scores the tokens of the answers as they are",
    "ref_model": "the model that is trained is compared with it token by token",
}
"""Flags that name such a model, and why it must have the tokens of the one that is trained."""

ALIKE = 0.99
"""Share of the smaller vocabulary that must mean the same: tokens that were added may differ."""


def is_place(name: str) -> bool:
    """Whether a name means a folder, not an id on a hub, which is ``organisation/name``."""
    return name.startswith((".", "/", "~")) or name.count("/") != 1


def check_other(plan: Configuration, flag: str, name: str) -> None:
    """Raise TunekitError where a model beside the one that is trained is not there, or will not do.

    `NotHere` where it is a folder that this machine does not have.
    """
    folder = path_of(name)
    if not folder.exists() and is_place(name) and (name.startswith((".", "/", "~")) or "/" in name):
        raise NotHere(f"--{flag} {name} does not exist", "give the folder of a model, or a hub id: organisation/name")
    try:
        other = resolve(name, use_hf=plan.flag("use_hf"))
    except TunekitError as error:
        raise TunekitError(f"--{flag}: {error.message}", error.hint) from error
    if not other.local and "/" not in name:
        raise TunekitError(f"--{flag} {name} is no id on a hub, and ms-swift takes no other", f"write {other.id}")
    scores = flag == "reward_model" and plan.stage.scored_by == "model"
    if scores and other.local and not has_score(folder):
        raise TunekitError(
            f"--{flag} {name} gives no scores: it is a model that answers",
            "train one with tunekit rm; its folder says task_type seq_cls",
        )
    if scores or flag != "reward_model":
        _check_tokens(plan.model, other, f"--{flag} {name}", OTHERS[flag])


def has_score(folder: Path) -> bool:
    """Whether the model in a folder gives scores, as ms-swift finds it out (pipelines/train/rlhf.py)."""
    trained = read_config(folder / "args.json")
    if trained is not None:
        return trained.get("task_type") == "seq_cls"
    config = read_config(folder / "config.json") or {}
    named = config.get("architectures")
    classes = [str(one).lower() for one in named] if isinstance(named, list) else []
    return config.get("num_labels") == 1 or any("sequenceclassification" in one for one in classes)


def _check_tokens(model: Model, other: Model, label: str, why: str) -> None:
    """Refuse another vocabulary, where both tokenizers are on this machine."""
    ours, theirs = (cached_model(one) for one in (model, other))
    if ours is None or theirs is None or _same_file(ours, theirs):
        return
    mine, its = vocabulary(ours), vocabulary(theirs)
    if not mine or not its:
        return
    small, large = sorted((mine, its), key=len)
    same = sum(large.get(token) == number for token, number in small.items())
    if same < ALIKE * len(small):
        raise TunekitError(
            f"{label} has other tokens than {model.shown}: {same / len(small):.0%} of them mean the same, and {why}",
            "take a model of the same family",
        )


def _same_file(ours: Path, theirs: Path) -> bool:
    mine, its = ours / "tokenizer.json", theirs / "tokenizer.json"
    if not mine.is_file() or not its.is_file() or mine.stat().st_size != its.stat().st_size:
        return False
    return mine.read_bytes() == its.read_bytes()


def vocabulary(folder: Path) -> dict[str, Any]:
    """The number of each token, by the ``tokenizer.json`` or ``vocab.json`` in a folder; empty where neither says."""
    for name in ("tokenizer.json", "vocab.json"):
        try:
            document = read_json(folder / name)
        except (OSError, ValueError):
            continue
        model = document.get("model", document) if isinstance(document, dict) else {}
        found = model.get("vocab", model) if isinstance(model, dict) else {}
        if isinstance(found, list):  # of Unigram: pairs of token and score, in order
            found = {str(pair[0]): number for number, pair in enumerate(found) if isinstance(pair, list) and pair}
        if isinstance(found, dict):
            return found
    return {}
