"""A run of each other tool is taken over and really trains: what comes out is what ms-swift takes."""

import json
import shlex

import pytest
from calls import tunekit

pytestmark = [pytest.mark.e2e, pytest.mark.engine]

CHATS = [
    {
        "messages": [
            {"role": "user", "content": f"What is 2 + {n}?"},
            {"role": "assistant", "content": f"It is {2 + n}."},
        ]
    }
    for n in range(32)
]
PAIRS = [{"prompt": f"What is 2 + {n}?", "chosen": f"It is {2 + n}.", "rejected": "It is 0."} for n in range(32)]
ALPACA = [{"instruction": f"What is 2 + {n}?", "input": "", "output": f"It is {2 + n}."} for n in range(32)]
HERE = {"--gpus": "cpu", "--report_to": "none", "--max_steps": "1"}
"""Of this machine, and of a test that shall end."""

CASES = {
    "llamafactory.yaml": """\
model_name_or_path: MODEL
stage: sft
do_train: true
finetuning_type: lora
lora_target: all
lora_rank: 4
dataset: made
dataset_dir: .
template: default
cutoff_len: 128
output_dir: saves/made
per_device_train_batch_size: 4
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 1.0
""",
    "axolotl.yml": """\
base_model: MODEL
datasets:
  - path: chats.jsonl
    type: chat_template
adapter: lora
lora_r: 4
lora_alpha: 8
lora_target_linear: true
sequence_len: 128
micro_batch_size: 4
gradient_accumulation_steps: 8
num_epochs: 1
optimizer: adamw_torch
learning_rate: 0.0001
output_dir: ./out
""",
    "swift2.sh": """\
swift sft --model_type llama --model_id_or_path MODEL --dataset chats.jsonl --sft_type lora --lora_rank 4 \\
  --batch_size 4 --gradient_accumulation_steps 8 --max_length 128 --learning_rate 1e-4 --num_train_epochs 1
""",
    "swift3.sh": """\
swift sft --model MODEL --dataset chats.jsonl --train_type lora --lora_rank 4 --per_device_train_batch_size 4 \\
  --gradient_accumulation_steps 8 --max_length 128 --learning_rate 1e-4 --num_train_epochs 1
""",
    "trl.sh": """\
trl dpo --model_name_or_path MODEL --dataset_name pairs.jsonl --use_peft --lora_r 4 --lora_target_modules all-linear \\
  --per_device_train_batch_size 4 --gradient_accumulation_steps 8 --max_length 128 --learning_rate 1e-5 --beta 0.2 \\
  --num_train_epochs 1 --output_dir out
""",
    "unsloth.py": """\
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer
from unsloth import FastLanguageModel

model, tokenizer = FastLanguageModel.from_pretrained(model_name="MODEL", max_seq_length=128, load_in_4bit=False)
model = FastLanguageModel.get_peft_model(
    model, r=4, lora_alpha=8, lora_dropout=0, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]
)
dataset = load_dataset("json", data_files="chats.jsonl", split="train")
trainer = SFTTrainer(
    model=model,
    tokenizer=tokenizer,
    train_dataset=dataset,
    args=SFTConfig(
        per_device_train_batch_size=4,
        gradient_accumulation_steps=8,
        num_train_epochs=1,
        learning_rate=1e-4,
        output_dir="out",
    ),
)
trainer.train()
""",
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_of_another_tool_trains(name, tiny_model, swift_cases, tmp_path):
    for file, rows in (("chats.jsonl", CHATS), ("pairs.jsonl", PAIRS), ("alpaca.jsonl", ALPACA)):
        (tmp_path / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "dataset_info.json").write_text(json.dumps({"made": {"file_name": "alpaca.jsonl"}}))
    (tmp_path / name).write_text(CASES[name].replace("MODEL", tiny_model))
    printed = tunekit(tmp_path, "import", name, "--to", "command", "--lenient")
    program, command, *words = shlex.split(printed.replace("\\\n", " "), comments=True)
    assert program == "tunekit"
    for flag in HERE.keys() & set(words):
        at = words.index(flag)
        del words[at : at + 2]
    ran = [word for pair in HERE.items() for word in pair]
    plan = json.loads(tunekit(tmp_path, command, *words, *ran, "--name", "it", "--json"))
    assert plan["batch"]["effective"] == 32
    ended = swift_cases.run(plan["argv"], tmp_path, env=plan["env"], watch=True)
    assert ended.code == 0, ended.log[-3000:]
    assert ended.trains
    assert all("lora_" in one for one in ended.trains)
