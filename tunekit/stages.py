"""The stages of training: one table, from which commands, checks, recipes and docs/stages.md are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Stage:
    """One kind of training.

    Attributes:
        name: what ``tunekit NAME`` and recipes call it; also the name of its overlay in ``presets/stages/``.
        command: of ms-swift.
        learns: what the model learns, and from what, in a line.
        memory: what it holds beside the model that is trained.
        reference: the model of before is compared with, so it must be the right one.
        ref_adapters: ms-swift can take an adapter as that model.
        completions: the batch counts answers that the model gives while it trains, not rows.
        packs: ms-swift can pack its rows.
        gives: what comes out: ``model``, or ``reward model``.
    """

    name: str
    command: str
    learns: str
    memory: str = "nothing"
    reference: bool = False
    ref_adapters: bool = False
    completions: bool = False
    packs: bool = False
    gives: str = "model"

    @property
    def rlhf_type(self) -> str:
        """What ``--rlhf_type`` gets; empty for pt and sft."""
        return self.name if self.command == "rlhf" else ""


PAIR = "rows count double: the chosen and the rejected answer"
COPY = "full training holds a frozen copy of the model; LoRA switches its adapter off instead"

_TABLE = (
    Stage("pt", "pt", "Continued pre-training: the language of plain text.", packs=True),
    Stage("sft", "sft", "Supervised fine-tuning: to answer as in conversations or instructions.", packs=True),
    Stage("rm", "rlhf", "A reward model: to score answers, from pairs. PPO uses it.", PAIR, gives="reward model"),
    Stage(
        "dpo",
        "rlhf",
        "Direct preference optimisation: to prefer the chosen answer of a pair.",
        f"{PAIR}; {COPY}",
        reference=True,
        ref_adapters=True,
        packs=True,
    ),
    Stage(
        "kto",
        "rlhf",
        "Kahneman-Tversky optimisation: from answers marked good or bad, without pairs.",
        f"a second, mismatched answer a row; {COPY}",
        reference=True,
        ref_adapters=True,
        packs=True,
    ),
    Stage("orpo", "rlhf", "Odds-ratio optimisation: answers and preferences at once, from pairs.", PAIR),
    Stage("simpo", "rlhf", "Simple preference optimisation: pairs, without a reference model.", PAIR),
    Stage("cpo", "rlhf", "Contrastive preference optimisation: pairs, without a reference model.", PAIR),
    Stage(
        "ppo",
        "rlhf",
        "Proximal policy optimisation: its own answers, scored by a reward model.",
        f"the reward model and a value model as large; {COPY}",
        reference=True,
        completions=True,
    ),
    Stage(
        "grpo",
        "rlhf",
        "Group relative policy optimisation: several own answers a prompt, scored by reward functions.",
        f"the cache of the answers that are written, or vLLM's share; {COPY}",
        reference=True,
        ref_adapters=True,
        completions=True,
    ),
    Stage(
        "gkd",
        "rlhf",
        "Knowledge distillation: to answer as a larger teacher would.",
        "the teacher model, and the logits of both",
    ),
)

STAGES: Mapping[str, Stage] = {stage.name: stage for stage in _TABLE}
"""Every stage by name, in the order in which they are usually done."""
