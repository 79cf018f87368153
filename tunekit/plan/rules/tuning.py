"""Rules about what is trained: parts that are frozen, flags that one way of training knows and another ignores."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tunekit.plan.draft import Rule
from tunekit.plan.images import side_of
from tunekit.plan.parts import ALIGNER, FREEZES, VIT, trained
from tunekit.plan.strategies import is_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunekit.plan.draft import Draft

BY_PARAMETER = (
    "freeze_parameters",
    "freeze_parameters_ratio",
    "freeze_parameters_regex",
    "trainable_parameters",
    "trainable_parameters_regex",
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


def _parts(draft: Draft) -> dict[str, str]:
    return trained(draft.settings, multimodal=draft.model.multimodal)


def _any(draft: Draft, flags: tuple[str, ...]) -> bool:
    return any(flag in draft.settings for flag in flags)


def _starts_unknown(draft: Draft) -> bool:
    """Whether ``--init_weights`` is none that works."""
    start = draft.get("init_weights")
    return start is not None and start not in STARTS and not re.fullmatch(r"pissa_niter_\d+", str(start))


def _sees(draft: Draft) -> bool:
    return draft.model.multimodal


def _by_name_into_vision(draft: Draft) -> bool:
    """Adapters by name, while the vision part is meant to be frozen."""
    targets = draft.get("target_modules")
    named = isinstance(targets, list) and "all-linear" not in targets
    return _sees(draft) and draft.get("tuner_type") != "full" and named and draft.get("freeze_vit") is not False


TUNING_RULES = (
    Rule(
        "vision-missing",
        when=lambda draft: side_of(draft.model) is not None and any(draft.missing(name) for name in VISION_PACKAGES),
        refuse=True,
        why="this model sees, and wants torchvision and qwen_vl_utils, which are not both installed",
        hint='pip install "tunekit[vlm]"',
        source="ms-swift 4.6 model/models/qwen.py, _check_qwen_vl_utils; transformers 5 image_processing_qwen2_vl.py",
    ),
    Rule(
        "text-lora-llm",
        when=lambda draft: draft.get("tuner_type") == "lora_llm" and is_text(draft.model),
        refuse=True,
        why="--tuner_type lora_llm is for models with a vision part, and this model has none",
        hint="use --tuner_type lora",
        source="ms-swift 4.6 tuner_plugin/lora_llm.py: AttributeError",
    ),
    Rule(
        "text-parts",
        when=lambda draft: is_text(draft.model) and _any(draft, PARTS),
        change=dict.fromkeys(PARTS),
        why="this model has no vision part: ms-swift would ignore it",
        source="seen on ms-swift 4.6: --freeze_llm true trains every weight of a text model",
    ),
    Rule(
        "text-rates",
        when=lambda draft: is_text(draft.model) and _any(draft, ("vit_lr", "aligner_lr")),
        change={"vit_lr": None, "aligner_lr": None},
        why="this model has no vision part that could have a learning rate of its own",
        source="ms-swift 4.6 optimizers/multimodal.py: AttributeError",
    ),
    Rule(
        "lora-llm-plain",
        when=lambda draft: draft.get("tuner_type") == "lora_llm" and _any(draft, NOT_IN_LORA_LLM),
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
        when=lambda draft: draft.get("quant_method") is not None and str(draft.get("init_weights")).startswith("pissa"),
        refuse=True,
        why="PiSSA starts from the weights themselves, and they are quantized here",
        hint="use --init_weights olora, or drop the quantization",
        source="peft 0.20: TypeError: Please initialize PiSSA under float32, float16, or bfloat16",
    ),
    Rule(
        "parameters-full",
        when=lambda draft: draft.get("tuner_type") != "full" and _any(draft, BY_PARAMETER),
        change=dict.fromkeys(BY_PARAMETER),
        why="ms-swift reads it in full training alone (--tuner_type full), and would ignore it",
        source="ms-swift 4.6 pipelines/train/tuner.py, TunerMixin.prepare_model",
    ),
    Rule(
        "all-frozen",
        when=lambda draft: _sees(draft) and not _parts(draft),
        refuse=True,
        why="language model, ViT and aligner are all frozen: there would be nothing to train",
        hint="ViT and aligner are frozen unless --freeze_vit false, --freeze_aligner false say otherwise; "
        "--tuning-strategy vit_only trains both",
        source="seen on ms-swift 4.6: IndexError with full, AssertionError with lora",
    ),
    Rule(
        "vit-rate-frozen",
        when=lambda draft: _sees(draft) and draft.get("vit_lr") is not None and VIT not in _parts(draft),
        change={"vit_lr": None},
        why="the ViT is frozen, so a learning rate of its own (--learning-rate-vit) would be ignored",
        source="ms-swift 4.6 optimizers/multimodal.py",
    ),
    Rule(
        "aligner-rate-frozen",
        when=lambda draft: _sees(draft) and draft.get("aligner_lr") is not None and ALIGNER not in _parts(draft),
        change={"aligner_lr": None},
        why="the aligner is frozen, so a learning rate of its own (--learning-rate-aligner) would be ignored",
        source="ms-swift 4.6 optimizers/multimodal.py",
    ),
)
"""Spliced into `tunekit.plan.rules.table.RULES`."""


def _ratio(draft: Draft) -> bool:
    return 0 < float(str(draft.get("freeze_parameters_ratio") or 0)) < 1


TUNING_WARNINGS: tuple[tuple[Callable[[Draft], bool], str], ...] = (
    (
        _by_name_into_vision,
        "--target_modules by name reaches into ViT and aligner where modules there have the same name: --freeze_vit "
        "and --freeze_aligner hold for all-linear",
    ),
    (
        _ratio,
        "--freeze_parameters_ratio counts parameters from the embedding on and may cut a layer in two: "
        "--tuning-strategy freeze --trainable-layers N cuts between layers",
    ),
)
"""Spliced into `tunekit.plan.rules.table.WARNINGS`."""
