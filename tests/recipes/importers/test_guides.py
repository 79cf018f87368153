"""The dialects of guides: Resonance, the train.py of Qwen-VL, NeuroTrain."""

import json
from pathlib import Path

import pytest
from outcomes import said

from tunekit.errors import TunekitError
from tunekit.files import parse_toml
from tunekit.recipes.importers.neurotrain import NEUROTRAIN
from tunekit.recipes.importers.qwen_vl import QWEN_VL
from tunekit.recipes.importers.recognition import import_file
from tunekit.recipes.importers.resonance import RESONANCE
from tunekit.recipes.importers.source import KeyEntry, Origin
from tunekit.recipes.importers.translation import DEFAULT, ELSEWHERE, LOST, TRANSLATED, translate_source
from tunekit.recipes.importers.written import recipe_of

EXAMPLES = Path(__file__).with_name("examples")


def run(dialect, program, folder=EXAMPLES, **values):
    entries = tuple(KeyEntry(key, value, place) for place, (key, value) in enumerate(values.items(), start=1))
    return translate_source(Origin((program,) if program else (), entries, folder), dialect)


def status(draft, key):
    (found,) = [outcome for outcome in draft.outcomes if outcome.key == key and outcome.value is not None]
    return found.status


def test_resonance():
    dialect, (draft,) = import_file(str(EXAMPLES / "resonance.sh"))
    assert (dialect.name, draft.command, draft.micro, draft.accumulation, draft.world) == ("resonance", "rlhf", 4, 4, 2)
    assert said(draft, "rlhf_type", "dataset", "learning_rate", "lora_rank", "target_modules", "deepspeed") == {
        "rlhf_type": "dpo",
        "dataset": "data/dishes.json",
        "learning_rate": "5e-6",
        "lora_rank": "8",
        "target_modules": "q_proj v_proj",
        "deepspeed": "zero3",
    }
    assert draft.env == {"ROOT_IMAGE_DIR": "data/pictures", "NPROC_PER_NODE": "2"}
    assert json.loads(draft.flags["columns"][0]) == {"chosen": "response", "rejected": "rejected_response"}
    assert {status(draft, key) for key in ("lora_bias", "score_margin", "max_prompt_length")} == {LOST}


def test_what_resonance_does_by_itself():
    (draft,) = run(RESONANCE, "src/resonance/ppo.py", model_name_or_path="a/b", dataset_name="rlhfv")
    assert said(draft, "rlhf_type", "tuner_type", "kl_coef", "vf_coef", "save_steps", "logging_steps", "report_to") == {
        "rlhf_type": "ppo",
        "tuner_type": "full",
        "kl_coef": "0.1",
        "vf_coef": "0.5",
        "save_steps": "1000",
        "logging_steps": "50",
        "report_to": "wandb",
    }
    assert draft.env["WANDB_PROJECT"] == "Resonance"
    assert any("reward_model" in warning for warning in draft.warnings)


def test_a_part_of_resonances_rows(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"query": "1", "response": "2"}\n' * 50)
    values = {"model_name_or_path": "a/b", "dataset_name": "vlquery_json", "data_ratio": 0.2}
    (draft,) = run(RESONANCE, "resonance/sft.py", tmp_path, data_path="rows.jsonl", **values)
    assert draft.flags["dataset"] == ["rows.jsonl#10"]
    assert status(draft, "data_ratio") == TRANSLATED
    (draft,) = run(RESONANCE, "resonance/sft.py", tmp_path, data_path="far.jsonl", **values)
    assert (draft.flags["dataset"], status(draft, "data_ratio")) == (["far.jsonl"], LOST)


def test_qwen_vl():
    dialect, (draft,) = import_file(str(EXAMPLES / "qwen_vl.sh"))
    assert (dialect.name, draft.command, draft.micro, draft.accumulation, draft.world) == ("qwen-vl", "sft", 2, 8, 2)
    assert said(draft, "tuner_type", "learning_rate", "vit_lr", "aligner_lr", "split_dataset_ratio", "deepspeed") == {
        "tuner_type": "lora_llm",
        "learning_rate": "1e-4",
        "vit_lr": "2e-5",
        "aligner_lr": "5e-5",
        "split_dataset_ratio": "0.05",
        "deepspeed": "zero2_offload",
    }
    assert said(draft, "dataset", "max_length", "num_train_epochs", "eval_steps", "report_to") == {
        "dataset": "bills menus",
        "max_length": "3072",
        "num_train_epochs": "2",
        "eval_steps": "50",
        "report_to": "wandb",
    }
    assert draft.env == {
        "WANDB_PROJECT": "bills",
        "CUDA_VISIBLE_DEVICES": "1,3",
        "MASTER_PORT": "23456",
        "NPROC_PER_NODE": "2",
    }
    for key in ("use_data_augmentation", "eval_dataset_scripts", "dataset_config_path"):
        assert status(draft, key) == ELSEWHERE


@pytest.mark.parametrize(
    ("strategy", "flags"),
    [
        ("qlora", {"tuner_type": "lora", "quant_method": "bnb", "quant_bits": "4", "freeze_vit": None}),
        ("vit_only", {"tuner_type": "full", "freeze_llm": "true", "freeze_vit": "false", "freeze_aligner": "false"}),
        ("full", {"tuner_type": "full", "freeze_llm": None, "freeze_vit": "false", "freeze_aligner": "false"}),
        (
            "partial_llm_full_vit",
            {
                "tuner_type": "full",
                "freeze_parameters": "model.language_model.embed_tokens. model.language_model.layers.0.",
            },
        ),
    ],
)
def test_strategies_of_qwen_vl(strategy, flags):
    model = "Qwen/Qwen2.5-VL-3B-Instruct"
    (draft,) = run(QWEN_VL, "train.py", model_name_or_path=model, tuning_strategy=strategy, llm_frozen_layers=1)
    assert said(draft, *flags) == flags


