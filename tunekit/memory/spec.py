"""What a prediction is made from, and what it answers."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from tunekit.errors import TunekitError, did_you_mean
from tunekit.files import shortened
from tunekit.memory.fields import (
    TUNED_CHOICES,
    TUNED_FROM_ZERO,
    TUNED_PATTERNS,
    TUNED_SWITCHES,
    TUNED_WHOLE,
    TUNED_WORDS,
    UNDROPPED,
    TunerFields,
)
from tunekit.memory.stage_fields import (
    STAGE_CHOICES,
    STAGE_FROM_ZERO,
    STAGE_NUMBERS,
    STAGE_SWITCHES,
    STAGE_WHOLE,
    StageFields,
)
from tunekit.stages import STAGES, USUAL

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from tunekit.stages import Stage

GIB = 2**30

CHOICES: Mapping[str, Collection[Any]] = {
    "tuner": ("lora", "qlora", "full"),
    "quant_bits": (None, 1, 2, 3, 4, 8),
    "lora_dtype": (None, "float16", "bfloat16", "float32"),
    "attn": ("eager", "sdpa", "flash"),
    "precision": ("fp16", "bf16", "fp32"),
    "stage": STAGES,
    "sharding": ("none", "ddp", "zero1", "zero2", "zero3", "fsdp1", "fsdp2"),
    "device_map": (None, "auto"),
    "loop": ("swift", "plain"),
    "method": ("estimate", "trace"),
    **TUNED_CHOICES,
    **STAGE_CHOICES,
    "vit_tuner": (None, "lora", "full"),
}
"""The fields of a `Spec` that take one of a few values."""

ALIASES = {"optimizer": {"adamw": "adamw_torch"}}
"""Other words for the value of a field: PyTorch's AdamW is what everybody calls AdamW."""

ZERO_STAGES = ("none", "zero1", "zero2", "zero3")
"""The `Spec.sharding` of each stage of ZeRO: ``zero_stage`` in a document is the same thing said by its number."""

OFFLOADS = ("optimizer", "parameters", "activations")
"""What can leave the GPU for the machine's own memory."""

OFFLOADED_BY: Mapping[str, tuple[str, ...]] = {
    "optimizer": ("zero1", "zero2", "zero3", "fsdp1", "fsdp2"),
    "parameters": ("zero3", "fsdp1", "fsdp2"),
}
"""By what is offloaded, the shardings that can: DeepSpeed's offload_param needs stage 3, its offload_optimizer any."""

LOOPS: Mapping[str, Mapping[str, Any]] = {
    "swift": {},
    "plain": {
        "autocast": False,
        "accumulates": False,
        "outputs_kept": True,
        "double_quant": False,
        "lora_dropout": 0.0,
    },
}
"""What a loop sets where a document does not say it: ``plain`` is a bare PyTorch loop on a GPU without flash attention,
of rows of one length; bitsandbytes and peft have these defaults of their own."""

PARTS_OF_MODEL = ("llm", "vit", "aligner")
"""What `Spec.trains` may name."""

PIXELS = 1280 * 28 * 28
"""Of an image, where nothing says how large it is: Qwen's own advice for training
(https://github.com/QwenLM/Qwen2.5-VL)."""

WHOLE = (
    *("lora_rank", "micro_batch", "seq_len", "gpus", "sequence_parallel", "tensor_parallel", "pixels"),
    *TUNED_WHOLE,
    *STAGE_WHOLE,
)
"""Fields that hold a whole number of 1 or more."""
SHARES = ("lora_dropout", "loss_share", "freeze_parameters_ratio")
"""Fields that hold a number from 0 to 1."""
NUMBERS = ("capability", "lengths")
"""Fields that hold several whole numbers."""
SWITCHES = (
    *("double_quant", "kbit_prepare", "packing", "gradient_checkpointing", "liger", "expandable_segments"),
    *("outputs_kept", "accumulates", "autocast", "liger_mlp", "quant_shared"),
    *TUNED_SWITCHES,
    *STAGE_SWITCHES,
)
"""Fields that are true or false."""


MOST = 10**9
"""The largest number that a configuration may hold: what is made of it stays within a float, and no loop is endless."""


