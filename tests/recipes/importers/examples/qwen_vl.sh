#!/bin/bash
CONFIG=./configs/zero2_offload.json
deepspeed --include localhost:1,3 --master_port 23456 train.py \
    --deepspeed ${CONFIG} \
    --model_name_or_path "Qwen/Qwen2.5-VL-3B-Instruct" \
    --output_dir out/bills \
    --tuning_strategy "lora_llm_full_vit" \
    --dataset_config_path registry.json --dataset_names bills menus \
    --train_split_ratio 0.95 --use_data_augmentation \
    --epochs 2 --per_device_train_batch_size 2 --gradient_accumulation_steps 8 \
    --learning_rate_llm 1e-4 --learning_rate_vit 2e-5 --learning_rate_projector 5e-5 \
    --lora_rank 32 --lora_alpha 8 --max_seq_length 3072 \
    --eval_dataset_scripts 'bills:exact,fuzzy' \
    --save_steps 100 --eval_steps 50 --use_wandb --wandb_project bills
