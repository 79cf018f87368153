"""The table of what does not go together: every rule applied, and none against what the user typed."""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from running import scratch

from tunekit.engine.locate import OPTIONAL_PACKAGES
from tunekit.errors import TunekitError
from tunekit.hardware import Gpu, Hardware
from tunekit.plan.batch import Batch
from tunekit.plan.configuration import FLASH, FLASH_PACKAGES
from tunekit.plan.models.model import Model
from tunekit.plan.plan import Change, Plan
from tunekit.plan.rules.stages import PACKABLE
from tunekit.plan.rules.table import RULES, WARNINGS, apply_rules
from tunekit.plan.settings import COMMAND_LINE, Setting, Source
from tunekit.stages import STAGES

A100 = Hardware((Gpu("A100", 80, None, (8, 0)),))
H100 = Hardware((Gpu("H100", 80, None, (9, 0)),))
B200 = Hardware((Gpu("B200", 180, None, (10, 0)),))
T4 = Hardware((Gpu("T4", 15, None, (7, 5)),))
UNKNOWN = Hardware((Gpu("a card", 24),))
TWO = Hardware((Gpu("A100", 80, None, (8, 0)),) * 2)
CPU = Hardware()
EVERYTHING = frozenset((*OPTIONAL_PACKAGES, *FLASH_PACKAGES))
PLAIN = Model("Qwen/Qwen2.5-7B", 7, "qwen2")
GPT_OSS = Model("openai/gpt-oss-20b", 20, "gpt_oss", moe=True)
PRESET = Source("preset", "test")
QUIET = {"no-hub-ping": ("check_model", False), "nan-seen": ("logging_nan_inf_filter", False)}
"""Keeps the rules that apply to every plan out of the way."""


@dataclass(frozen=True)
class Case:
    """What a preset says, and what a rule makes of it: new values (None: dropped), or a refusal."""

    rule: str
    settings: dict
    after: dict = field(default_factory=dict)
    hardware: Hardware = A100
    model: Model = PLAIN
    packages: frozenset | None = EVERYTHING
    given: tuple[str, ...] = ()
    """Flags that the user typed in any case."""

    def plan(self, typed=()):
        typed = {*typed, *self.given}
        values = dict(pair for rule, pair in QUIET.items() if rule != self.rule) | self.settings
        settings = {flag: Setting(value, COMMAND_LINE if flag in typed else PRESET) for flag, value in values.items()}
        return Plan(
            stage=STAGES[self.settings.get("rlhf_type", "sft")],
            model=self.model,
            hardware=self.hardware,
            batch=Batch(8, 4),
            settings=settings,
            packages=None if self.packages is None else tuple(sorted(self.packages)),
            preset="test",
            engine="4.6.0",
            engine_installed=True,
        )


def without(package):
    return EVERYTHING - {package}


FLASHY = {"attn_impl": "flash_attn"}
PACKED = {"attn_impl": "flash_attn", "packing": True}
BNB = {"quant_method": "bnb", "quant_bits": "4"}