MOST_LENGTHS = 100_000
"""Of `Spec.lengths`."""


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MOST


def _least(value: Any) -> bool:
    return _number(value) and value >= 0


def _words(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and all(isinstance(item, str) for item in value)


def _pattern(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value))
    except (re.error, OverflowError, RecursionError):
        return False


def _config(value: object) -> bool:
    return isinstance(value, dict)


def _several(value: object) -> bool:
    few = isinstance(value, tuple) and len(value) <= MOST_LENGTHS
    return few and all(_number(item) and isinstance(item, int) and item >= 0 for item in value)  # type: ignore[attr-defined]


def _parts(value: object) -> bool:
    return isinstance(value, tuple) and all(item in OFFLOADS for item in value)


def _version(value: object) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"\d{1,4}(\.\d{1,9}){0,3}\S{0,40}", value))


def _shown(value: object) -> str:
    """A value for a message; a long number has no text (`sys.set_int_max_str_digits`)."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MOST:
        return f"a number of {value.bit_length()} bits"
    try:
        return shortened(repr(list(value) if isinstance(value, tuple) else value))
    except (ValueError, RecursionError):
        return f"this {type(value).__name__}"


IMPOSSIBLE: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    *((name, lambda value: not isinstance(value, bool), "true or false") for name in SWITCHES),
    (
        "capability",
        lambda value: value is not None and not (_several(value) and len(value) == 2),
        "two whole numbers, as in [8, 0]",
    ),
    ("lengths", lambda value: not _several(value) or 0 in value, "a list of whole numbers above 0"),
    ("target_modules", lambda value: not _words(value), "all-linear, or a list of names of modules"),
    ("vit_gradient_checkpointing", lambda value: not (value is None or isinstance(value, bool)), "true, false or null"),
    ("trains", lambda value: not _words(value) or not {*value} <= {*PARTS_OF_MODEL}, "a list of llm, vit, aligner"),
    ("images", lambda value: not isinstance(value, int) or not _number(value) or value < 0, "a whole number from 0"),
    ("optimizer", lambda value: not isinstance(value, str), "a name, as --optim takes it"),
    *((name, lambda value: value != () and not _words(value), "a list of names") for name in TUNED_WORDS),
    *((name, lambda value: not _pattern(value), "a regular expression") for name in TUNED_PATTERNS),
    *((name, lambda value: not _several((value,)), "a whole number") for name in (*TUNED_FROM_ZERO, "quant_group")),
    ("card", lambda value: not isinstance(value, str), "the name of a card, as in H100"),
    ("offload", lambda value: not _parts(value), f"a list out of {', '.join(OFFLOADS)}"),
    ("transformers", lambda value: value is not None and not _version(value), "a version, as in 4.48"),
    ("cap_gib", lambda value: value is not None and not (_number(value) and value > 0), "more than 0"),
    *((name, lambda value: not _several((value,)), "a whole number") for name in STAGE_FROM_ZERO),
    *((name, lambda value: value is not None and not _least(value), "0 or more") for name in STAGE_NUMBERS),
    ("teacher", lambda value: value is not None and not _config(value), "a config.json as an object"),
    ("rewards", lambda value: not (isinstance(value, tuple) and all(map(_config, value))), "a list of objects"),
    ("unknown_models", lambda value: value != () and not _words(value), "a list of names"),
)
"""Other fields: when their value is wrong, and what it must be."""


@dataclass(frozen=True)
class Spec(TunerFields, StageFields):
    """One training configuration. What is not said takes ms-swift 4.6's default; `CHOICES` holds what may be said.

    Attributes:
        config: the model's config.json.
        quant_bits: of the base model's weights under qlora; None elsewhere.
        double_quant: whether the scales of 4-bit weights are quantized once more.
        kbit_prepare: whether embeddings, head and norms are turned to float32 before training, as peft's
            ``prepare_model_for_kbit_training`` does; ms-swift does not.
        target_modules: ``all-linear``, or names of modules.
        lora_dtype: of the adapter's weights; None means float32, which is what peft makes of it in ms-swift.
        micro_batch: rows one GPU computes at once.
        seq_len: tokens a row.
        loss_share: of the tokens, those that carry loss: 1 for pre-training, less where prompts are masked.
        packing: whether the rows of a micro-batch are laid in one row, so that only tokens with loss get logits.
        optimizer: as ``--optim`` names it.
        precision: of weights and computation.
        liger: Liger's fused cross-entropy and kernels.
        liger_mlp: whether these compute the MLP too; some packages take Liger's loss, norms and rotation alone.
        stage: what is trained.
        sharding: what the GPUs share: ``zero1`` to ``zero3`` are DeepSpeed's, ``fsdp1`` and ``fsdp2`` PyTorch's by way
            of accelerate; ``none`` and ``ddp`` share nothing, and several GPUs exchange gradients.
        offload: what is kept in the machine's own memory, out of `OFFLOADS`.
        quant_shared: whether FSDP shares 4-bit weights: it can where ``bnb_4bit_quant_storage`` is a float type.
        device_map: ``auto`` lays one model over all GPUs, some layers on each; None gives each GPU a model.
        sequence_parallel: GPUs among which the tokens of a row are divided.
        tensor_parallel: GPUs among which each layer is divided, a part of `gpus`.
        loop: ms-swift's, or ``plain``: see `LOOPS` for what a document that names it need not say.
        transformers: the version, as in ``4.48``: before 5 the experts of a model are linear layers, before 4.51 there
            is only the first FSDP. None: not known, and what needs more is counted.
        autocast: whether linear layers take 16-bit copies of what comes in float32, as mixed precision does.
        expandable_segments: of PyTorch's allocator.
        outputs_kept: whether the loop holds the logits while it goes backward; ms-swift's does not.
        accumulates: whether gradients of earlier micro-batches stand there while one computes: where a step has more
            than one micro-batch. After a step they are dropped.
        capability: CUDA compute capability of the card, as in ``(8, 0)``; None where it is not known.
        lengths: tokens a row of micro-batches one after another, for the trace, where they differ: what a length leaves
            in the allocator is of little use to the next. Empty: all have `seq_len`. The estimate takes the longest.
        trains: parts that learn: ``llm``, ``vit``, ``aligner``. The language model alone is ms-swift's default.
        vit_tuner: how ViT and aligner learn, where that is another way than `tuner`: in full under ``lora_llm``.
        vit_gradient_checkpointing: of the ViT; None means as `gradient_checkpointing` is.
        images: of a row, where the model sees.
        pixels: of an image, as large as it comes to the model.
        card: a name as ``--gpus`` or the driver has it, for the time; empty: no time is told.
        cap_gib: that PyTorch may reserve, for the trace: then it says whether the allocator gets through.
    """

    config: Mapping[str, Any] = field(hash=False)
    tuner: str = "lora"
    quant_bits: int | None = None
    double_quant: bool = True
    kbit_prepare: bool = False
    lora_rank: int = 8
    target_modules: tuple[str, ...] = ("all-linear",)
    lora_dropout: float = 0.05
    lora_dtype: str | None = None
    micro_batch: int = 1
    seq_len: int = 2048
    loss_share: float = 1.0
    packing: bool = False
    gradient_checkpointing: bool = True
    attn: str = "sdpa"
    optimizer: str = "adamw_torch_fused"
    precision: str = "bf16"
    liger: bool = False
    liger_mlp: bool = True
    stage: str = USUAL
    gpus: int = 1
    sharding: str = "none"
    offload: tuple[str, ...] = ()
    quant_shared: bool = True
    device_map: str | None = None
    sequence_parallel: int = 1
    tensor_parallel: int = 1
    loop: str = "swift"
    transformers: str | None = None
    autocast: bool = True
    expandable_segments: bool = False
    outputs_kept: bool = False
    accumulates: bool = True
    capability: tuple[int, int] | None = None
    lengths: tuple[int, ...] = ()
    cap_gib: float | None = None
    trains: tuple[str, ...] = ("llm",)
    vit_tuner: str | None = None
    vit_gradient_checkpointing: bool | None = None
    images: int = 1
    pixels: int = PIXELS
    card: str = ""
    method: str = "estimate"

    @staticmethod
    def from_json(document: Any) -> Spec:
        """A spec from a JSON object. Raises TunekitError for an unknown name, a wrong type, a number out of bounds."""
        if not isinstance(document, dict):
            raise TunekitError("a specification must be an object")
        known = {item.name: item for item in fields(Spec)}
        for name in document:
            if name not in (*known, "zero_stage"):
                raise TunekitError(
                    f"{name} is not a field of a specification",
                    did_you_mean(name, known) or f"there are {', '.join(known)}",
                )
        if not isinstance(document.get("config"), dict):
            raise TunekitError("config is missing: the model's config.json as an object")
        values = {name: value for name, value in document.items() if value is not None}
        for name, others in ALIASES.items():
            if isinstance(values.get(name), str):
                values[name] = others.get(values[name], values[name])
        _translate(values)
        words = ("target_modules", *TUNED_WORDS)
        values |= {name: (values[name],) for name in words if isinstance(values.get(name), str)}
        listed = (*words, "offload", "trains", "rewards", "unknown_models", *NUMBERS)
        lists = (name for name in listed if isinstance(values.get(name), list))
        spec = Spec(**values | {name: tuple(values[name]) for name in lists})
        spec.check()
        return spec

    def check(self) -> None:
        """Raise TunekitError where a value is impossible."""
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in list(allowed) or isinstance(value, bool):
                words = ", ".join("null" if word is None else str(word) for word in allowed)
                raise TunekitError(f"{name} must be one of {words}, not {_shown(value)}")
        for name in (*WHOLE, *SHARES):
            value, least = getattr(self, name), int(name in WHOLE)
            if not _number(value) or value < least:
                most = f" and {MOST:,} or less" if name in WHOLE else ""
                raise TunekitError(f"{name} must be {least} or more{most}, not {_shown(value)}")
            if name in SHARES and value > 1:
                raise TunekitError(f"{name} must be 1 or less, not {value!r}")
        for name in WHOLE:
            if not isinstance(getattr(self, name), int):
                raise TunekitError(f"{name} must be a whole number, not {_shown(getattr(self, name))}")
        for name, wrong, words in IMPOSSIBLE:
            value = getattr(self, name)
            if wrong(value):
                raise TunekitError(f"{name} must be {words}, not {_shown(value)}")
        self._check_gpus()

    def _check_gpus(self) -> None:
        """Raise TunekitError where what the GPUs share contradicts itself."""
        for part, able in OFFLOADED_BY.items():
            if part in self.offload and self.sharding not in able:
                raise TunekitError(f"offload of {part} takes a sharding out of {', '.join(able)}, not {self.sharding}")
        if self.device_map and self.sharding != "none":
            raise TunekitError(f"device_map {self.device_map} lays one model over the GPUs: sharding must be none")
        among = self.sequence_parallel * self.tensor_parallel
        if self.gpus % among:
            raise TunekitError(f"gpus must be a multiple of {among}, sequence_parallel × tensor_parallel")

    @property
    def longest(self) -> int:
        """Tokens a row of the longest micro-batch, the answer that the model writes to it included."""
        return max(self.lengths, default=self.seq_len) + (self.completion_len if self.kind.generates else 0)

    @property
    def checkpoints(self) -> bool:
        """Whether layers are computed again on the way back: some stages do not, whatever is asked."""
        return self.gradient_checkpointing and self.kind.checkpoints

    @property
    def zero_stage(self) -> int:
        """The stage of DeepSpeed's ZeRO, 0 without it."""
        return ZERO_STAGES.index(self.sharding) if self.sharding in ZERO_STAGES else 0

    @property
    def fuses_experts(self) -> bool:
        """Whether transformers keeps the experts of a layer in one parameter, which bitsandbytes does not quantize.

        Since version 5 it does; a 4.x has a linear layer for each, except in gpt-oss, granitemoe and Llama 4.
        """
        return self.transformers is None or int(self.transformers.split(".")[0]) >= 5

    @property
    def kind(self) -> Stage:
        """All that is known of the stage."""
        return STAGES[self.stage]

    @property
    def dropout(self) -> float:
        """`lora_dropout`, as far as the stage leaves it on."""
        drops = self.kind.drops_out and self.adapter not in UNDROPPED
        return self.lora_dropout if drops else 0.0

    @property
    def fused_loss(self) -> bool:
        """Whether Liger computes the loss without making all logits."""
        return self.liger and self.kind.fused_loss

    @property
    def bits(self) -> int | None:
        """Bits of the base model's weights where they are quantized: qlora means 4 unless said."""
        return (self.quant_bits or 4) if self.tuner == "qlora" else self.quant_bits


