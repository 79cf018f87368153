"""What does not go together, and what tunekit makes of it: a table, read from top to bottom.

A rule changes only what a preset, the user's config or a default said. Where it would have to change what the user
typed for this run, it refuses instead, with the same reason, unless ms-swift does the same either way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.plan.rules.evaluation import EVALUATION_RULES, EVALUATION_WARNINGS
from tunekit.plan.rules.flash import FLASH_RULES
from tunekit.plan.rules.idle import IDLE_RULES
from tunekit.plan.rules.model import MODEL_RULES, MODEL_WARNINGS
from tunekit.plan.rules.rule import Rule, Warn
from tunekit.plan.rules.stages import STAGE_RULES, STAGE_WARNINGS
from tunekit.plan.rules.tuning import TUNING_RULES, TUNING_WARNINGS
from tunekit.plan.settings import Source, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunekit.plan.configuration import Configuration
    from tunekit.plan.plan import Plan

# fmt: off
NEEDED: tuple[tuple[str, Callable[[Configuration], bool], str, str, str], ...] = (
    ("bitsandbytes", lambda plan: plan.quantized and plan.missing("bitsandbytes"),
     "quantized training needs bitsandbytes, which is not installed",
     'pip install "tunekit[qlora]"', "transformers quantizer_bnb_4bit.py"),
    ("deepspeed", lambda plan: plan.get("deepspeed") is not None and plan.missing("deepspeed"),
     "--deepspeed was asked for, and DeepSpeed is not installed",
     'pip install "tunekit[deepspeed]"', "ms-swift 4.6 sft_args.py, _init_deepspeed"),
    ("liger", lambda plan: plan.flag("use_liger_kernel") and plan.missing("liger_kernel"),
     "--use_liger_kernel was asked for, and liger-kernel is not installed",
     'pip install "tunekit[liger]"', "ms-swift 4.6 trainers/arguments.py, _init_liger"),
    ("swanlab", lambda plan: "swanlab" in plan.trackers and plan.missing("swanlab"),
     "--report_to swanlab was asked for, and SwanLab is not installed",
     'pip install "tunekit[swanlab]"', "ms-swift 4.6 sft_args.py, _init_swanlab"),
    ("wandb", lambda plan: "wandb" in plan.trackers and plan.missing("wandb"),
     "--report_to wandb was asked for, and wandb is not installed",
     "pip install wandb", "transformers integrations"),
    *((name, lambda plan, name=name: name in plan.trackers and plan.missing(name),
       f"--report_to {name} was asked for, and {title} is not installed",
       f"pip install {name}", "transformers 5.19 integrations/integration_utils.py")
      for name, title in (("tensorboard", "TensorBoard"), ("mlflow", "MLflow"), ("trackio", "trackio"))),
)
# fmt: on
"""Packages that a setting asks for and that are not there: name, when, why, what installs it, source."""

RULES = (
    Rule(
        "no-hub-ping",
        when=lambda plan: plan.get("check_model") is None,
        change={"check_model": False},
        why="the default asks a hub at every start, and waits when offline",
        source="ms-swift 4.6 trainers/mixin.py: 7 s offline, not stopped by HF_HUB_OFFLINE",
        quiet=True,
    ),
    Rule(
        "hugging-face",
        when=lambda plan: plan.model.hugging_face and plan.get("use_hf") is None,
        change={"use_hf": True},
        why="this id exists on Hugging Face; ms-swift would ask ModelScope",
        source="ms-swift 4.6 model registry",
    ),
    *MODEL_RULES,
    Rule(
        "warmup-steps",
        when=lambda plan: plan.get("warmup_steps") is not None and plan.get("warmup_ratio") is not None,
        change={"warmup_ratio": None},
        why="ms-swift refuses warmup_ratio and warmup_steps together",
        source="ms-swift 4.6 trainers/arguments.py, _handle_hf_removed_args",
    ),
    Rule(
        "cpu",
        when=lambda plan: not plan.hardware.gpus,
        change={"use_cpu": True},
        why="there is no GPU to train on",
        source="ms-swift 4.6: without use_cpu, bfloat16 raises on a CPU",
    ),
    Rule(
        "cpu-float32",
        when=lambda plan: not plan.hardware.gpus and not plan.typed("torch_dtype"),
        change={"torch_dtype": "float32", "fp16": False, "bf16": False},
        why="float32 is what every CPU computes; ms-swift would add fp16 mixed precision to it",
        source="ms-swift 4.6 model_args.py, _init_mixed_precision",
        quiet=True,
    ),
    Rule(
        "cpu-attention",
        when=lambda plan: not plan.hardware.gpus and plan.flash,
        change={"attn_impl": "sdpa"},
        why="flash-attn runs on NVIDIA GPUs only",
        source="https://github.com/Dao-AILab/flash-attention",
    ),
    Rule(
        "no-sdpa",
        when=lambda plan: plan.model.family == "gpt_oss" and plan.get("attn_impl") not in ("eager", "flex_attention"),
        change={"attn_impl": "eager", "packing": False},
        why="gpt-oss has attention sinks, which sdpa and flash-attn 2 cannot compute",
        source="transformers 5 modeling_gpt_oss.py: _supports_sdpa, _compatible_flash_implementations",
    ),
    *FLASH_RULES,
    Rule(
        "packing-needs-flash",
        when=lambda plan: plan.flag("packing") and not plan.flash,
        change={"packing": False},
        why="ms-swift packs rows only with a flash attention",
        source="ms-swift 4.6 sft_args.py, _check_padding_free",
    ),
    Rule(
        "packing-lazy",
        when=lambda plan: plan.flag("packing") and plan.flag("lazy_tokenize"),
        change={"packing": False},
        why="--packing and --lazy_tokenize exclude each other: packs are made of tokenized rows",
        source="ms-swift 4.6 base_args.py",
    ),
    Rule(
        "no-bfloat16",
        when=lambda plan: plan.get("torch_dtype") == "bfloat16" and plan.weaker_than((8, 0)),
        change={"torch_dtype": "float16"},
        why="this GPU has no bfloat16 (it came with Ampere, compute capability 8.0)",
        source="https://docs.nvidia.com/cuda/cuda-c-programming-guide/#compute-capabilities",
    ),
    Rule(
        "nan-seen",
        when=lambda plan: plan.get("logging_nan_inf_filter") is None and plan.get("torch_dtype") != "float16",
        change={"logging_nan_inf_filter": False},
        why="by default a loss that is not a number is logged as if it were one; only in float16 can one pass by",
        source="transformers 5 trainer.py: the step counts with the mean of those before it, or 0",
        quiet=True,
    ),
    Rule(
        "quant-method",
        when=lambda plan: plan.get("quant_bits") is not None and plan.get("quant_method") is None,
        change={"quant_method": "bnb"},
        why="without it ms-swift ignores quant_bits and trains plain LoRA, silently",
        source="seen on ms-swift 4.6: no Linear4bit layer in the model",
    ),
    Rule(
        "qlora-full",
        when=lambda plan: plan.quantized and plan.full,
        refuse=True,
        why="a quantized model cannot be trained in full: its weights have no gradient",
        hint="use --tuner_type lora, or drop --quant_bits and --quant_method",
        source="torch: only Tensors of floating point dtype can require gradients",
    ),
    Rule(
        "qlora-zero3",
        when=lambda plan: (plan.quantized or bool(plan.model.quantized)) and plan.zero_stage == 3,
        refuse=True,
        why="4-bit weights and DeepSpeed ZeRO-3 exclude each other: ZeRO-3 cannot shard quantized weights",
        hint="use --deepspeed zero2, or drop the quantization",
        source="https://github.com/huggingface/transformers/issues/24395",
    ),
    Rule(
        "fsdp-deepspeed",
        when=lambda plan: plan.get("fsdp") is not None and plan.get("deepspeed") is not None,
        change={"deepspeed": None},
        why="ms-swift takes either --fsdp or --deepspeed",
        source="ms-swift 4.6 sft_args.py, _init_fsdp: FSDP2 is not compatible with DeepSpeed",
    ),
    Rule(
        "ddp-backend-alone",
        when=lambda plan: plan.get("ddp_backend") is not None and plan.hardware.world == 1,
        refuse=True,
        why="--ddp_backend needs several processes, and this plan has one",
        hint="drop --ddp_backend",
        source="torch: Default process group has not been initialized",
    ),
    Rule(
        "ddp-backend-cpu",
        when=lambda plan: not plan.hardware.gpus and plan.hardware.world > 1 and plan.get("ddp_backend") is None,
        change={"ddp_backend": "gloo"},
        why="processes on a CPU talk through gloo",
        source="https://pytorch.org/docs/stable/distributed.html#backends",
    ),
    Rule(
        "streaming-steps",
        when=lambda plan: plan.flag("streaming") and plan.get("max_steps") is None,
        refuse=True,
        why="--streaming needs --max_steps: the length of a stream is not known",
        hint="add --max_steps, or drop --streaming",
        source="ms-swift 4.6 data_args.py",
    ),
    *(
        Rule(f"{name}-missing", when=when, refuse=True, why=why, hint=hint, source=source)
        for name, when, why, hint, source in NEEDED
    ),
    *STAGE_RULES,
    *EVALUATION_RULES,
    *TUNING_RULES,
    *IDLE_RULES,
)
"""Every rule, in the order in which they are applied: a later one sees what an earlier one changed."""

WARNINGS = (
    Warn(
        lambda plan: plan.flag("save_only_model"),
        "--save_only_model leaves the optimizer out of checkpoints: a retry starts over instead of resuming",
    ),
    Warn(
        lambda plan: plan.flag("group_by_length"),
        "--group_by_length forms other micro-batches after a retry: the effective batch holds, the samples of a "
        "step do not",
    ),
    *STAGE_WARNINGS,
    *EVALUATION_WARNINGS,
    *TUNING_WARNINGS,
    *MODEL_WARNINGS,
)


def apply_rules(plan: Plan) -> Plan:
    """The plan after every rule, in order, with the warnings that hold for it.

    Raises TunekitError where a rule refuses, or would have to change what the user typed.
    """
    for rule in RULES:
        if not rule.when(plan):
            continue
        if rule.refuse:
            raise TunekitError(rule.why, rule.hint)
        made = {flag: value(plan) if callable(value) else value for flag, value in rule.change.items()}
        is_now = {flag: plan.settings[flag].value for flag in made if flag in plan.settings}
        changes = {flag: value for flag, value in made.items() if is_now.get(flag) != value}
        for flag, value in changes.items():
            if plan.typed(flag) and flag not in rule.same:
                wanted = "it would have to go" if value is None else f"it would have to be {text(value)}"
                problem = f"--{flag} {text(is_now[flag])} cannot be kept: {rule.why}"
                raise TunekitError(problem, f"drop the flag; {wanted}" + (f"; or {rule.hint}" if rule.hint else ""))
        if changes:
            plan = plan.changed(changes, Source("rule", rule.id), rule.why, quiet=rule.quiet)
    return replace(plan, warnings=(*plan.warnings, *(row.line(plan) for row in WARNINGS if row.when(plan))))
