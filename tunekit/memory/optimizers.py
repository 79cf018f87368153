"""What optimizers hold and need: ``--optim`` of transformers' OptimizerNames, and ms-swift's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tunekit.memory.names import EMBEDDING_NAME, ENDS, HEAD_NAME
from tunekit.memory.spec import Unknown
from tunekit.memory.tuners import trained_matrices, trained_share

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.memory.geometry import Geometry
    from tunekit.memory.spec import Spec
    from tunekit.memory.tuners import Matrix

# A state of bitsandbytes in 8 bits: a byte, and float32 a block of 256 (bitsandbytes.optim.optimizer, init_state);
# torchao's blocks are of 256 too. Its 4 bits: half a byte, and float32 a block of 256
EIGHT_BIT, FOUR_BIT = 1 + 4 / 256, 0.5 + 4 / 256
# Parameters below keep their states in float32 (bitsandbytes' min_8bit_size; torchao's default is the same number)
SMALL = 4096
# Parameters below keep their states on the GPU under paged optimizers (bitsandbytes.optim.optimizer, get_state_buffer)
PAGE = 100_000


@dataclass(frozen=True)
class OptimizerBytes:
    """What an optimizer holds, in bytes of one trained number.

    Attributes:
        own: by states in the weights' type, in units of it.
        fixed: by states of their own type; those of small parameters are `small` bytes.
        step: more while it steps, in units of the weights' type.
        largest: more while it steps, of each number of the largest parameter.
        paged: whether the states of large parameters can leave the GPU.
    """

    own: float = 0
    fixed: float = 0
    step: float = 0
    largest: float = 0
    paged: bool = False
    small: float = 0


_EIGHT = OptimizerBytes(fixed=2 * EIGHT_BIT, small=8)
_LION = OptimizerBytes(fixed=EIGHT_BIT, small=4)
_RMSPROP = OptimizerBytes(fixed=4)
# Of AdEMAMix the first state is twice as large: a fast and a slow average (bitsandbytes.optim.ademamix, init_state)
_ADEMAMIX = OptimizerBytes(fixed=3 * EIGHT_BIT, small=12)

OPTIMIZERS: Mapping[str, OptimizerBytes] = {
    "adamw_torch_fused": OptimizerBytes(own=2),
    "adamw_torch": OptimizerBytes(own=2, step=1),  # foreach: the square roots of all second moments at once
    "adamw_torch_8bit": _EIGHT,
    "adamw_torch_4bit": OptimizerBytes(fixed=2 * FOUR_BIT, small=8),
    "adamw_8bit": _EIGHT,
    "adamw_bnb_8bit": _EIGHT,
    "paged_adamw_8bit": OptimizerBytes(fixed=2 * EIGHT_BIT, small=8, paged=True),
    "paged_adamw_32bit": OptimizerBytes(fixed=8, paged=True),
    "ademamix": OptimizerBytes(fixed=12),
    "ademamix_8bit": _ADEMAMIX,
    "paged_ademamix_32bit": OptimizerBytes(fixed=12, paged=True),
    "paged_ademamix_8bit": OptimizerBytes(fixed=3 * EIGHT_BIT, small=12, paged=True),
    "lion_32bit": OptimizerBytes(fixed=4),
    "lion_8bit": _LION,
    "paged_lion_32bit": OptimizerBytes(fixed=4, paged=True),
    "paged_lion_8bit": OptimizerBytes(fixed=EIGHT_BIT, small=4, paged=True),
    "sgd": OptimizerBytes(),
    "adagrad": OptimizerBytes(own=1, step=1),  # foreach: the same as of adamw_torch (torch.optim.adagrad)
    "rmsprop": OptimizerBytes(own=1, step=1),
    # bitsandbytes' RMSprop is given 32 bits where its name does not say 8 (transformers/trainer_optimizer.py)
    "rmsprop_bnb": _RMSPROP,
    "rmsprop_bnb_32bit": _RMSPROP,
    "rmsprop_bnb_8bit": _LION,
    # transformers.optimization.Adafactor keeps a float32 a row and a column; its step has the gradient, its square, the
    # update and the weight in float32, one matrix at a time
    "adafactor": OptimizerBytes(fixed=0.01, largest=16),
}
"""By ``--optim``."""

_PACKAGE = "{} is a package of its own, whose states nobody has counted here"
UNCOUNTED_OPTIMIZERS: Mapping[str, str] = {
    "adamw_torch_xla": "it runs on TPUs",
    "adamw_torch_npu_fused": "it runs on Ascend NPUs",
    "adamw_anyprecision": _PACKAGE.format("torchdistx"),
    **dict.fromkeys(("lomo", "adalomo"), _PACKAGE.format("lomo-optim")),
    "grokadamw": _PACKAGE.format("grokadamw"),
    "stable_adamw": _PACKAGE.format("torch-optimi"),
    **dict.fromkeys(
        ("schedule_free_radam", "schedule_free_adamw", "schedule_free_sgd"), _PACKAGE.format("schedulefree")
    ),
    **dict.fromkeys(("apollo_adamw", "apollo_adamw_layerwise"), _PACKAGE.format("apollo_torch")),
    **dict.fromkeys(
        (
            *("galore_adamw", "galore_adamw_8bit", "galore_adafactor"),
            *("galore_adamw_layerwise", "galore_adamw_8bit_layerwise", "galore_adafactor_layerwise"),
        ),
        "galore_torch is a package of its own; ms-swift's GaLore, --use_galore, is counted",
    ),
}
"""Names of transformers' that have no count, and why."""