def _translate(values: dict[str, Any]) -> None:
    """Say the values of a document in the words of `Spec`: a stage of ZeRO, and what a loop sets by itself."""
    stage = values.pop("zero_stage", None)
    if stage is not None:
        if not isinstance(stage, int) or isinstance(stage, bool) or stage not in range(len(ZERO_STAGES)):
            raise TunekitError(f"zero_stage must be one of 0, 1, 2, 3, not {_shown(stage)}")
        if values.setdefault("sharding", ZERO_STAGES[stage]) != ZERO_STAGES[stage] and stage:
            raise TunekitError(f"zero_stage {stage} and sharding {_shown(values['sharding'])} contradict each other")
    loop = values.get("loop")
    for name, value in (LOOPS.get(loop, {}) if isinstance(loop, str) else {}).items():
        values.setdefault(name, value)


@dataclass(frozen=True)
class Prediction:
    """The peak of one GPU, in GiB.

    Attributes:
        allocated_gib: by tensors (``torch.cuda.max_memory_allocated``).
        reserved_gib: by PyTorch's allocator (``max_memory_reserved``): what ms-swift logs as ``memory(GiB)``.
        process_gib: with the CUDA context: what nvidia-smi shows.
        breakdown: what the allocated memory is, by name; sums to `allocated_gib`.
        method: as in `Spec`.
        peak_at: the moment of the peak, for people.
        notes: assumptions.
        gets_through: whether PyTorch's allocator gets through below `Spec.cap_gib`; None where no cap was asked for.
        retries: how often it has to give cached memory back for that.
    """

    allocated_gib: float
    reserved_gib: float
    process_gib: float
    breakdown: Mapping[str, float]
    method: str
    peak_at: str = ""
    notes: tuple[str, ...] = field(default=())
    gets_through: bool | None = None
    retries: int = 0


