"""A plan in the making, the rules that look at it, and what they change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunekit.plan.settings import Setting, Value, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tunekit.hardware import Hardware
    from tunekit.plan.models.find import Model

FLASH = ("flash_attn", "flash_attention_2", "flash_attention_3", "flash_attention_4")
"""Attention implementations that ms-swift accepts for packing (sft_args.py, _check_padding_free)."""


@dataclass(frozen=True)
class Change:
    """What a rule or a retry changed.

    Attributes:
        flag: of ms-swift.
        before: None where it was not set.
        after: None where the flag was dropped.
        why: for people.
        by: ``rule:<id>`` or ``retry:<n>``.
        quiet: not worth a line in the plan; ``--explain`` shows it.
    """

    flag: str
    before: Value | None
    after: Value | None
    why: str
    by: str
    quiet: bool = False

    def line(self) -> str:
        """For people: ``attn_impl flash_attn → sdpa``."""
        before = "" if self.before is None else f" {text(self.before)}"
        after = "dropped" if self.after is None else text(self.after)
        return f"{self.flag}{before} → {after}"


@dataclass
class Draft:
    """A plan in the making: what rules look at and change.

    Attributes:
        command: ``sft``, ``pt`` or ``rlhf``.
        packages: import names of what is installed; None where the target machine cannot be seen.
    """

    command: str
    model: Model
    hardware: Hardware
    packages: frozenset[str] | None
    settings: dict[str, Setting]
    changes: list[Change] = field(default_factory=list)

    def get(self, flag: str) -> Value | None:
        """The value of a flag, None where nothing sets it."""
        setting = self.settings.get(flag)
        return setting.value if setting else None

    def typed(self, flag: str) -> bool:
        """Whether the user typed the flag for this run."""
        return flag in self.settings and self.settings[flag].explicit

    def missing(self, package: str) -> bool:
        """Whether a package is known to be absent."""
        return self.packages is not None and package not in self.packages

    @property
    def flash(self) -> bool:
        """Whether attention is to be a flash implementation."""
        return self.get("attn_impl") in FLASH

    @property
    def loss(self) -> str:
        """The RLHF type; empty for the other commands."""
        return str(self.get("rlhf_type") or "") if self.command == "rlhf" else ""

    @property
    def trackers(self) -> list[str]:
        """What ``--report_to`` names."""
        value = self.get("report_to")
        return value if isinstance(value, list) else [str(value)] if value else []

    def weak(self, capability: tuple[int, int]) -> bool:
        """Whether a GPU's compute capability is known to be below `capability`."""
        return self.hardware.capability is not None and self.hardware.capability < capability

    def zero(self, stage: int) -> bool:
        """Whether DeepSpeed ZeRO of that stage (offloaded or not) is asked for by name."""
        return str(self.get("deepspeed") or "").startswith(f"zero{stage}")


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Attributes:
        id: short name; settings carry ``rule:<id>`` as their source.
        when: whether the rule applies to a draft.
        why: the reason, for people.
        source: where the fact comes from.
        change: flags and their new values, or what makes them of a draft; None drops the flag.
        refuse: whether nothing can be changed, so that the user must decide.
        hint: what to do, for refusals.
        quiet: not worth a line in the plan.
    """

    id: str
    when: Callable[[Draft], bool]
    why: str
    source: str
    change: Mapping[str, Value | Callable[[Draft], Value | None] | None] = field(default_factory=dict)
    refuse: bool = False
    hint: str | None = None
    quiet: bool = False
