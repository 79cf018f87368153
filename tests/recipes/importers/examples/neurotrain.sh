#!/bin/bash
conda activate waiter
torchrun --nproc_per_node=2 scripts/train_llm.py \
    --config neurotrain.toml \
    --deepspeed configs/ds_config_zero2.json \
    --resume runs/llm/waiter/20260101_000000/choose/checkpoint-10
