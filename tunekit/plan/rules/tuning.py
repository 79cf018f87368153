"""Rules about what is trained: parts that are frozen, flags that one way of training knows and another ignores."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.plan.images import side_of
from tunekit.plan.models.parameters import check_prefix, layers_of
from tunekit.plan.parts import ALIGNER, FREEZES, RATES, VIT, trained_parts
from tunekit.plan.rules.rule import Rule, Warn
from tunekit.plan.strategies import is_text

if TYPE_CHECKING:
    from tunekit.plan.configuration import Configuration

BY_NAME = ("freeze_parameters", "trainable_parameters")
"""Flags of ms-swift that hold the beginnings of names."""

BY_PARAMETER = (
    *("freeze_parameters", "freeze_parameters_ratio", "freeze_parameters_regex"),
    *("trainable_parameters", "trainable_parameters_regex"),
)
"""Flags that ms-swift reads in full training alone (tuner.py, TunerMixin.prepare_model)."""

NOT_IN_LORA_LLM = (
    *("target_modules", "target_regex", "target_parameters", "modules_to_save", "lora_dropout", "lora_bias"),
    *("use_rslora", "use_dora", "init_weights", "lora_dtype", "freeze_llm", "freeze_vit", "freeze_aligner"),
)
"""Flags that ms-swift's ``lora_llm`` does not read: it takes rank and alpha alone (tuner_plugin/lora_llm.py)."""

VISION_PACKAGES = ("torchvision", "qwen_vl_utils")
"""What the processors of Qwen's vision models import."""

STARTS = ("true", "false", "gaussian", "pissa", "olora", "orthogonal", "lora-ga", "bat")
"""Ways to begin an adapter (ms-swift tuner_args.py, peft); ``bat`` belongs to ``--tuner_type bone``."""

PARTS = tuple(flag for flag, _ in FREEZES.values())


def _any(plan: Configuration, flags: tuple[str, ...]) -> bool:
    return any(flag in plan.settings for flag in flags)


def _starts_unknown(plan: Configuration) -> bool:
    """Whether ``--init_weights`` is none that works."""
    start = plan.get("init_weights")
    return start is not None and start not in STARTS and not re.fullmatch(r"pissa_niter_\d+", str(start))


def _by_name_into_vision(plan: Configuration) -> bool:
    """Adapters by name, while the vision part is meant to be frozen."""
    targets = plan.words("target_modules")
    named = bool(targets) and "all-linear" not in targets
    return plan.model.multimodal and not plan.full and named and plan.flag("freeze_vit", default=True)


def _rate_without_use(plan: Configuration, part: str) -> bool:
    return plan.model.multimodal and plan.get(RATES[part]) is not None and part not in trained_parts(plan)


