"""What a GPU takes for itself: one table for the estimate and the trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MIB = 2**20

CONTEXT: Mapping[tuple[int, int] | None, int] = {(7, 5): 147_718_144, (9, 0): 758 * MIB}
"""Bytes of the CUDA context beside PyTorch's allocator, by compute capability, where somebody measured a training
process: 140.875 MiB on a Tesla T4 with PyTorch 2.9 (fitcheck-llm 0.3.1, data/measurements), 758 MiB on an H100 with
PyTorch 2.11, CUDA 13.0 and driver 580 (benchmarks/gpu-h100-80gb-hbm3-2026-11-25.csv: the same in 19 of 21 rows)."""

CONTEXT_ASSUMED = 600 * MIB
"""... elsewhere: an assumption, and less than an H100 was measured to take. A process that has only begun to use CUDA,
and loaded no kernel, was seen to take 426 MiB of an RTX 6000 Ada with PyTorch 2.10 and CUDA 13.0
(https://github.com/unslothai/unsloth-zoo/pull/1053); kernels come on top as they are used."""

WORKSPACE: Mapping[tuple[int, int] | None, int] = {(9, 0): 8 * 4096 * 1024}
"""Bytes that cuBLAS takes from PyTorch's allocator for each thread that multiplies, and keeps: 32 MiB on Hopper
(https://github.com/pytorch/pytorch/blob/v2.9.0/aten/src/ATen/cuda/CublasHandlePool.cpp, parseChosenWorkspaceSize)."""

WORKSPACE_ELSEWHERE = (2 * 4096 + 8 * 16) * 1024
"""... and ``:4096:2:16:8`` everywhere else (the same function)."""


NCCL = (524_288 + 4_915_200 + 4_194_304) * 24 * (1 + 3)
"""Bytes that NCCL takes beside PyTorch's allocator where GPUs talk to each other: the buffers of its three protocols
(https://github.com/NVIDIA/nccl/blob/v2.27.3-1/src/include/device.h, NCCL_LL_LINES_PER_THREAD and below, and
DEFAULT_BUFFSIZE) for each of the 24 channels of a server whose GPUs are all connected, in a ring and in a tree of three
neighbours. By its defaults, an assumption: nobody here has measured it."""


def cuda_context(capability: tuple[int, int] | None) -> int:
    """Bytes of the CUDA context on a card of this compute capability, None where it is not known."""
    return CONTEXT.get(capability, CONTEXT_ASSUMED)


def context_note(capability: tuple[int, int] | None) -> str:
    """`cuda_context` in words, and whether it was measured."""
    source = "measured" if capability in CONTEXT else "an assumption"
    return f"{cuda_context(capability) / MIB:.0f} MiB for the CUDA context, {source}"


def cublas_workspace(capability: tuple[int, int] | None) -> int:
    """Bytes of one cuBLAS workspace on a card of this compute capability, None where it is not known."""
    return WORKSPACE.get(capability, WORKSPACE_ELSEWHERE)
