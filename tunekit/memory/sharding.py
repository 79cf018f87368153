"""What several GPUs share of a model, what each holds beside its share, and what can leave the GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.memory.geometry import Geometry
    from tunekit.memory.spec import Spec

OPTIMIZER, LOSS = "optimizer step", "backward of the loss"
HEAD, EMBEDDING = "gradient of the head", "gradient of the embedding"
LAYER, BOTTOM = "", ", first layer"
MOMENTS = (OPTIMIZER, LOSS, HEAD, EMBEDDING, LAYER, BOTTOM)
# Numbers in the bucket of DeepSpeed's reductions under ZeRO-1 and 2 (reduce_bucket_size, ms-swift's config/zero2.json),
# there in whole whatever is trained (deepspeed 0.19, runtime/zero/stage_1_and_2.py, setup_buckets; a second one only
# with overlap_comm). Under ZeRO-3 transformers writes hidden x hidden there (integrations/deepspeed.py,
# trainer_config_finalize)
BUCKET = 200_000_000
# Numbers that ZeRO-3 steps at once (sub_group_size), and parameters that it gathers at most
# (stage3_max_live_parameters, and as far as stage3_max_reuse_distance lets them stay); all in ms-swift's
# config/zero3.json
GROUP = 1_000_000_000
COMPUTED = 2
"""Bytes of a number that FSDP gathers and reduces: accelerate makes param_dtype and reduce_dtype the compute type
(accelerate 1.15, utils/dataclasses.py, set_mixed_precision); frozen weights are of that type anyway."""


@dataclass(frozen=True)
class Sharding:
    """What is divided among the GPUs, and who divides it: ``deepspeed``, ``fsdp`` or nobody."""

    by: str = ""
    weights: bool = False
    gradients: bool = False
    states: bool = False


SHARDINGS: Mapping[str, Sharding] = {
    "none": Sharding(),
    "ddp": Sharding(),
    "zero1": Sharding("deepspeed", states=True),
    "zero2": Sharding("deepspeed", states=True, gradients=True),
    "zero3": Sharding("deepspeed", states=True, gradients=True, weights=True),
    "fsdp1": Sharding("fsdp", states=True, gradients=True, weights=True),
    "fsdp2": Sharding("fsdp", states=True, gradients=True, weights=True),
}
"""By `Spec.sharding`."""


def first_fsdp(spec: Spec) -> bool:
    """Whether FSDP is PyTorch's first: before transformers 4.51, with accelerate 1.6, nobody could ask for another.

    Where the version is not known it is the first, which needs more.
    """
    if spec.sharding != "fsdp2" or spec.transformers is None:
        return spec.sharding in ("fsdp1", "fsdp2")
    numbers = [int(part) for part in spec.transformers.split(".")[:2] if part.isdigit()]
    return numbers < [4, 51]


def sharding_of(spec: Spec) -> Sharding:
    """What `spec` divides. One model laid over all GPUs (device_map) divides all of it, and nobody gathers."""
    return Sharding("", weights=True, gradients=True, states=True) if spec.device_map else SHARDINGS[spec.sharding]


def among(spec: Spec) -> int:
    """GPUs that share: all but those that a layer is divided among."""
    return max(1, spec.gpus // spec.tensor_parallel)


def by_fsdp(spec: Spec) -> bool:
    """Whether FSDP divides."""
    return sharding_of(spec).by == "fsdp"


def by_deepspeed(spec: Spec) -> bool:
    """Whether DeepSpeed does."""
    return sharding_of(spec).by == "deepspeed"


def talks(spec: Spec) -> bool:
    """Whether GPUs exchange anything by NCCL: a model laid over several only copies."""
    return spec.gpus > 1 and not spec.device_map


def averages_whole(spec: Spec) -> bool:
    """Whether DistributedDataParallel keeps buckets as large as all gradients."""
    return spec.gpus // spec.tensor_parallel > 1 and not spec.device_map and not sharding_of(spec).by


def off_gpu(spec: Spec, part: str) -> bool:
    """Whether a part of `OFFLOADS` is not on the GPU.

    FSDP offloads parameters, gradients and states together (torch.distributed.fsdp, CPUOffloadPolicy).
    """
    together = by_fsdp(spec) and part != "activations"
    return part in spec.offload or (together and bool({"optimizer", "parameters"} & {*spec.offload}))


def layer_numbers(geometry: Geometry) -> float:
    """Parameters of one decoder layer, on average."""
    return (geometry.parameters - geometry.embedding_parameters - geometry.hidden) / geometry.layers


def gathered(spec: Spec, geometry: Geometry, weights: float, trained: float) -> dict[str, float]:
    """Bytes beside the shares, by moment: what is gathered to compute with, and buckets.

    `weights` are the bytes of the frozen model, `trained` those of one trained number as the engine holds it.
    """
    if spec.device_map:  # a layer more than others have: they are not cut
        return dict.fromkeys(MOMENTS, COMPUTED * layer_numbers(geometry) if spec.gpus > 1 else 0.0)
    if by_deepspeed(spec):
        return dict.fromkeys(MOMENTS, _deepspeed(spec, geometry, weights, trained))
    if by_fsdp(spec) and among(spec) > 1:
        return _fsdp(spec, geometry, weights)
    return dict.fromkeys(MOMENTS, 0.0)


def _deepspeed(spec: Spec, geometry: Geometry, weights: float, trained: float) -> float:
    found = trained * float(BUCKET if spec.zero_stage < 3 else geometry.hidden**2)
    if spec.zero_stage == 3:
        # all that is gathered stands beside the share; what is smaller than the persistence threshold does not leave
        if off_gpu(spec, "parameters"):
            found += min(2.0 * GROUP + 2.0 * geometry.other_parameters, weights)
        else:
            found += min(2.0 * GROUP, weights * (1 - 1 / among(spec)))
    if off_gpu(spec, "optimizer"):  # through which gradients leave (stage_1_and_2.py, temp_grad_buffer_for_gpu_offload)
        found += trained * (geometry.vocab * geometry.hidden if spec.tuner == "full" else 0)
    return found


def _fsdp(spec: Spec, geometry: Geometry, weights: float) -> dict[str, float]:
    """Gathered by FSDP, which prefetches one layer while another computes.

    FSDP 1 keeps its root, embedding and head, gathered from the forward pass to the end of the backward one, and their
    gradient too (torch.distributed.fsdp._runtime_utils, _root_pre_forward and _post_backward_final_callback).
    For FSDP 2 accelerate makes a unit of the embedding and one of norm and head, which stays gathered from forward to
    backward (accelerate 1.15, utils/fsdp_utils.py, fsdp2_prepare_model); tied, they are one. A trained layer has its
    gradient whole, and the one of the layer before as it is reduced (_fully_shard/_fsdp_param_group.py,
    reduce_scatter_state).
    """
    table = float(COMPUTED * geometry.vocab * geometry.hidden)
    root = table * (1 if geometry.tied else 2)
    layer = COMPUTED * layer_numbers(geometry)
    if spec.bits:  # as it is packed; where that cannot be shared it is not gathered
        layer = max(0.0, weights - root) / geometry.layers if spec.quant_shared else 0.0
    trained = spec.tuner == "full"
    gradient = layer if trained else 0.0
    if first_fsdp(spec):
        head = table if trained else 0.0
        whole = 2 * root if trained else 0.0  # both gradients, and one tensor of them
        found = {LOSS: layer, HEAD: layer + head, EMBEDDING: whole}
        found |= {LAYER: 2 * (layer + gradient) + head, BOTTOM: layer + 2 * gradient + head}
        return {OPTIMIZER: 0.0, **{moment: root + size for moment, size in found.items()}}
    own = 0.0 if geometry.tied else table
    head = 2 * table if trained else 0.0
    return {
        OPTIMIZER: 0.0,
        LOSS: table + layer,
        HEAD: table + layer + head,
        LAYER: 2 * (layer + gradient) + (head if geometry.tied else 0.0),
        BOTTOM: layer + 2 * gradient + own + (head if geometry.tied else 0.0),
        EMBEDDING: table + gradient + (2 * head if geometry.tied else head),
    }


def held_back(spec: Spec, each: float, layers: int) -> float:
    """Bytes of gradients of the layers' inputs that FSDP 1 holds at the first layer; `each` is one checkpoint.

    Of a unit without trained parameters it hooks the inputs (torch.distributed.fsdp._runtime_utils,
    _register_post_backward_reshard_only_hook). Where a reentrant checkpoint computes again they are leaves, and the
    hook keeps them with their gradients until the backward pass is done: as many as there are layers behind.
    """
    frozen = spec.tuner != "full" and spec.checkpoints
    return each * max(0, layers - 2) if first_fsdp(spec) and among(spec) > 1 and frozen else 0.0