TUNING_RULES = (
    Rule(
        "vision-missing",
        when=lambda plan: side_of(plan.model) is not None and any(plan.missing(name) for name in VISION_PACKAGES),
        refuse=True,
        why="this model sees, and wants torchvision and qwen_vl_utils, which are not both installed",
        hint='pip install "tunekit[vlm]"',
        source="ms-swift 4.6 model/models/qwen.py, _check_qwen_vl_utils; transformers 5 image_processing_qwen2_vl.py",
    ),
    Rule(
        "text-lora-llm",
        when=lambda plan: plan.get("tuner_type") == "lora_llm" and is_text(plan.model),
        refuse=True,
        why="--tuner_type lora_llm is for models with a vision part, and this model has none",
        hint="use --tuner_type lora",
        source="ms-swift 4.6 tuner_plugin/lora_llm.py: AttributeError",
    ),
    Rule(
        "text-parts",
        when=lambda plan: is_text(plan.model) and _any(plan, PARTS),
        change=dict.fromkeys(PARTS),
        why="this model has no vision part: ms-swift would ignore it",
        source="seen on ms-swift 4.6: --freeze_llm true trains every weight of a text model",
    ),
    Rule(
        "text-rates",
        when=lambda plan: is_text(plan.model) and _any(plan, ("vit_lr", "aligner_lr")),
        change={"vit_lr": None, "aligner_lr": None},
        why="this model has no vision part that could have a learning rate of its own",
        source="ms-swift 4.6 optimizers/multimodal.py: AttributeError",
    ),
    Rule(
        "lora-llm-plain",
        when=lambda plan: plan.get("tuner_type") == "lora_llm" and _any(plan, NOT_IN_LORA_LLM),
        change=dict.fromkeys(NOT_IN_LORA_LLM),
        why="with --tuner_type lora_llm ms-swift reads rank and alpha of the adapter, and would ignore this",
        source="ms-swift 4.6 tuner_plugin/lora_llm.py, prepare_model",
        quiet=True,
    ),
    Rule(
        "adapter-start",
        when=_starts_unknown,
        refuse=True,
        why=f"--init_weights takes {', '.join(STARTS)} or pissa_niter_ with a number",
        hint="anything else fails after the model is loaded: loftq too, which wants what ms-swift does not pass on",
        source="peft 0.20 tuners/lora: ValueError: Unknown initialization; `loftq_config` must be specified",
    ),
    Rule(
        "pissa-quantized",
        when=lambda plan: plan.get("quant_method") is not None and plan.text("init_weights").startswith("pissa"),
        refuse=True,
        why="PiSSA starts from the weights themselves, and they are quantized here",
        hint="use --init_weights olora, or drop the quantization",
        source="peft 0.20: TypeError: Please initialize PiSSA under float32, float16, or bfloat16",
    ),
    Rule(
        "parameters-full",
        when=lambda plan: not plan.full and _any(plan, BY_PARAMETER),
        change=dict.fromkeys(BY_PARAMETER),
        why="ms-swift reads it in full training alone (--tuner_type full), and would ignore it",
        source="ms-swift 4.6 pipelines/train/tuner.py, TunerMixin.prepare_model",
    ),
    Rule(
        "all-frozen",
        when=lambda plan: plan.model.multimodal and not trained_parts(plan),
        refuse=True,
        why="language model, ViT and aligner are all frozen: there would be nothing to train",
        hint="ViT and aligner are frozen unless --freeze_vit false, --freeze_aligner false say otherwise; "
        "--tuning-strategy vit_only trains both",
        source="seen on ms-swift 4.6: IndexError with full, AssertionError with lora",
    ),
    Rule(
        "vit-rate-frozen",
        when=lambda plan: _rate_without_use(plan, VIT),
        change={"vit_lr": None},
        why="the ViT is frozen, so a learning rate of its own (--learning-rate-vit) would be ignored",
        source="ms-swift 4.6 optimizers/multimodal.py",
    ),
    Rule(
        "aligner-rate-frozen",
        when=lambda plan: _rate_without_use(plan, ALIGNER),
        change={"aligner_lr": None},
        why="the aligner is frozen, so a learning rate of its own (--learning-rate-aligner) would be ignored",
        source="ms-swift 4.6 optimizers/multimodal.py",
    ),
)
"""Spliced into `tunekit.plan.rules.table.RULES`, as the warnings below into its `WARNINGS`."""

TUNING_WARNINGS = (
    Warn(
        _by_name_into_vision,
        "--target_modules by name reaches into ViT and aligner where modules there have the same name: --freeze_vit "
        "and --freeze_aligner hold for all-linear",
    ),
    Warn(
        lambda plan: 0 < plan.number("freeze_parameters_ratio", 0) < 1,
        "--freeze_parameters_ratio counts parameters from the embedding on and may cut a layer in two: "
        "--tuning-strategy freeze --trainable-layers N cuts between layers",
    ),
)


def check_names(plan: Configuration) -> None:
    """Raise TunekitError where a prefix means other parameters than it seems to, and the model's names are known."""
    named = [(flag, prefix) for flag in BY_NAME for prefix in plan.words(flag)]
    if not named:
        return
    try:
        layers = layers_of(plan.model)
    except TunekitError:
        return  # nothing is known of its names
    hint = "ms-swift compares the beginnings of names, and says nothing"
    for flag, prefix in named:
        if wrong := check_prefix(prefix, layers, multimodal=plan.model.multimodal):
            raise TunekitError(f"--{flag} {prefix}: {wrong}", hint)