CASES = [
    Case("no-hub-ping", {}, {"check_model": False}),
    Case("hugging-face", {}, {"use_hf": True}, model=Model("a/b", hugging_face=True)),
    Case("warmup-steps", {"warmup_steps": 10, "warmup_ratio": 0.1}, {"warmup_ratio": None}),
    Case("cpu", {"torch_dtype": "bfloat16"}, {"use_cpu": True}, CPU),
    Case("cpu", {"torch_dtype": "bfloat16", "use_cpu": False}, {"use_cpu": True}, CPU),
    Case("cpu-float32", {"torch_dtype": "bfloat16"}, {"torch_dtype": "float32", "fp16": False, "bf16": False}, CPU),
    Case("cpu-float32", {}, {"torch_dtype": "float32", "fp16": False, "bf16": False}, CPU),
    Case("cpu-attention", FLASHY, {"attn_impl": "sdpa"}, CPU),
    Case("no-sdpa", PACKED, {"attn_impl": "eager", "packing": False}, model=GPT_OSS),
    Case("no-sdpa", {"attn_impl": "sdpa"}, {"attn_impl": "eager"}, model=GPT_OSS),
    Case("flash-old-gpu", FLASHY, {"attn_impl": "sdpa"}, T4),
    Case("flash-missing", FLASHY, {"attn_impl": "sdpa"}, packages=without("flash_attn")),
    Case("flash-missing", {"attn_impl": "flash_attention_2"}, {"attn_impl": "sdpa"}, packages=frozenset()),
    Case("flash-missing-hopper", FLASHY, {"attn_impl": "sdpa"}, H100, packages=frozenset()),
    Case("flash-3-missing", {"attn_impl": "flash_attention_3"}, {"attn_impl": "sdpa"}, H100, packages=frozenset()),
    Case("flash-4-missing", {"attn_impl": "flash_attention_4"}, {"attn_impl": "sdpa"}, H100, packages=frozenset()),
    Case("flash-3-gpu", {"attn_impl": "flash_attention_3"}, {"attn_impl": "sdpa"}, B200, packages=None),
    Case("flash-4-gpu", {"attn_impl": "flash_attention_4"}, {"attn_impl": "sdpa"}, packages=without("flash_attn")),
    Case("flash-other", FLASHY, {"attn_impl": "flash_attention_4"}, H100, packages=frozenset({"flash_attn_4"})),
    Case("flash-other", FLASHY, {"attn_impl": "flash_attention_4"}, B200, packages=frozenset({"flash_attn_4"})),
    Case("flash-other", FLASHY, {"attn_impl": "flash_attention_3"}, H100, packages=frozenset({"flash_attn_3"})),
    Case("flash-other", {"attn_impl": "flash_attention_4"}, {"attn_impl": "flash_attention_2"}),
    Case("packing-needs-flash", {"attn_impl": "sdpa", "packing": True}, {"packing": False}),
    Case("packing-needs-flash", {"packing": True}, {"packing": False}),
    *(
        Case("packing-rlhf", PACKED | {"rlhf_type": loss}, {"packing": False})
        for loss in ("orpo", "simpo", "cpo", "rm")
    ),
    Case("packing-lazy", PACKED | {"lazy_tokenize": True}, {"packing": False}),
    Case("no-bfloat16", {"torch_dtype": "bfloat16"}, {"torch_dtype": "float16"}, T4),
    Case("quant-method", {"quant_bits": "4"}, {"quant_method": "bnb"}),
    Case("qlora-full", BNB | {"tuner_type": "full"}),
    Case("qlora-zero3", BNB | {"deepspeed": "zero3"}),
    Case("qlora-zero3", BNB | {"deepspeed": "zero3_offload"}),
    Case("ddp-backend-alone", {"ddp_backend": "nccl"}),
    Case("ddp-backend-cpu", {}, {"ddp_backend": "gloo"}, Hardware(processes=2)),
    Case("streaming-steps", {"streaming": True}),
    Case("bitsandbytes-missing", BNB, packages=without("bitsandbytes")),
    Case("deepspeed-missing", {"deepspeed": "zero2"}, packages=without("deepspeed")),
    Case("liger-missing", {"use_liger_kernel": True}, packages=without("liger_kernel")),
    Case("swanlab-missing", {"report_to": ["tensorboard", "swanlab"]}, packages=without("swanlab")),
    Case("wandb-missing", {"report_to": "wandb"}, packages=without("wandb")),
    *(
        Case(f"{name}-missing", {"report_to": [name]}, packages=without(name))
        for name in ("tensorboard", "mlflow", "trackio")
    ),
]

# The same settings where the rule has nothing to say.
FINE = [
    Case("no-hub-ping", {"check_model": True}),
    Case("hugging-face", {}, model=PLAIN),
    Case("hugging-face", {"use_hf": False}, model=Model("a/b", hugging_face=True)),
    Case("warmup-steps", {"warmup_ratio": 0.1}),
    Case("cpu", {}),
    Case("cpu-attention", FLASHY),
    Case("no-sdpa", {"attn_impl": "eager"}, model=GPT_OSS),
    Case("no-sdpa", {"attn_impl": "flex_attention"}, model=GPT_OSS),
    Case("flash-old-gpu", FLASHY, hardware=UNKNOWN),
    Case("flash-missing", FLASHY),
    Case("flash-missing", FLASHY, packages=None),
    Case("flash-missing-hopper", FLASHY, hardware=H100),
    Case("flash-4-missing", {"attn_impl": "flash_attention_4"}, hardware=H100),
    Case("flash-4-missing", {"attn_impl": "flash_attention_4"}, hardware=H100, packages=None),
    Case("flash-3-missing", {"attn_impl": "flash_attention_3"}, hardware=H100),
    Case("flash-3-gpu", {"attn_impl": "flash_attention_3"}, hardware=H100),
    Case("flash-4-gpu", {"attn_impl": "flash_attention_4"}, hardware=B200),
    Case("flash-4-gpu", {"attn_impl": "flash_attention_4"}, hardware=UNKNOWN),
    Case("flash-other", FLASHY, hardware=H100),
    *(Case("packing-needs-flash", {"attn_impl": name, "packing": True}, hardware=H100) for name in FLASH),
    *(Case("packing-rlhf", PACKED | {"rlhf_type": loss, "reward_model": ["r"]}, packages=None) for loss in PACKABLE),
    Case("packing-rlhf", PACKED),
    Case("packing-lazy", {"packing": False, "lazy_tokenize": True}),
    Case("no-bfloat16", {"torch_dtype": "bfloat16"}, hardware=UNKNOWN),
    Case("quant-method", {"quant_bits": "4", "quant_method": "hqq"}),
    Case("qlora-full", BNB | {"tuner_type": "lora"}),
    Case("qlora-zero3", BNB | {"deepspeed": "zero2"}),
    Case("ddp-backend-alone", {"ddp_backend": "nccl"}, hardware=TWO),
    Case("ddp-backend-alone", {"ddp_backend": "gloo", "torch_dtype": "float32"}, hardware=TWO),
    Case("ddp-backend-cpu", {}, hardware=TWO),
    Case("streaming-steps", {"streaming": True, "max_steps": 10}),
    *(
        Case(f"{name}-missing", settings, packages=None)
        for name, settings in (
            ("bitsandbytes", BNB),
            ("deepspeed", {"deepspeed": "zero2"}),
            ("liger", {"use_liger_kernel": True}),
            ("swanlab", {"report_to": ["swanlab"]}),
            *((name, {"report_to": [name]}) for name in ("wandb", "tensorboard", "mlflow", "trackio")),
        )
    ),
]

