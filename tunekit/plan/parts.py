"""What a plan trains of a model, told from its settings: for people, and for the checks of learning rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.plan.draft import Draft
    from tunekit.plan.settings import Setting, Value

LLM, VIT, ALIGNER = "language model", "ViT", "aligner"
ADAPTERS, FULL = "adapters", "in full"

FREEZES = {LLM: ("freeze_llm", False), VIT: ("freeze_vit", True), ALIGNER: ("freeze_aligner", True)}
"""Each part, the flag that freezes it, and what that flag is where nothing sets it (ms-swift tuner_args.py)."""

RATES = {LLM: "learning_rate", VIT: "vit_lr", ALIGNER: "aligner_lr"}
"""The learning rate of each part; that of the language model counts for parts without one of their own."""

OPTIONS = {"learning_rate": "--learning-rate", "vit_lr": "--learning-rate-vit", "aligner_lr": "--learning-rate-aligner"}


@dataclass(frozen=True)
class Range:
    """Learning rates that a guide recommends.

    Attributes:
        part: of the model.
        how: `ADAPTERS` or `FULL`.
        vision: for models with a vision part, or for text.
        low: the lowest, and `high` the highest.
        source: whose advice it is.
    """

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


def trained(settings: Mapping[str, Setting], *, multimodal: bool) -> dict[str, str]:
    """The parts of a model that have something to learn, each with `ADAPTERS` or `FULL`; empty if all is frozen.

    Flags that name single parameters (``--freeze_parameters``) are not looked into, but what they take out of a
    frozen model (``--trainable_parameters``) counts as part of the language model.
    """
    tuner = _value(settings, "tuner_type") or "lora"
    if tuner == "lora_llm" and multimodal:
        return {LLM: ADAPTERS, VIT: FULL, ALIGNER: FULL}
    how = FULL if tuner == "full" else ADAPTERS
    targets = _value(settings, "target_modules")
    by_name = isinstance(targets, list) and "all-linear" not in targets
    if not multimodal:
        return {LLM: how}
    if how == ADAPTERS and (by_name or _value(settings, "target_regex")):
        return dict.fromkeys(FREEZES, how)  # names are looked for in every part, frozen or not
    parts = {part: how for part, (flag, default) in FREEZES.items() if not _is(settings, flag, default)}
    named = _value(settings, "trainable_parameters") or _value(settings, "trainable_parameters_regex")
    return {LLM: FULL} | parts if how == FULL and named and not parts else parts


def in_part(settings: Mapping[str, Setting], *, multimodal: bool) -> bool:
    """Whether full training leaves some of the language model frozen: then it holds less than full training does."""
    by_name = any(flag.startswith(("freeze_parameters", "trainable_parameters")) for flag in settings)
    parts = trained(settings, multimodal=multimodal)
    return _value(settings, "tuner_type") == "full" and (by_name or LLM not in parts)


def describe(settings: Mapping[str, Setting], *, multimodal: bool) -> str:
    """One line for people: ``adapters in the language model at 0.0001; the ViT and the aligner in full at 0.0002``."""
    groups: dict[tuple[str, str], list[str]] = {}
    parts = trained(settings, multimodal=multimodal)
    for part, how in parts.items():
        groups.setdefault((how, str(_rate(settings, part))), []).append(_called(part, settings))
    lines = []
    for (how, rate), names in groups.items():
        words = f"adapters in {_list(names)}" if how == ADAPTERS else f"{_list(names)} in full"
        lines.append(words + (f" at {rate}" if rate != "None" else ""))
    frozen = [f"the {part}" for part in FREEZES if multimodal and part not in parts]
    if frozen:
        lines.append(f"{_list(frozen)} {'is' if len(frozen) == 1 else 'are'} frozen")
    return "; ".join(lines)


def check_rates(draft: Draft, *, llm_rate: bool) -> list[str]:
    """What is to be said of learning rates outside the guides' ranges, a line each.

    The ranges are for supervised and continued training of models that want a GPU; tiny ones on a CPU take more.

    Args:
        draft: all but decided.
        llm_rate: whether a learning rate was typed for the language model alone.

    Raises:
        TunekitError: it was, and the language model is frozen.
    """
    settings, multimodal = draft.settings, draft.model.multimodal
    parts = trained(settings, multimodal=multimodal)
    if llm_rate and LLM not in parts:
        raise TunekitError(
            "--learning-rate-llm has nothing to move: the language model is frozen",
            f"this trains {_list([f'the {part}' for part in parts])}: --learning-rate is for all that trains",
        )
    if draft.loss or not draft.hardware.gpus:
        return []
    told = []
    for part, how in parts.items():
        rate = _rate(settings, part)
        advice = next(
            (row for row in RANGES if (row.part, row.how, row.vision) == (part, how, multimodal)),
            None,
        )
        if rate is None or advice is None or advice.low <= float(str(rate)) <= advice.high:
            continue
        own = RATES[part] if RATES[part] in settings else "learning_rate"
        what = f"adapters in the {part}" if how == ADAPTERS else f"the {part} in full"
        told.append(
            f"a learning rate of {rate} for {what} is outside {advice.low:g} to {advice.high:g}, the range of "
            f"{advice.source} ({OPTIONS[own]})"
        )
    return told


def _called(part: str, settings: Mapping[str, Setting]) -> str:
    """A part, or the layers of it that are named."""
    kept = _layers(settings, "trainable_parameters")
    if part == LLM and kept and _value(settings, "freeze_parameters_ratio") == 1:
        return f"the last {kept} layers of the language model"
    cut = _layers(settings, "freeze_parameters")
    return f"the {part} above its first {cut} layers" if part == LLM and cut else f"the {part}"


def _layers(settings: Mapping[str, Setting], flag: str) -> int:
    value = _value(settings, flag)
    return sum("layers." in prefix for prefix in value) if isinstance(value, list) else 0


def _list(names: list[str]) -> str:
    """``a, b and c``."""
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), *names[-1:]])


def _rate(settings: Mapping[str, Setting], part: str) -> Value | None:
    own = _value(settings, RATES[part])
    return _value(settings, "learning_rate") if own is None else own


def _is(settings: Mapping[str, Setting], flag: str, default: bool) -> bool:
    value = _value(settings, flag)
    return default if value is None else value is True


def _value(settings: Mapping[str, Setting], flag: str) -> Value | None:
    setting = settings.get(flag)
    return setting.value if setting else None
