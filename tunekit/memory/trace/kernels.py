"""What computes differently on a GPU than on the fake ``cpu`` of the trace. Runs inside the worker only.

The CPU build of PyTorch cannot even pretend to have CUDA (autograd aborts the process), so everything lives on a fake
``cpu``, and the places where the two devices choose differently are put right here, each with its reason.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FLASH, SDPA = "tunekit_fused", "tunekit_sdpa"
"""What transformers calls the attention of this file; with "flash" in a name it would look for a kernel to download."""


@contextlib.contextmanager
def like_cuda(*, plain: bool) -> Iterator[None]:
    """Make the CPU take the choices of CUDA.

    * ``Module._apply`` swaps tensors, which weak references forbid: it rebinds the parameters instead.
    * Dropout keeps a mask of bools (``native_dropout``), where the CPU keeps one of the input's type.
    * Softmax of float16 with a float32 result is one kernel, without a float32 copy of its input
      (https://github.com/pytorch/pytorch/blob/v2.9.0/aten/src/ATen/native/SoftMax.cpp, ``half_to_float``).
    * Layer norms compute in float32 under CUDA's autocast, and keep their input so; the CPU's has no such rule
      (https://pytorch.org/docs/stable/amp.html, "CUDA Ops that can autocast to float32").
    * peft asks whether autocast is on without naming a device, and means CUDA's.
    * Attention runs in the kernel that the GPU takes.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    enabled = torch.is_autocast_enabled
    softmax, norm = functional.softmax, functional.layer_norm

    def wide_norm(x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
        if enabled("cpu"):
            x, weight, bias = (item if item is None else item.float() for item in (x, weight, bias))
        return norm(x, shape, weight, bias, eps)

    def masked_dropout(x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:  # noqa: ARG001
        return torch.native_dropout(x, p, True)[0] if training and p > 0 else x

    def half_softmax(x: Any, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
        if x.dtype == torch.float16 and dtype == torch.float32:
            return _HalfSoftmax.apply(x)
        return softmax(x, dim=dim, dtype=dtype)

    places: tuple[tuple[Any, str, Any], ...] = (
        (nn.Module, "_apply", _rebinding_apply),
        (functional, "dropout", masked_dropout),
        (functional, "softmax", half_softmax),
        (functional, "layer_norm", wide_norm),
        (torch, "is_autocast_enabled", lambda device=None: enabled(device or "cpu")),
    )
    before = [getattr(owner, name) for owner, name, _ in places]
    ALL_ATTENTION_FUNCTIONS.register(FLASH, _flash)
    ALL_ATTENTION_FUNCTIONS.register(SDPA, _efficient if plain else _sdpa)
    for owner, name, value in places:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for (owner, name, _), value in zip(places, before, strict=True):
            setattr(owner, name, value)


class _HalfSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        result = torch.empty_like(x, dtype=torch.float32)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> Any:
        (result,) = ctx.saved_tensors
        given = torch.empty_like(result, dtype=torch.float16)
        workspace = torch.empty_like(result)  # tmp = grad * output
        del workspace
        return given, None


def _rebinding_apply(self: nn.Module, fn: Callable[[Any], Any], recurse: bool = True) -> nn.Module:
    for child in self.children() if recurse else ():
        child._apply(fn)  # noqa: SLF001
    for name, parameter in list(self._parameters.items()):
        if parameter is not None and (value := fn(parameter)) is not parameter:
            self._parameters[name] = nn.Parameter(value.detach(), requires_grad=parameter.requires_grad)
    self._buffers.update({name: fn(buffer) for name, buffer in self._buffers.items() if buffer is not None})
    return self


def _flash(_module: Any, query: Any, key: Any, value: Any, _mask: Any = None, scaling: Any = None, **_: Any) -> Any:
    """Flash attention, which knows grouped queries and no mask."""
    if query.dtype == torch.float32:  # transformers casts what autocast left in float32
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.bfloat16
        query, key, value = (tensor.to(dtype) for tensor in (query, key, value))
    width = value.shape[-1]
    if width < query.shape[-1]:  # latent attention: the kernel knows one width of a head
        value = functional.pad(value, [0, query.shape[-1] - width])
    result = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, True, scale=scaling)[0]  # noqa: SLF001
    return result[..., :width].transpose(1, 2).contiguous(), None


def _efficient(_module: Any, query: Any, key: Any, value: Any, mask: Any = None, scaling: Any = None, **_: Any) -> Any:
    """Memory-efficient attention: a head of keys and values for every head of queries, the mask as numbers."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (_repeated(tensor, groups) for tensor in (key, value))
    bias = None
    if mask is not None:
        bias = torch.zeros(mask.shape, dtype=query.dtype).expand(-1, query.shape[1], -1, -1)
    attend = torch.ops.aten._scaled_dot_product_efficient_attention  # noqa: SLF001
    result = attend(query, key, value, bias, True, 0.0, bias is None, scale=scaling)[0]
    return result.transpose(1, 2).contiguous(), None


def _sdpa(module: Any, query: Any, key: Any, value: Any, mask: Any = None, scaling: Any = None, **rest: Any) -> Any:
    """What PyTorch picks on Ampere and later: flash where there is no mask and the type is short."""
    short = query.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
    if mask is None and short:
        return _flash(module, query, key, value, scaling=scaling)
    if short:
        dtype = torch.get_autocast_dtype("cpu") if query.dtype == torch.float32 else query.dtype
        query, key, value = (tensor.to(dtype) for tensor in (query, key, value))
    return _efficient(module, query, key, value, mask, scaling=scaling, **rest)


def _repeated(tensor: torch.Tensor, groups: int) -> torch.Tensor:
    batch, heads, length, width = tensor.shape
    wide = tensor[:, :, None].expand(batch, heads, groups, length, width)
    return wide.reshape(batch, heads * groups, length, width)


@contextlib.contextmanager
def like_liger(model: Any) -> Iterator[None]:
    """Give `model` the memory shape of Liger's kernels (ms-swift's ``--use_liger_kernel``).

    Normalization keeps its input and one number a token, SwiGLU keeps its two inputs, the rotary embedding works in
    place (https://github.com/linkedin/Liger-Kernel/tree/main/src/liger_kernel/ops: rms_norm, swiglu, rope).
    """
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = lambda x, weight=module.weight: _LigerNorm.apply(x, weight)
        elif all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj")):
            module.forward = lambda x, it=module: it.down_proj(_LigerGate.apply(it.gate_proj(x), it.up_proj(x)))
        elif isinstance(getattr(module, "gate_up_proj", None), nn.Module):
            module.forward = lambda x, it=module: it.down_proj(_LigerGate.apply(*it.gate_up_proj(x).chunk(2, dim=-1)))
    source: Any = sys.modules[type(model).__module__]
    rotate = getattr(source, "apply_rotary_pos_emb", None)
    source.apply_rotary_pos_emb = lambda q, k, *_, **__: (q, k)
    try:
        yield
    finally:
        source.apply_rotary_pos_emb = rotate


class _LigerNorm(torch.autograd.Function):
    """Saves the input and a number a token; the gradient overwrites the incoming one."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight, torch.empty(x.shape[:-1], dtype=torch.float32))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        _, weight, _ = ctx.saved_tensors
        return grads[0], torch.empty_like(weight) if ctx.needs_input_grad[1] else None


class _LigerGate(torch.autograd.Function):
    """Saves both inputs; their gradients overwrite them."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return torch.empty_like(gate)

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> Any:
        gate, up = ctx.saved_tensors
        return gate.detach(), up.detach()


class LigerLoss(torch.autograd.Function):
    """The fused linear cross-entropy: logits of one chunk at a time, gradients made in the forward pass.

    With a trained head its whole gradient lives from the forward pass on
    (https://github.com/linkedin/Liger-Kernel/blob/main/src/liger_kernel/ops/fused_linear_cross_entropy.py).
    """

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The loss; also the gradients, for later."""
        tokens, width = hidden.shape
        factor = -(-weight.shape[0] // width)
        chunk = min(1 << (max(1, -(-tokens // factor)) - 1).bit_length(), tokens)
        grad_hidden = torch.zeros_like(hidden)
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        logits = torch.empty(chunk, weight.shape[0], dtype=hidden.dtype)
        torch.mm(hidden[:chunk], weight.t().to(hidden.dtype), out=logits)
        del logits
        ctx.save_for_backward(grad_hidden, grad_weight)
        return torch.zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> Any:
        """The gradients of the hidden states and, where it is trained, of the head."""
        return ctx.saved_tensors
