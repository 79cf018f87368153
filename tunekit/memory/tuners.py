"""What is trained: the matrices that get a gradient, by kind of adapter, by what is saved beside it, by what is frozen.

The counts are those of peft 0.20 and ms-swift 4.6's own tuners; tests compare them with the models that these build.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

from tunekit.memory.companions import companions
from tunekit.memory.geometry import Geometry
from tunekit.memory.kinds import (
    LORA,
    SHAPES,
    adapter_width,
    check_trainable,
    has_dora,
    saved_width,
    stream_width,
    taken,
)
from tunekit.memory.names import EMBEDDING_NAME, ENDS, HEAD_NAME, STEMS, is_named, parameters_of
from tunekit.memory.sharding import by_fsdp
from tunekit.memory.spec import Unknown
from tunekit.memory.targets import is_saved, parametrized, saved_names, targeted, targets_module

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tunekit.memory.names import Parameter
    from tunekit.memory.spec import Spec


@dataclass(frozen=True)
class Matrix:
    """Matrices that train, all of one shape.

    Attributes:
        count: how many there are.
        width: bytes of a number.
        name: of the module that it belongs to, or that the adapter sits on: ``q_proj``.
        own: whether it is the model's own, or a copy of that, and no adapter's.
        linear: whether it is the weight of a linear layer, which GaLore projects.
    """

    rows: int
    columns: int
    count: int
    width: int
    name: str
    own: bool = True
    linear: bool = True

    @property
    def each(self) -> int:
        """Numbers of one."""
        return self.rows * self.columns

    @property
    def numbers(self) -> int:
        """Numbers of all."""
        return self.each * self.count


def grown(spec: Spec, geometry: Geometry) -> Geometry:
    """The shape with what is added to the model before it trains: tokens, LLaMAPro's blocks."""
    if spec.new_special_tokens:  # ms-swift rounds to 128 (model/register.py); the tokenizer may have had rows to spare
        geometry = replace(geometry, vocab=-(-(geometry.vocab + spec.new_special_tokens) // 128) * 128)
    if spec.adapter == "llamapro" and spec.tuner != "full":
        more = new_blocks(spec, geometry)
        linears = tuple(replace(item, layers=item.layers + more) for item in geometry.linears)
        geometry = replace(
            geometry,
            layers=geometry.layers + more,
            moe_layers=geometry.moe_layers + (more if geometry.moe_layers else 0),
            linears=linears,
            other_parameters=geometry.other_parameters + more * _small_of_a_layer(geometry),
        )
    return geometry


def new_blocks(spec: Spec, geometry: Geometry) -> int:
    """LLaMAPro's new layers, one after each group of layers. Raises Unknown where groups would not be equal."""
    if geometry.layers % spec.llamapro_num_new_blocks:
        raise Unknown(f"LLaMAPro cannot make {spec.llamapro_num_new_blocks} equal groups of {geometry.layers} layers")
    return spec.llamapro_num_new_blocks


def _small_of_a_layer(geometry: Geometry) -> int:
    last = 0 if geometry.family.plain_norms else geometry.hidden
    return (geometry.other_parameters - last) // geometry.layers


@lru_cache(maxsize=512)
def trained_matrices(spec: Spec, geometry: Geometry) -> tuple[Matrix, ...]:
    """All that gets a gradient at one time or another; `geometry` is the `grown` one.

    Raises Unknown for what has no count.
    """
    check_trainable(spec)
    # a value model learns too (ms-swift's pipelines/train/rlhf.py)
    learners = [(one.spec, one.geometry) for one in companions(spec) if one.learns]
    return tuple(matrix for one in ((spec, geometry), *learners) for matrix in _matrices(*one))


def _matrices(spec: Spec, geometry: Geometry) -> Iterable[Matrix]:
    return _of_the_model(spec, geometry) if spec.tuner == "full" else _of_adapters(spec, geometry)


def widened_by_fsdp(spec: Spec) -> bool:
    """Whether FSDP's shares of a fully trained model are in float32, though it is computed in 16 bits.

    accelerate does so where there is mixed precision, but not beside 4-bit weights (utils/fsdp_utils.py,
    fsdp2_prepare_model; accelerator.py for FSDP 1).
    """
    return spec.tuner == "full" and by_fsdp(spec) and spec.autocast and spec.precision != "fp32"


def trained_numbers(spec: Spec, geometry: Geometry) -> int:
    """Parameters that get a gradient at one time or another."""
    return sum(item.numbers for item in trained_matrices(spec, geometry))


def trained_share(spec: Spec, geometry: Geometry) -> float:
    """Of these, the share that has a gradient in one step: less than 1 under LISA, which goes from layer to layer."""
    if spec.tuner != "full" or not spec.lisa_activated_layers:
        return 1.0
    beside = geometry.embedding_parameters + (0 if geometry.family.plain_norms else geometry.hidden)
    layers = geometry.parameters - beside
    active = min(1.0, spec.lisa_activated_layers / geometry.layers)
    return (beside + layers * active) / geometry.parameters


def trains(spec: Spec, geometry: Geometry, name: str) -> int:
    """Numbers of the embedding or of the head that train: its own, or those of a copy beside an adapter."""
    return sum(item.each for item in trained_matrices(spec, geometry) if item.own and item.name == name)


def trains_head(spec: Spec, geometry: Geometry) -> bool:
    """Whether the head, or the embedding that is one with it, has a gradient."""
    tied = geometry.tied and spec.tuner == "full"
    return trains(spec, geometry, EMBEDDING_NAME if tied else HEAD_NAME) > 0


def trains_layers(spec: Spec, geometry: Geometry) -> bool:
    """Whether weights of decoder layers train, and not only adapters on them."""
    if spec.adapter == "llamapro" and spec.tuner != "full":
        return True
    return any(item.own and item.linear and item.name not in ENDS for item in trained_matrices(spec, geometry))


def trains_norms(spec: Spec, geometry: Geometry) -> bool:
    """Whether weights of norms train."""
    return any(item.own and item.columns == 1 and "norm" in item.name for item in trained_matrices(spec, geometry))


def _of_the_model(spec: Spec, geometry: Geometry) -> Iterable[Matrix]:
    """Under full training: all, or what ms-swift does not freeze (utils/transformers_utils.py, freeze_parameters)."""
    width = 4 if widened_by_fsdp(spec) else stream_width(spec)
    partly = spec.freeze_parameters or spec.freeze_parameters_regex or spec.freeze_parameters_ratio
    if not partly:
        return _whole_model(geometry, width)
    if geometry.vision and spec.freeze_parameters_ratio not in (0, 1):
        raise Unknown("freeze_parameters_ratio begins with the vision tower, whose parameters are not counted here")
    everything = parameters_of(geometry)
    sums = list(accumulate(item.numbers for item in everything))
    cut = bisect_right(sums, int(sums[-1] * spec.freeze_parameters_ratio)) if spec.freeze_parameters_ratio else 0
    kept = [
        item
        for number, item in enumerate(everything)
        if is_named(item.name, spec.trainable_parameters, spec.trainable_parameters_regex)
        or (number >= cut and not is_named(item.name, spec.freeze_parameters, spec.freeze_parameters_regex))
    ]
    if not kept:
        raise Unknown("every parameter is frozen, so that nothing trains")
    return _counted(kept, width)


def _whole_model(geometry: Geometry, width: int) -> Iterable[Matrix]:
    hidden, rest = geometry.hidden, geometry.other_parameters
    yield Matrix(geometry.vocab, hidden, 1, width, EMBEDDING_NAME, linear=False)
    if not geometry.tied:
        yield Matrix(geometry.vocab, hidden, 1, width, HEAD_NAME)
    for item in geometry.linears:
        yield Matrix(item.outputs, item.inputs, item.layers, width, item.name)
        if item.bias:
            yield Matrix(item.outputs, 1, item.layers, width, item.name, linear=False)
    if geometry.moe_layers:
        inner, layers = geometry.experts * geometry.expert_width, geometry.moe_layers
        yield Matrix(2 * inner, hidden, layers, width, "experts", linear=False)
        yield Matrix(geometry.experts * hidden, geometry.expert_width, layers, width, "experts", linear=False)
        if geometry.family.expert_bias:
            biases = 2 * inner + geometry.experts * hidden
            yield Matrix(biases, 1, layers, width, "experts", linear=False)
    yield Matrix(hidden, 1, rest // hidden, width, "norm", linear=False)
    if rest % hidden:
        yield Matrix(rest % hidden, 1, 1, width, "norm", linear=False)


def _counted(parameters: Iterable[Parameter], width: int) -> list[Matrix]:
    """Parameters of the model's own, equal ones together."""
    shapes = Counter(
        (item.rows, item.columns, item.module.rpartition(".")[2], item.columns > 1 and not item.expert)
        for item in parameters
    )
    return [
        Matrix(rows, columns, count, width, name, linear=linear and name != EMBEDDING_NAME)
        for (rows, columns, name, linear), count in shapes.items()
    ]


def _of_adapters(spec: Spec, geometry: Geometry) -> list[Matrix]:
    linears, width = targeted(spec, geometry), adapter_width(spec)
    found: list[Matrix] = []
    if spec.adapter == "llamapro":
        layer = [item for item in parameters_of(geometry) if item.name.startswith(f"{STEMS[geometry.vision]}layers.0.")]
        more = new_blocks(spec, Geometry.from_config(spec.config))
        return [replace(item, count=item.count * more) for item in _counted(layer, saved_width(spec))]
    if spec.adapter == "adapter":  # ms-swift's own, behind each MLP: down, up, with biases (tuners/adapter.py)
        length, hidden, layers = spec.adapter_length, geometry.hidden, geometry.layers
        shapes = ((length, hidden), (length, 1), (hidden, length), (hidden, 1))
        return [Matrix(rows, columns, layers, width, "mlp", own=False) for rows, columns in shapes]
    shapes_of = SHAPES[spec.adapter]
    for item in linears:
        found += [Matrix(*shape, item.layers, width, item.name, own=False) for shape in shapes_of(spec, item)]
    if spec.adapter in LORA:
        found += _beside_linears(spec, geometry, width)
    if not found and (spec.target_modules or spec.target_regex):  # none are named where the model is frozen
        sought = spec.target_regex or " or ".join(spec.target_modules)
        raise Unknown(f"no linear layer of {geometry.model_type} is called {sought}")
    return [*found, *_saved(spec, geometry)]


def _beside_linears(spec: Spec, geometry: Geometry, width: int) -> list[Matrix]:
    """LoRA on the embedding, on the head and on whole parameters (peft's ParamWrapper: a rank for each expert)."""
    rank, vocab, hidden = spec.lora_rank, geometry.vocab, geometry.hidden
    dora = has_dora(spec)
    shapes: list[tuple[str, int, int]] = []
    if targets_module(spec, f"{STEMS[geometry.vision]}{EMBEDDING_NAME}"):
        shapes += [(EMBEDDING_NAME, rank, vocab), (EMBEDDING_NAME, hidden, rank)]
        shapes += [(EMBEDDING_NAME, hidden, 1)] if dora else []
    if targets_module(spec, HEAD_NAME):
        shapes += [(HEAD_NAME, rank, hidden), (HEAD_NAME, vocab, rank)]
        shapes += [(HEAD_NAME, vocab, 1)] if dora else []
    for item in parametrized(spec, geometry):
        experts = geometry.experts if item.expert else 1
        shapes += [(item.module, rank * experts, item.columns), (item.module, item.rows // experts, rank * experts)]
    return [Matrix(rows, columns, 1, width, name, own=False) for name, rows, columns in shapes]


def _saved(spec: Spec, geometry: Geometry) -> list[Matrix]:
    """Trained copies of modules, and biases that train."""
    saved, biases = saved_names(spec), taken(spec, "lora_bias") == "all"
    if not saved and not biases:
        return []
    own = [
        item
        for item in parameters_of(geometry)
        if is_saved(item.module, saved) or (biases and "bias" in item.name.rpartition(".")[2])
    ]
    if geometry.tied and is_saved(HEAD_NAME, saved):  # the copy of the head is none of the embedding
        own.append(replace(parameters_of(geometry)[0], name=f"{HEAD_NAME}.weight"))
    return _counted(own, saved_width(spec))


def frozen_bytes(spec: Spec, geometry: Geometry) -> float:
    """Bytes of what adapters hold and do not train: VeRA's random matrices, BOFT's permutations, AdaLoRA's scores."""
    if spec.tuner == "full":
        return 0.0
    if spec.adapter == "vera":
        linears = targeted(spec, geometry)
        sides = max(item.inputs for item in linears), max(item.outputs for item in linears)
        return 4.0 * spec.vera_rank * sum(sides)
    if spec.adapter == "boft":
        factor = spec.boft_n_butterfly_factor
        return 4.0 * factor * sum(item.layers * item.inputs**2 for item in targeted(spec, geometry))
    if spec.adapter == "adalora":  # importance, and its two averages (peft's tuners/adalora/layer.py, update_ipt)
        return 12.0 * sum(item.numbers for item in trained_matrices(spec, geometry) if not item.own)
    return 0.0
