"""Plan → rows: what a plan asks about its dataset, and what the answer means for its memory and its steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunekit.data.lengths import Question, Unmeasured
from tunekit.plan.models.config import cached_model

if TYPE_CHECKING:
    from tunekit.data.tokens import Lengths
    from tunekit.plan.plan import Plan

FLAGS = (
    *("model_type", "template", "system", "truncation_strategy", "max_pixels", "agent_template", "norm_bbox"),
    *("use_chat_template", "loss_scale", "is_binary_loss_scale", "template_backend", "response_prefix"),
    *("enable_thinking", "preserve_thinking", "add_non_thinking_prefix", "disable_ignore_empty_think"),
    *("new_special_tokens", "model_kwargs", "columns", "disable_auto_column_mapping", "remove_unused_columns"),
)
"""Flags of ms-swift 4.6 that say how a row becomes tokens (arguments/base_args/template_args.py and data_args.py)."""

ROOT = "ROOT_IMAGE_DIR"
"""Where ms-swift looks for pictures whose paths are relative (template/vision_utils.py)."""

OTHERWISE = ("streaming", "cached_dataset", "external_plugins", "custom_register_path", "custom_dataset_info")
"""Flags with which rows are read in a way of their own."""


@dataclass(frozen=True)
class Measured:
    """The rows of a plan, as its memory depends on them.

    Attributes:
        lengths: of all rows of the sample.
        loss_share: of the tokens that are trained on, those that carry loss, 0 to 1.
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


def question_of(plan: Plan) -> Question:
    """What is asked about the rows of a plan. Raises Unmeasured where they are read or made as nobody knows before."""
    names = plan.words("dataset")
    if not names:
        raise Unmeasured("there is no --dataset")
    for flag in OTHERWISE:
        if plan.get(flag):
            raise Unmeasured(f"with --{flag} the rows are read in a way of their own")
    if plan.row_format:
        raise Unmeasured(f"{plan.row_format.spec} makes the rows when the run starts")
    if plan.get("truncation_strategy") == "split":
        raise Unmeasured("the rows are split into pieces of --max_length")
    folder = cached_model(plan.model)
    if folder is None:
        raise Unmeasured(f"the tokenizer of {plan.model.id} is not on this machine")
    flags = {flag: value for flag in FLAGS if (value := plan.get(flag)) is not None}
    system = plan.text("system")
    if system.endswith(".txt") and Path(system).is_file():
        flags["system"] = Path(system).read_text(encoding="utf-8")
    limit = None if _drops(plan) else plan.whole("max_length")
    root = {name: value for name, value in plan.env.items() if name == ROOT}
    return Question(folder, plan.stage.name, tuple(names), flags, limit, environ=root)


def rows_measured(plan: Plan, found: Lengths) -> Measured:
    """What the lengths of a plan's rows mean for it."""
    limit = plan.whole("max_length")
    seen = found.seen(limit if _drops(plan) else None)
    length = limit if plan.packed and limit else found.row_length(limit)
    packs = len(seen.packs(length)) if plan.packed else len(seen.rows)
    heaviest = seen.loss_share  # of pairs the logits of all tokens are made
    if not plan.stage.rlhf_type:
        heaviest = seen.heaviest_share(plan.batch.micro, length, packed=plan.packed)
    return Measured(
        lengths=found,
        loss_share=seen.loss_share,
        heaviest_share=heaviest,
        seq_len=length,
        samples_per_row=len(seen.rows) / packs if packs else 1.0,
        max_length=limit,
        dropped=_drops(plan),
    )


def _drops(plan: Plan) -> bool:
    """Whether rows that are too long are left out, which is ms-swift's default."""
    return plan.get("truncation_strategy") in (None, "delete")


def rows_in_words(found: Measured) -> list[str]:
    """What was measured of a dataset, and what training will not see of it: a line each, for people."""
    lengths = found.lengths
    names = lengths.names[0] if len(lengths.names) == 1 else f"{len(lengths.names)} files"
    some = len(lengths.rows) + lengths.unusable
    of = f"all {some:,}" if some >= lengths.total else f"{some:,} of {lengths.total:,}"
    long = f"longest {lengths.longest:,} tokens, half below {lengths.median:,.0f}, 95% below {lengths.p95:,}"
    packed = f"a packed row of {found.seq_len:,} tokens holds {found.samples_per_row:.1f} of them"
    return [f"from {of} rows of {names}: {long}", *([packed] if found.samples_per_row > 1 else []), *_unseen(found)]


def _unseen(found: Measured) -> list[str]:
    lengths, lines = found.lengths, []
    some = len(lengths.rows) + lengths.unusable
    if found.max_length and lengths.longest > found.max_length:
        number = f"{found.over} of {some:,} rows are" if found.over else "a few rows are"
        what = "leaves them out" if found.dropped else "cuts them"
        lines.append(f"{number} longer than max_length {found.max_length:,}: ms-swift {what}")
    if lengths.unusable:
        why = f" ({lengths.problem})" if lengths.problem else ""
        lines.append(f"{lengths.unusable} of {some:,} rows are of no use to ms-swift, which leaves them out{why}")
    return lines