GALORE_OPTIMIZERS = (
    "adafactor",
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_8bit",
    "adamw_bnb_8bit",
    "paged_adamw_8bit",
)
"""What ms-swift's GaLore takes for ``--optim`` (optimizers/galore/utils.py)."""


def optimizer_of(spec: Spec) -> OptimizerBytes:
    """The row of the optimizer. Raises Unknown, with the reason, for one that has none."""
    name = spec.optimizer
    if spec.optimizer_plugin in MUON:
        return OptimizerBytes()
    if name not in OPTIMIZERS:
        why = UNCOUNTED_OPTIMIZERS.get(name)
        raise Unknown(f"the states of the optimizer {name} are not known to the estimate" + (f": {why}" if why else ""))
    if has_galore(spec):
        if spec.galore_quantization:
            raise Unknown("the states of Q-GaLore are not known to the estimate: q_galore_torch has not been counted")
        if name not in GALORE_OPTIMIZERS:
            raise Unknown(f"ms-swift's GaLore does not take the optimizer {name}")
    return OPTIMIZERS[name]


def has_galore(spec: Spec) -> bool:
    """Whether ms-swift's GaLore steps."""
    return spec.use_galore or spec.optimizer_plugin == "galore"


def state_numbers(optimizer: OptimizerBytes, matrix: Matrix) -> float:
    """Bytes of the states of one matrix, that stay on the GPU; `matrix` may be a smaller one that stands for it."""
    if optimizer.paged and matrix.each >= PAGE:
        return 0.0
    fixed = optimizer.small if optimizer.small and matrix.each < SMALL else optimizer.fixed
    return (optimizer.own * matrix.width + fixed) * matrix.each


MUON: Mapping[str, int] = {"muon": 2, "muonclip": 1}
"""ms-swift's Muon: states of what is no matrix, embedding and head among it: Adam's two, or Muonclip's momentum. A
matrix has its momentum alone (optimizers/muonclip.py; Moonlight's toy_train.py)."""
NEWTON_SCHULZ = 2 * 3, 2 * 3
"""Bytes of Muon's iteration on one matrix: three copies in bfloat16, and three squares of its shorter side."""


def state_bytes(spec: Spec, geometry: Geometry, width: int | None = None) -> float:
    """Bytes of all states that stay on the GPU; `width` is that of what they are made from, where it is another."""
    matrices = trained_matrices(spec, geometry)
    if width is not None:
        if has_galore(spec) or spec.optimizer_plugin in MUON:
            raise Unknown("GaLore and Muon beside DeepSpeed are not known to the estimate")
        matrices = tuple(replace(item, width=width) for item in matrices)
    if spec.optimizer_plugin in MUON:
        rest = MUON[spec.optimizer_plugin]
        return sum(item.width * item.numbers * (1 if _by_muon(item) else rest) for item in matrices)
    optimizer = optimizer_of(spec)
    return sum(item.count * _states(spec, optimizer, item) for item in matrices)


def _states(spec: Spec, optimizer: OptimizerBytes, matrix: Matrix) -> float:
    if not _in_galore(spec, matrix):
        return state_numbers(optimizer, matrix)
    low, beside = _projected(spec, matrix)
    return state_numbers(optimizer, low) + matrix.width * beside


def _by_muon(matrix: Matrix) -> bool:
    return matrix.columns > 1 and matrix.name not in ENDS


def _in_galore(spec: Spec, matrix: Matrix) -> bool:
    """Whether GaLore projects the gradient: linear layers', by default all but the head's."""
    if not has_galore(spec) or matrix.columns == 1:
        return False
    if matrix.name == EMBEDDING_NAME and spec.galore_with_embedding:
        return True
    named = spec.galore_target_modules
    return any(word in matrix.name for word in named) if named else matrix.linear and matrix.name != HEAD_NAME


def _projected(spec: Spec, matrix: Matrix) -> tuple[Matrix, int]:
    """What stands for a matrix under GaLore, and numbers of its projection (galore_projector.py, project)."""
    rank = min(spec.galore_rank, matrix.rows, matrix.columns)
    kind = spec.galore_proj_type
    if kind == "full":
        return replace(matrix, rows=rank, columns=rank), rank * (matrix.rows + matrix.columns)
    tall = matrix.rows >= matrix.columns
    right = {"right": True, "left": False, "std": tall, "reverse_std": not tall}[kind]
    kept, lost = (matrix.rows, matrix.columns) if right else (matrix.columns, matrix.rows)
    return replace(matrix, rows=kept, columns=rank), rank * lost


def step_bytes_of(spec: Spec, geometry: Geometry) -> float:
    """Bytes that the step needs beside states, without sharding."""
    matrices, share = trained_matrices(spec, geometry), trained_share(spec, geometry)
    if spec.optimizer_plugin in MUON:
        copies, squares = NEWTON_SCHULZ
        sizes = (
            copies * item.each + squares * min(item.rows, item.columns) ** 2 for item in matrices if _by_muon(item)
        )
        return max(sizes, default=0.0)
    optimizer = optimizer_of(spec)
    if has_galore(spec):  # one parameter at a time; the largest projection is found by an SVD in float32
        return max((_galore_step(spec, item) for item in matrices), default=0.0)
    whole = optimizer.step * share * sum(item.width * item.numbers for item in matrices)
    return whole + optimizer.largest * max((item.each for item in matrices), default=0)


def _galore_step(spec: Spec, matrix: Matrix) -> float:
    if not _in_galore(spec, matrix):
        return 2.0 * matrix.width * matrix.each
    short, each = min(matrix.rows, matrix.columns), matrix.each
    svd = 4.0 * (each + each + short**2)  # the matrix, and its two sets of singular vectors
    return max(svd, 2.0 * matrix.width * each)
