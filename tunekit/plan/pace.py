"""Plan → time: what a GPU computes in the words of the closed form, and how long the whole run takes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from tunekit.errors import TunekitError
from tunekit.memory.geometry import Geometry
from tunekit.memory.spec import GIB, loss_tokens
from tunekit.memory.targets import targeted
from tunekit.plan.models.config import config_of
from tunekit.plan.predict import DEFAULT_LENGTH, spec_of
from tunekit.speed.cards import Untold, rates_of
from tunekit.speed.duration import GUESSED, KNOWN, READS, ROUGHLY, START, WRITES, Duration, padded_lengths
from tunekit.speed.estimate import look_seconds, step_time
from tunekit.speed.work import DecoderShape, LoraLayers, Work
from tunekit.stages import REWARD_MODEL

if TYPE_CHECKING:
    from tunekit.memory.spec import Spec
    from tunekit.plan.measured import Measured
    from tunekit.plan.plan import Plan
    from tunekit.plan.schedule import Schedule
    from tunekit.speed.cards import Rates

BYTES_A_TOKEN = 4.0
"""Of a file of rows, where nothing was tokenized: English has 4 to 4.5 letters a token, Chinese 4 bytes."""

MACHINES = 100.0
"""GB/s one way between machines; assumed."""

REFUSED = {
    "sequence_parallel_size": "sequence parallelism has no formula",
    "deepspeed_autotp_size": "tensor parallelism has no formula",
    "cached_dataset": "its rows are not counted",
}
"""Flags, and why a time is not told with them."""

EVALUATED = 0.01
"""Of the rows, where another file is evaluated on, whose rows are not counted: so many, assumed."""


class PaceSeen(NamedTuple):
    """What this machine's runs say of a plan's pace: real ÷ predicted seconds a token, and how many runs said so."""

    ratio: float = 1.0
    runs: int = 0


UNSEEN = PaceSeen()


def shape_of_geometry(geometry: Geometry) -> DecoderShape:
    """A decoder as its time is counted; of experts those that one token is sent to."""
    experts = geometry.experts_per_token * geometry.expert_width
    mixed = geometry.moe_layers < geometry.layers
    shared = 0 if mixed else geometry.intermediate
    dense = geometry.intermediate * (geometry.layers - geometry.moe_layers)
    return DecoderShape(
        layers=geometry.layers,
        hidden=geometry.hidden,
        width=(dense + geometry.moe_layers * (experts + shared)) // geometry.layers,
        query=geometry.query,
        keys=geometry.keys,
        heads=geometry.heads,
        vocab=geometry.vocab,
        tied=geometry.tied,
        parameters=geometry.parameters,
    )


def work_of(spec: Spec) -> Work:
    """What one GPU computes of a specification. Raises Unknown for a shape without a formula, else Untold."""
    stage = spec.kind
    if stage.generates:
        raise Untold(f"{stage.name} trains on answers that it writes as it goes, and nobody knows their length before")
    if spec.precision == "fp32":
        raise Untold("computing in float32 has no measured rate")
    if spec.bits == 8:
        raise Untold("8-bit weights have no formula")
    geometry = Geometry.from_config(spec.config)
    double = 2 if stage.rows.pairs or stage.rows.labelled else 1  # kto sees a second, mismatched answer a row
    scored = stage.gives == REWARD_MODEL
    share = 1.0 if stage.rlhf_type or spec.fused_loss else loss_tokens(spec, spec.micro_batch)
    tokens = 1.0 if share == 1.0 else spec.micro_batch * spec.seq_len
    old = spec.capability is not None and spec.capability < (8, 0)
    return Work(
        shape=shape_of_geometry(geometry),
        adapters=None if spec.tuner == "full" else _adapters_in(spec, geometry),
        bits=spec.bits,
        micro=spec.micro_batch * double,
        length=spec.seq_len,
        logits=0.0 if scored else min(1.0, share / tokens),
        checkpointing=spec.gradient_checkpointing,
        attention="efficient" if spec.attn == "sdpa" and old else "flash" if spec.attn == "sdpa" else spec.attn,
        kernels="fused" if spec.liger else "eager",
        reference=stage.reference,
        sharding={2: "zero2", 3: "zero3"}.get(spec.zero_stage, "none"),
        hooks=spec.zero_stage == 3,
        gpus=spec.gpus,
    )


def _adapters_in(spec: Spec, geometry: Geometry) -> LoraLayers:
    """Those of a layer on average, where some layers have other ones."""
    linears = targeted(spec, geometry)
    inputs, outputs, modules = (
        math.ceil(
            sum(number * linear.layers for linear, number in zip(linears, numbers, strict=True)) / geometry.layers
        )
        for numbers in (
            [linear.inputs for linear in linears],
            [linear.outputs for linear in linears],
            [1] * len(linears),
        )
    )
    return LoraLayers(inputs, outputs, modules, spec.lora_rank)


def duration_of(
    plan: Plan,
    schedule: Schedule,
    rows: Measured | None = None,
    *,
    row_bytes: float | None = None,
    saved_gib: float = 0.0,
    seen: PaceSeen = UNSEEN,
) -> Duration:
    """How long a plan will take.

    `rows` are measured; else `row_bytes`, of a row in its file, say how long rows may be. `saved_gib` is the size of
    a checkpoint. Raises Untold where that cannot be told, with the reason.
    """
    card, work = slowest(plan), plan_work(plan)
    works, mean = _batches(plan, work, rows, row_bytes)
    accumulation, world = plan.batch.accumulation, plan.batch.data_parallel
    times = [step_time(replace(one, accumulation=accumulation), card) for one in works]
    steps = _steps(plan, schedule, rows, mean)
    training = seen.ratio * steps * sum(time.seconds for time in times) / len(times)
    tokens = _real_tokens(plan, schedule, steps, mean)
    looks = [look_seconds(one, card) / one.micro for one in works]
    held_out = _held_out(plan, schedule) / world
    evaluation = seen.ratio * schedule.evaluations * held_out * sum(looks) / len(looks)
    reading = (plan.weights_gib or 0) * GIB / 1e9 / READS
    low, high = KNOWN if seen.runs else ROUGHLY
    return Duration(
        training=training,
        evaluation=evaluation,
        saving=schedule.checkpoints * saved_gib * GIB / 1e9 / WRITES,
        start=START + reading,
        tokens=tokens,
        gpus=plan.hardware.world,
        steps=steps,
        ratio=seen.ratio,
        range=(low / GUESSED, high * GUESSED) if rows is None else (low, high),
        known=seen.runs,
        notes=tuple(_assumed(plan, card, seen, measured=rows is not None)),
    )


def slowest(plan: Plan) -> Rates:
    """The rates of the slowest of a plan's GPUs: the others wait for it. Raises Untold without one that is known."""
    if not plan.hardware.gpus:
        raise Untold("the speed of a CPU is not known")
    if plan.hardware.described and plan.hardware.capability is None:  # --gpus 24GB
        raise Untold("a size of memory says nothing of a card's speed: name one, as in --gpus H100")
    return min((rates_of(gpu.name) for gpu in plan.hardware.gpus), key=lambda rates: rates.sustained)