GRPO = {"rlhf_type": "grpo", "reward_funcs": ["accuracy"]}
PPO = {"rlhf_type": "ppo", "reward_model": "org/reward"}
VLLM = {"use_vllm": True, "vllm_mode": "colocate", "vllm_gpu_memory_utilization": 0.4}
CASES += [
    Case(
        "full-learning-rate",
        {"tuner_type": "full", "learning_rate": 2e-4},
        {"learning_rate": 2e-5},
        given=("tuner_type",),
    ),
    Case("padding-free", PACKED | GRPO, {"packing": False, "padding_free": True}, packages=None),
    Case("padding-free", PACKED | {"rlhf_type": "gkd"}, {"packing": False, "padding_free": True}),
    Case("ppo-adapter", PPO | {"adapters": ["sft"]}),
    Case("full-from-adapter", {"tuner_type": "full", "adapters": ["sft"]}),
    Case("ppo-reward-model", {"rlhf_type": "ppo"}),
    Case("ppo-reward-adapter", PPO | {"reward_adapters": ["rm"]}),
    Case("grpo-reward", {"rlhf_type": "grpo"}),
    Case("grpo-vllm", GRPO, VLLM),
    *(
        Case("reference-adapter", {"rlhf_type": loss, "adapters": ["sft"]}, {"ref_adapters": ["sft"]})
        for loss in ("dpo", "kto")
    ),
    Case("reference-adapter", GRPO | VLLM | {"adapters": ["sft"]}, {"ref_adapters": ["sft"]}),
]
FINE += [
    Case("full-learning-rate", {"tuner_type": "full", "learning_rate": 2e-5}),
    Case("full-learning-rate", {"tuner_type": "lora", "learning_rate": 2e-4}),
    Case("full-learning-rate", {"tuner_type": "full", "learning_rate": 2e-4}),
    Case("padding-free", PACKED | {"rlhf_type": "dpo"}),
    Case("ppo-adapter", PPO),
    Case("full-from-adapter", {"tuner_type": "lora", "adapters": ["sft"]}),
    Case("ppo-reward-model", PPO),
    Case("ppo-reward-adapter", PPO),
    Case("grpo-reward", GRPO | VLLM),
    Case("grpo-reward", VLLM | {"rlhf_type": "grpo", "reward_model": ["org/reward"]}),
    *(
        Case("grpo-reward", VLLM | {"rlhf_type": "grpo"} | scored)
        for scored in (
            {"use_gym_env": True},
            {"gym_env": "sudoku"},
            {"teacher_model": "org/teacher"},
            {"teacher_model_server": "http://localhost:8000"},
            {"vllm_mode": "server", "vllm_server_host": "127.0.0.1"},
        )
    ),
    Case("grpo-vllm", GRPO, packages=without("vllm")),
    Case("grpo-vllm", GRPO, packages=None),
    Case("grpo-vllm", GRPO | {"use_vllm": False}),
    Case("grpo-vllm", GRPO | {"torch_dtype": "float32", "use_cpu": True}, hardware=CPU),
    Case("grpo-vllm", {"rlhf_type": "dpo"}),
    Case("reference-adapter", {"rlhf_type": "dpo"}),
    Case("reference-adapter", {"rlhf_type": "dpo", "adapters": ["b"], "ref_adapters": ["a"]}),
    Case("reference-adapter", {"rlhf_type": "orpo", "adapters": ["sft"]}),
]
SEES = Model("Qwen/Qwen2.5-VL-7B-Instruct", 7, "qwen2_5_vl", multimodal=True)
UNHEARD = Model("org/unheard-of", 7)
LORA_LLM = {"tuner_type": "lora_llm", "lora_rank": 8}
FULL = {"tuner_type": "full"}
CASES += [
    Case("vision-missing", {}, model=SEES, packages=without("torchvision")),
    Case("vision-missing", {}, model=SEES, packages=without("qwen_vl_utils")),
    Case("text-lora-llm", LORA_LLM),
    Case("text-parts", {"freeze_vit": False}, {"freeze_vit": None}),
    Case("text-parts", FULL | {"freeze_llm": True}, {"freeze_llm": None}),
    Case("text-rates", {"vit_lr": 1e-4, "aligner_lr": 1e-4}, {"vit_lr": None, "aligner_lr": None}),
    Case("lora-llm-plain", LORA_LLM | {"target_modules": ["all-linear"]}, {"target_modules": None}, model=SEES),
    Case("lora-llm-plain", LORA_LLM | {"use_dora": True}, {"use_dora": None}, model=SEES),
    Case("adapter-start", {"init_weights": "pisa"}),
    Case("pissa-quantized", BNB | {"init_weights": "pissa"}),
    Case("pissa-quantized", BNB | {"init_weights": "pissa_niter_4"}),
    Case("parameters-full", {"freeze_parameters": ["model.layers.0."]}, {"freeze_parameters": None}),
    Case("parameters-full", {"trainable_parameters_regex": "norm"}, {"trainable_parameters_regex": None}),
    Case("all-frozen", FULL | {"freeze_llm": True}, model=SEES),
    Case("all-frozen", {"freeze_llm": True}, model=SEES),
    Case("vit-rate-frozen", {"vit_lr": 1e-4}, {"vit_lr": None}, model=SEES),
    Case("aligner-rate-frozen", {"aligner_lr": 1e-4, "freeze_vit": False}, {"aligner_lr": None}, model=SEES),
]
FINE += [
    Case("vision-missing", {}, model=SEES),
    Case("vision-missing", {}, model=SEES, packages=None),
    Case("vision-missing", {}, packages=without("torchvision")),
    Case("text-lora-llm", LORA_LLM, model=SEES),
    Case("text-lora-llm", LORA_LLM, model=UNHEARD),
    Case("text-parts", {"freeze_vit": False}, model=SEES),
    Case("text-parts", {"freeze_vit": False}, model=UNHEARD),
    Case("text-rates", {"vit_lr": 1e-4, "freeze_vit": False}, model=SEES),
    Case("lora-llm-plain", LORA_LLM, model=SEES),
    Case("lora-llm-plain", {"tuner_type": "lora", "lora_dropout": 0.1}),
    *(Case("adapter-start", {"init_weights": word}) for word in ("true", "gaussian", "pissa_niter_16", "olora")),
    Case("pissa-quantized", {"init_weights": "pissa"}),
    Case("pissa-quantized", BNB | {"init_weights": "olora"}),
    Case("parameters-full", FULL | {"freeze_parameters": ["model.layers.0."]}),
    Case("all-frozen", FULL | {"freeze_llm": True, "freeze_vit": False}, model=SEES),
    Case("all-frozen", {"freeze_llm": True, "target_modules": ["qkv"]}, model=SEES),
    Case("all-frozen", FULL | {"freeze_llm": True, "trainable_parameters": ["lm_head."]}, model=SEES),
    Case("vit-rate-frozen", {"vit_lr": 1e-4, "freeze_vit": False}, model=SEES),
    Case("vit-rate-frozen", LORA_LLM | {"vit_lr": 1e-4}, model=SEES),
    Case("aligner-rate-frozen", FULL | {"aligner_lr": 1e-4, "freeze_aligner": False}, model=SEES),
]
MOE = Model("Qwen/Qwen3-30B-A3B", 30, "qwen3_moe", moe=True)
GPTQ = Model("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", 7, "qwen2", quantized="gptq", bits=4)
FP8 = Model("Qwen/Qwen3-8B-FP8", 8, "qwen3", quantized="fp8", bits=8)
BEST = {"load_best_model_at_end": True}
VALIDATED = {"val_dataset": ["val.jsonl"]}


