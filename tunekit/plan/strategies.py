"""``--tuning-strategy``: which parts of a model are trained, and how: a table of names and the flags that they mean.

The names are those of the guides for vision models, and plain ones for text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError, did_you_mean
from tunekit.plan.models.parameters import layers_of
from tunekit.plan.settings import Source, Value, layer_of, text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tunekit.plan.models.model import Model
    from tunekit.plan.settings import Setting
    from tunekit.stages import Stage

SELECTS = (
    *("tuner_type", "freeze_llm", "freeze_vit", "freeze_aligner", "freeze_parameters", "freeze_parameters_ratio"),
    *("freeze_parameters_regex", "trainable_parameters", "trainable_parameters_regex"),
)
"""Flags that decide what is trained: with a strategy, the strategy sets them or none does."""

ADAPTER_FLAGS = ("lora_rank", "lora_alpha", "lora_dropout", "target_modules", "quant_bits", "quant_method")
"""Flags that mean nothing, or cannot be, where no adapter is trained."""

LLM_FULL = {"learning_rate": 2e-5}
VISION_FULL = {"vit_lr": 1e-4, "aligner_lr": 1e-4}
FROZEN_LLM = {"learning_rate": 1e-4}
"""The guide for vision models: 1e-5 to 5e-5 for a language model in full, 1e-4 to 2e-4 for ViT and aligner."""

FROZEN_LAYERS, TRAINABLE_LAYERS = "--llm-frozen-layers", "--trainable-layers"


@dataclass(frozen=True)
class Strategy:
    """One row of the table.

    Attributes:
        name: what ``--tuning-strategy`` takes.
        title: what trains, for people.
        when: what it is good for.
        tuner: ms-swift's ``--tuner_type``.
        frozen: of a model with a vision part: whether language model, ViT and aligner are frozen.
        vision_only: it is about the parts of a vision model, so a text model has no use for it.
        layers: the option that it needs: how many layers are frozen, or trained.
        more: further flags that it means.
        rates: learning rates to start from, in supervised and continued training.
    """

    name: str
    title: str
    when: str
    tuner: str
    frozen: tuple[bool, bool, bool] = (False, True, True)
    vision_only: bool = True
    layers: str = ""
    more: Mapping[str, Value] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)


# fmt: off
_TABLE = (
    Strategy(
        "lora", "adapters in the language model", "the usual choice: a fraction of the memory of full training",
        "lora", vision_only=False,
    ),
    Strategy(
        "qlora", "adapters in the language model, whose weights are held in 4 bits", "least memory, and quick trials",
        "lora", vision_only=False, more={"quant_method": "bnb", "quant_bits": "4"},
    ),
    Strategy(
        "full", "every weight", "best result where there is memory and data for it",
        "full", (False, False, False), vision_only=False, rates=LLM_FULL | VISION_FULL,
    ),
    Strategy(
        "freeze", "the last N layers of the language model, in full",
        "a new style or task at a part of the memory of full training",
        "full", vision_only=False, layers=TRAINABLE_LAYERS, rates=LLM_FULL,
    ),
    Strategy(
        "lora_all", "adapters in language model, ViT and aligner",
        "pictures unlike those of the model's own training, with little memory",
        "lora", (False, False, False),
    ),
    Strategy(
        "lora_llm_full_vit", "adapters in the language model; ViT and aligner in full",
        "finer sight: small objects, text in pictures",
        "lora_llm", rates={"learning_rate": 1e-4, "vit_lr": 2e-4, "aligner_lr": 2e-4},
    ),
    Strategy(
        "partial_llm_full_vit", "the language model without its first N layers, ViT and aligner, in full",
        "knowledge of a field, while general ability stays",
        "full", (False, False, False), layers=FROZEN_LAYERS, rates=LLM_FULL | VISION_FULL,
    ),
    Strategy(
        "llm_only", "the language model, in full", "new knowledge in text, where the model already sees what it should",
        "full", rates=LLM_FULL,
    ),
    Strategy(
        "vit_only", "ViT and aligner, in full", "sight alone; the language model stays as it is",
        "full", (True, False, False), rates=FROZEN_LLM,
    ),
    Strategy(
        "vit_frozen_aligner", "the ViT, in full", "as vit_only, where the aligner should stay too",
        "full", (True, False, True), rates=FROZEN_LLM,
    ),
    Strategy(
        "aligner_only", "the aligner, in full", "the first stage of joining a ViT to a language model",
        "full", (True, True, False), rates=FROZEN_LLM,
    ),
)
# fmt: on

STRATEGIES: Mapping[str, Strategy] = {strategy.name: strategy for strategy in _TABLE}


@dataclass(frozen=True)
class Tuning:
    """What the user said about what is trained.

    Attributes:
        strategy: a name of `STRATEGIES`; empty where none was given.
        frozen_layers: number of ``--llm-frozen-layers``, and `trainable_layers` of ``--trainable-layers``.
        llm_rate: the learning rate was given for the language model alone (``--learning-rate-llm``).
    """

    strategy: str = ""
    frozen_layers: int | None = None
    trainable_layers: int | None = None
    llm_rate: bool = False


@dataclass(frozen=True)
class Layered:
    """A strategy as layers of settings.

    Attributes:
        rates: weaker than what the user says.
        meaning: stronger than the user's configuration; what was typed does not contradict it.
        unset: flags that must not be left from a weaker place.
    """

    rates: Mapping[str, Setting]
    meaning: Mapping[str, Setting]
    unset: tuple[str, ...] = ()


def layered(
    tuning: Tuning, model: Model, stage: Stage, typed: Mapping[str, Setting], given: Collection[str]
) -> Layered:
    """The settings that a strategy means, beside those that were typed and the flags that the configuration has given.

    Raises TunekitError for a strategy that is unknown, does not suit the model or is contradicted by options.
    """
    for option, number in ((FROZEN_LAYERS, tuning.frozen_layers), (TRAINABLE_LAYERS, tuning.trainable_layers)):
        owner = next(strategy for strategy in _TABLE if strategy.layers == option)
        if number is not None and tuning.strategy != owner.name:
            raise TunekitError(f"{option} needs --tuning-strategy {owner.name}", f"it trains {owner.title}")
    if not tuning.strategy:
        return Layered({}, {})
    strategy = find_strategy(tuning.strategy)
    if strategy.vision_only and is_text(model):
        fitting = ", ".join(name for name, other in STRATEGIES.items() if not other.vision_only)
        raise TunekitError(
            f"--tuning-strategy {strategy.name} is for models with a vision part, and {model.id} has none",
            f"for text there are {fitting}",
        )
    meaning = _meaning(strategy, tuning, model)
    decides = dict.fromkeys((*SELECTS, *meaning, *(ADAPTER_FLAGS if strategy.tuner == "full" else ())))
    for flag in [flag for flag in typed if flag in decides]:
        value = typed[flag].value
        more_bits = flag == "quant_bits" and str(value) == "8"  # 4 where nothing is said; 8 is QLoRA too
        if flag not in meaning or (value != meaning[flag] and not more_bits):
            means = f"means --{flag} {text(meaning[flag])}" if flag in meaning else f"trains {strategy.title}"
            problem = f"--{flag} {text(value)} contradicts --tuning-strategy {strategy.name}, which {means}"
            raise TunekitError(problem, "drop one of them")
    rates: dict[str, Value] = dict(strategy.rates) if stage.rates else {}
    said = {*typed, *given}
    if not model.multimodal or ("learning_rate" in said and not tuning.llm_rate):
        rates = {flag: rate for flag, rate in rates.items() if flag == "learning_rate"}  # one rate for all
    source, why = Source("strategy", tuning.strategy), "a start in the guides' range for what it trains"
    reasons = dict.fromkeys(meaning, f"trains {strategy.title}") | dict.fromkeys(rates, why)
    return Layered(
        layer_of(source, rates, reasons),
        layer_of(source, {flag: value for flag, value in meaning.items() if flag not in typed}, reasons),
        tuple(flag for flag in decides if flag not in meaning),
    )


def find_strategy(name: str) -> Strategy:
    """The strategy of that name. Raises TunekitError with the closest names."""
    if name in STRATEGIES:
        return STRATEGIES[name]
    near = did_you_mean(name, STRATEGIES)
    raise TunekitError(f"there is no tuning strategy {name}", near or f"there are {', '.join(STRATEGIES)}")


def is_text(model: Model) -> bool:
    """Whether a model is known to have no part that sees or hears; of one that is not listed, nothing is known."""
    return not model.multimodal and (model.local or model.family is not None)


def _meaning(strategy: Strategy, tuning: Tuning, model: Model) -> dict[str, Value]:
    flags: dict[str, Value] = {"tuner_type": strategy.tuner, **strategy.more}
    if not is_text(model) and strategy.tuner != "lora_llm":
        flags |= dict(zip(("freeze_llm", "freeze_vit", "freeze_aligner"), strategy.frozen, strict=True))
    if not strategy.layers:
        return flags
    layers = layers_of(model)
    freezes = strategy.layers == FROZEN_LAYERS
    number = tuning.frozen_layers if freezes else tuning.trainable_layers
    if number is None or not 1 <= number < layers.count:
        raise TunekitError(
            f"--tuning-strategy {strategy.name} needs {strategy.layers} N, from 1 to {layers.count - 1}"
            + ("" if number is None else f", not {number}"),
            f"{model.id} has {layers.count} layers: {layers.count // 2} is half of them",
        )
    if freezes:
        flags["freeze_parameters"] = [layers.embedding, *layers.prefixes(range(number))]
    else:  # ms-swift freezes all, then takes these out again
        flags["freeze_parameters_ratio"] = 1
        flags["trainable_parameters"] = layers.prefixes(range(layers.count - number, layers.count))
    return flags
