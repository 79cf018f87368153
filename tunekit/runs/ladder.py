"""What to change after an out-of-memory: rungs, tried from top to bottom.

Neutral rungs keep the optimisation what it is: the effective batch is the same to the row. Lossy rungs change
what is learned, and are taken only when the user allows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.engine.failures import Kind
from tunekit.engine.locate import liger_models
from tunekit.plan.settings import Value, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tunekit.plan.batch import Batch
    from tunekit.plan.plan import Plan

SHORTEST = 512
"""max_length is not lowered below this many tokens."""

SMALLEST_RANK = 4


@dataclass(frozen=True)
class Proposal:
    """What a rung would change. A value of None drops the flag."""

    flags: Mapping[str, Value | None]
    batch: Batch | None = None


@dataclass(frozen=True)
class Rung:
    """One way to need less memory.

    Attributes:
        id: short name.
        kinds: the failures that it helps against.
        propose: what it would change in a plan; None where it has nothing to offer.
        why: for people.
        neutral: whether the optimisation stays the same.
        fresh: whether a checkpoint of before cannot be continued from.
    """

    id: str
    kinds: frozenset[Kind]
    propose: Callable[[Plan, frozenset[str]], Proposal | None]
    why: str
    neutral: bool = True
    fresh: bool = False


@dataclass(frozen=True)
class Step:
    """A rung taken.

    Attributes:
        plan: to be tried next.
        line: what changed, for people.
        fresh: start over instead of resuming.
    """

    rung: Rung
    plan: Plan
    line: str

    @property
    def fresh(self) -> bool:
        """Whether the next attempt starts from the beginning."""
        return self.rung.fresh


def _smaller_micro(plan: Plan, _packages: frozenset[str]) -> Proposal | None:
    smaller = plan.batch.shrink()
    return Proposal({}, smaller) if smaller else None


def _smaller_micro_on_cpu(plan: Plan, packages: frozenset[str]) -> Proposal | None:
    """On a CPU the host's memory holds the activations; with a GPU it does not."""
    return None if plan.hardware.gpus else _smaller_micro(plan, packages)


def _fewer_workers(plan: Plan, _packages: frozenset[str]) -> Proposal | None:
    if not plan.hardware.gpus or plan.get("dataloader_num_workers") == 0:
        return None
    return Proposal({"dataloader_num_workers": 0, "dataset_num_proc": 1})


def _smaller_eval(plan: Plan, _packages: frozenset[str]) -> Proposal | None:
    current = int(str(plan.get("per_device_eval_batch_size") or 1))
    return Proposal({"per_device_eval_batch_size": 1}) if current > 1 else None


def _liger(plan: Plan, packages: frozenset[str]) -> Proposal | None:
    if plan.command == "rlhf" or not plan.hardware.gpus or "liger_kernel" not in packages:
        return None
    if plan.get("use_liger_kernel") is True or plan.model.family not in liger_models():
        return None
    return Proposal({"use_liger_kernel": True})


def _checkpointing(plan: Plan, _packages: frozenset[str]) -> Proposal | None:
    return Proposal({"gradient_checkpointing": True}) if plan.get("gradient_checkpointing") is False else None


ZERO_LADDER = {None: "zero2", "zero0": "zero2", "zero1": "zero2", "zero2": "zero3", "zero3": "zero3_offload"}


def _zero(plan: Plan, packages: frozenset[str]) -> Proposal | None:
    current = plan.get("deepspeed")
    stage = ZERO_LADDER.get(None if current is None else str(current))
    if stage is None or plan.hardware.world == 1 or not plan.hardware.gpus or "deepspeed" not in packages:
        return None
    if stage != "zero2" and plan.get("quant_method") is not None:
        return None  # rule qlora-zero3
    return Proposal({"deepspeed": stage})


def _four_bit(plan: Plan, packages: frozenset[str]) -> Proposal | None:
    if plan.get("tuner_type") != "lora" or plan.get("quant_method") is not None or "bitsandbytes" not in packages:
        return None
    if plan.model.moe or str(plan.get("deepspeed") or "").startswith("zero3"):
        return None  # fused expert weights are not quantized; ZeRO-3 cannot shard 4-bit weights
    return Proposal({"quant_method": "bnb", "quant_bits": "4"})


