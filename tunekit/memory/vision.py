"""What a model that sees takes for seeing: weights and states of ViT and aligner, and what images hold.

ViT and aligner are two more models beside the decoder: what they hold from step to step is counted as the decoder's is,
part by part, in full, by adapters or frozen.

The activations of a ViT's block are whole numbers of bytes, a patch and a unit of width, read off runs of transformers'
own ViTs (torch 2.13, transformers 5.19; small real tensors on the CPU, every storage followed; each width was changed
alone, at a width of the MLP from 2 to 8 times the hidden one). Attention was flash-like.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from tunekit.memory.activations import EAGER_KEPT, EAGER_PEAK, LOGSUMEXP, Widths
from tunekit.memory.companions import REFERENCE, companions
from tunekit.memory.families import Family
from tunekit.memory.fields import TunerFields
from tunekit.memory.geometry import Geometry
from tunekit.memory.linears import Linear
from tunekit.memory.sharding import LAYER, OPTIMIZER
from tunekit.memory.spec import Unknown
from tunekit.memory.states import gradients_by_moment, static_bytes, step_bytes
from tunekit.memory.towers import ALIGNER, VIT
from tunekit.stages import USUAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.memory.spec import Spec
    from tunekit.memory.towers import Tower

SEEING, LEARNING = "forward of the vision tower", "backward of the vision tower"
EAGER_FORWARD = 8  # of a score where nothing is kept: itself, its float32 softmax, and that in 2 bytes
FROZEN = ()
"""`Spec.target_modules` of a part that does not learn: adapters on nothing."""


BY_NAME = ("target_regex", "target_parameters", "modules_to_save", "lisa_activated_layers", "new_special_tokens")
PLAIN: Mapping[str, Any] = {
    item.name: item.default
    for item in fields(TunerFields)
    if item.name in BY_NAME or item.name.startswith(("freeze_", "trainable_"))
}
"""Fields that name modules of the language model, as if nothing were named: a part of the tower has other names."""


@dataclass(frozen=True)
class Cost:
    """Of one block: bytes a patch and unit of the hidden width, and of the MLP's.

    Attributes:
        full: kept for backward where the weights are trained, without checkpointing.
        through: the same where they are frozen, and gradients only pass.
        backward, backward_through, backward_adapters: alive beside the checkpoints while a block, computed again, goes
            backward: trained in full, not at all, or by adapters with dropout.
        forward: alive while a frozen ViT computes.
        stream: of the hidden width, what one checkpoint holds: 4 where a norm under autocast began it in float32.
    """

    full: tuple[int, int]
    through: tuple[int, int]
    backward: tuple[int, int]
    backward_through: tuple[int, int]
    backward_adapters: tuple[int, int]
    forward: tuple[int, int]
    stream: int = 2


COSTS: Mapping[tuple[str, bool], Cost] = {
    ("clip", True): Cost((24, 6), (16, 4), (28, 10), (22, 10), (40, 17), (16, 6), stream=4),
    ("siglip", True): Cost((24, 4), (16, 2), (30, 6), (26, 6), (43, 15), (10, 4)),
    ("siglip", False): Cost((16, 4), (12, 2), (20, 6), (16, 6), (51, 13), (8, 4)),
    ("internvl", False): Cost((20, 4), (12, 2), (22, 6), (14, 6), (51, 13), (10, 4)),
    ("qwen2_vl", False): Cost((22, 6), (16, 4), (26, 10), (20, 10), (45, 15), (16, 5)),
    ("qwen2_5_vl", False): Cost((30, 8), (20, 6), (36, 12), (28, 12), (58, 17), (36, 5)),
    ("qwen3_vl", True): Cost((26, 4), (20, 2), (44, 6), (42, 6), (54, 15), (42, 1)),
}
"""By `Tower.blocks`, and whether the model's forward computes it, under autocast: LayerNorm then makes float32."""


