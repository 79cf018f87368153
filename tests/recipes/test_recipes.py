"""Recipes: what a file may say, how a stage starts from another, what is run, skipped, done again and gone on with."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from running import Started, at_step, call, make_model, make_rows, make_workplace, read_json, tunekit, until

from tunekit.errors import Exit, TunekitError
from tunekit.plan.options import MICRO, RECIPE, TRAIN, options_of
from tunekit.plan.settings import COMMAND_LINE, Setting, Source
from tunekit.recipes import chain, record
from tunekit.recipes.reader import OWN, read_recipe
from tunekit.recipes.schema import Part
from tunekit.recipes.shelf import recipe_files
from tunekit.runs.folder import Run
from tunekit.stages import STAGES

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "e2e" / "recipes"

PAIR = {
    "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
    "rejected_response": "No",
}

HEAD = """
[defaults]
model = "tiny"
report_to = "none"
save_steps = 4
"""
SFT = '[[stage]]\ntype = "sft"\ndataset = "data.jsonl"\n'
DPO = '[[stage]]\ntype = "dpo"\ndataset = "pairs.jsonl"\n'
TWO = f"{HEAD}\n{SFT}\n{DPO}"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_workplace(tmp_path)
    make_rows(tmp_path / "pairs.jsonl", *[PAIR] * 4)
    return tmp_path


def write(text, name="two.toml"):
    Path(name).write_text(text, encoding="utf-8")
    return name


def commands(result):
    """The commands of a dry run, each as its words."""
    joined = result.out.replace(" \\\n", " ")
    return [line.split() for line in joined.splitlines() if line and not line.startswith(("#", "set "))]


def flag(words, name):
    return words[words.index(f"--{name}") + 1] if f"--{name}" in words else None


# --- the file

WRONG = {
    "stages": ("[[stages]]\ntype = 'sft'\n", "line 1: stages is not a key of a recipe", "did you mean stage?"),
    "title": ("title = 3\n", "line 1: title must be text in quotes", ""),
    "no stage": (HEAD, "there is no [[stage]] in it", "[[stage]]"),
    "one bracket": ("[stage]\ntype = 'sft'\n", "stage must be written [[stage]]", ""),
    "no type": (f"{HEAD}[[stage]]\ndataset = 'a'\n", "line 6: a stage needs type", "pt, sft, rm"),
    "type": (f"{HEAD}[[stage]]\ntype = 'dop'\n", "line 7: type dop is no stage", "did you mean dpo"),
    "other tool's type": (f"{HEAD}[[stage]]\ntype = 'pretrain'\n", "type pretrain is no stage", "did you mean pt?"),
    "name": (f"{HEAD}[[stage]]\ntype = 'sft'\nname = 'a/b'\n", "line 8: name 'a/b' cannot be", "letters"),
    "taken name": (f"{HEAD}[[stage]]\ntype = 'sft'\nname = 'base'\n", "name 'base' cannot be", "not base"),
    "same name": (f"{HEAD}{SFT}{SFT}", "line 9: a second stage is called sft", "line 6"),
    "itself": (f"{HEAD}[[stage]]\ntype = 'sft'\nfrom = 'sft'\n", "line 8: from sft is this stage itself", ""),
    "later": (f"{HEAD}[[stage]]\ntype = 'sft'\nfrom = 'dpo'\n{DPO}", "from dpo comes after this stage", "move it up"),
    "unknown from": (f"{HEAD}{SFT}{DPO}from = 'stf'\n", "from stf is neither a stage", "did you mean sft"),
    "empty from": (f"{HEAD}{SFT}{DPO}from = ''\n", "from must be the name of a stage", ""),
    "from scores": (
        f"{HEAD}{SFT}[[stage]]\ntype = 'rm'\ndataset = 'pairs.jsonl'\n{DPO}from = 'rm'\n",
        "from rm leaves a reward model",
        "reward_model",
    ),
    "merge": (f"{HEAD}{SFT}{DPO}merge = 'yes'\n", "merge must be true or false", ""),
    "option": (f"{HEAD}{SFT}lora_rnak = 8\n", "line 9: lora_rnak is neither an option", "did you mean lora_rank"),
    "renamed": (f"{HEAD}{SFT}train_type = 'lora'\n", "train_type is neither an option", "--tuner_type"),
    "default": (f"{HEAD}lora_rnak = 8\n{SFT}", "line 6: lora_rnak is neither", "lora_rank"),
    "default name": (f"{HEAD}name = 'x'\n{SFT}", "line 6: name is said for each stage", "[[stage]]"),
    "of another stage": (f"{HEAD}{SFT}beta = 0.1\n", "line 9: sft takes no beta", "dpo"),
    "table": (f"{HEAD}{SFT}deepspeed = {{ a = 1 }}\n", "line 9: deepspeed must be a text", ""),
    "flag in a list": (f"{HEAD}{SFT}target_modules = ['a', '--b']\n", "holds a flag", ""),
    "folder": (f"{HEAD}{SFT}output_dir = 'x'\n", "output_dir has no place in a recipe", "runs/RECIPE/STAGE"),
    "once": (f"{HEAD}{SFT}dry_run = true\n", "dry_run has no place in a recipe", "tunekit run"),
    "twice": (f"{HEAD}{SFT}epochs = 1\nnum_train_epochs = 2\n", "num_train_epochs is given twice", ""),
    "model": (f"{HEAD}{SFT}{DPO}model = 'tiny'\n", "stage dpo starts from sft, so model is not", 'from = "base"'),
    "adapters": (f"{HEAD}{SFT}{DPO}adapters = 'x'\n", "so adapters is not its to set", 'from = "base"'),
    "no model": (SFT, "line 1: stage sft has no model", "[defaults]"),
    # what the planning of a stage finds out
    "value": (f"{HEAD}{SFT}learning_rate = 'fast'\n", "line 9: stage sft: learning_rate takes a number", "2e-4"),
    "default value": (f"{HEAD}max_length = 'x'\n{SFT}", "line 6: stage sft: max_length takes a whole number", ""),
    "reserved": (f"{HEAD}{SFT}add_version = true\n", "add_version is tunekit's", ""),
    "batch": (f"{HEAD}{SFT}micro_batch = 5\neffective_batch = 32\n", "line 9: stage sft: micro_batch 5 does not", ""),
    "nothing to merge": (f"{HEAD}{SFT}merge = true\n", "stage sft starts from the base: there is nothing to merge", ""),
    "all weights": (
        f"{HEAD}tuner_type = 'full'\n{SFT}{DPO}merge = true\n",
        "merge: sft trains all weights, so there is nothing to merge",
        "",
    ),
    "must merge": (
        f"{HEAD}{SFT}{DPO}tuner_type = 'full'\nmerge = false\n",
        "merge = false cannot be for stage dpo: full training needs the whole model",
        "drop merge",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_with_its_line(case):
    text, message, hint = WRONG[case]
    result = call("run", write(text), "--dry-run")
    assert result.code == 2
    assert result.err.startswith("error: two.toml")
    assert message in result.err
    assert hint in result.err
    assert "Traceback" not in result.err
    assert not Path("runs").exists()


def test_options_are_the_command_line_s(flags):
    """A recipe takes the rows of the one table of options, so what a command learns, recipes know."""
    known = {option.name for option in options_of(TRAIN) if option.reach >= RECIPE}
    assert {"model", "dataset", "with", "epochs", "reward", "format", "gpus", "max_attempts"} <= known
    assert not {"help", "dry_run", "json", "name", "output_dir"} & known
    more = "learning-rate = 1e-6\nwith = 'stable'\nmicro-batch = 4\npacking = false\n"
    more += "target_modules = ['q_proj', 'v_proj']\n"
    recipe = read_recipe(Path(write(TWO + more)), flags)
    assert [(name, said.words) for name, said in recipe.parts[1].said.items()] == [
        ("model", ("tiny",)),
        ("report_to", ("none",)),
        ("save_steps", ("4",)),
        ("dataset", ("pairs.jsonl",)),
        ("learning_rate", ("1e-06",)),
        ("with", ("stable",)),
        (MICRO, ("4",)),
        ("packing", ("false",)),
        ("target_modules", ("q_proj", "v_proj")),
    ]


@pytest.mark.parametrize(
    "option", [option for option in options_of(TRAIN) if option.name not in OWN], ids=lambda option: option.name
)
def test_an_option_stands_in_a_recipe_where_its_row_says_so(flags, option):
    name = write(f'[[stage]]\ntype = "grpo"\nfrom = "base"\n{option.name} = "8"\n[defaults]\nmodel = "m"\n')
    if option.reach >= RECIPE:
        assert read_recipe(Path(name), flags).parts[0].said[option.flag or option.name].words == ("8",)
        return
    with pytest.raises(TunekitError, match=f"line 4: {option.name} has no place in a recipe") as refused:
        read_recipe(Path(name), flags)
    assert refused.value.hint == option.elsewhere


def test_a_default_is_for_the_stages_that_take_it():
    text = f'{HEAD}beta = 0.3\nreward_weights = ["1.0"]\nepochs = 3\n{SFT}num_train_epochs = 1\n{DPO}'
    sft, dpo = commands(call("run", write(text), "--dry-run"))[::2]
    assert flag(sft, "beta") is None
    assert flag(dpo, "beta") == "0.3"
    assert flag(dpo, "reward_weights") is None
    assert (flag(sft, "num_train_epochs"), flag(dpo, "num_train_epochs")) == ("1", "3")


def test_the_command_line_is_stronger_and_may_name_a_stage():
    name = write(f"{TWO}beta = 0.1\n")
    make_rows(Path("more.jsonl"))
    words = ("--lora-rank", "4", "--dpo.beta", "0.5", "--sft.dataset", "more.jsonl", "data.jsonl", "--dry-run")
    sft, dpo = commands(call("run", name, *words))[::2]
    assert flag(sft, "lora_rank") == flag(dpo, "lora_rank") == "4"
    assert flag(dpo, "beta") == "0.5"
    assert sft[sft.index("--dataset") + 1 : sft.index("--dataset") + 3] == ["more.jsonl", "data.jsonl"]
    make_model(Path("other"))
    other, _ = commands(call("run", name, "--model", "other", "--dry-run"))[::2]
    assert flag(other, "model") == "other"
    for word, message in (
        ("--dop.beta", "the recipe has no stage dop"),
        ("--sft.beta", "sft takes no beta"),
        ("--beat", "beat is neither an option"),
        ("--num_generations", None),
        ("--adapters", "--adapters is not for a whole recipe"),
    ):
        result = call("run", name, word, "1", "--dry-run")
        assert result.code == (2 if message else 0), result.err
        assert (message or "") in result.err


def test_a_recipe_is_found_by_name_or_file(place):
    assert call("run", "nope", "--dry-run").err.startswith("error: there is no recipe nope")
    assert "did you mean sft-dpo" in call("run", "sft-dop", "--dry-run").err
    assert "recipe file nope.toml does not exist" in call("run", "nope.toml", "--dry-run").err
    listed = json.loads(call("recipes", "list", "--json").out)["recipes"]
    assert {row["name"]: row["stages"] for row in listed}["sft-rm-ppo"] == ["sft", "rm", "ppo"]
    assert "sft → rm → ppo" in call("recipes", "list").out
    assert call("recipes", "show", "sft-dpo").out == (ROOT / "recipes/sft-dpo.toml").read_text(encoding="utf-8")
    assert call("recipes", "copy", "sft-dpo", "mine.toml").code == 0
    assert Path("mine.toml").read_bytes() == (ROOT / "recipes/sft-dpo.toml").read_bytes()
    assert "exists already" in call("recipes", "copy", "sft-dpo", "mine.toml").err
    assert "does not exist" in call("recipes", "copy", "sft-dpo", "no/mine.toml").err
    behind = call("run", "--dry-run", "mine.toml")
    assert behind.code == Exit.DATA, "the recipe may stand behind an option; its data is not here"
    assert "error: stage sft: dataset data/sft.jsonl does not exist" in behind.err
    assert call("run", "mine.toml", "--gpus", "80GB", "--dry-run").code == 0, "it may be on the machine of those GPUs"


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "recipes").glob("*.toml")))
def test_the_tiny_recipes_are_the_shipped_ones(flags, name):
    """What CI trains is what is shipped: the same stages, each from the same one, in the same way."""
    shipped, tiny = (read_recipe(path, flags) for path in (ROOT / f"recipes/{name}.toml", TINY / f"{name}.toml"))
    structure = [
        [(part.name, part.stage.name, part.start, part.reward, part.merge) for part in recipe.parts]
        for recipe in (shipped, tiny)
    ]
    assert structure[0] == structure[1]
    assert shipped.title
    assert set(recipe_files()) == {path.stem for path in (ROOT / "recipes").glob("*.toml")}
    model = shipped.parts[0].said["model"].words[0]
    ways = [
        [
            stage["start"]["how"]
            for stage in json.loads(call("run", str(path), "--gpus", "80GB", *words, "--json").out)["stages"]
        ]
        for path, words in ((shipped.path, ()), (tiny.path, ("--model", model)))
    ]
    assert ways[0] == ways[1]


# --- how a stage starts


def plans(make, first, second):
    """What a stage of these settings leaves, and the plan of the next one."""
    stages = [STAGES[settings.pop("type")] for settings in (first, second)]
    before, plan = (
        make(stage.name, preset="7b", **settings) for stage, settings in zip(stages, (first, second), strict=True)
    )
    part = Part("next", stages[1], "before", "", None, {}, "r.toml line 9")
    run = Run(before, "before", Path("runs/r/before"), "neutral", 1)
    step = chain.Step(replace(part, name="before"), run, chain.Start("base"), None, None)
    return chain.result_of(step), plan, part


QLORA = {"quant_method": "bnb", "quant_bits": 4}
REWARD = {"reward_funcs": ["accuracy"]}
STARTS = [
    ({"type": "sft"}, {"type": "dpo"}, "adapter", "ref_adapters"),
    ({"type": "sft"}, {"type": "kto"}, "adapter", "ref_adapters"),
    ({"type": "sft"}, {"type": "grpo", **REWARD}, "adapter", "ref_adapters"),
    ({"type": "pt"}, {"type": "sft"}, "adapter", "the same adapter"),
    ({"type": "sft"}, {"type": "orpo"}, "adapter", "the same adapter"),
    ({"type": "sft"}, {"type": "ppo", "reward_model": ["x"]}, "merged", "below its adapter"),
    ({"type": "sft"}, {"type": "rm"}, "merged", "a head of its own"),
    ({"type": "sft"}, {"type": "dpo", "tuner_type": "full"}, "merged", "full training needs"),
    ({"type": "sft", "tuner_type": "full"}, {"type": "dpo"}, "whole", ""),
    ({"type": "sft", "tuner_type": "full"}, {"type": "dpo", "tuner_type": "full"}, "whole", ""),
    ({"type": "sft", "lora_rank": 64}, {"type": "dpo"}, "merged", "lora_rank is 8 here and 64 there"),
    ({"type": "sft"}, {"type": "dpo", "target_modules": ["q_proj"]}, "merged", "target_modules is q_proj here"),
    ({"type": "sft", "use_dora": True}, {"type": "dpo"}, "merged", "use_dora is not set here and true there"),
    ({"type": "sft", **QLORA}, {"type": "dpo"}, "merged", "another precision"),
    ({"type": "sft", **QLORA}, {"type": "dpo", **QLORA}, "adapter", "ref_adapters"),
    ({"type": "sft", "tuner_type": "adalora"}, {"type": "dpo"}, "merged", "plain LoRA only"),
]


@pytest.mark.parametrize(("first", "second", "how", "why"), STARTS)
def test_how_a_stage_starts(make, first, second, how, why):
    left, plan, part = plans(make, dict(first), dict(second))
    start = chain.decide_start(part, plan, left)
    assert start.how == how
    assert why in start.why
    placed = chain.started_from(plan, start)
    folder = {"adapter": None, "merged": "runs/r/before/merged", "whole": "runs/r/before/result"}[how]
    assert placed.get("model") == (folder or "Qwen/Qwen2.5-7B")
    assert placed.get("adapters") == (["runs/r/before/result"] if how == "adapter" else None)
    compared = how == "adapter" and part.stage.ref_adapters
    assert placed.get("ref_adapters") == (["runs/r/before/result"] if compared else None)
    assert placed.get("model_type") == (None if how == "adapter" else "qwen2")
    assert start.merges == (("before",) if how == "merged" else ())
    assert placed.model == plan.model, "memory is predicted for the model whose shape it has"


@pytest.mark.parametrize("name", sorted(STAGES))
def test_no_stage_that_is_compared_gets_an_adapter_alone(make, name):
    """ms-swift would compare it with the model of before, silently."""
    more = {"ppo": {"reward_model": ["x"]}, "gkd": {"teacher_model": "x"}, "grpo": REWARD}.get(name, {})
    left, plan, part = plans(make, {"type": "sft"}, {"type": name, **more})
    placed = chain.started_from(plan, chain.decide_start(part, plan, left))
    if STAGES[name].reference:
        assert placed.get("adapters") == placed.get("ref_adapters")


def test_merge_can_be_chosen(make):
    left, plan, part = plans(make, {"type": "sft"}, {"type": "dpo"})
    merged = chain.decide_start(replace(part, merge=True), plan, left)
    assert (merged.how, merged.why, merged.merges) == ("merged", "merge = true", ("before",))
    assert chain.decide_start(replace(part, merge=False), plan, left).how == "adapter"
    left, plan, part = plans(make, {"type": "sft"}, {"type": "rm"})
    with pytest.raises(TunekitError, match="a head of its own"):
        chain.decide_start(replace(part, merge=False), plan, left)


def test_a_stage_may_start_from_a_folder(place):
    make_model(place / "whole")
    first, *_ = commands(call("run", write(f'{HEAD}{SFT}from = "whole"\n'), "--dry-run"))
    assert flag(first, "model") == "whole"
    adapter = place / "adapter"
    adapter.mkdir()
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 32}
    (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    name = write(f'{HEAD}{DPO}from = "adapter"\n')
    first, *_ = commands(call("run", name, "--dry-run"))
    assert [flag(first, key) for key in ("model", "adapters", "ref_adapters")] == ["tiny", "adapter", "adapter"]
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"r": 4}), encoding="utf-8")
    result = call("run", name, "--dry-run")
    assert result.code == 2
    assert "adapter is an adapter and must be merged first: lora_rank is 8 here and 4 there" in result.err


def test_the_reward_model_is_merged_with_its_head_and_scores(place):
    make_rows(place / "prompts.jsonl", *[{"messages": [{"role": "user", "content": "Hi"}]}] * 32)
    rm = '[[stage]]\ntype = "rm"\ndataset = "pairs.jsonl"\n'
    ppo = '[[stage]]\ntype = "ppo"\ndataset = "prompts.jsonl"\n'
    found = commands(call("run", write(f"{HEAD}{SFT}{rm}{ppo}"), "--dry-run"))
    kinds = [words[words.index("swift") + 1] if "swift" in words else words[0] for words in found]
    assert kinds == ["sft", "ln", "merge-lora", "rlhf", "ln", "merge-lora", "rlhf"]
    last = found[-1]
    assert flag(last, "model") == "runs/two/sft/merged"
    assert flag(last, "reward_model") == "runs/two/rm/merged"
    assert flag(last, "reward_model_type") == flag(last, "model_type") == "llama"
    assert flag(last, "adapters") is None
    full = commands(call("run", write(f'{HEAD}{SFT}{rm}tuner_type = "full"\n{ppo}'), "--dry-run"))
    assert flag(full[-1], "reward_model") == "runs/two/rm/result"
    named = commands(
        call("run", write(f'{HEAD}{SFT}{rm}name = "first"\n{rm}{ppo}reward_model = "first"\n'), "--dry-run")
    )
    assert flag(named[-1], "reward_model") == "runs/two/first/merged"


def test_dry_run_as_a_whole():
    """The text that a user sees, once."""
    result = call("run", write(f"{TWO}merge = true\nmax_steps = 3\n"), "--dry-run")
    assert result.code == 0
    assert "1/2 sft\n  From     tiny, as it is\n" in result.err
    assert "2/2 dpo\n  From     sft, merged into one model: merge = true\n" in result.err
    lines = result.out.splitlines()
    assert lines[:3] == ["set -e", "", "# sft"]
    assert "ln -sfn output/last-checkpoint runs/two/sft/result" in lines
    merged = "  --adapters runs/two/sft/result \\\n  --output_dir runs/two/sft/merged \\\n"
    assert f"swift merge-lora \\\n{merged}" in result.out
    assert "  --model runs/two/sft/merged \\\n  --model_type llama \\\n  --template chatml \\\n" in result.out
    assert "  --output_dir runs/two/dpo/output \\\n" in result.out
    document = json.loads(call("run", "two.toml", "--json").out)
    assert [stage["state"] for stage in document["stages"]] == ["new", "new"]
    assert document["stages"][1]["start"]["from"] == "sft"
    assert document["stages"][1]["merges"][0]["argv"][:2] == ["swift", "merge-lora"]
    assert document["stages"][1]["plan"]["settings"]["model"]["source"] == "recipe"
    assert not Path("runs").exists()


ENV = """
[env]
WANDB_PROJECT = "mine"
NCCL_P2P_DISABLE = 1
OMP_NUM_THREADS = 4
PYTORCH_CUDA_ALLOC_CONF = "max_split_size_mb:128"
"""


def test_the_variables_of_a_recipe_are_set_in_each_stage():
    write(f"{ENV}{TWO}")
    result = call("run", "two.toml", "--gpus", "80GB", "--dry-run")
    for variable in ("WANDB_PROJECT=mine", "NCCL_P2P_DISABLE=1", "OMP_NUM_THREADS=4"):
        assert result.out.count(f"{variable} \\\n") == 2
    assert "PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:128,expandable_segments:True" in result.out
    plans = [stage["plan"]["env"] for stage in json.loads(call("run", "two.toml", "--json").out)["stages"]]
    assert [plan["NCCL_P2P_DISABLE"] for plan in plans] == ["1", "1"]


@pytest.mark.parametrize(
    ("line", "said", "hint"),
    [
        ('HF_TOKEN = "x"', "HF_TOKEN is a secret", "export it"),
        ('MY_PASSWORD = "x"', "MY_PASSWORD is a secret", "export it"),
        ('HF_ENDPOINT = "https://me:hunter2@mirror"', "HF_ENDPOINT is a secret", "export it"),
        ('LD_PRELOAD = "x.so"', "LD_PRELOAD is no variable that a recipe may set", "none that would load code"),
        ('PYTHONPATH = "."', "PYTHONPATH is no variable", "none that would load code"),
        ("NPROC_PER_NODE = 2", "NPROC_PER_NODE is tunekit's to set", "--gpus"),
        ('USE_HF = "1"', "USE_HF is tunekit's to set", "use_hf = true"),
        ('WANDB_MODE = ["a"]', "WANDB_MODE must be a text", ""),
        ('WANDB_MODE = "a\\u001b[2J"', "WANDB_MODE must be a text", ""),
    ],
)
def test_what_a_recipe_may_not_set(line, said, hint):
    write(f"[env]\n{line}\n{TWO}")
    result = call("run", "two.toml", "--dry-run")
    assert result.code == 2
    assert f"two.toml line 2: {said}" in result.err
    assert hint in result.err
    assert "2J" not in result.err
    assert "hunter2" not in result.err


def test_env_must_be_a_table():
    write(f"env = 3\n{TWO}")
    assert "two.toml line 1: env must be a table" in call("run", "two.toml", "--dry-run").err


def test_looking_at_a_recipe_refuses_what_its_start_refuses():
    text = HEAD.replace('"tiny"', '"Qwen2.5-72B"')
    write(f"{text}\n{SFT}")
    for look in ("--dry-run", "--json"):
        result = call("run", "two.toml", "--gpus", "24GB", look)
        assert result.code == Exit.DOES_NOT_FIT
        assert "error: stage sft: " in result.err
        assert ("swift" in result.out) is (look == "--json")
    assert call("run", "two.toml", "--gpus", "24GB", "--dry-run", "--force").code == 0
    write(f"{HEAD}\n{SFT.replace('data.jsonl', 'pairs.jsonl')}")
    for look in ("--dry-run", "--json"):
        result = call("run", "two.toml", look)
        assert (result.code, result.out) == (Exit.DATA, "")


# --- running, with the fake ms-swift


def test_a_stage_that_diverges_ends_the_recipe(place):
    write(TWO)
    result = go(fake={"diverge_at": 3}, code=1)
    assert "Diverged after" in result.err
    assert not (place / "runs/two/dpo").exists()


def go(*words, fake=None, code=0):
    result = tunekit(Path.cwd(), "run", "two.toml", *words, fake=fake)
    assert result.code == code, result.err
    return result


def outcomes(stage):
    return [attempt["outcome"] for attempt in read_json(Path("runs/two", stage, "run.json"))["attempts"]]


def kept():
    return sorted(path.name for path in Path("runs/two/before").glob("*"))


def test_a_recipe_runs_and_what_is_done_is_not_repeated(place):
    write(f"{TWO}merge = true\n")
    result = go()
    folder = place / "runs/two"
    assert (folder / "sft/result").readlink() == Path("output/checkpoint-12")
    assert (folder / "sft/merged/model.safetensors").read_text() == "merged: adapter_model.safetensors of step 12"
    assert not (folder / "sft/merged.part").exists()
    assert outcomes("sft") == outcomes("dpo") == ["done"]
    recipe = read_json(folder / "recipe.json")
    assert [(stage["name"], stage["state"]) for stage in recipe["stages"]] == [("sft", "done"), ("dpo", "done")]
    assert (folder / "recipe.toml").read_text() == (place / "two.toml").read_text()
    assert "Done: sft, dpo." in result.err
    assert "tunekit merge runs/two/dpo" in result.err
    again = go()
    assert "1/2 sft · done" in again.err
    assert "2/2 dpo · done" in again.err
    assert outcomes("sft") == outcomes("dpo") == ["done"]
    assert "Nothing is to be done" in go("--dry-run").err
    assert tunekit(place, "resume", "runs/two/dpo").code == 0, "a stage is an ordinary run"


def test_what_has_changed_is_done_again_and_what_was_before_is_kept(place):
    write(TWO)
    go()
    write(f"{TWO}beta = 0.3\n")
    changed = go()
    assert "1/2 sft · done" in changed.err
    assert "2/2 dpo · anew: beta 0.1 → 0.3" in changed.err
    assert kept() == ["dpo-1"]
    make_rows(place / "data.jsonl", *[{"messages": PAIR["messages"]}] * 5)
    changed = go()
    assert "1/2 sft · anew: data.jsonl has changed" in changed.err
    assert "2/2 dpo · anew: sft is trained anew" in changed.err
    assert kept() == ["dpo-1", "dpo-2", "sft-1"]
    assert read_json(place / "runs/two/before/sft-1/run.json")["status"] == "done"
    os.utime(place / "data.jsonl", (1, 1))
    assert "1/2 sft · done" in go().err, "the content counts, not the time"
    write(f"{TWO}beta = 0.3\nmicro_batch = 4\nlogging_steps = 1\n")
    assert "2/2 dpo · done" in go().err, "how it is computed and told is not what it learns"
    assert "2/2 dpo · anew: asked for" in go("--only", "dpo", "--again").err


def test_an_interrupted_stage_goes_on_and_says_how(place):
    write(TWO)
    with Started(place, "run", "two.toml", "--again", fake={"wait_at": 6}) as started:
        until(lambda: at_step(place / "runs/two/sft", 5), "step 5 of sft")
        second = tunekit(place, "run", "two.toml")
        assert second.code == 2
        assert "is in use by a running process" in second.err
        started.signal(signal.SIGINT)
        result = started.end()
        assert started.alive() == []
    assert result.code == 130
    assert "Stage sft was stopped. No process is left." in result.err
    assert "Go on    tunekit run two.toml\n" in result.err
    resumed = go()
    assert "1/2 sft · goes on from its newest checkpoint" in resumed.err
    run = read_json(place / "runs/two/sft/run.json")
    assert [attempt["resumed_from"] for attempt in run["attempts"]] == [None, "checkpoint-5"]
    assert outcomes("dpo") == ["done"]
    assert kept() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("what", [".", "recipe.json", "sft/run.json", "sft/stage.json"])
def test_the_folder_of_another_user_is_refused(place, what):
    write(TWO)
    assert tunekit(place, "run", "two.toml", fake={"die": "crash", "die_at": 3}).code == 1
    before = outcomes("sft")
    os.chown(place / "runs/two" / what, 12345, 12345)
    refused = go(code=2)
    assert "belongs to another user (uid 12345)" in refused.err
    assert outcomes("sft") == before
    go("--force")
    assert outcomes("sft") == [*before, "done"]


def test_flags_in_the_folder_of_a_stage_are_checked_again(place):
    write(TWO)
    assert tunekit(place, "run", "two.toml", fake={"die": "crash", "die_at": 3}).code == 1
    file = place / "runs/two/sft/run.json"
    document = read_json(file)
    document["plan"]["settings"]["lora_rnak"] = document["plan"]["settings"]["lora_rank"]
    file.write_text(json.dumps(document))
    assert "lora_rnak" in go(code=2).err
    assert outcomes("sft") == ["unknown"]


def test_a_recipe_whose_folder_is_deleted_ends_with_one_line(place):
    write(TWO)
    with Started(place, "run", "two.toml", fake={"wait_at": 3}) as started:
        until(lambda: at_step(place / "runs/two/sft", 2), "step 2 of sft")
        shutil.rmtree(place / "runs/two")
        started.signal(signal.SIGTERM)
        result = started.end()
        assert started.alive() == []
    assert result.code == 1
    assert "error: runs/two/sft was deleted while its run went on" in result.err
    assert "fault of tunekit" not in result.err


def test_a_failed_stage_ends_the_recipe_with_its_code(place):
    write(TWO)
    failed = go(fake={"die": "crash", "die_at": 6}, code=1)
    assert "Go on    tunekit run two.toml" in failed.err
    assert read_json(place / "runs/two/recipe.json")["stages"][1]["state"] == "new"
    assert not (place / "runs/two/dpo").exists()
    assert "goes on from its newest checkpoint" in go().err
    assert outcomes("sft") == ["code", "done"] or outcomes("sft")[-1] == "done"


def test_memory_is_retried_inside_a_stage(place):
    write(TWO)
    result = go("--micro-batch", "8", fake={"oom_above": 4})
    assert "micro-batch 8 → 4" in result.err
    assert outcomes("sft")[-1] == outcomes("dpo")[-1] == "done"
    assert "1/2 sft · done" in go("--micro-batch", "8", fake={"oom_above": 4}).err


def test_a_stage_that_failed_takes_another_micro_batch_without_starting_over(place):
    write(TWO)
    go("--micro-batch", "8", "--oom-retry", "off", fake={"oom_above": 4, "oom_at": 6}, code=1)
    resumed = go("--micro-batch", "4", "--oom-retry", "off", fake={"oom_above": 4, "oom_at": 6})
    assert "1/2 sft · goes on from its newest checkpoint" in resumed.err
    attempts = read_json(place / "runs/two/sft/run.json")["attempts"]
    assert [(one["micro_batch"], one["resumed_from"]) for one in attempts] == [(8, None), (4, "checkpoint-4")]


def test_a_run_goes_on_by_another_plan_only_where_that_is_exact(make):
    plan = make(preset="7b")
    before = record.Record("x", record.learned_flags(plan), {}, {}, record.flags_of(plan))
    smaller = make(preset="7b", micro=Setting(4, COMMAND_LINE))
    assert record.takes_over(before, plan, smaller)
    assert not record.takes_over(before, smaller, plan), "what a retry has found stays"
    lossy = plan.changed({"max_length": 1024}, Source("retry", "2"), "")
    assert not record.takes_over(before, lossy, smaller)
    assert not record.takes_over(before, plan, plan.changed({"deepspeed": "zero2"}, COMMAND_LINE, ""))
    assert not record.takes_over(before, plan, make(gpus="2x80GB", preset="7b"))


def test_stages_can_be_chosen(place):
    write(TWO)
    early = go("--only", "dpo", code=2)
    assert "stage dpo starts from sft, which is not done" in early.err
    go("--only", "sft")
    assert not (place / "runs/two/dpo").exists()
    later = go("--from-stage", "dpo")
    assert "1/2 sft · not asked for" in later.err
    assert outcomes("dpo") == ["done"]
    assert "two.toml has no stage dop" in go("--only", "dop", code=2).err
    assert "exclude each other" in go("--only", "dpo", "--from-stage", "dpo", code=2).err


def test_everything_is_checked_before_the_first_stage_starts(place):
    write(f'{HEAD}{SFT}[[stage]]\ntype = "dpo"\ndataset = "data.jsonl"\n')
    wrong = go(code=4)
    assert "error: stage dpo: " in wrong.err
    assert not (place / "runs").exists()
    write(f'{HEAD}{SFT}save_strategy = "no"\n{DPO}')
    assert "stage sft saves no checkpoint, and another starts from it" in go(code=2).err
    write(f'{HEAD}{SFT}[[stage]]\ntype = "dpo"\n')
    assert "stage dpo: there is no --dataset" in go(code=2).err
    assert not (place / "runs").exists()


def test_a_folder_belongs_to_one_recipe(place):
    write(TWO)
    go()
    (place / "other").mkdir()
    write(TWO, "other/two.toml")
    taken = tunekit(place, "run", "other/two.toml")
    assert taken.code == 2
    assert "runs/two is the run of another recipe" in taken.err
    assert tunekit(place, "run", "other/two.toml", "--name", "mine", "--only", "sft").code == 0
    (place / "runs/plain").mkdir()
    (place / "runs/plain/run.json").write_text("{}", encoding="utf-8")
    assert "runs/plain exists and is no recipe's run" in go("--name", "plain", code=2).err


def test_a_merge_that_fails_or_dies_is_not_taken_for_done(place):
    write(f"{TWO}merge = true\n")
    failed = go(fake={"merge": "fails"}, code=1)
    assert "The merge failed" in failed.err
    assert "runs/two/sft/merge.log" in failed.err
    half = place / "runs/two/sft/merged.part"
    half.mkdir()
    (half / "config.json").write_text("half", encoding="utf-8")
    go()
    assert (place / "runs/two/sft/merged/config.json").read_text() == "{}"
    assert outcomes("sft") == outcomes("dpo") == ["done"]
