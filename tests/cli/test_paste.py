"""A command that was written for ms-swift: ``tunekit`` in the place of ``swift``."""

import shlex

import pytest
from running import make_workplace
from running import tunekit as start

PLAIN = "--model Qwen/Qwen2.5-7B-Instruct --dataset a/b"

STANDARD = (
    "--train_type lora --dataset CodyWhy/mh-sharegpt-20250820 --torch_dtype bfloat16 --max_length 3072 --packing true "
    "--gradient_checkpointing true --per_device_train_batch_size 8 --gradient_accumulation_steps 4 "
    "--learning_rate 2e-4 --num_train_epochs 1 --warmup_ratio 0.1 --save_steps 200 --save_total_limit 3 "
    "--logging_steps 20 --output_dir ./output/model-sft --report_to swanlab "
    "--swanlab_project multi-model-psychology --swanlab_mode cloud --swanlab_exp_name model-sft --attn_impl flash_attn"
)
TIGHT = "--per_device_train_batch_size 6 --gradient_accumulation_steps 6"
LARGE = "--per_device_train_batch_size 2 --gradient_accumulation_steps 16"
EMERGENCY = (
    "--max_length 2048 --packing false --per_device_train_batch_size 1 --gradient_accumulation_steps 32 "
    "--learning_rate 1e-4 --save_steps 100 --save_total_limit 2 --logging_steps 50 --attn_impl sdpa"
)
TUNED = (
    *("--per_device_train_batch_size 4 --gradient_accumulation_steps 8", "--max_length 2048", "--packing false"),
    *("--gradient_checkpointing true", "--attn_impl flash_attn --packing true", "--learning_rate 1e-4"),
    *("--per_device_train_batch_size 16 --gradient_accumulation_steps 2", "--warmup_ratio 0.15", "--max_grad_norm 0.5"),
    "--lora_rank 8 --lora_alpha 32 --target_modules all-linear",
    "--router_aux_loss_coef 1e-3 --per_device_eval_batch_size 1 --eval_steps 50 --dataloader_num_workers 4",
    "--per_device_train_batch_size 1 --gradient_accumulation_steps 16 --max_length 2048 --warmup_ratio 0.05 "
    "--save_steps 50 --save_total_limit 2 --logging_steps 5",
)
"""What the guide's other blocks change in a command."""


def laid_over(base, changes):
    """The flags of a command with some changed, as an editor would."""
    flags = {}
    for text in (base, changes):
        for flag in text.split("--")[1:]:
            name, *words = flag.split()
            flags[name] = words
    return [word for name, words in flags.items() for word in (f"--{name}", *words)]


BLOCKS = [STANDARD, *(" ".join(laid_over(STANDARD, changes)) for changes in (TIGHT, LARGE, EMERGENCY, *TUNED))]


def planned(tunekit, *words):
    ended = tunekit(*words, "--json")
    assert ended.code == 0, ended.err
    return ended.json


def given(words):
    """The flags of a command line, each with its words."""
    flags = {}
    for word in words:
        if word.startswith("--"):
            flags[word[2:]] = []
        elif flags:
            flags[list(flags)[-1]].append(word)
    return flags


@pytest.mark.parametrize("block", BLOCKS, ids=[f"block {number}" for number in range(len(BLOCKS))])
def test_every_block_of_the_guide_keeps_what_it_says(tunekit, block):
    words = shlex.split(block)
    document = planned(tunekit, "sft", "--model", "Qwen/Qwen2.5-7B-Instruct", *words, "--gpus", "1x80GB")
    made, said = given(document["argv"]), given(words)
    said["tuner_type"] = said.pop("train_type")
    rows = int(said["per_device_train_batch_size"][0]) * int(said.pop("gradient_accumulation_steps")[0])
    assert document["batch"]["effective"] == max(rows, 32)
    assert document["batch"]["micro"] == int(said["per_device_train_batch_size"][0])
    folder = said.pop("output_dir")[0].removeprefix("./")
    assert made["output_dir"] == [f"{folder}/output"]
    for flag, value in said.items():
        assert [shown(word) for word in made[flag]] == [shown(word) for word in value], flag
    assert any("--train_type lora → --tuner_type lora" in note for note in document["warnings"])


