BASE=Qwen/Qwen2.5-0.5B-Instruct
CUDA_VISIBLE_DEVICES=0 swift sft --model $BASE --train_type lora --dataset mine.jsonl --output_dir out/first \
    --per_device_train_batch_size 8 --gradient_accumulation_steps 4 --learning_rate 1e-4 --hub_token not-to-be-seen-anywhere
CUDA_VISIBLE_DEVICES=0 swift rlhf --rlhf_type dpo --model $BASE --adapters out/first/checkpoint-9 --train_type lora \
    --dataset pairs.jsonl --train_sampler_random true --learning_rate=5e-6
CUDA_VISIBLE_DEVICES=0 swift infer --adapters out/second/last --infer_backend pt --val_dataset mine.jsonl
