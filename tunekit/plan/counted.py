"""Which flags of ms-swift move the memory of a run, and which of these the estimate counts: every flag stands here.

A flag that moves it, is not counted and is set to something else than its default is named in a Note of the plan.
A test holds the table against the flags of the shipped ms-swift, and tries that those counted move the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunekit.plan.predict import unpredicted_because
from tunekit.plan.settings import UNSET, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tunekit.plan.flags import Flag, FlagTable
    from tunekit.plan.plan import Plan
    from tunekit.plan.settings import Setting


def _names(words: str) -> tuple[str, ...]:
    return tuple(words.split())


COUNTED = _names(
    """
    adalora_init_r adapter_length attn_impl bnb_4bit_compute_dtype bnb_4bit_use_double_quant boft_block_num
    boft_block_size boft_dropout boft_n_butterfly_factor deepspeed fourier_n_frequency freeze_parameters
    freeze_parameters_ratio freeze_parameters_regex fsdp galore_proj_type galore_quantization galore_rank
    galore_target_modules galore_with_embedding gradient_accumulation_steps gradient_checkpointing
    lisa_activated_layers llamapro_num_new_blocks lora_bias lora_dropout lora_dtype lora_rank max_length model
    modules_to_save new_special_tokens optim optimizer packing packing_length padding_free
    per_device_train_batch_size quant_bits quant_method rlhf_type target_modules target_parameters target_regex
    torch_dtype trainable_parameters trainable_parameters_regex tuner_type use_dora use_galore use_liger_kernel
    use_logits_to_keep use_vllm vera_dropout vera_rank vllm_gpu_memory_utilization vllm_mode
    """
)
"""Flags that the estimate counts."""

SAID = _names("freeze_aligner freeze_llm freeze_vit max_pixels vit_gradient_checkpointing")
"""Of the vision part: the plan says of every vision model that the estimate is of its language model."""

EVALUATES = "what an evaluation holds"
UNCOUNTED: Mapping[str, str] = {
    **dict.fromkeys(("bf16", "fp16"), "mixed precision beside --torch_dtype"),
    "auto_find_batch_size": "ms-swift changes the micro-batch by itself",
    "batch_eval_metrics": EVALUATES,
    "bf16_full_eval": EVALUATES,
    "bnb_4bit_quant_storage": "it decides whether FSDP shares 4-bit weights",
    "callbacks": "what a callback does is not known",
    "chord_sft_per_device_train_batch_size": "the rows of the second loss",
    "ddp_bucket_cap_mb": "buckets of gradients",
    "ddp_find_unused_parameters": "buckets of gradients",
    "ddp_static_graph": "buckets of gradients",
    "deepspeed_autotp_size": "layers divided among GPUs",
    "device_groups": "which GPUs hold what",
    "device_map": "layers laid over GPUs",
    "ds3_gather_for_generation": "weights gathered for generation",
    "dynamic_sample": "generated answers",
    "enable_channel_loss": "it keeps Liger's loss from being used",
    "enable_dft_loss": "it keeps Liger's loss from being used",
    "eval_accumulation_steps": EVALUATES,
    "experts_impl": "how experts are computed",
    "fp16_full_eval": EVALUATES,
    "fsdp_config": "how FSDP divides the model",
    "generation_batch_size": "generated answers",
    "generation_max_length": "generated answers",
    "generation_num_beams": "generated answers",
    "gkd_logits_topk": "the teacher's logits",
    "gradient_checkpointing_kwargs": "how layers are computed again",
    "label_smoothing_factor": "a second loss over the logits",
    "liger_kernel_config": "which kernels of Liger's are used",
    "local_rollout_forward_batch_size": "generated answers",
    "log_entropy": "entropies of the logits",
    "loss_scale": "some of them keep Liger's loss from being used",
    "max_completion_length": "generated answers",
    "max_memory": "layers laid over GPUs",
    "max_new_tokens": "generated answers",
    "model_kwargs": "what the model is given beside",
    "move_model_batches": "weights on their way to vLLM",
    "neftune_noise_alpha": "noise as large as the embedded rows",
    "num_beams": "generated answers",
    "num_generations": "generated answers",
    "num_generations_eval": "generated answers",
    "num_labels": "another head",
    "offload_model": "weights that leave the GPU while answers are written",
    "offload_optimizer": "states that leave the GPU while answers are written",
    "offload_teacher_model": "a teacher that leaves the GPU",
    "optim_args": "settings of the optimizer",
    "optim_target_modules": "settings of the optimizer",
    "parallelism_config": "layers divided among GPUs",
    "per_device_eval_batch_size": EVALUATES,
    "predict_with_generate": "generated answers",
    "prediction_loss_only": EVALUATES,
    "problem_type": "another head",
    "ref_model": "the size of the reference model",
    "response_length": "generated answers",
    "reward_model": "the size of the reward model",
    "router_aux_loss_coef": "what the loss of the router holds",
    "seq_kd": "generated answers",
    "sequence_parallel_size": "tokens divided among GPUs",
    "sleep_level": "what vLLM gives back",
    "steps_per_generation": "generated answers",
    "task_type": "another head",
    "teacher_adapters": "the teacher",
    "teacher_deepspeed": "the teacher",
    "teacher_model": "the teacher",
    "top_entropy_quantile": "entropies of the logits",
    "torch_compile": "what the compiler saves and copies",
    "torch_compile_backend": "what the compiler saves and copies",
    "torch_compile_mode": "what the compiler saves and copies",
    "torch_empty_cache_steps": "what PyTorch gives back",
    "tuner_backend": "Unsloth's kernels",
    "use_cache": "keys and values that are kept",
    "use_cpu": "it trains on the CPU",
    "use_swift_lora": "ms-swift's own LoRA",
    "zero_hpz_partition_size": "how ZeRO divides the model",
}
"""Flags that move memory and are not counted: what they change. `ONLY` narrows some to a few of their values."""

BESIDE = _names("vllm_max_model_len vllm_tensor_parallel_size vllm_pipeline_parallel_size vllm_data_parallel_size")
"""Of vLLM's own share of the GPU, which stays as large as it is told to be."""

