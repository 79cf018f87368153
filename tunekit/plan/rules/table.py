"""What does not go together, and what tunekit makes of it: a table, read from top to bottom.

A rule changes only what a preset, the user's config or a default said. Where it would have to change what
the user typed for this run, it refuses instead, with the same reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.plan.draft import FLASH, Change, Draft, Rule
from tunekit.plan.rules.stages import STAGE_RULES, STAGE_WARNINGS
from tunekit.plan.rules.tuning import TUNING_RULES, TUNING_WARNINGS
from tunekit.plan.settings import Setting, Value, text

if TYPE_CHECKING:
    from collections.abc import Callable

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
    *STAGE_RULES,
    *TUNING_RULES,
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
        lambda draft: draft.get("save_only_model") is True,
        "--save_only_model leaves the optimizer out of checkpoints: a retry starts over instead of resuming",
    ),
    (
        lambda draft: draft.get("group_by_length") is True,
        "--group_by_length forms other micro-batches after a retry: the effective batch holds, the samples of a "
        "step do not",
    ),
    *STAGE_WARNINGS,
    *TUNING_WARNINGS,
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
            _change(draft, rule, flag, value(draft) if callable(value) else value)
    return [message for when, message in WARNINGS if when(draft)]


def _change(draft: Draft, rule: Rule, flag: str, value: Value | None) -> None:
    old = draft.settings.get(flag)
    if (old.value if old else None) == value:
        return
    if old is not None and old.explicit:
        wanted = "it would have to go" if value is None else f"it would have to be {text(value)}"
        raise TunekitError(f"--{flag} {text(old.value)} cannot be kept: {rule.why}", f"drop the flag; {wanted}")
    if value is None:
        del draft.settings[flag]
    else:
        draft.settings[flag] = Setting(value, f"rule:{rule.id}", rule.why)
    draft.changes.append(Change(flag, old.value if old else None, value, rule.why, f"rule:{rule.id}", rule.quiet))