def _lower_rank(plan: Plan, _packages: frozenset[str]) -> Proposal | None:
    rank = int(str(plan.get("lora_rank") or 8))
    if plan.get("tuner_type") != "lora" or rank <= SMALLEST_RANK:
        return None
    lower = max(SMALLEST_RANK, rank // 2)
    alpha = int(str(plan.get("lora_alpha") or 32))
    return Proposal({"lora_rank": lower, "lora_alpha": max(1, alpha * lower // rank)})


def _shorter(plan: Plan, _packages: frozenset[str]) -> Proposal | None:
    length = int(str(plan.get("max_length") or 0))
    shorter = max(SHORTEST, length * 2 // 3 // 256 * 256)
    if shorter >= length:
        return None
    packs = {} if plan.get("packing_length") is None else {"packing_length": shorter}
    return Proposal({"max_length": shorter, **packs})


def _unpacked(plan: Plan, _packages: frozenset[str]) -> Proposal | None:
    return Proposal({"packing": False}) if plan.packed else None


TRAINING = frozenset({Kind.GPU_MEMORY})
EVALUATION = frozenset({Kind.GPU_MEMORY_EVAL})
LOADING = frozenset({Kind.GPU_MEMORY_LOAD})
HOST = frozenset({Kind.HOST_MEMORY})

RUNGS = (
    Rung("eval-batch", EVALUATION, _smaller_eval, "evaluation keeps whole logits: one row at a time"),
    Rung("micro-batch", TRAINING, _smaller_micro, "fewer rows at once, more of them added up: the same step"),
    Rung("micro-batch", HOST, _smaller_micro_on_cpu, "fewer rows at once, more of them added up: the same step"),
    Rung("workers", HOST, _fewer_workers, "each data loading process holds memory of its own"),
    Rung("liger", TRAINING | EVALUATION, _liger, "Liger's fused cross-entropy never holds the whole logits"),
    Rung("checkpointing", TRAINING | HOST, _checkpointing, "activations are recomputed instead of kept"),
    Rung(
        "zero",
        TRAINING | LOADING,
        _zero,
        "DeepSpeed ZeRO shares optimizer, gradients and, at stage 3, weights among the GPUs",
        fresh=True,  # a checkpoint of another stage resumes with the optimizer restarted, silently
    ),
    Rung(
        "4-bit",
        TRAINING | LOADING | EVALUATION | HOST,
        _four_bit,
        "the frozen weights are held in 4 bits (QLoRA)",
        neutral=False,
    ),
    Rung(
        "rank",
        TRAINING,
        _lower_rank,
        "a smaller adapter; alpha is lowered with it, so its scale stays",
        neutral=False,
        fresh=True,  # ms-swift would keep the checkpoint's rank, silently
    ),
    Rung(
        "max-length",
        TRAINING | EVALUATION | HOST,
        _shorter,
        "shorter rows; longer samples are left out, so the data changes",
        neutral=False,
        fresh=True,
    ),
    Rung(
        "packing",
        TRAINING | HOST,
        _unpacked,
        "a row is one sample again, and a step sees fewer of them",
        neutral=False,
        fresh=True,
    ),
)
"""Every rung, in the order in which they are tried."""


def next_step(
    plan: Plan,
    kind: Kind,
    packages: frozenset[str],
    tried: set[frozenset[tuple[str, str]]],
    attempt: int,
    *,
    lossy: bool,
) -> Step | None:
    """The first rung that helps against `kind` and leads to a configuration that was not tried; None where none does.

    Args:
        plan: that ran out of memory.
        kind: of memory, and when.
        packages: import names of what is installed.
        tried: fingerprints (`fingerprint`) of all configurations so far.
        attempt: the number of the coming one; changes carry ``retry:<attempt>`` as their source.
        lossy: whether rungs that change what is learned are allowed.
    """
    for rung in RUNGS:
        if kind not in rung.kinds or not (rung.neutral or lossy):
            continue
        proposal = rung.propose(plan, packages)
        if proposal is None:
            continue
        changed = plan.changed(proposal.flags, f"retry:{attempt}", rung.why, proposal.batch)
        if fingerprint(changed) not in tried:
            return Step(rung, changed, _line(plan, changed, proposal))
    return None


def fingerprint(plan: Plan) -> frozenset[tuple[str, str]]:
    """What tells two configurations apart."""
    return frozenset((flag, text(setting.value)) for flag, setting in plan.settings.items())


def _line(before: Plan, after: Plan, proposal: Proposal) -> str:
    if proposal.batch:
        old, new = before.batch, after.batch
        return (
            f"micro-batch {old.micro} → {new.micro}, accumulation {old.accumulation} → {new.accumulation}, "
            f"effective batch still {new.effective}"
        )
    parts = []
    for flag, value in proposal.flags.items():
        old_value = before.get(flag)
        shown = "" if old_value is None else f" {text(old_value)} →"
        parts.append(f"{flag}{shown} {'dropped' if value is None else text(value)}")
    return ", ".join(parts)
