"""What a plan trains of a model, by its settings: for people, and for the checks of learning rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.plan.settings import UNSET

if TYPE_CHECKING:
    from tunekit.plan.configuration import Configuration

LLM, VIT, ALIGNER = "language model", "ViT", "aligner"
ADAPTERS, FULL = "adapters", "in full"

FREEZES = {LLM: ("freeze_llm", False), VIT: ("freeze_vit", True), ALIGNER: ("freeze_aligner", True)}
"""Each part, the flag that freezes it, and what that flag is where nothing sets it (ms-swift tuner_args.py)."""

RATES = {LLM: "learning_rate", VIT: "vit_lr", ALIGNER: "aligner_lr"}
"""The learning rate of each part; that of the language model counts for parts without one of their own."""

OPTIONS = {"learning_rate": "--learning-rate", "vit_lr": "--learning-rate-vit", "aligner_lr": "--learning-rate-aligner"}


@dataclass(frozen=True)
class Range:
    """Learning rates that a guide recommends for a part trained in one way, of models with a vision part or of text."""

    part: str
    how: str
    vision: bool
    low: float
    high: float
    source: str


QWEN_VL = "the Qwen-VL guide"
RANGES = (
    Range(LLM, ADAPTERS, vision=True, low=1e-4, high=2e-4, source=QWEN_VL),
    Range(LLM, FULL, vision=True, low=1e-5, high=5e-5, source=QWEN_VL),
    Range(VIT, ADAPTERS, vision=True, low=1e-4, high=2e-4, source=QWEN_VL),
    Range(VIT, FULL, vision=True, low=1e-4, high=2e-4, source=QWEN_VL),
    Range(ALIGNER, ADAPTERS, vision=True, low=1e-4, high=2e-4, source=QWEN_VL),
    Range(ALIGNER, FULL, vision=True, low=1e-4, high=2e-4, source=QWEN_VL),
    Range(LLM, ADAPTERS, vision=False, low=2e-5, high=5e-4, source="the LLaMA-Factory and ms-swift guides"),
    Range(LLM, FULL, vision=False, low=1e-5, high=5e-5, source="the LLaMA-Factory guide"),
)
"""For supervised and continued training of models of a billion parameters and more."""


def trained_parts(what: Configuration) -> dict[str, str]:
    """The parts of a model that have something to learn, each with `ADAPTERS` or `FULL`; empty if all is frozen.

    What ``--freeze_parameters`` names is not looked into; what ``--trainable_parameters`` takes out of a frozen model
    counts as part of the language model.
    """
    if what.get("tuner_type") == "lora_llm" and what.model.multimodal:
        return {LLM: ADAPTERS, VIT: FULL, ALIGNER: FULL}
    how = FULL if what.full else ADAPTERS
    if not what.model.multimodal:
        return {LLM: how}
    targets = what.words("target_modules")
    if how == ADAPTERS and (what.get("target_regex") or (targets and "all-linear" not in targets)):
        return dict.fromkeys(FREEZES, how)  # names are looked for in every part, frozen or not
    parts = {part: how for part, (flag, default) in FREEZES.items() if not what.flag(flag, default=default)}
    named = what.get("trainable_parameters") or what.get("trainable_parameters_regex")
    return {LLM: FULL} | parts if how == FULL and named and not parts else parts


def in_part(what: Configuration) -> bool:
    """Whether full training leaves some of the language model frozen: then it holds less than full training does."""
    return frozen_by_name(what) or (what.full and LLM not in trained_parts(what))


def frozen_by_name(what: Configuration) -> bool:
    """Whether full training is of parameters that are named, or of a share of them."""
    by_name = any(flag.startswith(("freeze_parameters", "trainable_parameters")) for flag in what.settings)
    return what.full and by_name


def describe_parts(what: Configuration) -> str:
    """One line for people: ``adapters in the language model at 0.0001; the ViT and the aligner in full at 0.0002``."""
    groups: dict[tuple[str, str], list[str]] = {}
    parts = trained_parts(what)
    for part, how in parts.items():
        rate = _rate(what, part)
        groups.setdefault((how, "" if rate is None else f" at {rate}"), []).append(_called(what, part))
    lines = [
        (f"adapters in {_list(names)}" if how == ADAPTERS else f"{_list(names)} in full") + rate
        for (how, rate), names in groups.items()
    ]
    frozen = [f"the {part}" for part in FREEZES if what.model.multimodal and part not in parts]
    if frozen:
        lines.append(f"{_list(frozen)} {'is' if len(frozen) == 1 else 'are'} frozen")
    return "; ".join(lines)


def check_rates(what: Configuration, *, llm_rate: bool) -> list[str]:
    """A line for each learning rate outside the guides' ranges.

    The ranges are for supervised and continued training of models that want a GPU; tiny ones on a CPU take more.
    Raises TunekitError where a rate was typed for the language model alone (`llm_rate`), which is frozen.
    """
    parts = trained_parts(what)
    if llm_rate and LLM not in parts:
        raise TunekitError(
            "--learning-rate-llm has nothing to move: the language model is frozen",
            f"this trains {_list([f'the {part}' for part in parts])}: --learning-rate is for all that trains",
        )
    if not what.stage.rates or not what.hardware.gpus:
        return []
    ranges = {(row.part, row.how): row for row in RANGES if row.vision == what.model.multimodal}
    lines = []
    for part, how in parts.items():
        rate, advice = _rate(what, part), ranges.get((part, how))
        if rate is None or advice is None or advice.low <= rate <= advice.high:
            continue
        own = RATES[part] if RATES[part] in what.settings else "learning_rate"
        named = f"adapters in the {part}" if how == ADAPTERS else f"the {part} in full"
        lines.append(
            f"a learning rate of {rate} for {named} is outside {advice.low:g} to {advice.high:g}, the range of "
            f"{advice.source} ({OPTIONS[own]})"
        )
    return lines


def _called(what: Configuration, part: str) -> str:
    """A part, or the layers of it that are named."""
    kept, cut = (
        sum("layers." in prefix for prefix in what.words(flag))
        for flag in ("trainable_parameters", "freeze_parameters")
    )
    if part == LLM and kept and what.get("freeze_parameters_ratio") == 1:
        return f"the last {kept} layers of the language model"
    return f"the {part} above its first {cut} layers" if part == LLM and cut else f"the {part}"


def _list(names: list[str]) -> str:
    """``a, b and c``."""
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), *names[-1:]])


def _rate(what: Configuration, part: str) -> float | None:
    rate = what.get(RATES[part], what.get("learning_rate", UNSET))
    return rate if isinstance(rate, (int, float)) else None