def shown(word):
    try:
        return float(word)
    except ValueError:
        return word


def test_the_quick_start_with_its_token(tmp_path):
    """The shell has put the variables in: the token leaves the arguments for the environment."""
    words = [*shlex.split(STANDARD), "--swanlab_token", "a-secret-of-mine", "--model", "Qwen/Qwen2.5-7B-Instruct"]
    ended = start(make_workplace(tmp_path), "sft", *words, "--gpus", "1x80GB", "--dry-run")
    assert ended.code == 0, ended.err
    assert "--per_device_train_batch_size 8" in ended.out
    assert "a-secret-of-mine" not in ended.out + ended.err


@pytest.mark.parametrize(
    ("words", "gpus", "batch", "note"),
    [
        ("--per_device_train_batch_size 8 --gradient_accumulation_steps 4", "1x80GB", (8, 4, 1), None),
        ("--per_device_train_batch_size 8 --gradient_accumulation_steps 8", "1x80GB", (8, 8, 1), None),
        ("--per_device_train_batch_size 1 --gradient_accumulation_steps 8", "4x80GB", (1, 8, 4), None),
        ("--per_device_train_batch_size 1 --gradient_accumulation_steps 16", "1x80GB", (1, 32, 1), "16 → 32"),
        ("--per_device_train_batch_size 5 --gradient_accumulation_steps 2", "1x80GB", (5, 7, 1), "10 → 32"),
        ("--per_device_train_batch_size 2 --gradient_accumulation_steps 1", "8x80GB", (2, 2, 8), "16 → 32"),
        ("--batch_size 1 --gradient-accumulation-steps 40", "1x80GB", (1, 40, 1), None),
        ("--sequence_parallel_size 4 --gradient_accumulation_steps 32 --micro-batch 1", "8x80GB", (1, 32, 2), None),
    ],
)
def test_micro_times_accumulation_times_gpus_is_the_batch(tunekit, words, gpus, batch, note):
    document = planned(tunekit, "sft", *PLAIN.split(), *words.split(), "--gpus", gpus)
    made = document["batch"]
    assert (made["micro"], made["accumulation"], made["data_parallel"]) == batch
    raised = [text for text in document["warnings"] if text.startswith("effective batch")]
    assert (note is None and not raised) or note in raised[0]


def test_without_a_micro_batch_that_of_ms_swift_counts_and_tunekit_may_raise_it(tunekit):
    made = planned(tunekit, "sft", *PLAIN.split(), "--gradient_accumulation_steps", "64", "--gpus", "1x80GB")["batch"]
    assert made["effective"] == 64
    assert made["micro"] > 1


def test_a_recipe_takes_accumulation_too(tunekit, tmp_path):
    text = '[[stage]]\ntype = "sft"\nmodel = "Qwen2.5-7B"\ndataset = "a/b"\nmicro_batch = 2\n'
    (tmp_path / "r.toml").write_text(f"{text}gradient_accumulation_steps = 32\n", encoding="utf-8")
    ended = tunekit("run", "r.toml", "--gpus", "1x80GB", "--dry-run")
    assert ended.code == 0, ended.err
    assert "2 × 32 accumulation × 1 GPU = 64" in ended.err


def test_the_same_flag_twice_is_once(tunekit):
    words = ["--attn_impl", "flash_attn", "--attn_impl", "flash_attn", "--max-length", "512", "--max_length", "512"]
    assert planned(tunekit, "sft", *PLAIN.split(), *words, "--gpus", "80GB")["settings"]["max_length"]["value"] == 512
    ended = tunekit("sft", *PLAIN.split(), "--attn_impl", "sdpa", "--attn_impl", "eager", "--dry-run")
    assert "--attn_impl is given twice" in ended.err