def an_adapter(**config):
    """A folder with an adapter_config.json."""
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(folder)


OWN = {"adapters": [an_adapter(r=4, lora_alpha=16)], "lora_rank": 8, "lora_alpha": 32}
CASES += [
    Case("fsdp-deepspeed", {"fsdp": "fsdp2", "deepspeed": "zero2"}, {"deepspeed": None}),
    Case("quantized-full", FULL, model=GPTQ),
    Case("quantized-untrainable", {}, model=FP8),
    Case("quantized-twice", BNB, dict.fromkeys(BNB), model=GPTQ),
    Case("quantized-twice", {"quant_bits": "8"}, {"quant_bits": None}, model=GPTQ),
    Case("quantize-fp8", {"quant_method": "fp8"}),
    Case("one-adapter", {"adapters": ["a", "b"]}),
    Case("experts-dropout", {"target_parameters": ["experts.down_proj"], "lora_dropout": 0.1}, {"lora_dropout": 0}),
    Case("experts-dropout", {"target_parameters": ["experts.down_proj"]}, {"lora_dropout": 0}, model=MOE),
    Case("adapter-rank", OWN, {"lora_rank": 4, "lora_alpha": 16}),
    Case("nothing-to-evaluate", {"eval_steps": 50}, {"eval_steps": None}),
    Case("nothing-to-evaluate", {"per_device_eval_batch_size": 1}, {"per_device_eval_batch_size": None}),
    Case("best-not-evaluated", BEST),
    Case("best-not-evaluated", BEST | VALIDATED | {"eval_strategy": "no"}),
    Case("best-not-evaluated", BEST | {"split_dataset_ratio": 0.1, "streaming": True, "max_steps": 9}),
    Case("best-at-other-steps", BEST | VALIDATED | {"eval_steps": 30, "save_steps": 200}),
    Case("best-at-other-steps", BEST | VALIDATED | {"eval_strategy": "epoch"}),
    Case("best-at-other-steps", BEST | VALIDATED | {"eval_steps": 0.1, "save_steps": 200}),
    Case("best-at-other-steps", BEST | VALIDATED | {"eval_steps": 0.3, "save_steps": 0.5}),
    Case("plateau-not-evaluated", {"lr_scheduler_type": "reduce_lr_on_plateau"}),
    Case("ppo-reward-functions", PPO | {"reward_funcs": ["accuracy"]}, given=("reward_funcs",)),
    Case("idle-do-train", {"do_train": False}),
    Case("idle-do-predict", {"do_predict": True}),
    Case("nan-seen", {"torch_dtype": "bfloat16"}, {"logging_nan_inf_filter": False}),
    Case("positions", {"max_length": 200_000}, {"max_length": 131_072}),
    Case("idle-swanlab-unused", {"swanlab_project": "x"}, given=("swanlab_project",)),
    Case("idle-adapter-flags-full", FULL | {"lora_rank": 16}, given=("lora_rank",)),
]
FINE += [
    Case("fsdp-deepspeed", {"fsdp": "fsdp2"}),
    Case("quantized-full", {"tuner_type": "lora"}, model=GPTQ),
    Case("quantized-untrainable", {}, model=GPTQ),
    Case("quantized-twice", BNB),
    Case("quantized-twice", {}, model=GPTQ),
    Case("quantize-fp8", BNB),
    Case("one-adapter", {"adapters": ["a"]}),
    Case("experts-dropout", {"target_parameters": ["experts.down_proj"], "lora_dropout": 0}),
    Case("experts-dropout", {"lora_dropout": 0.1}),
    Case("adapter-rank", {"adapters": [an_adapter(r=8)], "lora_rank": 8}),
    Case("adapter-rank", {"adapters": ["no/such/folder"], "lora_rank": 8}),
    Case("adapter-rank", {"adapters": [an_adapter(r="8", lora_alpha=True)], "lora_rank": 8}),
    Case("nothing-to-evaluate", {"eval_steps": 50} | VALIDATED),
    Case("nothing-to-evaluate", {"eval_steps": 50, "split_dataset_ratio": 0.1}),
    Case("best-not-evaluated", BEST | VALIDATED),
    Case("best-not-evaluated", BEST | {"split_dataset_ratio": 0.1}),
    Case("best-at-other-steps", BEST | VALIDATED | {"eval_steps": 50, "save_steps": 200}),
    Case("best-at-other-steps", BEST | VALIDATED | {"eval_steps": 0.1, "save_steps": 0.5}),
    Case("best-at-other-steps", BEST | VALIDATED | {"save_strategy": "best", "eval_strategy": "epoch"}),
    Case("best-at-other-steps", VALIDATED | {"eval_steps": 30, "save_steps": 200}),
    Case("plateau-not-evaluated", {"lr_scheduler_type": "reduce_lr_on_plateau"} | VALIDATED),
    Case("plateau-not-evaluated", {"lr_scheduler_type": "cosine"}),
    Case("ppo-reward-functions", PPO),
    Case("idle-do-train", {"do_train": True}),
    Case("idle-do-predict", {"do_predict": False}),
    Case("nan-seen", {"logging_nan_inf_filter": True}),
    Case("nan-seen", {"torch_dtype": "float16"}),
    Case("positions", {"max_length": 131_072}),
    Case("positions", {"max_length": 200_000, "rope_scaling": "yarn", "max_model_len": 200_000}),
    Case("positions", {"max_length": 200_000}, model=Model("org/unlisted-7b", 7)),
    Case("idle-swanlab-unused", {"swanlab_project": "x", "report_to": ["swanlab"]}),
    Case("idle-adapter-flags-full", {"tuner_type": "lora", "lora_rank": 16}),
]
REFUSING = [case for case in CASES if not case.after]
CHANGING = [case for case in CASES if case.after]
RULE = {rule.id: rule for rule in RULES}
NOT_CONTESTED = (
    *(("cpu-float32", "torch_dtype"), ("full-learning-rate", "learning_rate")),
    *(("nothing-to-evaluate", "eval_steps"), ("nothing-to-evaluate", "per_device_eval_batch_size")),
)
"""What these rules would change they leave alone where it was typed."""

