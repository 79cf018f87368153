"""What does not go together, and what tunekit makes of it: a table, read from top to bottom.

A rule changes only what a preset, the user's config or a default said. Where it would have to change what
the user typed for this run, it refuses instead, with the same reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.plan.settings import Setting, Value, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tunekit.hardware import Hardware
    from tunekit.plan.models import Model

FLASH = ("flash_attn", "flash_attention_2", "flash_attention_3", "flash_attention_4")
"""Attention implementations that ms-swift accepts for packing (sft_args.py, _check_padding_free)."""

PACKING_RLHF = ("grpo", "dpo", "kto", "gkd")
"""RLHF types that ms-swift can pack (rlhf_args.py, _check_padding_free)."""

MICRO_BATCH_LOSSES = ("kto", "orpo")
"""Losses that average within a micro-batch: another micro-batch is another loss, by a little."""


@dataclass(frozen=True)
class Change:
    """What a rule or a retry changed.

    Attributes:
        flag: of ms-swift.
        before: None where it was not set.
        after: None where the flag was dropped.
        why: for people.
        by: ``rule:<id>`` or ``retry:<n>``.
        quiet: not worth a line in the plan; ``--explain`` shows it.
    """

    flag: str
    before: Value | None
    after: Value | None
    why: str
    by: str
    quiet: bool = False

    def line(self) -> str:
        """For people: ``attn_impl flash_attn → sdpa``."""
        before = "" if self.before is None else f" {text(self.before)}"
        after = "dropped" if self.after is None else text(self.after)
        return f"{self.flag}{before} → {after}"


@dataclass
class Draft:
    """A plan in the making: what rules look at and change.

    Attributes:
        command: ``sft``, ``pt`` or ``rlhf``.
        packages: import names of what is installed; None where the target machine cannot be seen.
    """

    command: str
    model: Model
    hardware: Hardware
    packages: frozenset[str] | None
    settings: dict[str, Setting]
    changes: list[Change] = field(default_factory=list)

    def get(self, flag: str) -> Value | None:
        """The value of a flag, None where nothing sets it."""
        setting = self.settings.get(flag)
        return setting.value if setting else None

    def typed(self, flag: str) -> bool:
        """Whether the user typed the flag for this run."""
        return flag in self.settings and self.settings[flag].explicit

    def missing(self, package: str) -> bool:
        """Whether a package is known to be absent."""
        return self.packages is not None and package not in self.packages

    @property
    def flash(self) -> bool:
        """Whether attention is to be a flash implementation."""
        return self.get("attn_impl") in FLASH

    @property
    def loss(self) -> str:
        """The RLHF type; empty for the other commands."""
        return str(self.get("rlhf_type") or "") if self.command == "rlhf" else ""

    @property
    def trackers(self) -> list[str]:
        """What ``--report_to`` names."""
        value = self.get("report_to")
        return value if isinstance(value, list) else [str(value)] if value else []

    def weak(self, capability: tuple[int, int]) -> bool:
        """Whether a GPU's compute capability is known to be below `capability`."""
        return self.hardware.capability is not None and self.hardware.capability < capability

    def zero(self, stage: int) -> bool:
        """Whether DeepSpeed ZeRO of that stage (offloaded or not) is asked for by name."""
        return str(self.get("deepspeed") or "").startswith(f"zero{stage}")


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Attributes:
        id: short name; settings carry ``rule:<id>`` as their source.
        when: whether the rule applies to a draft.
        why: the reason, for people.
        source: where the fact comes from.
        change: flags and their new values; None drops the flag.
        refuse: whether nothing can be changed, so that the user must decide.
        hint: what to do, for refusals.
        quiet: not worth a line in the plan.
    """

    id: str
    when: Callable[[Draft], bool]
    why: str
    source: str
    change: Mapping[str, Value | None] = field(default_factory=dict)
    refuse: bool = False
    hint: str | None = None
    quiet: bool = False


RULES = (
    Rule(
        "no-hub-ping",
        when=lambda draft: draft.get("check_model") is None,
        change={"check_model": False},
        why="the default asks a hub at every start, and waits when offline",
        source="ms-swift 4.6 trainers/mixin.py: 7 s offline, not stopped by HF_HUB_OFFLINE",
        quiet=True,
    ),
    Rule(
        "hugging-face",
        when=lambda draft: draft.model.hugging_face and draft.get("use_hf") is None,
        change={"use_hf": True},
        why="this id exists on Hugging Face; ms-swift would ask ModelScope",
        source="ms-swift 4.6 model registry",
    ),
    Rule(
        "warmup-steps",
        when=lambda draft: draft.get("warmup_steps") is not None and draft.get("warmup_ratio") is not None,
        change={"warmup_ratio": None},
        why="ms-swift refuses warmup_ratio and warmup_steps together",
        source="ms-swift 4.6 trainers/arguments.py, _handle_hf_removed_args",
    ),
    Rule(
        "cpu",
        when=lambda draft: not draft.hardware.gpus,
        change={"use_cpu": True},
        why="there is no GPU to train on",
        source="ms-swift 4.6: without use_cpu, bfloat16 raises on a CPU",
    ),
    Rule(
        "cpu-float32",
        when=lambda draft: not draft.hardware.gpus and not draft.typed("torch_dtype"),
        change={"torch_dtype": "float32", "fp16": False, "bf16": False},
        why="float32 is what every CPU computes; ms-swift would add fp16 mixed precision to it",
        source="ms-swift 4.6 model_args.py, _init_mixed_precision",
        quiet=True,
    ),
    Rule(
        "cpu-attention",
        when=lambda draft: not draft.hardware.gpus and draft.flash,
        change={"attn_impl": "sdpa"},
        why="flash-attn runs on NVIDIA GPUs only",
        source="https://github.com/Dao-AILab/flash-attention",
    ),
    Rule(
        "no-sdpa",
        when=lambda draft: (
            draft.model.family == "gpt_oss" and draft.get("attn_impl") not in ("eager", "flex_attention")
        ),
        change={"attn_impl": "eager", "packing": False},
        why="gpt-oss has attention sinks, which sdpa and flash-attn 2 cannot compute",
        source="transformers 5 modeling_gpt_oss.py: _supports_sdpa, _compatible_flash_implementations",
    ),
    Rule(
        "flash-old-gpu",
        when=lambda draft: draft.flash and draft.weak((8, 0)),
        change={"attn_impl": "sdpa"},
        why="flash-attn 2 needs an Ampere GPU (compute capability 8.0) or newer",
        source="https://github.com/Dao-AILab/flash-attention#nvidia-cuda-support",
    ),
    Rule(
        "flash-missing",
        when=lambda draft: draft.get("attn_impl") in FLASH[:2] and draft.missing("flash_attn"),
        change={"attn_impl": "sdpa"},
        why='flash-attn is not installed: pip install --no-build-isolation "tunekit[flash]"',
        source="transformers raises ImportError when the model is loaded",
    ),
    Rule(
        "packing-needs-flash",
        when=lambda draft: draft.get("packing") is True and not draft.flash,
        change={"packing": False},
        why="ms-swift packs rows only with a flash attention",
        source="ms-swift 4.6 sft_args.py, _check_padding_free",
    ),
    Rule(
        "packing-rlhf",
        when=lambda draft: draft.get("packing") is True and bool(draft.loss) and draft.loss not in PACKING_RLHF,
        change={"packing": False},
        why=f"of the RLHF types ms-swift packs only {', '.join(PACKING_RLHF)}",
        source="ms-swift 4.6 rlhf_args.py, _check_padding_free",
    ),
    Rule(
        "packing-lazy",
        when=lambda draft: draft.get("packing") is True and draft.get("lazy_tokenize") is True,
        refuse=True,
        why="--packing and --lazy_tokenize exclude each other: packs are made of tokenized rows",
        hint="drop --lazy_tokenize, or say --packing false",
        source="ms-swift 4.6 base_args.py",
    ),
    Rule(
        "no-bfloat16",
        when=lambda draft: draft.get("torch_dtype") == "bfloat16" and draft.weak((8, 0)),
        change={"torch_dtype": "float16"},
        why="this GPU has no bfloat16 (it came with Ampere, compute capability 8.0)",
        source="https://docs.nvidia.com/cuda/cuda-c-programming-guide/#compute-capabilities",
    ),
    Rule(
        "quant-method",
        when=lambda draft: draft.get("quant_bits") is not None and draft.get("quant_method") is None,
        change={"quant_method": "bnb"},
        why="without it ms-swift ignores quant_bits and trains plain LoRA, silently",
        source="seen on ms-swift 4.6: no Linear4bit layer in the model",
    ),
    Rule(
        "qlora-full",
        when=lambda draft: draft.get("quant_method") == "bnb" and draft.get("tuner_type") == "full",
        refuse=True,
        why="a quantized model cannot be trained in full: its weights have no gradient",
        hint="use --tuner_type lora, or drop --quant_bits and --quant_method",
        source="torch: only Tensors of floating point dtype can require gradients",
    ),
    Rule(
        "qlora-zero3",
        when=lambda draft: draft.get("quant_method") == "bnb" and draft.zero(3),
        refuse=True,
        why="4-bit weights and DeepSpeed ZeRO-3 exclude each other: ZeRO-3 cannot shard quantized weights",
        hint="use --deepspeed zero2, or drop the quantization",
        source="https://github.com/huggingface/transformers/issues/24395",
    ),
    Rule(
        "ddp-backend-alone",
        when=lambda draft: draft.get("ddp_backend") is not None and draft.hardware.world == 1,
        refuse=True,
        why="--ddp_backend needs several processes, and this plan has one",
        hint="drop --ddp_backend",
        source="torch: Default process group has not been initialized",
    ),
    Rule(
        "ddp-backend-cpu",
        when=lambda draft: not draft.hardware.gpus and draft.hardware.world > 1 and draft.get("ddp_backend") is None,
        change={"ddp_backend": "gloo"},
        why="processes on a CPU talk through gloo",
        source="https://pytorch.org/docs/stable/distributed.html#backends",
    ),
    Rule(
        "streaming-steps",
        when=lambda draft: draft.get("streaming") is True and draft.get("max_steps") is None,
        refuse=True,
        why="--streaming needs --max_steps: the length of a stream is not known",
        hint="add --max_steps, or drop --streaming",
        source="ms-swift 4.6 data_args.py",
    ),
    Rule(
        "bitsandbytes-missing",
        when=lambda draft: draft.get("quant_method") == "bnb" and draft.missing("bitsandbytes"),
        refuse=True,
        why="quantized training needs bitsandbytes, which is not installed",
        hint='pip install "tunekit[qlora]"',
        source="transformers quantizer_bnb_4bit.py",
    ),
    Rule(
        "deepspeed-missing",
        when=lambda draft: draft.get("deepspeed") is not None and draft.missing("deepspeed"),
        refuse=True,
        why="--deepspeed was asked for, and DeepSpeed is not installed",
        hint='pip install "tunekit[deepspeed]"',
        source="ms-swift 4.6 sft_args.py, _init_deepspeed",
    ),
    Rule(
        "liger-missing",
        when=lambda draft: draft.get("use_liger_kernel") is True and draft.missing("liger_kernel"),
        refuse=True,
        why="--use_liger_kernel was asked for, and liger-kernel is not installed",
        hint='pip install "tunekit[liger]"',
        source="ms-swift 4.6 trainers/arguments.py, _init_liger",
    ),
    Rule(
        "swanlab-missing",
        when=lambda draft: "swanlab" in draft.trackers and draft.missing("swanlab"),
        refuse=True,
        why="--report_to swanlab was asked for, and SwanLab is not installed",
        hint='pip install "tunekit[swanlab]"',
        source="ms-swift 4.6 sft_args.py, _init_swanlab",
    ),
    Rule(
        "wandb-missing",
        when=lambda draft: "wandb" in draft.trackers and draft.missing("wandb"),
        refuse=True,
        why="--report_to wandb was asked for, and wandb is not installed",
        hint="pip install wandb",
        source="transformers integrations",
    ),
)
"""Every rule, in the order in which they are applied: a later one sees what an earlier one changed."""


RESERVED = {
    "gradient_accumulation_steps": (
        "it is solved so that the effective batch holds on any number of GPUs and after every retry",
        "say --effective-batch N, and --micro-batch N for what one GPU computes at once",
    ),
    "auto_find_batch_size": (
        "it shrinks the batch by a tenth and leaves accumulation alone, so the effective batch would drift",
        "tunekit retries by itself, see --oom-retry",
    ),
    "add_version": ("tunekit keeps each run in a folder of its own", "name it with --name or --output-dir"),
    "resume_from_checkpoint": ("tunekit finds the newest complete checkpoint itself", "tunekit resume RUN"),
    "rlhf_type": ("tunekit rlhf --rlhf-type names it", None),
}
"""Flags of ms-swift that tunekit decides alone: the reason, and what to say instead."""

WARNINGS: tuple[tuple[Callable[[Draft], bool], str], ...] = (
    (
        lambda draft: draft.loss in MICRO_BATCH_LOSSES,
        "this loss is averaged within a micro-batch: a retry with a smaller one keeps the effective batch but not "
        "exactly the loss",
    ),
    (
        lambda draft: bool(draft.loss) and float(str(draft.get("learning_rate") or 0)) > 2e-5,
        "the learning rate suits SFT; preference and reinforcement learning usually want 5e-6 to 1e-5 "
        "(--learning-rate)",
    ),
    (
        lambda draft: draft.get("save_only_model") is True,
        "--save_only_model leaves the optimizer out of checkpoints: a retry starts over instead of resuming",
    ),
    (
        lambda draft: draft.get("group_by_length") is True,
        "--group_by_length forms other micro-batches after a retry: the effective batch holds, the samples of a "
        "step do not",
    ),
)
"""What the plan says without changing anything."""


def apply(draft: Draft) -> list[str]:
    """Apply every rule to `draft`, in order, and return the warnings.

    Raises:
        TunekitError: a rule refuses, or it would have to change what the user typed.
    """
    for rule in RULES:
        if not rule.when(draft):
            continue
        if rule.refuse:
            raise TunekitError(rule.why, rule.hint)
        for flag, value in rule.change.items():
            _change(draft, rule, flag, value)
    return [message for when, message in WARNINGS if when(draft)]


def _change(draft: Draft, rule: Rule, flag: str, value: Value | None) -> None:
    old = draft.settings.get(flag)
    if old is not None and old.value == value:
        return
    if old is not None and old.explicit:
        wanted = "it would have to go" if value is None else f"it would have to be {text(value)}"
        raise TunekitError(f"--{flag} {text(old.value)} cannot be kept: {rule.why}", f"drop the flag; {wanted}")
    if value is None:
        del draft.settings[flag]
    else:
        draft.settings[flag] = Setting(value, f"rule:{rule.id}", rule.why)
    draft.changes.append(Change(flag, old.value if old else None, value, rule.why, f"rule:{rule.id}", rule.quiet))