ONLY: Mapping[str, tuple[str, ...]] = {
    "init_weights": ("lora-ga",),
    "beta": ("0", "0.0"),
}
"""Values by which a flag moves memory, of flags whose other values do not."""
ONLY_WHY: Mapping[str, str] = {
    "init_weights": "gradients of all weights as it begins",
    "beta": "with 0 there is no reference model",
}

STILL = _names(
    """
    acc_strategy accelerator_config adapters add_non_thinking_prefix add_version agent_template aligner_lr
    average_tokens_across_devices check_model columns create_checkpoint_symlink data_seed dataset
    dataset_num_proc dataset_shuffle debug delta disable_auto_column_mapping disable_ignore_empty_think disable_tqdm
    do_eval do_predict do_train download_mode early_stop_interval enable_flattened_weight_sync enable_jit_checkpoint
    enable_npu_model_patch enable_thinking epsilon epsilon_high external_plugins custom_dataset_info
    custom_register_path full_determinism generation_config greater_is_better group_by_length hqq_axis
    ignore_args_error ignore_data_skip include_for_metrics include_num_input_tokens_seen importance_sampling_level
    init_strategy interleave_prob is_binary_loss_scale label_names lazy_tokenize learning_rate length_column_name
    load_args load_best_model_at_end load_data_args load_from_cache_file local_rank local_repo_path log_completions
    log_level log_level_replica log_on_each_node log_rollout_offpolicy_metrics logprobs lora_alpha lorap_lr_ratio
    loss_type loss_weights max_epochs max_grad_norm max_model_len max_resample_times max_shard_size max_steps max_turns
    metric_for_best_model min_p missing_eos_penalty model_author model_name model_revision model_type mrl_dims
    multi_turn_scheduler norm_bbox num_iterations num_mini_batches num_ppo_epochs num_sample_generations
    num_train_epochs off_policy_sequence_mask_delta output_dir overlong_filter packing_num_proc packing_strategy
    padding_side preserve_thinking project push_to_hub remove_unused_columns report_to
    restore_callback_states_from_checkpoint resume_from_checkpoint resume_only_model rope_scaling run_name
    safe_serialization scale_rewards seed shuffle_buffer_size skip_memory_metrics sortish_sampler split_dataset_ratio
    stop_words stopping_strategy stream streaming strict structured_outputs_regex sync_ref_model system temperature
    template template_backend tf32 top_k top_logprobs top_p train_dataloader_shuffle train_sampling_strategy
    truncation_strategy use_chat_template use_flash_ckpt use_gym_env gym_env use_hf use_ray ray_exp_name use_rslora
    val_dataset val_dataset_shuffle vit_lr async_generate advantage_estimator advantage_reweight beta init_weights
    bnb_4bit_quant_type cached_dataset cached_val_dataset center_rewards_coefficient cliprange cliprange_value
    completion_length_limit_scope cpo_alpha desirable_weight undesirable_weight discopop_tau gamma kl_coef
    kl_in_reward label_smoothing lam ld_alpha lmbda lr_scheduler_kwargs lr_scheduler_type real_tau ref_adapters
    response_prefix rpo_alpha sft_alpha simpo_gamma soft_cache_length soft_max_length tau_neg tau_pos vf_coef
    warmup_ratio warmup_steps weight_decay whiten_rewards
    """
)
"""Flags that do not move memory; `STILL_BEGINNINGS` stands for many that begin alike."""

