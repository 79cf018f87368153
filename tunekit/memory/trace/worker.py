"""Trace two micro-batches of a configuration, as `tunekit.memory.trace.client` asks from another process."""

from __future__ import annotations

import contextlib
import gc
from dataclasses import replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tunekit.memory.card import cublas_workspace
from tunekit.memory.kinds import has_dora
from tunekit.memory.spec import GIB, Spec, Unknown, loss_tokens
from tunekit.memory.trace.allocator import replay
from tunekit.memory.trace.follow import Follower
from tunekit.memory.trace.kernels import LigerLoss, like_cuda, like_liger
from tunekit.memory.trace.model import DTYPES, Built, build_model, scales, unpacked_for_dora


def trace_steps(spec: Spec, *, plain: bool) -> dict[str, Any]:
    """The peak of training `spec`, in bytes, as JSON; in a `plain` loop there is no autocast and no accelerate."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(like_cuda(plain=plain))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(unpacked_for_dora() if has_dora(spec) else contextlib.nullcontext())
        built = build_model(spec, plain=plain)
        stack.enter_context(like_liger(built.base) if spec.liger else contextlib.nullcontext())
        follower = Follower(built.base.config.vocab_size, cublas_workspace(spec.capability))
        load_weights(follower, built, spec, plain=plain)
        optimizer = TracedOptimizer(spec, built.trainable, plain=plain)
        watch_layers(follower, built, spec)
        gc.collect()
        gc.freeze()  # what is here stays: collections during the trace need not look at it
        stack.callback(gc.unfreeze)
        with follower:
            if spec.gpus > 1:  # DistributedDataParallel copies gradients into buckets, as large as they are
                follower.take(sum(item.numel() * item.element_size() for item in built.trainable), "DDP", "gradients")
            lengths = spec.lengths or (spec.seq_len,)
            # the optimizer's state is made at the end of the first step, so the peak comes after it
            for length in (lengths[0], *lengths):
                train_step(follower, built, replace(spec, seq_len=length), optimizer, plain=plain)
    return outcome(follower, spec)


def outcome(follower: Follower, spec: Spec) -> dict[str, Any]:
    """What the events come to in PyTorch's allocator."""
    free = replay(follower.events, expandable=spec.expandable_segments)
    parts = follower.breakdown(free.peak_at)
    # what blocks are larger than their tensors
    parts["other"] = parts.get("other", 0) + free.allocated - sum(parts.values())
    last = follower.known[follower.events[free.peak_at][0]]
    answer = {"allocated": free.allocated, "reserved": free.reserved, "breakdown": parts}
    answer |= {"phase": last.phase, "op": last.op}
    if spec.cap_gib is not None:
        capped = replay(follower.events, expandable=spec.expandable_segments, cap=int(spec.cap_gib * GIB))
        answer |= {"gets_through": capped.fits, "retries": capped.retries}
    return answer


