"""What to change after an out-of-memory: rungs, tried from top to bottom.

Neutral ones keep the effective batch to the row; lossy ones change what is learned, and only when the user allows it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from tunekit.engine.kinds import Kind
from tunekit.engine.locate import liger_models
from tunekit.plan import savings
from tunekit.plan.configuration import BATCH_FLAGS
from tunekit.plan.settings import Source, Value, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tunekit.plan.batch import Batch
    from tunekit.plan.plan import Plan
    from tunekit.plan.predict import Peak

SHORTEST = 512
"""max_length is not lowered below this many tokens."""

SMALLEST_RANK = 4

Flags: TypeAlias = "Mapping[str, Value | None]"
Fingerprint: TypeAlias = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Proposal:
    """What a rung would change.

    Attributes:
        flags: a value of None drops the flag.
        correction: measured ÷ predicted memory, where the failure has shown more of it.
    """

    flags: Flags
    batch: Batch | None = None
    correction: float | None = None


@dataclass(frozen=True)
class Rung:
    """One way to need less memory.

    Attributes:
        kinds: the failures that it helps against.
        propose: what it would change in a plan, or only the flags; nothing where it has nothing to offer.
        why: for people.
        neutral: whether the optimisation stays the same.
        fresh: whether a checkpoint of before cannot be continued from.
    """

    id: str
    kinds: frozenset[Kind]
    propose: Callable[[Plan, frozenset[str]], Proposal | Flags | None]
    why: str
    neutral: bool = True
    fresh: bool = False


@dataclass(frozen=True)
class Retry:
    """A rung taken: the plan to be tried next, and what changed, in a line for people."""

    rung: Rung
    plan: Plan
    line: str

    @property
    def fresh(self) -> bool:
        """Whether the next attempt starts over instead of resuming."""
        return self.rung.fresh


def _smaller_micro(plan: Plan, _packages: frozenset[str]) -> Proposal | None:
    """Half the micro-batch, or where memory can be predicted the largest that should fit, after what was seen."""
    smaller = plan.batch.shrink()
    if smaller is None:
        return None
    peak = plan.peak
    if peak is None:
        return Proposal({}, smaller)
    correction = seen(peak)
    # A failure says only that more was needed, not how much more: after a second one the prediction is not believed.
    again = plan.settings[BATCH_FLAGS[0]].source.kind == "retry"
    fitting = min(peak.largest_with(correction), smaller.micro if again else plan.batch.micro - 1)
    return Proposal({}, plan.batch.with_micro(max(1, fitting)), correction)


def _smaller_micro_on_cpu(plan: Plan, packages: frozenset[str]) -> Proposal | None:
    """On a CPU the host's memory holds the activations; with a GPU it does not."""
    return None if plan.hardware.gpus else _smaller_micro(plan, packages)


def _fewer_workers(plan: Plan, _packages: frozenset[str]) -> Flags | None:
    if not plan.hardware.gpus or plan.get("dataloader_num_workers") == 0:
        return None
    return {"dataloader_num_workers": 0, "dataset_num_proc": 1}


def _smaller_eval(plan: Plan, _packages: frozenset[str]) -> Flags | None:
    return {"per_device_eval_batch_size": 1} if plan.whole("per_device_eval_batch_size", 1) > 1 else None


def _liger(plan: Plan, packages: frozenset[str]) -> Flags | None:
    return savings.liger_flags(plan, packages, liger_models())


def _checkpointing(plan: Plan, _packages: frozenset[str]) -> Flags | None:
    return None if plan.flag("gradient_checkpointing", default=True) else {"gradient_checkpointing": True}