CONTESTED = [
    (case, flag)
    for case in CHANGING
    for flag, value in case.after.items()
    if case.settings.get(flag) not in (None, value)
    and (case.rule, flag) not in NOT_CONTESTED
    and flag not in RULE[case.rule].same
]
"""Cases with a flag that the rule would have to change although it was typed."""


def ids(cases):
    return [f"{case.rule}-{number}" for number, case in enumerate(cases)]


def test_every_rule_has_a_case_on_either_side():
    assert {case.rule for case in CASES} == RULE.keys()
    assert len(RULE) == len(RULES), "two rules of one name"
    always = {"cpu-float32"}  # where there is a CPU there is this rule, whatever the settings
    assert {case.rule for case in FINE} == RULE.keys() - always
    assert {case.rule for case in REFUSING} == {rule.id for rule in RULES if rule.refuse}
    adding = {"no-hub-ping", "hugging-face", "cpu-float32", "quant-method", "ddp-backend-cpu"}  # to what is not set
    adding |= {"nan-seen", "grpo-vllm", "reference-adapter", "full-learning-rate", "nothing-to-evaluate"}
    adding |= {rule.id for rule in RULES if rule.same}
    assert {case.rule for case, _ in CONTESTED} == {case.rule for case in CHANGING} - adding


@pytest.mark.parametrize(
    ("hardware", "packages", "taken"),
    [
        (A100, {"flash_attn", "flash_attn_3", "flash_attn_4"}, "flash_attn"),
        (A100, {"flash_attn_3", "flash_attn_4"}, "sdpa"),
        (H100, {"flash_attn_3", "flash_attn_4"}, "flash_attention_4"),
        (H100, {"flash_attn_3"}, "flash_attention_3"),
        (H100, {"flash_attn", "flash_attn_4"}, "flash_attn"),
        (B200, {"flash_attn_3"}, "sdpa"),
        (B200, {"flash_attn_4"}, "flash_attention_4"),
        (T4, {"flash_attn", "flash_attn_3", "flash_attn_4"}, "sdpa"),
    ],
)
def test_the_flash_attention_that_is_installed_and_made_for_the_card_is_taken(hardware, packages, taken):
    plan = apply_rules(Case("", PACKED, hardware=hardware, packages=frozenset(packages)).plan())
    assert (plan.get("attn_impl"), plan.packed) == (taken, taken != "sdpa")