class Unknown(TunekitError):  # noqa: N818 - it is an answer: this is not known
    """The memory of this configuration cannot be predicted by this method; the message says why."""


def loss_tokens(spec: Spec, rows: int) -> int:
    """Tokens whose logits are computed (ms-swift's trainers/mixin.py, prepare_logits_to_keep).

    One row, or one packed from many: those with loss. Several rows: from the earliest token with loss in any of them;
    prompts are taken to be of any length up to twice the mean one, so that the shortest of n is 2/(n + 1) of the mean.
    Some stages ask for all. Of a row that ends in an answer which the model wrote, they are those of the answer.
    """
    share = 1.0 if spec.kind.all_logits or not spec.use_logits_to_keep else spec.loss_share
    if rows > 1 and not spec.packing:
        share = 1 - (1 - share) * 2 / (rows + 1)
    if spec.kind.generates and spec.completion_len:
        return answer_tokens(spec, rows, share)
    return max(1, math.ceil(rows * spec.seq_len * share))


def answer_tokens(spec: Spec, rows: int, share: float) -> int:
    """`loss_tokens` of rows of which `Spec.completion_len` tokens are an answer; `share` is that of rows that are read.

    Rows laid in one another get logits from the first answer on (ms-swift's rlhf_trainers/utils.py,
    collate_to_grpo_micro_batch); under distillation rows that are read come, too.
    """
    whole = rows * spec.seq_len
    prompt = max(0, spec.seq_len - spec.completion_len)
    if spec.kind.all_logits:
        return whole
    written = whole - prompt if spec.packing else rows * (spec.completion_len + 1)
    read = math.ceil(rows * prompt * share) if spec.kind.teacher else 0
    return max(1, min(whole, max(written, read)))