def _lower_rank(plan: Plan, _packages: frozenset[str]) -> Flags | None:
    rank = plan.rank
    if plan.get("tuner_type") != "lora" or rank <= SMALLEST_RANK:
        return None
    lower = max(SMALLEST_RANK, rank // 2)
    return {"lora_rank": lower, "lora_alpha": max(1, plan.whole("lora_alpha", 32) * lower // rank)}


def _shorter(plan: Plan, _packages: frozenset[str]) -> Flags | None:
    length = plan.whole("max_length", 0)
    shorter = max(SHORTEST, length * 2 // 3 // 256 * 256)
    if shorter >= length:
        return None
    packs = {} if plan.get("packing_length") is None else {"packing_length": shorter}
    pixels = plan.whole("max_pixels")  # an image must not take more than a row has
    images = {} if pixels is None else {"max_pixels": pixels * shorter // length}
    return {"max_length": shorter, **packs, **images}


def _unpacked(plan: Plan, _packages: frozenset[str]) -> Flags | None:
    return {"packing": False} if plan.packed else None


TRAINING = frozenset({Kind.GPU_MEMORY})
EVALUATION = frozenset({Kind.GPU_MEMORY_EVAL})
LOADING = frozenset({Kind.GPU_MEMORY_LOAD})
HOST = frozenset({Kind.HOST_MEMORY})

# fmt: off
RUNGS = (
    Rung("eval-batch", EVALUATION, _smaller_eval, "evaluation keeps whole logits: one row at a time"),
    Rung("micro-batch", TRAINING, _smaller_micro, "fewer rows at once, more of them added up: the same step"),
    Rung("micro-batch", HOST, _smaller_micro_on_cpu, "fewer rows at once, more of them added up: the same step"),
    Rung("workers", HOST, _fewer_workers, "each data loading process holds memory of its own"),
    Rung("liger", TRAINING | EVALUATION, _liger, "Liger's fused cross-entropy never holds the whole logits"),
    Rung("checkpointing", TRAINING | HOST, _checkpointing, "activations are recomputed instead of kept"),
    # A checkpoint of another ZeRO stage resumes with the optimizer restarted, silently.
    Rung("zero", TRAINING | LOADING, savings.zero_flags,
         "DeepSpeed ZeRO shares optimizer, gradients and, at stage 3, weights among the GPUs", fresh=True),
    Rung("4-bit", TRAINING | LOADING | EVALUATION | HOST, savings.four_bit_flags,
         "the frozen weights are held in 4 bits (QLoRA)", neutral=False),
    # ms-swift would keep the checkpoint's rank, silently.
    Rung("rank", TRAINING, _lower_rank,
         "a smaller adapter; alpha is lowered with it, so its scale stays", neutral=False, fresh=True),
    Rung("max-length", TRAINING | EVALUATION | HOST, _shorter,
         "shorter rows; longer samples are left out, so the data changes", neutral=False, fresh=True),
    Rung("packing", TRAINING | HOST, _unpacked,
         "a row is one sample again, and a step sees fewer of them", neutral=False, fresh=True),
)
# fmt: on
"""Every rung, in the order in which they are tried."""


def next_step(
    plan: Plan, kind: Kind, packages: frozenset[str], tried: set[Fingerprint], attempt: int, *, lossy: bool
) -> Retry | None:
    """The first rung that helps against `kind` and leads to a configuration that was not tried; None where none does.

    `packages` are import names of what is installed, `tried` the `fingerprint_of` all configurations so far, `attempt`
    the number of the coming one: changes carry it as their source. `lossy` allows rungs that change what is learned.
    """
    for rung in RUNGS:
        if kind not in rung.kinds or not (rung.neutral or lossy):
            continue
        proposal = rung.propose(plan, packages)
        if not proposal:
            continue
        if not isinstance(proposal, Proposal):
            proposal = Proposal(proposal)
        changed = plan.changed(proposal.flags, Source("retry", str(attempt)), rung.why, proposal.batch)
        changed = replace(changed, memory_correction=proposal.correction or plan.memory_correction)
        if fingerprint_of(changed) not in tried:
            return Retry(rung, changed, _line(plan, changed, proposal))
    return None


def seen(peak: Peak) -> float:
    """Measured ÷ predicted memory, at the least, of a plan that ran out of GPU memory: it needed more than there is."""
    context = peak.prediction.process_gib - peak.prediction.reserved_gib
    uncorrected = peak.prediction.reserved_gib / peak.correction
    return max(peak.correction, (peak.card_gib - context) / uncorrected)


def fingerprint_of(plan: Plan) -> Fingerprint:
    """By what two configurations are taken to be the same."""
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