def test_all_that_is_wrong_is_told_at_once_with_its_hint(tunekit):
    words = "--lora_rnak 8 --val_size 0.1 --learning_rate fast --add_version true --oom-retry nuetral --nnodes 2"
    ended = tunekit("sft", *words.split())
    assert (ended.code, ended.out) == (2, "")
    told = [line for line in ended.err.splitlines() if line.startswith(("error:", "hint:"))]
    wrong = [line.split()[1] for line in told if line.startswith("error:")]
    assert {*wrong} == {
        "--lora_rnak",
        "--val_size",
        "--learning_rate",
        "--add_version",
        "--nnodes",
        "--oom-retry",
        "tunekit",
    }
    assert len(wrong) == 7
    for hint in ("did you mean --lora_rank", "--split_dataset_ratio", "2e-4", "--name", "NNODES", "neutral?"):
        assert any(hint in line for line in told if line.startswith("hint:")), hint
    assert "needs --model" in told[-2]


def test_a_checkpoint_to_resume_from_has_its_command(tunekit):
    ended = tunekit("sft", *PLAIN.split(), "--resume", "runs/a/checkpoint-1000")
    assert ended.code == 2
    assert "tunekit resume RUN" in ended.err


def test_the_help_says_what_is_required(tunekit):
    shown = tunekit("sft", "--help")
    assert "[required]" in shown.out


# --- a file of ms-swift's own

YAML = """\
# as ms-swift's examples write it
model: Qwen/Qwen2.5-7B-Instruct
train_type: lora
dataset:
  - 'swift/self-cognition#500'
  - a/b
target_modules: [q_proj, v_proj]
learning_rate: 1e-4
packing: true
max_length: 2048
system: 'You are kind: and brief'
model_kwargs: {fps: 2}
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
output_dir: output
ENV:
  MAX_PIXELS: 1003520
  HF_HUB_TOKEN: hf_abcdefghijklmnopqrstuv
"""
JSON = (
    '{"model": "Qwen/Qwen2.5-7B-Instruct", "dataset": ["a/b"], "learning_rate": 1e-4, "ENV": {"MAX_PIXELS": 1003520}}'
)
TOML = 'model = "Qwen/Qwen2.5-7B-Instruct"\ndataset = ["a/b"]\nlearning_rate = 1e-4\n[ENV]\nMAX_PIXELS = 1003520\n'
GPU = ("--gpus", "1x80GB")


@pytest.mark.parametrize(("name", "text"), [("c.yaml", YAML), ("c.yml", YAML), ("c.json", JSON), ("c.toml", TOML)])
def test_a_file_stands_in_the_place_of_flags(tmp_path, name, text):
    (make_workplace(tmp_path) / name).write_text(text, encoding="utf-8")
    ended = start(tmp_path, "sft", name, *GPU, "--dry-run")
    assert ended.code == 0, ended.err
    made = given(shlex.split(ended.out.replace("\\\n", " ")))
    assert made["learning_rate"] == ["0.0001"]
    assert "MAX_PIXELS=1003520" in ended.out
    assert "hf_abc" not in ended.out + ended.err
    if text == YAML:
        assert made["dataset"] == ["swift/self-cognition#500", "a/b"]
        assert made["target_modules"] == ["q_proj", "v_proj"]
        assert made["system"] == ["You are kind: and brief"]
        assert made["model_kwargs"] == ['{"fps": 2}']
        assert made["output_dir"] == ["output/output"]
        assert "effective batch 8 → 32" in " ".join(ended.err.split())


def write(folder, text, name="c.yaml"):
    (folder / name).write_text(text, encoding="utf-8")
    return name


def test_the_command_line_is_stronger_than_the_file(tunekit, tmp_path):
    name = write(tmp_path, "model: Qwen2.5-7B\ndataset: a/b\ntrain_type: lora\nseed: 4\nmicro_batch: 2\n")
    words = ("--tuner_type", "full", "--max-length", "512", "--per_device_train_batch_size", "1")
    document = planned(tunekit, "sft", name, *words, *GPU)
    values = {flag: setting["value"] for flag, setting in document["settings"].items()}
    assert (values["tuner_type"], values["max_length"], document["batch"]["micro"]) == ("full", 512, 1)
    assert document["settings"]["max_length"]["source"] == "command line"
    assert document["settings"]["seed"]["source"] == "file c.yaml"


def test_the_command_line_takes_another_batch_than_the_file(tunekit, tmp_path):
    name = write(tmp_path, "model: Qwen2.5-7B\ndataset: a/b\ngradient_accumulation_steps: 128\n")
    assert planned(tunekit, "sft", name, *GPU)["batch"]["effective"] == 128
    assert planned(tunekit, "sft", name, *GPU, "--effective-batch", "64")["batch"]["effective"] == 64