STILL_BEGINNINGS = _names(
    """
    adam_ adapter_act adalora_ chord_ cosine_ dataloader_ ddp_ decision_ eval_ extra_eval fipo_ fourier_
    galore_ hub_ lisa_ llamapro_ logging_ lora_ga_ ref_model_ reft_ repetition_ reward_ rlsd_ rollout_ save_ sdar_
    swanlab_ teacher_ trackio_ vera_ vllm_ wandb_
    """
)


def memory_class(flag: str) -> str:
    """``counted``, ``said``, ``uncounted`` or ``still``; empty for a flag that nobody has looked at."""
    for name, flags in (("counted", COUNTED), ("said", SAID), ("uncounted", UNCOUNTED), ("still", STILL)):
        if flag in flags:
            return name
    return "still" if flag in BESIDE or flag.startswith(STILL_BEGINNINGS) else ""


def uncounted_notes(plan: Plan, flags: FlagTable) -> list[str]:
    """What moves memory, is not counted and is not what ms-swift has by default: a line for flags of one reason.

    Nothing is said where no memory is predicted; why it is not, where what was asked for is the reason.
    """
    if not plan.hardware.gpus:
        return []
    if plan.peak is None:
        why = unpredicted_because(plan)
        return [f"the memory is not predicted: {why}"] if why else []
    known, groups = flags.by_command[plan.stage.command], dict[str, list[str]]()
    for flag, setting in plan.settings.items():
        why = _why(flag, setting, known.get(flag))
        if why and (why != EVALUATES or plan.validated):
            groups.setdefault(why, []).append(f"--{flag}")
    return [
        f"{' and '.join(named)} {'are' if named[1:] else 'is'} not in the memory estimate: {why}"
        for why, named in groups.items()
    ]


def _why(flag: str, setting: Setting, known: Flag | None) -> str:
    """What a flag changes that is not counted; empty where nothing does."""
    value = text(setting.value)
    if value == UNSET or (known is not None and _same(value, known.default)):
        return ""
    kind = memory_class(flag)
    if not kind:
        return "nobody has looked at what it does" if setting.explicit else ""
    if flag in ONLY_WHY:
        return ONLY_WHY[flag] if value in ONLY[flag] else ""
    return UNCOUNTED.get(flag, "")


def _same(value: str, default: str) -> bool:
    """Whether two words say the same: ``0`` is ``0.0``."""
    try:
        return value == default or float(value) == float(default)
    except ValueError:
        return False
