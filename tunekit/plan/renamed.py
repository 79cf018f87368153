"""What the options of other tools, and of earlier ms-swift, are today: for hints and for imports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SWIFT_2, SWIFT_3 = "ms-swift 2", "ms-swift 3"
LLAMA_FACTORY, TRL, AXOLOTL, UNSLOTH, PEFT = "LLaMA-Factory", "TRL", "axolotl", "unsloth", "PEFT"
RESONANCE, NEUROTRAIN, QWEN_VL = "Resonance", "NeuroTrain", "Qwen-VL"

SAME = "{}"
"""The value as it stands there. It may be part of a longer one, as in ``pissa_niter_{}``."""


@dataclass(frozen=True)
class Renamed:
    """An option of another tool, and what says the same today.

    Attributes:
        name: of the option there.
        tools: whose name it is; empty where it is found in many scripts.
        now: flags of ms-swift (``lora_rank``) or options of tunekit (``micro-batch``) and their values; empty where
            nothing says the same.
        value: the only value of which this holds; empty where it holds of each.
        hint: for people; ``{now}`` stands for `now` as it is typed.
        asks: `now` is not all that was meant, so the user decides: it is hinted at, and not put in its place.
    """

    name: str
    tools: tuple[str, ...]
    now: Mapping[str, str]
    value: str = ""
    hint: str = "it is {now}"
    asks: bool = False

    @property
    def text(self) -> str:
        """The hint, as in ``it is --quant_method bnb --quant_bits 4``."""
        words = [f"--{name}" if value == SAME else f"--{name} {value}" for name, value in self.now.items()]
        return self.hint.replace("{now}", " ".join(words))


SINCE_3, SINCE_4 = "it is {now} since ms-swift 3.0", "it is {now} since ms-swift 4.0"
ALIGNER, VIT = "it is --learning-rate-aligner (ms-swift: {now})", "it is --learning-rate-vit (ms-swift: {now})"
FLASH = {"attn_impl": "flash_attn"}
BNB_4, BNB_8 = ({"quant_method": "bnb", "quant_bits": bits} for bits in ("4", "8"))
ALL_LINEAR = {"target_modules": "all-linear"}
QLORA = {"tuner_type": "lora", **BNB_4}
FINETUNING = "it is {now} lora or full; freeze is --tuning-strategy freeze --trainable-layers N"
AUGMENT = "it is done before training: tunekit augment DATA.jsonl --flip --out FOLDER"
BATCH = "it is {now} (one GPU) or --effective-batch (one optimizer step)"
LAST_LAYERS = {"tuning-strategy": "freeze", "trainable-layers": SAME}
ON, OFF = "true", "false"
COUNTED = "ms-swift takes N rows of a dataset by #N behind its name: --dataset DATA#1000"
SPLIT = "it is --split_dataset_ratio, the share of the rows to evaluate on: 0.1"
FORWARD = "one length holds for prompt and answer: --max_length; what is written in training: --max_completion_length"
COMMAND = "the command says it: tunekit sft, pt, dpo, …; --model names what is trained"
CODE = "code of your own scores by --reward FILE.py:FUNCTION and makes rows by --format FILE.py:FUNCTION"
FOLDER = "each run has a folder of its own: --name NAME; tunekit resume NAME goes on with one"
ROOT = "set the environment variable ROOT_IMAGE_DIR, or write whole paths into --dataset"
REGISTRY = "name the files or hub ids themselves: --dataset a.jsonl b.jsonl"
NODES = "set the environment variables NNODES, NODE_RANK and MASTER_ADDR on each machine; --gpus plans for several"
CARDS = "--gpus N says how many; which ones says the environment variable CUDA_VISIBLE_DEVICES"
WANDB = "set the environment variable {}, beside --report_to wandb"
CURVES = "ms-swift draws them by itself with --report_to tensorboard: runs/NAME/output/images"
MARGIN = "ms-swift has none for DPO: leave closer pairs out of the --dataset; SimPO has --simpo_gamma"
STOPPED = "it is {now}, counted in evaluations without a better result"

RENAMED = (
    Renamed("train_type", (SWIFT_3,), {"tuner_type": SAME}, hint=SINCE_4),
    Renamed("sft_type", (SWIFT_2,), {"tuner_type": SAME}, hint=SINCE_4),
    Renamed("model_id_or_path", (SWIFT_2,), {"model": SAME}, hint=SINCE_3),
    Renamed("model_name_or_path", (LLAMA_FACTORY, TRL, RESONANCE, NEUROTRAIN, QWEN_VL), {"model": SAME}),
    Renamed("template_type", (SWIFT_2,), {"template": SAME}, hint=SINCE_3),
    Renamed("lora_target_modules", (SWIFT_2, TRL, AXOLOTL, RESONANCE), {"target_modules": SAME}),
    Renamed("lora_dropout_p", (SWIFT_2,), {"lora_dropout": SAME}),
    Renamed("lora_r", (TRL, AXOLOTL, RESONANCE), {"lora_rank": SAME}),
    Renamed("lora_target", (LLAMA_FACTORY,), {"target_modules": SAME}),
    Renamed("cutoff_len", (LLAMA_FACTORY,), {"max_length": SAME}),
    Renamed("max_seq_length", (TRL, UNSLOTH, QWEN_VL), {"max_length": SAME}),
    Renamed("dtype", (SWIFT_2, TRL, UNSLOTH), {"torch_dtype": SAME}),
    Renamed("dtype", (SWIFT_2,), {"torch_dtype": "bfloat16"}, "bf16"),
    Renamed("dtype", (SWIFT_2,), {"torch_dtype": "float16"}, "fp16"),
    Renamed("dtype", (SWIFT_2,), {"torch_dtype": "float32"}, "fp32"),
    Renamed("use_flash_attn", (SWIFT_2,), FLASH, ON),
    Renamed("use_flash_attn", (SWIFT_2,), {"attn_impl": "sdpa"}, OFF),
    Renamed("use_flash_attention_2", (RESONANCE,), FLASH, ON),
    Renamed("flash_attn", (LLAMA_FACTORY,), FLASH, "fa2"),
    Renamed("flash_attn", (LLAMA_FACTORY,), {"attn_impl": "sdpa"}, "sdpa"),
    Renamed("flash_attn", (LLAMA_FACTORY,), {"attn_impl": "eager"}, "disabled"),
    Renamed("quantization_bit", (SWIFT_2, LLAMA_FACTORY), BNB_4, "4"),
    Renamed("quantization_bit", (SWIFT_2, LLAMA_FACTORY), BNB_8, "8"),
    Renamed("load_in_4bit", (TRL, AXOLOTL, UNSLOTH, NEUROTRAIN), BNB_4, ON),
    Renamed("load_in_8bit", (TRL, AXOLOTL, UNSLOTH), BNB_8, ON),
    Renamed("bits", (RESONANCE,), BNB_4, "4", "it is {now}, or 8"),
    Renamed("bits", (RESONANCE,), BNB_8, "8"),
    Renamed("quantization_type", (LLAMA_FACTORY,), {"bnb_4bit_quant_type": SAME}, hint="it is {now} nf4"),
    Renamed("double_quantization", (LLAMA_FACTORY,), {"bnb_4bit_use_double_quant": SAME}),
    Renamed("use_lora", (RESONANCE, NEUROTRAIN), {"tuner_type": "lora"}, ON, "it is {now}, which is the default"),
    Renamed("use_lora", (RESONANCE,), {"tuner_type": "full"}, OFF),
    Renamed("finetuning_type", (LLAMA_FACTORY,), {"tuner_type": SAME}, hint=FINETUNING),
    Renamed("freeze_trainable_layers", (LLAMA_FACTORY,), LAST_LAYERS, hint="it is {now} N"),
    Renamed("freeze_vision_tower", (LLAMA_FACTORY, RESONANCE), {"freeze_vit": SAME}),
    Renamed("freeze_multi_modal_projector", (LLAMA_FACTORY,), {"freeze_aligner": SAME}),
    Renamed("freeze_language_model", (LLAMA_FACTORY,), {"freeze_llm": SAME}),
    Renamed("additional_target", (LLAMA_FACTORY,), {"modules_to_save": SAME}),
    Renamed("use_pissa", (), {"init_weights": "pissa"}, ON),
    Renamed("pissa_init", (LLAMA_FACTORY,), {"init_weights": "pissa"}, ON),
    Renamed("learning_rate_projector", (QWEN_VL,), {"aligner_lr": SAME}, hint=ALIGNER),
    Renamed("projector_lr", (), {"aligner_lr": SAME}, hint=ALIGNER),
    Renamed("mm_projector_lr", (QWEN_VL,), {"aligner_lr": SAME}, hint=ALIGNER),
    Renamed("vision_tower_lr", (QWEN_VL,), {"vit_lr": SAME}, hint=VIT),
    Renamed("vision_lr", (), {"vit_lr": SAME}, hint=VIT),
    Renamed("image_max_pixels", (LLAMA_FACTORY,), {"max-pixels": SAME}),
    Renamed("use_data_augmentation", (QWEN_VL,), {}, hint=AUGMENT),
    Renamed("q_lora", (RESONANCE,), QLORA, ON),
    Renamed("batch_size", (SWIFT_2,), {"micro-batch": SAME}, hint=BATCH),
    # ms-swift 2 and 3
    Renamed("eval_batch_size", (SWIFT_2,), {"per_device_eval_batch_size": SAME}, hint=SINCE_3),
    Renamed("evaluation_strategy", (SWIFT_2, TRL), {"eval_strategy": SAME}),
    Renamed("lora_bias_trainable", (SWIFT_2,), {"lora_bias": SAME}, hint=SINCE_3),
    Renamed("lora_lr_ratio", (SWIFT_2,), {"lorap_lr_ratio": SAME}, hint=SINCE_3),
    Renamed("lora_modules_to_save", (SWIFT_2, TRL, AXOLOTL), {"modules_to_save": SAME}),
    Renamed("lora_target_regex", (SWIFT_2,), {"target_regex": SAME}, hint=SINCE_3),
    Renamed("init_lora_weights", (SWIFT_2, PEFT), {"init_weights": SAME}),
    Renamed("additional_trainable_parameters", (SWIFT_2,), {"trainable_parameters": SAME}, hint=SINCE_3),
    Renamed("add_output_dir_suffix", (SWIFT_2,), {}, hint=FOLDER),
    Renamed("only_save_model", (SWIFT_2,), {"save_only_model": SAME}, hint=SINCE_3),
    Renamed("save_safetensors", (SWIFT_2, LLAMA_FACTORY, TRL), {"safe_serialization": SAME}),
    Renamed("deepspeed_config_path", (SWIFT_2,), {"deepspeed": SAME}, hint=SINCE_3),
    Renamed("custom_train_dataset_path", (SWIFT_2,), {"dataset": SAME}, hint=SINCE_3),
    Renamed("custom_val_dataset_path", (SWIFT_2,), {"val_dataset": SAME}, hint=SINCE_3),
    Renamed("dataset_test_ratio", (SWIFT_2,), {"split_dataset_ratio": SAME}, hint=SINCE_3),
    Renamed("dataset_seed", (SWIFT_2,), {"data_seed": SAME}, hint=SINCE_3),
    Renamed("train_dataset_sample", (SWIFT_2,), {}, hint=COUNTED),
    Renamed(
        "self_cognition_sample", (SWIFT_2,), {}, hint="it is one of the datasets: --dataset swift/self-cognition#N"
    ),
    Renamed("preprocess_num_proc", (SWIFT_2,), {"dataset_num_proc": SAME}, hint=SINCE_3),
    Renamed("neftune_alpha", (SWIFT_2,), {"neftune_noise_alpha": SAME}, hint=SINCE_3),
    Renamed("use_liger", (SWIFT_2, SWIFT_3), {"use_liger_kernel": SAME}),
    Renamed("vit_use_gc", (SWIFT_2,), {"vit_gradient_checkpointing": SAME}, hint=SINCE_3),
    Renamed("use_loss_scale", (SWIFT_2,), {"loss_scale": "react"}, ON),
    Renamed("tools_prompt", (SWIFT_2, SWIFT_3), {"agent_template": SAME}),
    Renamed("loss_name", (SWIFT_2,), {"loss_type": SAME}, hint=SINCE_3),
    Renamed("streaming_buffer_size", (SWIFT_2,), {"shuffle_buffer_size": SAME}, hint=SINCE_3),
    Renamed("bnb_4bit_comp_dtype", (SWIFT_2,), {"bnb_4bit_compute_dtype": SAME}, hint=SINCE_3),
    Renamed("ref_model_id_or_path", (SWIFT_2,), {"ref_model": SAME}, hint=SINCE_3),
    Renamed("reward_model_id_or_path", (SWIFT_2,), {"reward_model": SAME}, hint=SINCE_3),
    Renamed(
        "ckpt_dir", (SWIFT_2, SWIFT_3), {"adapters": SAME}, hint="it is {now}, or --model for whole weights", asks=True
    ),
    Renamed("train_sampler_random", (SWIFT_3,), {"train_dataloader_shuffle": SAME}, hint=SINCE_4),
    Renamed("eval_datasets", (SWIFT_3,), {"eval_dataset": SAME}, hint=SINCE_4),
    Renamed("multi_turn_func", (SWIFT_3,), {"multi_turn_scheduler": SAME}),
    Renamed("gpu_memory_utilization", (SWIFT_2, SWIFT_3), {"vllm_gpu_memory_utilization": SAME}),
    Renamed("tensor_parallel_size", (SWIFT_2, SWIFT_3), {"vllm_tensor_parallel_size": SAME}),
    # LLaMA-Factory
    Renamed("stage", (LLAMA_FACTORY,), {}, hint=COMMAND),
    Renamed("adapter_name_or_path", (LLAMA_FACTORY,), {"adapters": SAME}),
    Renamed("enable_liger_kernel", (LLAMA_FACTORY,), {"use_liger_kernel": SAME}),
    Renamed("use_unsloth", (LLAMA_FACTORY,), {"tuner_backend": "unsloth"}, ON),
    Renamed("disable_gradient_checkpointing", (LLAMA_FACTORY,), {"gradient_checkpointing": OFF}, ON),
    Renamed("pure_bf16", (LLAMA_FACTORY,), {"torch_dtype": "bfloat16"}, ON),
    Renamed("moe_aux_loss_coef", (LLAMA_FACTORY,), {"router_aux_loss_coef": SAME}),
    Renamed("loraplus_lr_ratio", (LLAMA_FACTORY, AXOLOTL), {"lorap_lr_ratio": SAME}),
    Renamed("dataset_dir", (LLAMA_FACTORY,), {}, hint=REGISTRY),
    Renamed("media_dir", (LLAMA_FACTORY,), {}, hint=ROOT),
    Renamed("max_samples", (LLAMA_FACTORY,), {}, hint=COUNTED),
    Renamed("val_size", (LLAMA_FACTORY,), {"split_dataset_ratio": SAME}, hint=SPLIT, asks=True),
    Renamed(
        "overwrite_cache", (LLAMA_FACTORY,), {"load_from_cache_file": OFF}, ON, "it is {now}, which is the default"
    ),
    Renamed("preprocessing_num_workers", (LLAMA_FACTORY,), {"dataset_num_proc": SAME}),
    Renamed("buffer_size", (LLAMA_FACTORY,), {"shuffle_buffer_size": SAME}),
    Renamed("default_system", (LLAMA_FACTORY, AXOLOTL), {"system": SAME}),
    Renamed("tool_format", (LLAMA_FACTORY,), {"agent_template": SAME}),
    Renamed("train_on_prompt", (LLAMA_FACTORY,), {"loss_scale": "all"}, ON),
    Renamed("mask_history", (LLAMA_FACTORY,), {"loss_scale": "last_round"}, ON),
    Renamed("neat_packing", (LLAMA_FACTORY,), {"packing": ON}, ON),
    Renamed("pref_beta", (LLAMA_FACTORY,), {"beta": SAME}),
    Renamed("pref_ftx", (LLAMA_FACTORY,), {"rpo_alpha": SAME}, asks=True),
    Renamed(
        "pref_loss", (LLAMA_FACTORY,), {"loss_type": SAME}, hint="it is {now}; orpo and simpo have commands", asks=True
    ),
    Renamed("dpo_label_smoothing", (LLAMA_FACTORY, AXOLOTL), {"label_smoothing": SAME}),
    Renamed("ref_model_adapters", (LLAMA_FACTORY,), {"ref_adapters": SAME}),
    Renamed("kto_chosen_weight", (LLAMA_FACTORY,), {"desirable_weight": SAME}),
    Renamed("kto_rejected_weight", (LLAMA_FACTORY,), {"undesirable_weight": SAME}),
    Renamed("ppo_epochs", (LLAMA_FACTORY, NEUROTRAIN), {"num_ppo_epochs": SAME}),
    Renamed("use_dft_loss", (LLAMA_FACTORY,), {"enable_dft_loss": SAME}),
    Renamed("use_muon", (LLAMA_FACTORY,), {"optimizer": "muon"}, ON),
    Renamed("use_swanlab", (LLAMA_FACTORY,), {"report_to": "swanlab"}, ON),
    Renamed("swanlab_run_name", (LLAMA_FACTORY,), {"swanlab_exp_name": SAME}),
    Renamed("swanlab_api_key", (LLAMA_FACTORY,), {}, hint="set the environment variable SWANLAB_API_KEY"),
    Renamed("early_stopping_steps", (LLAMA_FACTORY,), {"early_stop_interval": SAME}, hint=STOPPED),
    Renamed("early_stopping_patience", (AXOLOTL,), {"early_stop_interval": SAME}, hint=STOPPED),
    Renamed("plot_loss", (LLAMA_FACTORY,), {}, hint=CURVES),
    Renamed("overwrite_output_dir", (LLAMA_FACTORY,), {}, hint=FOLDER),
    Renamed("per_gpu_train_batch_size", (LLAMA_FACTORY,), {"micro-batch": SAME}),
    Renamed("per_gpu_eval_batch_size", (LLAMA_FACTORY,), {"per_device_eval_batch_size": SAME}),
    Renamed("trust_remote_code", (LLAMA_FACTORY, TRL), {}, hint="ms-swift always does, for what --model names"),
    Renamed(
        "export_dir", (LLAMA_FACTORY,), {}, hint="tunekit merge RUN writes whole weights, after training: --out FOLDER"
    ),
    # axolotl and TRL
    Renamed("base_model", (AXOLOTL,), {"model": SAME}),
    Renamed("adapter", (AXOLOTL,), {"tuner_type": SAME}),
    Renamed("sequence_len", (AXOLOTL,), {"max_length": SAME}),
    Renamed("sample_packing", (AXOLOTL,), {"packing": SAME}),
    Renamed("micro_batch_size", (AXOLOTL,), {"micro-batch": SAME}),
    Renamed("num_epochs", (AXOLOTL,), {"num_train_epochs": SAME}),
    Renamed("lr_scheduler", (AXOLOTL,), {"lr_scheduler_type": SAME}),
    Renamed("val_set_size", (AXOLOTL,), {"split_dataset_ratio": SAME}, hint=SPLIT, asks=True),
    Renamed("train_on_inputs", (AXOLOTL,), {"loss_scale": "all"}, ON),
    Renamed("flash_attention", (AXOLOTL,), FLASH, ON),
    Renamed("sdp_attention", (AXOLOTL,), {"attn_impl": "sdpa"}, ON),
    Renamed("attn_implementation", (AXOLOTL, TRL), {"attn_impl": SAME}),
    Renamed("lora_target_linear", (AXOLOTL,), ALL_LINEAR, ON),
    Renamed("lora_model_dir", (AXOLOTL,), {"adapters": SAME}),
    Renamed("peft_use_dora", (AXOLOTL,), {"use_dora": SAME}),
    Renamed("peft_use_rslora", (AXOLOTL,), {"use_rslora": SAME}),
    Renamed("sequence_parallel_degree", (AXOLOTL,), {"sequence_parallel_size": SAME}),
    Renamed("rl", (AXOLOTL,), {}, hint=COMMAND),
    Renamed("rl_beta", (AXOLOTL,), {"beta": SAME}),
    Renamed("use_tensorboard", (AXOLOTL,), {"report_to": "tensorboard"}, ON),
    Renamed("use_peft", (TRL,), {"tuner_type": "lora"}, ON),
    Renamed(
        "dataset_name", (TRL, RESONANCE), {"dataset": SAME}, hint="it is {now}: a hub id or a file of rows", asks=True
    ),
    # Resonance, the Qwen-VL guide, NeuroTrain
    Renamed("data_path", (RESONANCE,), {"dataset": SAME}),
    Renamed("image_root", (RESONANCE,), {}, hint=ROOT),
    Renamed("data_ratio", (RESONANCE,), {}, hint=COUNTED),
    Renamed("max_prompt_length", (RESONANCE, TRL), {}, hint=FORWARD),
    Renamed("max_target_length", (RESONANCE,), {}, hint=FORWARD),
    Renamed("score_margin", (RESONANCE,), {}, hint=MARGIN),
    Renamed("project_name", (RESONANCE,), {}, hint=WANDB.format("WANDB_PROJECT")),
    Renamed("group_name", (RESONANCE,), {}, hint=WANDB.format("WANDB_RUN_GROUP")),
    Renamed(
        "dataset_config_path",
        (QWEN_VL,),
        {},
        hint="it is --custom_dataset_info, a list in ms-swift's form; or --dataset FILE",
    ),
    Renamed("dataset_names", (QWEN_VL,), {}, hint=REGISTRY),
    Renamed(
        *("train_split_ratio", (QWEN_VL,), {}),
        hint="it is --split_dataset_ratio, the share to evaluate on: 0.9 to train on there is 0.1 here",
    ),
    Renamed(
        "eval_dataset_scripts",
        (QWEN_VL,),
        {},
        hint="tunekit eval scores a run, after training; while it trains: --val_dataset",
    ),
    Renamed("use_wandb", (QWEN_VL, NEUROTRAIN), {"report_to": "wandb"}, ON),
    Renamed("wandb_run_name", (QWEN_VL,), {"run_name": SAME}),
    Renamed("wandb_name", (AXOLOTL,), {"run_name": SAME}),
    Renamed("wandb_project", (QWEN_VL, NEUROTRAIN, AXOLOTL), {}, hint=WANDB.format("WANDB_PROJECT")),
    Renamed("wandb_entity", (NEUROTRAIN, AXOLOTL), {}, hint=WANDB.format("WANDB_ENTITY")),
    Renamed("dpo_beta", (NEUROTRAIN,), {"beta": SAME}),
    Renamed("init_kl_coef", (NEUROTRAIN,), {"kl_coef": SAME}),
    Renamed("reward_model_path", (NEUROTRAIN,), {"reward_model": SAME}),
    Renamed("reward_function", (NEUROTRAIN,), {}, hint=CODE),
    Renamed("formatting_func", (NEUROTRAIN, UNSLOTH), {}, hint=CODE),
    Renamed(
        "resume",
        (NEUROTRAIN,),
        {},
        hint="tunekit resume RUN goes on, also RUN/output/checkpoint-N; --resume auto where it has begun",
    ),
    # what people try
    Renamed("lr", (), {"learning_rate": SAME}),
    Renamed("qlora", (), {"tuning-strategy": "qlora"}, ON),
    Renamed("lora", (), {"tuner_type": "lora"}, ON, "it is {now}, which is the default"),
    Renamed("full", (), {"tuner_type": "full"}, ON),
    Renamed("nnodes", (), {}, hint=NODES),
    Renamed("node_rank", (), {}, hint=NODES),
    Renamed("nproc_per_node", (), {}, hint=CARDS),
    Renamed("num_gpus", (), {"gpus": SAME}),
    Renamed("gpu", (), {}, hint=CARDS),
)
"""Names that ms-swift does not have today. The first row of a name has its hint.

