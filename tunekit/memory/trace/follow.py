"""Follow every storage that PyTorch makes: when, how large, what for. Runs inside the worker only."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from tunekit.memory.trace.allocator import rounded

if TYPE_CHECKING:
    from collections.abc import Iterable

KINDS = ("weights", "adapter", "gradients", "optimizer", "checkpoints", "layer", "logits", "other")
"""What memory is for; the breakdown of a prediction."""

MATMULS = ("aten.mm.", "aten.addmm.", "aten.bmm.", "aten.baddbmm.", "bitsandbytes.gemm_4bit")


@dataclass
class Storage:
    """A storage: bytes, rounded as the allocator does, phase and operation that made it, and one of `KINDS`."""

    size: int
    phase: str
    op: str
    kind: str


class Follower(TorchDispatchMode):
    """Writes down the allocations of all operations run inside it."""

    def __init__(self, vocabulary: int, workspace: int) -> None:
        """A follower that calls tensors `vocabulary` wide logits, on a card whose cuBLAS takes so many bytes."""
        super().__init__()
        self.events: list[tuple[int, int]] = []  # as `tunekit.memory.trace.allocator.replay` takes them
        self.known: dict[int, Storage] = {}  # every storage that ever was, by name
        self.phase = "load"  # what the step is doing now
        self.in_layer = 0  # how many decoder layers compute, one in another
        self._vocabulary, self._workspace = vocabulary, workspace
        self._alive: dict[int, tuple[int, Any]] = {}
        self._ops: dict[Any, tuple[str, bool]] = {}
        self._threads_with_cublas: set[str] = set()

    def add(self, tensor: torch.Tensor, op: str, kind: str) -> None:
        """Follow a tensor made outside."""
        storage = tensor.untyped_storage()
        handle = storage._cdata  # noqa: SLF001 - the only identity of a storage that outlives its Python object
        if handle in self._alive or storage.nbytes() == 0:
            return
        name = self.take(storage.nbytes(), op, kind)
        self._alive[handle] = name, weakref.ref(storage, lambda _: self.give(self._alive.pop(handle)[0]))

    def take(self, size: int, op: str, kind: str = "other") -> int:
        """Account for so many bytes, with a tensor or without; the name is for `give`."""
        name = len(self.known)
        size = rounded(size)
        self.known[name] = Storage(size, self.phase, op, kind)
        self.events.append((name, size))
        return name

    def give(self, name: int) -> None:
        """End what `take` began."""
        self.events.append((name, 0))

    def mark(self, tensors: Iterable[torch.Tensor], kind: str) -> None:
        """Say what tensors are for, now that it is known."""
        for tensor in tensors:
            entry = self._alive.get(tensor.untyped_storage()._cdata)  # noqa: SLF001
            if entry is not None:
                self.known[entry[0]].kind = kind

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation, write down what it made, and the workspace that only its CUDA kernel needs."""
        if func not in self._ops:  # a trace runs some hundred kinds of operations a hundred thousand times
            self._ops[func] = (str(func), str(func).startswith(MATMULS))
        op, multiplies = self._ops[func]
        if multiplies:
            self._cublas()
        result = func(*args, **(kwargs or {}))
        for tensor in (result,) if isinstance(result, torch.Tensor) else tree_iter(result):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor, op, self._kind(tensor))
        extra = kernel_workspace(op, args)
        if extra:
            self.give(self.take(extra, op, "layer"))
        return result

    def breakdown(self, at: int) -> dict[str, int]:
        """Bytes by kind that are live after the event of this index; kinds without any are left out."""
        totals = dict.fromkeys(KINDS, 0)
        for name, size in self.events[: at + 1]:
            storage = self.known[name]
            totals[storage.kind] += storage.size if size else -storage.size
        return {kind: size for kind, size in totals.items() if size}

    def _kind(self, tensor: torch.Tensor) -> str:
        if self.phase == "optimizer":
            return "optimizer"
        if tensor.dim() > 1 and tensor.shape[-1] == self._vocabulary:
            return "logits"
        return "layer" if self.in_layer or self.phase == "backward" else "other"

    def _cublas(self) -> None:
        """The backward runs in a thread of its own, with a cuBLAS handle and workspace of its own."""
        thread = "backward" if self.phase == "backward" else "main"
        if thread not in self._threads_with_cublas:
            self._threads_with_cublas.add(thread)
            self.take(self._workspace, "cuBLAS workspace")


def kernel_workspace(op: str, args: Any) -> int:
    """Bytes that a CUDA kernel takes and gives back, which no fake kernel shows.

    * softmax backward: ``tmp = grad * output``
      (https://github.com/pytorch/pytorch/blob/v2.9.0/aten/src/ATen/native/cuda/SoftMax.cu, softmax_backward_cuda_out);
    * flash attention backward: the gradient of the queries in float32, of keys and values for every query head
      (https://github.com/pytorch/pytorch/blob/v2.9.0/aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp,
      mha_bwd: dq_accum, softmax_d, dk_expanded);
    * memory-efficient attention backward below float32: gradients of the queries in float32
      (.../cuda/mem_eff_attention/kernel_backward.h, workspace_size);
    * 4-bit matrix product forward: bitsandbytes unpacks the weight for more than a few rows
      (https://github.com/bitsandbytes-foundation/bitsandbytes/blob/main/bitsandbytes/backends/cuda/ops.py, gemm_4bit).
    """
    if op.startswith("aten._softmax_backward_data"):
        output = args[1]
        return int(output.numel() * output.element_size())
    if op.startswith("aten._scaled_dot_product_flash_attention_backward"):
        query, key = args[1], args[2]
        batch, heads, length, width = query.shape
        extra = 4 * batch * heads * length * (width + 1)
        if key.shape[1] != heads:
            extra += 2 * query.element_size() * batch * heads * key.shape[2] * width
        return int(extra)
    if op.startswith("aten._scaled_dot_product_efficient_attention_backward"):
        query = args[1]
        batch, heads, length, width = query.shape
        accumulated = 4 * width if query.element_size() < 4 else 0
        return int(batch * heads * length * (accumulated + 4))
    if op.startswith("bitsandbytes.gemm_4bit"):
        return int(args[0].element_size() * args[2][0] * args[2][1])
    return 0
