"""``tunekit fit``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tokenized import make_tokenized, row, write_lines

from tunekit.memory.search import FITS, TIGHT
from tunekit.plan.models.config import config_of
from tunekit.plan.models.find import resolve

CONFIG = config_of(resolve("Qwen2.5-7B"))


def fit(folder: Path, *words: str) -> subprocess.CompletedProcess:
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "tunekit", "fit", *words]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def test_a_card_that_is_too_small_is_exit_code_three(tmp_path):
    small = fit(tmp_path, "--model", "Qwen2.5-7B", "--preset", "7b", "--gpus", "24GB")
    assert small.returncode == 3
    assert "does not fit 23.6 GiB" in small.stdout
    assert "micro-batch 1" in small.stdout
    assert "a GPU of 40 GB, nothing changed" in small.stdout
    assert "layer" not in small.stdout
    large = fit(tmp_path, "--model", "Qwen2.5-7B", "--preset", "7b", "--gpus", "A100")
    assert large.returncode == 0
    assert "fits 78.8 GiB" in large.stdout
    assert "25% of the tokens carry loss (assumed" in large.stderr


def test_json_is_one_object_that_adds_up(tmp_path):
    done = fit(
        tmp_path,
        "--model",
        "Qwen2.5-7B-Instruct",
        "--preset",
        "7b",
        "--gpus",
        "H100",
        "--json",
        "--loss-percent",
        "100",
    )
    document = json.loads(done.stdout)
    assert sum(document["breakdown"].values()) == pytest.approx(document["allocated_gib"])
    assert document["verdict"] in (FITS, TIGHT)
    assert document["loss_share"] == 1.0
    assert document["allocated_gib"] == pytest.approx(
        61.1, rel=0.02
    )  # traced: memory of the preset with all tokens labelled
    assert document["largest_micro_batch"] >= 8


def test_options_reach_the_prediction(tmp_path):
    words = ("--model", "Qwen2.5-7B", "--gpus", "H100", "--preset", "7b", "--json")
    plain = json.loads(fit(tmp_path, *words).stdout)
    quantized = json.loads(fit(tmp_path, *words, "--tuner", "qlora").stdout)
    liger = json.loads(fit(tmp_path, *words, "--use_liger_kernel", "true", "--loss-percent", "100").stdout)
    full = json.loads(fit(tmp_path, *words, "--tuner", "full").stdout)
    assert quantized["breakdown"]["weights"] < plain["breakdown"]["weights"] / 2
    assert liger["allocated_gib"] < 0.6 * 61.1
    assert full["breakdown"]["optimizer"] > 20


def test_many_configurations_one_answer_a_line(tmp_path):
    rows = [
        {"config": dict(CONFIG), "micro_batch": 2, "tuner": "qlora"},
        {"config": dict(CONFIG), "micro_bach": 2},
        {"config": {"hidden_size": 8}},
        {"config": dict(CONFIG), "lora_rank": 0},
    ]
    (tmp_path / "specs.jsonl").write_text("\n".join([*map(json.dumps, rows), "{oops"]) + "\n")
    done = fit(tmp_path, "--spec", "specs.jsonl", "--json")
    assert done.returncode == 0
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers[0]["method"] == "estimate"
    assert answers[0]["allocated_gib"] > 5
    assert "micro_bach" in answers[1]["error"]
    assert all(set(answer) == {"error"} for answer in answers[1:])
    assert "line 5" in answers[4]["error"]


def test_what_if_as_json(tmp_path):
    done = fit(tmp_path, "--model", "Qwen2.5-7B", "--gpus", "24GB", "--what-if", "--json")
    table = json.loads(done.stdout)["table"]
    assert [row["gpu_gb"] for row in table][:3] == [16, 24, 32]
    assert table[0]["largest_micro_batch"]["qlora + Liger"] > table[0]["largest_micro_batch"]["full"]


def test_what_if_grows_with_the_card(tmp_path):
    done = fit(tmp_path, "--model", "Qwen2.5-7B", "--gpus", "24GB", "--what-if")
    rows = [line.split() for line in done.stdout.splitlines() if line[:3].strip().isdigit()]
    assert [row[0] for row in rows] == ["16", "24", "32", "40", "48", "80", "96", "141", "192"]
    lora = [0 if row[1] == "–" else int(row[1]) for row in rows]
    assert lora == sorted(lora)
    assert lora[-1] > lora[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "Qwen2.5-7B", "--gpus", "cpu"), "no GPU"),
        (("--model", "Mixtral-8x7b-AQLM-2Bit-1x16-hf", "--gpus", "H100"), "not known here"),
        ((), "needs --model"),
        (("--model", "Qwen2.5-7B", "--gpus", "H100", "--tuner", "lorra"), "--tuner takes"),
        (("--model", "Qwen2.5-7B", "--gpus", "H100", "--loss-percent", "200"), "--loss-percent takes 0 to 100"),
        (("--spec", "absent.jsonl"), "cannot be read"),
    ],
)
def test_bad_input_is_one_line(words, said, tmp_path):
    done = fit(tmp_path, *words)
    assert done.returncode in (2, 4)
    assert said in done.stderr
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr


def test_the_shape_of_an_instruct_model_is_that_of_its_base():
    assert config_of(resolve("Qwen/Qwen2.5-7B-Instruct")) == CONFIG


@pytest.mark.parametrize("gpus", ["24GB", "8xH100"])
@pytest.mark.parametrize("more", [(), ("--micro-batch", "1"), ("--preset", "7b", "--stage", "dpo")])
def test_fit_and_plan_name_one_number(tunekit, gpus, more):
    Path("data.jsonl").write_text("")
    asked = ("--model", "Qwen2.5-7B", "--gpus", gpus, *more)
    fitted = json.loads(tunekit("fit", *asked, "--json").out)
    stage = "dpo" if "dpo" in more else "sft"
    words = [word for word in asked if word not in ("--stage", "dpo")]
    planned = json.loads(tunekit(stage, *words, "--json").out)
    assert fitted["largest_micro_batch"] == planned["memory"]["largest_micro_batch"]
    assert fitted["micro_batch"] == planned["batch"]["micro"]
    assert fitted["process_gib"] == pytest.approx(planned["memory"]["process_gib"])
    reason = planned["settings"]["per_device_train_batch_size"]["why"]
    assert not more or fitted["planned"] in ("", reason)
    if not more:
        assert reason in planned["preset_reason"]
        assert fitted["planned"] == ("" if fitted["micro_batch"] == fitted["largest_micro_batch"] else reason)


@pytest.mark.engine
def test_the_data_decides_where_it_can_be_measured(tmp_path):
    make_tokenized(tmp_path / "m")
    rows = [row(2, 88)] * 30 + [row(100, 40)]  # 88 + 1 of 96 tokens carry loss, and 41 of 146
    write_lines(tmp_path / "d.jsonl", *rows)
    words = ("--model", "m", "--gpus", "24GB", "--preset", "7b", "--dataset", "d.jsonl", "--json")
    packed = json.loads(fit(tmp_path, *words).stdout)
    assert packed["data"]["rows"] == packed["data"]["measured"] == 31
    assert packed["data"]["loss_share"] == pytest.approx((30 * 89 + 41) / (30 * 96 + 146))
    assert packed["loss_share"] == packed["data"]["heaviest_share"]
    assert packed["seq_len"] == 3072
    unpacked = json.loads(fit(tmp_path, *words, "--packing", "false").stdout)
    assert unpacked["seq_len"] == 146
    assert any("from all 31 rows of d.jsonl" in note for note in unpacked["notes"])
    cut = json.loads(fit(tmp_path, *words, "--packing", "false", "--max_length", "100").stdout)
    assert cut["seq_len"] == 100
    assert any("1 of 31 rows are longer than max_length 100" in note for note in cut["notes"])
    typed = json.loads(fit(tmp_path, *words, "--loss-percent", "10").stdout)
    assert typed["loss_share"] == 0.1
    shown = dry_run(tmp_path, *words[:-1])
    assert "from your data" in shown
    assert "packed rows ≈ " in shown


def dry_run(folder: Path, *words: str) -> str:
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "tunekit", "sft", *words, "--dry-run"]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=True).stderr


def test_data_that_cannot_be_measured_is_one_note(tmp_path):
    write_lines(tmp_path / "d.jsonl", row(2, 3))
    done = fit(tmp_path, "--model", "Qwen2.5-7B", "--gpus", "A100", "--preset", "7b", "--dataset", "d.jsonl")
    assert done.returncode == 0
    assert "25% of the tokens carry loss (assumed" in done.stderr
    assert done.stderr.count("the dataset was not measured: ") == 1


@pytest.mark.parametrize(("text", "said"), [(None, "does not exist"), ("", "is empty"), ('{"a": 1}', "line 1")])
def test_bad_data_is_exit_code_four(tmp_path, text, said):
    if text is not None:
        (tmp_path / "d.jsonl").write_text(text, encoding="utf-8")
    done = fit(tmp_path, "--model", "Qwen2.5-7B", "--gpus", "A100", "--dataset", "d.jsonl")
    assert done.returncode == 4
    assert said in done.stderr
    assert done.stderr.count("error:") == 1


def test_a_specification_with_a_card_gets_its_pace(tmp_path):
    rows = [{"config": dict(CONFIG), "card": "A100-SXM4-80GB"}, {"config": dict(CONFIG), "card": "abacus"}]
    rows += [{"config": dict(CONFIG)}, {"config": dict(CONFIG), "card": 100}]
    (tmp_path / "specs.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    known, other, none, wrong = map(json.loads, fit(tmp_path, "--spec", "specs.jsonl").stdout.splitlines())
    assert 1000 < known["low"] < known["tokens_per_second"] < known["high"] < 10_000
    assert (other["tokens_per_second"], other["no_time"]) == (None, "the speed of abacus is not known")
    assert "tokens_per_second" not in none
    assert "name of a card" in wrong["error"]