def test_a_typed_flash_attention_must_be_there_and_how_to_get_one_is_said():
    typed = Case("", {"attn_impl": "flash_attention_4"}, hardware=H100, packages=frozenset()).plan(["attn_impl"])
    with pytest.raises(TunekitError, match=r'flash-attn-4 is not installed: pip install "flash-attn-4>=4') as caught:
        apply_rules(typed)
    assert "sdpa" in caught.value.hint


def test_every_rule_is_complete():
    for rule in RULES:
        assert rule.why
        assert rule.source
        assert bool(rule.change) is not rule.refuse
        assert rule.hint or not rule.refuse, "a refusal says what to do instead"


@pytest.mark.parametrize("case", CHANGING, ids=ids(CHANGING))
def test_a_rule_changes_what_a_preset_said(case):
    plan = apply_rules(case.plan())
    rule = RULE[case.rule]
    for flag, value in case.after.items():
        assert plan.get(flag) == value
        if value is not None and value != case.settings.get(flag):
            assert plan.settings[flag] == Setting(value, Source("rule", rule.id), rule.why)
        before = case.settings.get(flag)
        if before != value:
            assert Change(flag, before, value, rule.why, Source("rule", rule.id), rule.quiet) in plan.changes


@pytest.mark.parametrize(("case", "flag"), CONTESTED, ids=ids([case for case, _ in CONTESTED]))
def test_a_rule_refuses_to_change_what_the_user_typed(case, flag):
    plan = case.plan(typed=[flag])
    with pytest.raises(TunekitError) as refused:
        apply_rules(plan)
    assert refused.value.message.startswith(f"--{flag} ")
    assert refused.value.message.endswith(f"cannot be kept: {RULE[case.rule].why}")
    assert refused.value.hint.startswith("drop the flag; it would have to ")
    assert plan.settings[flag] == Setting(case.settings[flag], COMMAND_LINE)


@pytest.mark.parametrize("stage", [GRPO, {"rlhf_type": "gkd"}])
def test_what_makes_no_difference_may_be_changed_although_it_was_typed(stage):
    """ms-swift's own examples say ``--packing true`` to GKD, which it takes for padding-free."""
    case = Case("padding-free", PACKED | stage, packages=None)
    plan = apply_rules(case.plan(typed=["packing"]))
    assert (plan.get("packing"), plan.get("padding_free")) == (False, True)
    assert any(line.startswith("packing true → false") for line in plan.changed_lines())
    unpadded = Case("padding-free", PACKED | stage | {"padding_free": False}, packages=None)
    with pytest.raises(TunekitError, match="--padding_free false cannot be kept"):
        apply_rules(unpadded.plan(typed=["padding_free"]))


def test_a_type_that_was_typed_is_kept_on_a_cpu():
    plan = apply_rules(Case("cpu-float32", {"torch_dtype": "bfloat16"}, hardware=CPU).plan(typed=["torch_dtype"]))
    assert plan.settings["torch_dtype"] == Setting("bfloat16", COMMAND_LINE)
    assert "bf16" not in plan.settings


@pytest.mark.parametrize("case", CHANGING, ids=ids(CHANGING))
def test_a_rule_has_nothing_against_its_own_value_typed(case):
    typed = {flag: value for flag, value in case.after.items() if value is not None}
    plan = apply_rules(Case(**{**vars(case), "settings": case.settings | typed}).plan(typed=typed))
    for flag, value in typed.items():
        assert plan.settings[flag] == Setting(value, COMMAND_LINE)