Sources: ms-swift's ``handle_compatibility`` of 2.6.1 and its renames of 3.0 and 4.0, LLaMA-Factory 0.9.5
(``hparams``), TRL 1.16, axolotl 0.19.
"""

FREEZE = {"tuning-strategy": "freeze"}
LOFTQ = "ms-swift 4.6 cannot pass on what it wants; pissa and olora are like it"
OFFLINE = "ms-swift knows cloud and local; local writes to ./swanlog without a network"

RENAMED_VALUES = (
    Renamed("tuner_type", (), QLORA, "qlora", "QLoRA is --tuning-strategy qlora, or {now}"),
    Renamed("tuner_type", (LLAMA_FACTORY,), FREEZE, "freeze", "it is {now} --trainable-layers N"),
    Renamed("target_modules", (LLAMA_FACTORY,), ALL_LINEAR, "all", "every linear layer is all-linear"),
    Renamed("target_modules", (RESONANCE,), ALL_LINEAR, "auto", "every linear layer is all-linear, the default"),
    Renamed("target_modules", (), {}, "attention", "name its layers: q_proj k_proj v_proj o_proj in most models"),
    Renamed("target_modules", (SWIFT_2,), ALL_LINEAR, "ALL", "every linear layer is all-linear"),
    Renamed("deepspeed", (SWIFT_2,), {"deepspeed": "zero2"}, "default-zero2"),
    Renamed("deepspeed", (SWIFT_2,), {"deepspeed": "zero3"}, "default-zero3"),
    Renamed("deepspeed", (SWIFT_2,), {"deepspeed": "zero2_offload"}, "zero2-offload"),
    Renamed("deepspeed", (SWIFT_2,), {"deepspeed": "zero3_offload"}, "zero3-offload"),
    Renamed("truncation_strategy", (SWIFT_2,), {"truncation_strategy": "left"}, "truncation_left"),
    Renamed("truncation_strategy", (SWIFT_2,), {"truncation_strategy": "delete"}, "ignore"),
    Renamed("lora_bias", (PEFT, RESONANCE), {}, "lora_only", "ms-swift knows none and all"),
    Renamed("init_weights", (PEFT,), {}, "loftq", LOFTQ),
    Renamed("swanlab_mode", (), {"swanlab_mode": "local"}, "offline", OFFLINE),
)
"""Flags that are still there, and a value of theirs that is not."""


def renamed_hint(name: str) -> str | None:
    """What to write instead of an option that ms-swift does not have; None where the name is not known."""
    return next((row.text for row in RENAMED if row.name == name), None)


def renamed_value_hint(name: str, value: str) -> str | None:
    """What to write instead of a value that a flag no longer takes; None where it is not known."""
    return next((row.text for row in RENAMED_VALUES if (row.name, row.value) == (name, value)), None)