@dataclass(frozen=True)
class Sight:
    """What seeing takes of one GPU, in bytes; nothing where a model does not see.

    Attributes:
        static: there from one step to the next, by name.
        waiting, gradients: of ViT and aligner, while the language model computes, and when all have come.
        step: more while the optimizer steps.
        held: from the images on, until the language model has gone backward.
        forward, backward: more at the worst moment of the ViT's forward and backward; no backward without gradients.
    """

    static: Mapping[str, float] = field(default_factory=dict)
    waiting: float = 0.0
    gradients: float = 0.0
    step: float = 0.0
    held: float = 0.0
    forward: float = 0.0
    backward: float = 0.0

    def beside(self, passing: Mapping[str, Mapping[str, float]], gradients: float) -> dict[str, dict[str, float]]:
        """All moments of forward and backward, with what is seen; `gradients` are all of the language model's."""
        found = {
            name: {**parts, "gradients": parts.get("gradients", 0.0) + self.waiting}
            for name, parts in self.with_images(passing).items()
        }
        if self.forward:
            other = max(parts["other"] for parts in passing.values())
            least = min(parts.get("gradients", 0.0) for parts in passing.values()) + self.waiting
            found[SEEING] = {"vision": self.held + self.forward, "gradients": least, "other": other}
            if self.gradients:
                seen = {"vision": self.held + self.backward, "gradients": gradients + self.gradients, "other": other}
                found[LEARNING] = seen
        return found

    def with_images(self, passing: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
        """Moments without gradients, with the images of a micro-batch that is trained on."""
        return {name: {**parts, **({"vision": self.held} if self.held else {})} for name, parts in passing.items()}


def language_spec(spec: Spec) -> Spec:
    """What is computed of the language model: all of `spec`, or a frozen model through which gradients pass."""
    if "llm" in spec.trains:
        return spec
    tuner = "lora" if spec.tuner == "full" else spec.tuner
    return replace(spec, tuner=tuner, target_modules=FROZEN, lora_dropout=0.0)


def weight_bytes(spec: Spec, part: Spec, shape: Geometry) -> float:
    """Bytes of the weights of a `part` of what `spec` trains: a reference model is a copy of frozen parts too."""
    tuner = "full" if spec.tuner == "full" else part.tuner if part.tuner != "full" else "lora"
    return static_bytes(replace(part, tuner=tuner), shape)["weights"]


def sight_of(spec: Spec, geometry: Geometry) -> Sight:
    """What seeing takes, where the tower is known. Raises Unknown where it is not, and nothing else learns."""
    tower = geometry.tower
    if tower is None:
        if "llm" not in spec.trains:
            raise Unknown(f"what learns, {_parts(spec)}, is no part of {geometry.model_type} that is known here")
        return Sight()
    copies = 1 + sum(one.role == REFERENCE for one in companions(spec))
    parts = [(_part_spec(spec, tower, part), _part_geometry(tower, part, spec)) for part in (VIT, ALIGNER)]
    static: dict[str, float] = {}
    for part, shape in parts:
        for name, size in {**static_bytes(part, shape), "weights": copies * weight_bytes(spec, part, shape)}.items():
            static[name] = static.get(name, 0.0) + size
    gradients = [gradients_by_moment(*part) for part in parts]
    held, forward, backward = _activations(spec, tower)
    return Sight(
        static=static,
        waiting=sum(moments[LAYER] for moments in gradients),
        gradients=sum(moments[OPTIMIZER] for moments in gradients),
        step=sum(step_bytes(*part) for part in parts),
        held=held,
        forward=forward,
        backward=backward,
    )


def image_tokens(spec: Spec, tower: Tower) -> int:
    """That one image takes in the text."""
    return tower.cut.pieces(spec.pixels) * tower.cut.tokens


def how_trained(spec: Spec, part: str) -> str:
    """``full``, ``lora`` or nothing: how a part of the tower learns."""
    if part not in spec.trains:
        return ""
    return spec.vit_tuner or ("full" if spec.tuner == "full" else "lora")


def vision_notes(spec: Spec, geometry: Geometry) -> dict[str, bool]:
    """What was assumed of images, or why they are not counted: for people, and whether it holds."""
    tower = geometry.tower
    if tower is None:
        return {
            "the vision tower and images are not counted: this kind of tower is not known here": geometry.vision,
            f"what learns beside the language model is not counted ({_parts(spec)})": spec.trains != ("llm",),
        }
    tokens, images = image_tokens(spec, tower), f"{spec.images} image{'' if spec.images == 1 else 's'} a row"
    return {
        f"{images}, of {spec.pixels:,} pixels: {tokens:,} tokens each; video and audio are not counted": True,
        "images that fill more than the row are not counted": spec.images * tokens > spec.seq_len,
    }


def _parts(spec: Spec) -> str:
    return ", ".join(part for part in spec.trains if part != "llm")


def _part_spec(spec: Spec, tower: Tower, part: str) -> Spec:
    """The part's own: its weights are not quantized (ms-swift's quant_args.py, get_modules_to_not_convert)."""
    how = how_trained(spec, part)
    adapted = how == "lora" and any(matrix.part == part for matrix in tower.matrices)
    targets = spec.target_modules if adapted else FROZEN
    tuner = how if how == "full" else "lora"
    return replace(spec, **PLAIN, tuner=tuner, quant_bits=None, target_modules=targets, stage=USUAL)


def _part_geometry(tower: Tower, part: str, spec: Spec) -> Geometry:
    """The part as a decoder without a vocabulary, whose linear layers are all called as the first target is."""
    name = "" if not spec.target_modules else spec.target_modules[0].rsplit(".", 1)[-1]
    linears = tuple(
        Linear(name, matrix.inputs, matrix.outputs, "mlp_in", bias=False, layers=matrix.count)
        for matrix in tower.matrices
        if matrix.part == part
    )
    parameters = tower.vit if part == VIT else tower.aligner
    return Geometry(
        model_type=part,
        hidden=tower.hidden,
        intermediate=tower.width,
        layers=1,
        heads=tower.heads,
        kv_heads=tower.heads,
        head_dim=tower.hidden // tower.heads,
        vocab=0,
        tied=True,
        experts=0,
        experts_per_token=0,
        expert_width=0,
        moe_layers=0,
        linears=linears,
        other_parameters=parameters - sum(linear.weights for linear in linears),
        family=Family(),
    )


def _activations(spec: Spec, tower: Tower) -> tuple[float, float, float]:
    """Bytes of images: held while the language model computes, and more at the worst of the ViT, forward and back."""
    rows = spec.micro_batch * (2 if spec.kind.rows.pairs else 1)
    room = -(-rows * spec.seq_len // tower.cut.tokens)  # what does not fit its row is not trained on
    pieces = min(tower.cut.pieces(spec.pixels) * spec.images * rows, room)
    if not pieces:
        return 0.0, 0.0, 0.0
    patches, tokens = pieces * tower.cut.patches, pieces * tower.cut.tokens
    number, cost = _number(spec), cost_of(tower)
    # as they come from the processor: in float32 in the templates of Qwen, which turns them later
    pixels = (4 if tower.inside else number) * tower.patch_numbers * patches
    held = pixels + number * tokens * tower.text * (1 + tower.stacked) + _aligner(spec, tower, tokens)
    outputs = cost.stream * tower.hidden * tower.depth if tower.every_layer else 0
    forward = number / 2 * patches * (_of(cost.forward, tower) + outputs)
    forward += EAGER_FORWARD * _scores(spec, tower, patches)
    kept, backward = _blocks(spec, tower, patches)
    return held + kept, forward, backward


def cost_of(tower: Tower) -> Cost:
    """Of one block; where blocks stand in a model that none was read off in, those that run the other way."""
    found = COSTS.get((tower.blocks, tower.by_forward))
    return found or COSTS[tower.blocks, not tower.by_forward]


def _blocks(spec: Spec, tower: Tower, patches: int) -> tuple[float, float]:
    """Bytes that the ViT's blocks keep for backward, and more alive while one goes backward."""
    how, cost = how_trained(spec, VIT), cost_of(tower)
    said = spec.vit_gradient_checkpointing
    checkpointing = spec.gradient_checkpointing if said is None else said
    # Where the aligner stands inside the ViT, checkpointing lets its gradients pass to the patches (ms-swift's
    # trainers/mixin.py, _prepare_gradient_checkpointing, and model/patcher.py, patch_frozen_module)
    passes = checkpointing and tower.inside and bool(how_trained(spec, ALIGNER))
    if not (how or passes):
        return 0.0, 0.0
    scale, scores = _number(spec) / 2 * patches, _scores(spec, tower, patches)
    worst = {"full": cost.backward, "lora": cost.backward_adapters}.get(how, cost.backward_through)
    alive = scale * _of(worst, tower) + EAGER_PEAK["other"] * scores
    if how == "full":  # a matrix's new gradient
        alive += _number(spec) * tower.hidden * tower.width
    stream = scale * cost.stream * tower.hidden
    if checkpointing:
        return stream * tower.depth, alive
    inputs = sum(matrix.inputs * matrix.count for matrix in tower.matrices if matrix.part == VIT) / tower.depth
    own = _own(spec, tower) * inputs if how == "lora" else 0.0
    kept = scale * (_of(cost.full if how == "full" else cost.through, tower) + LOGSUMEXP * tower.heads)
    kept += own * patches + EAGER_KEPT[2] * scores
    return kept * tower.depth, max(0.0, alive - (kept - stream))


def _number(spec: Spec) -> int:
    """Bytes of a number in the ViT's weights and stream."""
    return 4 if spec.precision == "fp32" else 2


def _of(cost: tuple[int, int], tower: Tower) -> float:
    return float(cost[0] * tower.hidden + cost[1] * tower.width)


def _scores(spec: Spec, tower: Tower, patches: int) -> float:
    """Numbers in the scores of one block, where they are made: of all patches of a piece, or of a whole image."""
    if spec.attn != "eager":
        return 0.0
    together = tower.cut.patches * (tower.cut.pieces(spec.pixels) if tower.inside else 1)
    return float(tower.heads * patches * min(together, patches))


def _own(spec: Spec, tower: Tower) -> int:
    """Bytes that an adapter keeps of one number of what it reads, in its own type where there is no autocast."""
    widths = Widths.of(spec)
    copy = 2 if widths.autocast and tower.by_forward else max(widths.adapter, _number(spec))
    return copy + (1 if spec.dropout else 0)


def _aligner(spec: Spec, tower: Tower, tokens: int) -> float:
    """Bytes that the aligner keeps: what its layers read where they learn, and the input of what is between them."""
    how = how_trained(spec, ALIGNER)
    if not (how or how_trained(spec, VIT)):
        return 0.0
    layers = [matrix for matrix in tower.matrices if matrix.part == ALIGNER]
    reads = {"full": _number(spec), "lora": _own(spec, tower)}.get(how, 0)
    return float(sum((reads * layer.inputs + _number(spec) * layer.outputs) * layer.count for layer in layers) * tokens)
