"""Plan → rows: what a plan asks of its dataset, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunekit.data import lengths
from tunekit.data.lengths import Question, Unmeasured
from tunekit.plan.models.find import cached

if TYPE_CHECKING:
    from tunekit.data.tokens import Lengths
    from tunekit.plan.plan import Plan

FLAGS = (
    "model_type",
    "template",
    "system",
    "truncation_strategy",
    "max_pixels",
    "agent_template",
    "norm_bbox",
    "use_chat_template",
    "loss_scale",
    "is_binary_loss_scale",
    "template_backend",
    "response_prefix",
    "enable_thinking",
    "preserve_thinking",
    "add_non_thinking_prefix",
    "disable_ignore_empty_think",
    "new_special_tokens",
    "model_kwargs",
    "columns",
    "disable_auto_column_mapping",
    "remove_unused_columns",
)
"""Flags of ms-swift 4.6 that say how a row becomes tokens (arguments/base_args/template_args.py and data_args.py)."""

OTHERWISE = ("streaming", "cached_dataset", "external_plugins", "custom_register_path", "custom_dataset_info")
"""Flags with which rows are read in a way of their own."""


@dataclass(frozen=True)
class Measured:
    """The rows of a plan, as its memory depends on them.

    Attributes:
        lengths: of all rows of the sample.
        loss_share: of the tokens that are trained on, those that carry loss.
        heaviest_share: the same of a heavy micro-batch, which decides the peak.
        seq_len: tokens of a row: of a pack where rows are packed, else of the longest one.
        samples_per_row: samples in a packed row, 1 where rows are not packed.
        max_length: tokens at which rows are dropped or cut; None where they are not.
        dropped: whether they are dropped.
    """

    lengths: Lengths
    loss_share: float
    heaviest_share: float
    seq_len: int
    samples_per_row: float
    max_length: int | None
    dropped: bool

    @property
    def over(self) -> int:
        """Rows of the sample that are dropped or cut."""
        return self.lengths.over(self.max_length) if self.max_length else 0


def measure(plan: Plan) -> Measured:
    """Tokenize a sample of the plan's dataset: seconds, or from the cache.

    Raises:
        Unmeasured: it cannot be done here; the message says why.
        TunekitError: exit code 4; a dataset does not exist.
    """
    return _measured(plan, lengths.measure_rows(question_of(plan)))


def known(plan: Plan) -> Measured | None:
    """What `measure` has found before; nothing is computed. None where it has not been asked."""
    try:
        found = lengths.measured_before(question_of(plan))
    except Unmeasured:
        return None
    return None if found is None else _measured(plan, found)


def question_of(plan: Plan) -> Question:
    """What is asked about the rows of a plan.

    Raises:
        Unmeasured: its rows are read or made in a way that is not known before.
    """
    names = plan.get("dataset")
    if not names:
        raise Unmeasured("there is no --dataset")
    for flag in OTHERWISE:
        if plan.get(flag):
            raise Unmeasured(f"with --{flag} the rows are read in a way of their own")
    if plan.row_format:
        raise Unmeasured(f"{plan.row_format.spec} makes the rows when the run starts")
    if plan.get("truncation_strategy") == "split":
        raise Unmeasured("the rows are split into pieces of --max_length")
    folder = cached(plan.model)
    if folder is None:
        raise Unmeasured(f"the tokenizer of {plan.model.id} is not on this machine")
    flags: dict[str, Any] = {}
    for flag in FLAGS:
        value = plan.get(flag)
        if value is not None:
            flags[flag] = list(value) if isinstance(value, (list, tuple)) else value
    if str(flags.get("system", "")).endswith(".txt") and Path(flags["system"]).is_file():
        flags["system"] = Path(flags["system"]).read_text(encoding="utf-8")
    named = (names,) if isinstance(names, str) else tuple(str(name) for name in names)  # type: ignore[union-attr]
    return Question(folder, plan.loss, named, flags, None if _drops(plan) else _max_length(plan))


def _measured(plan: Plan, found: Lengths) -> Measured:
    limit = _max_length(plan)
    seen = found.seen(limit if _drops(plan) else None)
    length = limit if plan.packed and limit else found.row_length(limit)
    packs = len(seen.packs(length)) if plan.packed else len(seen.rows)
    exact = plan.loss in ("pt", "sft")  # of pairs the logits of all tokens are made
    return Measured(
        lengths=found,
        loss_share=seen.loss_share,
        heaviest_share=(
            seen.heaviest_share(plan.batch.micro, length, packed=plan.packed) if exact else seen.loss_share
        ),
        seq_len=length,
        samples_per_row=len(seen.rows) / packs if packs else 1.0,
        max_length=limit,
        dropped=_drops(plan),
    )


def _drops(plan: Plan) -> bool:
    """Whether rows that are too long are left out, which is ms-swift's default."""
    return plan.get("truncation_strategy") in (None, "delete")


def _max_length(plan: Plan) -> int | None:
    value = plan.get("max_length")
    return None if value is None else int(str(value))