@pytest.mark.parametrize("case", REFUSING, ids=ids(REFUSING))
@pytest.mark.parametrize("typed", [True, False])
def test_a_rule_refuses(case, typed):
    with pytest.raises(TunekitError) as refused:
        apply_rules(case.plan(typed=case.settings if typed else ()))
    assert (refused.value.message, refused.value.hint) == (RULE[case.rule].why, RULE[case.rule].hint)


@pytest.mark.parametrize("case", FINE, ids=ids(FINE))
def test_a_rule_leaves_alone_what_works(case):
    plan = case.plan(typed=case.settings)
    assert not RULE[case.rule].when(plan)
    plan = apply_rules(plan)
    assert {flag: plan.get(flag) for flag in case.settings} == case.settings
    assert Source("rule", case.rule) not in {change.by for change in plan.changes}


@pytest.mark.parametrize("case", [*CHANGING, *FINE], ids=ids([*CHANGING, *FINE]))
def test_rules_have_nothing_left_to_say_the_second_time(case):
    plan = apply_rules(case.plan())
    twice = apply_rules(plan)
    assert (twice.settings, twice.changes) == (plan.settings, plan.changes)


def changed(plan):
    return [(change.flag, change.after, str(change.by)) for change in plan.changes]


def test_a_later_rule_sees_what_an_earlier_one_changed():
    """No flash-attn, so sdpa; so no packing."""
    plan = apply_rules(Case("flash-missing", PACKED, packages=without("flash_attn")).plan())
    assert changed(plan) == [
        ("attn_impl", "sdpa", "rule:flash-missing"),
        ("packing", False, "rule:packing-needs-flash"),
    ]


def test_an_old_gpu_gets_all_that_follows():
    plan = apply_rules(Case("flash-old-gpu", PACKED | {"torch_dtype": "bfloat16"}, hardware=T4).plan())
    assert changed(plan) == [
        ("attn_impl", "sdpa", "rule:flash-old-gpu"),
        ("packing", False, "rule:packing-needs-flash"),
        ("torch_dtype", "float16", "rule:no-bfloat16"),
    ]


def test_a_cpu_gets_all_that_follows():
    settings = PACKED | {"torch_dtype": "bfloat16", "quant_bits": "4"}
    plan = apply_rules(Case("cpu", settings, hardware=CPU, packages=without("flash_attn")).plan())
    assert {flag: plan.get(flag) for flag in ("attn_impl", "packing", "torch_dtype", "use_cpu", "quant_method")} == {
        "attn_impl": "sdpa",
        "packing": False,
        "torch_dtype": "float32",
        "use_cpu": True,
        "quant_method": "bnb",
    }


def test_quant_bits_alone_are_checked_like_the_method_that_they_imply():
    plan = Case("quant-method", {"quant_bits": "4", "tuner_type": "full"}).plan()
    with pytest.raises(TunekitError, match="a quantized model cannot be trained in full"):
        apply_rules(plan)
    plan = Case("quant-method", {"quant_bits": "4"}, packages=without("bitsandbytes")).plan()
    with pytest.raises(TunekitError, match="needs bitsandbytes"):
        apply_rules(plan)


def test_packing_that_was_typed_is_not_dropped_because_of_an_implied_change():
    plan = Case("flash-missing", PACKED, packages=without("flash_attn")).plan(typed=["packing"])
    with pytest.raises(TunekitError, match="--packing true cannot be kept"):
        apply_rules(plan)


def warned(settings, typed=()):
    return list(apply_rules(Case("", settings, packages=without("vllm")).plan(typed=typed)).warnings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rlhf_type": "kto"}, "averaged within a micro-batch"),
        ({"rlhf_type": "orpo"}, "averaged within a micro-batch"),
        ({"rlhf_type": "dpo", "learning_rate": 2e-4}, "5e-6 to 1e-5"),
        ({"save_only_model": True}, "a retry starts over"),
        ({"group_by_length": True}, "other micro-batches after a retry"),
        (PPO | {"max_steps": 10}, "PPO ignores --max_steps"),
        ({"rlhf_type": "gkd"}, "its own teacher"),
        (GRPO, "without vLLM"),
        ({"val_dataset": ["v.jsonl"], "split_dataset_ratio": 0.1}, "--val-split does nothing"),
    ],
)
def test_warnings(settings, says):
    (warning,) = warned(settings)
    assert says in warning


def test_every_warning_is_tested():
    assert len(WARNINGS) == 15


@pytest.mark.parametrize(
    "settings",
    [
        {"rlhf_type": "dpo", "learning_rate": 1e-5},
        {"rlhf_type": "dpo"},
        GRPO | VLLM | {"save_only_model": False},
        {"rlhf_type": "gkd", "teacher_model": "Qwen/Qwen2.5-14B"},
        PPO,
    ],
)
def test_no_warning(settings):
    assert warned(settings) == []


def notes(settings, model=PLAIN, typed=()):
    return list(apply_rules(Case("", settings, model=model).plan(typed=typed)).warnings)