def test_a_variable_that_is_set_already_is_kept(tmp_path):
    """As ms-swift does."""
    name = write(
        make_workplace(tmp_path),
        "model: Qwen2.5-7B\ndataset: a/b\nENV:\n  MAX_PIXELS: 5\n  FPS: 1\n  LD_PRELOAD: x.so\n",
    )
    ended = start(tmp_path, "sft", name, *GPU, "--dry-run", env={"MAX_PIXELS": "7"})
    assert ended.code == 0, ended.err
    assert "FPS=1" in ended.out
    assert "MAX_PIXELS=5" not in ended.out
    assert "LD_PRELOAD" not in ended.out
    said = " ".join(ended.err.split())
    assert "MAX_PIXELS of c.yaml is not taken" in said
    assert "not kept with the run: LD_PRELOAD" in said


def test_processes_in_a_file_are_those_of_the_launcher(tmp_path):
    """ms-swift starts as many; on a machine without GPUs they are processes of the CPU."""
    name = write(make_workplace(tmp_path), "model: tiny\ndataset: data.jsonl\nENV:\n  NPROC_PER_NODE: 2\n")
    ended = start(tmp_path, "sft", name, "--dry-run")
    assert ended.code == 0, ended.err
    assert "NPROC_PER_NODE=2" in ended.out
    assert "2 processes" in ended.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: m\nlora_rnak: 8\n", "c.yaml line 2: --lora_rnak is not a flag"),
        ("model: m\nlora_rank: eight\n", "c.yaml line 2: --lora_rank takes a whole number"),
        ("model: m\nadd_version: true\n", "c.yaml line 2: add_version is tunekit's to set"),
        ("model: m\ndry_run: true\n", "c.yaml line 2: dry_run has no place in a file"),
        ("model: m\nhub_token: x\n", "c.yaml line 2: hub_token is a secret"),
        ('model: m\nENV:\n  A: "a\\0b"\n', "c.yaml line 2: A cannot be a variable"),
        ("model: m\nENV: 3\n", "c.yaml line 2: ENV must hold variables"),
        ("model: m\n  x: [\n", "not valid YAML in line 2"),
        ("model: m\nmodel_kwargs: &a {x: *a}\n", "it says too much"),
        ("- a\n- b\n", "does not hold flags"),
        ("\x00", "not valid YAML"),
        ("[" * 100000, "c.yaml"),
        ("", "does not hold flags"),
    ],
)
def test_what_is_wrong_in_a_file(tunekit, tmp_path, text, said):
    ended = tunekit("sft", write(tmp_path, text), "--dry-run")
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert "fault of tunekit" not in ended.err


def test_other_files_in_its_place(tunekit, tmp_path):
    assert "absent.yaml: cannot be read" in tunekit("sft", "absent.yaml").err
    recipe = write(tmp_path, '[[stage]]\ntype = "sft"\n', "r.toml")
    assert f"tunekit run {recipe}" in tunekit("sft", recipe).err
    assert "data.jsonl belongs to no flag" in tunekit("sft", "data.jsonl").err


def test_fit_reads_it_too(tunekit, tmp_path):
    name = write(tmp_path, "model: Qwen2.5-7B\ntrain_type: lora\n")
    assert tunekit("fit", name, "--gpus", "80GB", "--json").json["verdict"] == "fits"


# --- what people try


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("train", "tunekit sft"),
        ("infer", "tunekit chat"),
        ("deploy", ""),
        ("ls", ""),
        ("logs", ""),
        ("web", "swift web-ui"),
        ("web-ui", "swift web-ui"),
        ("merge_lora", "tunekit merge"),
        ("Pretrain", "tunekit pt"),
        ("sfft", "did you mean tunekit sft"),
        ("xyzzy", "tunekit --help"),
    ],
)
def test_commands_that_people_try(tunekit, name, said):
    ended = tunekit(name, "--model", "m")
    assert (ended.code, ended.out) == (2, "")
    assert f"tunekit has no command {name}" in ended.err
    assert said in ended.err.split("hint:")[1]
