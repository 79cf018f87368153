#!/bin/bash
# As it was run with 2.6.
export NPROC_PER_NODE=2
KIND=${KIND:-qwen2_5-0_5b-instruct}
swift sft \
    --model_type $KIND --sft_type lora \
    --dataset alpaca-zh#500 mine.jsonl \
    --self_cognition_sample 50 \
    --batch_size 2 --gradient_accumulation_steps $(expr 16 / 2 / 2) \
    --quantization_bit 4 --dtype bf16 --lora_dropout_p 0.1 --use_flash_attn true \
    --deepspeed default-zero2 --only_save_model true