def test_lora_on_experts_says_that_they_stay_frozen():
    (note,) = notes({"target_modules": ["all-linear"]}, MOE)
    assert "experts frozen" in note
    assert "--target_parameters experts.gate_up_proj experts.down_proj" in note
    assert notes(FULL, MOE) == notes({}) == []
    assert not notes({"target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}, MOE)


def test_a_frozen_router_is_said():
    balanced = {"router_aux_loss_coef": 1e-3}
    (_, note) = notes(balanced, MOE)
    assert note.startswith("the router is frozen under LoRA: --router_aux_loss_coef")
    assert notes(balanced | FULL, MOE) == notes(balanced) == []
    assert len(notes({"router_aux_loss_coef": 0}, MOE)) == 1, "of the experts alone"


def test_new_tokens_that_are_not_learned_are_said():
    new = {"new_special_tokens": ["<<call>>"]}
    (note,) = notes(new)
    assert "--modules_to_save embed_tokens lm_head" in note
    for more in (FULL, {"modules_to_save": ["embed_tokens", "lm_head"]}, {"modules_to_save": ["all-embedding"]}):
        assert not any("random and not trained" in note for note in notes(new | more))


@pytest.mark.parametrize("settings", [{"eval_steps": 50}, {"eval_strategy": "epoch"}, {"do_eval": True}])
def test_an_evaluation_without_data_is_said(settings):
    (note,) = notes(settings, typed=settings)
    (flag,) = settings
    assert note.startswith(f"--{flag}: there is nothing to evaluate on")
    assert "--val_dataset" in note
    assert "--val-split" in note
    assert "--split_dataset_ratio" in note
    assert notes(settings | VALIDATED, typed=settings) == []
    assert notes(settings) == [], "what a preset says for runs with an evaluation is dropped without a word"


def test_no_evaluation_is_no_evaluation():
    assert notes({"eval_strategy": "no"}, typed=["eval_strategy"]) == []
    assert notes({"eval_on_start": False}, typed=["eval_on_start"]) == []


def a_model(folder, **config):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}), encoding="utf-8")
    return Model(str(folder), 7, "llama", local=True)


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({"max_position_embeddings": 2048}, "2,048"),
        ({"text_config": {"max_position_embeddings": 2048}}, "2,048"),
        ({"max_position_embeddings": 131072}, ""),
        (
            {
                "max_position_embeddings": 2048,
                "rope_scaling": {"factor": 2.0, "original_max_position_embeddings": 2048},
            },
            "4,096",
        ),
        (
            {"max_position_embeddings": 2048, "rope_scaling": {"factor": 8, "original_max_position_embeddings": 2048}},
            "",
        ),
        ({"max_position_embeddings": "2048"}, ""),
        ({"max_position_embeddings": True, "text_config": [1]}, ""),
        ({"max_position_embeddings": 2048, "rope_scaling": {"factor": float("inf")}}, "2,048"),
        ({}, ""),
    ],
)
def test_rows_beyond_the_positions_of_the_model_are_shortened_or_refused(config, positions, tmp_path):
    model = a_model(tmp_path / "model", **config)

    def length(typed=(), **settings):
        return apply_rules(Case("", settings, model=model).plan(typed=typed)).get("max_length")

    most = int(positions.replace(",", "")) if positions else 8192
    assert length(max_length=8192) == most
    if positions:
        with pytest.raises(TunekitError, match=r"^--max_length 8192 cannot be kept") as refused:
            length(["max_length"], max_length=8192)
        assert f"it would have to be {most}; or --rope_scaling yarn" in refused.value.hint
    assert length(["max_length"], max_length=8192, rope_scaling="yarn") == 8192
    assert length(max_length=2048) == 2048


def test_an_adapter_of_a_model_of_another_name_is_said():
    other = an_adapter(base_model_name_or_path="/old/my-own-model", r=8)
    (note,) = notes({"adapters": [other], "lora_rank": 8})
    assert "my-own-model" in note
    assert PLAIN.id in note
    for base in ("Qwen/Qwen2.5-7B", "/models/Qwen2.5-7B/", "/c/models--Qwen--Qwen2.5-7B/snapshots/0a", "", 7):
        assert notes({"adapters": [an_adapter(base_model_name_or_path=base)]}) == []


def test_no_warning_about_the_learning_rate_of_sft():
    assert warned({"learning_rate": 2e-4}) == []


def test_a_learning_rate_that_was_typed_is_not_called_a_presets():
    settings = {"rlhf_type": "dpo", "learning_rate": 1e-4}
    assert "a preset's" not in " ".join(warned(settings, typed=["learning_rate"]))


def test_lines_for_people():
    by = Source("rule", "cpu")
    assert Change("attn_impl", "flash_attn", "sdpa", "", by).line() == "attn_impl flash_attn → sdpa"
    assert Change("use_hf", None, True, "", by).line() == "use_hf → true"
    assert Change("warmup_ratio", 0.1, None, "", by).line() == "warmup_ratio 0.1 → dropped"


def test_a_reward_model_that_is_an_adapter_is_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    plan = Case("ppo-reward-adapter", {"rlhf_type": "ppo", "reward_model": [str(tmp_path)]}).plan()
    with pytest.raises(TunekitError, match="must be a whole model"):
        apply_rules(plan)
