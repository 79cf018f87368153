#!/bin/bash
# pictures of dishes, by pairs
DATA=${DATA_DIR:-data}
accelerate launch --config_file accelerate_config/zero3.yaml --num_processes 2 \
    src/resonance/dpo.py \
    --model_name_or_path Qwen/Qwen2-VL-2B-Instruct \
    --dataset_name plain_dpo --data_path $DATA/dishes.json --image_root $DATA/pictures \
    --per_device_train_batch_size 4 --gradient_accumulation_steps 4 \
    # rates of the last run were too high
    --learning_rate 5e-6 --num_train_epochs 2 \
    --use_lora True --lora_r 8 --lora_target_modules "q_proj, v_proj" --lora_bias lora_only \
    --score_margin 0.5 --max_prompt_length 256 \
    --bf16 True --report_to none
