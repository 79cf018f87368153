"""Which flash attention a plan can use: three packages, two of which share the import name ``flash_attn``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.plan.configuration import FLASH, FLASH_PACKAGES, Configuration
from tunekit.plan.rules.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Callable

GITHUB = "https://github.com/Dao-AILab/flash-attention"
NO_SDPA_FALLBACK = "transformers raises ImportError when the model is loaded"


def _lacks(package: str) -> Callable[[Configuration], bool]:
    return lambda plan: FLASH.get(plan.text("attn_impl")) == package and plan.missing(package)


def _on_other_cards(package: str) -> Callable[[Configuration], bool]:
    runs_on = FLASH_PACKAGES[package].runs_on
    return lambda plan: FLASH.get(plan.text("attn_impl")) == package and not runs_on(plan.hardware.capability)


def _could_have_4(plan: Configuration) -> bool:
    capability = plan.hardware.capability
    return capability is not None and FLASH_PACKAGES["flash_attn_4"].runs_on(capability)


def _lacks_all(plan: Configuration) -> bool:
    return _lacks("flash_attn")(plan) and _could_have_4(plan)


FLASH_RULES = (
    Rule(
        "flash-other",
        when=lambda plan: plan.flash and not plan.flash_runs and plan.other_flash() is not None,
        change={"attn_impl": Configuration.other_flash},
        why="the flash attention that is installed here and made for this GPU is another one",
        source="transformers 5 import_utils.py, is_flash_attn_2_available, …_3_, …_4_: they look at the distribution",
    ),
    Rule(
        "flash-old-gpu",
        when=_on_other_cards("flash_attn"),
        change={"attn_impl": "sdpa"},
        why="flash-attn 2 needs an Ampere GPU (compute capability 8.0) or newer",
        source=f"{GITHUB}#nvidia-cuda-support",
    ),
    Rule(
        "flash-3-gpu",
        when=_on_other_cards("flash_attn_3"),
        change={"attn_impl": "sdpa"},
        why="flash-attn-3 is for Hopper GPUs alone (compute capability 9.0)",
        source=f"{GITHUB}#flashattention-3-beta-release",
    ),
    Rule(
        "flash-4-gpu",
        when=_on_other_cards("flash_attn_4"),
        change={"attn_impl": "sdpa"},
        why="flash-attn-4 needs a Hopper GPU (compute capability 9.0) or newer",
        source=f"{GITHUB}#flashattention-4-cutedsl",
    ),
    Rule(
        "flash-missing-hopper",
        when=_lacks_all,
        change={"attn_impl": "sdpa"},
        why=f"flash-attn is not installed: {FLASH_PACKAGES['flash_attn_4'].install}",
        source=NO_SDPA_FALLBACK,
    ),
    *(
        Rule(
            f"{name.replace('_attn', '').replace('_', '-')}-missing",
            when=_lacks(name),
            change={"attn_impl": "sdpa"},
            why=f"{package.distribution} is not installed: {package.install}",
            source=NO_SDPA_FALLBACK,
        )
        for name, package in FLASH_PACKAGES.items()
    ),
)