def test_names_of_a_register(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps({"bills": {"path": "b.json", "images": "i"}, "menus": "m.json"}))
    values = {"dataset_config_path": "r.json", "dataset_names": ["bills", "menus"], "tuning_strategy": "full"}
    (draft,) = run(QWEN_VL, "train.py", tmp_path, **values)
    assert draft.flags["dataset"] == ["b.json", "m.json"]


def test_a_strategy_that_is_none():
    with pytest.raises(TunekitError, match="tuning_strategy"):
        run(QWEN_VL, "train.py", tuning_strategy="lora_everything")


def test_neurotrain_has_a_run_for_each_stage():
    dialect, drafts = import_file(str(EXAMPLES / "neurotrain.toml"))
    assert dialect.name == "neurotrain"
    assert [draft.command for draft in drafts] == ["pt", "rlhf", "rlhf"]
    read, choose, score = drafts
    assert said(read, "model", "dataset", "learning_rate", "max_length", "seed", "report_to", "torch_dtype") == {
        "model": "meta-llama/Llama-3.2-1B",
        "dataset": "menus.jsonl",
        "learning_rate": "3e-4",
        "max_length": "1024",
        "seed": "7",
        "report_to": "wandb",
        "torch_dtype": "bfloat16",
    }
    assert json.loads(read.flags["columns"][0]) == {"page": "response"}
    assert said(choose, "rlhf_type", "beta", "dataset", "max_length") == {
        "rlhf_type": "dpo",
        "beta": "0.3",
        "dataset": "choices.jsonl",
        "max_length": None,
    }
    assert json.loads(choose.flags["columns"][0]) == {"asked": "query", "good": "response", "bad": "rejected_response"}
    assert (choose.micro, choose.accumulation) == (2, 16)
    (reward,) = [outcome for outcome in score.outcomes if outcome.key == "reward_function"]
    assert (reward.status, reward.where) == (ELSEWHERE, "tunekit --reward shop/rewards.py:politeness")


def test_a_key_behind_a_table_of_neurotrain_is_the_models():
    _, drafts = import_file(str(EXAMPLES / "neurotrain.toml"))
    for draft in drafts:
        assert said(draft, "quant_method", "quant_bits", "lora_rank", "lora_dropout") == {
            "quant_method": "bnb",
            "quant_bits": "4",
            "lora_rank": "4",
            "lora_dropout": "0.0",
        }
        assert any("load_in_4bit" in warning for warning in draft.warnings)


def test_every_stage_but_the_first_goes_on():
    _, drafts = import_file(str(EXAMPLES / "neurotrain.toml"))
    places = [[it.status for it in draft.outcomes if it.key == "load_from"] for draft in drafts]
    assert places == [[], [ELSEWHERE], [ELSEWHERE]]


def test_rows_that_no_stage_uses_are_said():
    _, (first, *_) = import_file(str(EXAMPLES / "neurotrain.toml"))
    assert status(first, "datasets.ppo.dataset_path") == DEFAULT


def test_flags_of_the_call_count_for_all_stages_and_a_checkpoint_for_its_own():
    _, drafts = import_file(str(EXAMPLES / "neurotrain.sh"))
    assert [draft.flags["deepspeed"] for draft in drafts] == [["zero2"]] * 3
    assert ["resume_from_checkpoint" in draft.flags for draft in drafts] == [False, True, False]
    assert [(draft.world, draft.env["NPROC_PER_NODE"]) for draft in drafts] == [(2, "2")] * 3


def test_neurotrains_ppo_needs_a_model_for_rewards():
    stage = {"stage_type": "ppo", "reward_function": "a.b:c"}
    (draft,) = run(NEUROTRAIN, "", stages=[stage], model={"model_name_or_path": "a/b"})
    assert status(draft, "reward_function") == LOST
    assert any("reward_model" in warning for warning in draft.warnings)
    with pytest.raises(TunekitError, match="stage of the type dance"):
        run(NEUROTRAIN, "", stages=[{"stage_type": "dance"}])


def test_stages_of_neurotrain_go_on_from_the_one_before(tmp_path):
    _, drafts = import_file(str(EXAMPLES / "neurotrain.toml"))
    assert [draft.goes_on for draft in drafts] == [False, True, True]
    assert drafts[2].own == {"reward": ["shop/rewards.py:politeness"]}
    first, *later = parse_toml(recipe_of(drafts, "t"), "recipe")["stage"]
    assert first["model"] == "meta-llama/Llama-3.2-1B"
    assert not any({"model", "from"} & stage.keys() for stage in later)


def test_a_register_that_names_rows_and_pictures(tmp_path):
    place = {"a": {"data_path": "pictures", "annotation_path": "a.json"}}
    (tmp_path / "ds.json").write_text(json.dumps(place), encoding="utf-8")
    (draft,) = run(QWEN_VL, "train.py", tmp_path, dataset_config_path="ds.json", dataset_names="a")
    assert draft.flags["dataset"] == ["a.json"]