def load_weights(follower: Follower, built: Built, spec: Spec, *, plain: bool) -> None:
    """Account for the weights, made in the order in which they are loaded.

    transformers first asks for one block as large as the model and frees it, so that weights are cut from it
    (``caching_allocator_warmup``); a quantized weight is on the GPU in full before it is packed; what peft turns to
    float32 is turned after all are loaded, and leaves holes.
    """
    half = DTYPES[spec.precision].itemsize
    packed = {id(item.weight) for item in built.base.modules() if item.__dict__.get("quant_state") is not None}
    weights = [item for item in built.model.parameters() if not (spec.tuner != "full" and item.requires_grad)]
    if plain and packed:
        # transformers 4: a fixed factor of 4 for all quantizers, which makes half a byte of each byte in 16 bits
        # (https://github.com/huggingface/transformers/blob/v4.57.0/src/transformers/modeling_utils.py)
        warmup = sum(item.numel() * (2 if id(item) in packed else 1) * half // 2 for item in weights)
    else:
        warmup = sum(item.numel() * (1 if id(item) in packed else half) for item in weights)
    if packed or not plain:  # the plain loop loads to the CPU what is not quantized, and moves it
        follower.give(follower.take(warmup, "caching_allocator_warmup", "other"))
    loaded: list[tuple[torch.nn.Parameter, int]] = []
    for item in weights:
        if id(item) in packed:
            whole = follower.take(2 * item.numel() * half, "load", "weights")
            follower.add(item, "load", "weights")
            follower.give(whole)
        elif item.element_size() == half:
            follower.add(item, "load", "weights")
        else:
            loaded.append((item, follower.take(item.numel() * half, "load", "weights")))
    for tensor in (*scales(built.model), *built.model.buffers()):
        follower.add(tensor, "load", "weights")
    for item, name in loaded:
        follower.add(item, "load", "weights")
        follower.give(name)
    if spec.tuner == "full" and spec.kind.reference:  # a second model, which is not trained
        follower.take(sum(item.numel() * item.element_size() for item in built.model.parameters()), "load", "weights")
    for item in built.model.parameters():
        follower.add(item, "load", "adapter")


def watch_layers(follower: Follower, built: Built, spec: Spec) -> None:
    """Let the follower know when a decoder layer computes, and what checkpointing keeps."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    def enter(_module: Any, args: Any) -> None:
        follower.in_layer += 1
        if spec.gradient_checkpointing and args and isinstance(args[0], torch.Tensor):
            follower.mark([args[0]], "checkpoints")

    def leave(*_: Any) -> None:
        follower.in_layer -= 1

    for module in built.base.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave)


def train_step(follower: Follower, built: Built, spec: Spec, optimizer: TracedOptimizer, *, plain: bool) -> None:
    """One micro-batch, and an optimizer step after it.

    Where a step has several micro-batches, the gradients are left for the next one: what it finds are the gradients of
    its step's first ones and the optimizer's state, as in the middle of a later step.
    """
    follower.phase, follower.in_layer = "forward", 0
    loss, outputs = preference_loss(built, spec) if spec.kind.rows.pairs else language_loss(built, spec, plain=plain)
    if not spec.outputs_kept:
        del outputs
    follower.phase = "backward"
    loss.backward()
    del loss
    follower.mark((item.grad for item in built.trainable if item.grad is not None), "gradients")
    follower.phase = "optimizer"
    if not plain:
        torch.nn.utils.clip_grad_norm_(built.trainable, 1.0, foreach=True)
    optimizer.step(follower)
    if not spec.accumulates:
        for item in built.trainable:
            item.grad = None


def language_loss(built: Built, spec: Spec, *, plain: bool) -> tuple[Any, Any]:
    """The loss of a micro-batch, and the model's outputs."""
    inputs, kept = _inputs(spec, spec.micro_batch, plain=plain)
    labels = torch.zeros(inputs["input_ids"].shape[0], kept, dtype=torch.long)
    if spec.fused_loss:
        with _autocast(spec):
            hidden = built.base.get_decoder()(**inputs, use_cache=False)[0][:, -kept:]
            head = built.base.get_output_embeddings().weight
            return LigerLoss.apply(hidden.reshape(-1, hidden.shape[-1]), head), None
    with _autocast(spec):
        outputs = built.model(**inputs, labels=labels, use_cache=False)
    if not plain:
        # accelerate: ConvertOutputsToFp32 wraps the model's forward; ms-swift: accuracy of the tokens
        outputs.logits = outputs.logits.float()
        outputs.logits.argmax(dim=-1)
    return outputs.loss, outputs


def preference_loss(built: Built, spec: Spec) -> tuple[Any, Any]:
    """The loss of pairs: chosen and rejected rows together, and after them, without gradients, the reference's
    (ms-swift's rlhf_trainers/dpo_trainer.py, get_batch_loss_metrics); where all tokens get logits, with the likelihood
    of the chosen rows (trl's experimental/orpo/orpo_trainer.py, concatenated_forward).
    """  # noqa: D205
    inputs, _ = _inputs(spec, 2 * spec.micro_batch, plain=False)

    def answered() -> torch.Tensor:
        with _autocast(spec):
            return built.model(**inputs, use_cache=False).logits.float()

    def scored(logits: torch.Tensor) -> torch.Tensor:
        chosen = logits.gather(-1, torch.zeros(*logits.shape[:2], 1, dtype=torch.long)).squeeze(-1)
        return (chosen - torch.stack([torch.logsumexp(row, dim=-1) for row in logits])).sum()

    logits = answered()
    likely = _likelihood(logits) if spec.kind.all_logits else 0.0
    loss = likely + scored(logits)
    logits.detach().mean(-1)
    del logits
    if spec.kind.reference:
        with torch.no_grad():
            reference = scored(answered())
        loss = loss - reference
    return loss, None


def _likelihood(logits: torch.Tensor) -> torch.Tensor:
    """The loss of the chosen half of the rows."""
    chosen = logits[: max(1, len(logits) // 2), :-1].contiguous()
    labels = torch.zeros(chosen.shape[0] * chosen.shape[1], dtype=torch.long)
    return torch.nn.functional.cross_entropy(chosen.view(-1, chosen.shape[-1]), labels)


def _inputs(spec: Spec, samples: int, *, plain: bool) -> tuple[dict[str, Any], int]:
    """The arguments of the model, and how many tokens of a row get logits."""
    rows, length = (1, samples * spec.seq_len) if spec.packing else (samples, spec.seq_len)
    kept = max(1, loss_tokens(spec, samples) // rows)
    inputs: dict[str, Any] = {"input_ids": torch.zeros(rows, length, dtype=torch.long)}
    if spec.packing:
        inputs["position_ids"] = torch.zeros(rows, length, dtype=torch.long)
    if kept < length and not spec.fused_loss:
        # ms-swift: the tokens with a label of a single row, else all from the first of them on
        inputs["logits_to_keep"] = torch.zeros(kept, dtype=torch.long) if rows == 1 and not plain else kept
    if rows > 1 and spec.attn == "sdpa" and not plain:  # rows differ in length: there is a mask
        inputs["attention_mask"] = torch.ones(rows, 1, length, length, dtype=torch.bool)
    return inputs, kept


def _autocast(spec: Spec) -> Any:
    if not spec.autocast or spec.precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast("cpu", dtype=DTYPES[spec.precision])


class TracedOptimizer:
    """The optimizer of ms-swift's flag, or what it keeps where its step cannot run on fakes."""

    def __init__(self, spec: Spec, trainable: list[torch.nn.Parameter], *, plain: bool) -> None:
        """Raises Unknown for an optimizer whose memory is not known."""
        self.trainable, self.started, name = trainable, False, spec.optimizer
        self.inner: torch.optim.Optimizer | None = None
        if name in ("adamw_torch", "adamw_torch_fused"):
            fused = name == "adamw_torch_fused" and not plain
            self.inner = torch.optim.AdamW(trainable, lr=1e-4, fused=fused, foreach=not fused)
        elif name == "sgd":
            self.inner = torch.optim.SGD(trainable, lr=1e-4, foreach=True)
        elif name not in ("adamw_8bit", "adamw_bnb_8bit"):
            raise Unknown(f"the memory of the optimizer {name} is not known to the trace")

    def step(self, follower: Follower) -> None:
        """Update the weights, or take what the first update takes."""
        if self.inner is not None:
            self.inner.step()
        elif not self.started:
            for item in self.trainable:
                _eight_bit_state(follower, item.numel())
        self.started = True


def _eight_bit_state(follower: Follower, numbers: int) -> None:
    """Two moments of one byte and a scale for each 256; small tensors keep float32
    (https://github.com/bitsandbytes-foundation/bitsandbytes/blob/main/bitsandbytes/optim/optimizer.py, init_state).
    """  # noqa: D205
    for size in 2 * ((4 * numbers,) if numbers < 4096 else (numbers, 4 * -(-numbers // 256))):
        follower.take(size, "adamw_8bit", "optimizer")


def answer_trace(question: dict[str, Any]) -> dict[str, Any]:
    """The peak for ``{"spec": {...}}``, or ``{"unknown": reason}``."""
    try:
        spec = Spec.from_json(question["spec"])
        return trace_steps(spec, plain=spec.loop == "plain")
    except Unknown as error:
        return {"unknown": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever an architecture does to fakes, it is not known then
        first = str(error).strip().split("\n")[0][:200]
        return {"unknown": f"this architecture cannot be traced ({type(error).__name__}: {first})"}