def plan_work(plan: Plan) -> Work:
    """What one GPU of a plan computes in a micro-batch of whole rows. Raises Untold where that has no formula."""
    for flag, why in REFUSED.items():
        value = plan.get(flag)
        if value not in (None, 1, []):
            raise Untold(f"with --{flag} {why}")
    if "offload" in plan.text("deepspeed") or plan.get("cpu_offload") is True:
        raise Untold("offloading to the host's memory has no formula")
    try:
        work = work_of(spec_of(plan, config_of(plan.model)))
    except Untold:
        raise
    except TunekitError as error:
        raise Untold(error.message) from error
    newest = plan.text("attn_impl") in ("flash_attention_3", "flash_attention_4")
    work = replace(work, attention="flash3") if newest else work
    work = replace(work, link=MACHINES) if plan.hardware.nodes > 1 else work
    return replace(work, sharding="fsdp", hooks=False) if plan.get("fsdp") is not None else work


def _batches(plan: Plan, work: Work, rows: Measured | None, row_bytes: float | None) -> tuple[list[Work], float]:
    """Micro-batches that stand for all, as likely each; and tokens of a row of the dataset on average."""
    limit = plan.whole("max_length", DEFAULT_LENGTH)
    trained: list[int] = []
    if rows is not None:
        kept = rows.lengths.seen(limit if rows.dropped else None).rows
        trained = sorted(text.trained for row in kept for text in row)
    if rows is not None and not trained:
        raise Untold("no row of the sample is trained on")
    if not trained and row_bytes is None:
        raise Untold("the lengths of its rows are not known (tunekit fit measures them where the tokenizer is here)")
    texts = len(trained) / len(kept) if trained else 1.0
    mean = sum(trained) / len(trained) if trained else max(1.0, min(limit, (row_bytes or 0) / BYTES_A_TOKEN))
    within = sum(tokens**2 for tokens in trained) / sum(trained) if trained else mean  # a token's own sample
    if plan.packed:
        whole = plan.whole("packing_length") or limit
        return [replace(work, micro=plan.batch.micro, length=whole, span=within)], mean * texts
    if plan.flag("padding_free") or not trained:
        return [replace(work, length=max(1, round(mean)), span=within)], mean * texts
    return [replace(work, length=length) for length in padded_lengths(trained, work.micro)], mean * texts


def _steps(plan: Plan, schedule: Schedule, rows: Measured | None, mean: float) -> float:
    """Optimizer steps; of packs that were not measured, those that rows of `mean` tokens fill."""
    limit = plan.whole("max_steps")
    if rows is not None or not plan.packed or (limit and limit > 0):
        return schedule.steps
    whole = plan.whole("packing_length") or plan.whole("max_length", DEFAULT_LENGTH)
    return max(1.0, schedule.steps * min(1.0, mean / whole))


def _real_tokens(plan: Plan, schedule: Schedule, steps: float, mean: float) -> float:
    """Tokens of all rows that are gone through, without padding."""
    if plan.packed:
        whole = plan.whole("packing_length") or plan.whole("max_length", DEFAULT_LENGTH)
        filled = min(1.0, schedule.held * mean / whole) if schedule.held > 1 else 1.0
        return steps * plan.batch.effective * whole * filled
    return steps * plan.batch.effective * mean


def _held_out(plan: Plan, schedule: Schedule) -> float:
    """Rows of an evaluation, in rows of a batch."""
    share = plan.number("split_dataset_ratio", 0)
    rows = schedule.rows * share / (1 - share) if 0 < share < 1 else schedule.rows * EVALUATED
    return math.ceil(rows / schedule.held)


def _assumed(plan: Plan, card: Rates, seen: PaceSeen, *, measured: bool) -> list[str]:
    geometry = Geometry.from_config(config_of(plan.model))
    lines = []
    if not measured:
        lines.append("the lengths of rows are guessed from the size of their file")
    if card.source == "assumed" and not seen.runs:
        lines.append(f"the rate of {card.name} is assumed, not measured")
    if geometry.experts:
        lines.append("not validated for mixtures of experts")
    if plan.model.multimodal or geometry.vision:
        lines.append("not validated for models that see: the vision tower is not counted")
    if plan.hardware.nodes > 1:
        lines.append(f"{MACHINES:.0f} GB/s between the machines are assumed")
    return lines
